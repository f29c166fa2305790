//! Makes NARs for tests, here and in other crates (feature `test-util`).
//!
//! Encodes whatever it is given: an empty or forbidden name makes a NAR that is refused.

use std::collections::BTreeMap;

use super::{MAGIC, padding};

/// A file system tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// All of it.
        contents: Vec<u8>,
        /// Whether the executable bit is set.
        executable: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A directory: entries by name, in byte order as a NAR wants them.
    Directory(BTreeMap<Vec<u8>, Node>),
}

impl Node {
    /// A plain file.
    pub fn file(contents: impl Into<Vec<u8>>) -> Self {
        Self::File { contents: contents.into(), executable: false }
    }

    /// An executable file.
    pub fn executable(contents: impl Into<Vec<u8>>) -> Self {
        Self::File { contents: contents.into(), executable: true }
    }

    /// A symbolic link.
    pub fn symlink(target: impl Into<Vec<u8>>) -> Self {
        Self::Symlink { target: target.into() }
    }

    /// A directory of these entries.
    pub fn directory<N: Into<Vec<u8>>>(entries: impl IntoIterator<Item = (N, Self)>) -> Self {
        let entries = entries.into_iter();
        Self::Directory(entries.map(|(name, node)| (name.into(), node)).collect())
    }
}

/// The NAR of a tree.
pub fn encode(node: &Node) -> Vec<u8> {
    let mut nar = Vec::new();
    put(&mut nar, MAGIC);
    put_node(&mut nar, node);
    nar
}

fn put(nar: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len() as u64;
    nar.extend(len.to_le_bytes());
    nar.extend(bytes);
    nar.extend(std::iter::repeat_n(0, padding(len).into()));
}

fn put_all(nar: &mut Vec<u8>, strings: &[&[u8]]) {
    for string in strings {
        put(nar, string);
    }
}

fn put_node(nar: &mut Vec<u8>, node: &Node) {
    put_all(nar, &[b"(", b"type"]);
    match node {
        Node::File { contents, executable } => put_file(nar, contents, *executable),
        Node::Symlink { target } => put_all(nar, &[b"symlink", b"target", target]),
        Node::Directory(entries) => put_directory(nar, entries),
    }
    put(nar, b")");
}

fn put_file(nar: &mut Vec<u8>, contents: &[u8], executable: bool) {
    put(nar, b"regular");
    if executable {
        put_all(nar, &[b"executable", b""]);
    }
    put_all(nar, &[b"contents", contents]);
}

fn put_directory(nar: &mut Vec<u8>, entries: &BTreeMap<Vec<u8>, Node>) {
    put(nar, b"directory");
    for (name, node) in entries {
        put_all(nar, &[b"entry", b"(", b"name", name, b"node"]);
        put_node(nar, node);
        put(nar, b")");
    }
}
