//! `docs/SEED.md`: every option and every section of the Go original's first README beside its place here.
//!
//! Names and defaults of ours are those that [`table`] has, which other tests hold against running programs.

use std::fmt::Write;

use super::*;
use crate::house::is_fresh;

/// Each option's default there, and what is different here.
const THERE: [(&str, &str, &str); 20] = [
    ("otel-enabled", "`false`", ""),
    ("otel-grpc-url", "standard output", ""),
    ("prometheus-enabled", "`false`", "both may be on at once"),
    ("log-level", "`info`", ""),
    ("cache-hostname", "required", "not required: the machine's name"),
    ("cache-data-path", "required", "not required, made where it lacks; the original's data is recognised"),
    ("upstream-cache", "required", "not required; in its query `priority` and `optional`"),
    ("upstream-public-key", "required", "not required; counts for every upstream, whatever its name"),
    ("cache-database-url", "`embedded SQLite`", "made and migrated at the start"),
    ("cache-max-size", "unlimited", "counts without a schedule, too"),
    ("cache-lru-schedule", "none", "needs no maximum; evictions also happen when there is need"),
    ("cache-lru-schedule-timezone", "`Local`", "follows summer time"),
    ("cache-temp-path", "the system's", "spool files lie beside the store unless it is given"),
    ("cache-sign-narinfo", "`true`", ""),
    ("cache-secret-key-path", "made", "in the data path, not in the database"),
    ("cache-allow-put-verb", "`false`", "admits what somebody vouches for; [tokens](SECURITY.md#tokens)"),
    ("cache-allow-delete-verb", "`false`", "[tokens](SECURITY.md#tokens)"),
    ("netrc-file", "`~/.netrc`", ""),
    ("server-addr", "`:8501`", ""),
    (
        "config",
        "`$XDG_CONFIG_HOME/ncps/config.yaml`",
        "a variable wins over the file, there the file over it",
    ),
];

/// Headings of that README, and where we say the same.
const SECTIONS: [(&str, &str); 30] = [
    ("Overview", "[README](../README.md)"),
    ("Problem & Solution", "[README](../README.md)"),
    ("Key Features", "[README](../README.md), [CHANGELOG](CHANGELOG.md)"),
    ("How It Works", "[CONCEPTS](CONCEPTS.md), [ARCHITECTURE](ARCHITECTURE.md#walks)"),
    ("Quick Start", "[GETTING-STARTED](GETTING-STARTED.md)"),
    ("Installation: Docker", "[CONTAINER](CONTAINER.md)"),
    ("Installation: Docker Compose", "[CONTAINER](CONTAINER.md)"),
    ("Installation: Kubernetes, PersistentVolumeClaim", "[KUBERNETES](KUBERNETES.md)"),
    ("Installation: Kubernetes, StatefulSet", "[KUBERNETES](KUBERNETES.md)"),
    ("Installation: Kubernetes, Service", "[KUBERNETES](KUBERNETES.md)"),
    ("Installation: NixOS", "[NIXOS](NIXOS.md)"),
    ("Installation: Go Install", "[GETTING-STARTED](GETTING-STARTED.md#1-start-it), by cargo"),
    ("Installation: Build from Source", "[README](../README.md#run-it)"),
    ("Configuration: Global Options", "[CONFIGURATION](CONFIGURATION.md)"),
    ("Configuration: Essential Options", "[CONFIGURATION](CONFIGURATION.md)"),
    ("Configuration: Storage & Performance", "[CONFIGURATION](CONFIGURATION.md)"),
    ("Configuration: Security & Signing", "[CONFIGURATION](CONFIGURATION.md), [SECURITY](SECURITY.md)"),
    ("Configuration: Network", "[CONFIGURATION](CONFIGURATION.md)"),
    ("Client Setup: Get Your Public Key", "[GETTING-STARTED](GETTING-STARTED.md#2-look-whether-it-answers)"),
    (
        "Client Setup: NixOS",
        "[GETTING-STARTED](GETTING-STARTED.md#3-tell-a-client), by `ncps-cli client-config`",
    ),
    (
        "Client Setup: Non-NixOS",
        "[GETTING-STARTED](GETTING-STARTED.md#3-tell-a-client), by `ncps-cli client-config`",
    ),
    ("Troubleshooting: \"no such table: nars\"", "[TROUBLESHOOTING](TROUBLESHOOTING.md#it-does-not-start)"),
    (
        "Troubleshooting: \"unable to open database file\"",
        "[TROUBLESHOOTING](TROUBLESHOOTING.md#it-does-not-start)",
    ),
    (
        "Troubleshooting: Container Exits Immediately",
        "[TROUBLESHOOTING](TROUBLESHOOTING.md#it-does-not-start)",
    ),
    ("Troubleshooting: Cache Not Working", "[TROUBLESHOOTING](TROUBLESHOOTING.md#clients-dont-use-it)"),
    (
        "Troubleshooting: Performance Issues",
        "[TROUBLESHOOTING](TROUBLESHOOTING.md#it-answers-but-wrongly-or-slowly)",
    ),
    ("Contributing: Development Setup", "[CONTRIBUTING](CONTRIBUTING.md)"),
    ("Contributing: Getting Help", "[TROUBLESHOOTING](TROUBLESHOOTING.md)"),
    ("License", "MIT, as there"),
    ("config.example.yaml", "[CONFIGURATION](CONFIGURATION.md): its keys are ours"),
];

const HEAD: &str = "# The Go ncps, option by option

What its first README (0.4) names, beside its place here. Every option means the same by its flag, its variable and its key in
a file; later names are in [CONFIGURATION.md](CONFIGURATION.md#names-of-the-original). How its data is taken
over is in [MIGRATION.md](MIGRATION.md#the-go-ncps).
";

fn options(rows: &[Row]) -> String {
    let mut text = String::from(
        "| option | variable | key | default there | what is different here |\n| --- | --- | --- | --- | --- |\n",
    );
    for (flag, default, note) in THERE {
        let (variable, key) = match rows.iter().find(|row| row.flag == flag) {
            Some(row) => (row.variable, format!("`{}`", row.key)),
            None => ("NCPS_CONFIG_FILE", "–".to_owned()),
        };
        let note = if note.is_empty() { "nothing" } else { note };
        writeln!(text, "| `--{flag}` | `{variable}` | {key} | {default} | {note} |")
            .expect("a String takes it");
    }
    text
}

fn sections() -> String {
    let rows = SECTIONS.iter().map(|(there, here)| format!("| {there} | {here} |\n"));
    format!("| there | here |\n| --- | --- |\n{}", rows.collect::<String>())
}

#[test]
fn each_option_is_told_once() {
    let rows = names::places();
    let mut told: Vec<_> = THERE.iter().map(|(flag, ..)| *flag).filter(|flag| *flag != "config").collect();
    let mut known: Vec<_> = table(&rows).iter().map(|row| row.flag).collect();
    told.sort_unstable();
    known.sort_unstable();
    assert_eq!(told, known);
}

#[test]
fn the_page_is_fresh() {
    let rows = table(&names::places());
    let fresh = format!("{HEAD}\n## Options\n\n{}\n## Sections\n\n{}", options(&rows), sections());
    is_fresh("SEED.md", &fresh);
}
