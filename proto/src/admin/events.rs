//! What happened: the history of paths, and the audit log of changes that somebody asked for.

use std::fmt;

use futures::StreamExt;
use ncps_nix::{NarFileName, StorePathHash};

use super::Events;
use super::client::{RemoteAdmin, ask};
use crate::convert::{nar_file_name, nar_file_name_wire, store_path_hash, store_path_hash_bytes};
use crate::gen_v1 as wire;
use crate::{Error, Result};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Grows with time; later events have higher ones.
    pub id: u64,
    /// Seconds since 1970.
    pub at: i64,
    pub kind: EventKind,
    /// Who asked for it; `None` where ncps did it by itself. What has one is in the audit log.
    pub actor: Option<String>,
    /// The path that it is about.
    pub path: Option<StorePathHash>,
    /// The NAR file that it is about.
    pub nar: Option<NarFileName>,
    /// What a reader needs beside; never a secret.
    pub detail: String,
}

/// Which events are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventsWanted {
    /// At most so many from before.
    pub last: u32,
    /// Only those of the audit log.
    pub audit: bool,
    /// And then those that happen.
    pub follow: bool,
}

/// One table of kinds and their names.
macro_rules! kinds {
    ($($(#[$meta:meta])* $kind:ident = $name:literal,)+) => {
        /// What kind of thing happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventKind { $($(#[$meta])* $kind),+ }

        impl EventKind {
            /// All of them.
            pub const ALL: &[EventKind] = &[$(EventKind::$kind),+];

            /// As it is stored and shown; never changes.
            pub const fn name(self) -> &'static str {
                match self { $(EventKind::$kind => $name),+ }
            }
        }
    };
}

kinds! {
    /// A path came into the index.
    Published = "published",
    /// Its narinfo was replaced by another one.
    Replaced = "replaced",
    /// No source has it any more.
    Retracted = "retracted",
    /// Its NAR file got another name, or it was taken out since it named another NAR's file.
    Corrected = "corrected",
    /// A narinfo, or another object, was uploaded. A narinfo stands for its NAR, too.
    Uploaded = "uploaded",
    /// Somebody deleted it over HTTP.
    Deleted = "deleted",
    /// A NAR file left an edge's store to make room.
    Evicted = "evicted",
    /// An administrator removed it.
    Purged = "purged",
    /// It and its closure are kept.
    Pinned = "pinned",
    /// No longer.
    Unpinned = "unpinned",
    /// A file or a narinfo was not what it should be, stored or on its way.
    Corrupt = "corrupt",
    /// It was fetched anew.
    Healed = "healed",
    /// It can't be, and was put aside.
    Quarantined = "quarantined",
    /// An edge held what the index did not know.
    Adopted = "adopted",
    /// It came from another cache's directory.
    Imported = "imported",
    /// Somebody may do something from now on.
    TokenCreated = "token-created",
    /// And no longer.
    TokenRevoked = "token-revoked",
    /// Another key signs.
    KeyRotated = "key-rotated",
    /// Somebody has a copy of the secret key.
    KeyExported = "key-exported",
    /// An administrator made a job run.
    JobRun = "job-run",
    /// An edge is to leave the fleet.
    EdgeDrained = "edge-drained",
    /// It stays.
    EdgeUndrained = "edge-undrained",
    /// It was taken out, with what it held.
    EdgeRemoved = "edge-removed",
    /// A copy of the database was made.
    BackedUp = "backed-up",
    /// The database became an earlier one.
    Restored = "restored",
}

impl EventKind {
    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<EventKind> {
        EventKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::events`].
    pub async fn events(&self, wanted: EventsWanted) -> Result<Events> {
        let EventsWanted { last, audit, follow } = wanted;
        let events = ask!(self.events(wire::EventsRequest { last, audit, follow }));
        Ok(events.map(|event| event.map_err(crate::grpc::plain).and_then(self::event)).boxed())
    }
}

pub(super) fn wanted(wire: &wire::EventsRequest) -> EventsWanted {
    let wire::EventsRequest { last, audit, follow } = *wire;
    EventsWanted { last, audit, follow }
}

pub(super) fn event_wire(event: Event) -> wire::Event {
    wire::Event {
        id: event.id,
        at: event.at,
        kind: event.kind.name().to_owned(),
        actor: event.actor,
        store_path_hash: event.path.map(store_path_hash_bytes).unwrap_or_default(),
        nar: event.nar.map(nar_file_name_wire),
        detail: event.detail,
    }
}

pub(super) fn event(wire: wire::Event) -> Result<Event> {
    let unknown = || Error::internal(format!("an event of a kind that is not known here: {}", wire.kind));
    let path = Some(&wire.store_path_hash).filter(|hash| !hash.is_empty());
    Ok(Event {
        id: wire.id,
        at: wire.at,
        kind: EventKind::from_name(&wire.kind).ok_or_else(unknown)?,
        actor: wire.actor,
        path: path.map(|hash| store_path_hash(hash)).transpose()?,
        nar: wire.nar.map(|name| nar_file_name(Some(name))).transpose()?,
        detail: wire.detail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kinds_are_unique_and_lead_back() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_name(kind.name()), Some(*kind));
        }
    }

    #[test]
    fn an_event_survives_the_wire() {
        let event = Event {
            id: 7,
            at: -1,
            kind: EventKind::Evicted,
            actor: Some("uid 0".to_owned()),
            path: Some(StorePathHash::from_bytes([1; 20])),
            nar: None,
            detail: "x".to_owned(),
        };
        assert_eq!(self::event(event_wire(event.clone())).expect("an event"), event);
    }
}
