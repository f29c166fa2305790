//! Each kind of cache among others that are little help: one that is dead, one that lies, one that has a path as
//! well and is slow. Whoever has the path is found, in whatever place it stands, and what is served is right.

use std::time::Duration;

use ncps_proto::EdgeSettings;
use ncps_tests::cluster::ClusterBuilder;
use ncps_tests::zoo::{self, Kind, Pen};
use ncps_tests::{Cluster, Cut, Fixture, Mode, Rule, Upstream, UpstreamKey, both_modes, kinds};

use crate::zoo_scene::{is_served, part};

macro_rules! each {
    ($($kind:ident)*) => {$(
        mod $kind {
            use super::*;

            both_modes! {
                async fn is_found_behind_the_others(mode) {
                    is_found_behind_the_others_of(mode, zoo::$kind()).await;
                }

                async fn is_found_before_the_others(mode) {
                    is_found_before_the_others_of(mode, zoo::$kind()).await;
                }
            }
        }
    )*};
}

kinds!(each);

/// Who is of little help.
pub(crate) struct Others {
    dead: Upstream,
    liar: Upstream,
    slow: Upstream,
}

impl Others {
    pub(crate) async fn new() -> Others {
        let others = Others {
            dead: Upstream::start_down(),
            liar: Upstream::start().await,
            slow: Upstream::start().await,
        };
        others.slow.script(Rule::on("*").delay(Duration::from_millis(500)));
        others.liar.script(Rule::on("/nar/*").body("not a NAR at all".repeat(1000)));
        others
    }

    /// Who can be asked was.
    fn were_asked(&self) {
        for (name, other) in [("the liar", &self.liar), ("the slow one", &self.slow)] {
            assert!(other.total() > 0, "{name} was not asked");
        }
    }

    /// Adds them all, after those before.
    pub(crate) fn join(&self, builder: ClusterBuilder) -> ClusterBuilder {
        [&self.dead, &self.liar, &self.slow].into_iter().fold(builder, ClusterBuilder::upstream)
    }

    /// Signed by somebody else who has the name of who is trusted, and not what was built.
    pub(crate) fn lie_about(&self, fixture: &Fixture, name: &str) {
        let stranger = UpstreamKey::new(name);
        let lie = fixture.changed(|narinfo| narinfo.signatures.clear()).signed(&stranger);
        self.liar.add_narinfo(&lie);
    }

    /// What the liar was asked in vain.
    pub(crate) fn lies(&self) -> usize {
        self.liar.total()
    }
}

/// Two paths of a kind. The first is nowhere else, the slow one has the second, too; there are lies about both.
async fn scene(kind: Kind) -> (Pen, Others, UpstreamKey, [Fixture; 2]) {
    let key = UpstreamKey::new("zoo-1");
    let fixtures = [part(&kind, 200_000, 0, &key), part(&kind, 500, 1, &key)];
    let pen = kind.with(&fixtures.iter().collect::<Vec<_>>()).await;
    let others = Others::new().await;
    fixtures.iter().for_each(|fixture| others.lie_about(fixture, "zoo-1"));
    others.slow.add(&fixtures[1]);
    (pen, others, key, fixtures)
}

/// What is slow is meant to be slower than what hedges.
pub(crate) fn hedging(settings: &mut EdgeSettings) {
    settings.hedge_delay = Duration::from_millis(100);
}

async fn is_found_behind_the_others_of(mode: Mode, kind: Kind) {
    let (pen, others, key, fixtures) = scene(kind).await;
    let builder = Cluster::builder(mode).trust(&key).settings(hedging);
    let cluster = others.join(builder).pen(&pen).start().await;
    for fixture in &fixtures {
        is_served(&cluster, fixture).await;
    }
    others.were_asked();
    cluster.end().await;
}

/// Its word on the second path is cut off whenever it is asked, so that the others are needed for that one.
async fn is_found_before_the_others_of(mode: Mode, kind: Kind) {
    let (pen, others, key, fixtures) = scene(kind).await;
    let builder = Cluster::builder(mode).trust(&key).settings(hedging).pen(&pen);
    let cluster = others.join(builder).start().await;
    is_served(&cluster, &fixtures[0]).await;
    let cut = Rule::on(&pen.path(&fixtures[1].narinfo_path())).cut_after(20, Cut::Fin);
    let cut = pen.cache.script(cut);
    is_served(&cluster, &fixtures[1]).await;
    assert!(cut.hits() > 0, "it was asked first");
    others.were_asked();
    cluster.end().await;
}
