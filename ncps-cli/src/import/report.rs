//! What an import did, counted, and how it is said.

use std::fmt;

use super::path::Outcome;

/// Counts of paths, and of what was taken for them.
#[derive(Debug, Default)]
pub(super) struct Report {
    imported: u64,
    files: u64,
    bytes: u64,
    already_there: u64,
    chunked: u64,
    without_nar: u64,
    refused: u64,
    objects: u64,
}

impl Report {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Imported { taken } => {
                self.imported += 1;
                self.files += u64::from(taken.is_some());
                self.bytes += taken.unwrap_or(0);
            }
            Outcome::AlreadyThere => self.already_there += 1,
            Outcome::Chunked => self.chunked += 1,
            Outcome::WithoutNar => self.without_nar += 1,
            Outcome::Refused(_) => self.refused += 1,
        }
    }

    pub(super) fn add_object(&mut self, taken: bool) {
        *(if taken { &mut self.objects } else { &mut self.refused }) += 1;
    }

    /// How many paths are dealt with.
    pub(super) fn paths(&self) -> u64 {
        self.imported + self.already_there + self.chunked + self.without_nar + self.refused
    }

    /// Whether something of the other cache was refused.
    pub(super) fn is_clean(&self) -> bool {
        self.refused == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "imported: {} paths, {} NAR files, {} bytes", self.imported, self.files, self.bytes)?;
        writeln!(f, "already there: {}", self.already_there)?;
        writeln!(f, "objects: {}", self.objects)?;
        writeln!(f, "skipped: {} chunked, {} without a NAR", self.chunked, self.without_nar)?;
        writeln!(f, "refused: {}", self.refused)
    }
}
