//! Who an edge is, as it says when it attaches, and what of that is possible. Knows nothing of who is attached.
//!
//! The number of the protocol grows with every release that changes what the planes say to one another. Control and
//! edge understand each other where their numbers differ by one at most, so that a fleet can be renewed edge by edge,
//! control first or last. An edge from before there was a number says 0.

use crate::{Code, Error, Result, Resume};

/// What this release speaks.
pub const PROTOCOL: u32 = 1;

/// Names, zones and versions are kept in memory, logged and shown: longer ones are refused.
const MAX_NAME_BYTES: usize = 255;
const MAX_URL_BYTES: usize = 2048;
/// What a database can count.
const MAX_CAPACITY: u64 = i64::MAX as u64;

/// Who an edge is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its name in the fleet.
    pub name: String,
    /// Random, made with the edge's data: tells a restarted edge from another one of its name.
    pub instance: String,
    /// How peers reach it.
    pub url: Option<String>,
    /// The index that it belongs to: the first that it met, or the one that an administrator said last.
    pub index: Option<String>,
    /// Where it stands: edges of one zone read from each other first.
    pub zone: Option<String>,
    /// Its disk is kept, so that uploads may rest on it.
    pub durable: bool,
    /// What its store may take on the disk, in bytes. `None`: what control says.
    pub capacity: Option<u64>,
    /// See [`PROTOCOL`].
    pub protocol: u32,
    /// Of the release, for people. Empty where it said none.
    pub version: String,
    /// Until where control knew what it holds; `None`: it is going to say everything.
    pub resume: Option<Resume>,
}

impl Hello {
    /// An edge of this release that says no more than it has to.
    pub fn new(name: impl Into<String>, instance: impl Into<String>) -> Hello {
        Hello {
            name: name.into(),
            instance: instance.into(),
            url: None,
            index: None,
            zone: None,
            durable: false,
            capacity: None,
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            resume: None,
        }
    }

    /// What of it can't be.
    ///
    /// # Errors
    /// [`Code::Invalid`] with what is wrong and what is expected.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::new(Code::Invalid, what));
        if !is_name(&self.name) || !is_name(&self.instance) {
            return wrong("an edge's name and instance have 1 to 255 bytes and no control characters");
        }
        if !self.zone.iter().chain(&self.index).all(|text| is_name(text)) {
            return wrong("an edge's zone and index have 1 to 255 bytes and no control characters");
        }
        if !(self.version.is_empty() || is_name(&self.version)) {
            return wrong("an edge's version has at most 255 bytes and no control characters");
        }
        if !self.url.iter().all(|url| is_url(url)) {
            return wrong("an edge's URL begins with http:// or https:// and has at most 2048 bytes");
        }
        self.capacity.map_or(Ok(()), check_capacity)
    }
}

/// Whether a release that speaks `ours` understands one that speaks `theirs`.
pub fn is_understood(ours: u32, theirs: u32) -> bool {
    ours.abs_diff(theirs) <= 1
}

/// A name of an edge or a zone.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains(char::is_control)
}

/// A store of so many bytes.
///
/// # Errors
/// [`Code::Invalid`] where there can be none.
pub fn check_capacity(bytes: u64) -> Result<()> {
    if (1..=MAX_CAPACITY).contains(&bytes) {
        return Ok(());
    }
    Err(Error::new(Code::Invalid, format!("a store of {bytes} bytes can't be: expected 1 to {MAX_CAPACITY}")))
}

fn is_url(text: &str) -> bool {
    let is_http = text.starts_with("http://") || text.starts_with("https://");
    is_http && text.len() <= MAX_URL_BYTES && !text.contains(|c: char| c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Hello)) -> bool {
        let mut hello = Hello::new("a", "i");
        change(&mut hello);
        hello.check().is_err_and(|error| error.code() == Code::Invalid)
    }

    #[test]
    fn what_can_not_be_is_refused() {
        assert!(!refused(|_| {}));
        assert!(!refused(|hello| {
            hello.zone = Some("hall 2".to_owned());
            hello.url = Some("https://edge.example:8501".to_owned());
            (hello.capacity, hello.version) = (Some(1), String::new());
        }));
        let long = "x".repeat(256);
        for bad in ["", "a\nb", "a\u{7f}", &long] {
            assert!(refused(|hello| hello.name = bad.to_owned()), "{bad:?}");
            assert!(refused(|hello| hello.instance = bad.to_owned()), "{bad:?}");
            assert!(refused(|hello| hello.zone = Some(bad.to_owned())), "{bad:?}");
            assert!(refused(|hello| hello.index = Some(bad.to_owned())), "{bad:?}");
            assert!(bad.is_empty() || refused(|hello| hello.version = bad.to_owned()), "{bad:?}");
        }
        for bad in ["host:8501", "ftp://host", "http://a b", "http://a\r\nb"] {
            assert!(refused(|hello| hello.url = Some(bad.to_owned())), "{bad:?}");
        }
        for bad in [0, u64::MAX] {
            assert!(refused(|hello| hello.capacity = Some(bad)), "{bad}");
        }
    }

    #[test]
    fn releases_that_differ_by_one_understand_each_other() {
        let understood = |theirs| is_understood(5, theirs);
        assert!(understood(4) && understood(5) && understood(6));
        assert!(!understood(3) && !understood(7) && !understood(0) && !understood(u32::MAX));
        assert!(is_understood(1, 0) && is_understood(0, 1));
    }
}
