//! What is looked into when an edge has said all that it holds: files whose size can't be right, and files that the
//! index does not know.

use std::sync::Arc;

use ncps_nix::NarFileName;
use ncps_proto::Result;
use ncps_proto::admin::AdoptedEdge;
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
    /// Files that the index did not know.
    unknown: Vec<NarFileName>,
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
    pub(super) fn announce(&self, instance: &str, suspects: Vec<NarFileName>, unknown: Vec<NarFileName>) {
        if self.0.try_send(Arrival { instance: instance.to_owned(), suspects, unknown }).is_err() {
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

    async fn look_into(&self, Arrival { instance, suspects, unknown }: Arrival) -> Result<()> {
        let index = self.sessions.index_of(&instance);
        if let Some(other) = index.filter(|index| index != self.index.id()) {
            tracing::error!(
                instance,
                its_index = other,
                index = self.index.id(),
                "an edge belongs to another index: it removes nothing, and what it holds is not taken over, until \
                 ncps-cli index rebuild"
            );
            return Ok(());
        }
        if !suspects.is_empty() {
            tracing::warn!(instance, files = suspects.len(), "stored files have another size than they had");
            self.scrub_suspects(&instance, suspects).await?;
        }
        // What comes in just now is known as soon as its edge has said so.
        let unknown = self.still_unknown(unknown).await?;
        if !unknown.is_empty() {
            tracing::info!(
                instance,
                files = unknown.len(),
                "an edge holds files that the index does not know"
            );
            let mut adopted = AdoptedEdge { instance: instance.clone(), ..AdoptedEdge::default() };
            let refused = self.adopt_from(&mut adopted, |_| {}).await?;
            let strays = self.still_unknown(unknown).await?;
            self.strays(&instance, strays, refused).await?;
        }
        Ok(())
    }

    async fn still_unknown(&self, names: Vec<NarFileName>) -> Result<Vec<NarFileName>> {
        let mut unknown = Vec::new();
        for name in names {
            if self.index.file(name).await?.is_none() && self.index.resolve(name).await? == name {
                unknown.push(name);
            }
        }
        Ok(unknown)
    }
}
