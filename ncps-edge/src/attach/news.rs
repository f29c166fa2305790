//! The edge's word to control, as the rest of the edge knows it: a shell around [`Dialogue`], which decides what is said.
//! Whoever changes the store notes it here, after it is done; who speaks waits here until there is something to say.

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::{EdgeReport, HeldNar, Hello, Said, Told};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::changes::Change;
use super::dialogue::{Broken, Dialogue, Effect, Next, Ticket};

/// What control does not know yet, and how far the session with it is.
#[derive(Debug, Default)]
pub struct News {
    dialogue: Mutex<Dialogue>,
    some: Notify,
    /// Something that was ordered is done.
    over: Notify,
}

impl News {
    fn happens<T>(&self, event: impl FnOnce(&mut Dialogue) -> T) -> T {
        let answer = event(&mut self.dialogue.lock());
        self.some.notify_one();
        answer
    }

    /// A file came into the store or left it, or control may believe so: it is told how it is.
    pub(crate) fn changed(&self, name: NarFileName) {
        self.happens(|dialogue| dialogue.changed(name));
    }

    /// See [`Dialogue::done`].
    pub(crate) fn done(&self, ticket: Ticket, gone: Vec<NarFileName>) {
        self.happens(|dialogue| dialogue.done(ticket, gone));
        self.over.notify_waiters();
    }

    /// See [`Dialogue::begin`].
    pub(super) fn begin(&self, hello: Hello) -> Said {
        self.happens(|dialogue| dialogue.begin(hello))
    }

    /// See [`Dialogue::end`].
    pub(super) fn end(&self) {
        self.happens(Dialogue::end);
    }

    /// See [`Dialogue::hear`].
    pub(super) fn hear(&self, told: Told) -> Result<Option<Effect>, Broken> {
        self.happens(|dialogue| dialogue.hear(told))
    }

    /// See [`Dialogue::belongs`].
    pub(super) fn belongs(&self, ours: bool) {
        self.happens(|dialogue| dialogue.belongs(ours));
    }

    /// See [`Dialogue::listed`].
    pub(super) fn listed(&self, held: Vec<HeldNar>) {
        self.happens(|dialogue| dialogue.listed(held));
    }

    /// See [`Dialogue::all_is_due`].
    pub(super) fn all_is_due(&self) {
        self.happens(Dialogue::all_is_due);
    }

    /// See [`Dialogue::upstream_is_back`].
    pub(super) fn upstream_is_back(&self) {
        self.happens(Dialogue::upstream_is_back);
    }

    /// See [`Dialogue::is_drained`].
    pub(super) fn is_drained(&self) {
        self.happens(Dialogue::is_drained);
    }

    /// See [`Dialogue::next`].
    pub(super) fn next(&self) -> Result<Option<Next>, Broken> {
        self.dialogue.lock().next()
    }

    /// See [`Dialogue::look`].
    pub(super) fn look(
        &self,
        number: u64,
        change: Change,
        held: impl Fn(NarFileName) -> Option<HeldNar>,
    ) -> Option<Said> {
        self.dialogue.lock().look(number, change, held)
    }

    /// See [`Dialogue::says`].
    pub(super) fn says(&self, report: EdgeReport) -> Said {
        self.dialogue.lock().says(report)
    }

    /// See [`Dialogue::agrees`].
    pub(super) fn agrees(&self, path: StorePathHash) {
        self.happens(|dialogue| dialogue.agrees(path));
    }

    /// See [`Dialogue::has_said_all`].
    pub(super) fn has_said_all(&self) -> bool {
        self.dialogue.lock().has_said_all()
    }

    /// Waits until no order is being carried out.
    pub(super) async fn idle(&self) {
        loop {
            let over = self.over.notified();
            if !self.dialogue.lock().is_busy() {
                return;
            }
            over.await;
        }
    }

    /// Waits until there may be something to say.
    pub(super) async fn some(&self) {
        self.some.notified().await;
    }
}
