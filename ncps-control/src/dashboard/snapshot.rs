//! What the dashboard shows now: what administrators can ask for, in one value. Lists are cut, and say how many there
//! are. Times are seconds since 1970.

use std::collections::BTreeMap;

use ncps_nix::{NarFileName, NarInfo};
use ncps_proto::admin::{EdgeState, EdgeStats, Event, EventKind, KnownEdge, RefusedEdge, Stats};
use ncps_proto::{Counter, Ratio, Result, UpstreamState};
use ncps_runtime::telemetry::Labels;
use serde::Serialize;

use crate::Control;
use crate::db::Which;
use crate::eviction::EvictionReport;
use crate::index::View;

/// Rows of one list, of edges and upstreams for instance.
const ROWS: usize = 100;
/// Paths that are read most, and events.
const TOP: usize = 10;
const EVENTS: u32 = 15;

/// Everything.
#[derive(Serialize)]
pub(crate) struct Snapshot {
    at: i64,
    version: String,
    /// When counting began.
    since: i64,
    narinfos: Requests,
    nars: Requests,
    byte_hit_ratio: Option<f64>,
    bytes_saved: u64,
    bytes_fetched: u64,
    wrong: u64,
    paths: u64,
    paths_nar_size: u64,
    nar_files: u64,
    nar_files_size: u64,
    edges: List<Edge>,
    away: List<Away>,
    refused: List<Refused>,
    upstreams: List<Upstream>,
    top: Vec<Read>,
    transfers: List<Transfer>,
    eviction: Option<Eviction>,
    evicted: Vec<Happened>,
    /// But evictions.
    events: Vec<Happened>,
}

/// The first rows of a list, and how many it has.
#[derive(Serialize)]
struct List<T> {
    all: usize,
    rows: Vec<T>,
}

impl<T> List<T> {
    fn of(all: impl IntoIterator<Item = T>, limit: usize) -> List<T> {
        let mut rows: Vec<T> = all.into_iter().collect();
        let all = rows.len();
        rows.truncate(limit);
        List { all, rows }
    }
}

#[derive(Serialize)]
struct Requests {
    hits: u64,
    misses: u64,
    absent: u64,
    errors: u64,
    hit_ratio: Option<f64>,
}

impl From<Ratio> for Requests {
    fn from(ratio: Ratio) -> Requests {
        let Ratio { hits, misses, absent, errors } = ratio;
        Requests { hits, misses, absent, errors, hit_ratio: ratio.hit_ratio() }
    }
}

#[derive(Serialize)]
struct Edge {
    name: String,
    zone: Option<String>,
    url: Option<String>,
    state: &'static str,
    durable: bool,
    version: String,
    attached_at: i64,
    files: u64,
    used: Option<u64>,
    max_size: Option<u64>,
    disk_free: Option<u64>,
    disk_total: Option<u64>,
    hit_ratio: Option<f64>,
}

#[derive(Serialize)]
struct Away {
    name: String,
    zone: Option<String>,
    durable: bool,
    last_seen: i64,
}

#[derive(Serialize)]
struct Refused {
    name: Option<String>,
    peer: Option<String>,
    why: String,
    last: i64,
    times: u64,
}

/// An upstream, as all edges together see it.
#[derive(Default, Serialize)]
struct Upstream {
    url: String,
    /// Edges that ask it as usual, leave it alone, and have given it up.
    asked: usize,
    left_alone: usize,
    given_up: usize,
    /// The mean of what edges see.
    latency_ms: Option<f64>,
    requests: u64,
    errors: u64,
    bytes: u64,
}

/// A path, or where none is known, a file, and its reads within the hour.
#[derive(Serialize)]
struct Read {
    name: String,
    hash: Option<String>,
    reads: u64,
    nar_size: Option<u64>,
}

/// A file that is fetched from upstreams.
#[derive(Serialize)]
struct Transfer {
    name: String,
    edge: String,
    nar_size: Option<u64>,
}

/// What the last run did.
#[derive(Serialize)]
struct Eviction {
    trigger: &'static str,
    ended: i64,
    files: u64,
    bytes: u64,
    /// Bytes that pins and running transfers left no room for.
    shortfall: u64,
}

#[derive(Serialize)]
struct Happened {
    id: u64,
    at: i64,
    kind: &'static str,
    actor: Option<String>,
    /// The path or the file that it is about.
    what: Option<String>,
    detail: String,
}

impl Control {
    pub(super) async fn snapshot(&self) -> Result<Snapshot> {
        let stats = self.numbers().await?;
        let n = |counter| stats.counts.get(counter);
        Ok(Snapshot {
            at: self.clock.now().0,
            since: stats.since,
            narinfos: stats.counts.narinfos().into(),
            nars: stats.counts.nars().into(),
            byte_hit_ratio: stats.counts.byte_hit_ratio(),
            bytes_saved: n(Counter::BytesSaved),
            bytes_fetched: n(Counter::BytesFetched),
            wrong: n(Counter::Wrong),
            paths: stats.narinfos.number,
            paths_nar_size: stats.narinfos.bytes,
            nar_files: stats.nar_files.number,
            nar_files_size: stats.nar_files.bytes,
            top: self.most_read().await?,
            transfers: self.running().await?,
            eviction: self.last_eviction().map(evicted),
            evicted: happened(&self.index.last_events(EVENTS, Which::Are(EventKind::Evicted)).await?),
            events: happened(&self.index.last_events(EVENTS, Which::AreNot(EventKind::Evicted)).await?),
            upstreams: List::of(upstreams(&stats), ROWS),
            away: List::of(stats.away.into_iter().map(away), ROWS),
            refused: List::of(stats.refused.into_iter().map(refused), TOP),
            edges: List::of(stats.edges.into_iter().map(|one| edge(one, stats.max_size)), ROWS),
            version: stats.version,
        })
    }

    /// Files of one path count together.
    async fn most_read(&self) -> Result<Vec<Read>> {
        let top = self.popular.top(3 * TOP, self.clock.now());
        let paths = self.narinfos_of(top.iter().map(|(name, _)| *name).collect()).await?;
        let mut rows: Vec<Read> = Vec::new();
        for ((file, reads), path) in top.into_iter().zip(paths) {
            let read = read(file, path.as_ref(), reads);
            match rows.iter_mut().find(|row| row.hash.is_some() && row.hash == read.hash) {
                Some(row) => row.reads += reads,
                None => rows.push(read),
            }
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.reads));
        rows.truncate(TOP);
        Ok(rows)
    }

    async fn running(&self) -> Result<List<Transfer>> {
        let mut turns = self.sessions.turns();
        let all = turns.len();
        turns.truncate(TOP);
        let paths = self.narinfos_of(turns.iter().map(|(name, _)| *name).collect()).await?;
        let rows = turns.into_iter().zip(paths).map(|((file, instance), path)| Transfer {
            name: path.as_ref().map_or_else(|| file.to_string(), |path| path.store_path.name().to_owned()),
            edge: self.sessions.name_of(&instance).unwrap_or(instance),
            nar_size: path.map(|path| path.nar_size),
        });
        Ok(List { all, rows: rows.collect() })
    }

    /// One of the paths whose NAR each file is.
    async fn narinfos_of(&self, files: Vec<NarFileName>) -> Result<Vec<Option<NarInfo>>> {
        let questions = |view: &mut View<'_>, file| {
            let file = view.resolve(file)?;
            let path = view.paths_beside(file)?.first().copied();
            let narinfo = path.map(|path| view.narinfo(path)).transpose()?.flatten();
            Ok(narinfo.map(|narinfo| NarInfo::clone(&narinfo)))
        };
        self.index.read(move |view| files.into_iter().map(|file| questions(view, file)).collect()).await
    }
}

fn read(file: NarFileName, path: Option<&NarInfo>, reads: u64) -> Read {
    Read {
        name: path.map_or_else(|| file.to_string(), |path| path.store_path.name().to_owned()),
        hash: path.map(|path| path.store_path.hash().to_string()),
        reads,
        nar_size: path.map(|path| path.nar_size),
    }
}

fn edge(edge: EdgeStats, max_size: Option<u64>) -> Edge {
    let state = match edge.state {
        EdgeState::Attached => "attached",
        EdgeState::Draining => "draining",
        EdgeState::Drained => "drained",
    };
    Edge {
        state,
        hit_ratio: edge.counts.nars().hit_ratio(),
        name: edge.name,
        zone: edge.zone,
        url: edge.url,
        durable: edge.durable,
        version: edge.version,
        attached_at: edge.attached_at,
        files: edge.files,
        used: edge.disk.map(|disk| disk.used),
        max_size: edge.capacity.or(max_size),
        disk_free: edge.disk.map(|disk| disk.free),
        disk_total: edge.disk.map(|disk| disk.total),
    }
}

fn away(KnownEdge { name, zone, durable, last_seen, .. }: KnownEdge) -> Away {
    Away { name, zone, durable, last_seen }
}

fn refused(RefusedEdge { name, peer, why, last, times, .. }: RefusedEdge) -> Refused {
    Refused { name, peer, why, last, times }
}

/// In the order in which edges ask them.
fn upstreams(stats: &Stats) -> Vec<Upstream> {
    let mut rows: Vec<Upstream> = Vec::new();
    let mut latencies: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for seen in stats.edges.iter().flat_map(|edge| &edge.upstreams) {
        let at = rows.iter().position(|row| row.url == seen.url).unwrap_or_else(|| {
            rows.push(Upstream { url: seen.url.clone(), ..Upstream::default() });
            rows.len() - 1
        });
        let row = &mut rows[at];
        match seen.state {
            UpstreamState::Asked => row.asked += 1,
            UpstreamState::LeftAlone => row.left_alone += 1,
            UpstreamState::GivenUp => row.given_up += 1,
        }
        row.requests = row.requests.saturating_add(seen.requests);
        row.errors = row.errors.saturating_add(seen.errors);
        row.bytes = row.bytes.saturating_add(seen.bytes);
        let latency = seen.latency.map(|latency| latency.as_secs_f64() * 1000.0);
        latencies.entry(seen.url.clone()).or_default().extend(latency);
    }
    for row in &mut rows {
        let seen = latencies.remove(&row.url).filter(|seen| !seen.is_empty());
        row.latency_ms = seen.map(|seen| seen.iter().sum::<f64>() / seen.len() as f64);
    }
    rows
}

fn evicted(report: EvictionReport) -> Eviction {
    let sum = |number: fn(&ncps_proto::admin::EdgeEviction) -> u64| report.edges.iter().map(number).sum();
    Eviction {
        trigger: report.trigger.values()[0],
        ended: report.ended.0,
        files: sum(|edge| edge.files),
        bytes: sum(|edge| edge.bytes),
        shortfall: sum(|edge| edge.shortfall),
    }
}

/// The last ones first.
fn happened(events: &[Event]) -> Vec<Happened> {
    events.iter().rev().map(told).collect()
}

fn told(event: &Event) -> Happened {
    let path = event.path.map(|path| path.to_string());
    Happened {
        id: event.id,
        at: event.at,
        kind: event.kind.name(),
        actor: event.actor.clone(),
        what: path.or_else(|| event.nar.map(|nar| nar.to_string())),
        detail: event.detail.clone(),
    }
}
