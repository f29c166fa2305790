//! [`ControlPlane`] in memory: the smallest thing that keeps the promises of the trait. Tests of the edge run
//! against it, and it shows that [`crate::conformance`] asks for nothing that only SQLite could give.
//!
//! Absent on purpose: persistence, lease expiry, jitter, bounds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures::StreamExt;
use ncps_nix::{Compression, FileHash, NarFileName, NarInfo, SecretKey, StorePathHash, TrustedKeys};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{
    Bearer, ChangedBy, Code, Commit, ControlPlane, Directive, Directives, DurableEdges, EdgeReport,
    EdgeSettings, Errand, Error, Heard, Location, Lookup, NarFacts, ObjectChange, ObjectNote, Origin,
    Publication, Recipe, Reports, Result, Said, Scope, Secret, Told, Turn, Upload, Victim, Warranted,
    Warrants, Writer, tokens,
};

/// Control in memory.
pub struct FakeControl {
    key: SecretKey,
    trusted: TrustedKeys,
    negative_ttl: Duration,
    settings: EdgeSettings,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    narinfos: HashMap<StorePathHash, NarInfo>,
    absent: HashMap<StorePathHash, (Instant, Heard)>,
    files: HashMap<NarFileName, File>,
    aliases: HashMap<NarFileName, NarFileName>,
    leases: HashMap<NarFileName, String>,
    sessions: HashMap<String, Session>,
    noted: Vec<ObjectNote>,
    /// By themselves: who may do what.
    warrants: HashMap<String, (String, Errand)>,
    /// Of those that change objects.
    redeemed: HashMap<String, (String, Errand)>,
}

struct Session {
    edge: String,
    url: Option<String>,
    directives: mpsc::UnboundedSender<Result<Directive>>,
}

#[derive(Default)]
struct File {
    proven: bool,
    size: Option<u64>,
    nar: Option<NarFacts>,
    origins: Vec<Origin>,
    uploaded: bool,
    recipe: Option<Recipe>,
}

impl FakeControl {
    /// A control that signs with `key` and believes what `settings.trusted_keys` signed.
    pub fn new(key: SecretKey, settings: EdgeSettings, negative_ttl: Duration) -> FakeControl {
        let trusted = TrustedKeys::from_iter(settings.trusted_keys.iter().cloned());
        FakeControl { key, trusted, negative_ttl, settings, state: Arc::default() }
    }

    fn may_sign(&self, writer: &Writer) -> bool {
        self.may(Scope::Sign, true, writer)
    }

    fn may(&self, scope: Scope, required: bool, writer: &Writer) -> bool {
        let edge = self.state.lock().sessions.get(&writer.instance).map(|session| session.edge.clone());
        let secret = writer.secret.as_ref().map(|secret| secret.reveal().as_bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let edge = edge.unwrap_or_default();
        tokens::permit(&self.settings.tokens, required, scope, secret, &edge, now)
    }

    fn signed(&self, publication: &Publication) -> (NarInfo, Origin) {
        let mut narinfo = publication.narinfo.clone();
        let origin = Origin {
            upstream: publication.upstream.clone(),
            url: narinfo.url.clone(),
            compression: narinfo.compression,
        };
        if narinfo.file_hash.is_none() {
            narinfo.compression = Compression::None;
            narinfo.file_hash = Some(FileHash(narinfo.nar_hash.0));
            narinfo.file_size = Some(narinfo.nar_size);
        }
        narinfo.url = named(&narinfo).url();
        if self.trusted.verify(&publication.narinfo).is_some() || narinfo.proves_nar_hash() {
            narinfo.signatures.push(self.key.sign(&narinfo.fingerprint()));
        }
        (narinfo, origin)
    }
}

/// What a warrant is for, once.
fn take(
    warrants: &mut HashMap<String, (String, Errand)>,
    warrant: &Secret,
    right: &(String, Errand),
) -> Result<()> {
    if warrants.get(warrant.reveal()) != Some(right) {
        return Err(Error::new(Code::Unauthenticated, "the warrant is not for that"));
    }
    warrants.remove(warrant.reveal());
    Ok(())
}

/// The file that a served narinfo names.
fn named(narinfo: &NarInfo) -> NarFileName {
    let hash = narinfo.file_hash.unwrap_or(FileHash(narinfo.nar_hash.0));
    NarFileName { hash, compression: narinfo.compression }
}

impl State {
    fn store(&mut self, narinfo: NarInfo, origin: Origin) {
        let file = self.files.entry(named(&narinfo)).or_default();
        file.size = narinfo.file_size;
        file.nar = Some(NarFacts { hash: narinfo.nar_hash, size: narinfo.nar_size });
        file.origins.push(origin);
        self.absent.remove(&narinfo.store_path.hash());
        self.narinfos.insert(narinfo.store_path.hash(), narinfo);
    }

    /// The NAR of which some compressed file is known, if `name` is it uncompressed.
    fn decodable(&self, name: NarFileName) -> Option<NarFacts> {
        let mut nars = self.files.values().filter_map(|file| file.nar);
        nars.find(|nar| name.compression == Compression::None && nar.hash.0 == name.hash.0)
    }

    fn naming(&self, name: NarFileName) -> Vec<NarInfo> {
        self.narinfos.values().filter(|n| named(n) == name).cloned().collect()
    }

    fn invalidate(&self, hashes: Vec<StorePathHash>) {
        for session in self.sessions.values() {
            // A closed session is about to be removed by its own end.
            session.directives.send(Ok(Directive::Invalidate(hashes.clone()))).ok();
        }
    }

    fn correct(&mut self, old: NarFileName, commit: &Commit) {
        self.point_at(old, commit);
        self.aliases.insert(old, commit.name);
        self.leases.remove(&old);
    }

    fn prefer(&mut self, source: NarFileName, commit: &Commit) -> Result<()> {
        let is_known =
            self.files.get(&source).is_some_and(|file| file.proven && file.nar == Some(commit.nar));
        if !is_known || (self.naming(source).is_empty() && self.naming(commit.name).is_empty()) {
            return Err(Error::new(Code::Refused, format!("nothing names {source}")));
        }
        self.point_at(source, commit);
        Ok(())
    }

    fn point_at(&mut self, old: NarFileName, commit: &Commit) {
        let changed: Vec<_> = self.naming(old).iter().map(|n| n.store_path.hash()).collect();
        for hash in &changed {
            if let Some(narinfo) = self.narinfos.get_mut(hash) {
                narinfo.point_at(commit.name, Some(commit.file_size));
            }
        }
        self.invalidate(changed);
    }
}

#[async_trait]
impl ControlPlane for FakeControl {
    async fn narinfo(&self, hash: StorePathHash) -> Result<Lookup> {
        let state = self.state.lock();
        if let Some(narinfo) = state.narinfos.get(&hash) {
            return Ok(Lookup::Known(narinfo.clone()));
        }
        let absent = state.absent.get(&hash);
        let left = absent.and_then(|(until, _)| until.checked_duration_since(Instant::now()));
        Ok(left.map_or(Lookup::Unknown, Lookup::Absent))
    }

    async fn publish_narinfo(&self, publication: Publication) -> Result<NarInfo> {
        let theirs = &publication.narinfo;
        let unsigned = self.settings.upstreams.iter().any(|u| u.unsigned && u.url == publication.upstream);
        if self.trusted.verify(theirs).is_none() && !theirs.proves_itself() && !unsigned {
            return Err(Error::new(Code::Invalid, format!("{}: no trusted signature", theirs.store_path)));
        }
        let mut state = self.state.lock();
        let hash = theirs.store_path.hash();
        if let Some(first) = state.narinfos.get(&hash).filter(|_| !publication.replaces) {
            return Ok(first.clone());
        }
        let (narinfo, origin) = self.signed(&publication);
        state.store(narinfo.clone(), origin);
        if publication.replaces {
            state.invalidate(vec![hash]);
        }
        Ok(narinfo)
    }

    async fn publish_absent(&self, hash: StorePathHash, heard: Heard) -> Result<Duration> {
        self.state.lock().absent.insert(hash, (Instant::now() + self.negative_ttl, heard));
        Ok(self.negative_ttl)
    }

    async fn retract_narinfo(&self, hash: StorePathHash, nar: NarFileName) -> Result<()> {
        let mut state = self.state.lock();
        if state.narinfos.get(&hash).is_some_and(|n| named(n) == nar) {
            state.narinfos.remove(&hash);
            state.absent.insert(hash, (Instant::now() + self.negative_ttl, Heard::All));
            state.invalidate(vec![hash]);
        }
        Ok(())
    }

    async fn locate(&self, _instance: &str, asked: NarFileName) -> Result<Option<Location>> {
        let state = self.state.lock();
        let name = state.aliases.get(&asked).copied().unwrap_or(asked);
        let file = state.files.get(&name);
        let nar = file.map(|file| file.nar).or_else(|| state.decodable(name).map(Some));
        let Some(nar) = nar else { return Ok(None) };
        let same_nar = |(other, f): (&NarFileName, &File)| {
            (*other != name && f.proven && f.nar == nar).then_some(*other)
        };
        Ok(Some(Location {
            name,
            file_size: file.and_then(|file| file.size),
            nar,
            proven: file.is_some_and(|file| file.proven),
            uploaded: file.is_some_and(|file| file.uploaded && file.origins.is_empty()),
            held: file.is_some_and(|file| file.proven),
            away: false,
            origins: file.map(|file| file.origins.clone()).unwrap_or_default(),
            representations: state.files.iter().filter_map(same_nar).collect(),
            store_paths: state.naming(name).iter().map(|n| n.store_path.hash()).collect(),
            peers: Vec::new(),
            recipe: file.and_then(|file| file.recipe.clone()),
        }))
    }

    async fn begin_fetch(&self, instance: &str, name: NarFileName, failed: &[String]) -> Result<Turn> {
        let mut state = self.state.lock();
        let holder = state.leases.entry(name).or_insert_with(|| instance.to_owned());
        // No edge has a URL here.
        if failed.iter().any(String::is_empty) {
            instance.clone_into(holder);
        }
        Ok(if holder == instance { Turn::Yours(Vec::new()) } else { Turn::Theirs(None) })
    }

    async fn doubt_placement(&self, _instance: &str, _peer: &str, _name: NarFileName) -> Result<()> {
        Ok(())
    }

    async fn end_fetch(&self, instance: &str, name: NarFileName) -> Result<()> {
        let mut state = self.state.lock();
        if state.leases.get(&name).is_some_and(|holder| holder == instance) {
            state.leases.remove(&name);
        }
        Ok(())
    }

    async fn commit_nar(&self, _instance: &str, mut commit: Commit) -> Result<Vec<NarInfo>> {
        for publication in std::mem::take(&mut commit.meanwhile) {
            // One that is refused keeps no file from being known.
            self.publish_narinfo(publication).await.ok();
        }
        let mut state = self.state.lock();
        state.leases.remove(&commit.name);
        if let Some(recipe) = &commit.recipe {
            state.prefer(recipe.source, &commit)?;
        }
        if let Some(old) = commit.asked_as.filter(|old| *old != commit.name) {
            state.correct(old, &commit);
        }
        let file = state.files.entry(commit.name).or_default();
        file.proven = true;
        file.size = Some(commit.file_size);
        file.nar = Some(commit.nar);
        let origin = commit.origin.filter(|origin| !file.origins.contains(origin));
        file.origins.extend(origin);
        file.uploaded |= commit.uploaded;
        file.recipe = file.recipe.take().or(commit.recipe);
        Ok(state.naming(commit.name))
    }

    async fn publish_upload(&self, upload: Upload) -> Result<NarInfo> {
        let Upload { narinfo: mut theirs, nar, writer, .. } = upload;
        let refused = |why: &str| Error::new(Code::Refused, format!("{}: {why}", theirs.store_path));
        let vouched = self.trusted.verify(&theirs).is_some() || self.may_sign(&writer);
        if !vouched && !theirs.proves_itself() {
            return Err(refused("nobody vouches for it"));
        }
        let mut state = self.state.lock();
        let facts = NarFacts { hash: theirs.nar_hash, size: theirs.nar_size };
        if !state.files.get(&nar).is_some_and(|file| file.proven && file.nar == Some(facts)) {
            return Err(refused("its NAR is not stored"));
        }
        let hash = theirs.store_path.hash();
        let first = state.narinfos.get(&hash).cloned();
        if first.as_ref().is_some_and(|first| first.fingerprint() != theirs.fingerprint()) {
            return Err(refused("another NAR is there"));
        }
        let signatures = std::mem::take(&mut theirs.signatures);
        let mut stored = first.unwrap_or_else(|| NarInfo { url: nar.url(), ..theirs });
        let own = (vouched || stored.proves_nar_hash()).then(|| self.key.sign(&stored.fingerprint()));
        for signature in signatures.into_iter().chain(own) {
            if !stored.signatures.contains(&signature) {
                stored.signatures.push(signature);
            }
        }
        state.absent.remove(&hash);
        state.narinfos.insert(hash, stored.clone());
        state.invalidate(vec![hash]);
        Ok(stored)
    }

    async fn delete_narinfo(&self, hash: StorePathHash, _writer: Writer) -> Result<bool> {
        let mut state = self.state.lock();
        let deleted = state.narinfos.remove(&hash).is_some();
        state.invalidate(vec![hash]);
        Ok(deleted)
    }

    async fn delete_nar(&self, name: NarFileName, _writer: Writer) -> Result<Vec<Victim>> {
        let mut state = self.state.lock();
        let Some(file) = state.files.get_mut(&name).filter(|file| file.proven) else { return Ok(Vec::new()) };
        let lost = std::mem::take(&mut file.uploaded) && file.origins.is_empty();
        let narinfos: Vec<_> = state.naming(name).iter().map(|n| n.store_path.hash()).collect();
        if lost {
            narinfos.iter().for_each(|hash| drop(state.narinfos.remove(hash)));
            state.files.remove(&name);
            state.invalidate(narinfos.clone());
        }
        Ok(vec![Victim { name, narinfos }])
    }

    async fn note_object(&self, note: ObjectNote) -> Result<()> {
        let writing = self.settings.writing;
        let allowed = if note.change == ObjectChange::Deleted { writing.delete } else { writing.put };
        if !allowed {
            return Err(Error::new(Code::VerbOff, "clients may not do that here"));
        }
        let mut state = self.state.lock();
        if let ChangedBy::Errand(Bearer { instance, warrant }) = &note.by {
            let errand = match note.change {
                ObjectChange::Uploaded(_) => Errand::KeepObject(note.name.clone()),
                ObjectChange::Deleted => Errand::DeleteObject(note.name.clone()),
            };
            take(&mut state.redeemed, warrant, &(instance.clone(), errand))?;
        }
        state.noted.push(note);
        Ok(())
    }

    async fn warrant(&self, errand: Errand, writer: Writer) -> Result<Warrants> {
        if !self.may(errand.scope(), false, &writer) {
            return Err(Error::new(Code::Unauthenticated, "no token, or one that is not known"));
        }
        let state = &mut *self.state.lock();
        let mut warrants = Warrants { known: !state.sessions.is_empty(), edges: Vec::new() };
        for (instance, session) in state.sessions.iter().filter(|(instance, _)| **instance != writer.instance)
        {
            let Some(url) = session.url.clone() else { continue };
            let warrant = format!("{}-{instance}", state.warrants.len());
            state.warrants.insert(warrant.clone(), (instance.clone(), errand.clone()));
            warrants.edges.push(Warranted { url, warrant: Secret::new(warrant) });
        }
        Ok(warrants)
    }

    async fn redeem(&self, Bearer { instance, warrant }: Bearer, errand: Errand) -> Result<()> {
        let mut state = self.state.lock();
        let right = (instance, errand);
        take(&mut state.warrants, &warrant, &right)?;
        state.redeemed.insert(warrant.reveal().to_owned(), right);
        Ok(())
    }

    async fn durable_edges(&self, _instance: &str) -> Result<DurableEdges> {
        Ok(DurableEdges::default())
    }

    async fn attach(&self, mut reports: Reports) -> Result<Directives> {
        let Some(Said { report: EdgeReport::Hello(hello), .. }) = reports.next().await else {
            return Err(Error::new(Code::Invalid, "an edge must say hello first"));
        };
        let (tx, rx) = mpsc::unbounded_channel();
        tx.send(Ok(Directive::Configure(Box::new(self.settings.clone())))).ok();
        let session = Session { edge: hello.name, url: hello.url, directives: tx };
        self.state.lock().sessions.insert(hello.instance.clone(), session);
        let state = Arc::clone(&self.state);
        let drain = async move {
            while let Some(report) = reports.next().await {
                if report.report == EdgeReport::UpstreamBack {
                    state.lock().absent.retain(|_, (_, heard)| *heard == Heard::All);
                }
            }
            let mut state = state.lock();
            state.sessions.remove(&hello.instance);
            state.leases.retain(|_, holder| *holder != hello.instance);
        };
        // The drain ends with the report stream; nothing waits for it.
        let drain = futures::stream::once(drain).filter_map(|()| futures::future::ready(None));
        let directives =
            futures::stream::unfold(rx, |mut rx| async move { Some((rx.recv().await?.map(Told::from), rx)) });
        Ok(futures::stream::select(directives, drain).boxed())
    }
}

impl FakeControl {
    /// Every name that is anybody's turn right now.
    pub fn leased(&self) -> HashSet<NarFileName> {
        self.state.lock().leases.keys().copied().collect()
    }

    /// What clients changed of objects, in its order.
    pub fn noted(&self) -> Vec<ObjectNote> {
        self.state.lock().noted.clone()
    }
}
