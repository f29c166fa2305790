//! Domain types to messages and back. Whatever comes off the wire is parsed here, once; a message that does not
//! parse is [`Code::Invalid`]. Nothing else in the project knows the generated types, [`crate::grpc`] excepted.

use std::collections::HashMap;
use std::time::Duration;

use ncps_nix::{
    Compression, FileHash, NarFileName, NarHash, NarInfo, ObjectName, PublicKey, Sha256Hash, StorePathHash,
};

use crate::gen_v1 as wire;
use crate::{
    Accesses, ChangedBy, Code, Commit, Counter, Counts, Directive, DiskReport, DurableEdges, EdgeReport,
    Error, Eviction, Heard, HeldNar, Hello, Location, Lookup, NarFacts, ObjectChange, ObjectNote, Origin,
    Outdating, Peer, Publication, Recipe, Removal, Result, Resume, Said, Secret, Told, Totals, Turn, Upload,
    UpstreamState, UpstreamTotals, Victim, Welcome, Writer,
};
use crate::{errand, jobs, settings};

pub(crate) fn malformed(what: &str) -> Error {
    Error::new(Code::Invalid, format!("a message between the planes has a malformed {what}"))
}

pub(crate) fn required<T>(field: Option<T>, what: &str) -> Result<T> {
    field.ok_or_else(|| malformed(what))
}

pub(crate) fn all<W, T>(wire: Vec<W>, parse: impl Fn(W) -> Result<T>) -> Result<Vec<T>> {
    wire.into_iter().map(parse).collect()
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn sha256(bytes: &[u8]) -> Result<Sha256Hash> {
    bytes.try_into().map(Sha256Hash::from_bytes).map_err(|_| malformed("hash"))
}

pub(crate) fn store_path_hash(bytes: &[u8]) -> Result<StorePathHash> {
    bytes.try_into().map(StorePathHash::from_bytes).map_err(|_| malformed("store path hash"))
}

pub(crate) fn store_path_hash_bytes(hash: StorePathHash) -> Vec<u8> {
    hash.as_bytes().to_vec()
}

fn compression(name: &str) -> Result<Compression> {
    Compression::from_name(name).ok_or_else(|| malformed("compression"))
}

pub(crate) fn public_key(text: String) -> Result<PublicKey> {
    PublicKey::parse(&text).map_err(|e| malformed("public key").because(e))
}

/// A narinfo's text, as it came from the other plane.
pub(crate) fn narinfo(text: &str) -> Result<NarInfo> {
    NarInfo::parse(text.as_bytes()).map_err(|e| malformed("narinfo").because(e))
}

pub(crate) fn nar_file_name(wire: Option<wire::NarFileName>) -> Result<NarFileName> {
    let wire = required(wire, "NAR file name")?;
    Ok(NarFileName { hash: FileHash(sha256(&wire.hash)?), compression: compression(&wire.compression)? })
}

pub(crate) fn nar_file_name_wire(name: NarFileName) -> wire::NarFileName {
    wire::NarFileName {
        hash: name.hash.0.as_bytes().to_vec(),
        compression: name.compression.name().to_owned(),
    }
}

pub(crate) fn nar_facts(wire: &wire::NarFacts) -> Result<NarFacts> {
    Ok(NarFacts { hash: NarHash(sha256(&wire.nar_hash)?), size: wire.nar_size })
}

pub(crate) fn nar_facts_wire(facts: NarFacts) -> wire::NarFacts {
    wire::NarFacts { nar_hash: facts.hash.0.as_bytes().to_vec(), nar_size: facts.size }
}

pub(crate) fn origin(wire: wire::Origin) -> Result<Origin> {
    Ok(Origin { compression: compression(&wire.compression)?, upstream: wire.upstream, url: wire.url })
}

pub(crate) fn origin_wire(origin: Origin) -> wire::Origin {
    wire::Origin {
        upstream: origin.upstream,
        url: origin.url,
        compression: origin.compression.name().to_owned(),
    }
}

pub(crate) fn lookup(wire: wire::NarinfoReply) -> Result<Lookup> {
    use wire::narinfo_reply::Answer;
    Ok(match required(wire.answer, "answer")? {
        Answer::Known(text) => Lookup::Known(narinfo(&text)?),
        Answer::AbsentMs(ms) => Lookup::Absent(Duration::from_millis(ms)),
        Answer::Unknown(_) => Lookup::Unknown,
    })
}

pub(crate) fn lookup_wire(lookup: Lookup) -> wire::NarinfoReply {
    use wire::narinfo_reply::Answer;
    let answer = match lookup {
        Lookup::Known(narinfo) => Answer::Known(narinfo.render()),
        Lookup::Absent(left) => Answer::AbsentMs(millis(left)),
        Lookup::Unknown => Answer::Unknown(wire::Unknown {}),
    };
    wire::NarinfoReply { answer: Some(answer) }
}

pub(crate) fn publication(wire: wire::PublishNarinfoRequest) -> Result<Publication> {
    Ok(Publication { narinfo: narinfo(&wire.narinfo)?, upstream: wire.upstream, replaces: wire.replaces })
}

pub(crate) fn publication_wire(publication: Publication) -> wire::PublishNarinfoRequest {
    wire::PublishNarinfoRequest {
        narinfo: publication.narinfo.render(),
        upstream: publication.upstream,
        replaces: publication.replaces,
    }
}

pub(crate) fn heard(wire: &wire::PublishAbsentRequest) -> Heard {
    if wire.not_all { Heard::Some } else { Heard::All }
}

pub(crate) fn located(wire: wire::LocateReply) -> Result<Option<Location>> {
    use wire::locate_reply::Answer;
    match required(wire.answer, "answer")? {
        Answer::Unknown(_) => Ok(None),
        Answer::Known(location) => self::location(location).map(Some),
    }
}

fn location(wire: wire::Location) -> Result<Location> {
    Ok(Location {
        name: nar_file_name(wire.nar)?,
        file_size: wire.file_size,
        nar: wire.facts.as_ref().map(nar_facts).transpose()?,
        proven: wire.proven,
        uploaded: wire.uploaded,
        held: wire.held,
        away: wire.away,
        origins: all(wire.origins, origin)?,
        representations: all(wire.representations, |n| nar_file_name(Some(n)))?,
        store_paths: all(wire.store_path_hashes, |h| store_path_hash(&h))?,
        peers: all(wire.peers, peer)?,
        recipe: wire.recipe.map(recipe).transpose()?,
    })
}

fn recipe(wire: wire::Recipe) -> Result<Recipe> {
    Ok(Recipe { source: nar_file_name(wire.source)?, level: wire.level, encoder: wire.encoder })
}

fn recipe_wire(Recipe { source, level, encoder }: Recipe) -> wire::Recipe {
    wire::Recipe { source: Some(nar_file_name_wire(source)), level, encoder }
}

pub(crate) fn located_wire(location: Option<Location>) -> wire::LocateReply {
    use wire::locate_reply::Answer;
    let answer = match location {
        None => Answer::Unknown(wire::Unknown {}),
        Some(location) => Answer::Known(location_wire(location)),
    };
    wire::LocateReply { answer: Some(answer) }
}

fn location_wire(location: Location) -> wire::Location {
    wire::Location {
        nar: Some(nar_file_name_wire(location.name)),
        file_size: location.file_size,
        facts: location.nar.map(nar_facts_wire),
        proven: location.proven,
        uploaded: location.uploaded,
        held: location.held,
        away: location.away,
        origins: location.origins.into_iter().map(origin_wire).collect(),
        representations: location.representations.into_iter().map(nar_file_name_wire).collect(),
        store_path_hashes: location.store_paths.into_iter().map(store_path_hash_bytes).collect(),
        peers: location.peers.into_iter().map(peer_wire).collect(),
        recipe: location.recipe.map(recipe_wire),
    }
}

fn peer(wire: wire::Peer) -> Result<Peer> {
    let holds = wire.holds.map(|name| nar_file_name(Some(name))).transpose()?;
    Ok(Peer { url: wire.url, zone: wire.zone, holds })
}

fn peer_wire(peer: Peer) -> wire::Peer {
    wire::Peer { url: peer.url, zone: peer.zone, holds: peer.holds.map(nar_file_name_wire) }
}

pub(crate) fn durable_edges(wire: wire::DurableEdgesReply) -> DurableEdges {
    DurableEdges { urls: wire.urls, away: wire.away }
}

pub(crate) fn durable_edges_wire(durable: DurableEdges) -> wire::DurableEdgesReply {
    let DurableEdges { urls, away } = durable;
    wire::DurableEdgesReply { urls, away }
}

pub(crate) fn turn(wire: wire::BeginFetchReply) -> Result<Turn> {
    use wire::begin_fetch_reply::Turn as Wire;
    Ok(match required(wire.turn, "turn")? {
        Wire::Yours(yours) => Turn::Yours(all(yours.peers, peer)?),
        Wire::Theirs(url) => Turn::Theirs(non_empty(url)),
    })
}

pub(crate) fn turn_wire(turn: Turn) -> wire::BeginFetchReply {
    use wire::begin_fetch_reply::Turn as Wire;
    let turn = match turn {
        Turn::Yours(peers) => Wire::Yours(wire::Yours { peers: peers.into_iter().map(peer_wire).collect() }),
        Turn::Theirs(url) => Wire::Theirs(url.unwrap_or_default()),
    };
    wire::BeginFetchReply { turn: Some(turn) }
}

pub(crate) fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

pub(crate) fn commit(wire: wire::CommitNarRequest) -> Result<(String, Commit)> {
    let commit = Commit {
        name: nar_file_name(wire.nar)?,
        asked_as: wire.asked_as.map(|n| nar_file_name(Some(n))).transpose()?,
        file_size: wire.file_size,
        nar: nar_facts(&required(wire.facts, "NAR facts")?)?,
        origin: wire.origin.map(origin).transpose()?,
        uploaded: wire.uploaded,
        recipe: wire.recipe.map(recipe).transpose()?,
        meanwhile: all(wire.meanwhile, publication)?,
    };
    Ok((wire.instance, commit))
}

pub(crate) fn commit_wire(instance: &str, commit: Commit) -> wire::CommitNarRequest {
    wire::CommitNarRequest {
        instance: instance.to_owned(),
        nar: Some(nar_file_name_wire(commit.name)),
        asked_as: commit.asked_as.map(nar_file_name_wire),
        file_size: commit.file_size,
        facts: Some(nar_facts_wire(commit.nar)),
        origin: commit.origin.map(origin_wire),
        uploaded: commit.uploaded,
        recipe: commit.recipe.map(recipe_wire),
        meanwhile: commit.meanwhile.into_iter().map(publication_wire).collect(),
    }
}

pub(crate) fn writer(wire: Option<wire::Writer>) -> Result<Writer> {
    let wire::Writer { instance, secret } = required(wire, "writer")?;
    Ok(Writer { instance, secret: secret.map(Secret::new) })
}

pub(crate) fn writer_wire(writer: Writer) -> wire::Writer {
    let secret = writer.secret.map(|secret| secret.reveal().to_owned());
    wire::Writer { instance: writer.instance, secret }
}

pub(crate) fn upload(wire: wire::PublishUploadRequest) -> Result<Upload> {
    Ok(Upload {
        narinfo: narinfo(&wire.narinfo)?,
        nar: nar_file_name(wire.nar)?,
        held: wire.held,
        writer: writer(wire.writer)?,
    })
}

pub(crate) fn upload_wire(upload: Upload) -> wire::PublishUploadRequest {
    wire::PublishUploadRequest {
        narinfo: upload.narinfo.render(),
        nar: Some(nar_file_name_wire(upload.nar)),
        held: upload.held,
        writer: Some(writer_wire(upload.writer)),
    }
}

pub(crate) fn object_note(wire: wire::NoteObjectRequest) -> Result<ObjectNote> {
    use wire::note_object_request::{By, Change};
    let change = match required(wire.change, "change")? {
        Change::Uploaded(bytes) => ObjectChange::Uploaded(bytes),
        Change::Deleted(wire::ObjectDeleted {}) => ObjectChange::Deleted,
    };
    let by = match required(wire.by, "by")? {
        By::Client(client) => ChangedBy::Client(writer(Some(client))?),
        By::Errand(bearer) => ChangedBy::Errand(errand::bearer(Some(bearer))?),
    };
    Ok(ObjectNote { name: object_name(&wire.name)?, change, by })
}

pub(crate) fn object_name(text: &str) -> Result<ObjectName> {
    ObjectName::parse(text).map_err(|_| malformed("object name"))
}

pub(crate) fn object_note_wire(note: ObjectNote) -> wire::NoteObjectRequest {
    use wire::note_object_request::{By, Change};
    let change = match note.change {
        ObjectChange::Uploaded(bytes) => Change::Uploaded(bytes),
        ObjectChange::Deleted => Change::Deleted(wire::ObjectDeleted {}),
    };
    let by = match note.by {
        ChangedBy::Client(writer) => By::Client(writer_wire(writer)),
        ChangedBy::Errand(bearer) => By::Errand(errand::bearer_wire(bearer)),
    };
    wire::NoteObjectRequest { name: note.name.to_string(), change: Some(change), by: Some(by) }
}

fn held(name: Option<wire::NarFileName>, file_size: u64, disk_bytes: u64) -> Result<HeldNar> {
    Ok(HeldNar { name: nar_file_name(name)?, file_size, disk_bytes })
}

pub(crate) fn said(wire: wire::EdgeReport) -> Result<Said> {
    let wire::EdgeReport { number, heard, report } = wire;
    Ok(Said { number, heard, report: self::report(report)? })
}

fn report(wire: Option<wire::edge_report::Report>) -> Result<EdgeReport> {
    use wire::edge_report::Report;
    Ok(match required(wire, "report")? {
        Report::Hello(hello) => EdgeReport::Hello(Hello {
            name: hello.name,
            instance: hello.instance,
            url: non_empty(hello.url),
            index: non_empty(hello.index),
            zone: non_empty(hello.zone),
            durable: hello.durable,
            capacity: hello.capacity,
            protocol: hello.protocol,
            version: hello.version,
            resume: hello.resume.map(|wire::Resume { run, heard }| Resume { run, heard }),
        }),
        Report::Inventory(page) => EdgeReport::Inventory {
            held: all(page.held, |h| held(h.nar, h.file_size, h.disk_bytes))?,
            last: page.last,
        },
        Report::Accesses(accesses) => EdgeReport::Accesses(self::accesses(accesses)?),
        Report::Committed(commit) => {
            EdgeReport::Committed(held(commit.nar, commit.file_size, commit.disk_bytes)?)
        }
        Report::Disk(disk) => EdgeReport::Disk(disk_report(&disk)),
        Report::Evicted(evicted) => EdgeReport::Evicted {
            number: evicted.number,
            gone: all(evicted.nars, |n| nar_file_name(Some(n)))?,
        },
        Report::UpstreamBack(_) => EdgeReport::UpstreamBack,
        Report::Drained(_) => EdgeReport::Drained,
        Report::Totals(totals) => EdgeReport::Totals(self::totals(totals)?),
        Report::Job(report) => EdgeReport::Job(jobs::report(report)?),
    })
}

fn accesses(wire: wire::Accesses) -> Result<Accesses> {
    Ok(Accesses {
        narinfos: all(wire.narinfos, |a| Ok((store_path_hash(&a.store_path_hash)?, a.count)))?,
        nars: all(wire.nars, |a| Ok((nar_file_name(a.nar)?, a.count)))?,
    })
}

pub(crate) fn said_wire(Said { number, heard, report }: Said) -> wire::EdgeReport {
    use wire::edge_report::Report;
    let report = match report {
        EdgeReport::Hello(hello) => Report::Hello(wire::Hello {
            name: hello.name,
            instance: hello.instance,
            url: hello.url.unwrap_or_default(),
            index: hello.index.unwrap_or_default(),
            zone: hello.zone.unwrap_or_default(),
            durable: hello.durable,
            capacity: hello.capacity,
            protocol: hello.protocol,
            version: hello.version,
            resume: hello.resume.map(|Resume { run, heard }| wire::Resume { run, heard }),
        }),
        EdgeReport::Inventory { held, last } => {
            Report::Inventory(wire::Inventory { held: held.into_iter().map(held_wire).collect(), last })
        }
        EdgeReport::Accesses(accesses) => Report::Accesses(accesses_wire(accesses)),
        EdgeReport::Committed(held) => Report::Committed(wire::Commit {
            nar: Some(nar_file_name_wire(held.name)),
            file_size: held.file_size,
            disk_bytes: held.disk_bytes,
        }),
        EdgeReport::Disk(disk) => Report::Disk(disk_report_wire(disk)),
        EdgeReport::Evicted { number, gone } => Report::Evicted(wire::Evicted {
            nars: gone.into_iter().map(nar_file_name_wire).collect(),
            number,
        }),
        EdgeReport::UpstreamBack => Report::UpstreamBack(wire::UpstreamBack {}),
        EdgeReport::Drained => Report::Drained(wire::Drained {}),
        EdgeReport::Totals(totals) => Report::Totals(totals_wire(totals)),
        EdgeReport::Job(report) => Report::Job(jobs::report_wire(report)),
    };
    wire::EdgeReport { number, heard, report: Some(report) }
}

fn held_wire(held: HeldNar) -> wire::HeldNar {
    let HeldNar { name, file_size, disk_bytes } = held;
    wire::HeldNar { nar: Some(nar_file_name_wire(name)), file_size, disk_bytes }
}

pub(crate) fn disk_report(wire: &wire::DiskReport) -> DiskReport {
    let wire::DiskReport { number, total, free, used, wanted } = *wire;
    DiskReport { number, total, free, used, wanted }
}

pub(crate) fn disk_report_wire(disk: DiskReport) -> wire::DiskReport {
    let DiskReport { number, total, free, used, wanted } = disk;
    wire::DiskReport { number, total, free, used, wanted }
}

fn totals(wire: wire::Totals) -> Result<Totals> {
    Ok(Totals {
        run: wire.run,
        version: wire.version,
        counts: counts(&wire.counts),
        upstreams: all(wire.upstreams, upstream_totals)?,
    })
}

fn totals_wire(totals: Totals) -> wire::Totals {
    wire::Totals {
        run: totals.run,
        version: totals.version,
        counts: counts_wire(&totals.counts),
        upstreams: totals.upstreams.into_iter().map(upstream_totals_wire).collect(),
    }
}

pub(crate) fn counts(wire: &HashMap<String, u64>) -> Counts {
    let mut counts = Counts::default();
    for counter in Counter::ALL {
        counts.set(*counter, wire.get(counter.name()).copied().unwrap_or(0));
    }
    counts
}

pub(crate) fn counts_wire(counts: &Counts) -> HashMap<String, u64> {
    counts.iter().map(|(counter, number)| (counter.name().to_owned(), number)).collect()
}

pub(crate) fn upstream_totals(wire: wire::UpstreamTotals) -> Result<UpstreamTotals> {
    Ok(UpstreamTotals {
        state: required(UpstreamState::from_name(&wire.state), "state of an upstream")?,
        url: wire.url,
        latency: wire.latency_us.map(Duration::from_micros),
        requests: wire.requests,
        errors: wire.errors,
        bytes: wire.bytes,
    })
}

pub(crate) fn upstream_totals_wire(upstream: UpstreamTotals) -> wire::UpstreamTotals {
    let micros = |latency: Duration| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    wire::UpstreamTotals {
        url: upstream.url,
        state: upstream.state.name().to_owned(),
        latency_us: upstream.latency.map(micros),
        requests: upstream.requests,
        errors: upstream.errors,
        bytes: upstream.bytes,
    }
}

pub(crate) fn victims(wire: Vec<wire::Victim>) -> Result<Vec<Victim>> {
    all(wire, |victim| {
        let narinfos = all(victim.store_path_hashes, |h| store_path_hash(&h))?;
        Ok(Victim { name: nar_file_name(victim.nar)?, narinfos })
    })
}

pub(crate) fn victims_wire(victims: Vec<Victim>) -> Vec<wire::Victim> {
    let victim = |victim: Victim| wire::Victim {
        nar: Some(nar_file_name_wire(victim.name)),
        store_path_hashes: victim.narinfos.into_iter().map(store_path_hash_bytes).collect(),
    };
    victims.into_iter().map(victim).collect()
}

fn eviction(wire: wire::Eviction) -> Result<Eviction> {
    Ok(Eviction { victims: victims(wire.victims)?, settles: wire.settles, number: wire.number })
}

fn eviction_wire(eviction: Eviction) -> wire::Eviction {
    wire::Eviction {
        victims: victims_wire(eviction.victims),
        settles: eviction.settles,
        number: eviction.number,
    }
}

fn removal(wire: wire::Removal) -> Result<Removal> {
    Ok(Removal {
        number: wire.number,
        store_paths: all(wire.store_path_hashes, |h| store_path_hash(&h))?,
        nars: all(wire.nars, |n| nar_file_name(Some(n)))?,
    })
}

fn outdating(wire: wire::Outdating) -> Result<Outdating> {
    let store_paths = all(wire.store_path_hashes, |h| store_path_hash(&h))?;
    Ok(Outdating { number: wire.number, store_paths })
}

fn outdating_wire(Outdating { number, store_paths }: Outdating) -> wire::Outdating {
    let store_path_hashes = store_paths.into_iter().map(store_path_hash_bytes).collect();
    wire::Outdating { number, store_path_hashes }
}

fn removal_wire(removal: Removal) -> wire::Removal {
    wire::Removal {
        number: removal.number,
        store_path_hashes: removal.store_paths.into_iter().map(store_path_hash_bytes).collect(),
        nars: removal.nars.into_iter().map(nar_file_name_wire).collect(),
    }
}

fn accesses_wire(accesses: Accesses) -> wire::Accesses {
    let narinfo = |(hash, count)| wire::NarinfoAccess { store_path_hash: store_path_hash_bytes(hash), count };
    let nar = |(name, count)| wire::NarAccess { nar: Some(nar_file_name_wire(name)), count };
    wire::Accesses {
        narinfos: accesses.narinfos.into_iter().map(narinfo).collect(),
        nars: accesses.nars.into_iter().map(nar).collect(),
    }
}

pub(crate) fn told(wire: wire::Directive) -> Result<Told> {
    let wire::Directive { number, welcome, directive } = wire;
    let welcome = welcome.map(|wire::Welcome { run, resumes }| Welcome { run, resumes });
    Ok(Told { number, welcome, directive: self::directive(directive)? })
}

fn directive(wire: Option<wire::directive::Directive>) -> Result<Directive> {
    use wire::directive::Directive as Wire;
    Ok(match required(wire, "directive")? {
        Wire::Heard(number) => Directive::Heard(number),
        Wire::Configure(settings) => Directive::Configure(Box::new(settings::read(settings)?)),
        Wire::Invalidate(invalidation) => {
            Directive::Invalidate(all(invalidation.store_path_hashes, |h| store_path_hash(&h))?)
        }
        Wire::Evict(wire) => Directive::Evict(eviction(wire)?),
        Wire::Job(wire) => Directive::Job { id: wire.id, job: jobs::job(wire)? },
        Wire::EndJob(id) => Directive::EndJob(id),
        Wire::Remove(wire) => Directive::Remove(removal(wire)?),
        Wire::Drain(drain) => Directive::Drain(drain),
        Wire::Outdate(wire) => Directive::Outdate(outdating(wire)?),
        Wire::AcceptIndex(id) => Directive::AcceptIndex(id),
    })
}

pub(crate) fn told_wire(Told { number, welcome, directive }: Told) -> wire::Directive {
    use wire::directive::Directive as Wire;
    let welcome = welcome.map(|Welcome { run, resumes }| wire::Welcome { run, resumes });
    let directive = match directive {
        Directive::Heard(number) => Wire::Heard(number),
        Directive::Configure(settings) => Wire::Configure(settings::wire(*settings)),
        Directive::Invalidate(hashes) => Wire::Invalidate(wire::Invalidation {
            store_path_hashes: hashes.into_iter().map(store_path_hash_bytes).collect(),
        }),
        Directive::Evict(eviction) => Wire::Evict(eviction_wire(eviction)),
        Directive::Job { id, job } => Wire::Job(jobs::job_wire(id, job)),
        Directive::EndJob(id) => Wire::EndJob(id),
        Directive::Remove(removal) => Wire::Remove(removal_wire(removal)),
        Directive::Drain(drain) => Wire::Drain(drain),
        Directive::Outdate(outdating) => Wire::Outdate(outdating_wire(outdating)),
        Directive::AcceptIndex(id) => Wire::AcceptIndex(id),
    };
    wire::Directive { number, welcome, directive: Some(directive) }
}
