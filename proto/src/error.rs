//! The error of the seam: a [`Code`] that says what to do, and a chain that tells the operator what happened.
//! `Display` speaks of this layer only; [`Error::story`] prints the whole chain, once, where it is handled.

use crate::Code;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A failure with a name.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: Code,
    message: String,
    source: Option<Source>,
}

/// The result of a call across the seam.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure that nothing below caused. `message` is for the operator.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), source: None }
    }

    /// The same failure with what caused it.
    pub fn because(mut self, source: impl Into<Source>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// A bug of ours.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(Code::Internal, message)
    }

    /// What to do about it.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The whole chain on one line, for the log.
    pub fn story(&self) -> String {
        let mut story = self.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            story.push_str(": ");
            story.push_str(&error.to_string());
            next = error.source();
        }
        story
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_layer_and_the_story_is_all() {
        let inner = std::io::Error::other("disk on fire");
        let error = Error::internal("read the index").because(inner);
        assert_eq!(error.to_string(), "read the index");
        assert_eq!(error.story(), "read the index: disk on fire");
    }
}
