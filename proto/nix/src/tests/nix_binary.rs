//! Agreement with the `nix-store` of this machine, if there is one; the same facts without it
//! stand as vectors in the other modules.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use super::sha256;
use crate::nar::build::{Node, encode};
use crate::{NarHash, nar};

fn tree() -> Node {
    Node::directory([
        ("a.txt", Node::file("hello\n")),
        ("link", Node::symlink("a.txt")),
        ("run", Node::executable("#!/bin/sh\n")),
        ("sub", Node::directory([("empty", Node::file(""))])),
    ])
}

fn write(path: &Path, node: &Node) -> io::Result<()> {
    match node {
        Node::File { contents, executable } => {
            fs::write(path, contents)?;
            let mode = if *executable { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        }
        Node::Symlink { target } => symlink(os_str(target), path),
        Node::Directory(entries) => {
            fs::create_dir(path)?;
            entries.iter().try_for_each(|(name, node)| write(&path.join(os_str(name)), node))
        }
    }
}

fn os_str(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// `nix-store --dump tree | wc -c` and `nix-hash --type sha256 --base32 tree`, Nix 2.8.
#[test]
fn the_nar_of_a_tree() {
    let mut hasher = nar::Hasher::new();
    hasher.update(&encode(&tree()));
    let hash = sha256("00svd918zjgnlf094g951f8r6zwmn36gpq42j9rfbnzxyk7k9isb");
    assert_eq!(hasher.finish(), (NarHash(hash), 1064));
}

#[test]
fn what_nix_dumps() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("tree");
    write(&path, &tree()).expect("written");
    let dump = Command::new("nix-store").arg("--dump").arg(&path).output();
    match dump {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("no nix-store on PATH: not compared");
        }
        dump => assert_eq!(dump.expect("nix-store runs").stdout, encode(&tree())),
    }
}
