//! Looking at a few files with all that can be known of them. Nothing is changed.

use std::sync::Arc;
use std::time::Instant;

use ncps_nix::NarFileName;
use ncps_proto::{Checked, JobSaid, Verdict};
use tokio_util::sync::CancellationToken;

use super::check::{Finding, Look};
use super::pace::Pace;
use super::{Teller, Workshop};
use crate::store::blocking;

impl Workshop {
    pub(super) async fn verify(
        &self,
        names: Vec<NarFileName>,
        teller: &Teller,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        for name in names {
            let mut look = Look {
                store: Arc::clone(&self.store),
                deep: true,
                pace: Pace::new(None, Instant::now()),
                read: Arc::default(),
                stop: stop.clone(),
            };
            let found = blocking(move || look.at(name)).await.map_err(|e| format!("open {name}: {e}"))?;
            teller.say(JobSaid::Checked(checked(name, found))).await;
        }
        Ok(())
    }
}

fn checked(name: NarFileName, found: Finding) -> Checked {
    let (verdict, file_size, nar, reason) = match found {
        Finding::Right { size, nar, reason } => (Verdict::Right, size, nar, reason),
        Finding::Wrong { seen, reason } => (Verdict::Wrong, seen.len(), None, reason),
        Finding::Unreadable { seen, reason } => (Verdict::Unreadable, seen.len(), None, reason),
        Finding::Missing => (Verdict::Missing, 0, None, String::new()),
    };
    Checked { name, verdict, file_size, nar, reason }
}
