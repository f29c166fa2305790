//! The task behind a transfer: plan, turn, sources one after the other, proof, commit. It belongs to no request.

use std::sync::Arc;
use std::time::Duration;

use ncps_nix::NarFileName;
use ncps_proto::{Code, Error, Result, trace};
use tracing::Span;

use super::download::{Download, Trouble};
use super::encode::library;
use super::engine::Engine;
use super::judge::{blame, judge, proved_wrong, settle};
use super::plan::{Plan, Source};
use super::progress::Transfer;
use super::sources::Sources;
use crate::metrics::{Ended, Stage};
use crate::upstream::guarded::{Patience, jittered};
use crate::upstream::{UpstreamError, Upstreams};

/// Tries of one source that bring no byte forward.
const FRUITLESS_TRIES: u32 = 3;
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// What may trickle in before a stall is noticed.
const DRIP: u64 = 64 << 10;
/// The longest pause that a source gets for the asking, and all pauses together; then the next source is tried.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const MOST_WAITING: Duration = Duration::from_secs(30);

/// Runs a transfer to its end. Whatever happens, it ends with a named state and leaves the registry.
pub(super) async fn run(engine: Arc<Engine>, transfer: Arc<Transfer>) {
    let end = Ending { engine: Arc::clone(&engine), transfer: Arc::clone(&transfer) };
    let stop = engine.stopped();
    let result = tokio::select! {
        result = within_deadline(&engine, &transfer) => result,
        () = stop.cancelled() => Err(Error::new(Code::Unavailable, "the edge is stopping")),
    };
    if let Err(error) = result {
        report(&engine, transfer.name, &error);
        // Before its readers know: who comes again gets another transfer.
        engine.leave(&transfer);
        transfer.fail(error);
    }
    drop(end);
}

fn report(engine: &Engine, name: NarFileName, error: &Error) {
    trace::failed(&Span::current());
    match error.code() {
        Code::Absent => {
            engine.metrics().ended.inc(Ended::Absent);
            tracing::debug!(nar = %name, error = error.story(), "a NAR is nowhere");
        }
        code => {
            engine.metrics().ended.inc(Ended::Failed);
            tracing::warn!(nar = %name, %code, error = error.story(), "a transfer failed");
        }
    }
}

/// Its drop tells the truth: a transfer whose task is gone without an end has failed.
struct Ending {
    engine: Arc<Engine>,
    transfer: Arc<Transfer>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.transfer.has_ended() {
            self.engine.metrics().ended.inc(Ended::Failed);
            self.engine.leave(&self.transfer);
            self.transfer.fail(Error::internal("the task of a transfer ended early"));
        }
        self.engine.leave(&self.transfer);
        self.transfer.set_over();
    }
}

async fn within_deadline(engine: &Arc<Engine>, transfer: &Arc<Transfer>) -> Result<()> {
    let deadline = engine.live()?.settings.transfer_timeout;
    match tokio::time::timeout(deadline, fetch(engine, transfer)).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(Code::UpstreamTimeout, format!("not whole after {deadline:?}"))),
    }
}

async fn fetch(engine: &Arc<Engine>, transfer: &Arc<Transfer>) -> Result<()> {
    if serve_stored(engine, transfer, transfer.name).await? {
        return Ok(());
    }
    let waiting = engine.metrics().transfers.enter(Stage::Waiting);
    let _slot = engine.download_slot().await;
    drop(waiting);
    let _fetching = engine.metrics().transfers.enter(Stage::Fetching);
    let upstreams = Arc::clone(&engine.live()?.upstreams);
    let mut doubted = false;
    loop {
        let plan = engine.plan(&transfer.wanted, &upstreams).await;
        if plan.name != transfer.name && serve_stored(engine, transfer, plan.name).await? {
            return Ok(());
        }
        if plan.stands_in && stand_in(engine, transfer, &plan).await? {
            return Ok(());
        }
        match obtain(engine, transfer, &plan, &upstreams).await? {
            Obtained::Whole => return Ok(()),
            Obtained::Overflowed(source) => {
                engine.metrics().ended.inc(Ended::Overflowed);
                transfer.overflow(plan.preferring(source), upstreams);
                return Ok(());
            }
            Obtained::Absent if plan.control_away => {
                return Err(Error::new(Code::Unavailable, "control is away and no upstream has this name"));
            }
            Obtained::Absent if doubted || !engine.doubt(&plan).await? => {
                return Err(Error::new(Code::Absent, "no source has it"));
            }
            // The doubt brought new origins of the same file.
            Obtained::Absent => doubted = true,
        }
    }
}

async fn serve_stored(engine: &Engine, transfer: &Transfer, name: NarFileName) -> Result<bool> {
    let Some(stored) = engine.stored(name).await? else { return Ok(false) };
    transfer.set_file(stored.file);
    transfer.prove(stored.size);
    engine.metrics().ended.inc(Ended::Found);
    Ok(true)
}

/// What another encoder made can't be had any more. Where the NAR was compressed anew since, that file is served, else it
/// is now.
async fn stand_in(engine: &Engine, transfer: &Transfer, plan: &Plan) -> Result<bool> {
    for name in &plan.alike {
        if engine.stored(*name).await?.is_some() {
            transfer.set_stands_in(name.to_string());
            return serve_stored(engine, transfer, *name).await;
        }
    }
    transfer.set_stands_in(format!("{}+{}", plan.name, library()));
    Ok(false)
}

enum Obtained {
    Whole,
    /// The disk takes no more; what is there is right so far. This source was giving it.
    Overflowed(Source),
    Absent,
}

async fn obtain(
    engine: &Arc<Engine>,
    transfer: &Arc<Transfer>,
    plan: &Plan,
    upstreams: &Arc<Upstreams>,
) -> Result<Obtained> {
    let mut download = Download::new(engine, transfer);
    let mut missed = Missed::default();
    let mut sources = Sources::of(engine, plan);
    while let Some(source) = sources.next(engine, transfer, plan, upstreams).await {
        transfer.read_from(source.label());
        transfer.set_follows(matches!(source, Source::Running(_)));
        if download.written() > 0 {
            engine.metrics().resumed.inc(());
        }
        let read = exhaust(engine, &mut download, &source, plan, upstreams).await;
        // Before control is asked again: from then on others may be sent here.
        transfer.set_follows(false);
        let trouble = match read {
            Ok(true_name) => {
                transfer.prove(download.written());
                if settle(engine, download.finish()?, true_name, plan, &source, transfer.began).await? {
                    sources.committed();
                }
                return Ok(Obtained::Whole);
            }
            Err(trouble) => trouble,
        };
        sources.failed(&source);
        doubt_placement(engine, &source, &trouble);
        match trouble {
            Trouble::Absent => missed.absent |= source.is_upstream(),
            Trouble::Ours(error) => return Err(error),
            Trouble::NoSpool(error) => {
                let at = download.written();
                tracing::warn!(nar = %plan.name, %error, at, "no room to spool a NAR: it is passed through");
                return Ok(Obtained::Overflowed(source));
            }
            Trouble::Source(error) => {
                tracing::warn!(nar = %plan.name, source = source.label(), %error, "a source of a NAR failed");
                proved_wrong(engine, &error);
                engine.unmakeable().note(plan, &source, &error);
                let goes_on = goes_on(&mut download, transfer, &error);
                missed.failed(&source, error, upstreams);
                if !goes_on {
                    break;
                }
            }
        }
    }
    missed.verdict(download.written())
}

/// What the sources said that did not give it.
#[derive(Default)]
struct Missed {
    absent: bool,
    failure: Option<UpstreamError>,
    /// Of one that has no say.
    silent: Option<UpstreamError>,
}

impl Missed {
    /// A transfer of another edge says nothing of where the file is.
    fn failed(&mut self, source: &Source, error: UpstreamError, upstreams: &Upstreams) {
        match source {
            Source::Running(_) => {}
            _ if upstreams.has_say(source.label()) => self.failure = Some(error),
            _ => self.silent = Some(error),
        }
    }

    fn verdict(self, written: u64) -> Result<Obtained> {
        let Missed { absent, failure, silent } = self;
        // Who has no say while he is away has one where nobody else answered.
        match failure.or(silent.filter(|_| !absent || written > 0)) {
            None if written == 0 => Ok(Obtained::Absent),
            None => Err(Error::new(Code::UpstreamFailed, "the sources lost it midway")),
            Some(error) => Err(Error::new(error.code(), "no source gave it whole").because(error)),
        }
    }
}

/// A peer that lacks what it is said to store, or stores something else, is to look.
fn doubt_placement(engine: &Arc<Engine>, source: &Source, trouble: &Trouble) {
    let Source::Peer(peer) = source else { return };
    let is_wrong = match trouble {
        Trouble::Absent => true,
        Trouble::Source(error) => matches!(
            error,
            UpstreamError::WrongBytes
                | UpstreamError::Undecodable(_)
                | UpstreamError::TooMuch
                | UpstreamError::WrongLength { .. }
                | UpstreamError::WrongRange(_)
        ),
        Trouble::Ours(_) | Trouble::NoSpool(_) => false,
    };
    if is_wrong {
        engine.doubt_placement(peer);
    }
}

/// Whether another source may go on where this one ended. Not after wrong bytes that a reader has already.
fn goes_on(download: &mut Download, transfer: &Transfer, failure: &UpstreamError) -> bool {
    match failure {
        // Also where nothing came: that it ended, and its proof, must be forgotten.
        UpstreamError::WrongBytes | UpstreamError::TooMuch | UpstreamError::Undecodable(_) => {
            download.begin_anew()
        }
        _ if download.written() == 0 => true,
        _ if transfer.cautious => download.begin_anew(),
        _ => true,
    }
}

/// Reads from one source until the whole is there and right, or the source is of no more use. Returns the
/// true name of the file.
async fn exhaust(
    engine: &Engine,
    download: &mut Download,
    source: &Source,
    plan: &Plan,
    upstreams: &Upstreams,
) -> std::result::Result<NarFileName, Trouble> {
    if engine.distrusts(source) {
        return Err(UpstreamError::Distrusted.into());
    }
    let (mut fruitless, start) = (0, download.written());
    let mut patience = Patience::new(LONGEST_PAUSE, MOST_WAITING);
    loop {
        let before = download.written();
        let read = download.read(source, plan, upstreams).await;
        if before == start && download.written() > start {
            download.contributed();
        }
        match read {
            Ok(()) => return judge(engine, download, source, plan).await,
            Err(Trouble::Source(error)) if error.pause().is_some_and(|pause| patience.allows(pause)) => {
                tokio::time::sleep(delay(&error, 0)).await;
            }
            Err(Trouble::Source(error)) if may_pass(&error) => {
                fruitless = if is_progress(&error, download.written() - before) { 0 } else { fruitless + 1 };
                if fruitless >= tries_for(&error) {
                    return Err(error.into());
                }
                tracing::info!(nar = %plan.name, source = source.label(), %error, at = download.written(), "resuming");
                if download.written() > 0 {
                    engine.metrics().resumed.inc(());
                }
                tokio::time::sleep(delay(&error, fruitless)).await;
            }
            Err(trouble) => {
                if matches!(trouble, Trouble::Source(UpstreamError::TooMuch)) {
                    blame(engine, download, source, plan);
                }
                return Err(trouble);
            }
        }
    }
}

/// Whether a source that broke off brought enough to be asked for the rest. One that dripped until it was given up
/// would drip on.
fn is_progress(error: &UpstreamError, brought: u64) -> bool {
    match error {
        UpstreamError::Stalled => brought > DRIP,
        _ => brought > 0,
    }
}

/// Whether the same source may do better when asked again.
pub(super) fn may_pass(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::Timeout | UpstreamError::Stalled | UpstreamError::Transport(_) | UpstreamError::Cut(_)
    ) || matches!(error, UpstreamError::Status(500..))
        || error.pause().is_some_and(|pause| pause <= LONGEST_PAUSE)
}

/// Before the next try. A source that asks for a pause gets it.
pub(super) fn delay(error: &UpstreamError, fruitless: u32) -> Duration {
    jittered(error.pause().unwrap_or(RETRY_DELAY * fruitless))
}

/// A source that lets us wait is left sooner than one that fails at once.
fn tries_for(error: &UpstreamError) -> u32 {
    match error {
        UpstreamError::Timeout | UpstreamError::Stalled => 1,
        _ => FRUITLESS_TRIES,
    }
}
