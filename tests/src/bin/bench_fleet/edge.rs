//! The edges: each has a connection of its own, and goes on with it whatever becomes of control.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use ncps_edge::access::AccessLog;
use ncps_edge::attach::dialogue::{Effect, Next};
use ncps_edge::attach::{Dialogue, Pause, reports_due};
use ncps_edge::config::{ControlLink, ControlUrl};
use ncps_edge::remote::dial;
use ncps_proto::grpc::RemoteControl;
use ncps_proto::{
    Code, ControlPlane, Counts, DiskReport, EdgeReport, Error, HeldNar, Hello, Result, Said, Totals,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use url::Url;

use crate::world::World;

pub(crate) struct Edge {
    number: usize,
    held: Vec<HeldNar>,
    pub(crate) accesses: AccessLog,
    dialogue: Mutex<Dialogue>,
    /// Its connection, as long as there is one.
    control: RwLock<Option<Arc<dyn ControlPlane>>>,
}

/// All of them.
pub(crate) struct Fleet {
    pub(crate) edges: Vec<Arc<Edge>>,
    tries: Arc<AtomicUsize>,
    /// Files that reports named.
    pub(crate) reported: Arc<AtomicUsize>,
}

impl Fleet {
    /// Each begins at once, and tries until it is attached.
    pub(crate) fn attach(world: Arc<World>, url: Url) -> Fleet {
        let link = ControlLink::from(ControlUrl::Http(url));
        let (tries, reported) = (Arc::default(), Arc::default());
        let mut held: Vec<Vec<HeldNar>> = vec![Vec::new(); world.size.edges];
        for n in 0..world.size.paths {
            world.holders(n).into_iter().for_each(|edge| held[edge].push(world.held(n)));
        }
        let edges = held.into_iter().enumerate().map(|(number, held)| {
            let edge = Arc::new(Edge {
                number,
                held,
                accesses: AccessLog::default(),
                dialogue: Mutex::default(),
                control: RwLock::default(),
            });
            let counters = (Arc::clone(&tries), Arc::clone(&reported));
            tokio::spawn(Arc::clone(&edge).run(link.clone(), counters));
            edge
        });
        Fleet { edges: edges.collect(), tries, reported }
    }

    pub(crate) fn count(&self) -> usize {
        self.edges.len()
    }

    /// In all their stores.
    pub(crate) fn files(&self) -> usize {
        self.edges.iter().map(|edge| edge.held.len()).sum()
    }

    /// How often one tried to attach, since this was asked last.
    pub(crate) fn tries(&self) -> usize {
        self.tries.swap(0, Ordering::Relaxed)
    }
}

type Counters = (Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Edge {
    pub(crate) fn instance(&self) -> String {
        format!("{:032x}", self.number)
    }

    /// Its way to control, while it has one.
    pub(crate) fn control(&self) -> Option<Arc<dyn ControlPlane>> {
        self.control.read().clone()
    }

    async fn run(self: Arc<Self>, link: ControlLink, (tries, reported): Counters) {
        let mut pause = Pause::default();
        loop {
            tries.fetch_add(1, Ordering::Relaxed);
            // Why it broke is no news: control was stopped.
            let _broken = self.session(&link, &mut pause, &reported).await;
            self.control.write().take();
            self.dialogue.lock().end();
            pause.wait().await;
        }
    }

    async fn session(&self, link: &ControlLink, pause: &mut Pause, reported: &AtomicUsize) -> Result<()> {
        let control = Arc::new(RemoteControl::new(dial(link).await?));
        let (reports, rx) = mpsc::channel(16);
        let hello = self.dialogue.lock().begin(self.hello());
        let said = futures::stream::iter([hello]).chain(ReceiverStream::new(rx)).boxed();
        let mut directives = control.attach(said).await?;
        let mut due = reports_due();
        loop {
            while let Some(next) = self.next()? {
                if let Some(said) = self.say(next, reported) {
                    reports.send(said).await.map_err(|_| broken("the stream broke"))?;
                }
            }
            tokio::select! {
                told = directives.next() => {
                    let told = told.ok_or_else(|| broken("control ended the session"))??;
                    let effect = self.dialogue.lock().hear(told).map_err(broken)?;
                    if let Some(Effect::Begin { .. }) = effect {
                        pause.over();
                        *self.control.write() = Some(Arc::clone(&control) as _);
                    }
                }
                _ = due.tick() => self.dialogue.lock().all_is_due(),
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            url: Some(format!("http://edge-{}.lan:8501", self.number)),
            zone: Some(format!("zone-{}", self.number % 4)),
            ..Hello::new(format!("edge-{}", self.number), self.instance())
        }
    }

    fn next(&self) -> Result<Option<Next>> {
        self.dialogue.lock().next().map_err(broken)
    }

    fn say(&self, next: Next, reported: &AtomicUsize) -> Option<Said> {
        let report = match next {
            Next::Say(said) => return Some(said),
            Next::List => {
                self.dialogue.lock().listed(self.held.clone());
                return None;
            }
            Next::Accesses => {
                let accesses = self.accesses.take();
                reported.fetch_add(accesses.nars.len(), Ordering::Relaxed);
                EdgeReport::Accesses(accesses)
            }
            Next::Disk => EdgeReport::Disk(self.disk()),
            Next::Totals => EdgeReport::Totals(self.totals()),
            // Nothing of it happens here.
            Next::Look { .. } | Next::UpstreamBack | Next::Drained => return None,
        };
        Some(self.dialogue.lock().says(report))
    }

    fn disk(&self) -> DiskReport {
        let used = self.held.iter().map(|held| held.disk_bytes).sum();
        DiskReport { number: 1, total: 4 * used, free: 3 * used, used, wanted: 0 }
    }

    fn totals(&self) -> Totals {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Totals { run: self.instance(), version, counts: Counts::default(), upstreams: Vec::new() }
    }
}

fn broken(why: impl ToString) -> Error {
    Error::new(Code::Unavailable, why.to_string())
}
