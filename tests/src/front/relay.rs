//! One request passed on to the upstream, and its answer back, body and all, as they come.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;

use super::counts::Active;

/// What belongs to one connection, and to HTTP/1.1 alone.
const OF_A_CONNECTION: [HeaderName; 3] =
    [CONNECTION, TRANSFER_ENCODING, HeaderName::from_static("keep-alive")];

#[derive(Debug)]
pub(super) struct Relay {
    client: Client<HttpConnector, Incoming>,
    target: SocketAddr,
}

/// An answer's body, and the request that counts until it has ended.
pub(super) struct Passed {
    body: Incoming,
    _active: Active,
}

impl Relay {
    pub(super) fn to(target: SocketAddr) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        // What is asked once must be asked once, and a kept connection may be closed in between.
        builder.pool_max_idle_per_host(0).retry_canceled_requests(false);
        Self { client: builder.build_http(), target }
    }

    pub(super) async fn pass(
        &self,
        request: Request<Incoming>,
        active: Active,
    ) -> Result<Response<Passed>, Error> {
        let (mut head, body) = request.into_parts();
        let authority = head.uri.authority().map(|authority| authority.to_string());
        head.uri = self.target_uri(head.uri.path_and_query());
        head.version = http::Version::HTTP_11;
        undress(&mut head.headers);
        if let Some(host) = authority.and_then(|authority| HeaderValue::try_from(authority).ok()) {
            head.headers.entry(HOST).or_insert(host);
        }
        let answer = self.client.request(Request::from_parts(head, body)).await?;
        let (mut head, body) = answer.into_parts();
        undress(&mut head.headers);
        head.version = http::Version::default();
        Ok(Response::from_parts(head, Passed { body, _active: active }))
    }

    fn target_uri(&self, path: Option<&PathAndQuery>) -> Uri {
        let builder = Uri::builder().scheme("http").authority(self.target.to_string());
        let uri = builder.path_and_query(path.map_or("/", PathAndQuery::as_str)).build();
        uri.expect("its path was one a moment ago")
    }
}

fn undress(headers: &mut HeaderMap) {
    for name in OF_A_CONNECTION {
        headers.remove(name);
    }
}

impl Body for Passed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
