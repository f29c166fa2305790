//! The warm narinfo: from memory, past the routes and layers, which would look for what such a request does not have, like
//! a peer's secret, a way through other caches or a change. What is not plainly one goes the common way, where the same
//! answer is made: nothing else is decided here.

use axum::response::Response;
use http::{Method, Request, header};
use ncps_nix::StorePathHash;
use ncps_proto::Scope;

use super::{Service, narinfo, peer};

/// The answer, where it is near and whoever asks may have it.
pub(super) fn narinfo<B>(service: &Service, request: &Request<B>) -> Option<Response> {
    let hash = plain(request)?;
    let live = service.current.get().ok()?;
    if !service.may(&live.settings, Scope::Read, request.headers()) {
        return None;
    }
    let served = service.lookups.near.get(hash)?;
    service.accesses.narinfo(hash);
    service.ahead.asked_warm(&served);
    Some(narinfo::respond(&served))
}

/// What a client asks for that is no cache of our kind and no edge of our fleet.
fn plain<B>(request: &Request<B>) -> Option<StorePathHash> {
    let hash = request.uri().path().strip_prefix('/')?.strip_suffix(".narinfo")?;
    if *request.method() != Method::GET
        || peer::claims(request)
        || request.headers().contains_key(header::VIA)
    {
        return None;
    }
    StorePathHash::parse(hash).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_plain(method: Method, target: &str, header: Option<&str>) -> bool {
        let mut request = Request::builder().method(method).uri(target);
        if let Some(name) = header {
            request = request.header(name, "1.1 other");
        }
        plain(&request.body(()).expect("a request")).is_some()
    }

    #[test]
    fn only_what_is_plainly_one_goes_past() {
        let target = "/00000000000000000000000000000000.narinfo";
        assert!(is_plain(Method::GET, target, None) && is_plain(Method::GET, target, Some("authorization")));
        assert!(is_plain(Method::GET, &format!("{target}?x=y"), None), "as on the common way");
        for method in [Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert!(!is_plain(method, target, None));
        }
        for header in ["via", "ncps-fleet"] {
            assert!(!is_plain(Method::GET, target, Some(header)), "{header}");
        }
        for other in [
            "/upload/00000000000000000000000000000000.narinfo",
            "/0000000000000000000000000000000.narinfo",
            "/00000000000000000000000000000000.ls",
            "//00000000000000000000000000000000.narinfo",
            "/%30000000000000000000000000000000.narinfo",
        ] {
            assert!(!is_plain(Method::GET, other, None), "{other}");
        }
    }
}
