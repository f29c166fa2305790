//! The stream that joins an edge to control, from its hello to the end of either side.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use ncps_nix::NarFileName;
use ncps_proto::admin::EventKind;
use ncps_proto::{
    Accesses, Code, Counter, Directive, Directives, EdgeReport, EdgeSettings, Error, HeldNar, Hello,
    PROTOCOL, Reports, Result, Said, Told, Totals, Welcome, is_understood,
};
use ncps_runtime::clock::{Clock, UnixTime};
use ncps_runtime::tasks::Tasks;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::arrivals::Arrivals;
use super::lost::{self, Left, Lost};
use super::removal::{Removed, Remover};
use super::tokens::as_told_to;
use super::{Control, standing};
use crate::db::Leaving;
use crate::eviction::job::Pressure;
use crate::fleet::SessionId;
use crate::index::Index;
use crate::journal::{Journal, Note};
use crate::popular::Popular;
use crate::refusals::{Reason, Refusals, Who};
use crate::roster::Roster;
use crate::sessions::{Opened, Sessions, Settled};
use crate::totals::Tally;

/// Until when an edge must have said who it is.
const HELLO: Duration = Duration::from_secs(10);

impl Control {
    pub(super) async fn attach_edge(&self, mut reports: Reports) -> Result<Directives> {
        let hello = hello(&mut reports).await.map_err(|turned| self.turn_away(turned))?;
        self.is_drained(&hello).await?;
        let opened = self.sessions.open(&hello, self.clock.now());
        let Opened { id, welcome, directives, cut } =
            opened.map_err(|(reason, error)| self.turn_away(TurnedAway::named(&hello, reason, error)))?;
        let edge = hello.name.clone();
        // Who calls may leave at each of the next steps.
        let session = Over { sessions: Arc::clone(&self.sessions), hello, id };
        let hello = &session.hello;
        self.roster.attached(hello, self.clock.now());
        // Once more: it may have been drained or removed just before it was there to be told.
        if self.is_drained(hello).await? {
            self.sessions.drain(&hello.instance, true)?;
        }
        self.bury_namesakes(&edge, &hello.instance).await;
        tracing::info!(
            edge,
            instance = hello.instance,
            url = hello.url,
            resumes = welcome.resumes,
            "edge attached"
        );
        let listener = Listener {
            index: Arc::clone(&self.index),
            journal: Arc::clone(&self.journal),
            tally: Arc::clone(&self.tally),
            popular: Arc::clone(&self.popular),
            sessions: Arc::clone(&self.sessions),
            clock: Arc::clone(&self.clock),
            roster: Arc::clone(&self.roster),
            refusals: Arc::clone(&self.refusals),
            pressure: self.evictor.pressure(),
            arrivals: self.arrivals.clone(),
            suspects: Vec::new(),
            remover: self.remover.clone(),
            tasks: self.tasks.clone(),
            unknown: Vec::new(),
            has_counted: false,
            stop: self.tasks.life().hard(),
            session,
            cut: cut.clone(),
        };
        self.tasks.spawn_background("edge-session", listener.run(reports));
        let settings = self.settings.watch();
        Ok(DirectiveStream { edge, welcome: Some(welcome), settings, directives, _dropped: cut.drop_guard() }
            .boxed())
    }
}

impl Control {
    /// Whether an edge is to leave.
    ///
    /// # Errors
    /// Where it was taken out, or that can't be read.
    async fn is_drained(&self, hello: &Hello) -> Result<bool> {
        match self.index.db().leaving(&hello.instance).await? {
            None => Ok(false),
            Some(Leaving::Drained) => Ok(true),
            Some(Leaving::Removed) => {
                let why =
                    format!("edge {} was removed: to add it again, wipe its data path first", hello.name);
                Err(self.turn_away(TurnedAway::named(hello, Reason::Removed, Error::new(Code::Refused, why))))
            }
        }
    }

    fn turn_away(&self, TurnedAway { name, reason, error }: TurnedAway) -> Error {
        self.refusals.turn_away(&Who { name, peer: None }, reason, error)
    }
}

/// An edge that is not taken in.
struct TurnedAway {
    name: Option<String>,
    reason: Reason,
    error: Error,
}

impl TurnedAway {
    fn named(hello: &Hello, reason: Reason, error: Error) -> TurnedAway {
        TurnedAway { name: Some(hello.name.clone()), reason, error }
    }
}

async fn hello(reports: &mut Reports) -> std::result::Result<Hello, TurnedAway> {
    let first = tokio::time::timeout(HELLO, reports.next()).await;
    let invalid = |message: &str| {
        Err(TurnedAway { name: None, reason: Reason::Hello, error: Error::new(Code::Invalid, message) })
    };
    match first {
        Ok(Some(Said { report: EdgeReport::Hello(hello), .. })) => possible(hello),
        Ok(_) => invalid("an edge must say hello first"),
        Err(_) => invalid("an edge said nothing for 10 s"),
    }
}

fn possible(hello: Hello) -> std::result::Result<Hello, TurnedAway> {
    // First: what a release says that we don't understand is not to be judged.
    if !is_understood(PROTOCOL, hello.protocol) {
        let why = format!(
            "this edge speaks protocol {} and control {PROTOCOL}: their releases may differ by one, so bring both to \
             the same",
            hello.protocol
        );
        return Err(TurnedAway::named(&hello, Reason::Protocol, Error::new(Code::Refused, why)));
    }
    match hello.check() {
        Ok(()) => Ok(hello),
        Err(error) => Err(TurnedAway::named(&hello, Reason::Hello, error)),
    }
}

/// Reports that are heard of an edge when control is to end at once: what it said before, and no more of one that
/// never stops talking.
const LAST_WORDS: usize = 256;

/// A page of an inventory, and what the index knows of it.
struct Page {
    /// Each file, and when it was last read.
    timed: Vec<(HeldNar, UnixTime)>,
    /// Those that nobody could give again.
    irreplaceable: Vec<NarFileName>,
}

/// Hears what one edge says until the session is over.
struct Listener {
    index: Arc<Index>,
    journal: Arc<Journal>,
    tally: Arc<Tally>,
    popular: Arc<Popular>,
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
    roster: Arc<Roster>,
    refusals: Arc<Refusals>,
    pressure: Pressure,
    arrivals: Arrivals,
    /// Files whose size is not what is known of them.
    suspects: Vec<NarFileName>,
    remover: Remover,
    tasks: Tasks,
    /// Files that the index does not know.
    unknown: Vec<NarFileName>,
    /// Its totals were heard in this session.
    has_counted: bool,
    stop: CancellationToken,
    cut: CancellationToken,
    session: Over,
}

impl Listener {
    async fn run(mut self, mut reports: Reports) {
        self.roster.save().await;
        let mut last_words = LAST_WORDS;
        while !self.stop.is_cancelled() || last_words > 0 {
            if self.stop.is_cancelled() {
                last_words -= 1;
            }
            // An edge that never stops talking has its turn like everybody else.
            tokio::task::consume_budget().await;
            let report = tokio::select! {
                // First, so that nothing more is heard of a session that another took over.
                biased;
                () = self.cut.cancelled() => return,
                report = reports.next() => report,
                () = self.stop.cancelled() => return,
            };
            match report {
                Some(Said { number, heard, report }) => {
                    self.sessions.has_heard(self.session.id, heard);
                    self.hear(report).await;
                    if number > 0 {
                        self.sessions.dealt_with(self.session.id, number);
                    }
                }
                None => return,
            }
        }
    }

    async fn hear(&mut self, report: EdgeReport) {
        let instance = &self.session.hello.instance.clone();
        match report {
            EdgeReport::Inventory { held, last } => {
                if let Err(error) = self.sessions.fits(instance, &held) {
                    return self.end_for_too_many_files(error);
                }
                let Page { timed, irreplaceable } = self.recognise(&held).await;
                let gone = self.sessions.holds(self.session.id, timed, last);
                self.weigh(irreplaceable).await;
                let why =
                    format!("its NAR was an upload, which edge {} has no longer", self.session.hello.name);
                let left = Left { instance, names: &gone, for_room: false };
                lost::left(self.told(), left, &Note::new(EventKind::Retracted, why)).await;
                self.compare(held);
                if last {
                    let (suspects, unknown) =
                        (std::mem::take(&mut self.suspects), std::mem::take(&mut self.unknown));
                    self.arrivals.announce(instance, suspects, unknown);
                }
            }
            EdgeReport::Accesses(accesses) => self.note(&accesses).await,
            EdgeReport::Committed(held) => {
                if let Err(error) = self.sessions.fits(instance, &[held]) {
                    return self.end_for_too_many_files(error);
                }
                let _turn = self.index.lock_files([held.name]).await;
                let standing = standing::of(&self.index, held.name).await;
                self.sessions.committed(self.session.id, held, standing, self.clock.now());
            }
            EdgeReport::Disk(disk) => {
                self.sessions.disk(self.session.id, disk);
                self.pressure.consider(&disk, self.session.hello.capacity);
            }
            EdgeReport::Totals(totals) => self.count(totals).await,
            EdgeReport::Drained => {
                tracing::info!(
                    edge = self.session.hello.name,
                    "an edge that is to leave has finished what ran"
                );
                self.sessions.drained(instance);
            }
            EdgeReport::UpstreamBack => self.index.forget_tentative_absences(),
            EdgeReport::Job(report) => self.sessions.heard_of_job(self.session.id, report).await,
            EdgeReport::Evicted { number, gone } => self.hear_of_removal(number, gone).await,
            EdgeReport::Hello(_) => self.end_for_a_second_hello(),
        }
    }

    /// An edge removed files. Who waits for that is told when what depended on them is gone, too.
    async fn hear_of_removal(&self, number: u64, names: Vec<NarFileName>) {
        let Hello { name: edge, instance, .. } = &self.session.hello;
        let settled = self.sessions.evicted(self.session.id, number, names.clone());
        let for_room = settled.as_ref().is_some_and(|settled| settled.for_room);
        let why = if for_room {
            let note = Note::new(EventKind::Evicted, format!("from edge {edge}, to make room"));
            names.iter().for_each(|name| self.journal.note(note.clone().nar(*name)));
            let detail =
                format!("its NAR, an upload, left edge {edge} to make room, and nobody can give it again");
            Note::new(EventKind::Evicted, detail)
        } else {
            Note::new(EventKind::Retracted, format!("its NAR was an upload, which edge {edge} has no longer"))
        };
        let lost = lost::left(self.told(), Left { instance, names: &names, for_room }, &why).await;
        match settled {
            Some(settled) if lost.paths.is_empty() => settled.tell(),
            Some(settled) => self.tell_when_dropped(settled, lost),
            None => {}
        }
    }

    /// Beside what else the edge says, since its answer is waited for.
    fn tell_when_dropped(&self, settled: Settled, Lost { paths, files }: Lost) {
        let (remover, stop) = (self.remover.clone(), self.stop.clone());
        self.tasks.spawn_background("lost uploads", async move {
            let mut removed = Removed::default();
            let dropped = remover.drop_from_edges(&paths, &files, &mut removed);
            if stop.run_until_cancelled(dropped).await.is_some() {
                settled.tell();
            }
        });
    }

    /// What was said once is said again, or by somebody else: nothing more is heard of it.
    fn end_for_a_second_hello(&self) {
        let Hello { name, .. } = &self.session.hello;
        let who = Who { name: Some(name.clone()), peer: None };
        self.refusals.note(&who, Reason::Hello, "it said hello in the middle of a session, which was ended");
        self.sessions.close(self.session.id);
    }

    /// What it said so far stays believed, as of any edge that goes.
    fn end_for_too_many_files(&self, error: Error) {
        let who = Who { name: Some(self.session.hello.name.clone()), peer: None };
        self.refusals.turn_away(&who, Reason::Inventory, error);
    }

    fn told(&self) -> lost::Told<'_> {
        lost::Told { index: &self.index, sessions: &self.sessions, journal: &self.journal }
    }

    async fn weigh(&self, names: impl IntoIterator<Item = NarFileName>) {
        standing::weigh(&self.index, &self.sessions, names).await;
    }

    /// A page with the time of each file's last read, for eviction. A file that the index does not know, or
    /// can't be asked about, counts as never read.
    async fn recognise(&mut self, held: &[HeldNar]) -> Page {
        let names = self.sessions.never_met(&self.session.hello.instance, held);
        let known = match self.index.met(&names).await {
            Ok(known) => {
                self.unknown.extend(names.iter().filter(|name| !known.contains_key(name)));
                known
            }
            Err(error) => {
                tracing::warn!(error = error.story(), "it is not known when an edge's files were last read");
                HashMap::new()
            }
        };
        let is_suspect = |held: &HeldNar| {
            let size = known.get(&held.name).and_then(|met| met.size);
            size.is_some_and(|size| size != held.file_size)
        };
        self.suspects.extend(held.iter().filter(|held| is_suspect(held)).map(|held| held.name));
        let time = |held: &HeldNar| (*held, known.get(&held.name).map_or(UnixTime(0), |met| met.accessed));
        let irreplaceable =
            known.iter().filter(|(_, met)| met.irreplaceable).map(|(name, _)| *name).collect();
        Page { timed: held.iter().map(time).collect(), irreplaceable }
    }

    /// Beside what else the edge says: looking for each of its files takes a while.
    fn compare(&self, held: Vec<HeldNar>) {
        let (remover, stop) = (self.remover.clone(), self.stop.clone());
        let instance = self.session.hello.instance.clone();
        self.tasks.spawn_background("compare inventory", async move {
            if let Some(Err(error)) = stop.run_until_cancelled(remover.compare(&instance, &held)).await {
                tracing::warn!(%instance, error = error.story(), "what it holds is not compared with what was removed");
                remover.sessions.says_all(&instance);
            }
        });
    }

    async fn count(&mut self, totals: Totals) {
        let instance = &self.session.hello.instance;
        let late = !std::mem::replace(&mut self.has_counted, true);
        let wrong = || self.tally.of(instance).get(Counter::Wrong);
        let before = wrong();
        let counted =
            if late { self.tally.hear_late(instance, &totals) } else { self.tally.hear(instance, &totals) };
        if let Some(counted) = counted
            && let Err(error) = self.index.put_counted(instance, &counted).await
        {
            tracing::warn!(error = error.story(), "what an edge counted can't be written");
        }
        let more = wrong().saturating_sub(before);
        if more > 0 {
            let detail = format!("{more} files or narinfos proved wrong at edge {}", self.session.hello.name);
            self.journal.note(Note::new(EventKind::Corrupt, detail));
        }
        self.sessions.totals(self.session.id, totals);
    }

    async fn note(&self, accesses: &Accesses) {
        let now = self.clock.now();
        self.popular.note(&accesses.nars, now);
        for (name, _) in &accesses.nars {
            self.note_nar(*name, now).await;
        }
        accesses.narinfos.iter().for_each(|(hash, _)| self.index.served(*hash, now));
    }
}

impl Listener {
    async fn note_nar(&self, asked: NarFileName, now: UnixTime) {
        let id = self.session.id;
        if self.sessions.accessed(id, asked, now) {
            return self.index.accessed(asked, now);
        }
        // Clients may know it by a name that turned out wrong.
        let name = self.index.resolve(asked).await.unwrap_or(asked);
        self.sessions.accessed(id, name, now);
        self.index.accessed(name, now);
    }
}

/// Closes the session however its listener ends, a panic included.
struct Over {
    sessions: Arc<Sessions>,
    hello: Hello,
    id: SessionId,
}

impl Drop for Over {
    fn drop(&mut self) {
        tracing::info!(edge = self.hello.name, instance = self.hello.instance, "edge detached");
        self.sessions.close(self.id);
    }
}

/// What an edge is told. Dropped by an edge that leaves, which ends the session.
struct DirectiveStream {
    edge: String,
    welcome: Option<Welcome>,
    settings: WatchStream<Arc<EdgeSettings>>,
    directives: crate::sessions::Directives,
    _dropped: DropGuard,
}

impl Stream for DirectiveStream {
    type Item = Result<Told>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // First, and past all that waits: see `crate::settings`.
        if let Poll::Ready(Some(settings)) = self.settings.poll_next_unpin(cx) {
            let settings = as_told_to(&self.edge, &settings);
            let directive = Directive::Configure(Box::new(settings));
            return Poll::Ready(Some(Ok(Told { number: 0, welcome: self.welcome.take(), directive })));
        }
        self.directives.poll_next_unpin(cx).map(|told| told.map(Ok))
    }
}
