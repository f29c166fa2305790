//! SIGKILL just at every step on which others depend: whatever the step, after the next start nothing wrong is
//! served, index and disk agree, nothing is left over, and what was cut off can be done again.

use std::path::Path;

use ncps_nix::{Compression, NarFileName, NarInfo, Sha256Hash};
use ncps_runtime::fault::Point;
use ncps_tests::{Fixture, Installation, Mode, Upstream, UpstreamKey, both_modes, eventually};

use crate::processes::UNDER_TEST;

const KIB: u64 = 1 << 10;

/// What makes a process come to a point.
#[derive(Clone, Copy, Debug)]
enum Doing {
    /// The first read of a path.
    Read,
    /// The read of one more path than fits.
    Evict,
}

/// Where each point lies. A point that is missing here does not compile.
const fn way(point: Point) -> Doing {
    match point {
        Point::NarSealed
        | Point::NarRenamed
        | Point::NarStored
        | Point::NarCommitted
        | Point::RowsWritten
        | Point::NarinfoStored => Doing::Read,
        Point::VictimBare | Point::VictimGone => Doing::Evict,
    }
}

struct Scene {
    upstream: Upstream,
    fixtures: Vec<Fixture>,
    ncps: Installation,
}

impl Scene {
    /// Room for three NARs; two are there when it starts.
    async fn new(mode: Mode) -> Scene {
        let key = UpstreamKey::new("upstream-1");
        let fixture = |seed| {
            Fixture::new("killed").seed(seed).size(200 * KIB).compression(Compression::None).build(&key)
        };
        let fixtures: Vec<_> = (0..4).map(fixture).collect();
        let upstream = Upstream::with(&fixtures.iter().collect::<Vec<_>>()).await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key)
            .control_flag("--cache-max-size=700K")
            .control_flag("--cache-min-free=0%");
        ncps.start().await;
        let mut scene = Scene { upstream, fixtures, ncps };
        for n in 0..2 {
            scene.read_whole(n).await;
            let fixture = &scene.fixtures[n];
            scene.ncps.stores(&fixture.narinfo_path(), &fixture.nar_path()).await;
        }
        scene.ncps.terminate().await;
        scene
    }

    /// Reads as Nix does; the answers may be cut off.
    async fn read(&self, n: usize) {
        let fixture = &self.fixtures[n];
        for path in [fixture.narinfo_path(), fixture.nar_path()] {
            if let Ok(mut response) = ncps_tests::Request::get(&path).send(self.ncps.addr()).await {
                response.outcome().await;
            }
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

async fn killed_at(mode: Mode, point: Point) {
    let mut scene = Scene::new(mode).await;
    scene.ncps.dies_at(Some(point));
    scene.ncps.start().await;
    scene.act(way(point)).await;
    scene.ncps.dead().await;
    scene.assert_sound();

    scene.ncps.dies_at(None);
    scene.ncps.start().await;
    assert!(scene.ncps.files("spool").is_empty(), "nothing is left over");
    scene.act(way(point)).await;
    for n in 0..4 {
        scene.read_whole(n).await;
    }
    eventually("an empty spool", async || scene.ncps.files("spool").is_empty()).await;
    scene.assert_sound();
    // What is there is served without the upstream, and nothing else.
    scene.ncps.terminate().await;
    scene.upstream.down().await;
    scene.ncps.start().await;
    for fixture in &scene.fixtures {
        let stored = scene.ncps.stored(&fixture.nar_path()).exists();
        let (status, body) = scene.ncps.fetch(&fixture.nar_path()).await;
        assert_eq!(status, if stored { 200 } else { 502 }, "{point:?}");
        assert!(!stored || body.whole() == fixture.file.to_bytes());
    }
    scene.ncps.terminate().await;
}

both_modes! {
    async fn at_every_point(mode) {
        for point in Point::ALL {
            killed_at(mode, point).await;
        }
    }
}
