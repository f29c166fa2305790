//! Origins whose bytes proved wrong. They are not asked again for a while: asking costs a whole download, and a
//! mirror that was repaired deserves another chance later. Memory only, and bounded.

use std::collections::HashMap;
use std::time::Duration;

use ncps_proto::Origin;
use parking_lot::Mutex;
use tokio::time::Instant;

const FOR: Duration = Duration::from_secs(600);
const MOST: usize = 10_000;

#[derive(Default)]
pub(super) struct Distrust {
    until: Mutex<HashMap<Origin, Instant>>,
}

impl Distrust {
    pub(super) fn add(&self, origin: &Origin) {
        let now = Instant::now();
        let mut until = self.until.lock();
        if until.len() >= MOST {
            until.retain(|_, until| *until > now);
        }
        if until.len() < MOST {
            until.insert(origin.clone(), now + FOR);
        }
    }

    pub(super) fn covers(&self, origin: &Origin) -> bool {
        self.until.lock().get(origin).is_some_and(|until| *until > Instant::now())
    }
}
