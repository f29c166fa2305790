//! Who looks at the dashboard. All of them are told the same; one who does not keep up is dropped with the connection,
//! and past [`MOST`] nobody more is let in.

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// At once: far fewer than the port has connections, so that probes and Prometheus find room.
pub(super) const MOST: usize = 16;
/// What one of them may be behind: some 16 s.
const BEHIND: usize = 8;

struct Viewer {
    line: mpsc::Sender<Bytes>,
    cut: CancellationToken,
}

/// All of them.
#[derive(Default)]
pub(super) struct Viewers {
    seats: Mutex<Vec<Viewer>>,
}

impl Viewers {
    /// Whether anybody looks.
    pub(super) fn any(&self) -> bool {
        let mut seats = self.seats.lock();
        seats.retain(|viewer| !viewer.line.is_closed());
        !seats.is_empty()
    }

    /// One more, who is told this first. `None` where there is no room.
    pub(super) fn come(&self, first: Bytes, cut: &CancellationToken) -> Option<mpsc::Receiver<Bytes>> {
        let mut seats = self.seats.lock();
        seats.retain(|viewer| !viewer.line.is_closed());
        if seats.len() >= MOST {
            return None;
        }
        let (line, news) = mpsc::channel(BEHIND);
        // It is empty.
        line.try_send(first).ok();
        seats.push(Viewer { line, cut: cut.clone() });
        Some(news)
    }

    /// Tells everybody.
    pub(super) fn tell(&self, said: &Bytes) {
        self.seats.lock().retain(|viewer| {
            let keeps_up = viewer.line.try_send(said.clone()).is_ok();
            if !keeps_up {
                viewer.cut.cancel();
            }
            keeps_up
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn come(viewers: &Viewers) -> Option<(mpsc::Receiver<Bytes>, CancellationToken)> {
        let cut = CancellationToken::new();
        viewers.come(Bytes::from_static(b"first"), &cut).map(|news| (news, cut))
    }

    #[test]
    fn places_are_bounded_and_free_again() {
        let viewers = Viewers::default();
        assert!(!viewers.any());
        let mut seated: Vec<_> = (0..MOST).map(|_| come(&viewers).expect("room")).collect();
        assert!(viewers.any() && come(&viewers).is_none());
        seated.pop();
        assert!(come(&viewers).is_some());
        drop(seated);
        assert!(!viewers.any());
    }

    #[test]
    fn who_does_not_keep_up_is_dropped_and_others_are_not() {
        let viewers = Viewers::default();
        let (mut quick, quick_cut) = come(&viewers).expect("room");
        let (mut slow, slow_cut) = come(&viewers).expect("room");
        for n in 0..2 * BEHIND {
            viewers.tell(&Bytes::from(n.to_string()));
            assert!(quick.try_recv().is_ok());
        }
        assert!(slow_cut.is_cancelled() && !quick_cut.is_cancelled());
        let heard = std::iter::from_fn(|| slow.try_recv().ok()).count();
        assert_eq!(heard, BEHIND, "no more than that was kept");
    }
}
