//! The benchmark of control with a large fleet: a real control process, and beside it, in this one, edges that attach
//! over TCP, say what they hold, report what was read of it, and ask. `bench_fleet CONTROL [NAME=NUMBER…]`, where CONTROL
//! is the program `ncps-control`; see [`Size`] for the names. Run by `tests/bench/scale`.
//!
//! What edges say and when is the edge's own code: its dialogue, its log of accesses, its pauses. The rows of the database
//! are put in by SQL, see [`ncps_tests::bench::fill`]. Absent: stores, upstreams and clients; whatever they cost, control does not pay it.

mod edge;
mod figures;
mod load;
mod size;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ncps_tests::Process;

use edge::Fleet;
use figures::{Control, seconds};
use size::Size;
use world::World;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let program = PathBuf::from(args.next().expect("expected the program ncps-control"));
    let size = Size::read(args);
    let world = Arc::new(World::new(size));
    println!(
        "{} edges, {} paths, {} files in stores; both processes share {} cores",
        size.edges,
        size.paths,
        world.placements(),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    let control = Control::new(program);
    let mut process = control.start().await;
    process.terminate().await;
    let began = Instant::now();
    ncps_tests::bench::fill(&control.database(), size.paths).expect("rows that fit the schema");
    println!("database filled in {:.0} s", seconds(began));

    let mut process = timed_start(&control).await;
    let fleet = Fleet::attach(Arc::clone(&world), control.url());
    attached(&fleet, &control, &process, "the first time").await;

    load::run(&world, &fleet, &control, &process).await;

    println!("\ncontrol is restarted");
    process.terminate().await;
    let mut process = timed_start(&control).await;
    attached(&fleet, &control, &process, "after the restart").await;
    process.terminate().await;
}

async fn timed_start(control: &Control) -> Process {
    let began = Instant::now();
    let process = control.start().await;
    println!("control is ready after {:.1} s, with {}", seconds(began), figures::memory(&process));
    process
}

/// Until every edge is attached, and until control knows what each holds.
async fn attached(fleet: &Fleet, control: &Control, process: &Process, when: &str) {
    let began = Instant::now();
    let busy = figures::cpu(process);
    control.until("ncps_edges", fleet.count()).await;
    let all = seconds(began);
    control.until("ncps_placements", fleet.files()).await;
    let told = seconds(began);
    let busy = figures::cpu(process).saturating_sub(busy);
    println!(
        "{when}: all edges are attached after {all:.1} s (tries: {}), their inventories known after {told:.1} s, for \
         {:.1} s of processor; control has {}",
        fleet.tries(),
        busy.as_secs_f64(),
        figures::memory(process),
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
}
