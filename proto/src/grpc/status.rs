//! [`Error`] to gRPC status and back. The code travels by name in the metadata, so that the other side gets
//! the very same one; a status without it (a broken link, a foreign server) is mapped to the nearest code.

use std::error::Error as _;

use tonic::Status;
use tonic::metadata::MetadataValue;

use crate::{Code, Error};

const CODE: &str = "ncps-code";

/// The status that says an error, code and all.
pub fn to_status(error: Error) -> Status {
    let meaning = error.code().meaning();
    let mut status = Status::new(meaning.grpc, error.story());
    status.metadata_mut().insert(CODE, MetadataValue::from_static(meaning.name));
    status
}

/// Whether it says that a message is none of the protocol's: nothing but its words tells that from a bug of ours.
pub fn is_undecodable(status: &Status) -> bool {
    status.code() == tonic::Code::Internal
        && status.message().starts_with("failed to decode Protobuf message")
}

/// What control said, as its own words: for who talks to nobody else.
pub(crate) fn plain(status: Status) -> Error {
    let named = status.metadata().get(CODE).and_then(|v| v.to_str().ok()).and_then(Code::from_name);
    let code = named.unwrap_or_else(|| Code::from_grpc(status.code()));
    Error::new(code, story(&status))
}

/// What control says is its whole story. Where it can't be reached the transport knows why, one cause below the other,
/// and some say what those below say, too.
fn story(status: &Status) -> String {
    let mut story = status.message().to_owned();
    let mut next = status.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !story.contains(&said) {
            story.push_str(": ");
            story.push_str(&said);
        }
        next = cause.source();
    }
    story
}

/// The same in an edge's log. What is a client's own fault is his to read, whoever found it.
pub(super) fn from_status(status: Status) -> Error {
    match plain(status) {
        said if said.code().is_callers() => said,
        said => Error::new(said.code(), format!("control: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for code in Code::ALL {
            let error = from_status(to_status(Error::new(code, "why")));
            assert_eq!(error.code(), code);
            assert!(error.to_string().contains("why"));
        }
    }

    #[test]
    fn a_bare_not_found_of_a_foreign_server_is_not_trusted_blindly() {
        assert_eq!(from_status(Status::unavailable("gone")).code(), Code::Unavailable);
        assert_eq!(from_status(Status::unknown("transport")).code(), Code::Unavailable);
        assert_eq!(from_status(Status::internal("h2 protocol error")).code(), Code::Unavailable);
    }
}
