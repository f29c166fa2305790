//! Tests of the whole crate: published vectors, vectors made with real Nix, rules one by one,
//! properties over generated values, and comparison with independent implementations.

mod cache_info;
mod client_config;
mod content_address;
mod hash;
mod keys;
mod nar;
mod nar_file_name;
mod narinfo;
mod nix32;
mod nix_binary;
mod object_name;
mod oracles;
mod self_proof;
mod store_path;
mod strategies;

/// SHA-256 of the NAR of a regular file `hello\n` (120 bytes).
const HELLO_NAR_HASH: &str = "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw";

/// A narinfo with every field, in canonical form.
const FULL: &str = "\
StorePath: /nix/store/00000000000000000000000000000000-hello
URL: nar/1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s.nar.xz
Compression: xz
FileHash: sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s
FileSize: 100
NarHash: sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw
NarSize: 120
References: 00000000000000000000000000000000-hello 11111111111111111111111111111111-dep
Deriver: 22222222222222222222222222222222-hello.drv
Sig: test-1:OyGyTBIPAYY2Rc+FDQwfRAldWUWjXlAVIWvTzmWjE6DESP9SzPrBDAH/P81pLrCw/S+CANx3O9AYAur4hl23CQ==
CA: fixed:r:sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw
";

fn sha256(nix32: &str) -> crate::Sha256Hash {
    crate::Sha256Hash::parse_bare(nix32).expect("a test's own hash")
}
