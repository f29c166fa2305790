//! `ncps-cli edges`: which edges are attached, which were within 7 days, and who was refused and why.

use clap::Args;
use ncps_proto::admin::{KnownEdge, RefusedEdge, Stats};
use serde::Serialize;

use super::stats::{Edge, or_dash, yes_or_no};
use super::units::Time;
use super::{Session, leaving};
use crate::failure::Done;
use crate::output::{Shown, Table};

#[derive(Args)]
pub(super) struct Command {
    #[command(subcommand)]
    verb: Option<leaving::Verb>,
}

#[derive(Serialize)]
struct Fleet {
    attached: Vec<Edge>,
    /// Not attached, but within 7 days.
    away: Vec<Away>,
    /// The last ones first; the oldest are forgotten.
    refused: Vec<Refused>,
}

/// An edge as it was when it was attached last.
#[derive(Serialize)]
struct Away {
    name: String,
    instance: String,
    url: Option<String>,
    zone: Option<String>,
    durable: bool,
    /// Bytes, where it has a limit of its own.
    capacity: Option<u64>,
    version: String,
    first_seen: Time,
    last_seen: Time,
}

/// Attempts of one that were refused for one reason.
#[derive(Serialize)]
struct Refused {
    /// That it gave; null where it came not so far.
    name: Option<String>,
    /// Its address; null where it is not known.
    peer: Option<String>,
    reason: String,
    /// For people.
    why: String,
    first: Time,
    last: Time,
    times: u64,
}

impl From<KnownEdge> for Away {
    fn from(edge: KnownEdge) -> Away {
        let KnownEdge { name, instance, url, zone, durable, capacity, version, first_seen, last_seen } = edge;
        let (first_seen, last_seen) = (Time(first_seen), Time(last_seen));
        Away { name, instance, url, zone, durable, capacity, version, first_seen, last_seen }
    }
}

impl From<RefusedEdge> for Refused {
    fn from(refused: RefusedEdge) -> Refused {
        let RefusedEdge { name, peer, reason, why, first, last, times } = refused;
        Refused { name, peer, reason, why, first: Time(first), last: Time(last), times }
    }
}

impl From<Stats> for Fleet {
    fn from(stats: Stats) -> Fleet {
        Fleet {
            attached: stats.edges.into_iter().map(|edge| Edge::new(edge, stats.max_size)).collect(),
            away: stats.away.into_iter().map(Away::from).collect(),
            refused: stats.refused.into_iter().map(Refused::from).collect(),
        }
    }
}

impl Shown for Fleet {
    fn text(&self) -> String {
        let mut text = Edge::table(&self.attached);
        if !self.away.is_empty() {
            text = format!("{text}\n{}", away(&self.away));
        }
        if !self.refused.is_empty() {
            text = format!("{text}\n{}", refused(&self.refused));
        }
        text
    }
}

fn away(edges: &[Away]) -> String {
    let mut table = Table::new(["AWAY", "ZONE", "DURABLE", "LAST SEEN", "VERSION", "INSTANCE", "URL"], &[]);
    for edge in edges {
        table.row([
            edge.name.clone(),
            or_dash(edge.zone.as_deref().unwrap_or_default()),
            yes_or_no(edge.durable),
            edge.last_seen.to_string(),
            or_dash(&edge.version),
            edge.instance.clone(),
            or_dash(edge.url.as_deref().unwrap_or_default()),
        ]);
    }
    table.text()
}

fn refused(attempts: &[Refused]) -> String {
    let mut table = Table::new(["REFUSED", "FROM", "REASON", "TIMES", "LAST", "WHY"], &[3]);
    for attempt in attempts {
        table.row([
            or_dash(attempt.name.as_deref().unwrap_or_default()),
            or_dash(attempt.peer.as_deref().unwrap_or_default()),
            attempt.reason.clone(),
            attempt.times.to_string(),
            attempt.last.to_string(),
            attempt.why.clone(),
        ]);
    }
    table.text()
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    match command.verb {
        None => list(session).await,
        Some(verb) => leaving::run(verb, session).await,
    }
}

async fn list(session: &Session) -> Done {
    let stats = session.admin().await?.stats().await?;
    session.output.print(&Fleet::from(stats))
}
