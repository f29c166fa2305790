//! A control that says nothing for ten minutes, in simulated time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ncps_nix::SecretKey;
use ncps_proto::fake::FakeControl;
use ncps_proto::grpc::{RemoteControl, server};
use ncps_runtime::lifecycle::{Lifecycle, Timing};
use ncps_runtime::telemetry::Telemetry;
use tower::Service;

use super::*;
use crate::remote::{ControlPath, Guarded};
use crate::upstream::Surroundings;

const DEADLINE: Duration = Duration::from_millis(500);

/// A way to control on which nothing comes back while it is cut.
#[derive(Clone, Default)]
struct Way {
    cut: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl Way {
    fn to_control(&self) -> Arc<dyn ControlPlane> {
        let settings = ncps_proto::decode_settings(&[]).expect("what is not said has defaults");
        let key = SecretKey::generate("cache.test").expect("made");
        let service = server(Arc::new(FakeControl::new(key, settings, Duration::from_secs(60))));
        let way = self.clone();
        let through = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let (mut service, way) = (service.clone(), way.clone());
            async move {
                way.calls.fetch_add(1, Ordering::SeqCst);
                if way.cut.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                service.call(request).await
            }
        });
        Arc::new(RemoteControl::new(through))
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_pays_three_deadlines_in_ten_minutes() {
    let life = Lifecycle::new(Timing { delay: Duration::ZERO, grace: Duration::ZERO });
    let (tasks, metrics) = (life.tasks(), EdgeMetrics::new(&Telemetry::off()));
    let around = Surroundings {
        metrics: Arc::clone(&metrics),
        tasks: tasks.clone(),
        returned: Arc::default(),
        authorities: None,
        has_peers: false,
    };
    let way = Way::default();
    let path = ControlPath { plane: way.to_control(), deadline: Some(DEADLINE) };
    let control = Guarded::new(path, &Arc::new(Current::new(around)), &metrics, &tasks);
    control.narinfo(NOBODYS).await.expect("it is there");

    way.cut.store(true, Ordering::SeqCst);
    let (start, mut waited) = (Instant::now(), Duration::ZERO);
    while start.elapsed() < Duration::from_secs(600) {
        let asked = Instant::now();
        let error = control.narinfo(NOBODYS).await.expect_err("nobody answers");
        assert_eq!(error.code(), Code::Unavailable);
        waited += asked.elapsed();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!((waited, metrics.control_away.get(())), (3 * DEADLINE, 1));
    let probes = way.calls.load(Ordering::SeqCst) - 4;
    assert!((150..400).contains(&probes), "{probes} probes, every 2.5 to 3.5 s");

    way.cut.store(false, Ordering::SeqCst);
    tokio::time::sleep(LONGEST_PROBE * 2 + DEADLINE).await;
    assert_eq!(metrics.control_away.get(()), 0);
    control.narinfo(NOBODYS).await.expect("it is back");
    let before = way.calls.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(way.calls.load(Ordering::SeqCst), before, "nobody probes any more");
}
