//! Objects that clients brought to other edges, where their disks are kept. They are asked for there each time: nobody
//! tells when one is replaced or deleted, and who brought one may ask for it at any edge at once.
//!
//! Control knows these edges, and whether one of them is away. What it does not know is who has which object.

use std::sync::Arc;

use ncps_nix::ObjectName;
use ncps_proto::{Code, ControlPlane, DurableEdges, Error, Result};

use super::buffer::{Trouble, take};
use super::decode::decoded;
use super::fetch::content;
use super::{Object, Objects, rules};
use crate::upstream::UpstreamError;

/// The other edges that keep their disks, as control names them.
pub(crate) struct Keepers {
    pub(crate) control: Arc<dyn ControlPlane>,
    pub(crate) instance: String,
}

impl Objects {
    /// The object as it rests at another edge. `None` where none has it.
    ///
    /// # Errors
    /// Where that can't be said: control or an edge that may have it can't be asked.
    pub(super) async fn elsewhere(&self, name: &ObjectName) -> Result<Option<Object>> {
        let Some(keepers) = &self.keepers else { return Ok(None) };
        let DurableEdges { urls, away } = keepers.control.durable_edges(&keepers.instance).await?;
        let mut unclear = away.then(|| Error::new(Code::Unavailable, "an edge that keeps uploads is away"));
        for url in urls {
            match self.at(&url, name).await {
                Ok(Some(object)) => return Ok(Some(object)),
                Ok(None) => {}
                Err(Trouble::Upstream(error)) => {
                    // Of one that is left alone it was said when it did not answer.
                    if error != UpstreamError::Paused {
                        tracing::warn!(edge = url, %name, %error, "an edge that keeps uploads can't be asked for an object");
                    }
                    let why = "an edge that keeps uploads can't be asked";
                    unclear = Some(Error::new(Code::Unavailable, why).because(error));
                }
                Err(Trouble::Disk(error)) => {
                    let message = format!("the disk can't take {name} in");
                    return Err(Error::new(Code::Unavailable, message).because(error));
                }
            }
        }
        unclear.map_or(Ok(None), Err)
    }

    async fn at(&self, url: &str, name: &ObjectName) -> std::result::Result<Option<Object>, Trouble> {
        let _slot = self.slot().await.map_err(|_| Trouble::Upstream(UpstreamError::Stranger))?;
        let live = self.current.get().map_err(|_| Trouble::Upstream(UpstreamError::Stranger))?;
        let body = live.upstreams.peers().object(url, name).await.map_err(Trouble::Upstream)?;
        let Some(body) = body else { return Ok(None) };
        let taken = take(decoded(body.stream, &body.coding), rules(name).limit, &self.local).await?;
        Ok(Some(Object { content: content(&taken), coding: None }))
    }
}
