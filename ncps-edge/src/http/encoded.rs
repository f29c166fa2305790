//! The answer to a request for an uncompressed NAR with its zstd file, as `Content-Encoding: zstd`: a fraction of
//! the bytes, for clients that say that they decode it.
//!
//! It can't be resumed: a range counts in encoded bytes, which Nix does not know. So it says nothing of ranges, and
//! who asks for one gets the file as it is. Its ETag is its own, made of both names.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use ncps_nix::{Compression, NarFileName};

use super::coding::prefers;
use super::conditional::not_modified;
use super::nar::insert;
use crate::store_read;
use crate::transfer::StoredZstd;

/// Whether a request for the file `name` may be answered so. Not where it names the ETag of the file itself: then it
/// has the bytes.
pub(super) fn is_wanted(name: NarFileName, headers: &HeaderMap, etag: &str) -> bool {
    name.compression == Compression::None
        && prefers(headers, "zstd")
        && !headers.contains_key(header::RANGE)
        && !not_modified(headers, etag)
}

/// The NAR `plain` as its zstd file.
pub(super) fn answer(method: &Method, asked: &HeaderMap, plain: NarFileName, zstd: StoredZstd) -> Response {
    let etag = format!("\"{plain}+{}\"", zstd.name);
    let unmodified = not_modified(asked, &etag);
    let size = zstd.stored.size;
    let mut response = match method {
        _ if unmodified => StatusCode::NOT_MODIFIED.into_response(),
        &Method::HEAD => StatusCode::OK.into_response(),
        _ => Body::from_stream(store_read::stream(zstd.stored.file, 0, size)).into_response(),
    };
    let headers = response.headers_mut();
    if !unmodified {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-nix-nar"));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    insert(headers, header::ETAG, etag);
    response
}
