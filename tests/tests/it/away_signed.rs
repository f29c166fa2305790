//! Control out of reach, where upstreams are asked and vouch for what is not here: what clients get then, and what
//! becomes of it when control is back.

use ncps_nix::{NarFileName, NarInfo};
use ncps_proto::{ControlPlane, WhenAway};
use ncps_runtime::telemetry::Labels;
use ncps_tests::cluster::EdgeNode;
use ncps_tests::{Cluster, Fixture, Link, Request, Upstream, UpstreamKey, eventually};

use crate::asking::{ask, get};
use crate::away::{There, beside, is_corrected, is_told, link, split};
use crate::cli::cli;
use crate::scene::{is_served, plain};
use ncps_edge::metrics::ControlCall;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_vouch_for_what_is_not_here_while_control_refuses() {
    away(async |link| link.refuse().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_vouch_for_what_is_not_here_while_control_is_silent() {
    away(async |link| link.hang()).await;
}

async fn away(break_it: impl AsyncFnOnce(&Link)) {
    let (cluster, upstream, key) = split(WhenAway::UpstreamSigned).await;
    let there = There::new(&key);
    let (stored, near) = there.prepare(&cluster, &upstream).await;
    break_it(link(&cluster)).await;
    let cold = upstreams_vouch(&cluster, &there.cold, &key).await;
    is_served(&cluster, &there.cold).await;
    assert_eq!(beside(&cluster, &there.cold), Some(cold));
    // What is near is signed by us, and its NAR comes from where only the upstream knows it to be.
    assert_eq!((cluster.narinfo(&there.stored).await, cluster.narinfo(&there.near).await), (stored, near));
    is_served_as_ours(&cluster, &there.opaque).await;
    let other = plain(100_000).seed(7).url("blobs/9?of=nar").build(&key);
    upstream.add(&other);
    upstreams_vouch(&cluster, &other, &key).await;
    is_served_as_ours(&cluster, &other).await;
    says_what_upstreams_say(&cluster, &upstream).await;
    takes_nothing(&cluster, &there).await;
    link(&cluster).mend().await;
    is_whole_again(&cluster, &there, &other).await;
    cluster.end().await;
}

/// The narinfo of a path, as its upstream signed it and under our name of its file.
async fn upstreams_vouch(cluster: &Cluster, fixture: &Fixture, key: &UpstreamKey) -> NarInfo {
    let narinfo = cluster.narinfo(fixture).await;
    assert_eq!(narinfo.signatures, fixture.narinfo.signatures, "{}", fixture.store_path());
    assert!(key.public().verify(&narinfo.fingerprint(), &narinfo.signatures[0]));
    assert_eq!(format!("/{}", narinfo.url), fixture.canonical_nar_path());
    assert_eq!(cluster.narinfo(fixture).await, narinfo, "and again");
    narinfo
}

async fn is_served_as_ours(cluster: &Cluster, fixture: &Fixture) {
    let told = get(cluster, &fixture.canonical_nar_path()).await;
    assert!(
        told.status == 200 && told.body == fixture.file.to_bytes(),
        "{}: {}",
        told.status,
        fixture.store_path()
    );
}

/// An absence is one, and remembered for a moment; an outage is none.
async fn says_what_upstreams_say(cluster: &Cluster, upstream: &Upstream) {
    let absent = Fixture::new("absent-1.0").build_unsigned();
    for _ in 0..3 {
        assert_eq!(get(cluster, &absent.narinfo_path()).await.status, 404);
    }
    assert_eq!(upstream.count("GET", &absent.narinfo_path()), 1, "remembered");
    upstream.down().await;
    let unknown = Fixture::new("unknown-1.0").build_unsigned();
    for _ in 0..2 {
        assert_eq!(get(cluster, &unknown.narinfo_path()).await.status, 502);
    }
    upstream.up().await;
}

async fn takes_nothing(cluster: &Cluster, there: &There) {
    let path = there.near.narinfo_path();
    let put = ask(cluster, Request::put(&there.near.nar_path(), there.near.file.clone())).await;
    let narinfo = ask(cluster, Request::put(&path, there.near.narinfo_text())).await;
    let delete = ask(cluster, Request::new("DELETE", &path)).await;
    assert_eq!((put.status, narinfo.status, delete.status), (503, 503, 503));
    assert!(put.headers.number("Retry-After").is_some_and(|seconds| seconds > 0));
}

/// What was served meanwhile is signed by us now, in the index, and on the disk.
async fn is_whole_again(cluster: &Cluster, there: &There, other: &Fixture) {
    is_told(cluster).await;
    let ours = cluster.public_key().await;
    for fixture in [&there.cold, other] {
        let signed = async || {
            let narinfo = cluster.narinfo(fixture).await;
            narinfo.signatures.iter().any(|signature| signature.key_name == ours.name())
        };
        eventually("our signature", signed).await;
    }
    agree(cluster, cluster.at(0)).await;
    let known = cluster.control().locate("", name(&other.canonical_nar_path())).await.expect("it answers");
    let known = known.expect("it is told where the file came from");
    assert_eq!((known.proven, known.origins[0].url.as_str()), (true, "blobs/9?of=nar"));
    let old = cluster.narinfo(&there.misnamed).await;
    is_corrected(cluster, &old, &there.misnamed).await;
    agree(cluster, cluster.at(0)).await;
}

fn name(path: &str) -> NarFileName {
    NarFileName::parse(path.strip_prefix("/nar/").expect("a NAR")).expect("a name")
}

/// Every file of an edge's store is in the index, and each narinfo beside it is the one that is served.
pub(crate) async fn agree(cluster: &Cluster, edge: &EdgeNode) {
    let as_one = async || {
        let mut agreed = true;
        for file in edge.stored_files() {
            let known =
                cluster.control().locate("", name(&format!("/nar/{file}"))).await.expect("it answers");
            agreed &= known.is_some_and(|known| !known.store_paths.is_empty());
        }
        for entry in std::fs::read_dir(edge.store_dir()).expect("it is there") {
            let path = entry.expect("listed").path();
            if path.extension().is_none_or(|extension| extension != "narinfo") {
                continue;
            }
            let text = std::fs::read(&path).expect("read");
            let file = path.file_name().expect("it has one").to_string_lossy().into_owned();
            agreed &= edge.get(&format!("/{file}")).await.whole().await == text;
        }
        agreed
    };
    eventually("index and disk agree", as_one).await;
}

fn calls(cluster: &Cluster) -> u64 {
    ControlCall::all().into_iter().map(|outcome| cluster.edge.metrics.control_calls.get(outcome)).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warm_reads_need_no_call_to_control() {
    let (cluster, upstream, key) = split(WhenAway::UpstreamSigned).await;
    let there = There::new(&key);
    there.prepare(&cluster, &upstream).await;
    let read = async || {
        for _ in 0..20 {
            cluster.narinfo(&there.stored).await;
            is_served(&cluster, &there.stored).await;
        }
    };
    let before = calls(&cluster);
    read().await;
    assert_eq!(calls(&cluster), before);
    link(&cluster).refuse().await;
    let not_made = || cluster.edge.metrics.control_calls.get(ControlCall::NotMade);
    let is_away = async || {
        get(&cluster, &there.cold.narinfo_path()).await;
        not_made() > 0
    };
    eventually("control is known to be away", is_away).await;
    let before = not_made();
    read().await;
    assert_eq!(not_made(), before);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_first_wait_for_a_control_that_is_silent() {
    let (cluster, _upstream, _) = split(WhenAway::UpstreamSigned).await;
    link(&cluster).hang();
    let unknown = |n| Fixture::new("unknown-1.0").seed(n).build_unsigned();
    let metrics = &cluster.edge.metrics;
    for n in 0..3 {
        assert_eq!(get(&cluster, &unknown(n).narinfo_path()).await.status, 404);
    }
    assert_eq!(metrics.control_away.get(()), 1);
    let not_made = metrics.control_calls.get(ControlCall::NotMade);
    for n in 3..33 {
        assert_eq!(get(&cluster, &unknown(n).narinfo_path()).await.status, 404);
    }
    assert!(metrics.control_calls.get(ControlCall::NotMade) >= not_made + 30);
    link(&cluster).mend().await;
    eventually("it answers again", async || metrics.control_away.get(()) == 0).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_purged_meanwhile_is_not_brought_back() {
    let (cluster, upstream, key) = split(WhenAway::UpstreamSigned).await;
    let fixture = plain(100_000).build(&key);
    upstream.add(&fixture);
    cluster.narinfo(&fixture).await;
    link(&cluster).refuse().await;
    cluster.edge.lookups.near.clear();
    upstreams_vouch(&cluster, &fixture, &key).await;
    is_served(&cluster, &fixture).await;
    let detached = async || cluster.control().edges() == 0;
    eventually("control has noticed", detached).await;
    cli(&cluster).ok(&["purge", "--yes", &fixture.hash_part()]).await;
    upstream.remove_fixture(&fixture);
    link(&cluster).mend().await;
    is_told(&cluster).await;
    let gone = async || !cluster.stores(&fixture.nar_path()) && beside(&cluster, &fixture).is_none();
    eventually("the edge has dropped it", gone).await;
    assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
    cluster.end().await;
}
