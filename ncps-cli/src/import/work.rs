//! The import from beginning to end: locks, both caches opened, path after path, the report.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use futures::StreamExt;
use ncps_control::import::{Importer, Place, is_go_database};
use ncps_edge::import::put_object;
use ncps_edge::store::{LocalStore, ObjectStore};
use ncps_runtime::exit::Exit;
use ncps_runtime::fields::RuntimeConfig;
use ncps_runtime::lifecycle::Lifecycle;
use ncps_runtime::logs;
use ncps_runtime::tasks::Tasks;

use super::Order;
use super::in_place;
use super::path::{Outcome, Workshop};
use super::report::Report;
use super::source::{NoEntry, Source};
use crate::migrate::refuse;
use crate::progress::{Counts, Progress};

pub(super) fn run(order: Order, runtime: RuntimeConfig) -> Exit {
    match run_with_threads(order, runtime) {
        Ok(exit) => exit,
        Err(error) => refuse("ncps", format_args!("{error:#}")),
    }
}

fn run_with_threads(order: Order, runtime: RuntimeConfig) -> anyhow::Result<Exit> {
    logs::init(&runtime.logs).context("logging")?;
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("threads")?;
    threads.block_on(async {
        if order.dry_run {
            return dry_run(&order).await;
        }
        let life = Lifecycle::new(runtime.timing);
        life.install_signals().context("signals")?;
        let tasks = life.tasks();
        let imported = import(order, &tasks).await;
        // What waits is written, and the locks are let go.
        life.handle().stop_now();
        let ended = life.run_until_stopped(tasks).await;
        imported.map(|exit| if exit == Exit::Ok { ended } else { exit })
    })
}

async fn import(order: Order, tasks: &Tasks) -> anyhow::Result<Exit> {
    let data = order.control.data_path.clone();
    let budget = order.control.settings.max_objects_bytes;
    let limit = order.control.settings.max_size;
    let priority = order.control.settings.priority;
    let (in_place, take) = (order.in_place, order.take);
    Source::check(&order).await?;
    let place = Place::take(&order.control, in_place)?;
    if in_place && is_go_database(&order.control.database).await {
        in_place::put_database_aside(&order.control.database).context("put the former database aside")?;
    }
    let store = Arc::new(LocalStore::open_at(&data, priority).context("open the store")?);
    let source = Source::open(&order, &data.join("spool")).await?;
    let key = source.key().await?;
    let importer = Importer::open(order.control, place, key.as_ref(), tasks).await?;
    if let Some(key) = importer.public_key() {
        println!("signing key: {key}");
    }
    let shop = Workshop { source, importer, store, take, tasks: tasks.clone() };
    let mut report = Report::default();
    let went = go_through(&shop, budget, &mut report).await;
    let settled = shop.importer.settle().await.context("write the index");
    print!("{report}");
    // From here on it is no bad input that stops us: what was done stays, and is found by the next run.
    let finished = went.and_then(|whole| settled.map(|()| whole)).and_then(|whole| {
        if whole && in_place {
            in_place::finish(&data).context("put aside what is left over")?;
        }
        Ok(whole)
    });
    warn_of_limit(&shop.store, limit)?;
    Ok(match finished {
        Ok(true) if report.is_clean() => Exit::Ok,
        Ok(true) => Exit::Failure,
        Ok(false) => stopped("stopped before the end"),
        Err(error) => stopped(&format!("{error:#}")),
    })
}

fn stopped(reason: &str) -> Exit {
    eprintln!("ncps: {reason}; what was imported is kept: the same command goes on from there");
    Exit::Failure
}

/// Every path, then every object. False where it was asked to stop before the end.
async fn go_through(shop: &Workshop, budget: u64, report: &mut Report) -> anyhow::Result<bool> {
    let paths = shop.source.paths().await?;
    let (mut progress, total) = (Progress::begin("import", Counts::Things), paths.len() as u64);
    let stop = shop.tasks.life().soft();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let started = futures::stream::iter(&paths).take_while(|_| std::future::ready(!stop.is_cancelled()));
    let imports = started.map(|hash| async move { (hash, shop.import(hash).await) });
    let mut imports = imports.buffer_unordered(cores);
    while let Some((hash, outcome)) = imports.next().await {
        let outcome = outcome.with_context(|| format!("import {hash}"))?;
        if let Outcome::Refused(reason) = &outcome {
            progress.say(&format!("ncps: {hash} refused: {reason}"));
        }
        report.add(&outcome);
        progress.at(report.paths(), Some(total));
    }
    drop(imports);
    if stop.is_cancelled() {
        return Ok(false);
    }
    import_objects(shop, budget, report, &progress).await.map(|()| true)
}

async fn import_objects(
    shop: &Workshop,
    budget: u64,
    report: &mut Report,
    progress: &Progress,
) -> anyhow::Result<()> {
    let objects = Arc::new(ObjectStore::open(Arc::clone(&shop.store)).context("open the store")?);
    for (name, path) in shop.source.objects()? {
        if objects.get(&name)?.is_some() {
            continue;
        }
        let (objects, object) = (Arc::clone(&objects), name.clone());
        let put = move || put_object(&objects, &object, &path, budget);
        let put = shop.tasks.spawn_blocking("import an object", put).await?;
        match &put {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                put.with_context(|| format!("import {name}"))?;
            }
            Err(error) => {
                progress.say(&format!("ncps: {name} refused: {error}"));
                report.add_object(false);
            }
            Ok(()) => report.add_object(true),
        }
    }
    Ok(())
}

/// Imports are kept past the limit; a server is not so patient.
fn warn_of_limit(store: &LocalStore, limit: Option<u64>) -> anyhow::Result<()> {
    let (used, ()) = store.used_and(|| ()).context("measure the store")?;
    if let Some(limit) = limit.filter(|limit| used > *limit) {
        eprintln!(
            "ncps: the store takes {used} bytes, --cache-max-size is {limit}: serve will evict what was not read for longest"
        );
    }
    Ok(())
}

/// Counts, and opens nothing of ours.
async fn dry_run(order: &Order) -> anyhow::Result<Exit> {
    Source::check(order).await?;
    let source = Source::open(order, &std::env::temp_dir()).await?;
    let mut count = Count::default();
    for hash in source.paths().await? {
        match source.entry(&hash).await {
            Ok(entry) if !entry.files.is_empty() => count.importable(&entry.files),
            Ok(entry) if entry.is_chunked => count.chunked += 1,
            Ok(_) | Err(NoEntry::Bare) => count.without_nar += 1,
            Err(NoEntry::Broken(error)) => return Err(error),
            Err(wrong) => {
                eprintln!("ncps: {hash} would be refused: {wrong}");
                count.refused += 1;
            }
        }
    }
    let objects = source.objects()?.len();
    println!(
        "would be imported, if it verifies: {} paths, {} bytes, {objects} objects",
        count.paths, count.bytes
    );
    println!("skipped: {} chunked, {} without a NAR", count.chunked, count.without_nar);
    println!("refused: {}", count.refused);
    Ok(if count.refused == 0 { Exit::Ok } else { Exit::Failure })
}

#[derive(Default)]
struct Count {
    paths: u64,
    bytes: u64,
    chunked: u64,
    without_nar: u64,
    refused: u64,
}

impl Count {
    fn importable(&mut self, files: &[impl AsRef<Path>]) {
        self.paths += 1;
        let first = files.first().and_then(|file| std::fs::metadata(file).ok());
        self.bytes += first.map_or(0, |metadata| metadata.len());
    }
}
