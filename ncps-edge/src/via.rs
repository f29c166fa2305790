//! `Via` (RFC 9110, 7.6.3): the caches of our kind that a request has come through. Two that list each other as
//! upstreams must not wait for each other, so a request never comes to the same cache twice, joins no lookup that was
//! begun for another way, and no transfer that reads from whom it came through.

use std::sync::Arc;

use http::{HeaderMap, header};

/// What a cache of ours calls itself: this and the id of its index.
const PREFIX: &str = "ncps-";
/// A longer way is taken for a loop.
const MOST: usize = 16;

/// The index ids of the caches that a request came through, the first one first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Via(Arc<[String]>);

impl Via {
    /// From a client, not from a cache of our kind.
    pub fn direct() -> Via {
        Via(Arc::new([]))
    }

    /// What a request says; proxies of other kinds are left out.
    pub fn of(headers: &HeaderMap) -> Via {
        let values = headers.get_all(header::VIA).iter().filter_map(|value| value.to_str().ok());
        let entries = values.flat_map(|value| value.split(',')).take(4 * MOST);
        // An entry is a protocol, a name, and maybe a comment.
        let names = entries.filter_map(|entry| entry.split_whitespace().nth(1));
        Via(names.filter_map(|name| name.strip_prefix(PREFIX)).take(MOST + 1).map(str::to_owned).collect())
    }

    /// Whether no cache of our kind asks.
    pub fn is_direct(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it came through this one.
    pub(crate) fn names(&self, id: &str) -> bool {
        self.0.iter().any(|one| one == id)
    }

    /// The cache that sent an answer, where it is one of our kind.
    pub(crate) fn nearest(headers: &HeaderMap) -> Option<String> {
        Via::of(headers).0.last().cloned()
    }

    /// Whether it came through the cache `own` before, or through too many.
    pub fn loops(&self, own: &str) -> bool {
        self.0.len() > MOST || self.names(own)
    }

    /// What an edge says when it asks another one of its own cache; nothing where a client asked.
    pub(crate) fn so_far(&self) -> Option<String> {
        let (last, before) = self.0.split_last()?;
        Some(Via(before.into()).onward(last))
    }

    /// What the cache `own` says when it asks on.
    pub(crate) fn onward(&self, own: &str) -> String {
        let ids = self.0.iter().map(String::as_str).chain([own]);
        ids.map(|id| format!("1.1 {PREFIX}{id}")).collect::<Vec<_>>().join(", ")
    }
}

/// The caches in the order in which they were asked, by the ids of their indexes.
impl std::fmt::Display for Via {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(values: &[&str]) -> Via {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::VIA, value.parse().expect("a value"));
        }
        Via::of(&headers)
    }

    #[test]
    fn only_caches_of_our_kind_count() {
        assert!(via(&[]).is_direct() && via(&["1.1 varnish, 1.1 google"]).is_direct());
        let way = via(&["1.1 nginx, 1.1 ncps-a (a comment)", "HTTP/2.0 ncps-b"]);
        assert!(way.loops("a") && way.loops("b") && !way.loops("c") && !way.loops("nginx"));
        assert_eq!(way.onward("c"), "1.1 ncps-a, 1.1 ncps-b, 1.1 ncps-c");
        assert_eq!((way.so_far().as_deref(), via(&[]).so_far()), (Some("1.1 ncps-a, 1.1 ncps-b"), None));
        assert_eq!(via(&[&way.onward("c")]), via(&["1 ncps-a,1 ncps-b,1 ncps-c"]));
    }

    #[test]
    fn a_long_way_is_a_loop() {
        let long = vec!["1.1 ncps-x"; MOST + 1].join(",");
        assert!(via(&[&long]).loops("own"));
        assert!(!via(&[&vec!["1.1 ncps-x"; MOST].join(",")]).loops("own"));
    }
}
