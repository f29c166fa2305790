//! `Accept-Encoding`: which content codings a client takes (RFC 9110, 12.5.3). Only those that it names: what `*` may
//! mean is not guessed, and a weight that can't be read counts as a refusal.

use http::{HeaderMap, header};

/// Whether every coding of the list `codings` is named, other than with `q=0`.
pub(super) fn accepts(headers: &HeaderMap, codings: &str) -> bool {
    codings.split(',').all(|coding| weight(headers, coding.trim()).is_some_and(|weight| weight > 0.0))
}

/// Whether `coding` is accepted, and wanted no less than what is not encoded at all.
pub(super) fn prefers(headers: &HeaderMap, coding: &str) -> bool {
    let identity = weight(headers, "identity").unwrap_or(0.0);
    weight(headers, coding).is_some_and(|weight| weight > 0.0 && weight >= identity)
}

/// From 0 to 1; `None` where the coding is not named.
fn weight(headers: &HeaderMap, coding: &str) -> Option<f32> {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut items = values.flat_map(|value| value.split(','));
    items.find_map(|item| {
        let (named, parameters) = item.split_once(';').unwrap_or((item, ""));
        named.trim().eq_ignore_ascii_case(coding).then(|| quality(parameters))
    })
}

fn quality(parameters: &str) -> f32 {
    let parameters = parameters.trim();
    if parameters.is_empty() {
        return 1.0;
    }
    let value = parameters.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    let value = value.and_then(|(_, value)| value.trim().parse::<f32>().ok());
    value.filter(|value| (0.0..=1.0).contains(value)).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let named = |value: &&str| (header::ACCEPT_ENCODING, value.parse().expect("a value"));
        values.iter().map(named).collect()
    }

    #[test]
    fn codings_are_accepted_by_name() {
        let accepts = |value: &str, codings| accepts(&headers(&[value]), codings);
        assert!(accepts("zstd, deflate", "deflate"));
        assert!(accepts("Deflate;q=0.5", "deflate"));
        assert!(accepts("gzip, br", "gzip, br"));
        assert!(!accepts("gzip", "gzip, br"));
        assert!(!accepts("deflate;q=0", "deflate"));
        assert!(!accepts("*", "deflate"));
    }

    #[test]
    fn weights_are_honoured() {
        for yes in
            ["zstd", "gzip, zstd ; q=0.1", "br;q=1, ZSTD;Q=1.000", "identity;q=0.5, zstd", "zstd, identity"]
        {
            assert!(prefers(&headers(&[yes]), "zstd"), "{yes}");
        }
        for no in
            ["", "gzip", "*", "zstd;q=0", "zstd; q=0.000", "zstd;q=high", "zstd;q=2", "identity, zstd;q=0.9"]
        {
            assert!(!prefers(&headers(&[no]), "zstd"), "{no}");
        }
        assert!(prefers(&headers(&["gzip", "zstd"]), "zstd"), "several lines are one list");
        assert!(!prefers(&headers(&[]), "zstd"));
    }
}
