//! The NAR of a fixture: a directory with one big file, a link to it and a small program.
//! Written around content that is never whole in memory, which is why it is done here.

use bytes::Bytes;

use crate::Body;
use crate::noise::Noise;

const PROGRAM: &[u8] = b"#!/bin/sh\nexec cat \"${0%/*}/data\"\n";

/// The NAR of `{data: content, link -> data, run: a program}`.
pub(crate) fn around(content: Noise) -> Body {
    let head = head(content.len());
    let tail = tail(content.len());
    Body::made(head, content, tail)
}

fn head(len: u64) -> Bytes {
    let mut out = Vec::new();
    strings(&mut out, &["nix-archive-1", "(", "type", "directory"]);
    strings(&mut out, &["entry", "(", "name", "data", "node", "(", "type", "regular", "contents"]);
    out.extend_from_slice(&len.to_le_bytes());
    out.into()
}

fn tail(len: u64) -> Bytes {
    let mut out = Vec::new();
    pad(&mut out, len);
    strings(&mut out, &[")", ")"]);
    strings(&mut out, &["entry", "(", "name", "link", "node"]);
    strings(&mut out, &["(", "type", "symlink", "target", "data", ")", ")"]);
    strings(&mut out, &["entry", "(", "name", "run", "node"]);
    strings(&mut out, &["(", "type", "regular", "executable", "", "contents"]);
    string(&mut out, PROGRAM);
    strings(&mut out, &[")", ")", ")"]);
    out.into()
}

fn strings(out: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        string(out, text.as_bytes());
    }
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
    pad(out, bytes.len() as u64);
}

fn pad(out: &mut Vec<u8>, len: u64) {
    let padding = len.next_multiple_of(8) - len;
    out.resize(out.len() + padding as usize, 0);
}

#[cfg(test)]
mod tests {
    use ncps_nix::nar::build::{Node, encode};

    use super::*;
    use crate::noise::Look;

    #[test]
    fn is_the_nar_of_that_tree() {
        for len in [0, 1, 7, 8, 9, 1000] {
            let noise = Noise::new(1, len, Look::Random);
            let mut content = Vec::new();
            noise.append(0, 1000, &mut content);
            let entries = [
                ("data", Node::file(content)),
                ("link", Node::symlink("data")),
                ("run", Node::executable(PROGRAM)),
            ];
            assert_eq!(around(noise).to_bytes(), encode(&Node::directory(entries)), "{len}");
        }
    }
}
