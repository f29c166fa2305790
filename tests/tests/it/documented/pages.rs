//! The documents, and the blocks of commands in them.

use std::path::{Path, PathBuf};

/// Stands before a block that is not run.
const NOT_RUN: &str = "<!-- not run: ";

pub(super) struct Page {
    /// From the root, such as `docs/CLI.md`.
    pub(super) name: String,
    pub(super) text: String,
}

/// Commands between ```` ```sh ```` and the end of the fence.
#[derive(Debug)]
pub(super) struct Block {
    /// Where its first command stands.
    pub(super) line: usize,
    pub(super) text: String,
    /// Why it is not run.
    pub(super) not_run: Option<String>,
}

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace").to_owned()
}

/// The README and what is in `docs`.
pub(super) fn pages() -> Vec<Page> {
    let docs = std::fs::read_dir(root().join("docs")).expect("there are documents");
    let names = docs.map(|entry| format!("docs/{}", entry.expect("listed").file_name().display()));
    let all = names.chain(["README.md".to_owned()]).filter(|name| name.ends_with(".md"));
    all.map(|name| Page { text: std::fs::read_to_string(root().join(&name)).expect("a page"), name })
        .collect()
}

impl Page {
    /// Its blocks of commands.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut open, mut before) = (Vec::new(), None, "");
        for (number, line) in self.text.lines().enumerate() {
            let line = line.trim();
            match (&mut open, line) {
                (None, "```sh") => {
                    open = Some(Block { line: number + 2, text: String::new(), not_run: reason(before) })
                }
                (Some(_), "```") => blocks.extend(open.take()),
                (Some(Block { text, .. }), _) => *text += &format!("{line}\n"),
                (None, "") => continue,
                (None, _) => {}
            }
            before = line;
        }
        assert!(open.is_none(), "{}: a fence that does not end", self.name);
        blocks
    }

    /// Lines that are in no fence of any kind, with their numbers.
    pub(super) fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut fenced = false;
        self.text.lines().enumerate().map(|(number, line)| (number + 1, line)).filter(move |(_, line)| {
            let is_fence = line.trim().starts_with("```");
            fenced ^= is_fence;
            !fenced && !is_fence
        })
    }
}

fn reason(line: &str) -> Option<String> {
    let why = line.strip_prefix(NOT_RUN)?.strip_suffix("-->")?.trim();
    assert!(why.len() > 10, "{line}: that is no reason");
    Some(why.to_owned())
}
