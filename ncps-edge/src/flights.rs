//! One piece of work per key, shared by all who want its answer and owned by none of them: who leaves cancels
//! nobody. Since nobody's leaving ends them, those that run are bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use ncps_proto::{Code, Error};
use ncps_runtime::tasks::Tasks;
use parking_lot::Mutex;

use crate::transfer::Failure;

/// What a piece of work comes to; every one who waits gets a copy.
pub(crate) type Answer<V> = Result<V, Failure>;
type Flight<V> = Shared<BoxFuture<'static, Answer<V>>>;
type Running<K, V> = Arc<Mutex<HashMap<K, (u64, Flight<V>)>>>;

/// The pieces of work that run.
pub(crate) struct Flights<K, V> {
    running: Running<K, V>,
    most: usize,
    /// Tells one piece of work from an earlier one of its key.
    last: AtomicU64,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// At most `most` at once.
    pub(crate) fn new(most: usize) -> Self {
        Flights { running: Arc::default(), most, last: AtomicU64::new(0) }
    }

    /// How many run right now.
    pub(crate) fn running(&self) -> usize {
        self.running.lock().len()
    }

    /// What changed is not answered by work that began before: who comes from now on has other work done.
    pub(crate) fn outdate(&self, keys: impl Fn(&K) -> bool) {
        self.running.lock().retain(|key, _| !keys(key));
    }

    /// The answer for `key`: of the work that runs for it, else of `work`, which becomes a task of that name.
    /// [`Code::Overloaded`] where too many run already.
    pub(crate) async fn join<W>(
        &self,
        key: &K,
        tasks: &Tasks,
        name: &'static str,
        work: impl FnOnce() -> W,
    ) -> Answer<V>
    where
        W: Future<Output = Answer<V>> + Send + 'static,
    {
        let flight = self.flight(key, tasks, name, work)?;
        flight.await
    }

    fn flight<W>(
        &self,
        key: &K,
        tasks: &Tasks,
        name: &'static str,
        work: impl FnOnce() -> W,
    ) -> Result<Flight<V>, Error>
    where
        W: Future<Output = Answer<V>> + Send + 'static,
    {
        let mut running = self.running.lock();
        if let Some((_, flight)) = running.get(key) {
            return Ok(flight.clone());
        }
        if running.len() >= self.most {
            return Err(Error::new(Code::Overloaded, format!("{} of {name:?} run already", self.most)));
        }
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let (landing, work) = (Landing { running: Arc::clone(&self.running), key: key.clone(), id }, work());
        let task = tasks.spawn(name, async move {
            let answer = work.await;
            drop(landing);
            answer
        });
        let ended_early = move |e| Err(Error::internal(name).because(e).into());
        let flight = async move { task.await.unwrap_or_else(ended_early) }.boxed().shared();
        running.insert(key.clone(), (id, flight.clone()));
        Ok(flight)
    }
}

/// Takes a piece of work off the list when it ends, however it ends.
struct Landing<K: Eq + Hash, V> {
    running: Running<K, V>,
    key: K,
    id: u64,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if running.get(&self.key).is_some_and(|(id, _)| *id == self.id) {
            running.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ncps_runtime::lifecycle::{Lifecycle, Timing};
    use tokio::sync::Notify;

    use super::*;

    fn tasks() -> Tasks {
        Lifecycle::new(Timing { delay: Duration::ZERO, grace: Duration::ZERO }).tasks()
    }

    #[tokio::test]
    async fn many_share_one_and_who_leaves_cancels_nobody() {
        let (flights, tasks, gate) = (Flights::<u8, u8>::new(1), tasks(), Arc::new(Notify::new()));
        let work = || {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Ok(7)
            }
        };
        let mut leaver = Box::pin(flights.join(&1, &tasks, "test", work));
        assert!(futures::poll!(&mut leaver).is_pending());
        let mut stayer = Box::pin(flights.join(&1, &tasks, "test", || async { panic!("not begun twice") }));
        assert!(futures::poll!(&mut stayer).is_pending());
        drop(leaver);
        let full = flights.join(&2, &tasks, "test", || async { Ok(0) }).await;
        assert_eq!(full.expect_err("one is the most").code, Code::Overloaded);
        gate.notify_one();
        assert_eq!(stayer.await.expect("answered"), 7);
        assert_eq!(flights.running(), 0);
    }

    #[tokio::test]
    async fn one_that_panics_fails_and_makes_room() {
        let (flights, tasks) = (Flights::<u8, u8>::new(1), tasks());
        let failed = flights.join(&1, &tasks, "test", || async { panic!("on purpose") }).await;
        assert_eq!(failed.expect_err("it has no answer").code, Code::Internal);
        assert_eq!(flights.running(), 0);
    }
}
