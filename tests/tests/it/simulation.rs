//! The simulated fleet; see [`ncps_tests::simulation`]. Each seed is the same story every time.
//!
//! - `NCPS_SEEDS=100000 cargo test -p ncps-tests --test it simulation::` runs as many seeds.
//! - `NCPS_SEED=17 cargo test -p ncps-tests --test it simulation::every_seed -- --nocapture` tells one of them; with
//!   `NCPS_DEFECT=PurgeForgotten` as well, the one with that defect.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ncps_tests::simulation::{self, Broken, Defect};

/// Seeds of an ordinary run.
const SEEDS: u64 = 10_000;
/// Within so many seeds each defect has to be found.
const ENOUGH: u64 = 1000;

/// What one seed finds, for whoever is to see it again.
fn story(Broken { seed, second, what }: &Broken, defect: Option<Defect>) -> String {
    let defect = defect.map(|defect| format!(" NCPS_DEFECT={defect:?}")).unwrap_or_default();
    format!(
        "seed {seed}, second {second}: {what}\n  NCPS_SEED={seed}{defect} cargo test -p ncps-tests --test it \
         simulation::every_seed -- --nocapture"
    )
}

/// The first seed, in whatever order they are run, of which something does not hold.
fn first_broken(seeds: u64, defect: Option<Defect>) -> Option<Broken> {
    let next = AtomicU64::new(0);
    let some = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return None;
            }
            if let Err(broken) = simulation::run(seed, defect, false) {
                // Nobody else goes on.
                next.store(seeds, Ordering::Relaxed);
                return Some(broken);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        all.into_iter().filter_map(|thread| thread.join().expect("no panic")).min_by_key(|broken| broken.seed)
    })
}

fn asked<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

fn asked_defect() -> Option<Defect> {
    let name = env::var("NCPS_DEFECT").ok()?;
    Defect::ALL.into_iter().find(|defect| format!("{defect:?}") == name)
}

#[test]
fn every_seed_ends_as_it_should() {
    let broken = match asked("NCPS_SEED") {
        Some(seed) => simulation::run(seed, asked_defect(), true).err(),
        None => first_broken(asked("NCPS_SEEDS").unwrap_or(SEEDS), None),
    };
    if let Some(broken) = broken {
        panic!("{}", story(&broken, asked_defect()));
    }
}

#[test]
fn a_seed_is_the_same_story_every_time() {
    let first = first_broken(ENOUGH, Some(Defect::PurgeForgotten)).expect("found");
    let again = simulation::run(first.seed, Some(Defect::PurgeForgotten), false);
    assert_eq!(again, Err(first));
}

#[test]
fn each_defect_is_found() {
    for defect in Defect::ALL {
        let found = first_broken(ENOUGH, Some(defect));
        let found = found.unwrap_or_else(|| panic!("{defect:?} is not found within {ENOUGH} seeds"));
        println!("{defect:?}: {}", story(&found, Some(defect)));
    }
}
