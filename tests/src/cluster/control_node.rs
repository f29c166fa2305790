//! Control of a cluster, with the life of its process.

use std::sync::Arc;

use ncps_control::Control;
use ncps_control::compose::{Composed, compose};
use ncps_control::config::ControlConfig;
use ncps_control::serve::{ControlListener, serve};
use ncps_runtime::clock::SystemClock;
use ncps_runtime::telemetry::Telemetry;

use super::process::{Plane, begun, running};

/// Control that runs, with the process that it is in.
pub(super) struct Running {
    pub(super) control: Arc<Control>,
    pub(super) plane: Plane,
}

impl Running {
    /// In a process of its own.
    pub(super) async fn launch(config: ControlConfig, telemetry: &Telemetry) -> Running {
        let (life, tasks) = begun();
        let listener = ControlListener::bind(&config.addr).await.expect("control's socket");
        let composed = compose(config, &tasks, Arc::new(SystemClock), telemetry).await;
        let Composed { control } = composed.expect("control starts");
        serve(listener, control.clone(), &tasks);
        Running { control, plane: running(life, tasks) }
    }

    /// As SIGTERM does, and until all has ended.
    pub(super) async fn stop(self) {
        drop(self.control);
        self.plane.stop().await;
    }

    /// Without a grace.
    pub(super) async fn stop_now(self) {
        drop(self.control);
        self.plane.stop_now().await;
    }
}
