//! Two caches of one kind that both have a path. Where the one whose narinfo was taken can't give the NAR, the other
//! one does, under the name that its kind has for it.

use ncps_tests::zoo::{self, Kind, Pen};
use ncps_tests::{Cluster, Fixture, Mode, UpstreamKey, both_modes, kinds};

use crate::zoo_scene::{Came, fetch, is_told, part};

macro_rules! each {
    ($($kind:ident)*) => {
        const KINDS: &[fn() -> Kind] = &[$(|| zoo::$kind()),*];
    };
}

kinds!(each);

/// Whether the NAR comes after something has happened to the first of two that have it.
async fn survives(mode: Mode, kind: Kind, happens: &impl AsyncFn(&Pen)) -> bool {
    let key = UpstreamKey::new("zoo-1");
    // So small that no reader has a byte of it before the proof.
    let fixture: Fixture = part(&kind, 20_000, 0, &key);
    let (first, second) = (kind.with(&[&fixture]).await, kind.with(&[&fixture]).await);
    let cluster = Cluster::builder(mode).trust(&key).pen(&first).pen(&second).start().await;
    let narinfo = is_told(&cluster, &fixture).await;
    happens(&first).await;
    let came = fetch(&cluster, &narinfo, &fixture).await;
    cluster.end().await;
    matches!(came, Came::Whole)
}

async fn all_survive(mode: Mode, happens: impl AsyncFn(&Pen)) {
    let mut lost = Vec::new();
    for kind in KINDS {
        if !survives(mode, kind(), &happens).await {
            lost.push(kind().name);
        }
    }
    assert!(lost.is_empty(), "the twin was of no use: {lost:?}");
}

both_modes! {
    async fn who_gave_the_narinfo_is_gone(mode) {
        all_survive(mode, async |first| first.down().await).await;
    }

    async fn who_gave_the_narinfo_fails(mode) {
        all_survive(mode, async |first| drop(first.script_nars(|rule| rule.status(500)))).await;
    }

    async fn who_gave_the_narinfo_has_rubbish(mode) {
        all_survive(mode, async |first| drop(first.script_nars(|rule| rule.flip(1000)))).await;
    }
}
