//! The house holds: which crate may know which, what each must not know, and documents that are generated are
//! as they would be generated now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use ncps_runtime::config::{self, Field};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace")
}

/// Every package's direct dependencies, development ones left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version=1", "--no-deps", "--offline"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(|package| (text(&package["name"]), needs(package))).collect()
}

fn needs(package: &serde_json::Value) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().expect("dependencies");
    all.iter().filter(|d| d["kind"].is_null()).map(|d| text(&d["name"])).collect()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a string").to_owned()
}

#[test]
fn dependencies_point_one_way() {
    let layers = [
        ("ncps-nix", &[][..]),
        ("ncps-runtime", &[]),
        ("ncps-proto", &["ncps-nix"]),
        ("ncps-edge", &["ncps-nix", "ncps-proto", "ncps-runtime"]),
        ("ncps-control", &["ncps-nix", "ncps-proto", "ncps-runtime"]),
        ("ncps-cli", &["ncps-nix", "ncps-proto", "ncps-runtime", "ncps-edge", "ncps-control"]),
    ];
    let dependencies = dependencies();
    for (package, allowed) in layers {
        let ours = dependencies[package].iter().filter(|name| name.starts_with("ncps-"));
        let wrong: Vec<_> = ours.filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(wrong.is_empty(), "{package} must not know {wrong:?}");
    }
}

#[test]
fn what_is_absent_on_purpose_is_absent() {
    let absent = [
        ("ncps-nix", &["tokio", "http", "hyper", "axum", "reqwest", "sqlx", "tonic"][..]),
        ("ncps-runtime", &["http", "hyper", "axum", "reqwest", "sqlx", "tonic"]),
        ("ncps-proto", &["axum", "reqwest", "sqlx"]),
        ("ncps-edge", &["sqlx", "ed25519-dalek"]),
        ("ncps-control", &["axum", "reqwest"]),
    ];
    let dependencies = dependencies();
    for (package, never) in absent {
        let found: Vec<_> = never.iter().filter(|name| dependencies[package].contains(**name)).collect();
        assert!(found.is_empty(), "{package} must do without {found:?}");
    }
}

/// A page in `docs` is as it would be generated now. With `UPDATE_DOCS=1` it is written.
pub(crate) fn is_fresh(page: &str, fresh: &str) {
    let path = root().join("docs").join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, fresh).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == fresh, "{page}: run UPDATE_DOCS=1 cargo test -p ncps-tests --test it _is_fresh");
}

#[test]
fn the_configuration_reference_is_fresh() {
    let (own, later) = (ncps_cli::reference(), ncps_cli::later_reference());
    let fresh = format!("{REFERENCE_HEAD}\n{own}\n{LATER_HEAD}\n{later}");
    is_fresh("CONFIGURATION.md", &fresh);
}

#[test]
fn the_telemetry_reference_is_fresh() {
    let metrics = |table| ncps_runtime::telemetry::markdown(table);
    let fresh = format!(
        "{TELEMETRY_HEAD}\n## Metrics of an edge\n\n{}\n## Metrics of control\n\n{}",
        metrics(ncps_edge::metrics::METRICS),
        metrics(ncps_control::metrics::METRICS)
    );
    is_fresh("TELEMETRY.md", &fresh);
}

#[test]
fn the_command_line_reference_is_fresh() {
    let fresh = format!("{CLI_HEAD}\n{}", ncps_cli::cli_reference());
    is_fresh("CLI.md", &fresh);
}

/// Both crates need it and neither may know the other.
#[test]
fn spans_of_traces_have_one_target() {
    assert_eq!(ncps_proto::trace::TARGET, ncps_runtime::telemetry::trace::TARGET);
}

/// Neither plane may know the other's table, and both read one file.
#[test]
fn planes_know_each_others_keys() {
    use ncps_control::config::{CONTROL, LATER, LATER_GLOBAL};
    use ncps_edge::config::{EDGE, REMOTE};
    use ncps_runtime::{fields, keys};
    let own = |tables: &[&'static [Field]]| -> BTreeSet<&str> {
        let shared = config::keys(&[fields::DATA, fields::RUNTIME]);
        config::keys(tables).into_iter().filter(|key| !shared.contains(key)).collect()
    };
    let listed = |keys: &[&'static str]| keys.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(
        listed(keys::CONTROL_KEYS),
        own(&[CONTROL, LATER, LATER_GLOBAL]),
        "CONTROL_KEYS of ncps_runtime::keys"
    );
    assert_eq!(listed(keys::EDGE_KEYS), own(&[EDGE, REMOTE]), "EDGE_KEYS of ncps_runtime::keys");
}

const CLI_HEAD: &str = include_str!("cli_head.md");

const TELEMETRY_HEAD: &str = include_str!("telemetry_head.md");

const REFERENCE_HEAD: &str = "# Configuration

Flags win over environment variables, these over the configuration file, that over defaults (in the Go original the
file wins over the environment). The file is YAML, TOML or JSON: `--config`, or `$NCPS_CONFIG_FILE`, or
`$XDG_CONFIG_HOME/ncps/config.yaml` if there is one; keys with dots are nested. Upstreams are asked through the proxies
that `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name. A variable or a key that is empty counts as not given. Unknown flags, unknown keys and bad values are errors:
all of them are printed, and the program exits with 2. `ncps config check` says whether there are any, and
`ncps config show` what would be used and where each value came from; `ncps-edge config` and `ncps-control config` do, too.

`ncps serve` takes all of these but `--control-url` and the other four that say how control is reached; `ncps-control` and
`ncps-edge` take their own. `ncps migrate up` takes `--cache-database-url` and the data path, and `--dry-run`; `ncps import` takes
those of `ncps serve` and its own, which its help lists. One file can be for all of them, as long as two on one host get a data path each.
";

const LATER_HEAD: &str = "## Names of the original

The Go original has more options than ncps has uses for. These are accepted where they change nothing, by flag, variable
and file key, and `ncps serve` says at its start which of them it was given. What would have to change what ncps does is
refused, so that nobody believes in what is not there.
";
