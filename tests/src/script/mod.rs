//! What a scripted upstream does to requests: rules of "which requests", "how often" and "what".
//!
//! All rules that match a request apply to it together, in the order in which they were added;
//! where two say different things, the later one wins.

mod behaviour;
mod content;
mod page;
mod passes;
mod timing;

pub(crate) use behaviour::{Behaviour, End, SendsOn, Zstd};
pub use behaviour::{Cut, Framing};
pub use page::Page;
pub use passes::Passes;
pub(crate) use passes::expired;

/// One rule: for which requests, how often, and what it does to them.
#[derive(Debug, Clone)]
pub struct Rule {
    pattern: String,
    method: Option<String>,
    ranged: Option<bool>,
    skip: u64,
    left: Option<u64>,
    pub(crate) does: Behaviour,
    pub(crate) hits: u64,
}

/// For which requests, and how often.
impl Rule {
    /// For paths that match `pattern`, where `*` stands for any text; the query is not looked
    /// at. `*` alone is everything.
    pub fn on(pattern: &str) -> Self {
        Self {
            pattern: pattern.to_owned(),
            method: None,
            ranged: None,
            skip: 0,
            left: None,
            does: Behaviour::default(),
            hits: 0,
        }
    }

    /// Only for this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only for requests with a Range header (true), or without one (false).
    #[must_use]
    pub const fn ranged(mut self, ranged: bool) -> Self {
        self.ranged = Some(ranged);
        self
    }

    /// Only for the next `n` requests that match.
    #[must_use]
    pub const fn times(mut self, n: u64) -> Self {
        self.left = Some(n);
        self
    }

    /// Not for the first `n` requests that match.
    #[must_use]
    pub const fn after(mut self, n: u64) -> Self {
        self.skip = n;
        self
    }

    /// Whether it applies to this request; if so, one of its times is used.
    pub(crate) fn take(&mut self, method: &str, path: &str, ranged: bool) -> bool {
        if !self.matches(method, path, ranged) || self.left == Some(0) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.left = self.left.map(|left| left - 1);
        self.hits += 1;
        true
    }

    fn matches(&self, method: &str, path: &str, ranged: bool) -> bool {
        let method_fits = self.method.as_deref().is_none_or(|wanted| wanted == method);
        let range_fits = self.ranged.is_none_or(|wanted| wanted == ranged);
        method_fits && range_fits && glob(&self.pattern, path)
    }
}

/// Whether `text` matches a pattern in which `*` stands for any text.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(first) else {
        return false;
    };
    let from_here = |start| text.get(start..).is_some_and(|text| glob(rest, text));
    (0..=text.len()).any(from_here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "/nar/x", true),
            ("/nar/*", "/nar/x", true),
            ("/nar/*", "/narx", false),
            ("*.narinfo", "/abc.narinfo", true),
            ("*.narinfo", "/abc.narinfo2", false),
            ("/*b*d", "/abcd", true),
            ("/a", "/a", true),
            ("/a", "/ab", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn counts_are_used_up() {
        let mut rule = Rule::on("/a").after(1).times(2);
        let taken: Vec<_> = (0..5).map(|_| rule.take("GET", "/a", false)).collect();
        assert_eq!(taken, [false, true, true, false, false]);
        assert_eq!(rule.hits, 2);
    }

    #[test]
    fn method_and_range_are_looked_at() {
        let mut rule = Rule::on("*").method("GET").ranged(true);
        assert!(rule.take("GET", "/", true));
        assert!(!rule.take("HEAD", "/", true));
        assert!(!rule.take("GET", "/", false));
    }

    #[test]
    fn the_later_rule_wins() {
        let mut both = Rule::on("*").status(503).throttle(5).does;
        both.and_then(&Rule::on("*").status(200).flip(1).does);
        assert_eq!((both.status, both.throttle, both.flips), (Some(200), Some(5), vec![1]));
    }
}
