//! The seam between the planes. An edge holds an `Arc<dyn ControlPlane>` and can't tell whether control runs
//! in its own process or behind a socket. Three implementations pass the suite in [`crate::conformance`]: the
//! in-memory fake, control itself, and control through the gRPC adapters.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use ncps_nix::{NarFileName, NarInfo, StorePathHash};

use crate::{
    Bearer, Commit, DurableEdges, Errand, Heard, Location, Lookup, ObjectNote, Publication, Result, Said,
    Told, Turn, Upload, Victim, Warrants, Writer,
};

/// What an edge says to control.
pub type Reports = BoxStream<'static, Said>;

/// What control says to an edge. An error, or the end, is a break: attach again from the start.
pub type Directives = BoxStream<'static, Result<Told>>;

/// The use cases of control that edges need. All of them may be called by any number of tasks at once, and
/// all but [`ControlPlane::redeem`] may be repeated: a call whose answer was lost is simply made again.
#[async_trait]
pub trait ControlPlane: Send + Sync + 'static {
    /// What is known of a store path. Absence and ignorance are answers, an error is trouble.
    async fn narinfo(&self, hash: StorePathHash) -> Result<Lookup>;

    /// Verifies, signs and stores an upstream's narinfo, and returns the one stored version: the first
    /// publication of a path wins, and every later one gets what the first made, unless it `replaces`.
    /// [`crate::Code::Invalid`] where no trusted key signed it and no CA proves it.
    async fn publish_narinfo(&self, publication: Publication) -> Result<NarInfo>;

    /// Every upstream with a say answered "absent". Returns for how long that is believed, or until
    /// [`crate::EdgeReport::UpstreamBack`] where not all were [heard](Heard). A path that is known stays known.
    async fn publish_absent(&self, hash: StorePathHash, heard: Heard) -> Result<Duration>;

    /// No source has this NAR any more and no upstream knows the path: it becomes absent, if its narinfo
    /// still names `nar`. [`crate::Code::Unavailable`] where it was uploaded and may lie at an edge that is not reached.
    async fn retract_narinfo(&self, hash: StorePathHash, nar: NarFileName) -> Result<()>;

    /// Where the bytes can come from; `None` for a name that no narinfo or commit ever mentioned. An
    /// uncompressed NAR is mentioned with every other representation of it. `instance` is who asks, and no peer of
    /// itself.
    async fn locate(&self, instance: &str, name: NarFileName) -> Result<Option<Location>>;

    /// Asks for the turn to fetch a file from upstream, or for more time where the caller has it. Turns save bandwidth
    /// and protect nothing: they expire, and a second commit of the same bytes is one more copy.
    ///
    /// `failed` are the URLs of edges whose turn it was when the caller asked before, and from which it could not read
    /// the file: the empty one stands for an edge without a URL. A turn of theirs goes over to the caller.
    async fn begin_fetch(&self, instance: &str, name: NarFileName, failed: &[String]) -> Result<Turn>;

    /// Gives the turn back without a commit.
    async fn end_fetch(&self, instance: &str, name: NarFileName) -> Result<()>;

    /// A file lies proven in the edge's store: ends the turn, notes the placement, and returns every narinfo
    /// that names the file. With `asked_as` those narinfos are corrected first, and the old name becomes an
    /// alias. What it was served for `meanwhile` is published before, like any publication, unless it was removed.
    async fn commit_nar(&self, instance: &str, commit: Commit) -> Result<Vec<NarInfo>>;

    /// Admits, signs and stores a client's narinfo, and returns the stored version: durable when this answers, and no
    /// attached edge answers from before any more.
    /// It is admitted where a trusted key signed it, where its CA proves it, or where the writer's token has
    /// [`crate::Scope::Sign`]. The signatures of a path that is there with the same NAR are added to.
    /// [`crate::Code::Refused`], with what the client may do about it, where it is not admitted, where its NAR
    /// is not stored or is another one, and where the path is there with another NAR.
    async fn publish_upload(&self, upload: Upload) -> Result<NarInfo>;

    /// Forgets a narinfo for a client, at every attached edge when this answers; upstreams may bring the path again.
    /// False where it is not known. [`crate::Code::Unauthenticated`] where the writer's token does not allow it.
    async fn delete_narinfo(&self, hash: StorePathHash, writer: Writer) -> Result<bool>;

    /// Forgets a NAR for a client, with all its representations: other attached edges have removed them when this
    /// answers, the caller removes those that are returned. Narinfos of which no upstream could give the NAR again go with it.
    /// [`crate::Code::Unauthenticated`] where the writer's token does not allow it.
    async fn delete_nar(&self, name: NarFileName, writer: Writer) -> Result<Vec<Victim>>;

    /// A client changes an object of the edge: in the audit log when this answers. [`crate::Code::VerbOff`] where clients
    /// may not do that, [`crate::Code::Unauthenticated`] where the writer's token, or the warrant, does not allow it.
    async fn note_object(&self, note: ObjectNote) -> Result<()>;

    /// Has other edges do for a client what the caller can't, as far as its token allows it: they see a warrant in place of
    /// that. [`crate::Code::VerbOff`] where clients may not do that, [`crate::Code::Unauthenticated`] where the token does
    /// not allow it.
    async fn warrant(&self, errand: Errand, writer: Writer) -> Result<Warrants>;

    /// An edge is about to do an errand. [`crate::Code::Unauthenticated`] where the warrant is not for it, or was shown
    /// before: of all calls this one alone can't be repeated.
    async fn redeem(&self, bearer: Bearer, errand: Errand) -> Result<()>;

    /// Where else than at the caller may be what clients brought.
    async fn durable_edges(&self, instance: &str) -> Result<DurableEdges>;

    /// The peer at this URL is said to hold a file and did not give it, or gave something else. It is named to nobody
    /// until it has looked. What an edge holds is its own to say: nothing else becomes of the word of another.
    async fn doubt_placement(&self, instance: &str, peer: &str, name: NarFileName) -> Result<()>;

    /// Joins an edge to control. The first report is [`crate::EdgeReport::Hello`], the first directive
    /// [`crate::Directive::Configure`]; when either stream ends the session is over and its turns are free.
    async fn attach(&self, reports: Reports) -> Result<Directives>;
}
