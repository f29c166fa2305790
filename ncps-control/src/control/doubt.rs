//! An edge did not get a file from a peer that is believed to hold it. Others are not sent there, and the peer is told to
//! look; what it finds is believed, what the other one said is not.

use std::collections::BTreeSet;
use std::time::Duration;

use ncps_nix::NarFileName;
use ncps_proto::admin::EventKind;
use ncps_proto::{Code, Result};

use super::Control;
use super::lost::{self, Left, Told};
use crate::journal::Note;

/// A peer that scrubs just then is asked again after this, and so often.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: u32 = 600;

impl Control {
    pub(super) fn doubt(&self, asker: &str, url: &str, name: NarFileName) -> Result<()> {
        tracing::info!(nar = %name, %asker, peer = url, "a peer did not give a file that it is believed to hold");
        let Some(peer) = self.sessions.doubt(url, name) else { return Ok(()) };
        let (control, stop) = (self.this()?, self.tasks.life().hard());
        self.tasks.spawn_background("doubted files", async move {
            let looked = stop.run_until_cancelled(control.have_it_look(&peer)).await;
            if let Some(Err(error)) = looked {
                tracing::warn!(
                    peer,
                    error = error.story(),
                    "a peer could not look at what it is believed to hold"
                );
            }
        });
        Ok(())
    }

    /// Until nothing is left that it did not look at.
    async fn have_it_look(&self, peer: &str) -> Result<()> {
        let (mut seen, mut looked) = (BTreeSet::new(), Ok(()));
        loop {
            let files = self.sessions.doubted(peer, &seen);
            if files.is_empty() || looked.is_err() {
                return looked;
            }
            seen.extend(files.iter().copied());
            looked = self.scrub_when_free(peer, files).await;
        }
    }

    async fn scrub_when_free(&self, peer: &str, files: Vec<NarFileName>) -> Result<()> {
        for _ in 0..TRIES {
            match self.scrub_suspects(peer, files.clone()).await {
                Err(error) if error.code() == Code::Overloaded => tokio::time::sleep(PAUSE).await,
                looked => return looked,
            }
        }
        Ok(())
    }

    /// An edge looked for a file and has none of this name.
    pub(super) async fn hear_missing(&self, instance: &str, name: NarFileName) {
        if !self.sessions.is_missing(instance, name) {
            return;
        }
        let edge = self.sessions.name_of(instance).unwrap_or_else(|| instance.to_owned());
        tracing::warn!(edge, nar = %name, "an edge does not hold a file that it was believed to hold");
        let why = Note::new(
            EventKind::Retracted,
            format!("its NAR was an upload, which edge {edge} has no longer"),
        );
        let told = Told { index: &self.index, sessions: &self.sessions, journal: &self.journal };
        lost::left(told, Left { instance, names: &[name], for_room: false }, &why).await;
    }
}
