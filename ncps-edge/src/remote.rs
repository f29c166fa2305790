//! Control behind a socket: the channel, and the deadline that the read path has for it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use ncps_nix::{NarFileName, NarInfo, StorePathHash};
use ncps_proto::grpc::RemoteControl;
use ncps_proto::{
    Code, Commit, ControlPlane, Directives, Error, Heard, Location, Lookup, Publication, Reports, Result,
    Turn,
};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::Service;

use crate::config::ControlUrl;

/// How long a reader waits for control before the disk has to do.
pub const DEADLINE: Duration = Duration::from_millis(500);
/// A link that answers no ping for this long is dead, whatever TCP believes.
const PING: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Control at `url`, with `deadline` on every call. Nothing is connected yet; a broken link is made anew by
/// the next call.
pub fn connect(url: &ControlUrl, deadline: Duration) -> Result<Arc<dyn ControlPlane>> {
    let remote = RemoteControl::new(channel(url)?);
    Ok(Arc::new(Hurried { plane: Arc::new(remote), deadline }))
}

fn channel(url: &ControlUrl) -> Result<Channel> {
    match url {
        ControlUrl::Http(url) => Ok(endpoint(url.to_string())?.connect_lazy()),
        ControlUrl::Unix(path) => unix(vec![path.clone()]),
        ControlUrl::FirstOf(paths) => unix(paths.clone()),
    }
}

/// A link to whatever control serves at `url`, which is there when this returns.
///
/// # Errors
/// [`Code::Unavailable`] with every place that was tried.
pub async fn dial(url: &ControlUrl) -> Result<Channel> {
    let dialled = match url {
        ControlUrl::Http(url) => endpoint(url.to_string())?.connect().await,
        ControlUrl::Unix(path) => local()?.connect_with_connector(sockets(vec![path.clone()])).await,
        ControlUrl::FirstOf(paths) => local()?.connect_with_connector(sockets(paths.clone())).await,
    };
    dialled.map_err(|e| Error::new(Code::Unavailable, "control can't be reached").because(e))
}

fn endpoint(url: String) -> Result<Endpoint> {
    let endpoint = Endpoint::from_shared(url).map_err(|e| Error::internal("control's URL").because(e))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true))
}

fn unix(paths: Vec<PathBuf>) -> Result<Channel> {
    Ok(local()?.connect_with_connector_lazy(sockets(paths)))
}

/// The authority is never looked at.
fn local() -> Result<Endpoint> {
    endpoint("http://control".to_owned())
}

/// Connects to the first of these sockets that can be; looked for anew at each connection.
fn sockets(
    paths: Vec<PathBuf>,
) -> impl Service<Uri, Response = TokioIo<UnixStream>, Error = io::Error, Future: Send> + Send + 'static {
    tower::service_fn(move |_| {
        let paths = paths.clone();
        async move { first_of(&paths).await.map(TokioIo::new) }
    })
}

async fn first_of(paths: &[PathBuf]) -> io::Result<UnixStream> {
    let mut tried = Vec::new();
    for path in paths {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => tried.push(format!("{}: {error}", path.display())),
        }
    }
    Err(io::Error::other(tried.join("; ")))
}

/// Every unary call answers in time or fails as unavailable.
struct Hurried {
    plane: Arc<dyn ControlPlane>,
    deadline: Duration,
}

impl Hurried {
    async fn in_time<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.deadline, call).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(Code::Unavailable, "control did not answer in time")),
        }
    }
}

#[async_trait]
impl ControlPlane for Hurried {
    async fn narinfo(&self, hash: StorePathHash) -> Result<Lookup> {
        self.in_time(self.plane.narinfo(hash)).await
    }

    async fn publish_narinfo(&self, publication: Publication) -> Result<NarInfo> {
        self.in_time(self.plane.publish_narinfo(publication)).await
    }

    async fn publish_absent(&self, hash: StorePathHash, heard: Heard) -> Result<Duration> {
        self.in_time(self.plane.publish_absent(hash, heard)).await
    }

    async fn retract_narinfo(&self, hash: StorePathHash, nar: NarFileName) -> Result<()> {
        self.in_time(self.plane.retract_narinfo(hash, nar)).await
    }

    async fn locate(&self, name: NarFileName) -> Result<Option<Location>> {
        self.in_time(self.plane.locate(name)).await
    }

    async fn begin_fetch(&self, instance: &str, name: NarFileName) -> Result<Turn> {
        self.in_time(self.plane.begin_fetch(instance, name)).await
    }

    async fn end_fetch(&self, instance: &str, name: NarFileName) -> Result<()> {
        self.in_time(self.plane.end_fetch(instance, name)).await
    }

    async fn commit_nar(&self, instance: &str, commit: Commit) -> Result<Vec<NarInfo>> {
        self.in_time(self.plane.commit_nar(instance, commit)).await
    }

    async fn attach(&self, reports: Reports) -> Result<Directives> {
        self.in_time(self.plane.attach(reports)).await
    }
}
