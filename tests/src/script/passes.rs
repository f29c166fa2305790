//! Queries that open a resource once, as an object store signs them: one upstream hands them out with its
//! redirects, another one lets nobody in without. Who keeps the target of a redirect for later stands before a
//! closed door.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Page;

/// What signed queries have in common; the signature comes last.
const SIGNED: &str =
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=300&X-Amz-SignedHeaders=host&X-Amz-Signature=";

/// Passes that were handed out and not yet used. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct Passes(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    issued: u64,
    open: HashSet<String>,
}

impl Passes {
    /// How many were handed out.
    pub fn issued(&self) -> u64 {
        self.0.lock().issued
    }

    /// A query that nobody had before.
    pub(crate) fn issue(&self) -> String {
        let mut state = self.0.lock();
        state.issued += 1;
        let query = format!("{SIGNED}{:064x}", state.issued);
        state.open.insert(query.clone());
        query
    }

    /// Whether the query is good; then it was so for the last time.
    pub(crate) fn take(&self, query: Option<&str>) -> bool {
        query.is_some_and(|query| self.0.lock().open.remove(query))
    }
}

/// What an object store says to a query that is no longer good.
pub(crate) fn expired() -> Page {
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code>\
                <Message>Request has expired</Message></Error>";
    Page::new(403, "application/xml", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_opens_once() {
        let passes = Passes::default();
        let (first, second) = (passes.issue(), passes.issue());
        assert!(passes.take(Some(&second)) && passes.take(Some(&first)));
        assert!(!passes.take(Some(&first)) && !passes.take(None));
        assert_eq!(passes.issued(), 2);
    }
}
