//! Messages that the page of symptoms quotes as ours, between backticks in its first table, are in the source.

use std::path::Path;

use super::pages::{pages, root};

const SOURCES: [&str; 4] = ["ncps-cli/src", "ncps-control/src", "ncps-edge/src", "proto/runtime/src"];

fn source(dir: &Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            source(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &std::fs::read_to_string(path).expect("text");
        }
    }
}

#[test]
fn what_it_says_when_it_does_not_start() {
    let pages = pages();
    let page = pages.iter().find(|page| page.name == "docs/TROUBLESHOOTING.md").expect("a page of symptoms");
    let table =
        page.text.split("## ").find(|part| part.starts_with("It does not start")).expect("its first table");
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let quotes: Vec<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let mut text = String::new();
    SOURCES.iter().for_each(|dir| source(&root().join(dir), &mut text));
    let missing: Vec<_> =
        quotes.iter().filter(|quote| quote.contains(' ') && !text.contains(**quote)).collect();
    assert!(quotes.len() > 5 && missing.is_empty(), "{missing:?} of {quotes:?}");
}
