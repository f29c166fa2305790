//! What can be wrong with an upstream's answer. Absence is not in here: that is an answer.

use std::time::Duration;

use ncps_nix::NarInfoError;
use ncps_proto::Code;

use super::outward::Forbidden;

/// Why an upstream's answer is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    #[error("no answer in time")]
    Timeout,
    #[error("the body stalled")]
    Stalled,
    #[error("it failed too often just now and is left alone")]
    Paused,
    #[error("it asked for a pause, of which {0:?} are left")]
    Waiting(Duration),
    #[error("it asks to be left alone for {0:?}")]
    Busy(Duration),
    #[error("more than 10 redirects")]
    Redirects,
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    Transport(String),
    #[error("status {0}{hint}", hint = hint(*.0))]
    Status(u16),
    #[error("the body has a Content-Encoding that was not asked for")]
    Encoded,
    #[error("the body is no JSON object")]
    NotJson,
    #[error("the URL {0:?} can't be used")]
    BadUrl(String),
    #[error("the narinfo is longer than 1 MiB")]
    TooLong,
    #[error("the narinfo is malformed: {0}")]
    Malformed(String),
    #[error("the narinfo is of another path, {0}")]
    OtherPath(String),
    #[error("no trusted key signed the narinfo and no CA proves its path")]
    Untrusted,
    #[error("the answer to a range request does not continue at byte {0}")]
    WrongRange(u64),
    #[error("it offers {offered} bytes where {expected} are expected")]
    WrongLength { offered: u64, expected: u64 },
    #[error("the body ended after {0} bytes")]
    Cut(u64),
    #[error("the body has more bytes than expected")]
    TooMuch,
    #[error("the bytes are not what their name says")]
    WrongBytes,
    #[error("the bytes can't be decoded: {0}")]
    Undecodable(String),
    #[error("its bytes proved wrong before")]
    Distrusted,
    #[error("control did not say by what edges know one another")]
    Stranger,
}

/// What to do about a status, where that is clear.
fn hint(status: u16) -> &'static str {
    match status {
        401 => ": it wants a login, from --netrc-file or in its URL",
        407 => ": the proxy wants a login, in its variable",
        _ => "",
    }
}

impl UpstreamError {
    /// What the client is told where nobody else had it.
    pub fn code(&self) -> Code {
        match self {
            UpstreamError::Timeout | UpstreamError::Stalled => Code::UpstreamTimeout,
            _ => Code::UpstreamFailed,
        }
    }

    /// The pause after which the upstream may be asked again, where it said so.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self {
            UpstreamError::Busy(pause) | UpstreamError::Waiting(pause) => Some(*pause),
            _ => None,
        }
    }

    /// Whether the upstream could not be heard, and may have what it was asked for.
    pub(super) fn is_silence(&self) -> bool {
        self.is_outage() || *self == UpstreamError::Paused || self.pause().is_some()
    }

    /// Whether the upstream itself seems to be down: what its breaker counts.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            UpstreamError::Timeout | UpstreamError::Stalled | UpstreamError::Transport(_) => true,
            // A bare 500 is mostly about one path. From 520 on Cloudflare speaks of the server behind it.
            UpstreamError::Status(status) => matches!(status, 502..=504 | 520..=527),
            _ => false,
        }
    }
}

impl From<reqwest::Error> for UpstreamError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return UpstreamError::Timeout;
        }
        match forbidden(&error) {
            Some(forbidden) => UpstreamError::Forbidden(forbidden.to_string()),
            None => UpstreamError::Transport(story(&error.without_url())),
        }
    }
}

impl From<NarInfoError> for UpstreamError {
    fn from(error: NarInfoError) -> Self {
        UpstreamError::Malformed(error.to_string())
    }
}

fn forbidden<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Forbidden> {
    error.downcast_ref().or_else(|| error.source().and_then(forbidden))
}

/// The whole chain: the outer layers of a transport error hide the cause, which is what the operator needs.
fn story(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", story(cause)),
        None => error.to_string(),
    }
}
