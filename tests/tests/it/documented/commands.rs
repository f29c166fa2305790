//! Blocks of commands are run by a shell, page by page, beside a cache that runs: the programs are those under test, the hosts
//! of the pages are this one. `ncps serve`, `ncps-control` and `ncps-edge` are checked in place of started.
//!
//! A block that can't be run so says why in a comment before it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ncps_tests::{Fixture, Installation, Mode, Upstream, UpstreamKey};
use tempfile::TempDir;

use super::pages::{Block, Page, pages};
use crate::processes::UNDER_TEST;

/// What a command begins with. A line that is indented and begins so is one that no fence says to be one.
const PROGRAMS: [&str; 14] = [
    "ncps",
    "ncps-cli",
    "ncps-edge",
    "ncps-control",
    "nix",
    "cargo",
    "curl",
    "docker",
    "kubectl",
    "helm",
    "openssl",
    "systemctl",
    "tests/bench/run",
    "tests/bench/scale",
];
/// Where the pages say that the cache is.
const HOST: &str = "cache.lan:8501";
/// As the pages call a path that the cache has.
const ANY_PATH: &str = "/nix/store/…";

#[test]
fn commands_stand_in_fences() {
    for page in pages() {
        for (line, text) in page.prose() {
            let word = text.strip_prefix("    ").and_then(|text| text.split_whitespace().next());
            let is_one = word.is_some_and(|word| PROGRAMS.contains(&word));
            assert!(!is_one, "{}:{line}: a command belongs between ```sh and ```", page.name);
        }
        assert!(!page.text.lines().any(|line| line.trim() == "```bash"), "{}: sh, not bash", page.name);
    }
}

/// A cache with a path in it, and a folder to work in.
struct Scene {
    installation: Installation,
    fixture: Fixture,
    dir: TempDir,
    _upstream: Upstream,
}

impl Scene {
    async fn new() -> Scene {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let installation = Installation::of(Mode::Combined, UNDER_TEST, &upstream, &key)
            .flag("--edge-name=edge-1")
            .control_flag("--cache-allow-put-verb")
            .started()
            .await;
        for path in [fixture.narinfo_path(), fixture.nar_path()] {
            assert_eq!(installation.fetch(&path).await.0, 200);
        }
        installation.stores(&fixture.narinfo_path(), &fixture.nar_path()).await;
        let scene =
            Scene { installation, fixture, dir: tempfile::tempdir().expect("a folder"), _upstream: upstream };
        scene.furnish();
        scene
    }

    /// The programs, under their names, and the files that pages begin with.
    fn furnish(&self) {
        let checked = |program: &str| format!("exec {UNDER_TEST} {program} config check \"$@\"");
        self.program("ncps-cli", &format!("exec {UNDER_TEST} ncps-cli \"$@\""));
        self.program("ncps-control", &checked("ncps-control"));
        self.program("ncps-edge", &checked("ncps-edge"));
        let serve = checked("ncps");
        self.program(
            "ncps",
            &format!("case $1 in serve) shift; {serve};; *) exec {UNDER_TEST} ncps \"$@\";; esac"),
        );
        let to = format!("{HOST}:{}", self.installation.addr());
        self.program("curl", &format!("exec /usr/bin/curl --fail --connect-to {to} \"$@\""));
        std::fs::write(self.dir.path().join("paths.txt"), format!("{}\n", self.fixture.store_path()))
            .expect("room");
    }

    fn program(&self, name: &str, body: &str) {
        let bin = self.dir.path().join("bin");
        std::fs::create_dir_all(&bin).expect("room");
        let file = bin.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{body}\n")).expect("room");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("ours");
    }

    /// Runs a block in a shell of its own, in the same folder.
    fn run(&self, page: &Page, block: &Block) {
        let place = format!("{}:{}", page.name, block.line);
        let text = block.text.replace(ANY_PATH, &self.fixture.store_path().to_string());
        let commands = text.lines().filter(|line| !line.starts_with('#')).collect::<String>();
        let left = ["…", "[--", "NAME", "FILE"].iter().find(|left| commands.contains(**left));
        assert!(left.is_none(), "{place}: {left:?} is no command");
        let path = format!("{}:/usr/bin:/bin", self.dir.path().join("bin").display());
        let output = Command::new("timeout")
            .args(["60", "sh", "-euxc", &text])
            .current_dir(self.dir.path())
            .env_clear()
            .envs([("PATH", path), ("HOME", self.dir.path().display().to_string())])
            .env("NCPS_CONTROL", format!("unix:{}", self.installation.socket().display()))
            .output()
            .expect("there is a shell");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{place}: {}\n{said}", output.status);
    }
}

/// Programs that a page needs and a machine may lack.
fn lacks(text: &str) -> Option<PathBuf> {
    let needed = ["curl", "openssl"].iter().filter(|name| text.contains(**name));
    needed.map(|name| Path::new("/usr/bin").join(name)).find(|program| !program.exists())
}

#[tokio::test]
async fn blocks_run_or_say_why_not() {
    for page in pages() {
        let blocks: Vec<_> = page.blocks().into_iter().filter(|block| block.not_run.is_none()).collect();
        if blocks.is_empty() {
            continue;
        }
        let mut scene = Scene::new().await;
        for block in &blocks {
            match lacks(&block.text) {
                Some(program) => {
                    println!("skipped: no {} for {}:{}", program.display(), page.name, block.line)
                }
                None => scene.run(&page, block),
            }
        }
        scene.installation.terminate().await;
    }
}
