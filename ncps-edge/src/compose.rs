//! Puts the edge together: disk, state, lookups, transfers, the session with control, the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use ncps_proto::{ControlPlane, Hello};
use ncps_runtime::clock::SystemClock;
use ncps_runtime::tasks::Tasks;
use ncps_runtime::telemetry::Telemetry;

use crate::access::AccessLog;
use crate::ahead::LookAhead;
use crate::attach::{self, Attachment};
use crate::config::EdgeConfig;
use crate::drain::Drain;
use crate::http::{self, Service};
use crate::jobs::Workshop;
use crate::listener;
use crate::live::Current;
use crate::lookup::Lookups;
use crate::metrics::{EdgeMetrics, Watched};
use crate::near::NearCache;
use crate::objects::{Keepers, Objects};
use crate::remote::{ControlPath, Guarded};
use crate::room::Room;
use crate::state::StateFile;
use crate::store::{LocalStore, ObjectStore};
use crate::totals::new_run;
use crate::transcode::Transcoder;
use crate::transfer::{Engine, Parts};
use crate::uploads::Uploads;
use crate::upstream::Surroundings;

/// The near cache before control said its size, and the priority before it said that.
const NEAR_CACHE: u64 = 64 << 20;
const PRIORITY: u32 = 10;

/// A running edge, for who composed it.
pub struct Edge {
    pub addr: SocketAddr,
    pub store: Arc<LocalStore>,
    pub engine: Arc<Engine>,
    pub lookups: Arc<Lookups>,
    pub objects: Arc<Objects>,
    pub current: Arc<Current>,
    pub accesses: Arc<AccessLog>,
    pub metrics: Arc<EdgeMetrics>,
}

/// Binds, opens and starts an edge over `control`. The caller holds the lock of the data path.
///
/// # Errors
/// Where the address, the disk or the state can't be used.
pub async fn compose(
    config: EdgeConfig,
    control: impl Into<ControlPath>,
    tasks: &Tasks,
    telemetry: &Telemetry,
) -> anyhow::Result<Edge> {
    let metrics = EdgeMetrics::new(telemetry);
    // Before anything is promised, and so that a test can ask for port 0.
    let listener = listener::listen(&config.server_addr).await;
    let listener = listener.with_context(|| format!("listen at {} (--server-addr)", config.server_addr))?;
    let addr = listener.local_addr()?;
    let tls =
        config.tls.as_ref().map(http::load_tls).transpose().context("--server-tls-cert, --server-tls-key")?;
    let (state, store, saved) = open_disk(&config).context("open the data path (--cache-data-path)")?;
    let object_store = ObjectStore::open(store.clone()).context("open the data path (--cache-data-path)")?;
    let authorities = config.authorities.as_deref().map(std::fs::read_to_string).transpose();
    let authorities = authorities.context("read --control-ca-file")?.map(Arc::from);
    let around = Surroundings {
        metrics: metrics.clone(),
        tasks: tasks.clone(),
        returned: Arc::default(),
        authorities,
        has_peers: config.url.is_some(),
    };
    let current = Arc::new(Current::new(around));
    let control: Arc<dyn ControlPlane> = Guarded::new(control.into(), &current, &metrics, tasks);
    let ready = tasks.life().latch("configuration from control");
    let ready = match saved {
        Some(settings) if current.apply(settings.clone()).is_ok() => {
            ready.release();
            None
        }
        _ => Some(ready),
    };
    let near_bytes = current.get().map_or(NEAR_CACHE, |live| live.settings.near_cache_bytes);
    let near = Arc::new(NearCache::new(near_bytes));
    let lookups = Lookups::new(
        near.clone(),
        control.clone(),
        store.clone(),
        current.clone(),
        tasks.clone(),
        metrics.clone(),
    );
    let instance = state.instance().to_owned();
    let room = Room::new(store.clone(), current.clone(), config.max_size);
    let engine = Engine::new(Parts {
        store: store.clone(),
        room: room.clone(),
        control: control.clone(),
        lookups: lookups.clone(),
        current: current.clone(),
        tasks: tasks.clone(),
        instance: instance.clone(),
        metrics: metrics.clone(),
    });
    let keepers =
        config.url.is_some().then(|| Keepers { control: control.clone(), instance: instance.clone() });
    let objects =
        Objects::new(store.clone(), Arc::new(object_store), current.clone(), tasks.clone(), keepers);
    metrics.watch(Watched { current: &current, engine: &engine, near: &near, store: &store });
    Transcoder::start(&engine, &current, &metrics, tasks);
    let accesses = Arc::new(AccessLog::default());
    let workshop = Arc::new(Workshop {
        store: store.clone(),
        engine: engine.clone(),
        lookups: lookups.clone(),
        current: current.clone(),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
        reconciled: Default::default(),
    });
    let drain = Drain::new(tasks.life().clone());
    let attachment = Attachment {
        drain: drain.clone(),
        control,
        hello: Hello {
            url: config.url,
            zone: config.zone,
            durable: config.durable,
            capacity: config.max_size,
            ..Hello::new(&config.name, instance)
        },
        store: store.clone(),
        engine: engine.clone(),
        lookups: lookups.clone(),
        current: current.clone(),
        accesses: accesses.clone(),
        room,
        state,
        workshop,
        tasks: tasks.clone(),
        metrics: metrics.clone(),
        clock: Arc::new(SystemClock),
        run: new_run(),
    };
    tasks.spawn_critical_background("attach", attach::run(attachment, ready));
    let ahead =
        LookAhead::new(lookups.clone(), engine.clone(), current.clone(), tasks.clone(), metrics.clone());
    let service = Arc::new(Service {
        lookups: lookups.clone(),
        ahead,
        engine: engine.clone(),
        objects: objects.clone(),
        uploads: Uploads::new(
            engine.clone(),
            lookups.clone(),
            objects.clone(),
            current.clone(),
            config.durable,
            drain,
        ),
        current: current.clone(),
        accesses: accesses.clone(),
        life: tasks.life().clone(),
        metrics: metrics.clone(),
        edge: config.name.clone(),
        landing_page: config.landing_page,
        tls: tls.is_some(),
    });
    if let Some(tls) = tls.clone() {
        tasks.spawn_background("certificate", tls.watch(tasks.life().hard()));
    }
    let (limits, secure) = (config.limits, tls.is_some());
    tasks.spawn_critical("server", http::serve(listener, service, limits, tls, tasks.clone()));
    tracing::info!(%addr, tls = secure, data = %config.data_path.display(), "edge");
    Ok(Edge { addr, store, engine, lookups, objects, current, accesses, metrics })
}

type Disk = (StateFile, Arc<LocalStore>, Option<ncps_proto::EdgeSettings>);

fn open_disk(config: &EdgeConfig) -> io::Result<Disk> {
    std::fs::create_dir_all(&config.data_path)?;
    let (state, saved) = StateFile::open(&config.data_path)?;
    let priority = saved.as_ref().map_or(PRIORITY, |settings| settings.priority);
    let store = LocalStore::open_at(&config.data_path, priority)?;
    Ok((state, Arc::new(store), saved))
}
