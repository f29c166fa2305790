//! The `Range` header of one range, as a good server reads it (RFC 9110, section 14). Several
//! ranges in one header are ignored, as a server may.

/// What a Range header asks of a body of a known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing that we understand: everything is sent.
    Whole,
    /// The bytes from the first to before the second.
    Part(u64, u64),
    /// Nothing that exists: 416.
    Beyond,
}

/// Reads `bytes=a-b`, `bytes=a-` and `bytes=-n`.
pub(crate) fn parse(value: &str, len: u64) -> Asked {
    let Some((first, last)) = value.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Asked::Whole;
    };
    match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (Some(first), Some(last)) if first > last => Asked::Whole,
        (Some(first), Some(last)) => part(first, last.saturating_add(1).min(len), len),
        (Some(first), None) if last.is_empty() => part(first, len, len),
        (None, Some(count)) if first.is_empty() => part(len - count.min(len), len, len),
        _ => Asked::Whole,
    }
}

const fn part(from: u64, to: u64, len: u64) -> Asked {
    if from < len { Asked::Part(from, to) } else { Asked::Beyond }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (value, expected) in [
            ("bytes=0-0", Asked::Part(0, 1)),
            ("bytes=3-", Asked::Part(3, 10)),
            ("bytes=3-5", Asked::Part(3, 6)),
            ("bytes=3-99", Asked::Part(3, 10)),
            ("bytes=9-9", Asked::Part(9, 10)),
            ("bytes=-4", Asked::Part(6, 10)),
            ("bytes=-99", Asked::Part(0, 10)),
            ("bytes=-0", Asked::Beyond),
            ("bytes=10-", Asked::Beyond),
            ("bytes=10-12", Asked::Beyond),
            ("bytes=5-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=x-", Asked::Whole),
            ("bytes=1-x", Asked::Whole),
            ("lines=1-2", Asked::Whole),
        ] {
            assert_eq!(parse(value, 10), expected, "{value}");
        }
        assert_eq!(parse("bytes=0-", 0), Asked::Beyond);
    }
}
