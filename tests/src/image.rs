//! The container image, unpacked by `packaging/container/unpack`, and programs that are started in it as an engine
//! does: without capabilities, with its file system read-only if they like, volumes, and names of hosts of their own.
//!
//! That takes root, and a mount namespace for each program. Where `NCPS_IMAGE` names no image the tests that want one pass
//! without having tried. The one that `NCPS_IMAGE_AARCH64` names is emulated by Debian's qemu-user-static. Absent:
//! networks, which are in [`crate::netns`], and limits.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Host;

/// Becomes the program, in the image. A volume is `DIRECTORY:PLACE`; all of them come before `--`.
const ENTER: &str = r#"
root=$1 user=$2 groups=$3; shift 3
mount --bind "$root" "$root"; cd "$root"
for place in proc dev; do mkdir -p "$place"; mount --rbind "/$place" "$place"; done
while [ "$1" != -- ]; do
    place=.${1#*:}
    if [ -d "${1%%:*}" ]; then mkdir -p "$place"; else mkdir -p "${place%/*}"; touch "$place"; fi
    mount --bind "${1%%:*}" "$place"; shift
done; shift
if [ -n "$READ_ONLY" ]; then mount -o remount,bind,ro "$root"; fi
unset READ_ONLY
# What is left of root's powers is what `chroot` itself takes.
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \
    chroot --userspec="$user" --groups="$groups" "$root" "$@"
"#;

/// Linked statically: it needs nothing of the image.
const EMULATOR: &str = "/usr/bin/qemu-aarch64-static";
/// Where it is in a container.
const EMULATOR_THERE: &str = "/run/emulator";

/// It, unpacked: `root` with its files, and `config.json` with what the engine is told.
#[derive(Debug, Clone)]
pub struct Image {
    place: PathBuf,
    emulated: bool,
}

impl Image {
    /// The one that `NCPS_IMAGE` names.
    pub fn find() -> Option<Self> {
        Some(Self { place: named("NCPS_IMAGE")?, emulated: false })
    }

    /// The one for aarch64, to be emulated, that `NCPS_IMAGE_AARCH64` names.
    pub fn find_for_aarch64() -> Option<Self> {
        Some(Self { place: named("NCPS_IMAGE_AARCH64")?, emulated: true })
    }

    /// A file of it.
    pub fn file(&self, path: &str) -> PathBuf {
        self.place.join("root").join(path.trim_start_matches('/'))
    }

    /// What the engine is told: `Cmd`, `Env`, `Volumes` and so on.
    ///
    /// # Panics
    /// If that can't be read.
    pub fn config(&self) -> Value {
        let text = std::fs::read_to_string(self.place.join("config.json"))
            .expect("it was unpacked with its configuration");
        let all: Value = serde_json::from_str(&text).expect("it is JSON");
        all["OCIv1"]["config"].clone()
    }

    /// A container of it, as root and without volumes.
    pub fn container(&self) -> Container {
        let env = self.config()["Env"].as_array().cloned().unwrap_or_default();
        let variables = env.iter().filter_map(|pair| pair.as_str()?.split_once('='));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let volumes = self.emulated.then(|| format!("{EMULATOR}:{EMULATOR_THERE}")).into_iter().collect();
        let emulated = self.emulated;
        Container { root: self.file("/"), user: 0, read_only: false, volumes, variables, emulated }
    }
}

fn named(variable: &str) -> Option<PathBuf> {
    let place = std::env::var_os(variable);
    if place.is_none() {
        println!("skipped: {variable} names no image, see docs/CONTAINER.md");
    }
    place.map(PathBuf::from)
}

/// How a program is started in the image.
#[derive(Debug, Clone)]
pub struct Container {
    root: PathBuf,
    user: u32,
    read_only: bool,
    volumes: Vec<String>,
    variables: Vec<(String, String)>,
    emulated: bool,
}

impl Container {
    /// As this user and group, not as root.
    #[must_use]
    pub fn user(mut self, id: u32) -> Self {
        self.user = id;
        self
    }

    /// Nothing can be written but in volumes.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// A directory or a file in the place of what the image has there.
    #[must_use]
    pub fn volume(mut self, ours: &Path, place: &str) -> Self {
        self.volumes.push(format!("{}:{place}", ours.display()));
        self
    }

    /// A variable, beside those of the image.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A program and its arguments, to be run there.
    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        self.finish(Command::new("unshare"), args)
    }

    /// The same on a host of a test's network.
    pub fn command_on<A: AsRef<OsStr>>(&self, host: &Host, args: &[A]) -> Command {
        self.finish(host.command("unshare"), args)
    }

    fn finish<A: AsRef<OsStr>>(&self, mut command: Command, args: &[A]) -> Command {
        let id = self.user.to_string();
        command
            .args(["--mount", "sh", "-ec", ENTER, "sh"])
            .arg(&self.root)
            .args([&format!("{id}:{id}"), &id]);
        command.args(&self.volumes).arg("--").args(self.emulated.then_some(EMULATOR_THERE)).args(args);
        // `ip` and `sh` are found by it; the image has its own.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("READ_ONLY", if self.read_only { "1" } else { "" });
        command.envs(self.variables.iter().filter(|(name, _)| name != "PATH").cloned());
        command
    }
}
