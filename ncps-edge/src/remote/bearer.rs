//! The token that an edge shows to control, from a file: read at the start, and again when control refuses it, so that
//! another one needs no restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use ncps_proto::{Code, Error, Result, Secret};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;

/// As gRPC numbers it.
const UNAUTHENTICATED: &str = "16";

/// A file with a token in it.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    header: ArcSwap<HeaderValue>,
}

impl TokenFile {
    pub(super) fn open(path: &Path) -> Result<Arc<TokenFile>> {
        let header = ArcSwap::from_pointee(header_of(&read(path)?));
        Ok(Arc::new(TokenFile { path: path.to_owned(), header }))
    }

    /// What was read last stays where the file can't be.
    async fn read_again(&self) {
        let path = self.path.clone();
        let read = crate::store::blocking(move || Ok(read(&path).map(|token| header_of(&token))));
        match read.await.unwrap_or_else(|e| Err(Error::internal("read the token").because(e))) {
            Ok(header) if header == **self.header.load() => {}
            Ok(header) => {
                tracing::info!(file = %self.path.display(), "another token is shown to control from now on");
                self.header.store(Arc::new(header));
            }
            Err(error) => tracing::warn!(error = error.story(), "the token for control can't be read again"),
        }
    }
}

/// The token in a file: its text without what stands around it.
///
/// # Errors
/// [`Code::Invalid`] where there is none to be read, with the path and never the text.
pub fn read(path: &Path) -> Result<Secret> {
    let failed = |why: &str| Error::new(Code::Invalid, format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map(Secret::new);
    let text = text.map_err(|error| failed(&error.to_string()))?;
    match text.reveal().trim() {
        "" => Err(failed("there is no token in it")),
        token if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Secret::new(token)),
        _ => Err(failed("it has characters that no token has")),
    }
}

fn header_of(token: &Secret) -> HeaderValue {
    let value = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
    let mut value = value.expect("a token is visible characters");
    value.set_sensitive(true);
    value
}

/// A channel on which every call shows the token, where there is one.
#[derive(Clone)]
pub(super) struct Bearing {
    pub(super) channel: Channel,
    pub(super) token: Option<Arc<TokenFile>>,
}

impl Service<Request<Body>> for Bearing {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(token) = self.token.clone() else { return Box::pin(self.channel.call(request)) };
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::clone(&token.header.load()));
        let answer = self.channel.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if is_refused(response.headers()) {
                token.read_again().await;
            }
            Ok(response)
        })
    }
}

/// A refusal has no body: its status stands in the head.
fn is_refused(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status == UNAUTHENTICATED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_text_of_a_file() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("token");
        assert!(TokenFile::open(&path).expect_err("absent").story().contains("token"));
        std::fs::write(&path, "\n").expect("written");
        assert!(TokenFile::open(&path).expect_err("empty").story().contains("no token in it"));
        std::fs::write(&path, "s3\ncret").expect("written");
        let error = TokenFile::open(&path).expect_err("two lines").story();
        assert!(error.contains("no token has") && !error.contains("cret"), "{error}");
        std::fs::write(&path, "s3cret\n").expect("written");
        let token = TokenFile::open(&path).expect("read");
        assert_eq!(&**token.header.load(), "Bearer s3cret");
        assert!(!format!("{token:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn another_token_is_found_when_it_is_looked_for() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("token");
        std::fs::write(&path, "old").expect("written");
        let token = TokenFile::open(&path).expect("read");
        std::fs::write(&path, "new").expect("written");
        token.read_again().await;
        assert_eq!(&**token.header.load(), "Bearer new");
        std::fs::remove_file(&path).expect("removed");
        token.read_again().await;
        assert_eq!(&**token.header.load(), "Bearer new");
    }
}
