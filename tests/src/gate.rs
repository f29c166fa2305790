//! A gate: something in the harness stops at it until the test opens it, and the test can wait
//! until something has arrived there. Once open it stays open.

use std::sync::Arc;

use tokio::sync::watch;

use crate::wait::in_time;

#[derive(Debug, Default)]
struct State {
    open: bool,
    waiting: usize,
    arrived: usize,
}

/// A gate that starts closed. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<State>>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.0.send_modify(|state| state.open = true);
    }

    /// Whether [`Gate::open`] was called.
    pub fn is_open(&self) -> bool {
        self.0.borrow().open
    }

    /// How many stand before the gate now.
    pub fn waiting(&self) -> usize {
        self.0.borrow().waiting
    }

    /// Passes the gate, once it is open. Whoever is dropped while waiting no longer counts.
    pub async fn pass(&self) {
        let _place = Place::take(self);
        self.until(|state| state.open).await;
    }

    /// Waits until somebody has arrived at the gate (also if it has gone on or away since).
    ///
    /// # Panics
    /// If nobody arrives within the usual patience.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// As [`Gate::reached`], for the `n`th to arrive.
    ///
    /// # Panics
    /// As [`Gate::reached`].
    pub async fn reached_by(&self, n: usize) {
        in_time("an arrival at the gate", self.until(|state| state.arrived >= n)).await;
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        let mut seen = self.0.subscribe();
        seen.wait_for(condition).await.expect("the sender lives in self");
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// One who stands before the gate; counted until dropped.
struct Place<'a>(&'a Gate);

impl<'a> Place<'a> {
    fn take(gate: &'a Gate) -> Self {
        gate.0.send_modify(|state| {
            state.waiting += 1;
            state.arrived += 1;
        });
        Self(gate)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn holds_until_opened() {
        let gate = Gate::new();
        let passer = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass().await }
        });
        gate.reached().await;
        assert_eq!(gate.waiting(), 1);
        assert!(!passer.is_finished());
        gate.open();
        in_time("the passer", passer).await.expect("it does not panic");
        assert_eq!(gate.waiting(), 0);
        assert!(gate.is_open());
    }

    #[tokio::test]
    async fn who_leaves_is_not_counted() {
        let gate = Gate::new();
        {
            let pass = gate.pass();
            tokio::pin!(pass);
            assert!(futures::poll!(pass.as_mut()).is_pending());
            assert_eq!(gate.waiting(), 1);
        }
        assert_eq!(gate.waiting(), 0);
        gate.reached().await;
    }
}
