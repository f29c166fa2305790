//! `ncps-cli stats` and `upstreams`: numbers.

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use clap::Args;
use ncps_proto::admin::{EdgeStats, Stats};
use ncps_proto::{Counter, UpstreamTotals};
use ncps_runtime::config::values::duration;
use serde::Serialize;

use super::Session;
use super::units::{Size, Time};
use crate::failure::{Done, Failure};
use crate::output::{Output, Shown, Table};

#[derive(Args)]
pub(super) struct Command {
    /// Again and again, with a pause such as 5s in between, until interrupted.
    #[arg(long, value_name = "TIME", value_parser = pause, num_args = 0..=1, require_equals = true,
        default_missing_value = "2s")]
    watch: Option<Duration>,
}

/// Seconds alone are understood, too.
fn pause(text: &str) -> Result<Duration, String> {
    let pause = text.parse().map(Duration::from_secs).or_else(|_| duration(text))?;
    if pause.is_zero() { Err("expected a time longer than 0s".to_owned()) } else { Ok(pause) }
}

/// How well requests were answered from here.
#[derive(Serialize)]
struct Ratio {
    /// Answered from here.
    hits: u64,
    /// With the help of an upstream.
    misses: u64,
    /// For what is nowhere.
    absent: u64,
    errors: u64,
    /// Hits among hits and misses, from 0 to 1; null without any.
    hit_ratio: Option<f64>,
}

/// All numbers.
#[derive(Serialize)]
struct Numbers {
    version: String,
    /// When counting began.
    since: Time,
    narinfos: Ratio,
    nars: Ratio,
    /// Bytes of NARs sent from here.
    nar_bytes_hit: u64,
    /// Bytes of NARs sent while they came from an upstream.
    nar_bytes_missed: u64,
    /// Of the bytes of NARs, from 0 to 1; null without any.
    byte_hit_ratio: Option<f64>,
    /// Bytes that clients got and no upstream had to send for them.
    bytes_saved: u64,
    /// Bytes that upstreams sent.
    bytes_fetched: u64,
    /// Files and narinfos that proved wrong.
    wrong: u64,
    /// Paths in the index.
    paths: u64,
    /// What their NARs would take unpacked.
    paths_nar_size: u64,
    /// NAR files that are known, stored or not, and their sizes.
    nar_files: u64,
    nar_files_size: u64,
    /// Absences that are believed.
    absences: u64,
    edges: Vec<Edge>,
    upstreams: Vec<Upstream>,
}

impl From<Stats> for Numbers {
    fn from(stats: Stats) -> Numbers {
        let n = |counter| stats.counts.get(counter);
        let upstreams = upstreams(&stats);
        Numbers {
            since: Time(stats.since),
            narinfos: stats.counts.narinfos().into(),
            nars: stats.counts.nars().into(),
            nar_bytes_hit: n(Counter::NarBytesHit),
            nar_bytes_missed: n(Counter::NarBytesMissed),
            byte_hit_ratio: stats.counts.byte_hit_ratio(),
            bytes_saved: n(Counter::BytesSaved),
            bytes_fetched: n(Counter::BytesFetched),
            wrong: n(Counter::Wrong),
            paths: stats.narinfos.number,
            paths_nar_size: stats.narinfos.bytes,
            nar_files: stats.nar_files.number,
            nar_files_size: stats.nar_files.bytes,
            absences: stats.absences,
            upstreams,
            edges: stats.edges.into_iter().map(|edge| Edge::new(edge, stats.max_size)).collect(),
            version: stats.version,
        }
    }
}

impl From<ncps_proto::Ratio> for Ratio {
    fn from(ratio: ncps_proto::Ratio) -> Ratio {
        let ncps_proto::Ratio { hits, misses, absent, errors } = ratio;
        Ratio { hits, misses, absent, errors, hit_ratio: ratio.hit_ratio() }
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

impl Shown for Numbers {
    fn text(&self) -> String {
        let mut requests =
            Table::new(["REQUESTS", "HIT RATIO", "HITS", "MISSES", "ABSENT", "ERRORS"], &[1, 2, 3, 4, 5]);
        for (what, ratio) in [("narinfos", &self.narinfos), ("NARs", &self.nars)] {
            requests.row([
                what.to_owned(),
                percent(ratio.hit_ratio),
                ratio.hits.to_string(),
                ratio.misses.to_string(),
                ratio.absent.to_string(),
                ratio.errors.to_string(),
            ]);
        }
        let edges = Edge::table(&self.edges);
        let upstreams = Upstreams::table(&self.upstreams);
        format!("{}\n{}\n{}\n{edges}\n{upstreams}", self.head(), requests.text(), self.sizes())
    }
}

impl Numbers {
    fn head(&self) -> String {
        format!("ncps {}, counting since {}\n", self.version, self.since)
    }

    fn sizes(&self) -> String {
        let mut table = Table::pairs();
        let hit = format!("{} ({})", Size(self.nar_bytes_hit), percent(self.byte_hit_ratio));
        table.row(["NARs sent from here".to_owned(), hit]);
        table.row(["saved".to_owned(), Size(self.bytes_saved).to_string()]);
        table.row(["fetched".to_owned(), Size(self.bytes_fetched).to_string()]);
        let paths = format!("{}, {} unpacked", self.paths, Size(self.paths_nar_size));
        table.row(["paths".to_owned(), paths]);
        let files = format!("{}, {}", self.nar_files, Size(self.nar_files_size));
        table.row(["NAR files known".to_owned(), files]);
        table.row(["absences".to_owned(), self.absences.to_string()]);
        table.row(["proved wrong".to_owned(), self.wrong.to_string()]);
        table.text()
    }
}

/// An attached edge.
#[derive(Serialize)]
pub(super) struct Edge {
    name: String,
    /// Made with its data.
    instance: String,
    /// How peers reach it.
    url: Option<String>,
    zone: Option<String>,
    /// Uploads may rest on it.
    durable: bool,
    /// Whether it takes part: attached, draining or drained.
    state: &'static str,
    version: String,
    attached_at: Time,
    /// NAR files that it holds.
    files: u64,
    /// Bytes on disk that its store takes; null before its first report, like the next ones.
    used: Option<u64>,
    /// That it may take.
    max_size: Option<u64>,
    disk_free: Option<u64>,
    disk_total: Option<u64>,
    nars: Ratio,
}

impl Edge {
    pub(super) fn new(edge: EdgeStats, max_size: Option<u64>) -> Edge {
        Edge {
            nars: edge.counts.nars().into(),
            name: edge.name,
            instance: edge.instance,
            url: edge.url,
            zone: edge.zone,
            durable: edge.durable,
            state: super::leaving::name_of(edge.state),
            version: edge.version,
            attached_at: Time(edge.attached_at),
            files: edge.files,
            used: edge.disk.map(|disk| disk.used),
            max_size: edge.capacity.or(max_size),
            disk_free: edge.disk.map(|disk| disk.free),
            disk_total: edge.disk.map(|disk| disk.total),
        }
    }
}

impl Edge {
    pub(super) fn table(edges: &[Edge]) -> String {
        let heads = [
            "EDGE",
            "STATE",
            "ZONE",
            "DURABLE",
            "FILES",
            "USED",
            "LIMIT",
            "DISK FREE",
            "NAR HITS",
            "VERSION",
            "ATTACHED",
            "INSTANCE",
            "URL",
        ];
        let mut table = Table::new(heads, &[4, 5, 6, 7, 8]);
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| Size(bytes).to_string());
        for edge in edges {
            table.row([
                edge.name.clone(),
                edge.state.to_owned(),
                or_dash(edge.zone.as_deref().unwrap_or_default()),
                yes_or_no(edge.durable),
                edge.files.to_string(),
                size(edge.used),
                size(edge.max_size),
                size(edge.disk_free),
                percent(edge.nars.hit_ratio),
                or_dash(&edge.version),
                edge.attached_at.to_string(),
                edge.instance.clone(),
                or_dash(edge.url.as_deref().unwrap_or_default()),
            ]);
        }
        table.text()
    }
}

pub(super) fn yes_or_no(is: bool) -> String {
    if is { "yes".to_owned() } else { "no".to_owned() }
}

pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// An upstream as one edge sees it.
#[derive(Serialize)]
struct Upstream {
    url: String,
    edge: String,
    /// `asked`, `left-alone` (it failed, or asked for a pause), `given-up` (down for long: it has no say).
    state: &'static str,
    /// Milliseconds from a request to the head of its answer; null before the first.
    latency_ms: Option<f64>,
    /// Since the edge's process began.
    requests: u64,
    errors: u64,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Upstreams(Vec<Upstream>);

impl Shown for Upstreams {
    fn text(&self) -> String {
        Upstreams::table(&self.0)
    }
}

impl Upstreams {
    fn table(upstreams: &[Upstream]) -> String {
        let heads = ["UPSTREAM", "STATE", "LATENCY", "REQUESTS", "ERRORS", "FETCHED", "EDGE"];
        let mut table = Table::new(heads, &[2, 3, 4, 5]);
        for upstream in upstreams {
            table.row([
                upstream.url.clone(),
                upstream.state.to_owned(),
                upstream.latency_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms")),
                upstream.requests.to_string(),
                upstream.errors.to_string(),
                Size(upstream.bytes).to_string(),
                upstream.edge.clone(),
            ]);
        }
        table.text()
    }
}

fn upstreams(stats: &Stats) -> Vec<Upstream> {
    let of = |edge: &EdgeStats| {
        let one = |upstream: &UpstreamTotals| Upstream {
            url: upstream.url.clone(),
            edge: edge.name.clone(),
            state: upstream.state.name(),
            latency_ms: upstream.latency.map(|latency| latency.as_secs_f64() * 1000.0),
            requests: upstream.requests,
            errors: upstream.errors,
            bytes: upstream.bytes,
        };
        edge.upstreams.iter().map(one).collect::<Vec<_>>()
    };
    stats.edges.iter().flat_map(of).collect()
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    let admin = session.admin().await?;
    let Some(pause) = command.watch else {
        return session.output.print(&Numbers::from(admin.stats().await?));
    };
    loop {
        let numbers = Numbers::from(admin.stats().await?);
        if session.output == Output::Table && stdout().is_terminal() {
            // The screen is cleared, so that numbers change in their places.
            print!("\x1b[H\x1b[2J");
        }
        session.output.print_line(&numbers)?;
        tokio::time::sleep(pause).await;
    }
}

/// Without an edge nobody knows.
pub(super) async fn all_upstreams(session: &Session) -> Done {
    let stats = session.admin().await?.stats().await?;
    if stats.edges.is_empty() {
        return Err(Failure::Failed("no edge is attached, and only edges ask upstreams".to_owned()));
    }
    session.output.print(&Upstreams(upstreams(&stats)))
}
