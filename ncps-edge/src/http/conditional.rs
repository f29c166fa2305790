//! Conditional requests on NAR files. A file's name is the hash of its bytes, so its ETag is its name: strong,
//! and the same on every edge.

use http::{HeaderMap, header};
use ncps_nix::NarFileName;

use super::range::Part;

pub(super) fn etag(name: NarFileName) -> String {
    format!("\"{name}\"")
}

/// Whether `If-None-Match` names what we would send (RFC 9110, 13.1.2; weak comparison).
pub(super) fn not_modified(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

/// The part that is asked for. An `If-Range` that does not name our ETag, strongly, asks for the whole.
pub(super) fn part(headers: &HeaderMap, etag: &str) -> Part {
    let Some(range) = headers.get(header::RANGE).and_then(|v| v.to_str().ok()) else {
        return Part::Whole;
    };
    match headers.get(header::IF_RANGE) {
        Some(validator) if validator.as_bytes() != etag.as_bytes() => Part::Whole,
        _ => Part::parse(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().expect("a name"), v.parse().expect("a value"))).collect()
    }

    #[test]
    fn if_none_match_compares_weakly_and_takes_lists() {
        for matching in ["\"a\"", "W/\"a\"", "\"x\", \"a\"", "*"] {
            assert!(not_modified(&headers(&[("if-none-match", matching)]), "\"a\""), "{matching}");
        }
        assert!(!not_modified(&headers(&[("if-none-match", "\"b\"")]), "\"a\""));
        assert!(!not_modified(&headers(&[]), "\"a\""));
    }

    #[test]
    fn if_range_must_match_strongly() {
        let part_of = |pairs: &[_]| part(&headers(pairs), "\"a\"");
        assert_eq!(part_of(&[("range", "bytes=1-")]), Part::From(1));
        assert_eq!(part_of(&[("range", "bytes=1-"), ("if-range", "\"a\"")]), Part::From(1));
        for stale in ["\"b\"", "W/\"a\"", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(part_of(&[("range", "bytes=1-"), ("if-range", stale)]), Part::Whole, "{stale}");
        }
    }
}
