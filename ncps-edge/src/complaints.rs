//! What is said while control does not take this edge in: each trouble once, with what to do, and not with every try.

use std::time::Duration;

use ncps_proto::{Code, Error};

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    last: Option<String>,
}

impl Complaints {
    /// There was a session since: the same trouble again is news.
    pub(crate) fn settled(&mut self) {
        self.last = None;
    }

    /// A session broke, or did not begin.
    pub(crate) fn of(&mut self, broken: &Error, retry_in: Duration) {
        let error = broken.story();
        if !self.is_news(&error) {
            tracing::debug!(error, ?retry_in, "not attached to control");
            return;
        }
        match what_to_do(broken.code()) {
            Some(what_to_do) => {
                tracing::error!(error, what_to_do, "not attached to control, which refuses this edge");
            }
            None => tracing::warn!(error, ?retry_in, "not attached to control"),
        }
    }

    fn is_news(&mut self, story: &str) -> bool {
        self.last.replace(story.to_owned()).as_deref() != Some(story)
    }
}

/// `None` for what may pass by itself.
fn what_to_do(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthenticated => Some(
            "let --control-token-file name a file with a token of scope edge that is for this edge's name: ncps-cli \
             token create NAME --scope=edge (edge,durable with --edge-durable); or --control-client-cert a certificate that \
             names ncps://edge/NAME (ncps://durable-edge/NAME)",
        ),
        Code::Invalid | Code::Refused => Some(
            "change what the error names; the edge tries again by itself, and needs a restart for its own flags",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_news_once_and_again_after_a_session() {
        let mut complaints = Complaints::default();
        assert!(complaints.is_news("a") && !complaints.is_news("a") && !complaints.is_news("a"));
        assert!(complaints.is_news("b") && complaints.is_news("a"));
        complaints.settled();
        assert!(complaints.is_news("a"));
    }

    #[test]
    fn what_passes_by_itself_asks_for_nothing() {
        assert_eq!(what_to_do(Code::Unavailable), None);
        assert!(what_to_do(Code::Unauthenticated).is_some() && what_to_do(Code::Refused).is_some());
    }
}
