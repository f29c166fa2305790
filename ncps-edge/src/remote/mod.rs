//! Control in another process: how it is reached, the token that it is shown, the deadline that the read path has for
//! it, and what keeps requests from waiting for one that does not answer.

mod bearer;
mod channel;
mod guarded;
mod reach;
mod secure;

use std::sync::Arc;
use std::time::Duration;

use ncps_proto::grpc::RemoteControl;
use ncps_proto::{ControlPlane, Result};

use crate::config::ControlLink;
use bearer::{Bearing, TokenFile};

pub use bearer::read as read_token;
pub use channel::dial;
pub(crate) use guarded::Guarded;
pub(crate) use reach::NOBODYS;

/// How long a reader waits for control before the disk has to do.
pub const DEADLINE: Duration = Duration::from_millis(500);

/// The way to control.
pub struct ControlPath {
    /// Control, without the deadline.
    pub plane: Arc<dyn ControlPlane>,
    /// For every call of a reader; `None` where control is in the same process and can't be out of reach.
    pub(crate) deadline: Option<Duration>,
}

impl From<Arc<dyn ControlPlane>> for ControlPath {
    fn from(plane: Arc<dyn ControlPlane>) -> Self {
        ControlPath { plane, deadline: None }
    }
}

/// Control at the other end of `link`, with `deadline` on every call. Nothing is connected yet; a broken link is made
/// anew by the next call.
///
/// # Errors
/// Where a file that is needed for it can't be used.
pub fn connect(link: &ControlLink, deadline: Duration) -> Result<ControlPath> {
    let token = link.token_file.as_deref().map(TokenFile::open).transpose()?;
    let remote = RemoteControl::new(Bearing { channel: channel::lazy(link)?, token });
    Ok(ControlPath { plane: Arc::new(remote), deadline: Some(deadline) })
}
