//! What a machine has to give: real store paths, and a binary cache directory of them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ncps_nix::{Compression, StorePath};

use crate::UpstreamKey;

use super::Nix;

/// What a machine has to give.
impl Nix {
    /// Adds a tree of files to the store; names may contain `/`. The path proves itself by its
    /// content (CA), whoever signs it.
    ///
    /// # Panics
    /// If Nix does not do it.
    pub async fn add_tree(&self, name: &str, files: &[(&str, &[u8])]) -> StorePath {
        let tree = self.home().join(name);
        for (file, content) in files {
            let file = tree.join(file);
            std::fs::create_dir_all(file.parent().expect("it is below the tree")).expect("room");
            std::fs::write(file, content).expect("room");
        }
        let path = self.run("nix-store", &[OsStr::new("--add"), tree.as_os_str()]).await.ok();
        std::fs::remove_dir_all(tree).expect("it was made just now");
        store_path(&path)
    }

    /// Adds a text that refers to these paths. It proves itself by its content, too.
    ///
    /// # Panics
    /// If Nix does not do it.
    pub async fn add_text(&self, name: &str, references: &[&StorePath]) -> StorePath {
        let references =
            references.iter().map(|path| format!("${{builtins.storePath {}}} ", path.absolute()));
        let text: String = references.collect();
        let expr = format!("builtins.toFile \"{name}\" \"{text}\"");
        let path = self.run("nix-instantiate", &["--eval", "--read-write-mode", "-E", &expr]).await.ok();
        store_path(path.trim_matches('"'))
    }

    /// Writes closures into a binary cache directory, signed and compressed: what
    /// [`Upstream::serve_dir`](crate::Upstream::serve_dir) can serve.
    ///
    /// # Panics
    /// If Nix does not do it.
    pub async fn export(
        &self,
        dir: &Path,
        compression: Compression,
        key: &UpstreamKey,
        paths: &[&StorePath],
    ) {
        let secret = self.keep_key(key);
        let options = format!("compression={compression}&secret-key={}", secret.display());
        self.copy_to(&format!("file://{}?{options}", dir.display()), paths).await.ok();
    }

    /// Writes a secret key where Nix can read it.
    pub(super) fn keep_key(&self, key: &UpstreamKey) -> PathBuf {
        let secret = self.home().join("secret.key");
        std::fs::write(&secret, key.secret().to_text().as_bytes()).expect("room for a key");
        secret
    }
}

pub(super) fn store_path(text: &str) -> StorePath {
    StorePath::parse_absolute(text.trim()).expect("Nix prints store paths")
}
