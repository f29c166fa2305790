//! Eviction: the store stays within its limit while it is used, what was read longest ago goes first, and nobody
//! who reads notices.
//!
//! The test under load takes 20 s in each mode, or `NCPS_LOAD_SECONDS`.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ncps_edge::transfer::Engine;
use ncps_nix::{Compression, NarInfo};
use ncps_tests::cluster::ClusterBuilder;
use ncps_tests::scrape::Scrape;
use ncps_tests::{Cluster, Fixture, Mode, Upstream, UpstreamKey, both_modes, eventually};

use crate::asking::get;
use crate::cli::cli;
use crate::uploads::upload;
use crate::uploads_last;

const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
/// A narinfo file.
const BLOCK: u64 = 4 * KIB;

pub(crate) fn fixtures(key: &UpstreamKey, count: u64, size: u64) -> Vec<Fixture> {
    let fixture =
        |seed| Fixture::new("evicted").seed(seed).size(size).compression(Compression::None).build(key);
    (0..count).map(fixture).collect()
}

pub(crate) async fn upstream_of(fixtures: &[Fixture]) -> Upstream {
    Upstream::with(&fixtures.iter().collect::<Vec<_>>()).await
}

pub(crate) fn limited(mode: Mode, upstream: &Upstream, key: &UpstreamKey, limit: u64) -> ClusterBuilder {
    let builder = Cluster::builder(mode).upstream(upstream).trust(key);
    builder.settings(|settings| settings.max_size = Some(limit))
}

/// Fetches a path as Nix does, and waits until what becomes of it is settled.
pub(crate) async fn fetch(cluster: &Cluster, fixture: &Fixture) {
    cluster.narinfo(fixture).await;
    let (status, body) = cluster.fetch(&fixture.nar_path()).await;
    assert_eq!(status, 200);
    assert!(body.whole() == fixture.file.to_bytes(), "other bytes");
    cluster.quiet().await;
}

pub(crate) fn stored(cluster: &Cluster, fixtures: &[Fixture]) -> Vec<usize> {
    (0..fixtures.len()).filter(|n| cluster.stores(&fixtures[*n].nar_path())).collect()
}

/// What NAR files and narinfos take on the disk.
fn disk_bytes(store: &Path) -> u64 {
    let files =
        |dir: &Path| std::fs::read_dir(dir).expect("the store is there").map(|e| e.expect("listed").path());
    let all = files(store).chain(files(&store.join("nar")));
    // One may go between being listed and being looked at.
    all.filter_map(|path| std::fs::metadata(path).ok())
        .filter(|m| m.is_file())
        .map(|m| m.blocks() * 512)
        .sum()
}

/// What control tells of itself.
pub(crate) fn metric(cluster: &Cluster, name: &str, labels: &[(&str, &str)]) -> f64 {
    Scrape::parse(&cluster.control_telemetry.scrape().expect("asked for")).number(name, labels)
}

/// Every narinfo file names a NAR file that is there.
pub(crate) fn assert_no_orphans(store: &Path) {
    for entry in std::fs::read_dir(store).expect("the store is there") {
        let path = entry.expect("listed").path();
        if path.extension().is_some_and(|e| e == "narinfo") {
            let narinfo = NarInfo::parse(&std::fs::read(&path).expect("read")).expect("it parses");
            assert!(store.join(&narinfo.url).exists(), "{} names nothing", path.display());
        }
    }
}

/// Blocks of these directories and the files in them, as bytes. One that moves from the first to a later one counts
/// once.
fn blocks_in(dirs: &[PathBuf]) -> u64 {
    let entries = dirs.iter().flat_map(|dir| std::fs::read_dir(dir).expect("it is there"));
    let files =
        entries.filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok()).filter(|m| m.is_file());
    let themselves = dirs.iter().map(|dir| std::fs::metadata(dir).expect("it is there"));
    let all = files.chain(themselves).map(|m| (m.ino(), m.blocks() * 512));
    all.collect::<HashMap<_, _>>().values().sum()
}

/// Store and spool, looked at again and again.
struct Watch {
    stop: Arc<AtomicBool>,
    watcher: Option<std::thread::JoinHandle<Most>>,
}

/// The most that was seen, in bytes.
#[derive(Debug, Default)]
struct Most {
    /// How often it could be looked at.
    looks: u32,
    taken: u64,
    /// The same less what running transfers had announced then.
    beyond: u64,
}

impl Most {
    /// What is looked at for longer than this was never there at once.
    const GLANCE: Duration = Duration::from_millis(1);

    fn look(&mut self, dirs: &[PathBuf], engine: &Engine) {
        let (begun, before) = (Instant::now(), engine.spool_reserved());
        let taken = blocks_in(dirs);
        let announced = before.max(engine.spool_reserved());
        if begun.elapsed() < Self::GLANCE {
            self.looks += 1;
            self.taken = self.taken.max(taken);
            self.beyond = self.beyond.max(taken.saturating_sub(announced));
        }
    }
}

impl Watch {
    fn begin(cluster: &Cluster) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let (store, engine) = (cluster.store_dir(), Arc::clone(&cluster.edge.engine));
        let others =
            ["nar", "log", "realisations", "build-trace-v2", "debuginfo"].map(|name| store.join(name));
        let dirs: Vec<_> = [store.with_file_name("spool")].into_iter().chain(others).chain([store]).collect();
        let watcher = std::thread::spawn({
            let (stop, mut most) = (Arc::clone(&stop), Most::default());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    most.look(&dirs, &engine);
                    std::thread::sleep(Duration::from_millis(2));
                }
                most
            }
        });
        Watch { stop, watcher: Some(watcher) }
    }

    fn end(mut self) -> Most {
        self.stop.store(true, Ordering::Relaxed);
        self.watcher.take().expect("it ends once").join().expect("the watcher does not panic")
    }
}

impl Drop for Watch {
    /// Where the test failed, the store goes with it: what is looked at must not go first.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.watcher.take().map(std::thread::JoinHandle::join);
    }
}

/// Until everything came a second time, on a machine that is busy with other things.
const MOST: Duration = Duration::from_secs(300);

/// How long the load lasts.
fn load_time() -> Duration {
    let seconds = std::env::var("NCPS_LOAD_SECONDS").map(|text| text.parse().expect("seconds"));
    Duration::from_secs(seconds.unwrap_or(20))
}

both_modes! {
    async fn the_least_recently_read_goes_and_is_fetched_again(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = fixtures(&key, 4, MIB);
        let upstream = upstream_of(&fixtures).await;
        let cluster = limited(mode, &upstream, &key, 3 * MIB + MIB / 2).start().await;
        for fixture in &fixtures[..3] {
            fetch(&cluster, fixture).await;
        }
        // The first one is the oldest no more.
        assert_eq!(cluster.get(&fixtures[0].nar_path()).await.whole().await.len() as u64, fixtures[0].file.len());
        fetch(&cluster, &fixtures[3]).await;
        assert_eq!(stored(&cluster, &fixtures), [0, 2, 3]);
        assert_no_orphans(&cluster.store_dir());

        let asked = upstream.total();
        cluster.narinfo(&fixtures[1]).await;
        assert_eq!(upstream.total(), asked, "a narinfo outlives its NAR");
        fetch(&cluster, &fixtures[1]).await;
        assert_eq!(upstream.count("GET", &fixtures[1].nar_path()), 2);
        assert_eq!(stored(&cluster, &fixtures), [0, 1, 3]);
        let narinfo = cluster.store_dir().join(fixtures[1].narinfo_path().trim_start_matches('/'));
        assert!(narinfo.exists(), "it lies beside its NAR again");
        assert_no_orphans(&cluster.store_dir());
        cluster.end().await;
    }

    async fn under_load_the_store_keeps_its_limit_and_no_reader_breaks(mode) {
        // Its blocks are about as much as is announced for it: whole mebibytes.
        const SIZE: u64 = MIB - 2 * BLOCK;
        // Eight of them, the directories, and what is always spare fit exactly.
        const LIMIT: u64 = 8 * MIB + 11 * BLOCK;
        const READERS: usize = 20;
        const WRITERS: usize = 5;
        // Writers that upload; the others fetch what is not here.
        const UPLOADERS: usize = 2;
        // What readers read, and what each writer brings in turn: both are more than there is room for.
        const READ: usize = 12;
        const WRITTEN: usize = 4;
        let key = UpstreamKey::new("upstream-1");
        let mut all = fixtures(&key, (READ + (WRITERS - UPLOADERS) * WRITTEN) as u64, SIZE);
        let brought = uploads_last::brought((UPLOADERS * WRITTEN) as u64, SIZE);
        let needed = Fixture::new("needed").size(SIZE).compression(Compression::None).build(&key);
        let root = Fixture::new("root").size(SIZE).compression(Compression::None);
        let root = root.references(std::slice::from_ref(&needed.narinfo.store_path)).build(&key);
        all.extend([root, needed]);
        let pinned = all.len() - 2..all.len();
        let upstream = upstream_of(&all).await;
        let cluster = Arc::new(uploads_last::limited(mode, &upstream, &key, LIMIT).start().await);
        for fixture in &all {
            cluster.narinfo(fixture).await;
        }
        for fixture in &all[pinned.clone()] {
            fetch(&cluster, fixture).await;
        }
        cli(&cluster).ok(&["pin", "add", &all[pinned.start].hash_part()]).await;
        let (all, brought) = (Arc::new(all), Arc::new(brought));
        let watch = Watch::begin(&cluster);
        let (enough, uploads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |turns: Vec<usize>| {
            let (cluster, all, enough) = (Arc::clone(&cluster), Arc::clone(&all), Arc::clone(&enough));
            tokio::spawn(async move {
                for n in turns.iter().cycle() {
                    let fixture = &all[*n];
                    let (status, body) = cluster.fetch(&fixture.nar_path()).await;
                    assert_eq!(status, 200);
                    assert!(body.whole() == fixture.file.to_bytes(), "other bytes");
                    if enough.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        };
        let readers = (0..READERS).map(|r| (0..READ).map(|n| (n * [1, 5, 7, 11][r % 4] + r) % READ).collect());
        let writers = (0..WRITERS - UPLOADERS).map(|w| (0..WRITTEN).map(|n| READ + w * WRITTEN + n).collect());
        let uploader = |u: usize| {
            let (cluster, brought) = (Arc::clone(&cluster), Arc::clone(&brought));
            let (enough, uploads) = (Arc::clone(&enough), Arc::clone(&uploads));
            tokio::spawn(async move {
                for fixture in brought[u * WRITTEN..][..WRITTEN].iter().cycle() {
                    upload(&cluster, "", fixture).await;
                    uploads.fetch_add(1, Ordering::Relaxed);
                    let nar = get(&cluster, &fixture.nar_path()).await;
                    // Others may have needed its room at once, and control may not have heard yet that it went.
                    let is_whole = nar.status == 200 && nar.body == fixture.file.to_bytes();
                    assert!(is_whole || [404, 503].contains(&nar.status), "{}", nar.status);
                    if enough.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        };
        let uploaders: Vec<_> = (0..UPLOADERS).map(uploader).collect();
        let clients: Vec<_> = readers.chain(writers).map(client).collect();
        // What was evicted is fetched again, and what was uploaded comes again, however long that takes here.
        let came_again =
            || upstream.count("GET", "/nar/") > 2 * all.len() && uploads.load(Ordering::Relaxed) > 2 * brought.len();
        let start = Instant::now();
        while start.elapsed() < load_time() || !came_again() {
            assert_eq!(stored(&cluster, &all[pinned.clone()]), [0, 1], "the pinned closure is whole");
            let all_go_on = clients.iter().chain(&uploaders).all(|client| !client.is_finished());
            assert!(all_go_on && start.elapsed() < load_time() + MOST, "{uploads:?} uploads");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        enough.store(true, Ordering::Relaxed);
        for client in clients.into_iter().chain(uploaders) {
            client.await.expect("no client breaks, and no upload is refused");
        }
        cluster.quiet().await;
        let most = watch.end();
        println!("{most:?}, {} fetches, {uploads:?} uploads", upstream.count("GET", "/nar/"));
        assert!(f64::from(most.looks) > 10.0 * load_time().as_secs_f64(), "every 100 ms or more often: {most:?}");
        assert!(most.taken > LIMIT, "with what is on its way: {most:?}");
        assert!(most.beyond <= LIMIT, "{most:?} with a limit of {LIMIT}");
        eventually("it is within its limit", async || disk_bytes(&cluster.store_dir()) <= LIMIT).await;
        for fixture in brought.iter() {
            let is_there = cluster.stores(&fixture.nar_path());
            let status = if is_there { 200 } else { 404 };
            let narinfo = fixture.narinfo_path();
            eventually("narinfo and NAR go together", async || get(&cluster, &narinfo).await.status == status).await;
            assert_eq!(get(&cluster, &fixture.nar_path()).await.status, status);
        }
        assert_eq!(stored(&cluster, &all[pinned]), [0, 1]);
        assert_no_orphans(&cluster.store_dir());
        Arc::into_inner(cluster).expect("the clients are gone").end().await;
    }

    async fn who_reads_an_evicted_file_reads_on(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = fixtures(&key, 3, 6 * MIB);
        let upstream = upstream_of(&fixtures).await;
        let cluster = limited(mode, &upstream, &key, 16 * MIB).start().await;
        for fixture in &fixtures[..2] {
            fetch(&cluster, fixture).await;
        }
        let mut reading = cluster.get(&fixtures[0].nar_path()).await;
        let head = reading.bytes(1000).await.expect("it has begun");
        fetch(&cluster, &fixtures[2]).await;
        assert_eq!(stored(&cluster, &fixtures), [0, 2]);
        fetch(&cluster, &fixtures[1]).await;
        assert_eq!(stored(&cluster, &fixtures), [1, 2]);
        let rest = reading.whole().await;
        assert!([head, rest].concat() == fixtures[0].file.to_bytes(), "other bytes");
        cluster.end().await;
    }

    async fn a_lower_limit_counts_from_the_start(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = fixtures(&key, 4, MIB);
        let upstream = upstream_of(&fixtures).await;
        let cluster = limited(mode, &upstream, &key, 100 * MIB).start().await;
        for fixture in &fixtures {
            fetch(&cluster, fixture).await;
        }
        let cluster = cluster.restart(limited(mode, &upstream, &key, 2 * MIB)).await;
        let store = cluster.store_dir();
        eventually("it is within its new limit", async || disk_bytes(&store) <= 2 * MIB).await;
        assert_eq!(stored(&cluster, &fixtures).len(), 1, "down to 90 %");
        assert_no_orphans(&store);
        cluster.end().await;
    }

    async fn on_schedule_it_runs_again_and_again(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = fixtures(&key, 3, MIB);
        let upstream = upstream_of(&fixtures).await;
        let cluster = limited(mode, &upstream, &key, 2 * MIB + MIB / 2).eviction_schedule("@every 1s").prometheus();
        let cluster = cluster.start().await;
        for fixture in &fixtures {
            fetch(&cluster, fixture).await;
        }
        assert_eq!(stored(&cluster, &fixtures), [1, 2], "beside it, what has to go goes at once");
        let runs = || metric(&cluster, "ncps_lru_cleanup_runs_total", &[("trigger", "schedule")]);
        let before = runs();
        eventually("it runs on schedule", async || runs() >= before + 2.0).await;
        assert_eq!(stored(&cluster, &fixtures), [1, 2], "without need it removes nothing");
        assert_eq!(metric(&cluster, "ncps_lru_nar_files_evicted_total", &[]), 1.0);
        cluster.end().await;
    }

    async fn evictions_are_counted(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = fixtures(&key, 5, MIB);
        let upstream = upstream_of(&fixtures).await;
        let limit = 3 * MIB + MIB / 2;
        let cluster = limited(mode, &upstream, &key, limit).prometheus().start().await;
        let number = |name| metric(&cluster, name, &[]);
        assert_eq!(number("ncps_lru_nar_files_evicted_total"), 0.0);
        assert_eq!(number("ncps_cache_max_size_bytes"), limit as f64);
        let mut fetched = 0;
        for fixture in &fixtures {
            fetch(&cluster, fixture).await;
            fetched += fixture.file.len().next_multiple_of(BLOCK);
        }
        let left: u64 = cluster.stored_files().iter().map(|name| {
            let stored = std::fs::metadata(cluster.store_dir().join("nar").join(name)).expect("stored");
            stored.blocks() * 512
        }).sum();
        // There was room as soon as the edge had removed them. Control counts when it has heard so.
        let freed = (fetched - left) as f64;
        eventually("what was really freed", async || number("ncps_lru_bytes_freed_total") == freed).await;
        assert_eq!(number("ncps_lru_nar_files_evicted_total"), 2.0);
        // One more may run meanwhile, and removes nothing.
        let runs = || metric(&cluster, "ncps_lru_cleanup_runs_total", &[("trigger", "pressure")]);
        assert!(runs() >= 2.0);
        let timed = || number("ncps_lru_cleanup_duration_seconds_count");
        eventually("each of them is timed", async || timed() == runs()).await;
        let taken = disk_bytes(&cluster.store_dir()) as f64 / limit as f64;
        cluster.edge.accesses.report_now();
        eventually("the edge has said how full it is", async || {
            (number("ncps_cache_utilization_ratio") - taken).abs() < 0.01
        }).await;
        cluster.end().await;
    }

    async fn a_file_larger_than_the_limit_is_served_and_evicts_nothing(mode) {
        let key = UpstreamKey::new("upstream-1");
        let small = fixtures(&key, 1, MIB);
        let large = Fixture::new("large").size(5 * MIB).compression(Compression::None).build(&key);
        let upstream = Upstream::with(&[&small[0], &large]).await;
        let cluster = limited(mode, &upstream, &key, 4 * MIB).start().await;
        fetch(&cluster, &small[0]).await;
        fetch(&cluster, &large).await;
        fetch(&cluster, &large).await;
        assert_eq!(upstream.count("GET", &large.nar_path()), 2);
        assert_eq!(cluster.stored_files().len(), 1);
        assert!(cluster.stores(&small[0].nar_path()));
        cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_limit_and_without_control_nothing_new_is_kept() {
    let key = UpstreamKey::new("upstream-1");
    let fixtures = fixtures(&key, 2, MIB);
    let upstream = upstream_of(&fixtures).await;
    let cluster = limited(Mode::Split, &upstream, &key, 2 * MIB).start().await;
    fetch(&cluster, &fixtures[0]).await;
    cluster.narinfo(&fixtures[1]).await;
    let link = cluster.link.as_ref().expect("split");
    link.refuse().await;
    let (status, body) = cluster.fetch(&fixtures[1].nar_path()).await;
    assert_eq!(status, 200);
    assert!(body.whole() == fixtures[1].file.to_bytes(), "other bytes");
    cluster.quiet().await;
    assert_eq!(stored(&cluster, &fixtures), [0]);

    link.mend().await;
    eventually("room is made again", async || {
        cluster.fetch(&fixtures[1].nar_path()).await;
        cluster.quiet().await;
        stored(&cluster, &fixtures) == [1]
    })
    .await;
    cluster.end().await;
}
