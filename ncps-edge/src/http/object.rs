//! `GET` and `HEAD` of objects beside narinfos and NARs: `/<hash>.ls`, `/log/…`, `/debuginfo/…`,
//! `/realisations/…` and `/build-trace-v2/…`. What is none of these is not here.
//!
//! Names may hold `?`, `=`, `+`, `:` and `!`, which clients send raw or percent-encoded, so that the name is
//! read from the path together with what looks like a query.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Uri, header};
use ncps_nix::ObjectName;
use ncps_proto::{Code, Error};

use super::coding::accepts;
use super::reply::{self, Refusal};
use super::{Service, narinfo};
use crate::objects::{Content, Object, rules};
use crate::store_read;
use crate::via::Via;

/// Both lie in the root.
pub(super) async fn narinfo_or_listing(
    service: State<Arc<Service>>,
    file: Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if file.ends_with(".narinfo") {
        return narinfo::narinfo(service, file, headers).await;
    }
    object(service, uri, headers).await
}

pub(super) async fn object(
    State(service): State<Arc<Service>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Some(name) = name(&uri) else { return Ok(reply::not_found()) };
    match service.objects.get(&name, &Via::of(&headers)).await? {
        Some(object) => respond(&name, object, &headers).map_err(Refusal::from),
        None => Ok(reply::not_found()),
    }
}

pub(super) fn respond(name: &ObjectName, object: Object, asked: &HeaderMap) -> Result<Response, Error> {
    let (body, length) = match object.content {
        Content::Memory(bytes) => (Body::from(bytes.clone()), bytes.len() as u64),
        Content::File(file, size) => (Body::from_stream(store_read::stream(file, 0, size)), size),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(rules(name).content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(coding) = object.coding {
        let value = HeaderValue::try_from(&coding).ok().filter(|_| accepts(asked, &coding));
        let unusable = || format!("{name} is encoded as {coding:?}, which neither we nor the client decode");
        let value = value.ok_or_else(|| Error::new(Code::UpstreamFailed, unusable()))?;
        headers.insert(header::CONTENT_ENCODING, value);
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    Ok(response)
}

/// The object that is asked for: what follows `?` belongs to the name where that makes it one.
pub(super) fn name(uri: &Uri) -> Option<ObjectName> {
    let whole = uri.query().and_then(|query| parse(&format!("{}?{query}", uri.path())));
    whole.or_else(|| parse(uri.path()))
}

/// Whether a path is where objects are, so that it should have been the name of one.
pub(super) fn is_folder(path: &str) -> bool {
    let folder = path.split_once('/').map(|(folder, _)| folder);
    matches!(folder, Some("log" | "debuginfo" | "realisations" | "build-trace-v2")) || path.ends_with(".ls")
}

fn parse(path: &str) -> Option<ObjectName> {
    let path = percent_decoded(path.strip_prefix('/')?)?;
    let name = ObjectName::parse(&path).ok();
    name.or_else(|| ObjectName::parse(&format!("{path}.doi")).ok().filter(is_build_trace))
}

/// Clients of the Go ncps may leave its suffix away.
fn is_build_trace(name: &ObjectName) -> bool {
    matches!(name, ObjectName::BuildTrace { .. })
}

/// Decodes once. `None` where an escape is malformed or the result is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        (rest, bytes) = match first {
            b'%' => {
                let (digits, after) = after.split_at_checked(2)?;
                bytes.push(hex(digits[0])? << 4 | hex(digits[1])?);
                (after, bytes)
            }
            other => {
                bytes.push(*other);
                (after, bytes)
            }
        };
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00000000000000000000000000000000";

    fn named(path: &str) -> Option<String> {
        name(&path.parse().expect("a URI")).map(|name| name.to_string())
    }

    #[test]
    fn names_are_read_raw_and_encoded() {
        let log = format!("log/{HASH}-gtk+3?x=1.drv");
        for path in [
            format!("/log/{HASH}-gtk+3?x=1.drv"),
            format!("/log/{HASH}-gtk%2B3%3Fx%3D1.drv"),
            format!("/log/{HASH}-gtk%2b3%3fx=1.drv"),
        ] {
            assert_eq!(named(&path).as_deref(), Some(log.as_str()), "{path}");
        }
        let hex = "0123456789abcdef".repeat(4);
        for path in
            [format!("/realisations/sha256:{hex}!out.doi"), format!("/realisations/sha256%3A{hex}%21out.doi")]
        {
            assert_eq!(named(&path), Some(format!("realisations/sha256:{hex}!out.doi")), "{path}");
        }
    }

    #[test]
    fn a_build_trace_is_one_with_and_without_its_suffix() {
        let trace = format!("build-trace-v2/{HASH}-a.drv/out.doi");
        assert_eq!(named(&format!("/{trace}")), Some(trace.clone()));
        assert_eq!(named(&format!("/build-trace-v2/{HASH}-a.drv/out")), Some(trace));
        assert_eq!(named(&format!("/realisations/sha256:{}!out", "0".repeat(64))), None);
    }

    #[test]
    fn a_query_that_is_no_name_is_ignored() {
        assert_eq!(named(&format!("/{HASH}.ls?x=1")), Some(format!("{HASH}.ls")));
        assert_eq!(named(&format!("/log/{HASH}-a.drv?x=1")), Some(format!("log/{HASH}-a.drv")));
        assert_eq!(named(&format!("/log/{HASH}-a.drv?b.drv")), Some(format!("log/{HASH}-a.drv?b.drv")));
    }

    #[test]
    fn nothing_is_decoded_twice_or_climbs() {
        for path in [
            format!("/log/{HASH}-a%252Fb.drv"),
            format!("/log/{HASH}-a%2Fb.drv"),
            format!("/log/%2e%2e/{HASH}-a.drv"),
            format!("/log/{HASH}-a%zz.drv"),
            format!("/log/{HASH}-a%2"),
            format!("/log/{HASH}-%ff.drv"),
            format!("//{HASH}.ls"),
        ] {
            assert_eq!(named(&path), None, "{path}");
        }
    }
}
