//! What edges are configured with, as it is now: one value, swapped as a whole. Who attaches hears it first; every
//! attached edge hears the newest one when it changed.
//!
//! It waits in no queue. What an edge is told next is looked up when it can be told something, so that a change is
//! never lost, whatever else waits for that edge, and of several changes it hears the last.
//!
//! Absent: who changes what, and what becomes of a change at the edge.

use std::sync::Arc;

use ncps_proto::EdgeSettings;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

/// The settings in force.
#[derive(Debug)]
pub(crate) struct Settings {
    current: watch::Sender<Arc<EdgeSettings>>,
}

impl Settings {
    pub(crate) fn new(first: EdgeSettings) -> Settings {
        Settings { current: watch::Sender::new(Arc::new(first)) }
    }

    /// Those in force now.
    pub(crate) fn get(&self) -> Arc<EdgeSettings> {
        Arc::clone(&self.current.borrow())
    }

    /// Changes them. Changes come one after the other, and one that changes nothing is told to nobody.
    pub(crate) fn change(&self, change: impl FnOnce(&mut EdgeSettings)) {
        self.current.send_if_modified(|current| {
            let mut next = EdgeSettings::clone(current);
            change(&mut next);
            let differs = next != **current;
            if differs {
                *current = Arc::new(next);
            }
            differs
        });
    }

    /// Those in force now, then the newest after each change.
    pub(crate) fn watch(&self) -> WatchStream<Arc<EdgeSettings>> {
        WatchStream::new(self.current.subscribe())
    }
}
