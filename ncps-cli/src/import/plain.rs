//! A plain Nix binary cache directory: what `nix copy --to file://…` makes, or a copy of some web server's.

use std::fs;
use std::path::{Component, Path, PathBuf};

use ncps_nix::{NarFileName, ObjectName};

use super::go::{list, narinfo_hashes};
use super::source::{Entry, NoEntry, read_narinfo, url_path};

/// Folders of objects, each with how many folders are in it before the files.
const OBJECTS: [(&str, u32); 5] =
    [("", 0), ("log", 0), ("debuginfo", 0), ("realisations", 0), ("build-trace-v2", 1)];

/// The directory.
pub(super) struct PlainCache {
    root: PathBuf,
}

impl PlainCache {
    /// Whether it looks like one.
    pub(super) fn is_one(root: &Path) -> anyhow::Result<bool> {
        Ok(root.join("nix-cache-info").try_exists()? || !narinfo_hashes(root)?.is_empty())
    }

    pub(super) fn new(root: &Path) -> PlainCache {
        PlainCache { root: root.to_owned() }
    }

    pub(super) fn paths(&self) -> anyhow::Result<Vec<String>> {
        narinfo_hashes(&self.root)
    }

    pub(super) fn entry(&self, hash: &str) -> Result<Entry, NoEntry> {
        let text = fs::read(self.root.join(format!("{hash}.narinfo")))?;
        let narinfo = read_narinfo(hash, &text)?;
        let relative = Path::new(url_path(&narinfo.url));
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(NoEntry::Url(narinfo.url));
        }
        let name = relative.strip_prefix("nar").ok().and_then(Path::to_str);
        let name = name.and_then(|name| NarFileName::parse(name).ok());
        Ok(Entry {
            former_names: name.map(|name| (name, narinfo.compression)).into_iter().collect(),
            files: Some(self.root.join(relative)).into_iter().filter(|file| file.is_file()).collect(),
            is_chunked: false,
            last_access: None,
            origin: None,
            narinfo,
        })
    }

    /// Files of other names are none and are passed over.
    pub(super) fn objects(&self) -> anyhow::Result<Vec<(ObjectName, PathBuf)>> {
        let mut objects = Vec::new();
        for (folder, depth) in OBJECTS {
            let mut paths = list(&self.root.join(folder))?;
            for _ in 0..depth {
                paths = paths.iter().map(|path| list(path)).collect::<anyhow::Result<Vec<_>>>()?.concat();
            }
            objects.extend(paths.into_iter().filter_map(|path| {
                let name = path.strip_prefix(&self.root).ok()?.to_str()?;
                Some((ObjectName::parse(name).ok()?, path))
            }));
        }
        Ok(objects)
    }
}
