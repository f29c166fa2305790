//! What is looked into when an edge has said all that it holds: files whose size can't be right.

use std::sync::Arc;

use ncps_nix::NarFileName;
use ncps_proto::Result;
use ncps_runtime::tasks::Tasks;
use tokio::sync::mpsc;

use super::Control;

/// Edges that may wait to be looked into. One that does not fit is looked into when it attaches again.
const WAITING: usize = 256;

/// An edge whose inventory is complete.
#[derive(Debug)]
pub(super) struct Arrival {
    instance: String,
    /// Files whose size is not what an edge proved once.
    suspects: Vec<NarFileName>,
}

/// Where arrivals are told.
#[derive(Clone, Debug)]
pub(super) struct Arrivals(mpsc::Sender<Arrival>);

impl Arrivals {
    pub(super) fn channel() -> (Arrivals, mpsc::Receiver<Arrival>) {
        let (tx, rx) = mpsc::channel(WAITING);
        (Arrivals(tx), rx)
    }

    /// An edge has said all that it holds.
    pub(super) fn announce(&self, instance: &str, suspects: Vec<NarFileName>) {
        if self.0.try_send(Arrival { instance: instance.to_owned(), suspects }).is_err() {
            tracing::debug!(instance, "too many edges attach at once: this one is looked into next time");
        }
    }
}

impl Control {
    /// Looks into each edge that arrives, beside the others.
    pub(super) fn meet(self: &Arc<Self>, mut arrived: mpsc::Receiver<Arrival>, tasks: &Tasks) {
        let (control, stop, all) = (Arc::clone(self), tasks.life().hard(), tasks.clone());
        tasks.spawn_critical_background("arrivals", async move {
            while let Some(Some(arrival)) = stop.run_until_cancelled(arrived.recv()).await {
                let (control, stop) = (Arc::clone(&control), stop.clone());
                all.spawn_background("arrival", async move {
                    let instance = arrival.instance.clone();
                    let looked = stop.run_until_cancelled(control.look_into(arrival)).await;
                    if let Some(Err(error)) = looked {
                        tracing::warn!(instance, error = error.story(), "an edge could not be looked into");
                    }
                });
            }
        });
    }

    async fn look_into(&self, Arrival { instance, suspects }: Arrival) -> Result<()> {
        if !suspects.is_empty() {
            tracing::warn!(instance, files = suspects.len(), "stored files have another size than they had");
            self.scrub_suspects(&instance, suspects).await?;
        }
        Ok(())
    }
}
