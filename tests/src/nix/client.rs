//! What a machine does with a cache: copying, verifying, asking, substituting.

use std::path::Path;

use ncps_nix::StorePath;

use crate::UpstreamKey;

use super::maker::store_path;
use super::{Nix, Output};

/// What a client does with a cache. A URL is `http://…` or `file://…`.
impl Nix {
    /// `nix copy --from`: closures into the store.
    pub async fn copy_from(&self, url: &str, paths: &[&StorePath]) -> Output {
        self.run("nix", &with_paths(&["copy", "--from", url], paths)).await
    }

    /// As [`Nix::copy_from`], from a cache directory, which needs no server.
    pub async fn copy_from_dir(&self, dir: &Path, paths: &[&StorePath]) -> Output {
        self.copy_from(&format!("file://{}", dir.display()), paths).await
    }

    /// `nix copy --to`: closures out of the store.
    pub async fn copy_to(&self, url: &str, paths: &[&StorePath]) -> Output {
        self.run("nix", &with_paths(&["copy", "--to", url], paths)).await
    }

    /// What it logs in with at this host, wherever it asks.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn login(&self, host: &str, password: &str) {
        let netrc = self.home().join("netrc");
        std::fs::write(&netrc, format!("machine {host} login nix password {password}\n")).expect("room");
        self.set("netrc-file", netrc.display());
    }

    /// `nix store sign --store`: adds a signature to what a cache says of paths.
    ///
    /// # Panics
    /// If there is no room for the key.
    pub async fn sign(&self, url: &str, key: &UpstreamKey, paths: &[&StorePath]) -> Output {
        let secret = self.keep_key(key).display().to_string();
        self.run("nix", &with_paths(&["store", "sign", "--store", url, "--key-file", &secret], paths)).await
    }

    /// `nix store verify --store`: downloads the NAR there, and checks hash and signatures.
    pub async fn verify(&self, url: &str, path: &StorePath) -> Output {
        self.run("nix", &with_paths(&["store", "verify", "--store", url], &[path])).await
    }

    /// Checks a path in its own store.
    pub async fn verify_own(&self, path: &StorePath) -> Output {
        self.run("nix-store", &with_paths(&["--verify-path"], &[path])).await
    }

    /// `nix path-info --json --store`: what a cache says of a path.
    pub async fn path_info(&self, url: &str, path: &StorePath) -> Output {
        self.run("nix", &with_paths(&["path-info", "--json", "--sigs", "--store", url], &[path])).await
    }

    /// Substitutes paths, with their closures, from its substituters.
    pub async fn realise(&self, paths: &[&StorePath]) -> Output {
        self.run("nix-store", &with_paths(&["--realise"], paths)).await
    }

    /// The output path of a derivation of this name that nobody can build: a fixture made
    /// [`at`](crate::FixtureBuilder::at) it can be had by substitution alone.
    ///
    /// # Panics
    /// If Nix can't evaluate it.
    pub async fn unbuildable(&self, name: &str) -> StorePath {
        let expr = format!("({}).outPath", unbuildable(name));
        let out = self.run("nix-instantiate", &["--eval", "-E", &expr]).await.ok();
        store_path(out.trim_matches('"'))
    }

    /// Builds that derivation, which succeeds if a substituter has its output.
    pub async fn build_unbuildable(&self, name: &str) -> Output {
        self.run("nix-build", &["--no-out-link", "-E", &unbuildable(name)]).await
    }
}

fn with_paths(args: &[&str], paths: &[&StorePath]) -> Vec<String> {
    let paths = paths.iter().map(|path| path.absolute());
    args.iter().map(ToString::to_string).chain(paths).collect()
}

/// No machine is of this system, so a builder never runs.
fn unbuildable(name: &str) -> String {
    format!("derivation {{ name = \"{name}\"; system = \"none-such\"; builder = \"/none\"; }}")
}
