//! All kinds of caches at once, as the upstreams of one ncps: each path is found at whoever has it, a real Nix takes
//! what comes, and what one of them says to a name that it does not understand is no news of the others.

use ncps_nix::{Compression, StorePath};
use ncps_tests::zoo::{self, Kind, Pen};
use ncps_tests::{Cluster, Fixture, Mode, Nix, Rule, Upstream, UpstreamKey, both_modes, kinds};

use crate::asking::get;
use crate::scene;

use crate::zoo_scene::{closure, is_absent, is_served, part};

macro_rules! each {
    ($($kind:ident)*) => {
        const KINDS: &[fn() -> Kind] = &[$(|| zoo::$kind()),*];
    };
}

kinds!(each);

const ALL: [Compression; 4] = [Compression::None, Compression::Xz, Compression::Zstd, Compression::Bzip2];

/// A cache of each kind, and a cluster that knows them all.
async fn everybody(mode: Mode, key: &UpstreamKey) -> (Vec<Pen>, Cluster) {
    let mut pens = Vec::new();
    for kind in KINDS {
        pens.push(kind().with(&[]).await);
    }
    let builder = Cluster::builder(mode).trust(key);
    let cluster = pens.iter().fold(builder, |builder, pen| builder.pen(pen)).start().await;
    (pens, cluster)
}

both_modes! {
    async fn each_path_is_found_where_it_is(mode) {
        let key = UpstreamKey::new("zoo-1");
        let (pens, cluster) = everybody(mode, &key).await;
        is_absent(&cluster).await;
        for (nth, pen) in pens.iter().enumerate() {
            let fixture = part(&pen.kind, 100_000, nth, &key);
            pen.add(&fixture);
            is_served(&cluster, &fixture).await;
            assert_eq!(pen.nar_requests().len(), 1, "{}", pen.kind.name);
        }
        cluster.end().await;
    }

    async fn a_nar_that_is_gone_is_absent_whoever_stands_by(mode) {
        let mut wrong = Vec::new();
        for kind in KINDS {
            let (upstream, key) = (Upstream::start().await, UpstreamKey::new("zoo-1"));
            let stands_by = kind().with(&[]).await;
            let builder = Cluster::builder(mode).trust(&key).upstream(&upstream).pen(&stands_by);
            let cluster = builder.start().await;
            for compression in ALL {
                let fixture = scene::plain(1000).compression(compression).seed(compression as u64).build(&key);
                scene::learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
                upstream.remove_fixture(&fixture);
                let status = get(&cluster, &fixture.nar_path()).await.status;
                if status != 404 {
                    wrong.push((kind().name, compression, status));
                }
            }
            cluster.end().await;
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    async fn what_comes_byte_by_byte_is_waited_for(mode) {
        let key = UpstreamKey::new("zoo-1");
        let (pens, cluster) = everybody(mode, &key).await;
        for (nth, pen) in pens.iter().enumerate() {
            let fixture = part(&pen.kind, 500, nth, &key);
            pen.add(&fixture);
            for upstream in [&pen.cache, &pen.bucket] {
                upstream.script(Rule::on("*").pieces(1));
            }
            is_served(&cluster, &fixture).await;
        }
        cluster.end().await;
    }
}

/// One mode is enough: what Nix sees is the same in both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nix_copies_a_closure_of_each_kind() {
    let Some(nix) = Nix::find() else { return };
    let key = UpstreamKey::new("zoo-1");
    let (pens, cluster) = everybody(Mode::Combined, &key).await;
    let closures: Vec<Vec<Fixture>> = pens.iter().map(|pen| closure(&pen.kind, &key)).collect();
    for (pen, closure) in pens.iter().zip(&closures) {
        closure.iter().for_each(|fixture| pen.add(fixture));
    }
    nix.trust(&[cluster.public_key().await]);
    let tops: Vec<&StorePath> = closures.iter().map(|closure| closure[0].store_path()).collect();
    nix.copy_from(&cluster.url(), &tops).await.ok();
    for fixture in closures.iter().flatten() {
        nix.verify_own(fixture.store_path()).await.ok();
    }
    cluster.end().await;
}
