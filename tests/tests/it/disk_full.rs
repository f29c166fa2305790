//! A disk that is full before, during and at the end of a cold read: clients get the whole all the same, nothing
//! wrong is kept, and all is well again as soon as there is room. The data path is a small file system of its own;
//! to mount one takes root. (Line 69 of the protocol's conformance checklist.)

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use ncps_nix::{Compression, NarInfo};
use ncps_proto::MinFree;
use ncps_tests::cluster::ClusterBuilder;
use ncps_tests::scrape::Scrape;
use ncps_tests::{
    Cluster, Fixture, Framing, Gate, Mode, Mount, Outcome, Request, Rule, Upstream, UpstreamKey, both_modes,
    eventually,
};
use tempfile::TempDir;

use crate::eviction::metric;

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 1 << 12;

/// A data path on a file system of 24 MiB.
struct SmallDisk {
    /// Unmounted before its directory goes.
    disk: Mount,
    dir: Arc<TempDir>,
}

impl SmallDisk {
    /// `None`, and a note, where file systems can't be mounted.
    fn mount() -> Option<SmallDisk> {
        let dir = Arc::new(TempDir::new().expect("a temporary directory"));
        Some(SmallDisk { disk: Mount::small_disk(&dir.path().join("data"))?, dir })
    }

    fn cluster(&self, mode: Mode, upstream: &Upstream, key: &UpstreamKey) -> ClusterBuilder {
        Cluster::builder(mode).upstream(upstream).trust(key).on(Arc::clone(&self.dir))
    }
}

impl Deref for SmallDisk {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        &self.disk
    }
}

fn fixture(key: &UpstreamKey, name: &str, compression: Compression) -> Fixture {
    Fixture::new(name).size(3 * MIB).compression(compression).build(key)
}

/// Of a size that nobody knows beforehand, so that nothing can be reserved for it.
fn of_unknown_size(key: &UpstreamKey, compression: Compression) -> Fixture {
    fixture(key, "unknown-size", compression).changed(|narinfo| narinfo.file_size = None)
}

async fn assert_whole(cluster: &Cluster, fixture: &Fixture) {
    let (status, body) = cluster.fetch(&fixture.nar_path()).await;
    assert_eq!(status, 200);
    assert!(body.whole() == fixture.file.to_bytes(), "other bytes");
}

/// All is well: it is kept, and served from the store.
async fn assert_kept(cluster: &Cluster, fixture: &Fixture, upstream: &Upstream) {
    assert_whole(cluster, fixture).await;
    cluster.quiet().await;
    assert!(cluster.stores(&fixture.nar_path()));
    let asked = upstream.count("GET", "/nar/");
    assert_whole(cluster, fixture).await;
    assert_eq!(upstream.count("GET", "/nar/"), asked);
}

/// The length of the largest file in a directory.
fn largest(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("it is there");
    let lengths = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    lengths.max().unwrap_or(0)
}

/// The narinfo file beside it is absent, or says what is so and names what is there.
fn assert_no_lie_in_narinfos(cluster: &Cluster, fixture: &Fixture) {
    let store = cluster.store_dir();
    let Ok(text) = std::fs::read(store.join(fixture.narinfo_path().trim_start_matches('/'))) else { return };
    let kept = NarInfo::parse(&text).expect("it parses");
    assert_eq!(kept.fingerprint(), fixture.narinfo.fingerprint());
    let file = std::fs::read(store.join(&kept.url)).expect("what it names is there");
    assert!(file == fixture.file.to_bytes(), "other bytes");
    assert!(kept.file_size.is_none_or(|size| size == fixture.file.len()), "another size");
    assert!(kept.file_hash.is_none_or(|hash| hash == fixture.file_hash()), "another hash");
}

/// In one process, where the index lies on the same disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_found_no_room_are_written_as_soon_as_there_is_some() {
    let Some(disk) = SmallDisk::mount() else { return };
    let key = UpstreamKey::new("upstream-1");
    let fixtures = ["one", "two"].map(|name| fixture(&key, name, Compression::Xz));
    let upstream = Upstream::with(&fixtures.iter().collect::<Vec<_>>()).await;
    let cluster = disk.cluster(Mode::Combined, &upstream, &key).prometheus().start().await;
    let failed = || metric(&cluster, "ncps_index_batches_total", &[("outcome", "failed")]);
    let waiting = || metric(&cluster, "ncps_index_waiting", &[]);
    disk.fill();
    for fixture in &fixtures {
        cluster.narinfo(fixture).await;
    }
    eventually("batches fail, time and again", async || failed() > 3.0 && waiting() > 0.0).await;
    disk.free();
    eventually("all of it has its rows", async || waiting() == 0.0).await;
    cluster.end().await;
}

both_modes! {
    async fn line_69_full_before_a_read_it_is_passed_through(mode) {
        let Some(disk) = SmallDisk::mount() else { return };
        let key = UpstreamKey::new("upstream-1");
        let all = [Compression::None, Compression::Zstd, Compression::Xz, Compression::Bzip2];
        let fixtures = all.map(|compression| fixture(&key, compression.name(), compression));
        let upstream = Upstream::with(&fixtures.iter().collect::<Vec<_>>()).await;
        let cluster = disk.cluster(mode, &upstream, &key).start().await;
        for fixture in &fixtures {
            cluster.narinfo(fixture).await;
        }
        disk.fill();
        for fixture in &fixtures {
            let path = fixture.nar_path();
            let (one, two) = tokio::join!(cluster.fetch(&path), cluster.fetch(&path));
            for (status, body) in [one, two] {
                assert_eq!(status, 200);
                assert!(body.whole() == fixture.file.to_bytes(), "other bytes");
            }
        }
        cluster.quiet().await;
        assert_eq!(cluster.stored_files(), [""; 0]);
        assert_eq!(cluster.edge.engine.counters().passed(), 8);

        disk.free();
        for fixture in &fixtures {
            assert_kept(&cluster, fixture, &upstream).await;
        }
        cluster.end().await;
    }

    async fn an_upload_that_does_not_fit_is_refused_and_leaves_nothing(mode) {
        for compression in [Compression::None, Compression::Xz] {
            let Some(disk) = SmallDisk::mount() else { return };
            let key = UpstreamKey::new("ci-1");
            let upstream = Upstream::start().await;
            let cluster = disk.cluster(mode, &upstream, &key).writable().start().await;
            let fixture = fixture(&key, "brought", compression);
            let nar = || Request::put(&fixture.nar_path(), fixture.file.clone());
            let narinfo = || Request::put(&fixture.narinfo_path(), fixture.narinfo_text());
            disk.fill();
            for nar in [nar(), nar().chunked()] {
                assert_eq!(cluster.send(nar).await.status, 507, "{compression}");
            }
            assert_eq!(cluster.send(narinfo()).await.status, 422, "its NAR is not there");
            assert_eq!(cluster.stored_files(), [""; 0]);
            eventually("the spool is empty", async || cluster.edge.store.spool_files().expect("listed") == 0).await;
            disk.free();
            assert_eq!(cluster.send(nar()).await.status, 204);
            assert_eq!(cluster.send(narinfo()).await.status, 204);
            assert_whole(&cluster, &fixture).await;
            cluster.end().await;
        }
    }

    async fn free_space_is_left_to_others(mode) {
        let Some(disk) = SmallDisk::mount() else { return };
        let key = UpstreamKey::new("upstream-1");
        let fixtures: Vec<_> =
            (0..8).map(|n| fixture(&key, &format!("file-{n}"), Compression::None)).collect();
        let upstream = Upstream::with(&fixtures.iter().collect::<Vec<_>>()).await;
        let leave = MinFree { percent: 50, at_most: 8 * MIB };
        let cluster = disk.cluster(mode, &upstream, &key).settings(|s| s.min_free = leave).start().await;
        for fixture in &fixtures {
            cluster.narinfo(fixture).await;
            assert_kept(&cluster, fixture, &upstream).await;
            assert!(disk.free_bytes() >= 8 * MIB);
        }
        assert!(!cluster.stores(&fixtures[0].nar_path()), "it had to go");

        // Another program takes what was left to it, and then some: ours gives way, and at last nothing new is kept.
        disk.fill();
        cluster.edge.accesses.report_now();
        eventually("the store gives way", async || disk.free_bytes() >= 8 * MIB).await;
        disk.fill();
        cluster.edge.accesses.report_now();
        eventually("all of it", async || cluster.stored_files().is_empty()).await;
        assert_whole(&cluster, &fixtures[0]).await;
        cluster.quiet().await;
        assert!(cluster.stored_files().is_empty());
        assert!(cluster.edge.engine.counters().passed() > 0);
        disk.free();
        assert_kept(&cluster, &fixtures[0], &upstream).await;
        cluster.end().await;
    }

    async fn line_69_full_during_a_read_it_goes_on_from_the_byte_reached(mode) {
        let Some(disk) = SmallDisk::mount() else { return };
        let key = UpstreamKey::new("upstream-1");
        let fixture = of_unknown_size(&key, Compression::Zstd);
        let upstream = Upstream::with(&[&fixture]).await;
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").ranged(false).framing(Framing::Chunked).pause_at(MIB, &gate));
        let cluster = disk.cluster(mode, &upstream, &key).start().await;
        cluster.narinfo(&fixture).await;
        let mut early = cluster.get(&fixture.nar_path()).await;
        let head = early.bytes(100_000).await.expect("it has begun");
        let mut late = cluster.get(&fixture.nar_path()).await;
        gate.reached().await;
        disk.fill();
        gate.open();
        let rest = early.whole().await;
        assert!([head, rest].concat() == fixture.file.to_bytes(), "other bytes");
        assert!(late.whole().await == fixture.file.to_bytes(), "other bytes");
        cluster.quiet().await;
        assert_eq!(cluster.stored_files(), [""; 0]);
        let resumed = upstream.requests_to("/nar/").iter().filter(|seen| seen.range().is_some()).count();
        assert_eq!(resumed, 2, "each reader for itself, from the byte reached");

        upstream.behave();
        disk.free();
        assert_kept(&cluster, &fixture, &upstream).await;
        cluster.end().await;
    }

    async fn line_69_full_at_the_last_block_of_an_unknown_size(mode) {
        // Uncompressed its size is that of the NAR.
        for compression in [Compression::Zstd, Compression::Xz, Compression::Bzip2] {
            let Some(disk) = SmallDisk::mount() else { return };
            let key = UpstreamKey::new("upstream-1");
            let fixture = of_unknown_size(&key, compression);
            let upstream = Upstream::with(&[&fixture]).await;
            let (gate, last) = (Gate::new(), (fixture.file.len() - 1) / BLOCK * BLOCK);
            upstream.script(Rule::on("/nar/*").ranged(false).framing(Framing::Chunked).pause_at(last, &gate));
            let cluster = disk.cluster(mode, &upstream, &key).start().await;
            cluster.narinfo(&fixture).await;
            let mut reading = cluster.get(&fixture.nar_path()).await;
            let spool = cluster.store_dir().with_file_name("spool");
            eventually("all but the last block is there", async || largest(&spool) == last).await;
            disk.fill();
            gate.open();
            assert!(reading.whole().await == fixture.file.to_bytes(), "other bytes");
            cluster.quiet().await;
            assert_eq!(cluster.stored_files(), [""; 0], "{compression}");
            let asked = upstream.requests_to("/nar/");
            let ranges: Vec<_> = asked.iter().filter_map(|seen| seen.range()).collect();
            assert_eq!(ranges, [format!("bytes={last}-")], "{compression}: what did not fit");
            assert_no_lie_in_narinfos(&cluster, &fixture);

            upstream.behave();
            disk.free();
            assert_kept(&cluster, &fixture, &upstream).await;
            assert_no_lie_in_narinfos(&cluster, &fixture);
            cluster.end().await;
        }
    }

    async fn line_69_full_at_the_end_of_a_read_what_was_reserved_is_kept(mode) {
        let Some(disk) = SmallDisk::mount() else { return };
        let key = UpstreamKey::new("upstream-1");
        let fixture = fixture(&key, "reserved", Compression::Xz);
        let upstream = Upstream::with(&[&fixture]).await;
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").pause_at(fixture.file.len() - 1000, &gate));
        let cluster = disk.cluster(mode, &upstream, &key).start().await;
        cluster.narinfo(&fixture).await;
        let mut reading = cluster.get(&fixture.nar_path()).await;
        gate.reached().await;
        disk.fill();
        gate.open();
        assert!(reading.whole().await == fixture.file.to_bytes(), "other bytes");
        cluster.quiet().await;
        assert!(cluster.stores(&fixture.nar_path()));
        disk.free();
        assert_kept(&cluster, &fixture, &upstream).await;
        assert_eq!(upstream.count("GET", "/nar/"), 1);
        cluster.end().await;
    }

    async fn line_69_wrong_bytes_that_are_passed_through_never_look_complete(mode) {
        let Some(disk) = SmallDisk::mount() else { return };
        let key = UpstreamKey::new("upstream-1");
        let all = [Compression::None, Compression::Zstd, Compression::Xz];
        let fixtures = all.map(|compression| fixture(&key, compression.name(), compression));
        let small = Fixture::new("small").size(30_000).compression(Compression::Xz).build(&key);
        let upstream = Upstream::with(&fixtures.iter().chain([&small]).collect::<Vec<_>>()).await;
        let cluster = disk.cluster(mode, &upstream, &key).start().await;
        for fixture in fixtures.iter().chain([&small]) {
            cluster.narinfo(fixture).await;
        }
        disk.fill();
        upstream.script(Rule::on("/nar/*").flip(20_000));
        for fixture in &fixtures {
            let (_, body) = cluster.fetch(&fixture.nar_path()).await;
            assert!(matches!(body, Outcome::Truncated(_)), "wrong bytes never look complete");
        }
        let (status, _) = cluster.fetch(&small.nar_path()).await;
        assert_eq!(status, 502, "where nothing was sent yet it is still a status");
        cluster.quiet().await;
        disk.free();
        assert_eq!(cluster.stored_files(), [""; 0]);
        cluster.end().await;
    }

    async fn line_69_ranges_of_what_is_passed_through(mode) {
        let Some(disk) = SmallDisk::mount() else { return };
        let key = UpstreamKey::new("upstream-1");
        let fixture = fixture(&key, "ranges", Compression::Xz);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = disk.cluster(mode, &upstream, &key).start().await;
        cluster.narinfo(&fixture).await;
        disk.fill();
        let whole = fixture.file.to_bytes();
        let ranged = |range: &str| cluster.send(Request::get(&fixture.nar_path()).header("range", range));
        let mut open = ranged("bytes=1000000-").await;
        assert_eq!(open.status, 206);
        assert!(open.whole().await == whole[1_000_000..], "other bytes");
        for within in ["bytes=10-20", "bytes=-100"] {
            let mut answer = ranged(within).await;
            assert_eq!(answer.status, 200, "it can't be proven before it is sent: the whole");
            assert!(answer.whole().await == whole, "other bytes");
        }
        assert_eq!(ranged(&format!("bytes={}-", whole.len())).await.status, 416);
        disk.free();
        cluster.end().await;
    }

    async fn every_transfer_ends_once_in_the_metrics(mode) {
        let Some(disk) = SmallDisk::mount() else { return };
        let key = UpstreamKey::new("upstream-1");
        let names = ["kept", "absent", "wrong", "passed", "evicts"];
        let fixtures = names.map(|name| fixture(&key, name, Compression::None));
        let large = Fixture::new("large").size(6 * MIB).compression(Compression::None).build(&key);
        let upstream = Upstream::with(&fixtures.iter().chain([&large]).collect::<Vec<_>>()).await;
        let cluster = disk.cluster(mode, &upstream, &key).settings(|s| s.max_size = Some(5 * MIB));
        let cluster = cluster.prometheus().start().await;
        for fixture in fixtures.iter().chain([&large]) {
            cluster.narinfo(fixture).await;
        }
        let [kept, absent, wrong, passed, evicts] = &fixtures;
        // First of all: nothing is there yet that could be evicted for it.
        disk.fill();
        assert_whole(&cluster, passed).await;
        cluster.quiet().await;
        disk.free();
        assert_kept(&cluster, kept, &upstream).await;
        upstream.remove(&absent.nar_path());
        upstream.remove(&absent.narinfo_path());
        assert_eq!(cluster.fetch(&absent.nar_path()).await.0, 404);
        upstream.script(Rule::on(&wrong.nar_path()).flip(1000));
        assert!(matches!(cluster.fetch(&wrong.nar_path()).await.1, Outcome::Truncated(_)));
        assert_whole(&cluster, &large).await;
        cluster.quiet().await;
        assert_kept(&cluster, evicts, &upstream).await;

        let edge = Scrape::parse(&cluster.get("/metrics").await.text().await);
        let ended = |outcome| edge.number("ncps_transfers_total", &[("outcome", outcome)]);
        let outcomes = ["committed", "absent", "failed", "not_kept", "overflowed", "found"].map(ended);
        assert_eq!(outcomes, [2.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        assert_eq!(edge.number("ncps_transfers_started_total", &[]), outcomes.iter().sum::<f64>());
        assert_eq!(edge.number("ncps_nar_passed_through_total", &[]), 1.0);
        // There was room as soon as the edge had removed it. Control counts when it has heard so.
        let number = |name| metric(&cluster, name, &[]);
        let freed = kept.file.len().next_multiple_of(4096) as f64;
        eventually("it is counted", async || number("ncps_lru_bytes_freed_total") == freed).await;
        assert_eq!(number("ncps_lru_nar_files_evicted_total"), 1.0);
        cluster.end().await;
    }
}
