//! What the tests of this crate share: narinfos of a made-up upstream, and a control plane in a folder that
//! is stopped in order.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ncps_nix::{
    Compression, FileHash, NarFileName, NarHash, NarInfo, PublicKey, SecretKey, Sha256Hash, StorePath, nix32,
};
use ncps_proto::{
    Commit, EdgeSettings, LookAhead, MinFree, NarFacts, Origin, Outward, Publication, UpstreamSettings,
    WhenAway, Writing,
};
use ncps_runtime::clock::{Clock, ManualClock, UnixTime};
use ncps_runtime::exit::Exit;
use ncps_runtime::lifecycle::{Lifecycle, Timing};
use ncps_runtime::tasks::Tasks;
use ncps_runtime::telemetry::Telemetry;
use tonic::transport::server::Connected;

use crate::admission::Admission;
use crate::connections::{Door, Limits, Visitor};
use crate::metrics::ControlMetrics;
use crate::record::{facts_of, file_of};
use crate::refusals::Refusals;
use crate::{Control, Db, Parts, Schedule, Scrubs, Tokens};

pub(crate) const UPSTREAM: &str = "http://upstream.test";

/// An upstream with a key.
pub(crate) struct Upstream {
    pub(crate) key: SecretKey,
}

impl Upstream {
    pub(crate) fn new() -> Self {
        Self { key: SecretKey::generate("upstream-1").expect("randomness is there") }
    }

    /// A signed narinfo; `seed` tells paths apart.
    pub(crate) fn narinfo(&self, seed: u8) -> NarInfo {
        let mut narinfo = unsigned(seed);
        self.sign(&mut narinfo);
        narinfo
    }

    pub(crate) fn sign(&self, narinfo: &mut NarInfo) {
        narinfo.signatures = vec![self.key.sign(&narinfo.fingerprint())];
    }
}

pub(crate) fn unsigned(seed: u8) -> NarInfo {
    NarInfo {
        store_path: path(seed),
        url: format!("nar/opaque-{seed}?id=1"),
        compression: Compression::Xz,
        file_hash: Some(FileHash(Sha256Hash::of(&[seed, 1]))),
        file_size: Some(1000 + u64::from(seed)),
        nar_hash: NarHash(Sha256Hash::of(&[seed, 2])),
        nar_size: 5000,
        references: vec![path(seed), path(200)],
        deriver: Some(StorePath::new(path(seed).hash(), "path.drv").expect("valid")),
        signatures: vec![],
        ca: None,
    }
}

pub(crate) fn path(seed: u8) -> StorePath {
    StorePath::parse(&format!("{}-path-{seed}", nix32::encode(&[seed; 20]))).expect("valid")
}

pub(crate) fn file(seed: &str, compression: Compression) -> NarFileName {
    NarFileName { hash: FileHash(Sha256Hash::of(seed.as_bytes())), compression }
}

pub(crate) fn publication(narinfo: NarInfo) -> Publication {
    Publication { narinfo, upstream: UPSTREAM.to_owned(), replaces: false }
}

pub(crate) fn origin(narinfo: &NarInfo) -> Origin {
    Origin { upstream: UPSTREAM.to_owned(), url: narinfo.url.clone(), compression: narinfo.compression }
}

/// The commit of the file that a served narinfo names.
pub(crate) fn commit(ours: &NarInfo) -> Commit {
    Commit {
        name: file_of(ours),
        asked_as: None,
        file_size: ours.file_size.unwrap_or(1),
        nar: facts_of(ours),
        origin: None,
        uploaded: false,
        recipe: None,
        meanwhile: Vec::new(),
    }
}

pub(crate) fn facts(seed: u8) -> NarFacts {
    NarFacts { hash: NarHash(Sha256Hash::of(&[seed, 2])), size: 5000 }
}

pub(crate) fn settings(trusted: PublicKey) -> EdgeSettings {
    let upstream = |name: &str, priority| UpstreamSettings::plain(&format!("http://{name}.test"), priority);
    EdgeSettings {
        index_id: String::new(),
        hostname: "cache.test".to_owned(),
        public_keys: vec![],
        upstreams: vec![upstream("best", 10), upstream("upstream", 40)],
        outward: Outward::default(),
        give_up_after: None,
        trusted_keys: vec![trusted],
        tokens: Vec::new(),
        writing: Writing::default(),
        priority: 10,
        connect_timeout: Duration::from_secs(3),
        header_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(30),
        transfer_timeout: Duration::from_secs(60),
        hedge_delay: Duration::from_millis(400),
        max_downloads: 4,
        max_waiting_downloads: 16,
        max_decoders: 2,
        max_spool_bytes: 1 << 30,
        near_cache_bytes: 1 << 20,
        absent_on_upstream_failure: false,
        negative_ttl: Duration::from_secs(60),
        object_ttl: Duration::from_secs(3600),
        max_objects_bytes: 1 << 30,
        max_narinfo_requests: 256,
        fleet_secret: None,
        keep_peer_copies: true,
        max_size: None,
        min_free: MinFree::NOTHING,
        when_away: WhenAway::default(),
        look_ahead: LookAhead::default(),
        recompress: None,
    }
}

/// Where refusals are noted, and nothing else.
pub(crate) fn refusals() -> Arc<Refusals> {
    let counted = Arc::clone(&ControlMetrics::new(&Telemetry::off()).refused);
    Refusals::new(counted, Arc::new(ManualClock::at(UnixTime(1))))
}

/// A connection from the address that ends so, of its own with every call of this. Inside a runtime.
pub(crate) fn visitor(last: u8) -> Visitor {
    let door = Door::new(Limits::default(), refusals());
    let held = door.enter(([10, 0, 0, last], 1).into()).expect("a place").hold(tokio::io::empty());
    held.connect_info()
}

/// Whoever asks it what time it is panics, once it is broken.
#[derive(Default)]
pub(crate) struct BreakingClock {
    pub(crate) asked: AtomicUsize,
    pub(crate) broken: AtomicBool,
}

impl Clock for BreakingClock {
    fn now(&self) -> UnixTime {
        assert!(!self.broken.load(Ordering::SeqCst), "the clock is broken");
        self.asked.fetch_add(1, Ordering::SeqCst);
        UnixTime(1_000_000)
    }
}

/// A control plane in a folder.
pub(crate) struct House {
    pub(crate) control: Arc<Control>,
    pub(crate) clock: ManualClock,
    life: Lifecycle,
    tasks: Tasks,
}

impl House {
    /// Opens the index in `folder`, and signs with `key`.
    pub(crate) async fn open(
        folder: &Path,
        key: SecretKey,
        settings: EdgeSettings,
        negative_ttl: Duration,
    ) -> Self {
        Self::scheduled(folder, key, settings, negative_ttl, None).await
    }

    /// The same with eviction on schedule.
    pub(crate) async fn scheduled(
        folder: &Path,
        key: SecretKey,
        settings: EdgeSettings,
        negative_ttl: Duration,
        eviction_schedule: Option<Schedule>,
    ) -> Self {
        let life = Lifecycle::new(Timing { delay: Duration::ZERO, grace: Duration::from_secs(20) });
        let tasks = life.tasks();
        let clock = ManualClock::at(UnixTime(1_000_000));
        let db = Db::open(&folder.join("db.sqlite"), UnixTime(1_000_000)).await.expect("opens");
        let tokens = Tokens::open(&db).await.expect("read");
        let parts = Parts {
            db,
            tokens,
            key: Some(key),
            settings,
            admission: Admission::default(),
            negative_ttl,
            eviction_schedule,
            scrubs: Scrubs::default(),
            clock: Arc::new(clock.clone()),
            key_place: crate::keys::KeyPlace::default(),
            shown: Vec::new(),
            metrics: ControlMetrics::new(&Telemetry::off()),
            keep: (),
        };
        let control = Control::start(parts, &tasks);
        Self { control, clock, life, tasks }
    }

    pub(crate) fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }

    /// As the process ends that is asked to once, with a long grace.
    pub(crate) async fn end_softly(self) -> Exit {
        let Self { control, life, tasks, .. } = self;
        drop(control);
        life.handle().stop();
        life.run_until_stopped(tasks).await
    }

    /// As an end of the process: everything is written and closed.
    pub(crate) async fn stop(self) {
        drop(self.control);
        self.life.handle().stop_now();
        assert_eq!(self.life.run_until_stopped(self.tasks).await, Exit::Ok, "every task has ended");
    }
}

pub(crate) fn own_key() -> SecretKey {
    SecretKey::generate("cache.test").expect("randomness is there")
}

/// The same key again: keys can't be cloned.
pub(crate) fn same_key(key: &SecretKey) -> SecretKey {
    SecretKey::parse(&key.to_text()).expect("its own text")
}
