//! Pins, as administrators make and end them: what may be pinned, and what it is called.

use std::time::Duration;

use ncps_nix::{StorePath, StorePathHash};
use ncps_proto::admin::{Caller, EventKind};
use ncps_proto::{Code, Error, Result};

use super::Control;
use crate::pins::{Extent, Pin};

/// Bytes of a label.
const LONGEST_LABEL: usize = 255;

impl Control {
    /// Pins a path that is in the index, under a label or none, for a time or for good. Where it is pinned under this
    /// label already, the new end counts. Returns the pin and what it protects: what is referenced and not known yet
    /// is protected as soon as it comes.
    ///
    /// # Errors
    /// [`Code::Absent`] where the path is not in the index; [`Code::Invalid`] where label or time are none that can be
    /// used, or too much would be pinned.
    pub async fn pin(
        &self,
        root: StorePathHash,
        label: Option<String>,
        lasts: Option<Duration>,
        caller: &Caller,
    ) -> Result<(Pin, Extent)> {
        if let Some(label) = &label {
            check_label(label)?;
        }
        let Some(narinfo) = self.index.narinfo(root).await? else { return Err(unknown(root)) };
        let created_at = self.clock.now();
        let pin = Pin {
            path: narinfo.store_path.clone(),
            label,
            made_by: caller.who.clone(),
            created_at,
            expires_at: lasts.map(|lasts| created_at.plus(lasts)),
        };
        let extent = self.pins.add(pin.clone()).await?;
        self.journal.audit(caller, pin.note(EventKind::Pinned, "")).await?;
        Ok((pin, extent))
    }

    /// Ends every pin of a path, or of a label. Returns them.
    ///
    /// # Errors
    /// [`Code::Absent`] where there is none.
    pub async fn unpin(&self, what: &str, caller: &Caller) -> Result<Vec<Pin>> {
        let path = path_hash(what);
        let is_meant = |pin: &Pin| match path {
            Some(hash) => pin.path.hash() == hash,
            None => pin.label.as_deref() == Some(what),
        };
        let removed = self.pins.remove(is_meant).await?;
        if removed.is_empty() {
            let kind = if path.is_some() { "path" } else { "label" };
            return Err(Error::new(Code::Absent, format!("no pin has the {kind} {what}")));
        }
        for pin in &removed {
            self.journal.audit(caller, pin.note(EventKind::Unpinned, "")).await?;
        }
        Ok(removed)
    }

    /// Every pin that counts, by label and path.
    ///
    /// # Errors
    /// Where the database can't be read.
    pub async fn list_pins(&self) -> Result<Vec<Pin>> {
        self.pins.list(self.clock.now()).await
    }
}

/// A store path, its base name, or its hash alone.
pub(crate) fn path_hash(text: &str) -> Option<StorePathHash> {
    let path = || StorePath::parse(text).or_else(|_| StorePath::parse_absolute(text));
    StorePathHash::parse(text).or_else(|_| path().map(|path| path.hash())).ok()
}

fn unknown(root: StorePathHash) -> Error {
    let what = format!("{root} is not in the index: fetch it through this cache first, then pin it");
    Error::new(Code::Absent, what)
}

/// One that looks like a path could not be told from it.
fn check_label(label: &str) -> Result<()> {
    let problem = match label {
        "" => "is empty",
        _ if label.len() > LONGEST_LABEL => "is longer than 255 bytes",
        _ if label.contains(char::is_control) => "contains control characters",
        _ if path_hash(label).is_some() => "is a store path",
        _ => return Ok(()),
    };
    Err(Error::new(Code::Invalid, format!("the label {label:?} {problem}")))
}
