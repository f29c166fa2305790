//! The first start: with no flags at all, as root and as a user; and the key that it makes, finds, or refuses.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ncps_nix::SecretKey;
use ncps_tests::{Installation, Mode, Process, ReservedPort, both_modes, client, eventually};
use tempfile::TempDir;

use crate::processes::UNDER_TEST;

const NOBODY: u32 = 65534;

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o777
}

/// A program with these variables and not one flag.
fn bare(program: &[&str], env: &[(&str, &Path)]) -> Process {
    let mut command = Command::new(UNDER_TEST);
    command.args(program).env_clear().envs(env.iter().copied());
    Process::spawn_command(command)
}

/// What every start makes.
fn is_furnished(edge_data: &Path, control_data: &Path) {
    assert_eq!(mode_of(&edge_data.join("store")), 0o755);
    assert_eq!(mode_of(&edge_data.join("spool")), 0o700);
    assert_eq!(mode_of(&edge_data.join("edge.state")), 0o600);
    assert_eq!(mode_of(&control_data.join("secret.key")), 0o600);
    assert!(control_data.join("db/db.sqlite").exists());
}

/// A binary that everybody may run, wherever the workspace lies.
fn shared_binary(dir: &Path) -> PathBuf {
    let path = dir.join("ncps");
    fs::copy(UNDER_TEST, &path).expect("room for a binary");
    path
}

both_modes! {
    async fn no_flags_are_needed(mode) {
        let dir = TempDir::new().expect("a temporary directory");
        let port = ReservedPort::new();
        let addr = PathBuf::from(port.addr().to_string());
        let (edge_data, run) = (dir.path().join("state"), dir.path().join("run"));
        fs::create_dir(&run).expect("room");
        let env = [("SERVER_ADDR", addr.as_path()), ("STATE_DIRECTORY", &edge_data), ("RUNTIME_DIRECTORY", &run)];
        let (mut edge, mut control, control_data) = match mode {
            Mode::Combined => (bare(&["ncps", "serve"], &env), None, edge_data.clone()),
            Mode::Split => {
                let data = dir.path().join("control");
                // A port that another test may have at the same time is the one thing that must be said.
                let http = Path::new("127.0.0.1:0");
                let own = [("STATE_DIRECTORY", data.as_path()), ("RUNTIME_DIRECTORY", &run), ("CONTROL_HTTP_ADDR", http)];
                let control = bare(&["ncps-control"], &own);
                // Without it the edge looks on, and may find the control of another test that runs now.
                eventually("control's socket", async || run.join("control.sock").exists()).await;
                (bare(&["ncps-edge"], &env), Some(control), data)
            }
        };
        edge.ready(port.addr()).await;
        assert_eq!(mode_of(&run.join("control.sock")), 0o600);
        let key = client::get(port.addr(), "/pubkey").await.expect("it answers").text().await;
        let host = ncps_runtime::paths::hostname();
        assert!(key.starts_with(&format!("{host}:")), "{key}");
        assert_eq!(edge.terminate().await.code(), Some(0));
        if let Some(control) = &mut control {
            assert_eq!(control.terminate().await.code(), Some(0));
        }
        is_furnished(&edge_data, &control_data);
    }

    async fn a_key_is_made_once_and_kept(mode) {
        let mut ncps = Installation::new(mode, UNDER_TEST).started().await;
        let key = ncps.public_key().await;
        assert_eq!(key.name(), "cache.test");
        let path = ncps.control_data().join("secret.key");
        assert_eq!(mode_of(&path), 0o600);
        let made = SecretKey::parse(&fs::read_to_string(&path).expect("there")).expect("a key");
        assert_eq!(made.public(), key);
        ncps.restart().await;
        assert_eq!(ncps.public_key().await, key);
        ncps.terminate().await;
    }

    async fn a_key_that_was_given_is_used_as_it_lies(mode) {
        let dir = TempDir::new().expect("a temporary directory");
        let path = dir.path().join("key");
        let key = SecretKey::generate("given-1").expect("a good name");
        fs::write(&path, key.to_text().as_bytes()).expect("room");
        // As Kubernetes mounts it.
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("it is ours");
        let ncps = Installation::new(mode, UNDER_TEST);
        let flag = format!("--cache-secret-key-path={}", path.display());
        let mut ncps = ncps.control_flag(flag).started().await;
        assert_eq!(ncps.public_key().await, key.public());
        assert_eq!(mode_of(&path), 0o640);
        assert!(!ncps.control_data().join("secret.key").exists());
        ncps.terminate().await;
    }

    async fn a_key_that_can_not_be_used_ends_the_start(mode) {
        let dir = TempDir::new().expect("a temporary directory");
        let key = SecretKey::generate("given-1").expect("a good name").to_text();
        let malformed = dir.path().join("malformed");
        fs::write(&malformed, &key[..key.len() - 9]).expect("room");
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).expect("room");
        let absent = dir.path().join("absent");
        for (path, why) in [
            (&malformed, "holds no secret key in Nix's format"),
            // A folder is what even root can't read as a file.
            (&folder, "read "),
            (&absent, "there is no such file"),
        ] {
            let ncps = Installation::new(mode, UNDER_TEST);
            let ncps = ncps.control_flag(format!("--cache-secret-key-path={}", path.display()));
            let mut process = ncps.spawn(&ncps.control_command(&ncps.control_data()));
            assert_eq!(process.exit().await.code(), Some(2));
            let line = process.line_with(why).await;
            assert!(line.contains(&*path.to_string_lossy()), "{line}");
            assert!(!process.lines().concat().contains(&key[10..30]), "a part of the key was printed");
            assert!(!ncps.control_data().join("db/db.sqlite").exists());
        }
        assert!(!absent.exists(), "none is made where a path is given");
    }

    async fn a_default_key_that_is_damaged_is_not_replaced(mode) {
        let ncps = Installation::new(mode, UNDER_TEST);
        let path = ncps.control_data().join("secret.key");
        fs::create_dir_all(ncps.control_data()).expect("room");
        fs::write(&path, "cache.test:AAAA").expect("room");
        let mut process = ncps.spawn(&ncps.control_command(&ncps.control_data()));
        assert_eq!(process.exit().await.code(), Some(2));
        process.line_with("holds no secret key in Nix's format").await;
        assert_eq!(fs::read(&path).expect("there"), b"cache.test:AAAA");
    }
}

#[tokio::test]
async fn a_user_keeps_it_at_home() {
    let dir = TempDir::new().expect("a temporary directory");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let home = dir.path().join("home");
    fs::create_dir(&home).expect("room");
    let port = ReservedPort::new();
    let mut command = Command::new(shared_binary(dir.path()));
    command.arg("serve").env_clear().current_dir(&home);
    command.env("HOME", &home).env("SERVER_ADDR", port.addr().to_string());
    if rustix::process::geteuid().is_root() {
        chown(&home, Some(NOBODY), Some(NOBODY)).expect("root can give files away");
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut ncps = Process::spawn_command(command);
    ncps.ready(port.addr()).await;
    assert_eq!(ncps.terminate().await.code(), Some(0));
    let data = home.join(".local/share/ncps");
    is_furnished(&data, &data);
}

#[tokio::test]
async fn the_port_is_8501_on_every_address() {
    // Somebody may have it on this machine; then only that can be tried.
    let free = std::net::TcpListener::bind(("0.0.0.0", 8501)).is_ok();
    let dir = TempDir::new().expect("a temporary directory");
    let mut ncps = bare(&["ncps", "serve"], &[("STATE_DIRECTORY", dir.path())]);
    let is_ready = |ncps: &Process| ncps.lines().iter().any(|line| line.contains("\"message\":\"ready\""));
    eventually("ready, or an end", async || is_ready(&ncps) || ncps.try_exit().is_some()).await;
    if ncps.try_exit().is_some() {
        assert!(!free, "{:#?}", ncps.lines());
        ncps.line_with("listen at :8501 (--server-addr)").await;
        return;
    }
    ncps.ready(SocketAddr::from(([127, 0, 0, 1], 8501))).await;
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        std::net::TcpStream::connect("[::1]:8501").expect("IPv6 is served, too");
    }
    assert_eq!(ncps.terminate().await.code(), Some(0));
}
