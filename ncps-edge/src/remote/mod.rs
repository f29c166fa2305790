//! Control in another process: how it is reached, the token that it is shown, and the deadline that the read path has
//! for it.

mod bearer;
mod channel;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ncps_nix::{NarFileName, NarInfo, StorePathHash};
use ncps_proto::grpc::RemoteControl;
use ncps_proto::{
    Code, Commit, ControlPlane, Directives, Error, Heard, Location, Lookup, ObjectNote, Publication, Reports,
    Result, Turn, Upload, Victim, Writer,
};

use crate::config::ControlLink;
use bearer::{Bearing, TokenFile};

pub use bearer::read as read_token;
pub use channel::dial;

/// How long a reader waits for control before the disk has to do.
pub const DEADLINE: Duration = Duration::from_millis(500);
/// How long a writer waits, who is not to be told that it worked before it is durable.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Control at the other end of `link`, with `deadline` on every call. Nothing is connected yet; a broken link is made
/// anew by the next call.
///
/// # Errors
/// Where a file that is needed for it can't be used.
pub fn connect(link: &ControlLink, deadline: Duration) -> Result<Arc<dyn ControlPlane>> {
    let token = link.token_file.as_deref().map(TokenFile::open).transpose()?;
    let remote = RemoteControl::new(Bearing { channel: channel::lazy(link)?, token });
    Ok(Arc::new(Hurried { plane: Arc::new(remote), deadline }))
}

/// Every unary call answers in time or fails as unavailable.
struct Hurried {
    plane: Arc<dyn ControlPlane>,
    deadline: Duration,
}

impl Hurried {
    async fn in_time<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        within(self.deadline, call).await
    }

    async fn patiently<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        within(self.deadline.max(WRITE_DEADLINE), call).await
    }
}

async fn within<T>(deadline: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(Code::Unavailable, "control did not answer in time")),
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
        match commit.uploaded {
            true => self.patiently(self.plane.commit_nar(instance, commit)).await,
            false => self.in_time(self.plane.commit_nar(instance, commit)).await,
        }
    }

    async fn publish_upload(&self, upload: Upload) -> Result<NarInfo> {
        self.patiently(self.plane.publish_upload(upload)).await
    }

    async fn delete_narinfo(&self, hash: StorePathHash, writer: Writer) -> Result<bool> {
        self.patiently(self.plane.delete_narinfo(hash, writer)).await
    }

    async fn delete_nar(&self, name: NarFileName, writer: Writer) -> Result<Vec<Victim>> {
        self.patiently(self.plane.delete_nar(name, writer)).await
    }

    async fn note_object(&self, note: ObjectNote) -> Result<()> {
        self.patiently(self.plane.note_object(note)).await
    }

    async fn attach(&self, reports: Reports) -> Result<Directives> {
        self.in_time(self.plane.attach(reports)).await
    }
}
