//! The closure as two binary caches of files, made once by Nix itself: as xz, which an upstream serves, and as zstd, which
//! is the measure of how fast a client can be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ncps_nix::{NarInfo, PublicKey, StorePath};
use ncps_tests::{Nix, UpstreamKey};

use crate::trees::{Amount, Tree, choose};

/// Trees that are added at once.
const AT_ONCE: usize = 16;

/// What was made.
pub(crate) struct Closure {
    dir: PathBuf,
    /// What refers to all others.
    pub(crate) root: StorePath,
    /// Who signed it.
    pub(crate) key: PublicKey,
    /// In words.
    pub(crate) size: String,
}

impl Closure {
    pub(crate) fn xz(&self) -> PathBuf {
        self.dir.join("xz")
    }

    pub(crate) fn zstd(&self) -> PathBuf {
        self.dir.join("zstd")
    }

    pub(crate) fn narinfos(&self) -> Vec<NarInfo> {
        let files = fs::read_dir(self.xz()).expect("the cache").map(|entry| entry.expect("listed").path());
        let narinfos = files.filter(|file| file.extension().is_some_and(|ending| ending == "narinfo"));
        narinfos.map(|file| NarInfo::parse(&fs::read(file).expect("read")).expect("a narinfo")).collect()
    }

    /// What was made in this directory.
    pub(crate) fn of(dir: &Path) -> Option<Closure> {
        let text = fs::read_to_string(dir.join("closure")).ok()?;
        let mut lines = text.lines();
        let root = StorePath::parse_absolute(lines.next()?).expect("a store path");
        let key = PublicKey::parse(lines.next()?).expect("a key");
        Some(Closure { dir: dir.to_owned(), root, key, size: lines.next()?.to_owned() })
    }

    /// The same, made unless it is there.
    pub(crate) async fn make(nix: &Nix, dir: &Path, most: Amount) {
        if Closure::of(dir).is_some() {
            return;
        }
        drop(fs::remove_dir_all(dir));
        fs::create_dir_all(dir).expect("room for the closure");
        let (began, trees) = (Instant::now(), choose(most));
        let paths = add(nix, &trees).await;
        let root = nix.add_text("closure", &paths.iter().collect::<Vec<_>>()).await;
        let key = UpstreamKey::new("bench-1");
        fs::write(nix.home().join("bench.key"), key.secret().to_text().as_bytes()).expect("room for a key");
        export(nix, &dir.join("xz"), "compression=xz&parallel-compression=true", &root).await;
        export(nix, &dir.join("zstd"), "compression=zstd", &root).await;
        let size = in_words(&trees, paths.len());
        println!("a closure of {size}, made in {:.0} s: {}", began.elapsed().as_secs_f64(), dir.display());
        // The last one: what is half made is made anew.
        let text = format!("{}\n{}\n{size}\n", root.absolute(), key.public());
        fs::write(dir.join("closure"), text).expect("room");
    }
}

fn in_words(trees: &[Tree], paths: usize) -> String {
    let bytes: u64 = trees.iter().map(|tree| tree.amount.bytes).sum();
    let files: u64 = trees.iter().map(|tree| tree.amount.files).sum();
    format!("{:.2} GB in {files} files and {paths} paths", bytes as f64 / 1e9)
}

/// Each path once, though trees may be equal.
async fn add(nix: &Nix, trees: &[Tree]) -> Vec<StorePath> {
    let mut paths = Vec::new();
    for some in trees.chunks(AT_ONCE) {
        let mut args = vec!["--add".into()];
        args.extend(some.iter().map(|tree| tree.path.clone().into_os_string()));
        let added = nix.run("nix-store", &args).await.ok();
        paths.extend(added.lines().map(|line| StorePath::parse_absolute(line).expect("a store path")));
    }
    paths.sort();
    paths.dedup();
    paths
}

/// Takes longer than what the harness waits for.
async fn export(nix: &Nix, dir: &Path, options: &str, root: &StorePath) {
    let key = nix.home().join("bench.key");
    let url = format!("file://{}?{options}&secret-key={}", dir.display(), key.display());
    let mut command = nix.command("nix");
    command.args(["copy", "--to", &url, &root.absolute()]);
    to_its_end(command).await;
}

/// Runs it, however long it takes.
pub(crate) async fn to_its_end(mut command: Command) {
    let line = format!("{command:?}");
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.unwrap_or_else(|error| panic!("{line} does not start: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line} failed ({}):\n{complaint}", output.status);
}
