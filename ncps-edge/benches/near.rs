//! The near cache with 20,000 narinfos in it: one that is found, and one that is put where another has to leave. Run it
//! with `cargo bench -p ncps-edge`.
//!
//! Absent on purpose: limits, since machines differ (what was seen is in docs/PERFORMANCE.md), and several threads at once,
//! which says more of the machine than of the cache.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use ncps_edge::near::{NearCache, Served};
use ncps_nix::{Compression, FileHash, NarFileName, Sha256Hash, StorePathHash};

const ENTRIES: usize = 20_000;
/// Bytes of a narinfo with some 20 references.
const BODY: usize = 1536;
/// What such an entry costs in the cache, its overhead included.
const COST: u64 = 2048;

fn served(n: usize) -> Arc<Served> {
    let digest = Sha256Hash::of(&n.to_le_bytes());
    let mut hash = [0; 20];
    hash.copy_from_slice(&digest.as_bytes()[..20]);
    Arc::new(Served {
        hash: StorePathHash::from_bytes(hash),
        nar: NarFileName { hash: FileHash(digest), compression: Compression::Xz },
        body: Bytes::from(vec![b'x'; BODY]),
    })
}

fn filled(room_for: usize, all: &[Arc<Served>]) -> NearCache {
    let near = NearCache::new(room_for as u64 * COST);
    all.iter().for_each(|served| near.put(Arc::clone(served), near.epoch()));
    near
}

fn hit(criterion: &mut Criterion) {
    let all: Vec<_> = (0..ENTRIES).map(served).collect();
    // With room to spare all of them stay: its parts do not fill evenly.
    let near = filled(2 * ENTRIES, &all);
    assert_eq!(near.len(), ENTRIES);
    let mut next = all.iter().cycle();
    criterion.bench_function("near cache hit", |b| {
        b.iter(|| near.get(black_box(next.next().expect("a cycle has no end").hash)))
    });
}

fn put(criterion: &mut Criterion) {
    // Twice as many as it has room for, so that each is new to it when its turn comes again.
    let all: Vec<_> = (0..2 * ENTRIES).map(served).collect();
    let near = filled(ENTRIES, &all);
    assert!(near.len() <= ENTRIES);
    let mut next = all.iter().cycle();
    criterion.bench_function("near cache put", |b| {
        b.iter(|| near.put(Arc::clone(black_box(next.next().expect("a cycle has no end"))), near.epoch()))
    });
}

criterion_group!(benches, hit, put);
criterion_main!(benches);
