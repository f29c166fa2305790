//! Whether an edge can be taken in beside those that are attached.

use ncps_proto::{Code, Error, Hello};

use super::Fleet;
use super::session::Session;
use crate::refusals::Reason;

/// Attached at once.
const MOST: usize = 2048;

impl Fleet {
    /// Whether there is room for an edge. The instance that is attached already takes over its own session; another one
    /// can't have its name until that session is over, as when a wiped edge comes back.
    ///
    /// # Errors
    /// Why not, with what to do.
    pub(crate) fn room_for(&self, hello: &Hello) -> Result<(), (Reason, Error)> {
        let mut others = self.sessions.values().filter(|session| session.instance != hello.instance);
        if let Some(other) = others.clone().find(|session| session.name == hello.name) {
            return Err((Reason::Name, Error::new(Code::Refused, is_taken(other))));
        }
        if others.nth(MOST - 1).is_some() {
            let why = format!("{MOST} edges are attached, as many as may be");
            return Err((Reason::Full, Error::new(Code::Overloaded, why)));
        }
        Ok(())
    }
}

fn is_taken(Session { name, instance, url, .. }: &Session) -> String {
    let at = url.as_deref().map(|url| format!(" at {url}")).unwrap_or_default();
    format!(
        "another edge is attached with the name {name:?} (instance {instance}{at}): give one of them another \
         --edge-name, or stop that one"
    )
}
