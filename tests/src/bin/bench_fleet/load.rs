//! The measurement. Lookups are sent when their time has come, whether those before were answered or not, and their
//! latency counts from that time: what waits anywhere shows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ncps_edge::remote::DEADLINE;
use ncps_proto::Lookup;
use ncps_tests::Process;
use tokio::sync::mpsc;

use crate::edge::{Edge, Fleet};
use crate::figures::{self, Control};
use crate::world::{Chance, World};

/// How often what is due is sent.
const TICK: Duration = Duration::from_millis(1);

pub(crate) async fn run(world: &Arc<World>, fleet: &Fleet, control: &Control, process: &Process) {
    let span = Duration::from_secs(world.size.seconds as u64);
    let until = Instant::now() + span;
    let hits = tokio::spawn(hits(Arc::clone(world), fleet.edges.clone(), until));
    // Until every edge has reported once: the lookups meet the load that goes on.
    let (rows, busy) = (control.rows().await, (figures::cpu(process), figures::own_cpu()));
    fleet.reported.store(0, Ordering::Relaxed);
    let most = tokio::spawn(most_rows(control.clone(), until));
    let answers = lookups(Arc::clone(world), fleet.edges.clone(), until).await;
    let hit = hits.await.expect("hits");
    let took = world.size.seconds as f64;
    let rows = (control.rows().await - rows) / took;
    println!("\n{} s of load, of which the load itself is made on the same cores", world.size.seconds);
    answers.print(took);
    println!(
        "hits: {:.0} per second over {} files, Zipf; merged at the edges: {:.0} per second on the wire; rows written: \
         {rows:.0} per second, at most {:.0} in one second; {:.0} wait",
        hit as f64 / took,
        world.size.paths,
        fleet.reported.load(Ordering::Relaxed) as f64 / took,
        most.await.expect("rows"),
        control.number("ncps_accesses_waiting").await,
    );
    let cores = |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() / took;
    println!(
        "processor: control {:.2} cores, the load {:.2}; control has {}",
        cores(figures::cpu(process), busy.0),
        cores(figures::own_cpu(), busy.1),
        figures::memory(process),
    );
}

/// The most rows that were written in any second.
async fn most_rows(control: Control, until: Instant) -> f64 {
    let (mut before, mut most) = (control.rows().await, 0.0_f64);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    let mut last = Instant::now();
    while Instant::now() < until {
        ticks.tick().await;
        let rows = control.rows().await;
        most = most.max((rows - before) / last.elapsed().as_secs_f64());
        (before, last) = (rows, Instant::now());
    }
    most
}

/// Hits at the edges that hold what is hit. Returns how many there were.
async fn hits(world: Arc<World>, edges: Vec<Arc<Edge>>, until: Instant) -> usize {
    let (mut chance, mut done) = (Chance::new(1), 0);
    let began = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    while Instant::now() < until {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * world.size.hits as f64) as usize;
        for _ in done..due {
            let n = chance.zipf(world.size.paths);
            edges[world.holders(n)[chance.below(2)]].accesses.nar(world.file(n));
        }
        done = due;
    }
    done
}

/// What became of lookups.
#[derive(Default)]
struct Answers {
    latencies: Vec<Duration>,
    errors: usize,
    wrong: usize,
}

enum Answer {
    Right(Duration),
    Wrong,
    Failed,
}

async fn lookups(world: Arc<World>, edges: Vec<Arc<Edge>>, until: Instant) -> Answers {
    let (tx, mut rx) = mpsc::unbounded_channel();
    let sender = tokio::spawn(async move {
        let (mut chance, mut sent) = (Chance::new(2), 0);
        let (began, each) = (Instant::now(), Duration::from_secs(1).div_f64(world.size.lookups as f64));
        let mut ticks = tokio::time::interval(TICK);
        while Instant::now() < until {
            ticks.tick().await;
            while began + each * sent < Instant::now() {
                let (due, edge) = (began + each * sent, Arc::clone(&edges[sent as usize % edges.len()]));
                let (tx, n, narinfo) = (tx.clone(), chance.below(world.size.paths), sent.is_multiple_of(2));
                let world = Arc::clone(&world);
                tokio::spawn(async move {
                    let answer = tokio::time::timeout(DEADLINE, ask(&world, &edge, n, narinfo)).await;
                    let answer = match answer {
                        Ok(Some(true)) => Answer::Right(due.elapsed()),
                        Ok(Some(false)) => Answer::Wrong,
                        Ok(None) | Err(_) => Answer::Failed,
                    };
                    tx.send(answer).ok();
                });
                sent += 1;
            }
        }
    });
    let mut answers = Answers::default();
    while let Some(answer) = rx.recv().await {
        match answer {
            Answer::Right(latency) => answers.latencies.push(latency),
            Answer::Wrong => answers.wrong += 1,
            Answer::Failed => answers.errors += 1,
        }
    }
    sender.await.expect("lookups");
    answers
}

/// Whether the answer is right, where there is one.
async fn ask(world: &World, edge: &Edge, n: usize, narinfo: bool) -> Option<bool> {
    let control = edge.control()?;
    if narinfo {
        let found = control.narinfo(world.path(n)).await.ok()?;
        return Some(matches!(found, Lookup::Known(narinfo) if narinfo.store_path.hash() == world.path(n)));
    }
    let location = control.locate(&edge.instance(), world.file(n)).await.ok()??;
    Some(location.store_paths == [world.path(n)] && !location.peers.is_empty())
}

impl Answers {
    fn print(mut self, took: f64) {
        self.latencies.sort_unstable();
        let at = |share: f64| {
            let place = (self.latencies.len() as f64 * share) as usize;
            self.latencies.get(place).copied().unwrap_or_default().as_secs_f64() * 1000.0
        };
        println!(
            "lookups: {:.0} per second, narinfo and locate in turn, each of any path; p50 {:.1} ms, p99 {:.1} ms, p99.9 \
             {:.1} ms, the slowest {:.1} ms; errors {}, wrong {}",
            self.latencies.len() as f64 / took,
            at(0.5),
            at(0.99),
            at(0.999),
            self.latencies.last().copied().unwrap_or_default().as_secs_f64() * 1000.0,
            self.errors,
            self.wrong,
        );
    }
}
