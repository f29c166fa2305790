//! SIGKILL just at every step on which others depend: whatever the step, after the next start nothing wrong is
//! served, index and disk agree, nothing is left over, and what was cut off can be done again.

use std::path::Path;

use ncps_nix::{Compression, NarFileName, NarInfo, Sha256Hash};
use ncps_runtime::fault::Point;
use ncps_tests::{Cli, Fixture, Installation, Mode, Request, Upstream, UpstreamKey, both_modes, eventually};

use crate::processes::UNDER_TEST;

const KIB: u64 = 1 << 10;

/// What makes a process come to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// The first read of a path.
    Read,
    /// The read of more paths than fit.
    Evict,
    /// Room is asked for, and the last copy of what was uploaded goes, too, with its narinfo.
    EvictUpload,
    /// A path comes from a client.
    Upload,
    /// A client deletes the narinfo of what was uploaded.
    Delete,
    /// An administrator purges a path that an upstream has.
    Purge,
}

/// Which work comes by each point. A point that is missing here does not compile.
fn ways(point: Point) -> &'static [Doing] {
    match point {
        Point::NarSealed | Point::NarRenamed | Point::NarStored | Point::NarCommitted => {
            &[Doing::Read, Doing::Upload]
        }
        // See `while_a_file_is_made_of_another_one`.
        Point::MadeStored | Point::MadeNamed => &[],
        Point::RowsWritten => &[Doing::Read, Doing::Upload, Doing::EvictUpload, Doing::Delete, Doing::Purge],
        Point::NarinfoStored => &[Doing::Read, Doing::Upload],
        Point::VictimBare | Point::VictimGone => &[Doing::Evict, Doing::EvictUpload],
        Point::UploadPut | Point::UploadWritten => &[Doing::Upload],
        Point::NarinfoDeleted => &[Doing::Delete],
        Point::PathTakenOut | Point::RemovedBare | Point::RemovedGone => &[Doing::Purge],
    }
}

struct Scene {
    upstream: Upstream,
    /// Those of the upstream.
    fixtures: Vec<Fixture>,
    /// What a client has, and no upstream.
    own: Fixture,
    ncps: Installation,
}

impl Scene {
    /// Room for three NARs; two are there when it starts, or one and the client's own.
    async fn new(mode: Mode, doing: Doing) -> Scene {
        let key = UpstreamKey::new("upstream-1");
        let fixture = |seed| {
            Fixture::new("killed").seed(seed).size(200 * KIB).compression(Compression::None).build(&key)
        };
        let fixtures: Vec<_> = (0..4).map(fixture).collect();
        let own = Fixture::new("own").size(200 * KIB).compression(Compression::None).build(&key);
        let upstream = Upstream::with(&fixtures.iter().collect::<Vec<_>>()).await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key)
            .control_flag("--cache-max-size=700K")
            .control_flag("--cache-min-free=0%")
            .control_flag("--cache-allow-put-verb")
            .control_flag("--cache-allow-delete-verb");
        ncps.start().await;
        let mut scene = Scene { upstream, fixtures, own, ncps };
        let uploaded = matches!(doing, Doing::Delete | Doing::EvictUpload);
        for n in 0..if uploaded { 1 } else { 2 } {
            scene.read_whole(n).await;
            scene.has(&scene.fixtures[n]).await;
        }
        if uploaded {
            scene.upload().await;
            scene.has(&scene.own).await;
        }
        scene.ncps.terminate().await;
        scene
    }

    async fn has(&self, fixture: &Fixture) {
        self.ncps.stores(&fixture.narinfo_path(), &fixture.nar_path()).await;
    }

    /// Answers may be cut off.
    async fn ask(&self, request: Request) -> Option<u16> {
        let mut response = request.send(self.ncps.addr()).await.ok()?;
        response.outcome().await;
        Some(response.status)
    }

    /// As Nix does.
    async fn upload(&self) -> bool {
        let nar = Request::put(&self.own.nar_path(), self.own.file.clone());
        let narinfo = Request::put(&self.own.narinfo_path(), self.own.narinfo_text());
        self.ask(nar).await == Some(204) && self.ask(narinfo).await == Some(204)
    }

    fn cli(&self) -> Cli {
        Cli::at(UNDER_TEST, &self.ncps.socket())
    }

    /// How it ends: the process may die in the middle.
    async fn purge(&self) -> i32 {
        self.cli().run(&["purge", "--yes", &self.fixtures[0].store_path().to_string()]).await.code
    }

    /// Asks for more room than there is, as soon as control has heard what there is to be evicted.
    async fn evict_all(&self) {
        let heard = async || {
            let foreseen = self.cli().run(&["evict", "--free=1G", "--dry-run"]).await;
            foreseen.code != 0 || foreseen.printed.contains("an upload, which goes last")
        };
        eventually("the upload could be evicted", heard).await;
        self.cli().run(&["evict", "--free=1G"]).await;
    }

    /// Reads as Nix does; the answers may be cut off.
    async fn read(&self, n: usize) {
        let fixture = &self.fixtures[n];
        for path in [fixture.narinfo_path(), fixture.nar_path()] {
            self.ask(Request::get(&path)).await;
        }
    }

    async fn read_whole(&self, n: usize) {
        let fixture = &self.fixtures[n];
        let (status, narinfo) = self.ncps.fetch(&fixture.narinfo_path()).await;
        assert_eq!(status, 200, "{n}");
        assert_eq!(NarInfo::parse(&narinfo.whole()).expect("parses").nar_hash, fixture.narinfo.nar_hash);
        let (status, nar) = self.ncps.fetch(&fixture.nar_path()).await;
        assert!(status == 200 && nar.whole() == fixture.file.to_bytes(), "{n}");
    }

    async fn act(&self, doing: Doing) {
        match doing {
            Doing::Read => self.read(2).await,
            Doing::Evict => {
                for n in [2, 3] {
                    self.read(n).await;
                }
            }
            Doing::EvictUpload => self.evict_all().await,
            Doing::Upload => drop(self.upload().await),
            Doing::Delete => drop(self.ask(Request::delete(&self.own.narinfo_path())).await),
            Doing::Purge => drop(self.purge().await),
        }
    }

    /// The work can be done again, to its end.
    async fn finish(&self, doing: Doing) {
        let status = async |path: &str| self.ask(Request::get(path)).await;
        match doing {
            Doing::Read | Doing::Evict => self.act(doing).await,
            Doing::EvictUpload => {
                let gone = async || {
                    // The edge may have said nothing yet of what it holds.
                    self.cli().run(&["evict", "--free=1G"]).await;
                    !self.ncps.stored(&self.own.nar_path()).exists()
                };
                eventually("an upload that made room", gone).await;
                self.lacks(&self.own.narinfo_path()).await;
                self.index_and_disk_agree("without the upload").await;
                let nar = status(&self.own.nar_path()).await;
                assert!(matches!(nar, Some(404 | 503)), "nobody has it: {nar:?}");
                // Whatever is known of it, its client may bring it again.
                Box::pin(self.finish(Doing::Upload)).await;
            }
            Doing::Upload => {
                assert!(self.upload().await);
                assert_eq!(status(&self.own.narinfo_path()).await, Some(200));
                let (status, nar) = self.ncps.fetch(&self.own.nar_path()).await;
                assert!(status == 200 && nar.whole() == self.own.file.to_bytes());
                self.has(&self.own).await;
            }
            Doing::Delete => {
                let deleted = self.ask(Request::delete(&self.own.narinfo_path())).await;
                assert!(matches!(deleted, Some(204 | 404)), "{deleted:?}");
                assert_eq!(status(&self.own.narinfo_path()).await, Some(404));
                self.lacks(&self.own.narinfo_path()).await;
            }
            Doing::Purge => {
                let code = self.purge().await;
                assert!(matches!(code, 0 | 2), "purged, or purged before: {code}");
                self.lacks(&self.fixtures[0].narinfo_path()).await;
                self.lacks(&self.fixtures[0].nar_path()).await;
            }
        }
    }

    async fn lacks(&self, path: &str) {
        eventually("the store without it", async || !self.ncps.stored(path).exists()).await;
    }

    /// Control says of each path that it knows that its NAR is held exactly where its file lies in the store, and no
    /// narinfo lies there of a path that it does not know.
    async fn index_and_disk_agree(&self, when: &str) {
        for fixture in self.fixtures.iter().chain([&self.own]) {
            let what = format!("{when}: index and disk agree on {}", fixture.store_path());
            eventually(&what, async || self.agree_on(fixture).await).await;
        }
    }

    async fn agree_on(&self, fixture: &Fixture) -> bool {
        let cli = self.cli().flag("--output=json");
        let shown = cli.run(&["paths", "show", &fixture.hash_part()]).await;
        let on_disk = |path: &str| self.ncps.stored(path).exists();
        match shown.code {
            0 => {
                let shown: serde_json::Value = serde_json::from_str(&shown.printed).expect("JSON");
                let held = shown["held_by"].as_array().is_some_and(|edges| !edges.is_empty());
                held == on_disk(&fixture.nar_path())
            }
            2 => !on_disk(&fixture.narinfo_path()),
            _ => panic!("{shown:?}"),
        }
    }

    /// Every file of the store is what its name says, and every narinfo names one.
    fn assert_sound(&self) {
        assert_sound(&self.ncps.edge_data().join("store"));
    }
}

fn assert_sound(store: &Path) {
    for entry in std::fs::read_dir(store.join("nar")).expect("the store is there") {
        let path = entry.expect("listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let name = NarFileName::parse(name).expect("a NAR file's name");
        assert_eq!(Sha256Hash::of(&std::fs::read(&path).expect("read")), name.hash.0, "{name}");
    }
    for entry in std::fs::read_dir(store).expect("the store is there") {
        let path = entry.expect("listed").path();
        if path.extension().is_some_and(|e| e == "narinfo") {
            let narinfo = NarInfo::parse(&std::fs::read(&path).expect("read")).expect("it parses");
            assert!(store.join(&narinfo.url).exists(), "{} names nothing", path.display());
        }
    }
}

async fn killed_at(mode: Mode, point: Point, doing: Doing) {
    let mut scene = Scene::new(mode, doing).await;
    scene.ncps.dies_at(Some(point));
    scene.ncps.start().await;
    scene.act(doing).await;
    scene.ncps.dead().await;
    scene.assert_sound();

    scene.ncps.dies_at(None);
    scene.ncps.start().await;
    // At its start it may write narinfos anew, which stand there for a moment.
    eventually("nothing is left over", async || scene.ncps.files("spool").is_empty()).await;
    scene.finish(doing).await;
    for n in 0..4 {
        scene.read_whole(n).await;
    }
    eventually("an empty spool", async || scene.ncps.files("spool").is_empty()).await;
    scene.assert_sound();
    scene.index_and_disk_agree("after the work").await;
    // What is there is served without the upstream, and nothing else.
    scene.ncps.terminate().await;
    scene.upstream.down().await;
    scene.ncps.start().await;
    for fixture in &scene.fixtures {
        let stored = scene.ncps.stored(&fixture.nar_path()).exists();
        let (status, body) = scene.ncps.fetch(&fixture.nar_path()).await;
        assert_eq!(status, if stored { 200 } else { 502 }, "{point:?} {doing:?}");
        assert!(!stored || body.whole() == fixture.file.to_bytes());
    }
    scene.index_and_disk_agree("after the last start").await;
    scene.ncps.terminate().await;
}

/// A path whose file comes as xz, of a process that makes zstd of it.
async fn killed_while_made(mode: Mode, point: Point) {
    let key = UpstreamKey::new("upstream-1");
    let fixture =
        Fixture::new("made").size(300 * KIB).compressible().compression(Compression::Xz).build(&key);
    let upstream = Upstream::with(&[&fixture]).await;
    let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).variable("CACHE_RECOMPRESS", "zstd");
    ncps.dies_at(Some(point));
    ncps.start().await;
    for path in [fixture.narinfo_path(), fixture.nar_path()] {
        ncps.fetch(&path).await;
    }
    ncps.dead().await;
    assert_sound(&ncps.edge_data().join("store"));

    ncps.dies_at(None);
    ncps.start().await;
    let narinfo = async || {
        let (status, narinfo) = ncps.fetch(&fixture.narinfo_path()).await;
        assert_eq!(status, 200);
        NarInfo::parse(&narinfo.whole()).expect("it parses")
    };
    eventually("it is made when the former one is read", async || {
        let (status, body) = ncps.fetch(&fixture.nar_path()).await;
        assert!(status == 200 && body.whole() == fixture.file.to_bytes());
        narinfo().await.compression == Compression::Zstd
    })
    .await;
    let made = narinfo().await;
    assert_eq!(made.fingerprint(), fixture.narinfo.fingerprint());
    ncps.stores(&fixture.narinfo_path(), &format!("/{}", made.url)).await;
    assert_sound(&ncps.edge_data().join("store"));
    ncps.terminate().await;
    upstream.down().await;
    ncps.start().await;
    let (status, body) = ncps.fetch(&format!("/{}", made.url)).await;
    assert!(status == 200 && Some(Sha256Hash::of(&body.whole())) == made.file_hash.map(|hash| hash.0));
    ncps.terminate().await;
}

both_modes! {
    async fn while_a_file_is_made_of_another_one(mode) {
        for point in [Point::MadeStored, Point::MadeNamed] {
            println!("{point:?}");
            killed_while_made(mode, point).await;
        }
    }

    async fn at_every_point(mode) {
        for point in Point::ALL {
            for doing in ways(point) {
                println!("{point:?} {doing:?}");
                killed_at(mode, point, *doing).await;
            }
        }
    }
}
