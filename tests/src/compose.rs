//! A Compose file, as far as ours and the original's go: which services there are, in which order they start, their
//! command lines and volumes. Absent: everything else of it, which the engine knows.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// A service that runs an image.
#[derive(Debug, Clone, Deserialize)]
pub struct Service {
    /// Its name, by which others reach it.
    #[serde(skip)]
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `NAME:PLACE`.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// `OURS:ITS`.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Whether nothing but volumes can be written.
    #[serde(default)]
    pub read_only: bool,
    /// Places in memory.
    #[serde(default)]
    pub tmpfs: Vec<String>,
    #[serde(default)]
    depends_on: Vec<String>,
    #[serde(default)]
    healthcheck: Option<Healthcheck>,
}

#[derive(Debug, Clone, Deserialize)]
struct Healthcheck {
    test: Vec<String>,
}

impl Service {
    /// The program that says whether it is well, and its arguments.
    ///
    /// # Panics
    /// If a shell is asked for, which the image has not.
    pub fn health(&self) -> Option<&[String]> {
        let (how, program) = self.healthcheck.as_ref()?.test.split_first().expect("a test");
        assert_eq!(how, "CMD", "of {}", self.name);
        Some(program)
    }
}

/// The services of a file, each after those that it depends on.
///
/// # Panics
/// If it can't be read, or if they depend on each other in a ring.
pub fn services(path: &Path) -> Vec<Service> {
    #[derive(Deserialize)]
    struct File {
        services: BTreeMap<String, Value>,
    }
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: File =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let named = file.services.into_iter().map(|(name, value)| {
        let service: Service =
            serde_json::from_value(value).unwrap_or_else(|error| panic!("{name}: {error}"));
        Service { name, ..service }
    });
    in_order(named.collect())
}

fn in_order(mut left: Vec<Service>) -> Vec<Service> {
    let mut ordered: Vec<Service> = Vec::new();
    while !left.is_empty() {
        let started = |name: &String| ordered.iter().any(|service| service.name == *name);
        let next = left.iter().position(|service| service.depends_on.iter().all(started));
        ordered.push(left.remove(next.expect("one that depends on no other that is left")));
    }
    ordered
}
