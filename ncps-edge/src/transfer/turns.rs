//! Whose turn it is to go upstream, as one transfer sees it. While control can be reached only who has the turn goes;
//! the others read from that edge. Where they can't, they say so and ask again, and then it is the turn of one of them,
//! whom the others follow. Only when control can't be asked, or after so many edges that did not give the file,
//! does a transfer go on by itself.
//!
//! Absent: reading, and who decides (control).

use std::sync::Arc;
use std::time::Duration;

use ncps_nix::NarFileName;
use ncps_proto::{Code, Peer, Result, Turn};
use tokio_util::sync::DropGuard;

use super::engine::Engine;

/// Edges that did not give the file before a transfer goes on by itself.
const PATIENCE: usize = 4;
/// Calls without an answer, each in vain for as long as a call may take, before control can't be asked.
const TRIES: usize = 3;
/// Well before a turn runs out (60 s), even if once nobody answers.
const RENEW_EVERY: Duration = Duration::from_secs(20);

/// What a transfer may do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read from the transfer of the edge at this URL.
    Follow(String),
    /// Go upstream. These hold the file by now.
    Go(Vec<Peer>),
}

/// The turns of one transfer.
pub(super) struct Turns {
    engine: Arc<Engine>,
    name: NarFileName,
    /// It may go upstream.
    goes: bool,
    held: Option<HeldTurn>,
    /// The URLs of edges whose turn it was and that did not give the file.
    failed: Vec<String>,
}

impl Turns {
    pub(super) fn new(engine: &Arc<Engine>, name: NarFileName) -> Turns {
        Turns { engine: Arc::clone(engine), name, goes: false, held: None, failed: Vec::new() }
    }

    /// For what no upstream has.
    pub(super) fn none(engine: &Arc<Engine>, name: NarFileName) -> Turns {
        Turns { goes: true, ..Turns::new(engine, name) }
    }

    /// What to do next; nothing is new where it goes upstream already.
    pub(super) async fn next(&mut self) -> Option<Step> {
        if self.goes {
            return None;
        }
        while self.failed.len() < PATIENCE {
            match self.ask().await {
                Ok(Turn::Yours(peers)) => {
                    self.held = Some(HeldTurn::keep(&self.engine, self.name));
                    return Some(self.go(peers));
                }
                // It can't be read from.
                Ok(Turn::Theirs(None)) => self.failed.push(String::new()),
                Ok(Turn::Theirs(Some(url))) => return Some(Step::Follow(url)),
                Err(error) => {
                    tracing::info!(nar = %self.name, error = error.story(), "fetching without a turn");
                    return Some(self.go(Vec::new()));
                }
            }
        }
        tracing::info!(nar = %self.name, "no edge whose turn it was gave the file: fetching without a turn");
        Some(self.go(Vec::new()))
    }

    /// Asks control. Where it is only slow it is asked again: to go without a turn is a fetch too many.
    async fn ask(&self) -> Result<Turn> {
        let mut tries = 1;
        loop {
            let control = self.engine.control();
            match control.begin_fetch(self.engine.instance(), self.name, &self.failed).await {
                Err(error) if error.code() == Code::Unavailable && tries < TRIES => tries += 1,
                answer => return answer,
            }
        }
    }

    fn go(&mut self, peers: Vec<Peer>) -> Step {
        self.goes = true;
        Step::Go(peers)
    }

    /// The edge at this URL did not give the file to its end.
    pub(super) fn failed(&mut self, url: &str) {
        self.failed.push(url.to_owned());
    }

    /// The file lies in the store and control knows it, which ended the turn.
    pub(super) fn committed(mut self) {
        if let Some(turn) = &mut self.held {
            turn.committed = true;
        }
    }
}

/// The turn to fetch a file, asked for anew while it is held. Given back when dropped, unless a commit ended it.
struct HeldTurn {
    engine: Arc<Engine>,
    name: NarFileName,
    committed: bool,
    _renewal: DropGuard,
}

impl HeldTurn {
    fn keep(engine: &Arc<Engine>, name: NarFileName) -> HeldTurn {
        let over = engine.stopped().child_token();
        let (renewed, until) = (Arc::clone(engine), over.clone());
        engine.tasks().spawn_background("renewal of a turn", async move {
            until.run_until_cancelled(renew(&renewed, name)).await;
        });
        HeldTurn { engine: Arc::clone(engine), name, committed: false, _renewal: over.drop_guard() }
    }
}

/// Whatever control says: what has begun goes on.
async fn renew(engine: &Engine, name: NarFileName) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEW_EVERY) => {}
            // A control that was started anew knows of no turn.
            () = engine.attached().notified() => {}
        }
        match engine.control().begin_fetch(engine.instance(), name, &[]).await {
            Ok(Turn::Yours(_)) => {}
            Ok(Turn::Theirs(_)) => tracing::info!(nar = %name, "a turn went over to another edge"),
            Err(error) => tracing::debug!(nar = %name, error = error.story(), "a turn can't be renewed"),
        }
    }
}

impl Drop for HeldTurn {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        let (engine, name) = (Arc::clone(&self.engine), self.name);
        // If control is away the turn expires by itself.
        self.engine.tasks().spawn("end of turn", async move {
            engine.control().end_fetch(engine.instance(), name).await.ok();
        });
    }
}
