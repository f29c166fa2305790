//! What is counted of requests. Which labels a request has is an index, so that counting allocates nothing.

use std::sync::Arc;

use ncps_runtime::label;
use ncps_runtime::telemetry::{Counters, Gauges, Histograms, KeyValue, Labels, Telemetry};

use super::names;

label! {
    /// What a request is after.
    pub enum Route in "http.route" {
        /// A path's narinfo.
        Narinfo = "/{hash}.narinfo",
        /// A NAR.
        Nar = "/nar/{file}",
        /// A NAR, for another edge.
        Peer = "/nar/{file} for a peer",
        /// What the cache says of itself.
        CacheInfo = "/nix-cache-info",
        /// Its key.
        PublicKey = "/pubkey",
        /// Both, for scripts.
        About = "/",
        /// Anything else.
        Other = "other",
    }
}

impl Route {
    /// What a request that claims to come from another edge is after.
    pub fn of_peer(path: &str) -> Option<Route> {
        Route::of(path).map(|route| if route == Route::Nar { Route::Peer } else { route })
    }

    /// `None` for what machines ask all the time: probes and `/metrics`.
    pub fn of(path: &str) -> Option<Route> {
        Some(match path {
            "/healthz" | "/readyz" | "/metrics" => return None,
            "/" => Route::About,
            "/nix-cache-info" => Route::CacheInfo,
            "/pubkey" => Route::PublicKey,
            _ if path.starts_with("/nar/") => Route::Nar,
            _ if path.ends_with(".narinfo") && path.rfind('/') == Some(0) => Route::Narinfo,
            _ => Route::Other,
        })
    }

    /// The name in traces.
    pub fn name(self) -> &'static str {
        self.values()[0]
    }
}

label! {
    /// The method of a request.
    pub enum Verb in "http.request.method" {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// One of the others.
        Other = "_OTHER",
    }
}

impl From<&http::Method> for Verb {
    fn from(method: &http::Method) -> Verb {
        match *method {
            http::Method::GET => Verb::Get,
            http::Method::HEAD => Verb::Head,
            _ => Verb::Other,
        }
    }
}

/// The status of an answer; those that we never give are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(usize);

const STATUSES: [i64; 20] =
    [0, 200, 202, 204, 206, 304, 400, 401, 404, 405, 408, 413, 416, 422, 500, 501, 502, 503, 504, 507];

impl From<u16> for Status {
    fn from(status: u16) -> Status {
        Status(STATUSES.iter().position(|known| *known == i64::from(status)).unwrap_or(0))
    }
}

impl Labels for Status {
    const COUNT: usize = STATUSES.len();

    fn names() -> Vec<&'static str> {
        vec!["http.response.status_code"]
    }

    fn all() -> Vec<Status> {
        (0..STATUSES.len()).map(Status).collect()
    }

    fn index(self) -> usize {
        self.0
    }

    fn values(self) -> Vec<&'static str> {
        Vec::new()
    }

    /// A number, as the semantic conventions have it.
    fn pairs(self) -> Vec<KeyValue> {
        vec![KeyValue::new("http.response.status_code", STATUSES[self.0])]
    }
}

/// How a request for a path or a NAR ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// From here.
    Hit,
    /// With the help of an upstream.
    Miss,
    /// It is nowhere.
    Absent,
    /// Refused, or cut.
    Error,
}

impl Labels for Served {
    const COUNT: usize = 4;

    fn names() -> Vec<&'static str> {
        vec!["result", "status"]
    }

    fn all() -> Vec<Served> {
        vec![Served::Hit, Served::Miss, Served::Absent, Served::Error]
    }

    fn index(self) -> usize {
        self as usize
    }

    fn values(self) -> Vec<&'static str> {
        match self {
            Served::Hit => vec!["hit", "success"],
            Served::Miss => vec!["miss", "success"],
            Served::Absent => vec!["absent", "success"],
            Served::Error => vec!["error", "error"],
        }
    }
}

label! {
    /// Where the bytes of a good answer come from.
    pub enum Side in "result" {
        /// Memory, disk or index.
        Here = "hit",
        /// An upstream.
        Upstream = "miss",
    }
}

/// The instruments of requests.
pub struct HttpMetrics {
    pub(crate) duration: Histograms<((Route, Verb), Status)>,
    pub(crate) active: Arc<Gauges<Route>>,
    pub(crate) body_size: Histograms<Route>,
    pub(crate) first_byte: Histograms<Route>,
    pub(crate) narinfos: Arc<Counters<Served>>,
    pub(crate) narinfo_bytes: Arc<Counters<Side>>,
    pub(crate) nars: Arc<Counters<Served>>,
    pub(crate) nar_bytes: Arc<Counters<Side>>,
    pub(crate) saved: Arc<Counters<()>>,
    pub(crate) to_peers: Arc<Counters<Served>>,
    pub(crate) peer_bytes: Arc<Counters<Side>>,
}

impl HttpMetrics {
    pub(super) fn new(telemetry: &Telemetry) -> HttpMetrics {
        HttpMetrics {
            duration: telemetry.histograms(&names::HTTP_DURATION),
            active: telemetry.gauges(&names::HTTP_ACTIVE),
            body_size: telemetry.histograms(&names::HTTP_BODY_SIZE),
            first_byte: telemetry.histograms(&names::FIRST_BYTE),
            narinfos: telemetry.counters(&names::NARINFO_SERVED),
            narinfo_bytes: telemetry.counters(&names::NARINFO_BYTES),
            nars: telemetry.counters(&names::NAR_SERVED),
            nar_bytes: telemetry.counters(&names::NAR_BYTES),
            saved: telemetry.counters(&names::NAR_SAVED),
            to_peers: telemetry.counters(&names::PEER_SERVED),
            peer_bytes: telemetry.counters(&names::PEER_BYTES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_told_by_their_path() {
        assert_eq!(Route::of("/0c0c.narinfo"), Some(Route::Narinfo));
        assert_eq!(Route::of("/nar/x.nar.xz"), Some(Route::Nar));
        assert_eq!(Route::of("/log/x.narinfo"), Some(Route::Other));
        assert_eq!(Route::of("/metrics"), None);
        assert_eq!(Status::from(404).pairs(), [KeyValue::new("http.response.status_code", 404)]);
        assert_eq!(Status::from(299).index(), 0);
    }
}
