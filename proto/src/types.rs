//! What crosses the seam, in domain words. Plain data: no behaviour beyond small conveniences, no wire format
//! (that is `convert`), no policy.

use std::time::Duration;

use ncps_nix::{Compression, NarFileName, NarHash, NarInfo, ObjectName, PublicKey, StorePathHash};

use crate::errand::Bearer;
use crate::hello::Hello;
use crate::jobs::{Job, JobReport};
use crate::outward::{Outward, Secret, UpstreamSettings};
use crate::tokens::{Token, Writing};
use crate::totals::Totals;

/// For how long control remembers what was removed, for edges that are away.
pub const REMEMBERED: Duration = Duration::from_secs(90 * 24 * 3600);

/// What control knows of a store path.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "an answer is short-lived, and most are known")]
pub enum Lookup {
    /// The narinfo as it is served: our URL, our signature.
    Known(NarInfo),
    /// Every upstream with a say answered "absent", not longer ago than the negative TTL.
    Absent(Duration),
    /// Nobody asked yet, or it is too long ago.
    Unknown,
}

/// Who called a path absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Every upstream.
    All,
    /// Those with a say; others could not be asked, and may have it when they are back.
    Some,
}

/// An upstream's narinfo on its way into the index.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// As the upstream gave it, its opaque URL included.
    pub narinfo: NarInfo,
    /// The upstream's base URL, as configured.
    pub upstream: String,
    /// The stored version lost its NAR everywhere: this one takes its place.
    pub replaces: bool,
}

/// Where the bytes of a NAR file can come from, and what they must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Location {
    /// The file. Differs from the one asked for where that name is an alias.
    pub name: NarFileName,
    /// Its size in bytes, where it is known.
    pub file_size: Option<u64>,
    /// What it must decode to, where a narinfo or a commit said so.
    pub nar: Option<NarFacts>,
    /// A commit said so.
    pub proven: bool,
    /// A client brought it, and no upstream is known to have it.
    pub uploaded: bool,
    /// An attached edge holds it; where it is `uploaded`, one whose disk is kept.
    pub held: bool,
    /// It is `uploaded`, and may lie at an edge that is not attached: who does not find it may not say that it is absent.
    pub away: bool,
    /// Where it can be fetched, best first.
    pub origins: Vec<Origin>,
    /// Other files of the same NAR, as a commit proved: they can stand for it.
    pub representations: Vec<NarFileName>,
    /// The store paths whose narinfos name this file.
    pub store_paths: Vec<StorePathHash>,
    /// The edges that hold it, in the order to ask; after them, where any file of its NAR will do, those of other ones.
    pub peers: Vec<Peer>,
    /// It was made of another file of its NAR, and can be made again of any of them.
    pub recipe: Option<Recipe>,
}

/// How a NAR file was made of another one of its NAR: who does the same gets the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What it was made of. Any other file of the NAR will do as well.
    pub source: NarFileName,
    /// Of zstd.
    pub level: i32,
    /// The library and its version: another one may make other bytes, which decode to the same NAR.
    pub encoder: String,
}

/// Another edge, as seen by the one that may read from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// How it is reached, without a trailing slash.
    pub url: String,
    /// Where it is.
    pub zone: Option<String>,
    /// The file of the same NAR that it holds, where it is not the one asked for.
    pub holds: Option<NarFileName>,
}

/// The signed facts of a NAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NarFacts {
    /// sha256 of the uncompressed NAR.
    pub hash: NarHash,
    /// Its length in bytes.
    pub size: u64,
}

/// Where a NAR file can be fetched again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The upstream's base URL, as configured.
    pub upstream: String,
    /// Its opaque NAR URL: relative to the base, or absolute.
    pub url: String,
    /// The compression of the bytes at that URL. Where the file's own differs, they are decoded on the way.
    pub compression: Compression,
}

/// Whose turn it is to fetch a NAR file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The caller's, to go upstream. These hold the file by now, and are asked first.
    Yours(Vec<Peer>),
    /// Another edge's, at this URL where it has one.
    Theirs(Option<String>),
}

/// A NAR file that lies proven and complete in an edge's store.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Its true name.
    pub name: NarFileName,
    /// Another name under which it was asked for: the metadata was wrong, not the bytes.
    pub asked_as: Option<NarFileName>,
    /// Its size in bytes.
    pub file_size: u64,
    /// What it decodes to, as proven.
    pub nar: NarFacts,
    /// Where the bytes came from.
    pub origin: Option<Origin>,
    /// A client brought them.
    pub uploaded: bool,
    /// They were made of another file of the NAR, which narinfos are to name no longer.
    pub recipe: Option<Recipe>,
    /// The narinfos for which it was served while control was away, as upstreams gave them: published now.
    pub meanwhile: Vec<Publication>,
}

/// Who writes over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The edge that was asked.
    pub instance: String,
    /// The secret of a token, as the client showed it: it is control's to judge what that allows.
    pub secret: Option<Secret>,
}

/// A client's narinfo on its way into the index.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// As the client gave it.
    pub narinfo: NarInfo,
    /// The NAR file that it names.
    pub nar: NarFileName,
    /// That file lies in the edge's store.
    pub held: bool,
    pub writer: Writer,
}

/// What a client is about to do to an object beside narinfos and NARs, which lies with the edge alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectNote {
    pub name: ObjectName,
    pub change: ObjectChange,
    pub by: ChangedBy,
}

/// Who has an edge change an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedBy {
    Client(Writer),
    /// Another edge, whose warrant was redeemed.
    Errand(Bearer),
}

impl ChangedBy {
    /// The edge that changes it.
    pub fn instance(&self) -> &str {
        match self {
            ChangedBy::Client(writer) => &writer.instance,
            ChangedBy::Errand(bearer) => &bearer.instance,
        }
    }
}

/// How an object changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectChange {
    /// It comes in, or takes the place of the one of its name: so many bytes, decoded.
    Uploaded(u64),
    Deleted,
}

/// A report as it is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Of a change of the store, or of the last page of an inventory: the changes up to here are in it. Else 0.
    pub number: u64,
    /// The number of the last directive that the edge has heard.
    pub heard: u64,
    pub report: EdgeReport,
}

impl From<EdgeReport> for Said {
    /// One that counts nothing.
    fn from(report: EdgeReport) -> Said {
        Said { number: 0, heard: 0, report }
    }
}

/// A directive as it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Counts them in a session, without a gap. 0: it overtakes others.
    pub number: u64,
    /// With the first.
    pub welcome: Option<Welcome>,
    pub directive: Directive,
}

impl From<Directive> for Told {
    /// One that counts nothing.
    fn from(directive: Directive) -> Told {
        Told { number: 0, welcome: None, directive }
    }
}

/// Who speaks for control, and what it remembers of an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// Random, of the process.
    pub run: String,
    /// It knows what the edge holds up to this report; `None`: it wants the whole inventory.
    pub resumes: Option<u64>,
}

/// Until where a run of control knew what an edge holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    pub run: String,
    /// The number of the last report that it acknowledged.
    pub heard: u64,
}

/// Other edges whose disks are kept, where what clients brought may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DurableEdges {
    /// How those are reached that can be, without a trailing slash; those included that leave.
    pub urls: Vec<String>,
    /// One can't be reached: what no other has may be there.
    pub away: bool,
}

/// What an edge says on the attach stream.
#[derive(Clone, Debug, PartialEq)]
pub enum EdgeReport {
    /// Who it is. Always the first.
    Hello(Hello),
    /// A page of what its store holds; `last` ends the inventory.
    Inventory { held: Vec<HeldNar>, last: bool },
    /// What it served since the last report.
    Accesses(Accesses),
    /// A file that came into its store since the inventory.
    Committed(HeldNar),
    /// How full its disk is: after the inventory, every few seconds, and at once where a file waits for room.
    Disk(DiskReport),
    /// The answer to an [`Eviction`] with victims, a [`Removal`] or an [`Outdating`], by its number (0 where nobody asked): the files that
    /// are gone. Others of an eviction were in use.
    Evicted { number: u64, gone: Vec<NarFileName> },
    /// An upstream that had no say can be asked again: what was called absent without it may be there.
    UpstreamBack,
    /// What it has counted, and how its upstreams are: after each disk report.
    Totals(Totals),
    /// What a [`Job`] has to say.
    Job(JobReport),
    /// It is to leave, and has finished what ran.
    Drained,
}

/// An edge's disk. All but the number are bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskReport {
    /// Grows with every report, so that an [`Eviction`] can say which ones it settles.
    pub number: u64,
    /// The size of the file system.
    pub total: u64,
    /// What is free of it for programs without privileges.
    pub free: u64,
    /// What the store takes: its NAR files and narinfos, as allocated.
    pub used: u64,
    /// What files need that wait for room.
    pub wanted: u64,
}

/// A NAR file in an edge's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldNar {
    pub name: NarFileName,
    /// In bytes.
    pub file_size: u64,
    /// What it takes on the disk: `st_blocks` × 512.
    pub disk_bytes: u64,
}

/// Hits since the last report, in the order of the last hit of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    pub narinfos: Vec<(StorePathHash, u32)>,
    pub nars: Vec<(NarFileName, u32)>,
}

impl Accesses {
    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.narinfos.is_empty() && self.nars.is_empty()
    }
}

/// What control says on the attach stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Directive {
    /// All that the edge is configured with. Always the first; again when something changed.
    Configure(Box<EdgeSettings>),
    /// The number of the last report that needs not be said again.
    Heard(u64),
    /// Narinfos that changed or went: drop them from memory.
    Invalidate(Vec<StorePathHash>),
    /// Files to be removed from the store.
    Evict(Eviction),
    /// The same, for a client who waits for every edge to know.
    Outdate(Outdating),
    /// Whether the edge is to leave: it finishes what runs and takes on nothing more, until it is told otherwise.
    Drain(bool),
    /// Work to be done in the background. What it has to say comes with this number, which is the session's.
    Job { id: u64, job: Job },
    /// Nobody listens to a job any more.
    EndJob(u64),
    /// Paths that are out of the index.
    Remove(Removal),
    /// An administrator said that the edge belongs to the index of this id from now on. Until then it removes nothing for
    /// an index other than its own.
    AcceptIndex(String),
}

/// A step of an eviction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// To be removed, oldest first. One that is in use stays.
    pub victims: Vec<Victim>,
    /// Nothing more is removed because of the [`DiskReport`]s up to this number: who still has no room now
    /// gets none.
    pub settles: Option<u64>,
    /// What the answer says again.
    pub number: u64,
}

/// Paths that control took out of the index. Their narinfos go from memory and store, and with them the NAR files
/// that nothing names any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// What the answer says again.
    pub number: u64,
    pub store_paths: Vec<StorePathHash>,
    /// What is being read is read on. What is on its way into the store is served to those who wait for it, not kept.
    pub nars: Vec<NarFileName>,
}

/// Narinfos that changed or went. Answered by [`EdgeReport::Evicted`] without files when neither memory nor a lookup
/// that runs answers from before any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outdating {
    /// What the answer says again.
    pub number: u64,
    pub store_paths: Vec<StorePathHash>,
}

/// A NAR file to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    pub name: NarFileName,
    /// The store paths whose narinfos name it: their files in the store go with it.
    pub narinfos: Vec<StorePathHash>,
}

/// All that an edge is configured with by control.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeSettings {
    /// Random, made with the database: tells one index from another.
    pub index_id: String,
    /// The cache's name, as `/` shows it.
    pub hostname: String,
    /// Our keys: the signing key first, then former ones. Empty where narinfos are not signed.
    pub public_keys: Vec<PublicKey>,
    /// In order of priority.
    pub upstreams: Vec<UpstreamSettings>,
    /// What they have in common.
    pub outward: Outward,
    /// An upstream that has been down for so long has no say while another one answers. `None`: never.
    pub give_up_after: Option<Duration>,
    /// The keys of which one must have signed what an upstream says: one pool for all, as in Nix.
    pub trusted_keys: Vec<PublicKey>,
    /// Who may do what over HTTP. Where none of them has [`crate::Scope::Read`], everybody reads.
    pub tokens: Vec<Token>,
    /// What clients may change.
    pub writing: Writing,
    /// What `nix-cache-info` says to clients; lower wins.
    pub priority: u32,
    /// Time for a TCP and TLS connection to an upstream.
    pub connect_timeout: Duration,
    /// Time from a request to an upstream to its response head.
    pub header_timeout: Duration,
    /// Time without a byte after which a body counts as stalled.
    pub idle_timeout: Duration,
    /// Time for one NAR file, all sources and retries included.
    pub transfer_timeout: Duration,
    /// After this long without an answer the next upstream is asked as well.
    pub hedge_delay: Duration,
    /// NAR files fetched at once.
    pub max_downloads: u32,
    /// NAR files that may wait for their turn; past it requests are refused.
    pub max_waiting_downloads: u32,
    /// Streams decoded at once.
    pub max_decoders: u32,
    /// Bytes that running transfers may reserve on the disk.
    pub max_spool_bytes: u64,
    /// Memory for narinfos.
    pub near_cache_bytes: u64,
    /// Answer 404 where an upstream failed and none had it.
    pub absent_on_upstream_failure: bool,
    /// For how long an edge believes that an object beside narinfos and NARs is absent.
    pub negative_ttl: Duration,
    /// After this long an object that may change is asked for again.
    pub object_ttl: Duration,
    /// Disk for objects beside narinfos and NARs.
    pub max_objects_bytes: u64,
    /// Narinfos asked of one upstream at once; others wait.
    pub max_narinfo_requests: u32,
    /// By what the edges of this index know one another; `None` where they don't.
    pub fleet_secret: Option<Secret>,
    /// What a peer gave is kept, too, as far as there is room.
    pub keep_peer_copies: bool,
    /// Bytes on disk that the store may take; `None` is no limit.
    pub max_size: Option<u64>,
    /// Disk space that is left to others.
    pub min_free: MinFree,
    /// What of paths that are not here while control is away.
    pub when_away: WhenAway,
    /// What comes ahead of the requests for it.
    pub look_ahead: LookAhead,
    /// The level of zstd that stored files become; `None`: they stay as they came.
    pub recompress: Option<i32>,
}

/// What an edge gets ahead of a client that has begun to ask for a closure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LookAhead {
    /// Nothing.
    Off,
    /// The narinfos of all that the paths refer to.
    #[default]
    Metadata,
    /// Them, and the NARs of the paths that the client asked for.
    Nars,
}

impl LookAhead {
    /// Every one, by the name that it is configured by.
    pub const NAMED: [(&str, LookAhead); 3] =
        [("off", LookAhead::Off), ("metadata", LookAhead::Metadata), ("nars", LookAhead::Nars)];
}

/// What an edge says of a path that it does not have, in memory or on its disk, while control is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenAway {
    /// What the upstreams say, with their signatures. A client that trusts our key alone refuses that.
    #[default]
    UpstreamSigned,
    /// Nothing: clients come again.
    StoredOnly,
}

impl WhenAway {
    /// Every one, by the name that it is configured by.
    pub const NAMED: [(&str, WhenAway); 2] =
        [("upstream-signed", WhenAway::UpstreamSigned), ("stored-only", WhenAway::StoredOnly)];
}

/// Disk space that is left free: a share of the file system, but no more than some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinFree {
    /// Of the file system's size; 100 and more leave the bytes alone to count.
    pub percent: u32,
    pub at_most: u64,
}

impl MinFree {
    /// All of the disk may be used.
    pub const NOTHING: MinFree = MinFree { percent: 0, at_most: 0 };

    /// In bytes, of a file system of `total` bytes.
    pub fn of(self, total: u64) -> u64 {
        let share = u128::from(total) * u128::from(self.percent) / 100;
        u64::try_from(share).unwrap_or(u64::MAX).min(self.at_most)
    }
}
