//! What an edge says to control and hears from it, as a pure state machine: what is to be said next, what a directive
//! means, and what control does not know yet. Whoever stands around it owns the stream, the store and the timers.
//!
//! What always holds:
//! - Hello is said first, and nothing else before control has said who it is. Then control is told what it does not
//!   know: the changes since the last one that it has heard, where it is the run that heard it and they are all here;
//!   else everything that is held, in pages, and the changes since the store was listed.
//! - A change is forgotten when control acknowledged it, or when an inventory that has it was said and acknowledged.
//! - Directives come without a gap. After one the session is over: what was missed can't be known otherwise.
//! - An answer belongs to the session in which it was ordered: in a later one nobody waits for it, and its number may
//!   be another order's.
//! - A session begins when every order of the one before was carried out: what control hears then is there.
//! - Nothing is removed for an index other than our own.
//!
//! Absent on purpose: tasks, channels, files, time, and chance: the same events give the same answers.

use std::collections::{BTreeSet, VecDeque};

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::{
    Directive, EdgeReport, EdgeSettings, Eviction, HeldNar, Hello, Job, Outdating, Removal, Resume, Said,
    Told, Victim, Welcome,
};

use super::changes::{Change, Changes};

/// Files in one page of the inventory.
pub const PAGE: usize = 10_000;
/// Narinfos of the store that are remembered as behind, at most. Others are made to agree at the next start.
const MOST_BEHIND: usize = 100_000;

/// Names an order, so that its answer finds who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    session: u64,
    number: u64,
}

impl Ticket {
    /// Of something that nobody ordered.
    pub const NOBODYS: Ticket = Ticket { session: 0, number: 0 };
}

/// What is to be said next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The store is to be listed; see [`Dialogue::listed`].
    List,
    /// This.
    Say(Said),
    /// How this is, by what the store has of it: see [`Dialogue::look`].
    Look { number: u64, change: Change },
    /// An upstream can be asked again.
    UpstreamBack,
    /// What ran has ended.
    Drained,
    /// What was served since the last time.
    Accesses,
    /// How full the disk is.
    Disk,
    /// What was counted.
    Totals,
}

/// What a directive means.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The session begins with this configuration. Something may have been invalidated while nobody could tell us.
    /// Narinfos of the store that could not be made to agree before are `behind`.
    Begin {
        settings: Box<EdgeSettings>,
        behind: Vec<StorePathHash>,
    },
    /// Another configuration.
    Configure(Box<EdgeSettings>),
    /// Narinfos that changed or went are to be forgotten, and the store's made to agree.
    Forget(Vec<StorePathHash>),
    /// The same, for a client who waits for the answer.
    Outdate {
        ticket: Ticket,
        store_paths: Vec<StorePathHash>,
    },
    /// Whether we are to leave the fleet.
    Drain(bool),
    /// Paths and files are out of the index.
    Remove {
        ticket: Ticket,
        store_paths: Vec<StorePathHash>,
        nars: Vec<NarFileName>,
    },
    /// Files have to make room.
    Evict {
        ticket: Ticket,
        victims: Vec<Victim>,
    },
    /// Nothing more is removed because of the disk reports up to this one.
    Settled(u64),
    Job {
        id: u64,
        job: Job,
    },
    EndJob(u64),
    /// We belong to this index from now on; see [`Dialogue::belongs`].
    Accept(String),
    /// Nothing is done, since control has another index than our own: how many files stay.
    Refused(usize),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("control has to say the configuration first")]
    NotConfigured,
    #[error("control left something out: directive {heard} is not followed by {next}")]
    Gap { heard: u64, next: u64 },
    #[error("more changed than is remembered")]
    TooMuch,
}

/// How far a session is.
#[derive(Debug, Default, PartialEq)]
enum Phase {
    /// Nobody is there.
    #[default]
    Detached,
    /// Hello was said.
    Greeting,
    /// The store is to be listed, or is being listed. Changes up to `base` are in the list.
    Listing { base: u64, asked: bool },
    /// What it had is said, page by page.
    Counting { base: u64, pages: VecDeque<Vec<HeldNar>> },
    /// Everything up to `said` was said.
    Talking { said: u64 },
}

/// What is due, in the order in which it is said.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    upstream_back: bool,
    drained: bool,
    accesses: bool,
    disk: bool,
    totals: bool,
}

/// An edge's end of the session, over all sessions of this process.
#[derive(Debug, Default)]
pub struct Dialogue {
    phase: Phase,
    /// Counts sessions.
    session: u64,
    /// The number of the last directive.
    heard: u64,
    changes: Changes,
    /// The run of control that speaks, where it acknowledges what it hears.
    run: Option<String>,
    /// The last change that this run has heard for sure; `None` before it has heard an inventory.
    acknowledged: Option<u64>,
    foreign: bool,
    /// Orders that are being carried out, and what makes room by each.
    orders: Vec<(Ticket, Vec<NarFileName>)>,
    /// Narinfos of the store that may not be as control has them.
    behind: BTreeSet<StorePathHash>,
    due: Due,
}

impl Dialogue {
    /// A session begins. Returns what is said first.
    pub fn begin(&mut self, hello: Hello) -> Said {
        self.session += 1;
        (self.phase, self.heard, self.due) = (Phase::Greeting, 0, Due::default());
        let known = self.acknowledged.filter(|heard| self.changes.reach_back_to(*heard));
        let resume = self.run.clone().zip(known).map(|(run, heard)| Resume { run, heard });
        self.says(EdgeReport::Hello(Hello { resume, ..hello }))
    }

    /// The session is over.
    pub fn end(&mut self) {
        self.phase = Phase::Detached;
    }

    /// Control said something. `None` where nothing is to be done about it.
    ///
    /// # Errors
    /// Where the session can't go on: then it is over, and another one says what this one might have missed.
    pub fn hear(&mut self, told: Told) -> Result<Option<Effect>, Broken> {
        let Told { number, welcome, directive } = told;
        if self.phase == Phase::Greeting {
            let Directive::Configure(settings) = directive else { return Err(Broken::NotConfigured) };
            self.greeted(welcome);
            return Ok(Some(Effect::Begin { settings, behind: self.behind.iter().copied().collect() }));
        }
        // Those that overtake others, and all of a control that counts nothing, have none.
        if number != 0 && number != self.heard + 1 {
            return Err(Broken::Gap { heard: self.heard, next: number });
        }
        self.heard = self.heard.max(number);
        Ok(self.meaning(directive))
    }

    fn greeted(&mut self, welcome: Option<Welcome>) {
        let Welcome { run, resumes } = welcome.unwrap_or_default();
        self.run = Some(run).filter(|run| !run.is_empty());
        let resumes = resumes.filter(|heard| self.changes.reach_back_to(*heard));
        self.acknowledged = resumes;
        self.phase = match resumes {
            Some(heard) => {
                self.changes.known(heard);
                Phase::Talking { said: heard }
            }
            None => Phase::Listing { base: self.changes.last(), asked: false },
        };
        self.all_is_due();
    }

    fn meaning(&mut self, directive: Directive) -> Option<Effect> {
        Some(match directive {
            Directive::Configure(settings) => Effect::Configure(settings),
            Directive::Heard(number) => return self.acknowledged(number),
            Directive::Invalidate(paths) => {
                self.is_behind(&paths);
                Effect::Forget(paths)
            }
            Directive::Outdate(Outdating { number, store_paths }) => {
                self.is_behind(&store_paths);
                Effect::Outdate { ticket: self.begins(number, Vec::new()), store_paths }
            }
            Directive::Drain(leaves) => Effect::Drain(leaves),
            Directive::Evict(eviction) => return self.eviction(eviction),
            Directive::Remove(Removal { number, store_paths, nars }) if self.foreign => {
                let files = nars.len().max(store_paths.len());
                self.refuse(number, files)
            }
            Directive::Remove(Removal { number, store_paths, nars }) => {
                Effect::Remove { ticket: self.begins(number, Vec::new()), store_paths, nars }
            }
            Directive::Job { id, job } => Effect::Job { id, job },
            Directive::EndJob(id) => Effect::EndJob(id),
            Directive::AcceptIndex(index) => Effect::Accept(index),
        })
    }

    fn is_behind(&mut self, paths: &[StorePathHash]) {
        self.behind.extend(paths.iter().take(MOST_BEHIND.saturating_sub(self.behind.len())));
    }

    fn acknowledged(&mut self, number: u64) -> Option<Effect> {
        if matches!(self.phase, Phase::Talking { .. }) {
            self.acknowledged = Some(number);
            self.changes.known(number);
        }
        None
    }

    /// A step names victims, or says that no more come.
    fn eviction(&mut self, Eviction { victims, settles, number }: Eviction) -> Option<Effect> {
        if victims.is_empty() {
            return settles.map(Effect::Settled);
        }
        if self.foreign {
            return Some(self.refuse(number, victims.len()));
        }
        let names = victims.iter().map(|victim| victim.name).collect();
        Some(Effect::Evict { ticket: self.begins(number, names), victims })
    }

    fn refuse(&mut self, number: u64, files: usize) -> Effect {
        let ticket = self.begins(number, Vec::new());
        self.done(ticket, Vec::new());
        Effect::Refused(files)
    }

    /// An order is carried out from now on, by which these make room.
    fn begins(&mut self, number: u64, victims: Vec<NarFileName>) -> Ticket {
        let ticket = Ticket { session: self.session, number };
        self.orders.push((ticket, victims));
        ticket
    }

    /// A narinfo of the store is as control has it.
    pub fn agrees(&mut self, path: StorePathHash) {
        self.behind.remove(&path);
    }

    /// Whether control's index is ours.
    pub fn belongs(&mut self, ours: bool) {
        self.foreign = !ours;
    }

    /// A file came into the store or left it, or control may believe so.
    pub fn changed(&mut self, name: NarFileName) {
        self.changes.note(Change::File(name));
    }

    /// An order was carried out, by which these files left the store.
    pub fn done(&mut self, ticket: Ticket, gone: Vec<NarFileName>) {
        self.orders.retain(|(other, _)| *other != ticket);
        if self.is_awaited(ticket) || !gone.is_empty() {
            self.changes.note(Change::Done { ticket, gone });
        }
    }

    /// Whether an order is being carried out. Until all are no session may begin.
    pub fn is_busy(&self) -> bool {
        !self.orders.is_empty()
    }

    fn is_awaited(&self, ticket: Ticket) -> bool {
        ticket.session == self.session && self.phase != Phase::Detached
    }

    /// An upstream that had no say can be asked again.
    pub fn upstream_is_back(&mut self) {
        self.due.upstream_back = true;
    }

    /// What ran has ended, since we are to leave.
    pub fn is_drained(&mut self) {
        self.due.drained = true;
    }

    /// It is time to say what was served and how full the disk is.
    pub fn all_is_due(&mut self) {
        (self.due.accesses, self.due.disk, self.due.totals) = (true, true, true);
    }

    /// What is to be said next; `None` where nothing is, for now.
    ///
    /// # Errors
    /// Where it can't be said any more what changed: the session is over, and the next one says all that is held.
    #[expect(clippy::should_implement_trait, reason = "it may fail, and goes on after there was nothing")]
    pub fn next(&mut self) -> Result<Option<Next>, Broken> {
        match &mut self.phase {
            Phase::Detached | Phase::Greeting | Phase::Listing { asked: true, .. } => Ok(None),
            Phase::Listing { asked, .. } => {
                *asked = true;
                Ok(Some(Next::List))
            }
            Phase::Counting { base, pages } => {
                let base = *base;
                let held = pages.pop_front().unwrap_or_default();
                let last = pages.is_empty();
                if last {
                    self.phase = Phase::Talking { said: base };
                }
                let number = if last { base } else { 0 };
                Ok(Some(Next::Say(self.numbered(number, EdgeReport::Inventory { held, last }))))
            }
            Phase::Talking { said } => {
                let said = *said;
                self.news(said)
            }
        }
    }

    fn news(&mut self, said: u64) -> Result<Option<Next>, Broken> {
        if !self.changes.reach_back_to(said) {
            return Err(Broken::TooMuch);
        }
        if std::mem::take(&mut self.due.upstream_back) {
            return Ok(Some(Next::UpstreamBack));
        }
        let Some((number, change)) = self.changes.after(said) else { return Ok(self.due()) };
        let change = change.clone();
        self.phase = Phase::Talking { said: number };
        if self.run.is_none() {
            // Nobody acknowledges it.
            self.changes.known(number);
        }
        Ok(Some(Next::Look { number, change }))
    }

    /// Accesses first: what was just read is not evicted because of the disk report that follows.
    fn due(&mut self) -> Option<Next> {
        let all = [
            (&mut self.due.drained, Next::Drained),
            (&mut self.due.accesses, Next::Accesses),
            (&mut self.due.disk, Next::Disk),
            (&mut self.due.totals, Next::Totals),
        ];
        all.into_iter().find_map(|(due, next)| std::mem::take(due).then_some(next))
    }

    /// Whether everything was said that is to be said now.
    pub fn has_said_all(&self) -> bool {
        let Phase::Talking { said } = self.phase else { return false };
        let Due { upstream_back, drained, accesses, disk, totals } = self.due;
        self.changes.last() <= said && !(upstream_back || drained || accesses || disk || totals)
    }

    /// What the store holds, listed after [`Next::List`].
    pub fn listed(&mut self, held: Vec<HeldNar>) {
        if let Phase::Listing { base, .. } = self.phase {
            let pages = held.chunks(PAGE).map(<[HeldNar]>::to_vec).collect();
            self.phase = Phase::Counting { base, pages };
        }
    }

    /// What a change is now that it is said: `held` tells what the store has of a name. `None` where the answer to an
    /// order is going to say it.
    pub fn look(
        &self,
        number: u64,
        change: Change,
        held: impl Fn(NarFileName) -> Option<HeldNar>,
    ) -> Option<Said> {
        let report = match change {
            Change::File(name) => match held(name) {
                Some(held) => EdgeReport::Committed(held),
                None if self.orders.iter().any(|(_, victims)| victims.contains(&name)) => return None,
                None => EdgeReport::Evicted { number: 0, gone: vec![name] },
            },
            Change::Done { ticket, mut gone } => {
                // What came again since then is said as a change of its own.
                gone.retain(|name| held(*name).is_none());
                let number = if self.is_awaited(ticket) { ticket.number } else { 0 };
                EdgeReport::Evicted { number, gone }
            }
        };
        Some(self.numbered(number, report))
    }

    /// A report that is no change of the store.
    pub fn says(&self, report: EdgeReport) -> Said {
        self.numbered(0, report)
    }

    fn numbered(&self, number: u64, report: EdgeReport) -> Said {
        Said { number, heard: self.heard, report }
    }
}

#[cfg(test)]
#[path = "dialogue_tests.rs"]
mod tests;
