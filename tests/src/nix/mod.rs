//! The real `nix`, as a machine of its own: own store, own configuration, own caches, own home,
//! nothing of the machine that the tests run on.
//!
//! Works with Nix 2.4 and later, as root or not: the store lies under a temporary directory
//! (`local?root=…`) but is `/nix/store` to Nix, and nothing is ever built. Where there is no
//! `nix` on the PATH the tests that want one pass without having tried; with `NCPS_REQUIRE_NIX=1`
//! they fail.

mod client;
mod maker;
mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ncps_nix::{PublicKey, StorePath};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::Host;

pub use run::Output;

/// A machine with Nix and an empty store. Its files are removed when it is dropped.
#[derive(Debug)]
pub struct Nix {
    dir: TempDir,
    settings: Mutex<BTreeMap<String, String>>,
    /// Whom it belongs to, if not whoever runs the tests.
    user: Option<u32>,
    /// Where it is on a test's network, if it is on one.
    host: Option<Host>,
}

impl Nix {
    /// A new machine, if there is a `nix` on the PATH. It trusts no key and has no substituters.
    ///
    /// # Panics
    /// If there is none, and `NCPS_REQUIRE_NIX` is `1`.
    pub fn find() -> Option<Self> {
        Self::find_in(&std::env::temp_dir())
    }

    /// The same, with all that it has below this directory.
    ///
    /// # Panics
    /// As [`Nix::find`].
    pub fn find_in(dir: &Path) -> Option<Self> {
        if is_on_path("nix") && is_on_path("nix-store") {
            return Some(Self::new(dir));
        }
        let required = std::env::var("NCPS_REQUIRE_NIX").is_ok_and(|value| value == "1");
        assert!(!required, "NCPS_REQUIRE_NIX is set and there is no nix on the PATH");
        eprintln!("skipped: there is no nix on the PATH");
        None
    }

    fn new(place: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("ncps-nix-").tempdir_in(place);
        let dir = dir.expect("a temporary directory");
        for sub in ["root", "conf", "home"] {
            std::fs::create_dir(dir.path().join(sub)).expect("room in the temporary directory");
        }
        let machine = Self { dir, settings: Mutex::default(), user: None, host: None };
        machine.set("experimental-features", "nix-command");
        machine.set("sandbox", "false");
        machine.set("build-users-group", "");
        machine.set("substituters", "");
        machine.set("trusted-public-keys", "");
        machine
    }

    /// Gives the machine, which has not been used yet, to the user and group of this number, as whom Nix runs
    /// from now on.
    ///
    /// # Panics
    /// Unless root asks for it.
    #[must_use]
    pub fn of_user(mut self, id: u32) -> Self {
        for part in ["", "root", "conf", "home"] {
            chown(self.dir.path().join(part), Some(id), Some(id)).expect("root can give files away");
        }
        self.user = Some(id);
        self
    }

    /// Makes the machine this host of a test's network.
    #[must_use]
    pub fn on(mut self, host: Host) -> Self {
        self.host = Some(host);
        self
    }

    /// Sets an option in its `nix.conf`, e.g. `netrc-file`, `fallback`, `http-connections`.
    ///
    /// # Panics
    /// If the file can't be written.
    pub fn set(&self, name: &str, value: impl Display) {
        let mut settings = self.settings.lock();
        settings.insert(name.to_owned(), value.to_string());
        let text: String = settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        std::fs::write(self.dir.path().join("conf/nix.conf"), text).expect("room for nix.conf");
    }

    /// Where it substitutes from.
    pub fn substituters<S: AsRef<str>>(&self, urls: &[S]) {
        let urls: Vec<_> = urls.iter().map(AsRef::as_ref).collect();
        self.set("substituters", urls.join(" "));
    }

    /// Whom it trusts.
    pub fn trust(&self, keys: &[PublicKey]) {
        let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
        self.set("trusted-public-keys", keys.join(" "));
    }

    /// A directory of its own for files that a test wants to give it.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Where a store path lies in truth, whether or not it is there.
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        let absolute = path.absolute();
        self.dir.path().join("root").join(absolute.trim_start_matches('/'))
    }

    /// Forgets what it knows of narinfos, present and absent: they are cached for days.
    pub fn forget_narinfos(&self) {
        // Absent if nothing was ever asked for.
        drop(std::fs::remove_dir_all(self.cache()));
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// A program of Nix, to be run on this machine.
    pub fn command(&self, program: &str) -> Command {
        let dir = self.dir.path();
        let mut command = match &self.host {
            Some(host) => host.command(program),
            None => Command::new(program),
        };
        command.env_clear().current_dir(dir.join("home"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", dir.join("home")).env("XDG_CONFIG_HOME", dir.join("home/.config"));
        command.env("XDG_CACHE_HOME", self.cache()).env("TMPDIR", dir);
        command.env("NIX_CONF_DIR", dir.join("conf"));
        command.env("NIX_REMOTE", format!("local?root={}", dir.join("root").display()));
        if let Some(id) = self.user {
            command.uid(id).gid(id);
        }
        command
    }

    /// Runs a program of Nix to its end.
    ///
    /// # Panics
    /// If it can't be started, or takes longer than two minutes.
    pub async fn run<A: AsRef<OsStr>>(&self, program: &str, args: &[A]) -> Output {
        let mut command = self.command(program);
        command.args(args);
        run::to_its_end(command).await
    }
}

impl Drop for Nix {
    /// Nix takes the right to write from directories in the store; without it only root could
    /// remove what is in them.
    fn drop(&mut self) {
        make_writable(&self.dir.path().join("root"));
    }
}

fn make_writable(dir: &Path) {
    let Ok(metadata) = dir.symlink_metadata() else { return };
    if !metadata.is_dir() {
        return;
    }
    // What can't be made writable is left to lie.
    std::fs::set_permissions(dir, Permissions::from_mode(0o755)).ok();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        make_writable(&entry.path());
    }
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
