//! Errors as responses: the status and phrase of the one table for the client, the story for the request log.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use ncps_proto::{Code, Error};

use crate::transfer::Failure;

/// Seconds after which a client may try again what we could not do now.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// What went wrong, on its way to the request log.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) code: Code,
    pub(super) text: String,
}

/// A refusal: an [`Error`] as a response.
#[derive(Debug)]
pub(super) struct Refusal(Error);

impl Refusal {
    pub(super) fn is_absence(&self) -> bool {
        self.0.code() == Code::Absent
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal(error)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal(failure.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = of_code(self.0.code());
        let story = Story { code: self.0.code(), text: self.0.story() };
        response.extensions_mut().insert(story);
        response
    }
}

pub(super) fn of_code(code: Code) -> Response {
    let meaning = code.meaning();
    let status = StatusCode::from_u16(meaning.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = text(status, format!("{}\n", meaning.phrase));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}

pub(super) fn not_found() -> Response {
    of_code(Code::Absent)
}

/// A refusal of what a client wrote: where that is at fault, it is told in a line what is wrong with it.
pub(super) struct Told(pub(super) Error);

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        let line = self.0.code().is_callers().then(|| line(&self.0.to_string()));
        let mut response = Refusal(self.0).into_response();
        if let Some(line) = line {
            response.headers_mut().remove(header::CONTENT_LENGTH);
            *response.body_mut() = Body::from(line);
        }
        response
    }
}

/// Nix shows what has less than 1 KiB.
const MOST: usize = 500;

fn line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    line.push('\n');
    line
}

/// The verb is off; these are on.
pub(super) fn only(allowed: &str) -> Response {
    let mut response = of_code(Code::VerbOff);
    if let Ok(allowed) = HeaderValue::try_from(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// The same with the reason.
pub(super) fn only_since(allowed: &str, why: &Error) -> Response {
    let mut response = only(allowed);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(line(&why.to_string()));
    response
}

/// What another edge said.
pub(super) fn said(status: StatusCode, said: String) -> Response {
    let mut response = text(status, said);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}

pub(super) fn text(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from(body)).into_response()
}
