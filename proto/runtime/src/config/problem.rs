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

pub(super) fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_ends].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => text.to_owned(),
    }
}
