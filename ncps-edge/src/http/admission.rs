//! What is let in: so many requests at once, of heads that are not too long. Past a limit a request is refused at
//! once and clearly; health is always answered.

use std::sync::Arc;

use axum::response::Response;
use http::{Request, StatusCode};
use ncps_proto::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::reply;

/// Bytes of a path with its query. The longest name that means anything has 300, encoded 900.
const MAX_URI: usize = 4096;
/// Bytes of all header fields.
pub(super) const MAX_HEADERS: usize = 32 << 10;
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// The requests in flight.
#[derive(Clone, Debug)]
pub(super) struct Admission(Arc<Semaphore>);

/// The right to be in flight, until the body of the response has ended.
pub(super) type Turn = Option<OwnedSemaphorePermit>;

impl Admission {
    pub(super) fn new(requests: usize) -> Admission {
        Admission(Arc::new(Semaphore::new(requests.min(Semaphore::MAX_PERMITS))))
    }

    /// A turn, or the refusal.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<Turn, Box<Response>> {
        if let Some((status, text)) = too_long(request) {
            return Err(Box::new(reply::text(status, text.to_owned())));
        }
        if HEALTH.contains(&request.uri().path()) {
            return Ok(None);
        }
        let turn = Arc::clone(&self.0).try_acquire_owned();
        turn.map(Some).map_err(|_| Box::new(reply::of_code(Code::Overloaded)))
    }
}

fn too_long<B>(request: &Request<B>) -> Option<(StatusCode, &'static str)> {
    let uri = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if uri > MAX_URI {
        return Some((StatusCode::URI_TOO_LONG, "the URI is longer than 4 KiB\n"));
    }
    (headers > MAX_HEADERS)
        .then_some((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the header is longer than 32 KiB\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, header: usize) -> Request<()> {
        let request = Request::builder().uri(target).header("x", "y".repeat(header));
        request.body(()).expect("a request")
    }

    fn status(admission: &Admission, request: &Request<()>) -> u16 {
        admission.admit(request).map_or_else(|refused| refused.status().as_u16(), |_| 200)
    }

    #[test]
    fn a_turn_is_held_until_it_is_dropped() {
        let admission = Admission::new(1);
        let turn = admission.admit(&request("/", 1)).expect("the first");
        let refused = admission.admit(&request("/", 1)).expect_err("the second");
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        assert_eq!(status(&admission, &request("/healthz", 1)), 200);
        drop(turn);
        assert_eq!(status(&admission, &request("/", 1)), 200);
    }

    #[test]
    fn long_heads_are_refused() {
        let admission = Admission::new(1);
        let path = |len: usize| format!("/{}", "a".repeat(len - 1));
        assert_eq!(status(&admission, &request(&path(MAX_URI), 1)), 200);
        assert_eq!(status(&admission, &request(&path(MAX_URI + 1), 1)), 414);
        assert_eq!(status(&admission, &request("/", MAX_HEADERS - 1)), 200);
        assert_eq!(status(&admission, &request("/", MAX_HEADERS)), 431);
    }
}
