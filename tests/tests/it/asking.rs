//! Answers taken whole, for tests that compare heads and bodies. Knows no path and no status.

use bytes::Bytes;
use ncps_tests::client::Connection;
use ncps_tests::{Cluster, Headers, Request, Response};

/// A response that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The header without the time of the answer, in the order of the names.
    pub(crate) fn comparable(&self) -> Vec<(String, String)> {
        let fields = self.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date"));
        let mut fields: Vec<_> = fields.map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned())).collect();
        fields.sort();
        fields
    }
}

/// The whole answer to a request.
pub(crate) async fn ask(cluster: &Cluster, request: Request) -> Answer {
    whole(cluster.send(request).await).await
}

/// The whole answer to a GET.
pub(crate) async fn get(cluster: &Cluster, path: &str) -> Answer {
    ask(cluster, Request::get(path)).await
}

/// The answer to a request, which must have no body, whatever it claims: a GET after it on the same connection
/// would trip over one.
pub(crate) async fn bodiless(cluster: &Cluster, request: Request) -> Answer {
    let mut connection = Connection::open(cluster.addr).await.expect("connected");
    let response = connection.send(request).await.expect("answered");
    let (status, headers) = (response.status, response.headers.clone());
    let mut after = connection.get("/healthz").await.expect("nothing lies before the next answer");
    assert_eq!((after.status, &after.whole().await[..]), (200, &b"."[..]));
    Answer { status, headers, body: Bytes::new() }
}

/// The answer to a HEAD.
pub(crate) async fn head(cluster: &Cluster, path: &str) -> Answer {
    bodiless(cluster, Request::head(path)).await
}

async fn whole(mut response: Response) -> Answer {
    let body = response.whole().await;
    Answer { status: response.status, headers: response.headers, body }
}
