//! The rules of each kind of object: how large it may be, whether it is JSON, and for how long it is right.

use ncps_nix::ObjectName;

/// Of a decoded listing or log. A listing has about 100 bytes for each file of a store path.
const LARGE: u64 = 64 << 20;
/// Of a decoded JSON object of a few lines.
const SMALL: u64 = 1 << 20;

/// What holds for one kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Bytes that it may have, decoded.
    pub limit: u64,
    /// It has to be one JSON object, so an error page that came with 200 is refused.
    pub json: bool,
    /// Once had it is right for good; others are asked for again after the TTL.
    pub lasting: bool,
    pub content_type: &'static str,
}

const JSON: &str = "application/json";

/// The rules of an object's kind.
///
/// A listing follows from its NAR, and a log tells of a build that is over. Debug info names a NAR file that
/// may be replaced, and realisations gain signatures.
pub fn rules(name: &ObjectName) -> Rules {
    match name {
        ObjectName::Listing(_) => Rules { limit: LARGE, json: true, lasting: true, content_type: JSON },
        ObjectName::Log(_) => {
            Rules { limit: LARGE, json: false, lasting: true, content_type: "text/plain; charset=utf-8" }
        }
        ObjectName::DebugInfo { .. } | ObjectName::Realisation { .. } | ObjectName::BuildTrace { .. } => {
            Rules { limit: SMALL, json: true, lasting: false, content_type: JSON }
        }
    }
}
