//! The manifests of `k8s/golden`, as a cluster is given them: `k8s/check` renders them from overlays and chart.
//!
//! Knows how Kubernetes puts a container's command line and environment together, and what labels select. Absent: what
//! is to be in them, and the schemas of Kubernetes, which `k8s/check` asks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// What a cluster tells a pod of its address.
const ADDRESS: &str = "192.0.2.7";
const WORKLOADS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// Labels, or what selects by them.
pub type Labels = BTreeMap<String, String>;

/// One file of them.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The file's name without its ending.
    pub name: String,
    objects: Vec<Value>,
}

/// The pods of one workload.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Of the workload.
    pub name: String,
    pub labels: Labels,
    pub spec: Value,
}

/// Where the manifests lie, sources and all.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace").join("k8s")
}

/// The objects of a file of YAML.
///
/// # Panics
/// If it is none.
pub fn objects(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let documents = text.split("\n---\n").map(serde_saphyr::from_str::<Value>);
    let parsed = documents.map(|document| document.unwrap_or_else(|e| panic!("{}: {e}", file.display())));
    parsed.filter(|document| !document.is_null()).collect()
}

impl Manifest {
    /// All of them.
    ///
    /// # Panics
    /// If there are none, or one is not YAML.
    pub fn all() -> Vec<Self> {
        let files = std::fs::read_dir(folder().join("golden")).expect("they are there");
        let files = files.map(|file| file.expect("listed").path());
        let all: Vec<_> = files.map(|file| Self { name: stem(&file), objects: objects(&file) }).collect();
        assert!(!all.is_empty());
        all
    }

    /// What it has of a kind.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// Whether it has an object of this kind and name.
    pub fn has(&self, kind: &str, name: &str) -> bool {
        self.of(kind).any(|object| object["metadata"]["name"] == name)
    }

    /// The pods of all its workloads.
    pub fn pods(&self) -> Vec<Pod> {
        WORKLOADS.into_iter().flat_map(|kind| self.of(kind)).map(Pod::of).collect()
    }

    /// A file of the configuration that a pod mounts.
    ///
    /// # Panics
    /// If it mounts none.
    pub fn config(&self, pod: &Pod) -> &str {
        let volumes = pod.spec["volumes"].as_array().expect("volumes");
        let name = volumes.iter().find_map(|volume| volume["configMap"]["name"].as_str()).expect("one");
        let map = self.of("ConfigMap").find(|map| map["metadata"]["name"] == name);
        map.and_then(|map| map["data"]["config.yaml"].as_str()).expect("its file")
    }
}

impl Pod {
    fn of(workload: &Value) -> Self {
        let template = &workload["spec"]["template"];
        Self {
            name: text(&workload["metadata"]["name"]),
            labels: labels(&template["metadata"]["labels"]),
            spec: template["spec"].clone(),
        }
    }

    /// Its only container.
    ///
    /// # Panics
    /// If there are more.
    pub fn container(&self) -> &Value {
        let [container] = self.spec["containers"].as_array().expect("containers").as_slice() else {
            panic!("{} has not one container", self.name)
        };
        container
    }

    /// The program's name, and its arguments with the variables that they name.
    pub fn command(&self) -> Vec<String> {
        let container = self.container();
        let words = texts(&container["command"]).into_iter().chain(texts(&container["args"]));
        let env = self.env();
        let expanded = words.map(|word| {
            env.iter().fold(word, |word, (name, value)| word.replace(&format!("$({name})"), value))
        });
        let mut words: Vec<String> = expanded.collect();
        words[0] = words[0].trim_start_matches("/bin/").to_owned();
        words
    }

    /// What stands in its environment.
    pub fn env(&self) -> Vec<(String, String)> {
        let variables = self.container()["env"].as_array().into_iter().flatten();
        variables.map(|variable| (text(&variable["name"]), self.value(variable))).collect()
    }

    fn value(&self, variable: &Value) -> String {
        match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            // As the first pod of a StatefulSet is called.
            Some("metadata.name") => format!("{}-0", self.name),
            Some("status.podIP") => ADDRESS.to_owned(),
            _ => text(&variable["value"]),
        }
    }
}

/// Labels as they are written.
pub fn labels(value: &Value) -> Labels {
    let all = value.as_object().into_iter().flatten();
    all.map(|(name, value)| (name.clone(), text(value))).collect()
}

/// Whether labels have all that selects.
pub fn selected(selector: &Value, by: &Labels) -> bool {
    labels(selector).iter().all(|(name, value)| by.get(name) == Some(value))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}

fn texts(values: &Value) -> Vec<String> {
    values.as_array().into_iter().flatten().map(text).collect()
}

fn stem(file: &Path) -> String {
    file.file_stem().expect("a name").to_string_lossy().into_owned()
}
