//! Who a certificate is for: one URI among its names says the role and the name, `ncps://edge/NAME`,
//! `ncps://durable-edge/NAME` for one whose disk is kept, or `ncps://admin/NAME`. A name is written as in a path: what is no letter, digit, `-`, `.`, `_` or `~` as %XX.
//!
//! Two such URIs are none, since it would not be clear who acts. Names of other kinds, and URIs of others, say nothing: so
//! a server's certificate lets nobody in. Absent: whether its authority is trusted (see [`ncps_runtime::tls`]).

use std::sync::Arc;

use ncps_proto::{Scope, is_name};
use ncps_runtime::tls::clients::Shown;
use percent_encoding::percent_decode_str;
use tokio_util::sync::CancellationToken;

const SCHEME: &str = "ncps://";

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The service that it opens.
    pub(crate) scope: Scope,
    pub(crate) name: String,
    /// It may be an edge that keeps its disk.
    pub(crate) durable: bool,
}

/// A certificate that a connection has shown, of an authority that is trusted.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    identity: Result<Identity, String>,
    shown: Arc<Shown>,
}

impl Certificate {
    pub(crate) fn of(shown: Arc<Shown>) -> Certificate {
        let uris = shown.uris().map_err(|error| format!("{error:#}"));
        Certificate { identity: uris.and_then(|uris| identity(&uris)), shown }
    }

    /// The name in it, if it has one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.identity.as_ref().ok().map(|identity| &*identity.name)
    }

    /// Who may come in with it; else why nobody.
    pub(crate) fn check(&self, scope: Scope) -> Result<&Identity, String> {
        let identity = self.identity.as_ref().map_err(Clone::clone)?;
        let Identity { name, scope: own, .. } = identity;
        if let Some(why) = self.shown.why_over() {
            return Err(format!("certificate {name} counts no more: {why}"));
        }
        if *own != scope {
            return Err(format!("certificate {name} is one of scope {own}, not {scope}"));
        }
        Ok(identity)
    }

    /// Fires when it counts no more.
    pub(crate) fn over(&self) -> CancellationToken {
        self.shown.over.clone()
    }
}

fn identity(uris: &[String]) -> Result<Identity, String> {
    let mut ours = uris.iter().filter_map(|uri| uri.strip_prefix(SCHEME));
    let expected = "one URI such as ncps://edge/NAME or ncps://admin/NAME has to be among its names";
    match (ours.next(), ours.next()) {
        (Some(one), None) => parse(one).ok_or_else(|| format!("the certificate names nobody: {expected}")),
        (None, _) => Err(format!("the certificate says not who it is for: {expected}")),
        (Some(_), Some(_)) => Err(format!("the certificate is for more than one: {expected}")),
    }
}

fn parse(text: &str) -> Option<Identity> {
    let (role, name) = text.split_once('/')?;
    let (scope, durable) = match role {
        "edge" => (Scope::Edge, false),
        "durable-edge" => (Scope::Edge, true),
        "admin" => (Scope::Admin, false),
        _ => return None,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
    let name = percent_decode_str(name).decode_utf8().ok().filter(|_| name.chars().all(plain))?;
    is_name(&name).then(|| Identity { scope, name: name.into_owned(), durable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uris: &[&str]) -> Result<Identity, String> {
        identity(&uris.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn is(scope: Scope, name: &str) -> Result<Identity, String> {
        Ok(Identity { scope, name: name.to_owned(), durable: false })
    }

    #[test]
    fn one_uri_says_the_role_and_the_name() {
        assert_eq!(read(&["ncps://edge/edge-1.lan"]), is(Scope::Edge, "edge-1.lan"));
        assert_eq!(read(&["https://a.test", "ncps://admin/ops", "spiffe://x/y"]), is(Scope::Admin, "ops"));
        let kept = Identity { scope: Scope::Edge, name: "a".to_owned(), durable: true };
        assert_eq!(read(&["ncps://durable-edge/a"]), Ok(kept));
        assert_eq!(read(&["ncps://edge/hall%202%2F%C3%A4"]), is(Scope::Edge, "hall 2/ä"));
    }

    #[test]
    fn everything_else_is_nobody() {
        for uris in [
            &[][..],
            &["https://edge/a"],
            &["ncps://edge/a", "ncps://edge/b"],
            &["ncps://edge/a", "ncps://admin/a"],
            &["ncps://edge/a", "ncps://durable-edge/a"],
            &["ncps://edge/a", "ncps://nonsense"],
        ] {
            assert!(read(uris).is_err(), "{uris:?}");
        }
        let controls = ["ncps://edge/a%0Ab", "ncps://edge/%FF", "ncps://edge/%00"];
        let spelled =
            ["ncps://edge/", "ncps://edge", "ncps://edge/a/b", "ncps://edge/a?b", "ncps://edge/a b"];
        let roles = ["ncps://Edge/a", "ncps://read/a", "ncps:///a", "NCPS://edge/a", "ncps://edge:1/a"];
        for uri in controls.iter().chain(&spelled).chain(&roles) {
            assert!(read(&[uri]).is_err(), "{uri}");
        }
        let long = format!("ncps://edge/{}", "a".repeat(256));
        assert!(read(&[&long]).is_err());
    }
}
