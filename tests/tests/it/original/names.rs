//! Every option by each of its names, and its default: as `ncps config show` says.

use std::collections::BTreeMap;

use super::*;

pub(super) fn places() -> Places {
    Places {
        dir: tempfile::tempdir().expect("a temporary directory"),
        upstream: "http://a.example?priority=3".to_owned(),
        public_key: "other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=".to_owned(),
        collector: "http://127.0.0.1:4317".to_owned(),
        addr: "127.0.0.1:8080".to_owned(),
    }
}

/// What is shown of each field: its text, and where that came from.
fn shown(by: By, rows: &[Row], places: &Places) -> BTreeMap<String, (String, String)> {
    let output = command(by, rows, &["config", "show"], places).output().expect("it starts");
    assert!(output.status.success(), "{by:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("it prints text");
    let line = |line: &str| {
        let (field, rest) = line.split_once(" = ").expect("a field and more");
        let (text, source) = rest.rsplit_once("  (").expect("a text and its source");
        (field.to_owned(), (text.to_owned(), source.trim_end_matches(')').to_owned()))
    };
    text.lines().map(line).collect()
}

/// How a source calls itself.
fn source(by: By, row: &Row, places: &Places) -> String {
    let file = |name: &str| format!("file {} key {}", places.text(name), row.key);
    match by {
        By::Flags => format!("flag --{}", row.flag),
        By::Variables => format!("variable {}", row.variable),
        By::Yaml => file("home/.config/ncps/config.yaml"),
        By::Toml => file("ncps.toml"),
        By::Json => file("ncps.json"),
    }
}

#[test]
fn every_option_is_understood_by_each_of_its_names() {
    for by in ALL {
        let places = places();
        let rows = table(&places);
        let shown = shown(by, &rows, &places);
        for row in &rows {
            let expected = (texts(&row.value).join(","), source(by, row, &places));
            assert_eq!(shown[row.flag], expected, "{} by {by:?}", row.flag);
        }
    }
}

#[test]
fn every_option_has_its_default() {
    let places = places();
    let shown = shown(By::Flags, &[], &places);
    for row in table(&places) {
        let (text, source) = &shown[row.flag];
        assert_eq!(*text, row.default, "{}", row.flag);
        assert!(matches!(&**source, "default" | "not set"), "{} {source}", row.flag);
    }
}
