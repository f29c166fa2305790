//! The sources of one transfer, one after the other: what lies in the fleet, then, when it is our turn, the upstreams,
//! and when these are exhausted those that are found then. While it is the turn of another edge, that edge's transfer.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use ncps_proto::Peer;

use super::engine::Engine;
use super::plan::{PeerFile, Plan, Source};
use super::progress::Transfer;
use super::turns::{Step, Turns};
use crate::upstream::Upstreams;

pub(super) struct Sources {
    /// In the fleet: nobody's turn is needed.
    near: VecDeque<Source>,
    far: VecDeque<Source>,
    turns: Turns,
    /// The peers that were asked, by their URLs.
    asked: HashSet<String>,
    sought: bool,
}

impl Sources {
    pub(super) fn of(engine: &Arc<Engine>, plan: &Plan) -> Sources {
        let (far, near): (VecDeque<_>, VecDeque<_>) =
            plan.sources.iter().cloned().partition(Source::is_upstream);
        let is_nowhere_else = plan.uploaded && far.is_empty();
        let turns =
            if is_nowhere_else { Turns::none(engine, plan.name) } else { Turns::new(engine, plan.name) };
        Sources { near, far, turns, asked: HashSet::new(), sought: false }
    }

    pub(super) async fn next(
        &mut self,
        engine: &Engine,
        transfer: &Transfer,
        plan: &Plan,
        upstreams: &Arc<Upstreams>,
    ) -> Option<Source> {
        loop {
            if let Some(near) = self.near.pop_front() {
                self.note(&near);
                return Some(near);
            }
            match self.turns.next().await {
                Some(Step::Follow(url)) => return Some(Source::Running(PeerFile { url, name: plan.name })),
                Some(Step::Go(peers)) => self.meet(peers, plan),
                None => break,
            }
        }
        if self.far.is_empty() && !std::mem::replace(&mut self.sought, true) {
            self.far = engine.seek(&transfer.wanted, plan, upstreams).await.into();
        }
        self.far.pop_front()
    }

    fn note(&mut self, source: &Source) {
        if let Source::Peer(peer) = source {
            self.asked.insert(peer.url.clone());
        }
    }

    /// Peers that hold the file by now.
    fn meet(&mut self, peers: Vec<Peer>, plan: &Plan) {
        let news = peers.into_iter().map(|peer| peer.url).filter(|url| !self.asked.contains(url));
        self.near.extend(news.map(|url| Source::Peer(PeerFile { url, name: plan.name })));
    }

    /// One did not give the file to its end.
    pub(super) fn failed(&mut self, source: &Source) {
        if let Source::Running(peer) = source {
            self.turns.failed(&peer.url);
        }
    }

    /// The file lies in the store, and control knows it.
    pub(super) fn committed(self) {
        self.turns.committed();
    }
}
