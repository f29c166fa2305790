//! How the upstream treats who asks for what is not there, or may not ask.

use crate::script::Page;

use super::Upstream;

/// Manners.
impl Upstream {
    /// Whether a request must have the very query that its resource was [`Upstream::put`] with
    /// (default: queries are ignored, as cache.nixos.org does).
    pub fn require_queries(&self, required: bool) {
        self.shared.content.lock().require_queries(required);
    }

    /// What it says of paths that match a pattern ([`crate::Rule::on`]) and where it has nothing (default: 404 with
    /// that number as its body). Of several patterns that match, the last one counts.
    pub fn when_missing(&self, pattern: &str, page: Page) {
        self.shared.content.lock().when_missing(pattern, page);
    }

    /// What it says to who lacks the right `Authorization` (default: 401 and that Basic is wanted).
    pub fn when_unauthorized(&self, page: Page) {
        self.shared.content.lock().unauthorized = page;
    }

    /// Answers 401 to requests without this `Authorization` header; None lifts it.
    pub fn require_authorization(&self, value: Option<&str>) {
        self.shared.content.lock().require_authorization(value);
    }
}
