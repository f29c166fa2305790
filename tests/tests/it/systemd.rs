//! The units of `packaging/systemd`: the programs that they start work in their sandbox.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use ncps_tests::sandbox::Unit;
use ncps_tests::{
    Fixture, Front, Installation, Mode, Outcome, Request, Upstream, UpstreamKey, both_modes, eventually,
};
use tempfile::TempDir;

use crate::scene;

const UNDER_TEST: &str = env!("CARGO_BIN_EXE_under_test");
const CONFINED: &str = env!("CARGO_BIN_EXE_confined");
const UNITS: [&str; 3] = ["ncps.service", "ncps-control.service", "ncps-edge.service"];
/// What ends a process that makes a call which its unit does not allow.
const SIGSYS: i32 = 31;
/// The first setting of the sandbox, which is the same in all units.
const SANDBOX: &str = "NoNewPrivileges";

fn unit(name: &str) -> Unit {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    Unit::read(&dir.join(name)).expect("there is such a unit")
}

fn launcher() -> Option<Vec<String>> {
    unit(UNITS[0]).launcher(CONFINED)
}

/// How a command ends in the sandbox of the units, and out of it.
fn ends(words: &[&str]) -> Option<(ExitStatus, ExitStatus)> {
    let launcher = launcher()?;
    let status = |words: Vec<&str>| Command::new(words[0]).args(&words[1..]).status().expect("started");
    let within = launcher.iter().map(String::as_str).chain(words.iter().copied()).collect();
    Some((status(within), status(words.to_vec())))
}

#[test]
fn units_differ_in_what_they_start_alone() {
    let sandbox = |name: &&str| {
        let unit = unit(name);
        let settings = unit.settings().iter().skip_while(|(setting, _)| setting != SANDBOX);
        settings.cloned().collect::<Vec<_>>()
    };
    let all: Vec<_> = UNITS.iter().map(sandbox).collect();
    assert!(all[0].len() > 20 && all.iter().all(|one| *one == all[0]), "{all:?}");
}

/// The module for NixOS says the same in its own words.
#[test]
fn nixos_has_the_same_sandbox() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../nix/hardening.nix"))
        .expect("a file");
    let there: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(" = ")).collect();
    let unit = unit(UNITS[0]);
    let here = unit.settings().iter().skip_while(|(setting, _)| setting != SANDBOX);
    let here: BTreeMap<&str, &str> =
        here.map(|(name, value)| (&**name, &**value)).filter(|(name, _)| *name != "WantedBy").collect();
    assert_eq!(there.keys().collect::<Vec<_>>(), here.keys().collect::<Vec<_>>());
    // Lists are written as lists there.
    for (name, value) in here.iter().filter(|(name, _)| !["SystemCallFilter", "DeviceAllow"].contains(name)) {
        assert_eq!(there[name].trim_matches(['"', ';']), *value, "{name}");
    }
}

#[test]
fn another_priority_is_what_the_sandbox_kills_for() {
    let Some((within, without)) = ends(&["/usr/bin/nice", "/bin/true"]) else { return };
    assert_eq!((within.signal(), without.code()), (Some(SIGSYS), Some(0)));
}

#[test]
fn memory_is_not_written_and_run() {
    let call = syscalls::Sysno::mmap.id();
    let script = format!("exit(syscall({call}, 0, 4096, 7, 0x22, -1, 0) == -1 ? 7 : 0)");
    let Some((within, without)) = ends(&["/usr/bin/perl", "-e", &script]) else { return };
    assert_eq!((within.code(), without.code()), (Some(7), Some(0)));
}

#[test]
fn sockets_of_other_families_are_not_to_be_had() {
    let script = "use Socket; exit(socket(my $s, 16, SOCK_RAW, 0) ? 0 : $!{EAFNOSUPPORT} ? 7 : 1)";
    let Some((within, without)) = ends(&["/usr/bin/perl", "-MErrno", "-e", script]) else { return };
    assert_eq!((within.code(), without.code()), (Some(7), Some(0)));
}

#[test]
fn nobody_is_root_or_has_a_capability() {
    let script = "open my $s, '<', '/proc/self/status'; exit($> && (grep /^CapEff:\\s*0+$/, <$s>) ? 7 : 0)";
    let Some((within, _)) = ends(&["/usr/bin/perl", "-e", script]) else { return };
    assert_eq!(within.code(), Some(7));
}

#[test]
fn units_start_programs_that_there_are_with_words_that_they_know() {
    for name in UNITS {
        let unit = unit(name);
        let [command] = unit.all("ExecStart")[..] else { panic!("{name} starts one program") };
        let words: Vec<_> =
            command.strip_prefix("/usr/bin/").expect("where packages put them").split(' ').collect();
        let help = Command::new(UNDER_TEST).args(&words).arg("--help").output().expect("started");
        assert!(help.status.success(), "{command}");
        let wait = unit.all("TimeoutStopSec")[0].parse::<u64>().expect("seconds");
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(wait > 60 && help.contains("[env: SHUTDOWN_GRACE] [default: 60s]"), "{help}");
    }
}

#[test]
fn units_start_again_for_as_long_as_it_takes() {
    for name in UNITS {
        let unit = unit(name);
        for (setting, value) in [
            ("Restart", "on-failure"),
            ("RestartSec", "5s"),
            ("StartLimitIntervalSec", "0"),
            ("TimeoutStartSec", "infinity"),
        ] {
            assert_eq!(unit.all(setting), [value], "{setting} of {name}");
        }
    }
}

/// The whole cache and its halves share a port or a directory. Without an order the second might start before the first
/// has stopped.
#[test]
fn the_whole_cache_and_its_halves_stop_each_other() {
    for name in ["ncps-control.service", "ncps-edge.service"] {
        let unit = unit(name);
        assert_eq!(unit.all("Conflicts"), ["ncps.service"], "{name}");
        assert!(unit.all("After")[0].split(' ').any(|other| other == "ncps.service"), "{name}");
    }
}

/// An installation in the sandbox, with all that may want a system call of its own.
struct Scene {
    installation: Installation,
    upstream: Upstream,
    key: UpstreamKey,
    _front: Front,
    _dir: TempDir,
}

impl Scene {
    async fn new(mode: Mode, launcher: Vec<String>) -> Scene {
        let (upstream, key) = (Upstream::start().await, UpstreamKey::new("upstream-1"));
        // By a name and over TLS: who looks hosts up and reads certificates is in the sandbox, too.
        let front = Front::of(&upstream).named("localhost").start().await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let roots = dir.path().join("roots.pem");
        std::fs::write(&roots, front.authority().root()).expect("written");
        let flags = [
            format!("--upstream-cache=https://localhost:{}", front.addr().port()),
            format!("--upstream-public-key={}", key.public()),
            format!("--upstream-ca-file={}", roots.display()),
            format!("--cache-trusted-upload-key={}", key.public()),
            "--cache-allow-put-verb".to_owned(),
            "--cache-max-size=1G".to_owned(),
            "--cache-lru-schedule=@every 1s".to_owned(),
        ];
        let installation = Installation::new(mode, UNDER_TEST).started_by(launcher);
        let installation = flags.into_iter().fold(installation, Installation::control_flag);
        let installation = installation.variable("CACHE_RECOMPRESS", "zstd").started().await;
        Scene { installation, upstream, key, _front: front, _dir: dir }
    }

    async fn is_fetched(&self, fixture: &Fixture) {
        self.upstream.add(fixture);
        for path in [fixture.narinfo_path(), fixture.nar_path()] {
            let (status, came) = self.installation.fetch(&path).await;
            assert!(status == 200 && matches!(came, Outcome::Whole(_)), "{path}: {status}");
        }
    }

    async fn is_uploaded(&self, fixture: &Fixture) {
        let nar = Request::put(&fixture.nar_path(), fixture.file.clone());
        for request in [nar, Request::put(&fixture.narinfo_path(), fixture.narinfo_text())] {
            let answer = request.send(self.installation.addr()).await.expect("it answers");
            assert!(matches!(answer.status, 200..=204), "{}", answer.status);
        }
    }

    async fn names_zstd(&self, fixture: &Fixture) -> bool {
        let mut narinfo = self.installation.get(&fixture.narinfo_path()).await;
        narinfo.text().await.contains("Compression: zstd")
    }
}

both_modes! {
    async fn the_whole_cache_works_in_the_sandbox(mode) {
        let Some(launcher) = launcher() else { return };
        let mut scene = Scene::new(mode, launcher).await;
        let fetched = scene::plain(700_000).compressible().build(&scene.key);
        let uploaded = scene::plain(700_000).compressible().seed(1).build(&scene.key);
        scene.is_fetched(&fetched).await;
        scene.is_uploaded(&uploaded).await;
        eventually("it becomes zstd", async || scene.names_zstd(&fetched).await).await;
        assert_eq!(others_may(&scene.installation.control_data().join("db/db.sqlite")), 0, "UMask=0066");
        // Ends with 0, so nothing was killed.
        scene.installation.restart().await;
        assert!(scene.names_zstd(&fetched).await);
        scene.installation.terminate().await;
    }
}

/// What users but the owner may do with a file.
fn others_may(file: &Path) -> u32 {
    std::fs::metadata(file).expect("it is there").permissions().mode() & 0o066
}
