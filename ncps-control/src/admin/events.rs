//! What happened, and what happens.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use ncps_proto::admin::{Event, Events, EventsWanted};
use ncps_proto::{Code, Error, Result};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::Control;
use crate::db::Which;
use crate::journal::{Live, too_slow};

/// Events from before in one answer.
const MOST: u32 = 100_000;

impl Control {
    pub(super) async fn read_journal(&self, wanted: EventsWanted) -> Result<Events> {
        if wanted.last > MOST {
            return Err(Error::new(Code::Invalid, format!("at most {MOST} events can be asked for")));
        }
        // Before history is read, so that none is missed in between.
        let live = self.journal.listen();
        self.journal.flushed().await;
        let which = if wanted.audit { Which::Audit } else { Which::All };
        let history = self.index.last_events(wanted.last, which).await?;
        let after = history.last().map_or(0, |event| event.id);
        let history = stream::iter(history.into_iter().map(Ok));
        if !wanted.follow {
            return Ok(history.boxed());
        }
        let listener = Listener { live, after, audit: wanted.audit, stop: self.tasks.life().soft() };
        let live = stream::unfold(Some(listener), async |listener| {
            let mut listener = listener?;
            let heard = listener.next().await?;
            let goes_on = heard.is_ok();
            Some((heard, goes_on.then_some(listener)))
        });
        Ok(history.chain(live).boxed())
    }
}

struct Listener {
    live: Live,
    /// What history had.
    after: u64,
    audit: bool,
    stop: CancellationToken,
}

impl Listener {
    /// `None` when control stops.
    async fn next(&mut self) -> Option<Result<Event>> {
        loop {
            let heard = tokio::select! {
                heard = self.live.recv() => heard,
                () = self.stop.cancelled() => return None,
            };
            match heard {
                Ok(event) if self.wants(&event) => return Some(Ok(Arc::unwrap_or_clone(event))),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => return Some(Err(too_slow(missed))),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn wants(&self, event: &Event) -> bool {
        event.id > self.after && (event.actor.is_some() || !self.audit)
    }
}
