//! What the NixOS module makes of options: as far as Nix evaluates it without nixpkgs, and the programs understand what
//! they are started with. Left out, with a note, where there is no Nix.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ncps_tests::Nix;
use ncps_tests::sandbox::Unit;
use serde_json::Value;

use crate::processes::UNDER_TEST;

/// A function from what is set below `services` to the machine.
const EVALUATE: &str = "(import ./nix/tests/lib.nix).evaluate (import ./nix/module.nix)";

type Services = BTreeMap<String, Value>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn instantiate(args: &[&str]) -> Output {
    let mut command = Command::new("nix-instantiate");
    command.args(args).current_dir(root()).output().expect("it starts")
}

#[test]
fn every_file_is_nix() {
    if Nix::find().is_none() {
        return;
    }
    let mut files = vec![PathBuf::from("flake.nix")];
    for folder in ["nix", "nix/tests"] {
        let entries = std::fs::read_dir(root().join(folder)).expect("it is there");
        files.extend(entries.map(|entry| Path::new(folder).join(entry.expect("listed").file_name())));
    }
    let files = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "nix"));
    for file in files {
        let parsed = instantiate(&["--parse", &file.to_string_lossy()]);
        assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    }
}

/// The machines of `nix/tests/machines.nix`, if there is a Nix to evaluate them.
fn machines() -> Option<BTreeMap<String, Services>> {
    Nix::find()?;
    let evaluated = instantiate(&["--eval", "--strict", "--json", "nix/tests/machines.nix"]);
    assert!(evaluated.status.success(), "{}", String::from_utf8_lossy(&evaluated.stderr));
    Some(serde_json::from_slice(&evaluated.stdout).expect("it is JSON"))
}

#[test]
fn programs_understand_what_they_are_started_with() {
    let Some(machines) = machines() else { return };
    let started: Vec<_> = machines.values().flatten().map(|(name, service)| checked(name, service)).collect();
    assert!(started.len() > machines.len(), "a machine has a service, and a fleet has two: {started:?}");
}

/// Runs a service's script, with the configuration checked in the place of a start. Returns what it runs with.
fn checked(name: &str, service: &Value) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for file in service["serviceConfig"]["LoadCredential"].as_array().expect("a list") {
        let (credential, _) = file.as_str().expect("text").split_once(':').expect("a name and a place");
        std::fs::write(dir.path().join(credential), "sqlite:/srv/given/db.sqlite").expect("room");
    }
    let script = here(name, service["script"].as_str().expect("text"), dir.path());
    let mut sh = Command::new("sh");
    sh.args(["-euc", &script]).env_clear().env("CREDENTIALS_DIRECTORY", dir.path());
    // What systemd says of its directories.
    sh.env("PATH", "/usr/bin:/bin").env("STATE_DIRECTORY", format!("/var/lib/{name}"));
    let output = sh.output().expect("it starts");
    assert!(output.status.success(), "{name}: {}\n{script}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The configuration file is put where it can be read, and the program shows what it would run with.
fn here(name: &str, script: &str, dir: &Path) -> String {
    let (before, file) = script.split_once("--config=(").expect("it has a configuration file");
    let (file, after) = file.rsplit_once(')').expect("and nothing in brackets after it");
    let (_, json) = file.split_once(": ").expect("its name and its text");
    let place = dir.join("config.json");
    std::fs::write(&place, json).expect("room");
    let (exports, package) = before.rsplit_once("exec ").expect("it ends so");
    assert!(package.starts_with("/nix/store/") && package.trim_end().ends_with(&format!("/bin/{name}")));
    assert_eq!(after, if name == "ncps" { " serve" } else { "" });
    format!("{exports}exec '{UNDER_TEST}' {name} config show --config='{}'", place.display())
}

#[test]
fn options_come_to_what_they_say() {
    let Some(machines) = machines() else { return };
    let shown = |machine: &str, service: &str| checked(service, &machines[machine][service]);
    let says = |shown: String, lines: &[&str]| {
        for line in lines {
            assert!(shown.contains(line), "{line:?} is not in:\n{shown}");
        }
    };
    says(
        shown("large", "ncps"),
        &[
            "cache-max-size = 100G",
            "cache-data-path = /srv/ncps",
            "cache-database-url = sqlite:/srv/index/db.sqlite",
            "cache-lru-schedule-timezone = America/Los_Angeles",
            "cache-allow-put-verb = true",
            "netrc-file = /etc/nix/netrc",
            "scrub-rate = 100M",
            "server-tls-key = ",
        ],
    );
    says(shown("old", "ncps"), &["cache-data-path = /srv/old", "cache-sign-narinfo = false"]);
    says(shown("given", "ncps"), &["cache-database-url = sqlite:/srv/given/db.sqlite"]);
    says(shown("fleet", "ncps-edge"), &["control-url = unix:/run/ncps/control.sock"]);
    says(shown("far", "ncps-edge"), &["control-url = https://control:8502", "control-token-file = "]);
}

#[test]
fn units_may_write_where_their_data_is() {
    let Some(machines) = machines() else { return };
    let unit = |machine: &str, service: &str| machines[machine][service]["serviceConfig"].clone();
    assert_eq!(unit("large", "ncps")["ReadWritePaths"], serde_json::json!(["/srv/ncps", "/srv/index"]));
    assert_eq!(unit("small", "ncps")["ReadWritePaths"], serde_json::json!([]));
    assert_eq!(unit("small", "ncps")["StateDirectory"], "ncps");
    assert_eq!(unit("fleet", "ncps-edge")["StateDirectory"], "ncps-edge");
    for service in machines.values().flat_map(Services::values) {
        let config = &service["serviceConfig"];
        assert!(
            config["ProtectSystem"] == "strict" && config["MemoryDenyWriteExecute"] == true,
            "{config:#}"
        );
        assert_eq!(config["SystemCallFilter"][1], "~@privileged");
    }
}

#[test]
fn what_is_not_there_is_refused_when_a_machine_is_built() {
    if Nix::find().is_none() {
        return;
    }
    let refused = [
        ("cache.storage.s3 = { bucket = \"b\"; };", "object storage is not there"),
        ("cache.redis = { addresses = [ ]; };", "Redis is not used"),
        ("cache.cdc.enabled = true;", "NAR files are kept whole"),
        ("cache.databaseURLFile = \"/run/keys/database\";", "exactly one of"),
        ("cache.databaseURL = \"postgresql://database/ncps\";", "has to begin with sqlite:"),
        ("cache.lock.postgresKeyPrefix = \"x\";", "there is nobody to lock out"),
        ("dbmatePackage = \"/nix/store/dbmate\";", "migrates its database itself"),
        ("cache.xyzzy = 1;", "no such option: services.ncps.cache.xyzzy"),
    ];
    for (option, reason) in refused {
        let said = built(option, "").expect_err("refused");
        assert!(said.contains(reason), "{option}: {said}");
    }
}

/// Whether a machine with `services.ncps`, these options of it and these services beside it is built, or what is said.
fn built(options: &str, beside: &str) -> Result<(), String> {
    let least = "enable = true; cache.hostName = \"a\"; cache.upstream.urls = [ ];";
    let machine = format!("{{ ncps = {{ {least} {options} }}; {beside} }}");
    let evaluated = instantiate(&["--eval", "--strict", "-E", &format!("{EVALUATE} {machine}")]);
    let said = String::from_utf8_lossy(&evaluated.stderr).into_owned();
    evaluated.status.success().then_some(()).ok_or(said)
}

#[test]
fn two_that_serve_clients_of_one_host_have_an_address_each() {
    if Nix::find().is_none() {
        return;
    }
    let elsewhere = "settings.server.addr = \":8601\";";
    for (options, of_edge, fits) in [("", "", false), ("", elsewhere, true), (elsewhere, elsewhere, false)] {
        let built = built(options, &format!("ncps-edge = {{ enable = true; {of_edge} }};"));
        let refused = built.as_ref().err().map(|said| said.contains("services.ncps-edge listens at"));
        assert_eq!(refused, (!fits).then_some(true), "{options} {of_edge}: {built:?}");
    }
    let control = built("", "ncps-control.enable = true;").expect_err("both hold control");
    assert!(control.contains("beside services.ncps-control"), "{control}");
}

/// As the units of `packaging/systemd` have it, which say why.
#[test]
fn services_are_started_and_stopped_as_the_units_say() {
    let Some(machines) = machines() else { return };
    for (name, service) in machines.values().flatten() {
        let unit = root().join("packaging/systemd").join(name).with_extension("service");
        let unit = Unit::read(&unit).expect("there is such a unit");
        for setting in ["Type", "Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec", "LimitNOFILE"] {
            let value = &service["serviceConfig"][setting];
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            assert_eq!(unit.all(setting), [value], "{setting} of {name}");
        }
        assert_eq!(unit.all("StartLimitIntervalSec"), [service["startLimitIntervalSec"].to_string()]);
    }
}

#[test]
fn examples_are_what_the_module_takes() {
    if Nix::find().is_none() {
        return;
    }
    let text = std::fs::read_to_string(root().join("docs/NIXOS.md")).expect("it is there");
    let mut blocks = text.split("```nix\n").skip(1).map(|block| block.split("```").next().unwrap_or(block));
    let (flake, fleet) = (blocks.next().expect("a flake"), blocks.next().expect("a fleet"));
    // What is set on the one machine of the flake.
    let (_, rest) = flake.split_once("nixosModules.default").expect("the module is taken");
    let (machine, _) = rest.split_once("      ];\n    };").expect("the list of modules ends");
    for machine in [machine.to_owned(), format!("{{ {fleet} }}")] {
        let made = format!("let made = {EVALUATE} ({machine}).services; in builtins.deepSeq made true");
        let evaluated = instantiate(&["--eval", "-E", &made]);
        assert!(evaluated.status.success(), "{machine}: {}", String::from_utf8_lossy(&evaluated.stderr));
    }
}
