//! A fixed answer: what a cache says where it has nothing to give.

use bytes::Bytes;

use crate::Headers;

/// A status with its header and body.
#[derive(Debug, Clone)]
pub struct Page {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
}

impl Page {
    /// A page of this kind.
    pub fn new(status: u16, content_type: &str, body: &str) -> Self {
        let mut headers = Headers::default();
        headers.set("Content-Type", content_type);
        Self { status, headers, body: Bytes::from(body.to_owned()) }
    }

    /// A status without a word.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Headers::default(), body: Bytes::new() }
    }

    /// One more header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.set(name, value);
        self
    }
}
