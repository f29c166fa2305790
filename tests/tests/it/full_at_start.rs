//! A start on a disk that is full: refused in a line that says which one, with nothing touched; and a good start as
//! soon as there is room. What happens where it fills up later is in `disk_full.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ncps_tests::{
    Fixture, Installation, Mode, Mount, Process, Upstream, UpstreamKey, both_modes, eventually,
    eventually_some,
};

use crate::processes::UNDER_TEST;
use crate::refusals::contents;

const READY: &str = "\"message\":\"ready\"";

/// What may lie on a disk of its own: the data path of each program.
fn data_paths(ncps: &Installation) -> BTreeSet<PathBuf> {
    BTreeSet::from([ncps.edge_data(), ncps.control_data()])
}

/// An installation with one data path on a small disk, an upstream that has a path, and that path.
struct Scene {
    disk: Mount,
    data: PathBuf,
    ncps: Installation,
    upstream: Upstream,
    fixture: Fixture,
}

impl Scene {
    /// For each data path. None where file systems can't be mounted.
    async fn each(mode: Mode) -> Vec<Scene> {
        let mut scenes = Vec::new();
        for nth in 0..data_paths(&Installation::new(mode, UNDER_TEST)).len() {
            let key = UpstreamKey::new("upstream-1");
            let fixture = Fixture::new("hello-1.0").build(&key);
            let upstream = Upstream::with(&[&fixture]).await;
            let ncps = Installation::of(mode, UNDER_TEST, &upstream, &key);
            let data = data_paths(&ncps).into_iter().nth(nth).expect("as many");
            let Some(disk) = Mount::small_disk(&data) else { return Vec::new() };
            scenes.push(Scene { disk, data, ncps, upstream, fixture });
        }
        scenes
    }

    /// The program whose data path it is.
    fn spawn(&self) -> Process {
        let is_edge = self.data == self.ncps.edge_data();
        let command =
            if is_edge { self.ncps.edge_command(&self.data) } else { self.ncps.control_command(&self.data) };
        self.ncps.spawn(&command)
    }

    async fn is_refused_while_full(&self) {
        self.disk.fill();
        let before = contents(&self.data);
        let line = is_refused(&mut self.spawn(), &self.data).await;
        let said = line.contains("No space left on device") && line.contains(&*self.data.to_string_lossy());
        assert!(said, "{line}");
        let mut after = contents(&self.data);
        // A lock file that nobody holds is empty.
        after.retain(|path, content| before.contains_key(path) || content.as_deref() != Some(b""));
        assert!(after == before, "something was touched");
        self.disk.free();
    }

    /// With ever more room: refused each time, until it is enough.
    async fn starts_with_little_room(&mut self) {
        if self.data == self.ncps.edge_data() {
            self.ncps.start_control();
        }
        for blocks in 1.. {
            self.disk.fill_but(blocks);
            let mut process = self.spawn();
            let is_ready = |process: &Process| process.lines().iter().any(|line| line.contains(READY));
            let settled = async || is_ready(&process) || process.try_exit().is_some();
            eventually("ready, or an end", settled).await;
            let ended = process.try_exit().is_some();
            if ended {
                is_refused(&mut process, &self.data).await;
            } else {
                println!("{blocks} blocks are enough");
                assert_eq!(process.terminate().await.code(), Some(0));
            }
            self.disk.free();
            if !ended {
                break;
            }
        }
        self.ncps.kill().await;
    }

    async fn serves(&self) {
        assert_eq!(self.ncps.get(&self.fixture.narinfo_path()).await.status, 200);
        let (status, body) = self.ncps.fetch(&self.fixture.nar_path()).await;
        assert_eq!(status, 200);
        assert!(body.whole() == self.fixture.file.to_bytes(), "other bytes");
        self.ncps.stores(&self.fixture.narinfo_path(), &self.fixture.nar_path()).await;
    }
}

/// In a line that says where, by the path or by the flag that it has.
async fn is_refused(process: &mut Process, data: &Path) -> String {
    assert_eq!(process.exit().await.code(), Some(2), "{:#?}", process.lines());
    let said = async || process.lines().into_iter().rfind(|line| !line.starts_with('{'));
    let line = eventually_some("its last word", said).await;
    let names = [&*data.to_string_lossy(), "--cache-data-path"];
    assert!(names.iter().any(|name| line.contains(name)), "which one: {line}");
    line
}

both_modes! {
    async fn the_first_start(mode) {
        for mut scene in Scene::each(mode).await {
            scene.is_refused_while_full().await;
            scene.ncps.start().await;
            scene.serves().await;
            scene.ncps.terminate().await;
        }
    }

    async fn a_first_start_with_little_room(mode) {
        for mut scene in Scene::each(mode).await {
            scene.starts_with_little_room().await;
            scene.ncps.start().await;
            scene.serves().await;
            scene.ncps.terminate().await;
        }
    }

    async fn a_disk_that_fills_up_later_is_said(mode) {
        for mut scene in Scene::each(mode).await {
            if scene.data != scene.ncps.edge_data() {
                continue;
            }
            scene.ncps.start().await;
            assert_eq!(scene.ncps.get(&scene.fixture.narinfo_path()).await.status, 200);
            scene.disk.fill();
            let (status, body) = scene.ncps.fetch(&scene.fixture.nar_path()).await;
            assert!(status == 200 && body.whole() == scene.fixture.file.to_bytes(), "{status}");
            let line = scene.ncps.edge().line_with("no room to spool a NAR").await;
            assert!(line.contains("\"WARN\""), "{line}");
            scene.disk.free();
            scene.serves().await;
            scene.ncps.terminate().await;
        }
    }

    async fn a_later_start(mode) {
        for mut scene in Scene::each(mode).await {
            scene.ncps.start().await;
            scene.serves().await;
            let key = scene.ncps.public_key().await;
            scene.ncps.terminate().await;
            scene.is_refused_while_full().await;
            scene.upstream.down().await;
            scene.ncps.start().await;
            scene.serves().await;
            assert_eq!(scene.ncps.public_key().await, key);
            scene.ncps.terminate().await;
        }
    }
}
