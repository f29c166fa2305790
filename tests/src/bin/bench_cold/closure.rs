//! A closure of 5,000 paths in 25 levels, each of which refers to eight of the next level, 50 ms away: how long a client
//! takes to ask for all narinfos breadth first on 25 connections, directly and through ncps, which speaks HTTP/2 with the
//! upstream on one connection of 100 streams.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ncps_nix::{Compression, NarInfo};
use ncps_tests::bench::{Start, Target, median, row};
use ncps_tests::{Connection, Fixture, Front, Link, SplitMix, Upstream, UpstreamKey};
use parking_lot::Mutex;
use tokio::sync::Notify;

const LEVELS: usize = 25;
const OF_A_LEVEL: usize = 200;
const REFERENCES: usize = 8;
const CONNECTIONS: usize = 25;
/// Half of a round trip.
const ONE_WAY: Duration = Duration::from_millis(25);

pub(crate) async fn measure(program: &Path, runs: usize) {
    let key = UpstreamKey::new("bench-1");
    let closure = closure(&key);
    let upstream = Upstream::with(&closure.iter().collect::<Vec<_>>()).await;
    let front = Front::of(&upstream).max_streams(100).start().await;
    let (near, far) = (Link::tcp(upstream.addr()).await, Link::tcp(front.addr()).await);
    near.delay(ONE_WAY);
    far.delay(ONE_WAY);
    let roots: Vec<String> = closure.iter().rev().take(OF_A_LEVEL).map(Fixture::narinfo_path).collect();
    let roots_file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(roots_file.path(), front.authority().root()).expect("written");
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        direct.push(query(near.addr(), &roots).await);
        let url = format!("https://{}", far.addr());
        let trusted = format!("--upstream-ca-file={}", roots_file.path().display());
        let ncps = Start::of(program).upstream(&url, &key).flag(trusted).start().await;
        through.push(query(ncps.addr(), &roots).await);
    }
    let (direct, through) = (median(direct), median(through));
    let how = format!("{direct:.2} s directly, {through:.2} s through ncps");
    row("cold closure query, 5,000 narinfos, 50 ms", direct / through, "times", Target::AtLeast(3.0), &how);
}

/// The deepest level first.
fn closure(key: &UpstreamKey) -> Vec<Fixture> {
    let (mut chance, mut all) = (SplitMix(1), Vec::<Fixture>::new());
    for level in 0..LEVELS {
        let below = all.len().saturating_sub(OF_A_LEVEL)..all.len();
        for n in 0..OF_A_LEVEL {
            let mut pick = |_| all[below.start + (chance.next() as usize) % below.len()].store_path().clone();
            let references: Vec<_> = (0..if level == 0 { 0 } else { REFERENCES }).map(&mut pick).collect();
            let fixture = Fixture::new("closure").seed((level * OF_A_LEVEL + n) as u64).size(500);
            all.push(fixture.compression(Compression::None).references(&references).build(key));
        }
    }
    all
}

/// What clients have yet to ask for.
struct Query {
    queue: Mutex<(VecDeque<String>, HashSet<String>)>,
    open: Mutex<usize>,
    changed: Notify,
}

/// Seconds until all that is referred to was asked for.
async fn query(addr: SocketAddr, roots: &[String]) -> f64 {
    let seen = roots.iter().cloned().collect();
    let query = Arc::new(Query {
        queue: Mutex::new((roots.iter().cloned().collect(), seen)),
        open: Mutex::new(roots.len()),
        changed: Notify::new(),
    });
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(addr).await.expect("a connection"));
    }
    let started = Instant::now();
    let clients = connections.into_iter().map(|one| tokio::spawn(Arc::clone(&query).run(one)));
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a client");
    }
    let asked = query.queue.lock().1.len();
    assert!(asked > LEVELS * OF_A_LEVEL * 9 / 10, "only {asked} paths were asked for");
    started.elapsed().as_secs_f64()
}

impl Query {
    async fn run(self: Arc<Self>, mut connection: Connection) {
        loop {
            let changed = self.changed.notified();
            let next = self.queue.lock().0.pop_front();
            match next {
                Some(path) => self.ask(&mut connection, &path).await,
                None if *self.open.lock() == 0 => return,
                None => changed.await,
            }
        }
    }

    async fn ask(&self, connection: &mut Connection, path: &str) {
        let mut response = connection.get(path).await.expect("an answer");
        assert_eq!(response.status, 200, "{path}");
        let narinfo = NarInfo::parse(&response.whole().await).expect("a narinfo");
        {
            let mut queue = self.queue.lock();
            for reference in &narinfo.references {
                let path = format!("/{}.narinfo", reference.hash());
                if queue.1.insert(path.clone()) {
                    *self.open.lock() += 1;
                    queue.0.push_back(path);
                }
            }
        }
        *self.open.lock() -= 1;
        self.changed.notify_waiters();
    }
}
