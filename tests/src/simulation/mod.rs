//! A deterministic simulation of a fleet: the state machines of control ([`ncps_control::fleet`]) and of edges
//! ([`ncps_edge::attach::dialogue`]) as they are in production, with a scheduler that a seed decides for. Around them
//! stands a model of the rest: rows, disks, tasks, links, clients.
//!
//! What goes wrong: links break (each side notices when it does), messages are late, calls are lost, repeated, or done
//! although they failed, edges and control crash (rows and disks stay, a disk may be wiped), clocks are set.
//!
//! What has to hold is in `check.rs`. A [`Defect`] is built in to see that it is found.

mod check;
mod control;
mod edge;
mod link;
mod model;
mod random;
mod world;

pub use check::Broken;
pub use world::World;

/// A mistake that is made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Control keeps the turns of an edge whose session ended.
    TurnKept,
    /// Control acknowledges reports before it has dealt with them.
    AckBeforeCommit,
    /// A directive is lost and its edge does not see the gap.
    GapIgnored,
    /// Control lets an edge go on from a report that another run has heard.
    WrongBase,
    /// Eviction does not ask what is pinned.
    PinsIgnored,
    /// What edges hold that were away when a path was purged is not compared with what was removed.
    PurgeForgotten,
}

impl Defect {
    /// All of them.
    pub const ALL: [Defect; 6] = [
        Defect::TurnKept,
        Defect::AckBeforeCommit,
        Defect::GapIgnored,
        Defect::WrongBase,
        Defect::PinsIgnored,
        Defect::PurgeForgotten,
    ];
}

/// Runs one seed to its end.
///
/// # Errors
/// What did not hold, and when.
pub fn run(seed: u64, defect: Option<Defect>, told: bool) -> Result<(), Broken> {
    World::new(seed, defect, told).run()
}
