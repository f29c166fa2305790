//! What the upstream has, by path: what tests put there, and then the files of a directory.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use ncps_nix::Sha256Hash;

use crate::script::{Page, glob};
use crate::{Body, Fixture};

/// Above this a body's ETag is not its hash: that would read gigabytes for nothing.
const MOST_HASHED: u64 = 64 << 20;

/// A body and what is said of it.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) body: Body,
    pub(super) etag: String,
    pub(super) content_type: &'static str,
    query: Option<String>,
}

#[derive(Debug)]
pub(super) struct Content {
    by_path: HashMap<String, Resource>,
    dir: Option<PathBuf>,
    queries_required: bool,
    pub(super) authorization: Option<String>,
    pub(super) unauthorized: Page,
    /// What is said where nothing is, by pattern; the last one that fits.
    missing: Vec<(String, Page)>,
}

impl Content {
    pub(super) fn new() -> Self {
        let by_path = HashMap::new();
        let unauthorized = Page::new(401, "text/plain; charset=utf-8", "401");
        let mut content = Self {
            by_path,
            dir: None,
            queries_required: false,
            authorization: None,
            unauthorized: unauthorized.header("WWW-Authenticate", "Basic realm=\"upstream\""),
            missing: Vec::new(),
        };
        let cache_info = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n";
        content.put("/nix-cache-info", cache_info.into());
        content
    }

    pub(super) fn add(&mut self, fixture: &Fixture) {
        self.put(&fixture.narinfo_path(), fixture.narinfo_text().into());
        if !fixture.narinfo.url.contains("://") {
            self.put(&fixture.nar_path(), fixture.file.clone());
        }
    }

    pub(super) fn put(&mut self, target: &str, body: Body) {
        let (path, query) = split_query(target);
        let resource = Resource::new(path, query, body);
        self.by_path.insert(path.to_owned(), resource);
    }

    pub(super) fn remove(&mut self, target: &str) {
        self.by_path.remove(split_query(target).0);
    }

    pub(super) fn serve_dir(&mut self, dir: &Path) {
        self.dir = Some(dir.to_owned());
        // The directory's own counts.
        if dir.join("nix-cache-info").exists() {
            self.remove("/nix-cache-info");
        }
    }

    pub(super) const fn require_queries(&mut self, required: bool) {
        self.queries_required = required;
    }

    pub(super) fn require_authorization(&mut self, value: Option<&str>) {
        self.authorization = value.map(ToOwned::to_owned);
    }

    pub(super) fn when_missing(&mut self, pattern: &str, page: Page) {
        self.missing.push((pattern.to_owned(), page));
    }

    /// What is said of this path, where nothing is, if a test gave something.
    pub(super) fn missing(&self, path: &str) -> Option<&Page> {
        self.missing.iter().rev().find(|(pattern, _)| glob(pattern, path)).map(|(_, page)| page)
    }

    /// What is at this path, if anything is.
    pub(super) fn find(&self, path: &str, query: Option<&str>) -> Option<Resource> {
        let Some(found) = self.by_path.get(path) else {
            return self.find_file(path);
        };
        let fits = !self.queries_required || found.query.as_deref() == query;
        fits.then(|| found.clone())
    }

    fn find_file(&self, path: &str) -> Option<Resource> {
        let relative = Path::new(path.strip_prefix('/')?);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        let body = plain.then(|| Body::file(&self.dir.as_ref()?.join(relative)).ok())??;
        Some(Resource::new(path, None, body))
    }
}

impl Resource {
    pub(super) fn new(path: &str, query: Option<&str>, body: Body) -> Self {
        let etag = etag(path, &body);
        let query = query.map(ToOwned::to_owned);
        Self { etag, content_type: content_type(path), query, body }
    }
}

fn etag(path: &str, body: &Body) -> String {
    let hash = match body.len() {
        ..=MOST_HASHED => body.sha256(),
        len => Sha256Hash::of(format!("{path} {len}").as_bytes()),
    };
    format!("\"{}\"", hash.nix32())
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "narinfo")) => "text/x-nix-narinfo",
        Some((_, "ls" | "doi")) => "application/json",
        _ if path == "/nix-cache-info" => "text/x-nix-cache-info",
        _ if path.starts_with("/nar/") => "application/x-nix-nar",
        _ => "text/plain; charset=utf-8",
    }
}

pub(super) fn split_query(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}
