//! Who may look at the dashboard: a token of scope admin, as for the administrators' service, and from this host alone,
//! since the port has no TLS and a token must not go over the network in plaintext.
//!
//! It comes as the password of HTTP Basic, for which browsers ask, or as Bearer. Nothing is changed here, and a browser
//! that asks for another site's sake is refused, so that such sites take nobody's place.

use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use ncps_proto::{Scope, tokens};
use tokio_util::sync::CancellationToken;

use crate::Control;
use crate::gate::Gate;
use crate::reply::{Body, TEXT, text};

/// A browser asks its user for it.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"ncps dashboard\", charset=\"UTF-8\"");
/// A browser that asks in the background leaves its user alone.
const QUIET_CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"ncps dashboard\"");

const HOW_TO_LOG_IN: &str = "\
The dashboard asks for a token of scope admin. Make one on control's host:

    ncps-cli token create dashboard --scope admin

and give it as the password, with any user, or as Bearer.
";

const HOW_TO_COME: &str = "\
This port has no TLS, so the dashboard is shown to control's own host alone. Look at it through a tunnel,

    ssh -L 8503:127.0.0.1:8503 HOST

at http://127.0.0.1:8503/, or through a proxy on that host that does TLS. --control-insecure shows it to everybody who has
a token of scope admin, which then goes over the network for others to read.
";

/// The door of the dashboard.
#[derive(Clone)]
pub(super) struct Entry {
    gate: Gate,
    insecure: bool,
}

/// Why somebody may not look.
pub(super) enum Refusal {
    /// What is shown would leave this host in plaintext.
    Plaintext,
    /// A browser asks for another site.
    ForAnotherSite,
    /// No token, or none that counts, and why not.
    Token(Option<String>),
}

impl Entry {
    pub(super) fn new(control: &Control, insecure: bool) -> Entry {
        Entry { gate: control.gate(Scope::Admin, false), insecure }
    }

    /// Returns what fires when the token counts no more.
    pub(super) fn admit(&self, headers: &HeaderMap, peer: IpAddr) -> Result<CancellationToken, Refusal> {
        // A socket for both families shows IPv4 as a part of IPv6.
        if !self.insecure && !peer.to_canonical().is_loopback() {
            return Err(Refusal::Plaintext);
        }
        if is_for_another_site(headers) {
            return Err(Refusal::ForAnotherSite);
        }
        let field = headers.get(AUTHORIZATION).and_then(|field| field.to_str().ok());
        let secret = field.and_then(tokens::shown).ok_or(Refusal::Token(None))?;
        let admitted = self.gate.admit_secret(&secret, peer);
        admitted.map_err(|error| Refusal::Token(Some(error.to_string())))
    }
}

/// Browsers say for whom they ask. To follow a link to the page is all right.
fn is_for_another_site(headers: &HeaderMap) -> bool {
    let is = |name: &str, values: &[&str]| {
        headers.get(name).is_some_and(|said| values.iter().any(|value| said == value))
    };
    is("sec-fetch-site", &["cross-site", "same-site"]) && !is("sec-fetch-mode", &["navigate"])
}

impl Refusal {
    /// `to_page`: it is the user who asks, and not what runs in the page.
    pub(super) fn into_response(self, to_page: bool) -> Response<Body> {
        match self {
            Refusal::Plaintext => text(StatusCode::FORBIDDEN, HOW_TO_COME.to_owned(), TEXT),
            Refusal::ForAnotherSite => text(StatusCode::FORBIDDEN, "not for another site\n".to_owned(), TEXT),
            Refusal::Token(why) => {
                let why = why.map(|why| format!("{why}.\n\n")).unwrap_or_default();
                let mut response = text(StatusCode::UNAUTHORIZED, format!("{why}{HOW_TO_LOG_IN}"), TEXT);
                let challenge = if to_page { CHALLENGE } else { QUIET_CHALLENGE };
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                response
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ncps_proto::admin::Caller;
    use ncps_proto::{Expiry, NewToken};

    use super::*;
    use crate::testing::{House, Upstream, own_key, settings};

    fn status(entered: Result<CancellationToken, Refusal>) -> u16 {
        entered.map_or_else(|refusal| refusal.into_response(true).status().as_u16(), |_| 200)
    }

    #[tokio::test]
    async fn others_than_this_host_come_in_where_somebody_insists() {
        let folder = tempfile::tempdir().expect("a directory");
        let settings = settings(Upstream::new().key.public());
        let house = House::open(folder.path(), own_key(), settings, Duration::from_secs(60)).await;
        let (name, scopes) = ("ops".to_owned(), vec![Scope::Admin]);
        let new = NewToken { name, scopes, edges: Vec::new(), expiry: Expiry::Never };
        let made = house.control.create_token(&Caller { who: "a test".to_owned() }, new).await.expect("made");
        let mut headers = HeaderMap::new();
        let field = format!("Bearer {}", made.secret.reveal());
        headers.insert(AUTHORIZATION, field.parse().expect("a value"));
        for (peer, local) in [
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("fe80::1", false),
            ("0.0.0.0", false),
        ] {
            let peer = peer.parse().expect("an address");
            let [entry, insecure] = [false, true].map(|insecure| Entry::new(&house.control, insecure));
            assert_eq!(status(entry.admit(&headers, peer)), if local { 200 } else { 403 }, "{peer}");
            assert_eq!(status(insecure.admit(&headers, peer)), 200, "{peer}");
            // A browser there is not even asked for a password.
            let without = status(entry.admit(&HeaderMap::new(), peer));
            assert_eq!(without, if local { 401 } else { 403 }, "{peer}");
        }
        house.stop().await;
    }
}
