//! The options of the original, as its first README lists them: what `ncps serve` does where the original's did. Of
//! each the table has its names, its default and a value that is none; how they are given is [`By`].
//!
//! `--config` itself is how they are given by file: named by flag, by variable, or found.

mod effects;
mod names;
mod page;
pub(crate) mod starts;

use std::path::{Path, PathBuf};
use std::process::Command;

use ncps_tests::UpstreamKey;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::processes::UNDER_TEST;

/// An option, and what it is given.
struct Row {
    flag: &'static str,
    variable: &'static str,
    key: &'static str,
    default: String,
    value: Value,
}

fn row([flag, variable, key]: [&'static str; 3], default: impl Into<String>, value: impl Into<Value>) -> Row {
    Row { flag, variable, key, default: default.into(), value: value.into() }
}

/// What the values point at.
struct Places {
    dir: TempDir,
    upstream: String,
    public_key: String,
    collector: String,
    addr: String,
}

impl Places {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// A text in which the upstreams of examples are ours: nobody is asked outside.
pub(crate) fn upstreams_here(text: &str, upstream: &str, key: &UpstreamKey) -> String {
    let text = text.replace(CACHE_NIXOS_ORG, &key.public().to_string());
    let text = text.replace("https://nix-community.cachix.org", "http://127.0.0.1:1?optional=1");
    text.replace("https://cache.nixos.org", upstream)
}

const CACHE_NIXOS_ORG: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// Of a process whose state directory is `state` and whose home is `home`.
fn table(places: &Places) -> Vec<Row> {
    let p = |name: &str| places.text(name);
    let hostname = ncps_runtime::paths::hostname();
    vec![
        row(["otel-enabled", "OTEL_ENABLED", "opentelemetry.enabled"], "false", true),
        row(["otel-grpc-url", "OTEL_GRPC_URL", "opentelemetry.grpc-url"], "", &*places.collector),
        row(["prometheus-enabled", "PROMETHEUS_ENABLED", "prometheus.enabled"], "false", true),
        row(["log-level", "LOG_LEVEL", "log.level"], "info", "debug"),
        row(["cache-hostname", "CACHE_HOSTNAME", "cache.hostname"], hostname, "seed.example"),
        row(["cache-data-path", "CACHE_DATA_PATH", "cache.data-path"], p("state"), p("data")),
        row(
            ["upstream-cache", "UPSTREAM_CACHES", "cache.upstream.caches"],
            "https://cache.nixos.org",
            json!([places.upstream, "http://127.0.0.1:1?optional=1"]),
        ),
        row(
            ["upstream-public-key", "UPSTREAM_PUBLIC_KEYS", "cache.upstream.public-keys"],
            CACHE_NIXOS_ORG,
            json!([CACHE_NIXOS_ORG, places.public_key]),
        ),
        row(
            ["cache-database-url", "CACHE_DATABASE_URL", "cache.database-url"],
            format!("sqlite:{}", p("state/db/db.sqlite")),
            format!("sqlite:{}", p("var/ncps/db/index.sqlite")),
        ),
        row(["cache-max-size", "CACHE_MAX_SIZE", "cache.max-size"], "", "300k"),
        row(["cache-lru-schedule", "CACHE_LRU_SCHEDULE", "cache.lru.schedule"], "", "30 4 1 1 *"),
        row(
            ["cache-lru-schedule-timezone", "CACHE_LRU_SCHEDULE_TZ", "cache.lru.timezone"],
            "Local",
            "Asia/Kolkata",
        ),
        row(["cache-temp-path", "CACHE_TEMP_PATH", "cache.temp-path"], "", p("temp")),
        row(["cache-sign-narinfo", "CACHE_SIGN_NARINFO", "cache.sign-narinfo"], "true", false),
        row(
            ["cache-secret-key-path", "CACHE_SECRET_KEY_PATH", "cache.secret-key-path"],
            p("state/secret.key"),
            p("key"),
        ),
        row(["cache-allow-put-verb", "CACHE_ALLOW_PUT_VERB", "cache.allow-put-verb"], "false", true),
        row(["cache-allow-delete-verb", "CACHE_ALLOW_DELETE_VERB", "cache.allow-delete-verb"], "false", true),
        row(["netrc-file", "NETRC_FILE", "cache.netrc-file"], p("home/.netrc"), p("netrc")),
        row(["server-addr", "SERVER_ADDR", "server.addr"], ":8501", &*places.addr),
    ]
}

/// These stand before the command in the original.
const GLOBAL: [&str; 4] = ["otel-enabled", "otel-grpc-url", "prometheus-enabled", "log-level"];

/// How options are given.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Flags,
    Variables,
    /// In the configuration home.
    Yaml,
    /// By `--config`.
    Toml,
    /// By `$NCPS_CONFIG_FILE`.
    Json,
}

const ALL: [By; 5] = [By::Flags, By::Variables, By::Yaml, By::Toml, By::Json];

/// `ncps` with these options, given like that; `what` is the command.
fn command(by: By, rows: &[Row], what: &[&str], places: &Places) -> Command {
    let mut command = Command::new(UNDER_TEST);
    command.arg("ncps").env_clear();
    command.env("STATE_DIRECTORY", places.path("state")).env("HOME", places.path("home"));
    match by {
        By::Flags => {
            let (global, own): (Vec<&Row>, Vec<&Row>) =
                rows.iter().partition(|row| GLOBAL.contains(&row.flag));
            command.args(flags(&global)).args(what).args(flags(&own));
        }
        By::Variables => {
            command.args(what).envs(rows.iter().map(|row| (row.variable, texts(&row.value).join(","))));
        }
        By::Yaml => {
            write(&places.path("home/.config/ncps/config.yaml"), &yaml(&tree(rows), 0));
            command.args(what);
        }
        By::Toml => {
            let lines = rows.iter().map(|row| format!("{} = {}\n", row.key, row.value));
            write(&places.path("ncps.toml"), &lines.collect::<String>());
            command.arg(format!("--config={}", places.text("ncps.toml"))).args(what);
        }
        By::Json => {
            write(&places.path("ncps.json"), &tree(rows).to_string());
            command.args(what).env("NCPS_CONFIG_FILE", places.path("ncps.json"));
        }
    }
    command
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("inside")).expect("room");
    std::fs::write(path, text).expect("room");
}

/// A list is given by one flag for each, a switch that is on by its flag alone.
fn flags(rows: &[&Row]) -> Vec<String> {
    let typed = |row: &Row| match &row.value {
        Value::Bool(true) => vec![format!("--{}", row.flag)],
        value => texts(value).iter().map(|text| format!("--{}={text}", row.flag)).collect(),
    };
    rows.iter().flat_map(|row| typed(row)).collect()
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

/// Dotted keys as nested ones.
fn tree(rows: &[Row]) -> Value {
    let mut root = Value::Object(Map::new());
    for row in rows {
        let place = row.key.split('.').fold(&mut root, |at, part| &mut at[part]);
        *place = row.value.clone();
    }
    root
}

/// In blocks, as people write it.
fn yaml(value: &Value, depth: usize) -> String {
    let Value::Object(map) = value else { return String::new() };
    let indent = "  ".repeat(depth);
    let entry = |(key, value): (&String, &Value)| match value {
        Value::Object(_) => format!("{indent}{key}:\n{}", yaml(value, depth + 1)),
        Value::Array(items) => {
            let items = items.iter().map(|item| format!("{indent}  - {item}\n"));
            format!("{indent}{key}:\n{}", items.collect::<String>())
        }
        scalar => format!("{indent}{key}: {scalar}\n"),
    };
    map.iter().map(entry).collect()
}
