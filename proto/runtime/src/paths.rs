//! Where things are when nobody says: data, configuration file, control socket; and the machine's name.
//!
//! Pure functions of the environment and of who runs the process, both handed in. Absent: making
//! directories; whoever uses a path makes it.

use std::path::{Path, PathBuf};

use crate::config::Env;

/// Whether the process runs as root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The machine's name as the kernel knows it (`uname -n`); `localhost` when it has none.
#[must_use]
pub fn hostname() -> String {
    let uname = rustix::system::uname();
    match uname.nodename().to_string_lossy().trim() {
        "" | "(none)" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// The data path: `$STATE_DIRECTORY` (systemd), else `/var/lib/ncps` for root, else `$XDG_DATA_HOME/ncps`,
/// else `$HOME/.local/share/ncps`. `None` for a user without a home.
#[must_use]
pub fn data_path(env: Env<'_>, root: bool) -> Option<PathBuf> {
    if let Some(state) = systemd_directory(env, "STATE_DIRECTORY") {
        return Some(state);
    }
    if root {
        return Some(PathBuf::from("/var/lib/ncps"));
    }
    Some(home_directory(env, "XDG_DATA_HOME", ".local/share")?.join("ncps"))
}

/// The configuration file that is read if it exists: `$XDG_CONFIG_HOME/ncps/config.yaml`, with
/// `$HOME/.config` in the place of an unset `$XDG_CONFIG_HOME`.
#[must_use]
pub fn config_file(env: Env<'_>) -> Option<PathBuf> {
    Some(home_directory(env, "XDG_CONFIG_HOME", ".config")?.join("ncps/config.yaml"))
}

/// Where the control socket may be, best first: `control.sock` in `$RUNTIME_DIRECTORY` (systemd),
/// `/run/ncps` (root), `$XDG_RUNTIME_DIR/ncps`, and the data path where one is known. Control makes it in
/// the first that can be made; clients look in all of them.
#[must_use]
pub fn control_sockets(env: Env<'_>, root: bool, data: Option<&Path>) -> Vec<PathBuf> {
    let directories = [
        systemd_directory(env, "RUNTIME_DIRECTORY"),
        root.then(|| PathBuf::from("/run/ncps")),
        absolute(env, "XDG_RUNTIME_DIR").map(|run| run.join("ncps")),
        data.map(Path::to_owned),
    ];
    let mut sockets: Vec<PathBuf> = Vec::new();
    for socket in directories.into_iter().flatten().map(|directory| directory.join("control.sock")) {
        if !sockets.contains(&socket) {
            sockets.push(socket);
        }
    }
    sockets
}

/// systemd separates several directories by colons (systemd.exec, `StateDirectory=`); the first is ours.
fn systemd_directory(env: Env<'_>, name: &str) -> Option<PathBuf> {
    let all = env(name)?;
    all.split(':').next().map(PathBuf::from).filter(|path| path.is_absolute())
}

fn home_directory(env: Env<'_>, name: &str, below_home: &str) -> Option<PathBuf> {
    absolute(env, name).or_else(|| Some(absolute(env, "HOME")?.join(below_home)))
}

/// A relative path in an XDG variable is to be ignored (XDG Base Directory Specification 0.8).
fn absolute(env: Env<'_>, name: &str) -> Option<PathBuf> {
    env(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    fn data(pairs: &'static [(&'static str, &'static str)], root: bool) -> Option<String> {
        data_path(&env(pairs), root).map(|path| path.display().to_string())
    }

    #[test]
    fn data_path_prefers_systemd_then_root_then_home() {
        let everything =
            &[("STATE_DIRECTORY", "/state/a:/state/b"), ("XDG_DATA_HOME", "/xdg"), ("HOME", "/home/u")];
        assert_eq!(data(everything, true).as_deref(), Some("/state/a"));
        assert_eq!(data(&everything[1..], true).as_deref(), Some("/var/lib/ncps"));
        assert_eq!(data(&everything[1..], false).as_deref(), Some("/xdg/ncps"));
        assert_eq!(data(&everything[2..], false).as_deref(), Some("/home/u/.local/share/ncps"));
        assert_eq!(data(&[], false), None);
    }

    #[test]
    fn relative_and_empty_variables_do_not_count() {
        assert_eq!(
            data(&[("XDG_DATA_HOME", "xdg"), ("HOME", "/h")], false).as_deref(),
            Some("/h/.local/share/ncps")
        );
        assert_eq!(
            data(&[("STATE_DIRECTORY", ""), ("HOME", "/h")], false).as_deref(),
            Some("/h/.local/share/ncps")
        );
    }

    #[test]
    fn config_file_is_in_the_configuration_home() {
        assert_eq!(config_file(&env(&[("XDG_CONFIG_HOME", "/c")])), Some("/c/ncps/config.yaml".into()));
        assert_eq!(config_file(&env(&[("HOME", "/h")])), Some("/h/.config/ncps/config.yaml".into()));
        assert_eq!(config_file(&env(&[])), None);
    }

    #[test]
    fn control_sockets_come_best_first() {
        let env = env(&[("RUNTIME_DIRECTORY", "/run/ncps"), ("XDG_RUNTIME_DIR", "/run/user/1")]);
        let sockets = |root, data: Option<&str>| {
            let found = control_sockets(&env, root, data.map(Path::new));
            found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        let in_run = "/run/ncps/control.sock";
        let in_user = "/run/user/1/ncps/control.sock";
        assert_eq!(sockets(true, Some("/data")), [in_run, in_user, "/data/control.sock"]);
        assert_eq!(sockets(false, None), [in_run, in_user]);
    }

    #[test]
    fn the_machine_has_a_name() {
        assert!(!hostname().is_empty());
    }
}
