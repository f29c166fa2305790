//! The planner of eviction over 100,000 files: a tenth of their bytes is missing, as past a size limit, or a file's worth.
//! Run it with `cargo bench -p ncps-control`.
//!
//! Absent on purpose: limits, since machines differ (what was seen is in docs/PERFORMANCE.md), and the index, which tells
//! the planner what is held.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ncps_control::planner::{Access, Candidate, plan};
use ncps_nix::{Compression, FileHash, NarFileName, Sha256Hash};
use ncps_runtime::clock::UnixTime;

const FILES: u32 = 100_000;
/// Of all accesses.
const DAYS: u64 = 30;

/// Every file by its number, with what follows from the hash of it: read at any time, one of 20 pinned, of 10 uploaded, of
/// 4 held by others, too.
fn candidate(n: u32) -> Candidate {
    let digest = Sha256Hash::of(&n.to_le_bytes());
    let noise = |at: usize| u64::from(u32::from_le_bytes([0, 1, 2, 3].map(|i| digest.as_bytes()[at + i])));
    let at = UnixTime((noise(0) % (DAYS * 86_400)) as i64);
    Candidate {
        name: NarFileName { hash: FileHash(digest), compression: Compression::Xz },
        bytes: 4096 + noise(4) % (4 << 20),
        accessed: Access { at, order: 0 },
        in_flight: false,
        pinned: noise(8).is_multiple_of(20),
        uploaded: noise(12).is_multiple_of(10),
        spare: noise(16).is_multiple_of(4),
        superseded: false,
    }
}

fn planner(criterion: &mut Criterion) {
    let held: Vec<_> = (0..FILES).map(candidate).collect();
    let all: u64 = held.iter().map(|candidate| candidate.bytes).sum();
    for (name, missing) in [("plan of a tenth", all / 10), ("plan of one file", 2 << 20)] {
        let planned = plan(held.iter().copied(), missing);
        assert!(planned.shortfall == 0 && planned.bytes >= missing);
        criterion
            .bench_function(name, |b| b.iter(|| plan(black_box(&held).iter().copied(), black_box(missing))));
    }
}

criterion_group!(benches, planner);
criterion_main!(benches);
