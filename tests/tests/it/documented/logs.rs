//! `docs/LOGS.md`: every line of the levels that operators see, found in the source, and every field that it may have.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::pages::root;
use crate::house::is_fresh;

const HEAD: &str = include_str!("logs_head.md");
const PROGRAMS: [(&str, &str); 4] = [
    ("ncps-edge/src", "edge"),
    ("ncps-control/src", "control"),
    ("ncps-cli/src", "both"),
    ("proto/runtime/src", "both"),
];
const LEVELS: [&str; 3] = ["error", "warn", "info"];

/// A call of a logging macro.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    message: String,
    who: &'static str,
    fields: Vec<String>,
}

fn is_test(path: &Path) -> bool {
    path.iter().any(|part| part == "tests") || path.to_string_lossy().ends_with("tests.rs")
}

fn sources(dir: &Path, all: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            sources(&path, all);
        } else if !is_test(&path) {
            all.push(std::fs::read_to_string(path).expect("text"));
        }
    }
}

/// Where a piece of Rust ends that begins inside a bracket; at each comma on the way outside of others it is told so.
fn end(text: &str, mut comma: impl FnMut(usize)) -> usize {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 1 => comma(at),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn arguments(text: &str) -> Vec<&str> {
    let mut cuts = Vec::new();
    let end = end(text, |at| cuts.push(at));
    let starts = std::iter::once(0).chain(cuts.iter().map(|at| at + 1));
    let ends = cuts.iter().copied().chain([end]);
    starts.zip(ends).map(|(start, end)| text[start..end].trim()).filter(|part| !part.is_empty()).collect()
}

/// A message with its line breaks undone, or nothing for a field.
fn message(argument: &str) -> Option<String> {
    let text = argument.strip_prefix('"')?.strip_suffix('"')?;
    let lines = text.split("\\\n").enumerate();
    Some(lines.map(|(n, line)| if n == 0 { line } else { line.trim_start() }).collect())
}

/// `upstream = self.name`, `%error`, `self.count`.
fn field(argument: &str) -> String {
    let name = argument.split('=').next().unwrap_or_default().trim().trim_start_matches(['%', '?']);
    name.rsplit('.').next().unwrap_or_default().to_owned()
}

fn lines(level: &str) -> BTreeSet<Line> {
    let (mut found, call) = (BTreeSet::new(), format!("tracing::{level}!("));
    for (dir, who) in PROGRAMS {
        let mut all = Vec::new();
        sources(&root().join(dir), &mut all);
        let calls = all.iter().flat_map(|text| text.split(&*call).skip(1));
        found.extend(calls.filter_map(|call| line(&arguments(call), who)));
    }
    found
}

/// `None` where the message is not written down in the call.
fn line(arguments: &[&str], who: &'static str) -> Option<Line> {
    let message = arguments.iter().find_map(|argument| message(argument))?;
    let fields = arguments.iter().take_while(|argument| !argument.starts_with('"'));
    Some(Line { message, who, fields: fields.map(|argument| field(argument)).collect() })
}

fn table(level: &str) -> String {
    let mut text = String::from("| message | of | fields |\n| --- | --- | --- |\n");
    for Line { message, who, fields } in lines(level) {
        let fields = fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
        let fields = if fields.is_empty() { "–".to_owned() } else { fields };
        writeln!(text, "| {} | {who} | {fields} |", message.replace('|', "\\|")).expect("a String takes it");
    }
    text
}

#[test]
fn the_page_is_fresh() {
    let tables = LEVELS.map(|level| format!("\n## {level}\n\n{}", table(level)));
    let fresh = format!("{HEAD}{}", tables.concat());
    is_fresh("LOGS.md", &fresh);
}

#[test]
fn every_field_has_a_meaning_and_every_meaning_a_field() {
    let cells = HEAD.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let meant: BTreeSet<&str> = cells.flat_map(|cell| cell.trim_end_matches('`').split("`, `")).collect();
    let said: BTreeSet<String> =
        LEVELS.iter().flat_map(|level| lines(level)).flat_map(|line| line.fields).collect();
    assert!(said.len() > 50, "{said:?}");
    let unknown: Vec<_> = said.iter().filter(|field| !meant.contains(field.as_str())).collect();
    let unsaid: Vec<_> = meant.iter().filter(|field| !said.contains(**field)).collect();
    assert!(
        unknown.is_empty() && unsaid.is_empty(),
        "without a meaning: {unknown:?}; never said: {unsaid:?}"
    );
}
