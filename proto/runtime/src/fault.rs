//! Points at which a test kills its own process, to see what a power cut just there leaves behind.
//!
//! Only the binary that is made for tests arms one. Absent on purpose: errors, delays, and any way to arm one from
//! outside, by a flag or the environment.

/// A step that others depend on, just done or just about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// A NAR file is proven and durable in the spool, under no name of the store.
    NarSealed,
    /// It has its name in the store; the directory may not be durable, and nothing is counted.
    NarRenamed,
    /// It is one of the store; control was not told.
    NarStored,
    /// Control knows of it in memory; its row is not written, the edge not answered.
    NarCommitted,
    /// A file that was made of another one is one of the store; control was not told.
    MadeStored,
    /// Narinfos name it in memory; no row is written, the edge not answered.
    MadeNamed,
    /// A batch of rows is in the database; memory does not know that.
    RowsWritten,
    /// A narinfo file lies beside its NAR.
    NarinfoStored,
    /// The narinfo files of a victim are gone, its NAR file is there.
    VictimBare,
    /// A victim is gone from the store; control was not told.
    VictimGone,
    /// An uploaded narinfo is in the index in memory; its row is not written.
    UploadPut,
    /// Its row is written; the client was not answered.
    UploadWritten,
    /// A deleted narinfo has no row any more; its file may still be in a store.
    NarinfoDeleted,
    /// A path is out of the index; no edge was told.
    PathTakenOut,
    /// The narinfo files of removed paths are gone from the store, their NAR files are there.
    RemovedBare,
    /// Removed paths are gone from the store; control was not told.
    RemovedGone,
}

impl Point {
    /// Every point, for the table of the test that goes through all of them.
    pub const ALL: [Point; 16] = [
        Point::NarSealed,
        Point::NarRenamed,
        Point::NarStored,
        Point::NarCommitted,
        Point::MadeStored,
        Point::MadeNamed,
        Point::RowsWritten,
        Point::NarinfoStored,
        Point::VictimBare,
        Point::VictimGone,
        Point::UploadPut,
        Point::UploadWritten,
        Point::NarinfoDeleted,
        Point::PathTakenOut,
        Point::RemovedBare,
        Point::RemovedGone,
    ];

    /// The name by which a test chooses it.
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// The process ends here, as by a power cut, if a test wants that.
#[cfg(not(feature = "test-util"))]
#[inline]
pub const fn point(_: Point) {}

#[cfg(feature = "test-util")]
pub use armed::{arm, point};

#[cfg(feature = "test-util")]
mod armed {
    use std::sync::OnceLock;

    use rustix::process::{Signal, getpid, kill_process};

    use super::Point;

    static ARMED: OnceLock<Point> = OnceLock::new();

    /// Arms the point of this name, for the whole process and for good.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn arm(name: &str) {
        let point = Point::ALL.into_iter().find(|point| point.name() == name);
        ARMED.set(point.expect("a point of this name")).ok();
    }

    /// The process ends here, as by a power cut, if a test wants that.
    pub fn point(here: Point) {
        if ARMED.get() == Some(&here) {
            // Nothing of us runs after this.
            kill_process(getpid(), Signal::KILL).ok();
        }
    }
}
