//! Whether an edge can be taken in beside those that are attached.

use std::time::{Duration, Instant};

use ncps_proto::{Code, Error, HeldNar, Hello};

use super::Fleet;
use super::session::Session;
use crate::refusals::Reason;

/// Attached at once.
const MOST: usize = 2048;
/// Files that one edge may hold, and all of them together, at about 200 bytes of memory each.
const MOST_FILES: usize = 4_000_000;
const MOST_IN_ALL: usize = 20_000_000;
/// How long an edge that holds more stays out.
const OUT: Duration = Duration::from_secs(60);

/// How many files edges may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) of_one: usize,
    pub(super) of_all: usize,
}

impl Default for Room {
    fn default() -> Self {
        Room { of_one: MOST_FILES, of_all: MOST_IN_ALL }
    }
}

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
        if let Some(own) = self.session(&hello.instance).filter(|own| own.name != hello.name) {
            let why = format!(
                "this instance is attached with another name, {:?}: an edge that was renamed comes in when its old \
                 session is over, a copy of its data never",
                own.name
            );
            return Err((Reason::Name, Error::new(Code::Refused, why)));
        }
        if others.nth(MOST - 1).is_some() {
            let why = format!("{MOST} edges are attached, as many as may be");
            return Err((Reason::Full, Error::new(Code::Overloaded, why)));
        }
        Ok(())
    }

    /// Whether an edge may be believed to hold these, too. Where it may not its session is over, and it is not taken in
    /// for a minute: it would say the same again.
    ///
    /// # Errors
    /// Why not, with what to do.
    pub(crate) fn fits(&mut self, instance: &str, held: &[HeldNar], now: Instant) -> Result<(), Error> {
        let more = held.iter().filter(|held| self.placements.held(instance, held.name).is_none()).count();
        let Room { of_one, of_all } = self.room;
        let why = if self.placements.count(instance) + more > of_one {
            format!(
                "it holds more than {of_one} files, as many as one edge may: give it a limit, or divide it"
            )
        } else if self.placements.files() + more > of_all {
            format!("all edges together hold more than {of_all} files, as many as may be")
        } else {
            return Ok(());
        };
        self.out.retain(|_, until| *until > now);
        self.out.insert(instance.to_owned(), now + OUT);
        self.cut(instance, now);
        Err(Error::new(Code::Refused, why))
    }

    /// Whether an edge held too much a moment ago.
    ///
    /// # Errors
    /// That it did.
    pub(crate) fn is_back_too_soon(&self, hello: &Hello, now: Instant) -> Result<(), (Reason, Error)> {
        if self.out.get(&hello.instance).is_none_or(|until| *until <= now) {
            return Ok(());
        }
        let why = "it holds more files than it may, and is not heard for a minute";
        Err((Reason::Inventory, Error::new(Code::Refused, why)))
    }
}

fn is_taken(Session { name, instance, url, .. }: &Session) -> String {
    let at = url.as_deref().map(|url| format!(" at {url}")).unwrap_or_default();
    format!(
        "another edge is attached with the name {name:?} (instance {instance}{at}): give one of them another \
         --edge-name, or stop that one"
    )
}
