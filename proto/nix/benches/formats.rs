//! What one narinfo costs: its hashes in nix32, parsing and printing it, signing and verifying it. It has 30 references,
//! as a large program has. Run it with `cargo bench -p ncps-nix`.
//!
//! Absent on purpose: limits, since machines differ. What was seen is in docs/PERFORMANCE.md.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ncps_nix::{
    Compression, FileHash, NarFileName, NarHash, NarInfo, SecretKey, Sha256Hash, StorePath, StorePathHash,
    TrustedKeys, nix32,
};

const REFERENCES: u8 = 30;

fn hash(of: &str) -> Sha256Hash {
    Sha256Hash::of(of.as_bytes())
}

fn path(name: &str) -> StorePath {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&hash(name).as_bytes()[..20]);
    StorePath::new(StorePathHash::from_bytes(bytes), name).expect("a name of a path")
}

fn key() -> SecretKey {
    SecretKey::generate("cache.example.org-1").expect("a key")
}

fn narinfo(key: &SecretKey) -> NarInfo {
    let file = FileHash(hash("file"));
    let mut narinfo = NarInfo {
        store_path: path("firefox-149.0"),
        url: format!("nar/{}", NarFileName { hash: file, compression: Compression::Xz }),
        compression: Compression::Xz,
        file_hash: Some(file),
        file_size: Some(71_234_567),
        nar_hash: NarHash(hash("nar")),
        nar_size: 271_234_567,
        references: (0..REFERENCES).map(|n| path(&format!("library-of-it-{n}.0"))).collect(),
        deriver: Some(path("firefox-149.0.drv")),
        signatures: Vec::new(),
        ca: None,
    };
    narinfo.signatures.push(key.sign(&narinfo.fingerprint()));
    narinfo
}

fn nix32_of_a_hash(criterion: &mut Criterion) {
    let bytes = *hash("nar").as_bytes();
    let text = nix32::encode(&bytes);
    criterion.bench_function("nix32 encode", |b| b.iter(|| nix32::encode(black_box(&bytes))));
    criterion.bench_function("nix32 decode", |b| b.iter(|| nix32::decode_32(black_box(&text))));
}

fn text_of_a_narinfo(criterion: &mut Criterion) {
    let narinfo = narinfo(&key());
    let text = narinfo.render();
    assert_eq!(NarInfo::parse(text.as_bytes()).as_ref(), Ok(&sorted(narinfo.clone())));
    criterion.bench_function("narinfo parse", |b| b.iter(|| NarInfo::parse(black_box(text.as_bytes()))));
    criterion.bench_function("narinfo print", |b| b.iter(|| black_box(&narinfo).render()));
}

/// References are printed in order.
fn sorted(mut narinfo: NarInfo) -> NarInfo {
    narinfo.references.sort_unstable();
    narinfo
}

fn signature_of_a_narinfo(criterion: &mut Criterion) {
    let key = key();
    let (narinfo, trusted) = (narinfo(&key), TrustedKeys::from_iter([key.public()]));
    assert_eq!(trusted.verify(&narinfo), Some(key.name()));
    criterion.bench_function("narinfo sign", |b| b.iter(|| key.sign(&black_box(&narinfo).fingerprint())));
    criterion.bench_function("narinfo verify", |b| b.iter(|| trusted.verify(black_box(&narinfo)).is_some()));
}

criterion_group!(benches, nix32_of_a_hash, text_of_a_narinfo, signature_of_a_narinfo);
criterion_main!(benches);
