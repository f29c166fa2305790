//! The seam of administration, in domain words, and its gRPC adapters: [`server`] turns an [`AdminPlane`] into a
//! tonic service, [`RemoteAdmin`] asks one through a channel. Each subject has a file with its types, their
//! conversions and the calls of the client.
//!
//! Apart from [`crate::ControlPlane`], so that an edge has no way to call it. Absent: who may (see [`Caller`]), and
//! how any of it is shown.

mod caller;
mod client;
mod config;
mod edges;
mod events;
mod eviction;
mod integrity;
mod keys;
mod leaving;
mod paths;
mod pins;
mod prefetch;
mod purge;
mod server;
mod stats;
mod tokens;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use ncps_nix::StorePathHash;

use crate::{MadeToken, NewToken, Result, Scope, Secret, TokenInfo};
pub use caller::Caller;
pub use client::RemoteAdmin;
pub use config::Setting;
pub use edges::{KnownEdge, RefusedEdge};
pub use events::{Event, EventKind, EventsWanted};
pub use eviction::{EdgeEviction, EvictStep, EvictionOrder, Goal, Planned};
pub use integrity::{
    AdoptedEdge, BackupPiece, EdgeScrub, Rebuilt, ScrubOrder, ScrubStep, Staged, Steps, Verification,
};
pub use keys::{FormerKey, Keys};
pub use leaving::EdgeRemoval;
pub use paths::{PathDetails, PathPage, PathRow, PathsWanted};
pub use pins::{PinOrder, PinRow, Pinned};
pub use prefetch::{MOST_PREFETCHED, PrefetchNews, PrefetchRequest, PrefetchStream};
pub use purge::{MOST_PURGED, PurgeOrder, PurgeReport, PurgeStep, PurgedPath};
pub use server::{AdminPlaneService, server};
pub use stats::{EdgeState, EdgeStats, Stats, Sum};

/// What happens, one after the other.
pub type Events = BoxStream<'static, Result<Event>>;

/// What people ask of control. Whatever changes something is told who asks.
#[async_trait]
pub trait AdminPlane: Send + Sync + 'static {
    /// The keys of this cache, public halves alone.
    async fn keys(&self) -> Result<Keys>;

    /// Lets a new key sign from here on, named as said or by a name that is made up; the former one stays listed, and
    /// its signatures stay. [`crate::Code::Invalid`] where the key is not control's to replace.
    async fn rotate_key(&self, caller: &Caller, name: Option<String>) -> Result<Keys>;

    /// The secret key, in Nix's format.
    async fn export_key(&self, caller: &Caller) -> Result<Secret>;

    /// What control runs with; secrets are hidden.
    async fn config(&self) -> Result<Vec<Setting>>;

    /// What happened, oldest first; where it is to be followed, then what happens, until control stops. A listener
    /// that does not keep up is cut with [`crate::Code::Overloaded`].
    async fn events(&self, wanted: EventsWanted) -> Result<Events>;

    /// A page of the paths in the index.
    async fn paths(&self, wanted: PathsWanted) -> Result<PathPage>;

    /// Numbers, of edges and upstreams, too.
    async fn stats(&self) -> Result<Stats>;

    /// All that is known of a path: of one that nobody ever asked for, nothing.
    async fn path(&self, hash: StorePathHash) -> Result<PathDetails>;

    /// Has an edge fetch paths. What is here is not fetched again.
    /// [`crate::Code::Invalid`] where nothing is asked for, too much, or no such edge is attached.
    async fn prefetch(&self, caller: &Caller, request: PrefetchRequest) -> Result<PrefetchStream>;

    /// Makes a token, which counts at once at every attached edge. [`crate::Code::Invalid`] where it can't be made as
    /// asked for, [`crate::Code::Overloaded`] where there are too many.
    async fn create_token(&self, caller: &Caller, new: NewToken) -> Result<MadeToken>;

    /// Ends a token, by its name or its id; whoever uses it is cut off. [`crate::Code::Absent`] where there is none,
    /// [`crate::Code::Invalid`] where it was revoked before.
    async fn revoke_token(&self, caller: &Caller, which: &str) -> Result<TokenInfo>;

    /// Every token, in the order in which they were made; those too that were revoked not long ago.
    async fn tokens(&self) -> Result<Vec<TokenInfo>>;

    /// What everybody may do, token or not; `without` a token as if that were not there.
    async fn open_to_all(&self, without: Option<&str>) -> Result<Vec<Scope>>;
    /// Evicts now, after a run that may be under way; of a dry run: says what would go. It goes on when nobody listens
    /// any more. The last step is [`crate::Code::Absent`] where no attached edge has the name.
    async fn evict(&self, caller: &Caller, order: EvictionOrder) -> Result<Steps<EvictStep>>;

    /// Takes what fits out of the cache. It ends when every attached edge has dropped it or is attached no longer, or
    /// early, between two steps, when nobody listens any more.
    /// [`crate::Code::Invalid`] where nothing is chosen by, or a path that is named is pinned;
    /// [`crate::Code::Absent`] where a path is not known, or nothing fits. Nothing is changed then.
    async fn purge(&self, caller: &Caller, order: PurgeOrder) -> Result<Steps<PurgeStep>>;

    /// Keeps a path that is in the index, and all that it needs, from eviction. Where it is pinned under this label
    /// already, the new end counts. [`crate::Code::Absent`] where it is not in the index, [`crate::Code::Invalid`]
    /// where label or time can't be used.
    async fn add_pin(&self, caller: &Caller, order: PinOrder) -> Result<Pinned>;

    /// Ends every pin of a path or a label; answers them. [`crate::Code::Absent`] where there is none.
    async fn remove_pin(&self, caller: &Caller, what: &str) -> Result<Vec<PinRow>>;

    /// Every pin that counts, by label and path.
    async fn pins(&self) -> Result<Vec<PinRow>>;

    /// Whether an attached edge is to leave: it is not ready any more, takes on nothing, finishes what runs and says so
    /// (see [`EdgeStats::state`]); so it is again after a restart, until that is undone. [`crate::Code::Absent`] where no
    /// attached edge has this name.
    async fn drain_edge(&self, caller: &Caller, edge: &str, undo: bool) -> Result<()>;

    /// Takes an edge out of the fleet, that is drained or away: its uploads are copied to another edge whose disk is kept,
    /// where there is one; what only it holds then is absent. It can't come back with its data. Of a dry run: says what
    /// would be lost. [`crate::Code::Absent`] where no edge is known by this name, [`crate::Code::Invalid`] where it takes
    /// part.
    async fn remove_edge(&self, caller: &Caller, edge: &str, dry_run: bool) -> Result<EdgeRemoval>;

    /// Has edges compare what they store with its names. It goes on when nobody listens any more. Overloaded where a
    /// scrub runs, invalid where no attached edge is meant.
    async fn scrub(&self, caller: &Caller, order: ScrubOrder) -> Result<Steps<ScrubStep>>;

    /// Looks at all that can be known of a path now, and changes nothing. `path` is a store path, its base name or
    /// its hash; invalid where it is none of them, absent where the index does not know it.
    async fn verify(&self, path: &str) -> Result<Verification>;

    /// Takes into the index what attached edges hold and it does not know, as far as that proves itself. The edges
    /// belong to this index from then on.
    async fn rebuild_index(&self, caller: &Caller) -> Result<Steps<Rebuilt>>;

    /// A consistent copy of the database, while it is being used.
    async fn backup(&self, caller: &Caller) -> Result<Steps<BackupPiece>>;

    /// Checks a backup and keeps it, to be the database from the next start on. Invalid where it is none.
    async fn restore(&self, caller: &Caller, pieces: Steps<Bytes>) -> Result<Staged>;
}
