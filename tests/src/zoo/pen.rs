//! A running cache of some kind: the upstream that is asked, and the object store behind it where it has one.

use ncps_proto::{Login, Secret};

use crate::upstream::RuleHandle;
use crate::{Body, Fixture, Passes, Rule, Seen, Upstream};

use super::Kind;

/// What a test has of a kind of cache.
#[derive(Debug)]
pub struct Pen {
    /// What it is.
    pub kind: Kind,
    /// Who is asked.
    pub cache: Upstream,
    /// Another host, where some kinds send who wants a NAR.
    pub bucket: Upstream,
    /// Queries that open objects of the bucket.
    pub passes: Passes,
}

/// A rule for NARs, at the cache and at its bucket.
#[derive(Debug)]
pub struct NarRules([RuleHandle; 2]);

impl NarRules {
    /// Ends it for requests to come.
    pub fn remove(self) {
        self.0.into_iter().for_each(RuleHandle::remove);
    }
}

impl Pen {
    pub(super) async fn of(kind: Kind) -> Self {
        let (cache, bucket) = (Upstream::start().await, Upstream::start().await);
        let pen = Self { kind, cache, bucket, passes: Passes::default() };
        pen.cache.remove("/nix-cache-info");
        pen.cache.put(&pen.path("/nix-cache-info"), kind.cache_info);
        if let Some((user, password)) = kind.login {
            pen.cache.require_authorization(Some(&basic(user, password)));
        }
        (kind.settle)(&pen);
        pen
    }

    /// Its URL, as it stands in a configuration.
    pub fn url(&self) -> String {
        self.cache.url() + self.kind.base
    }

    /// Who to be to it.
    pub fn login(&self) -> Option<Login> {
        let (user, password) = self.kind.login?;
        Some(Login { user: user.to_owned(), password: Secret::new(password) })
    }

    /// It has this path from now on.
    pub fn add(&self, fixture: &Fixture) {
        self.cache.put(&self.path(&fixture.narinfo_path()), (self.kind.text)(fixture));
        (self.kind.keep)(self, fixture);
    }

    /// Where something of a plain cache lies here.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.kind.base)
    }

    /// Where a fixture's NAR file is asked for, without its query.
    pub fn nar_path(&self, fixture: &Fixture) -> String {
        let path = self.path(&fixture.nar_path());
        path.split_once('?').map_or(path.clone(), |(path, _)| path.to_owned())
    }

    /// A rule for the bytes of NARs, wherever they come from.
    pub fn script_nars(&self, rule: impl Fn(Rule) -> Rule) -> NarRules {
        let cache = self.cache.script(rule(Rule::on(&self.path("/nar/*")).method("GET")));
        NarRules([cache, self.bucket.script(rule(Rule::on("/bucket/*").method("GET")))])
    }

    /// The requests that were answered with bytes of NARs.
    pub fn nar_requests(&self) -> Vec<Seen> {
        let mut requests = self.cache.requests_to(&self.path("/nar/"));
        requests.append(&mut self.bucket.requests());
        requests.retain(|seen| seen.method == "GET" && matches!(seen.status, Some(200 | 206)));
        requests
    }

    /// Goes away, with all that it is.
    pub async fn down(&self) {
        self.cache.down().await;
        self.bucket.down().await;
    }

    /// The NAR is at its URL, query and all.
    pub(super) fn here(&self, fixture: &Fixture) {
        self.cache.put(&self.path(&fixture.nar_path()), fixture.file.clone());
    }

    /// The NAR is in the bucket, where each redirect leads once.
    pub(super) fn there(&self, fixture: &Fixture, status: u16) {
        let key = format!("/bucket/{}", fixture.file_hash().0.hex());
        self.bucket.put(&key, fixture.file.clone());
        let target = self.bucket.url() + &key;
        let way = Rule::on(&self.nar_path(fixture)).redirect_with_pass(status, &target, &self.passes);
        self.cache.script(way.body(Body::from("")));
    }

    /// The bucket as Amazon and its like answer. A URL is signed for one method, so a HEAD that is sent on like a
    /// GET finds the door closed, which says nothing of the object.
    pub(super) fn open_bucket(&self) {
        let rule = Rule::on("/bucket/*").needs_pass(&self.passes).header("Server", "AmazonS3");
        let rule = rule.header("x-amz-request-id", "4YQ2V1CKHVT5XQ6Z");
        self.bucket.script(rule.header("Content-Type", "application/octet-stream"));
        self.bucket.script(Rule::on("/bucket/*").method("HEAD").status(403));
    }

    /// Header fields of every answer.
    pub(super) fn says(&self, pattern: &str, headers: &[(&str, &str)]) {
        let rule = Rule::on(&self.path(pattern));
        let rule = headers.iter().fold(rule, |rule, (name, value)| rule.header(name, value));
        self.cache.script(rule);
    }

    /// Nothing for who comes back: neither ranges nor anything to compare.
    pub(super) fn without_ranges(&self, pattern: &str) {
        let rule = Rule::on(&self.path(pattern)).ignore_range();
        self.cache.script(rule.without_header("Accept-Ranges").without_header("ETag"));
    }
}

pub(super) fn basic(user: &str, password: &str) -> String {
    let login = format!("{user}:{password}");
    format!("Basic {}", data_encoding::BASE64.encode(login.as_bytes()))
}
