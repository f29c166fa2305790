//! What is wrong with a configuration: all of it, not the first thing.
//!
//! Also what may be shown of a value: nothing of a secret, and of a URL not the user and password in it.

use std::fmt;

use super::field::Field;

/// Everything that is wrong with a configuration; never empty. A program prints it and ends with
/// [`crate::exit::Exit::Usage`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub(super) Vec<String>);

impl ConfigErrors {
    /// One line per problem.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "1 problem in the configuration:")?,
            n => write!(f, "{n} problems in the configuration:")?,
        }
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// The text of a value as it may be printed.
pub(super) fn printable(field: &Field, text: &str) -> String {
    if field.secret {
        return "(secret)".to_owned();
    }
    without_userinfo(text)
}

/// What a parser said about a text, without the text where that is a secret.
pub(super) fn printable_reason(field: &Field, text: &str, reason: &str) -> String {
    if field.secret && !text.is_empty() {
        return reason.replace(text, "(secret)");
    }
    reason.to_owned()
}

/// Without what may be a user and a password: all from the scheme to the last `@`, since the text may be no
/// good URL.
pub(super) fn without_userinfo(text: &str) -> String {
    let start = text.find("://").map_or(0, |scheme| scheme + 3);
    let (scheme, rest) = text.split_at(start);
    match rest.rfind('@') {
        Some(at) if start > 0 || rest[..at].contains(':') => format!("{scheme}***{}", &rest[at..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_userinfo;

    #[test]
    fn logins_are_left_out_of_good_and_bad_urls() {
        for (text, shown) in [
            ("https://me:hunter2@a/x", "https://***@a/x"),
            ("https://me:hun/ter2@a", "https://***@a"),
            ("https://me:hun@ter2@a", "https://***@a"),
            ("me:hunter2@a", "***@a"),
            ("https://a/x?y#z", "https://a/x?y#z"),
            ("@every 1h", "@every 1h"),
            ("plain", "plain"),
        ] {
            assert_eq!(without_userinfo(text), shown);
        }
    }
}
