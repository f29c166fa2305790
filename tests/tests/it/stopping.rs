//! How processes stop: what runs finishes, what is new is refused, and who asks twice is obeyed at once.

use futures::future::join_all;
use ncps_nix::Compression;
use ncps_tests::{
    Connection, Fixture, Gate, Installation, Rule, Upstream, UpstreamKey, both_modes, client, eventually,
};
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::processes::UNDER_TEST;

const MANY: u64 = 50;
/// Half of a NAR's file, which leaves more than is held back.
const HALF: u64 = 150_000;

fn large(seed: u64, key: &UpstreamKey) -> Fixture {
    Fixture::new("large-1.0").seed(seed).size(2 * HALF).compression(Compression::None).build(key)
}

/// An upstream that gives half of each NAR until the gate opens.
async fn halting(fixtures: &[Fixture]) -> (Upstream, Gate) {
    let upstream = Upstream::with(&fixtures.iter().collect::<Vec<_>>()).await;
    let gate = Gate::new();
    upstream.script(Rule::on("/nar/*").pause_at(HALF, &gate));
    (upstream, gate)
}

async fn is_refused(ncps: &Installation) -> bool {
    TcpStream::connect(ncps.addr()).await.is_err()
}

both_modes! {
    async fn running_downloads_finish_and_new_connections_are_refused(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures: Vec<_> = (0..MANY).map(|seed| large(seed, &key)).collect();
        let (upstream, gate) = halting(&fixtures).await;
        // Long enough for /readyz to be seen on the slowest machine, and the most that this test waits for nothing.
        let ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).flag("--shutdown-delay=2s");
        let mut ncps = ncps.control_flag(format!("--max-downloads={MANY}")).started().await;
        let get = async |fixture: &Fixture| ncps.get(&fixture.nar_path()).await;
        let responses = join_all(fixtures.iter().map(get)).await;
        gate.reached_by(fixtures.len()).await;

        ncps.signal(Signal::TERM);
        eventually("not ready, and still there", async || {
            let ready = client::get(ncps.addr(), "/readyz").await;
            ready.expect("connections are taken during the delay").status == 503
        })
        .await;
        assert_eq!(ncps.get("/healthz").await.status, 200);
        eventually("the end of new connections", async || is_refused(&ncps).await).await;
        assert_eq!(ncps.edge().try_exit(), None, "it waits for what runs");

        gate.open();
        let bodies = join_all(responses.into_iter().map(async |mut response| response.outcome().await)).await;
        for (fixture, body) in fixtures.iter().zip(bodies) {
            assert!(body.whole() == fixture.file.to_bytes());
        }
        let status = ncps.edge().exit().await;
        assert_eq!(status.code(), Some(0), "{:#?}", ncps.edge().lines());
        assert_eq!((ncps.files("store/nar").len(), ncps.files("spool").len()), (fixtures.len(), 0));
        ncps.terminate().await;
    }

    async fn a_second_signal_ends_it_at_once(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = [large(0, &key)];
        let (upstream, _gate) = halting(&fixtures).await;
        // Longer than the test has patience.
        let ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).flag("--shutdown-grace=1h");
        let mut ncps = ncps.started().await;
        let mut response = ncps.get(&fixtures[0].nar_path()).await;
        response.bytes(1000).await.expect("it has begun");
        ncps.signal(Signal::TERM);
        eventually("the end of new connections", async || is_refused(&ncps).await).await;
        assert_eq!(ncps.edge().try_exit(), None);
        ncps.signal(Signal::INT);
        let cut = response.outcome().await.truncated();
        assert!(cut.len() < HALF as usize);
        assert_eq!(ncps.edge().exit().await.code(), Some(0), "cutting is not failing");
        assert_eq!((ncps.files("store/nar").len(), ncps.files("spool").len()), (0, 0));
        ncps.terminate().await;
    }

    async fn what_does_not_finish_within_the_grace_is_cut(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = [large(0, &key)];
        let (upstream, _gate) = halting(&fixtures).await;
        let ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).flag("--shutdown-grace=200ms");
        let mut ncps = ncps.started().await;
        let mut response = ncps.get(&fixtures[0].nar_path()).await;
        ncps.signal(Signal::TERM);
        response.outcome().await.truncated();
        let status = ncps.edge().exit().await;
        assert_eq!(status.code(), Some(0), "{:#?}", ncps.edge().lines());
        ncps.edge().line_with("cutting what still runs").await;
        ncps.terminate().await;
    }

    async fn idle_connections_do_not_hold_it_up(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = [Fixture::new("hello-1.0").build(&key)];
        let upstream = Upstream::with(&[&fixtures[0]]).await;
        // Longer than the test has patience.
        let ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).flag("--shutdown-grace=1h");
        let mut ncps = ncps.started().await;
        let mut idle = Vec::new();
        for path in ["/healthz", &fixtures[0].narinfo_path(), &fixtures[0].nar_path()] {
            let mut connection = Connection::open(ncps.addr()).await.expect("it listens");
            connection.get(path).await.expect("it answers").whole().await;
            idle.push(connection);
        }
        // These have not even asked for anything.
        for _ in 0..3 {
            idle.push(Connection::open(ncps.addr()).await.expect("it listens"));
        }
        // Accepted in order: once this one is answered, those before it are no longer in the backlog.
        ncps.get("/healthz").await.whole().await;
        ncps.signal(Signal::TERM);
        for mut connection in idle {
            assert!(connection.closes().await.expect("it does not wait"), "closed in order");
        }
        assert_eq!(ncps.edge().exit().await.code(), Some(0));
        ncps.terminate().await;
    }

    async fn a_signal_during_the_start_is_obeyed(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start_down();
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key);
        // In split mode an edge without control is never ready.
        ncps.start_edge();
        let addr = ncps.addr();
        ncps.edge().answers(addr, "/healthz").await;
        assert_eq!(ncps.edge().terminate().await.code(), Some(0));
    }
}
