//! What bounds the work of an edge: decoders that keep a core busy, and disk that downloads reserve. Past a bound
//! downloads wait, and all of them are served.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ncps_nix::Compression;
use ncps_proto::EdgeSettings;
use ncps_tests::{Cluster, Fixture, Gate, Rule, always, both_modes, eventually};
use tokio_util::sync::CancellationToken;

use crate::asking::get;
use crate::scene::{empty_with, learn, plain};

const A_WHILE: Duration = Duration::from_millis(200);
/// Longer than anything here waits.
const NO_HURRY: Duration = Duration::from_secs(600);
const BETWEEN_LOOKS: Duration = Duration::from_micros(50);
const MIB: u64 = 1 << 20;

/// The highest value that is seen while a future runs, from a thread that looks often.
async fn highest<T>(value: impl Fn() -> u64 + Send + 'static, future: impl Future<Output = T>) -> (u64, T) {
    let over = CancellationToken::new();
    let stop = over.clone();
    // Stops the looks also where the future panics: the runtime waits for its threads.
    let over = over.drop_guard();
    let looks = tokio::task::spawn_blocking(move || {
        let mut highest = 0;
        while !stop.is_cancelled() {
            highest = highest.max(value());
            std::thread::sleep(BETWEEN_LOOKS);
        }
        highest
    });
    let done = future.await;
    drop(over);
    (looks.await.expect("it only looks"), done)
}

/// All at once, and each as it should be.
async fn all_are_served(cluster: &Cluster, fixtures: &[Fixture]) {
    let fetch = async |fixture: &Fixture| get(cluster, &fixture.nar_path()).await;
    let told = join_all(fixtures.iter().map(fetch)).await;
    for (fixture, told) in fixtures.iter().zip(told) {
        assert!(told.status == 200 && told.body == fixture.file.to_bytes(), "{}", fixture.nar_path());
    }
    cluster.quiet().await;
}

both_modes! {
    async fn no_more_than_max_decoders_are_busy(mode) {
        let one = |settings: &mut EdgeSettings| {
            (settings.max_decoders, settings.idle_timeout) = (1, NO_HURRY);
        };
        let (cluster, [upstream], key) = empty_with(mode, one).await;
        let zstd = |seed| plain(4 * MIB).seed(seed).compression(Compression::Zstd).build(&key);
        let fixtures: Vec<_> = (0..20).map(zstd).collect();
        for fixture in &fixtures {
            learn(&cluster, std::slice::from_ref(&upstream), fixture).await;
        }
        let engine = Arc::clone(&cluster.edge.engine);
        let (most, ()) = highest(move || engine.decoders_busy(), all_are_served(&cluster, &fixtures)).await;
        assert_eq!((most, cluster.edge.engine.decoders_busy()), (1, 0), "the most, and at the end");
        cluster.end().await;
    }

    async fn downloads_wait_for_room_in_the_spool(mode) {
        // Room is counted in MiB: two of these files fit, three do not.
        const ROOM: u64 = 5 * MIB;
        let small = |settings: &mut EdgeSettings| {
            (settings.max_spool_bytes, settings.idle_timeout) = (ROOM, NO_HURRY);
            settings.header_timeout = NO_HURRY;
        };
        let (cluster, [upstream], key) = empty_with(mode, small).await;
        let fixture = |seed| plain(3 * MIB / 2).seed(seed).build(&key);
        let mut fixtures: Vec<_> = (0..6).map(fixture).collect();
        // One that is larger than all the room gets all of it.
        fixtures.push(plain(2 * ROOM).seed(6).build(&key));
        for fixture in &fixtures {
            learn(&cluster, std::slice::from_ref(&upstream), fixture).await;
        }
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").pause_at(MIB, &gate));
        let engine = &cluster.edge.engine;
        let spools = || cluster.edge.store.spool_files().expect("listed");
        let upstream_side = async {
            eventually("all are asked for", async || engine.running() == fixtures.len()).await;
            eventually("some have room", async || engine.spool_reserved() > 0 && spools() > 0).await;
            always("the others wait", A_WHILE, async || engine.spool_reserved() <= ROOM && spools() <= 2).await;
            gate.open();
        };
        let served = async { tokio::join!(all_are_served(&cluster, &fixtures), upstream_side) };
        let watched = Arc::clone(engine);
        let (most, _) = highest(move || watched.spool_reserved(), served).await;
        assert_eq!((most, engine.spool_reserved()), (ROOM, 0), "the most, and at the end");
        cluster.end().await;
    }
}
