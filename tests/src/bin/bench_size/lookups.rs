//! How long control takes to find a narinfo of a small index and of a large one, which it has not found before. Asked in
//! one process, one after the other, as no network and no HTTP makes both alike. What is asked first is known to the page
//! cache alone.

use std::sync::Arc;
use std::time::Instant;

use ncps_control::Control;
use ncps_proto::{ControlPlane, Lookup};
use ncps_tests::bench::{Target, median, paths, row};
use ncps_tests::{Cluster, Mode, SplitMix};
use tempfile::TempDir;

use crate::made::{self, Large};

const SMALL: usize = 50_000;
const ROUNDS: usize = 11;
/// Lookups of a round.
const EACH: usize = 2_000;

pub(crate) async fn measure(large: &Large) {
    let small_dir = made::small(SMALL).await;
    let (small, large_one) = (cluster(small_dir).await, cluster(Arc::clone(&large.dir)).await);
    let mut chance = SplitMix(1);
    let (mut of_small, mut of_large) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let small = look_up(small.control(), SMALL, &mut chance).await;
        let large = look_up(large_one.control(), large.paths, &mut chance).await;
        // The first one pays for statements and pages that all others need.
        if round > 0 {
            of_small.push(small);
            of_large.push(large);
        }
    }
    small.end().await;
    large_one.end().await;
    let (small, large) = (median(of_small), median(of_large));
    let how = format!("{small:.0} µs of {SMALL}, {large:.0} µs");
    row("large index: a lookup takes longer", large / small, "times", Target::AtMost(2.0), &how);
}

async fn cluster(data: Arc<TempDir>) -> Cluster {
    Cluster::builder(Mode::Combined).on(data).start().await
}

/// The median time of a lookup, in microseconds.
async fn look_up(control: &Control, of: usize, chance: &mut SplitMix) -> f64 {
    let mut took = Vec::with_capacity(EACH);
    for _ in 0..EACH {
        let hash = paths::hash((chance.next() % of as u64) as usize);
        let began = Instant::now();
        let found = control.narinfo(hash).await.expect("an answer");
        took.push(began.elapsed().as_secs_f64() * 1e6);
        assert!(matches!(found, Lookup::Known(narinfo) if narinfo.store_path.hash() == hash));
    }
    median(took)
}
