//! The `Range` header (RFC 9110, section 14): one range of bytes. Several ranges, other units and what does not
//! parse are ignored, as the RFC allows: the answer is the whole.

/// What part of a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// `bytes=a-`
    From(u64),
    /// `bytes=a-b`, both included
    Between(u64, u64),
    /// `bytes=-n`
    Last(u64),
}

/// A part of a file of known length, as first byte and one past the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Part {
    pub(super) fn parse(header: &str) -> Part {
        Part::parse_one(header).unwrap_or(Part::Whole)
    }

    fn parse_one(header: &str) -> Option<Part> {
        let (unit, range) = header.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = range.trim().split_once('-')?;
        match (first, last) {
            ("", last) => number(last).map(Part::Last),
            (first, "") => number(first).map(Part::From),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Part::Between(first, last))
            }
        }
    }

    /// The bytes of a file of `length`, or `None` where the range lies beyond its end (416).
    pub(super) fn span(self, length: u64) -> Option<Span> {
        let (from, to) = match self {
            Part::Whole => return Some(Span { from: 0, to: length }),
            Part::From(first) => (first, length),
            Part::Between(first, last) => (first, last.saturating_add(1).min(length)),
            Part::Last(n) => (length.saturating_sub(n), length),
        };
        (from < to).then_some(Span { from, to })
    }
}

/// Digits only: `+1` and ` 1` are not numbers here.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn single_ranges_parse_and_the_rest_is_the_whole() {
        assert_eq!(Part::parse("bytes=0-0"), Part::Between(0, 0));
        assert_eq!(Part::parse("bytes=7-"), Part::From(7));
        assert_eq!(Part::parse("bytes=-10"), Part::Last(10));
        for ignored in
            ["bytes=5-2", "lines=1-2", "bytes=0-1,4-5", "bytes=a-b", "bytes=-", "bytes=+1-", "", "bytes"]
        {
            assert_eq!(Part::parse(ignored), Part::Whole, "{ignored}");
        }
    }

    #[test]
    fn spans_end_with_the_file() {
        assert_eq!(Part::Between(2, 99).span(10), Some(Span { from: 2, to: 10 }));
        assert_eq!(Part::Last(99).span(10), Some(Span { from: 0, to: 10 }));
        for beyond in [Part::From(10), Part::Between(10, 11), Part::Last(0)] {
            assert_eq!(beyond.span(10), None, "{beyond:?}");
        }
        assert_eq!(Part::From(0).span(0), None);
        assert_eq!(Part::Whole.span(0), Some(Span { from: 0, to: 0 }));
    }

    proptest! {
        #[test]
        fn any_header_gives_a_span_within_the_file(header in ".{0,40}", length in any::<u64>()) {
            if let Some(span) = Part::parse(&header).span(length) {
                prop_assert!(span.from <= span.to && span.to <= length);
            }
        }

        #[test]
        fn any_numbers_give_a_span_within_the_file(a in any::<u64>(), b in any::<u64>(), length in any::<u64>()) {
            for header in [format!("bytes={a}-{b}"), format!("bytes={a}-"), format!("bytes=-{b}")] {
                if let Some(span) = Part::parse(&header).span(length) {
                    prop_assert!(span.from <= span.to && span.to <= length);
                }
            }
        }
    }
}
