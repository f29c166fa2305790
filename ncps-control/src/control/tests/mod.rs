//! The use cases over a real database: the conformance suite, and what only control promises.

mod attach;
mod clock;
mod commit;
mod copies;
mod eviction;
mod made;
mod pins;
mod publication;
mod purge;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use ncps_nix::{Compression, NarFileName, NarInfo};
use ncps_proto::admin::Caller;
use ncps_proto::conformance::{self, Setup};
use ncps_proto::{
    Accesses, Commit, ControlPlane, Directive, DiskReport, EdgeReport, EdgeSettings, Eviction, HeldNar,
    Hello, Job, Lookup, Said, grpc,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::record::{facts_of, file_of};
use crate::testing::*;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Planes of the suite live until the test ends.
#[derive(Default)]
struct Houses(Mutex<Vec<(House, TempDir)>>);

impl Houses {
    async fn make(&self, setup: Setup) -> Arc<dyn ControlPlane> {
        let folder = folder();
        let mut settings = settings(setup.trusted.clone());
        setup.configure(&mut settings);
        let house = House::open(folder.path(), own_key(), settings, setup.negative_ttl).await;
        let control = Arc::clone(&house.control);
        self.0.lock().push((house, folder));
        control
    }

    async fn stop(self) {
        for (house, _folder) in self.0.into_inner() {
            house.stop().await;
        }
    }
}

#[tokio::test]
async fn control_passes_the_suite() {
    let houses = Houses::default();
    conformance::check(|setup| houses.make(setup)).await;
    houses.stop().await;
}

#[tokio::test]
async fn control_through_grpc_passes_the_suite() {
    let houses = Houses::default();
    conformance::check(|setup| async { grpc::in_process(houses.make(setup).await) }).await;
    houses.stop().await;
}

struct Case {
    upstream: Upstream,
    key: ncps_nix::SecretKey,
    folder: TempDir,
    house: House,
}

impl Case {
    async fn new() -> Self {
        let (upstream, key, folder) = (Upstream::new(), own_key(), folder());
        let house = open(&upstream, &key, &folder).await;
        Self { upstream, key, folder, house }
    }

    async fn restart(self) -> Self {
        let Self { upstream, key, folder, house } = self;
        house.stop().await;
        let house = open(&upstream, &key, &folder).await;
        Self { upstream, key, folder, house }
    }

    fn control(&self) -> &dyn ControlPlane {
        &*self.house.control
    }

    async fn publish(&self, narinfo: NarInfo) -> NarInfo {
        self.control().publish_narinfo(publication(narinfo)).await.expect("trusted")
    }

    async fn known(&self, narinfo: &NarInfo) -> Option<NarInfo> {
        match self.control().narinfo(narinfo.store_path.hash()).await.expect("answers") {
            Lookup::Known(narinfo) => Some(narinfo),
            Lookup::Absent(_) | Lookup::Unknown => None,
        }
    }
}

fn somebody() -> Caller {
    Caller { who: "somebody".to_owned() }
}

async fn open(upstream: &Upstream, key: &ncps_nix::SecretKey, folder: &TempDir) -> House {
    let settings = settings(upstream.key.public());
    House::open(folder.path(), same_key(key), settings, Duration::from_secs(60)).await
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let case = Case::new().await;
    let id = case.house.control.settings().index_id.clone();
    let mut theirs = case.upstream.narinfo(1);
    theirs.references.push(path(7));
    case.upstream.sign(&mut theirs);
    let ours = case.publish(theirs.clone()).await;
    let other = case.publish(case.upstream.narinfo(2)).await;
    let right = file("right", Compression::Zstd);
    let corrected = Commit { name: right, asked_as: Some(file_of(&other)), file_size: 9, ..commit(&other) };
    case.control().commit_nar("a", corrected).await.expect("answers");
    // Nobody waited for a row: what is not written yet is written at the end.
    let case = case.restart().await;
    assert_eq!(case.house.control.settings().index_id, id);
    assert_eq!(case.known(&theirs).await.expect("kept").render(), ours.render());
    let location = case.control().locate("edge", file_of(&ours)).await.expect("answers").expect("kept");
    assert_eq!((location.file_size, location.nar), (ours.file_size, Some(facts_of(&ours))));
    assert_eq!(
        (location.origins, location.store_paths),
        (vec![origin(&theirs)], vec![ours.store_path.hash()])
    );
    let moved = case.known(&other).await.expect("kept");
    assert_eq!((file_of(&moved), moved.file_size), (right, Some(9)));
    let location = case.control().locate("edge", file_of(&other)).await.expect("answers").expect("an alias");
    assert_eq!((location.name, location.store_paths), (right, vec![other.store_path.hash()]));
    case.house.stop().await;
}

#[tokio::test]
async fn answers_are_the_same_before_and_after_the_row_is_written() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let name = file_of(&ours);
    let before = (case.known(&ours).await, case.control().locate("edge", name).await.expect("answers"));
    case.house.control.flushed().await;
    let after = (case.known(&ours).await, case.control().locate("edge", name).await.expect("answers"));
    assert_eq!(before, after);
    assert!(before.1.is_some());
    case.house.stop().await;
}

/// An edge that is called as its instance.
fn an_edge(instance: &str) -> Hello {
    let url = Some(format!("http://{instance}:8501"));
    Hello { url, durable: true, ..Hello::new(instance, instance) }
}

/// An attached edge.
struct Edge {
    reports: mpsc::UnboundedSender<EdgeReport>,
    directives: ncps_proto::Directives,
}

impl Edge {
    async fn attach(control: &dyn ControlPlane, instance: &str) -> Self {
        Self::attach_as(control, an_edge(instance)).await
    }

    async fn attach_as(control: &dyn ControlPlane, hello: Hello) -> Self {
        Self::try_attach(control, hello).await.expect("attaches")
    }

    async fn try_attach(control: &dyn ControlPlane, hello: Hello) -> ncps_proto::Result<Self> {
        let (reports, mut said) = mpsc::unbounded_channel();
        reports.send(EdgeReport::Hello(hello)).expect("open");
        let stream = futures::stream::poll_fn(move |cx| said.poll_recv(cx)).map(Said::from);
        let directives = control.attach(Box::pin(stream)).await?;
        let mut edge = Self { reports, directives };
        assert!(matches!(edge.next().await, Some(Directive::Configure(_))));
        Ok(edge)
    }

    /// Answers by itself, and at once, that it forgot what it was told to: clients wait for that.
    fn answering(self) -> Self {
        let Self { reports, mut directives } = self;
        let (to_say, (told, mut heard)) = (reports.downgrade(), mpsc::unbounded_channel());
        tokio::spawn(async move {
            while let Some(directive) = directives.next().await {
                let number = match directive.as_ref().map(|told| &told.directive) {
                    Ok(Directive::Outdate(outdating)) => Some(outdating.number),
                    Ok(Directive::Remove(removal)) if removal.nars.is_empty() => Some(removal.number),
                    _ => None,
                };
                if let (Some(number), Some(to_say)) = (number, to_say.upgrade()) {
                    to_say.send(EdgeReport::Evicted { number, gone: Vec::new() }).ok();
                }
                told.send(directive).ok();
            }
        });
        Self { reports, directives: futures::stream::poll_fn(move |cx| heard.poll_recv(cx)).boxed() }
    }

    /// The next that it is told. That it is to list its narinfos is passed over: who holds what the index does not
    /// know hears it at any time, and no test here is about that.
    async fn next(&mut self) -> Option<Directive> {
        loop {
            let directive = self.directives.next().await?.expect("no break").directive;
            if !matches!(directive, Directive::Job { job: Job::ListNarinfos, .. }) {
                return Some(directive);
            }
        }
    }

    async fn invalidated(&mut self, narinfo: &NarInfo) {
        let next = self.next().await;
        assert_eq!(next, Some(Directive::Invalidate(vec![narinfo.store_path.hash()])));
    }
}

const BLOCK: u64 = 4096;

async fn limited(change: impl FnOnce(&mut EdgeSettings)) -> Case {
    let (upstream, key, folder) = (Upstream::new(), own_key(), folder());
    let mut settings = settings(upstream.key.public());
    change(&mut settings);
    let house = House::open(folder.path(), same_key(&key), settings, Duration::from_secs(60)).await;
    Case { upstream, key, folder, house }
}

/// An edge with an empty store, of which more than 40 blocks are too much.
async fn writable_scene() -> (Case, Edge) {
    let case = limited(|settings| {
        settings.max_size = Some(40 * BLOCK);
        settings.writing = ncps_proto::Writing { put: true, delete: true, ..settings.writing };
    });
    let case = case.await;
    let edge = Edge::attach(case.control(), "a").await.answering();
    edge.holds(&[]);
    (case, edge)
}

/// Takes nine blocks, and one for its narinfo.
fn held(name: NarFileName) -> HeldNar {
    HeldNar { name, file_size: 9 * BLOCK, disk_bytes: 9 * BLOCK }
}

fn nar(seed: &str) -> NarFileName {
    file(seed, Compression::Xz)
}

fn disk(number: u64, used: u64, wanted: u64) -> EdgeReport {
    EdgeReport::Disk(DiskReport {
        number,
        total: 1 << 40,
        free: 1 << 39,
        used: used * BLOCK,
        wanted: wanted * BLOCK,
    })
}

impl Edge {
    fn say(&self, report: EdgeReport) {
        self.reports.send(report).expect("open");
    }

    fn holds(&self, names: &[NarFileName]) {
        let held = names.iter().map(|name| held(*name)).collect();
        self.say(EdgeReport::Inventory { held, last: true });
    }

    fn reads(&self, name: NarFileName) {
        self.say(EdgeReport::Accesses(Accesses { narinfos: vec![], nars: vec![(name, 1)] }));
    }

    /// Whatever else it is told.
    async fn ordered(&mut self) -> Eviction {
        loop {
            if let Directive::Evict(eviction) = self.next().await.expect("attached") {
                return eviction;
            }
        }
    }

    async fn eviction(&mut self) -> Eviction {
        match self.next().await {
            Some(Directive::Evict(eviction)) => eviction,
            other => panic!("expected an eviction, not {other:?}"),
        }
    }

    /// Obeys, as far as it can: what is `in_use` stays.
    async fn evicts_but(&mut self, in_use: &[NarFileName]) -> Vec<NarFileName> {
        let Eviction { victims, number, .. } = self.eviction().await;
        let names: Vec<_> = victims.iter().map(|victim| victim.name).collect();
        let gone = names.iter().filter(|name| !in_use.contains(name)).copied().collect();
        self.say(EdgeReport::Evicted { number, gone });
        names
    }

    async fn evicts(&mut self) -> Vec<NarFileName> {
        self.evicts_but(&[]).await
    }
}
