//! The prefetch: paths that an edge fetches before anybody asks for them. Types, conversions, the client's call.

use futures::StreamExt;
use futures::stream::BoxStream;
use ncps_nix::StorePathHash;

use super::RemoteAdmin;
use super::client::ask;
use crate::convert::{all, non_empty, required, store_path_hash, store_path_hash_bytes};
use crate::gen_v1 as wire;
use crate::jobs::{prefetched, prefetched_wire, progress, progress_wire};
use crate::{JobProgress, Prefetched, Result};

/// Paths that may be asked for at once, what they refer to not counted.
pub const MOST_PREFETCHED: usize = 200_000;

/// What is to be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefetchRequest {
    pub paths: Vec<StorePathHash>,
    /// With all that they refer to, and so on.
    pub closure: bool,
    /// By the edge of this name; `None`: by the first one.
    pub edge: Option<String>,
}

/// What is heard of a prefetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefetchNews {
    Progress(JobProgress),
    /// What became of one path.
    Path(Prefetched),
}

/// A prefetch under way: it ends well when all was tried. Dropped, it is called off; what was fetched stays.
pub type PrefetchStream = BoxStream<'static, Result<PrefetchNews>>;

impl RemoteAdmin {
    /// See [`super::AdminPlane::prefetch`].
    ///
    /// # Errors
    /// Those of control, and of the way to it.
    pub async fn prefetch(&self, request: PrefetchRequest) -> Result<PrefetchStream> {
        let news = ask!(self.prefetch(request_wire(request)));
        Ok(news.map(|said| read(said.map_err(crate::grpc::plain)?)).boxed())
    }
}

pub(super) fn request(wire: wire::PrefetchRequest) -> Result<PrefetchRequest> {
    Ok(PrefetchRequest {
        paths: all(wire.store_path_hashes, |hash| store_path_hash(&hash))?,
        closure: wire.closure,
        edge: non_empty(wire.edge),
    })
}

fn request_wire(request: PrefetchRequest) -> wire::PrefetchRequest {
    wire::PrefetchRequest {
        store_path_hashes: request.paths.into_iter().map(store_path_hash_bytes).collect(),
        closure: request.closure,
        edge: request.edge.unwrap_or_default(),
    }
}

fn read(wire: wire::PrefetchNews) -> Result<PrefetchNews> {
    use wire::prefetch_news::News;
    Ok(match required(wire.news, "news")? {
        News::Progress(done) => PrefetchNews::Progress(progress(done)),
        News::Path(path) => PrefetchNews::Path(prefetched(path)?),
    })
}

pub(super) fn news_wire(news: PrefetchNews) -> wire::PrefetchNews {
    use wire::prefetch_news::News;
    let news = match news {
        PrefetchNews::Progress(done) => News::Progress(progress_wire(done)),
        PrefetchNews::Path(path) => News::Path(prefetched_wire(path)),
    };
    wire::PrefetchNews { news: Some(news) }
}
