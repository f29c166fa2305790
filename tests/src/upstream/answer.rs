//! From a request and the rules for it to an answer: pure, nothing is sent here.

use bytes::Bytes;

use crate::range::{self, Asked};
use crate::script::{Behaviour, Framing, Page, expired};
use crate::{Body, Headers};

use super::content::{Content, Resource};
use super::encoding::{encoded, is_encoded};
use super::serve::Request;

/// What will be sent, if nothing comes between.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Headers,
    /// None: an answer that has no body by its method or status.
    pub(super) body: Option<View>,
    pub(super) framing: Framing,
}

/// A part of a body, with lies in it.
pub(super) struct View {
    body: Body,
    flips: Vec<u64>,
    /// How much of `body` there is; after it come bytes that were never there.
    true_len: u64,
    from: u64,
    to: u64,
}

impl View {
    pub(super) fn new(body: Body, does: &Behaviour) -> Self {
        let true_len = does.length.unwrap_or(u64::MAX).min(body.len());
        let to = true_len + does.extra;
        Self { body, flips: does.flips.clone(), true_len, from: 0, to }
    }

    pub(super) const fn len(&self) -> u64 {
        self.to - self.from
    }

    /// Up to `max` bytes from `offset` of this part on; at least one unless it is the end.
    pub(super) fn read(&self, offset: u64, max: usize) -> Bytes {
        let at = self.from + offset;
        let max = max.min((self.to - at) as usize);
        if at >= self.true_len {
            return vec![0xee; max].into();
        }
        let mut bytes = self.body.read(at, max.min((self.true_len - at) as usize)).to_vec();
        for flip in &self.flips {
            let byte = flip.checked_sub(at).and_then(|index| bytes.get_mut(index as usize));
            byte.into_iter().for_each(|byte| *byte = !*byte);
        }
        bytes.into()
    }
}

/// Decides what is answered.
pub(super) fn answer(request: &Request, content: &Content, does: &Behaviour) -> Answer {
    // Who may not come in learns nothing of what is there.
    if let Some(closed) = closed(request, content, does) {
        return framed(request, closed, &Behaviour::default());
    }
    let mut answer = framed(request, open(request, content, does), does);
    for (name, value) in &does.headers {
        match value {
            Some(value) => answer.headers.set(name, value),
            None => answer.headers.remove(name),
        }
    }
    answer
}

fn framed(request: &Request, mut answer: Answer, does: &Behaviour) -> Answer {
    answer.framing = does.framing.unwrap_or_default();
    if let Some(view) = &answer.body {
        let len = does.declared.unwrap_or(view.len());
        frame(&mut answer.headers, answer.framing, len);
    }
    if does.http_1_0 {
        answer.headers.set("Connection", "close");
    }
    if request.method == "HEAD" {
        answer.body = None;
    }
    answer
}

fn frame(headers: &mut Headers, framing: Framing, len: u64) {
    match framing {
        Framing::Length => headers.set("Content-Length", len),
        Framing::Chunked => headers.set("Transfer-Encoding", "chunked"),
        Framing::Close => headers.set("Connection", "close"),
    }
}

/// What is said to who may not come in.
fn closed(request: &Request, content: &Content, does: &Behaviour) -> Option<Answer> {
    let wanted = content.authorization.as_deref();
    if wanted.is_some_and(|wanted| request.headers.get("Authorization") != Some(wanted)) {
        return Some(page(&content.unauthorized));
    }
    let closed = does.passes.as_ref().is_some_and(|passes| !passes.take(request.query.as_deref()));
    closed.then(|| page(&expired()))
}

fn open(request: &Request, content: &Content, does: &Behaviour) -> Answer {
    if let Some(status) = does.status.filter(|status| *status >= 300) {
        return refusal(status, does);
    }
    if let Some(way) = &does.sends_on {
        let mut answer = refusal(way.status, does);
        answer.headers.set("Location", format!("{}?{}", way.target, way.passes.issue()));
        return answer;
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return refusal(405, does);
    }
    let replaced = does.replacement.clone().map(|body| Resource::new(&request.path, None, body));
    match replaced.or_else(|| content.find(&request.path, request.query.as_deref())) {
        Some(resource) => found(request, resource, does),
        None => content.missing(&request.path).map_or_else(|| refusal(404, does), page),
    }
}

fn page(page: &Page) -> Answer {
    let body = View::new(Body::from(page.body.clone()), &Behaviour::default());
    Answer { status: page.status, headers: page.headers.clone(), body: Some(body), framing: Framing::Length }
}

/// An answer that is not what was asked for; its body is short.
fn refusal(status: u16, does: &Behaviour) -> Answer {
    let body = does.replacement.clone().unwrap_or_else(|| Body::from(status.to_string()));
    let has_body = status != 304;
    let mut headers = Headers::default();
    headers.set("Content-Type", "text/plain; charset=utf-8");
    let body = has_body.then(|| View::new(body, does));
    Answer { status, headers, body, framing: Framing::Length }
}

fn found(request: &Request, resource: Resource, does: &Behaviour) -> Answer {
    let mut headers = Headers::default();
    headers.set("Content-Type", resource.content_type);
    headers.set("ETag", &resource.etag);
    if request.headers.get("If-None-Match") == Some(&resource.etag) {
        return Answer { status: 304, headers, body: None, framing: Framing::Length };
    }
    let status = does.status.unwrap_or(200);
    if is_encoded(request, does) {
        return encoded(status, headers, resource, does);
    }
    headers.set("Accept-Ranges", "bytes");
    let view = View::new(resource.body, does);
    match asked(request, &resource.etag, view.len(), does) {
        Asked::Whole => Answer { status, headers, body: Some(view), framing: Framing::Length },
        Asked::Part(from, to) => {
            let status = does.status.unwrap_or(206);
            Answer { status, ..partial(headers, view, from, to) }
        }
        Asked::Beyond => beyond(headers, view.len(), does),
    }
}

fn asked(request: &Request, etag: &str, len: u64, does: &Behaviour) -> Asked {
    let current = request.headers.get("If-Range").is_none_or(|condition| condition == etag);
    match request.headers.get("Range").filter(|_| current && !does.ignore_range) {
        Some(range) => range::parse(range, len),
        None => Asked::Whole,
    }
}

fn partial(mut headers: Headers, view: View, from: u64, to: u64) -> Answer {
    headers.set("Content-Range", format!("bytes {from}-{}/{}", to - 1, view.len()));
    Answer { status: 206, headers, body: Some(View { from, to, ..view }), framing: Framing::Length }
}

fn beyond(mut headers: Headers, len: u64, does: &Behaviour) -> Answer {
    headers.set("Content-Range", format!("bytes */{len}"));
    let body = View::new(Body::from("416"), &Behaviour { throttle: does.throttle, ..Behaviour::default() });
    Answer { status: 416, headers, body: Some(body), framing: Framing::Length }
}
