//! The upstreams and how they are reached: what their fields say together.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ncps_nix::PublicKey;
use ncps_proto::{NetrcEntry, Outward, Target, UpstreamSettings};
use ncps_runtime::config::values::{absolute_path, duration};
use ncps_runtime::config::{Env, Resolver};

use super::{DEFAULT_KEY, DEFAULT_UPSTREAM, fields, netrc, pem, upstream_url};

/// In the order of their priorities, and as they were given.
pub(super) fn upstreams(r: &mut Resolver) -> Vec<UpstreamSettings> {
    let given = Cell::new(0);
    let mut upstreams = r.list(&fields::UPSTREAMS, |text| {
        given.set(given.get() + 1);
        upstream_url::parse(text)
    });
    if given.get() == 0 {
        r.problem(&fields::UPSTREAMS, "needs at least one upstream");
    }
    let mut seen = HashSet::new();
    for upstream in upstreams.iter().filter(|upstream| !seen.insert(upstream.url.as_str())) {
        r.problem(&fields::UPSTREAMS, format_args!("{} is given twice", upstream.url));
    }
    mark_unsigned(r, &mut upstreams, given.get());
    upstreams.sort_by_key(|upstream| upstream.priority);
    upstreams
}

fn mark_unsigned(r: &mut Resolver, upstreams: &mut [UpstreamSettings], given: usize) {
    let all_understood = upstreams.len() == given;
    for url in r.list(&fields::ALLOW_UNSIGNED, upstream_url::name) {
        match upstreams.iter_mut().find(|upstream| upstream.url == url) {
            Some(upstream) => upstream.unsigned = true,
            None if all_understood => {
                r.problem(&fields::ALLOW_UNSIGNED, format_args!("{url} is none of the upstreams"));
            }
            // It may be one of the others, which have a problem already.
            None => {}
        }
    }
}

pub(super) fn trusted_keys(r: &mut Resolver, upstreams: &[UpstreamSettings]) -> Vec<PublicKey> {
    let is_default = matches!(upstreams, [only] if only.url == DEFAULT_UPSTREAM);
    if r.given(&fields::PUBLIC_KEYS) || !is_default {
        return r.list(&fields::PUBLIC_KEYS, PublicKey::parse);
    }
    r.computed(&fields::PUBLIC_KEYS, DEFAULT_KEY);
    PublicKey::parse(DEFAULT_KEY).into_iter().collect()
}

/// `None` is never.
pub(super) fn give_up_after(r: &mut Resolver) -> Option<Duration> {
    r.get(&fields::GIVE_UP_AFTER, |text| match text {
        "never" => Ok(None),
        _ => duration(text).map(Some).map_err(|expected| format!("{expected}, or never")),
    })?
}

/// What all upstreams have in common. What is worth a warning is added to `warnings`.
pub(super) fn outward(r: &mut Resolver, env: Env<'_>, warnings: &mut Vec<String>) -> Outward {
    let roots = r.get(&fields::CA_FILE, |text| pem::roots(&absolute_path(text)?));
    Outward {
        netrc: netrc(r, env, warnings),
        allowed: r.list(&fields::ALLOW_TARGETS, str::parse::<Target>),
        roots: roots.unwrap_or_default(),
    }
}

/// A file that can't be used is no end, as in the original: upstreams that ask for a login then refuse.
fn netrc(r: &mut Resolver, env: Env<'_>, warnings: &mut Vec<String>) -> Vec<NetrcEntry> {
    let given = r.given(&fields::NETRC_FILE);
    let path = if given { r.get(&fields::NETRC_FILE, absolute_path) } else { default_netrc(r, env) };
    let Some(path) = path else { return Vec::new() };
    let reason = match pem::read(&path) {
        Ok(text) => match netrc::parse(&text) {
            Ok(entries) => return entries,
            Err(reason) => reason,
        },
        Err(error) if is_absent(&error) && !given => return Vec::new(),
        Err(error) => error.to_string(),
    };
    warnings.push(unusable_netrc(&path, &reason));
    Vec::new()
}

/// Homes that are no folders are homes of nobody, `/dev/null` for one.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn default_netrc(r: &mut Resolver, env: Env<'_>) -> Option<PathBuf> {
    let home = env("HOME").map(PathBuf::from).filter(|home| home.is_absolute())?;
    let path = home.join(".netrc");
    r.computed(&fields::NETRC_FILE, path.display());
    Some(path)
}

fn unusable_netrc(path: &Path, reason: &str) -> String {
    let path = path.display();
    format!(
        "--netrc-file {path} can't be used ({reason}): upstreams are asked without a login, and those that want one \
         will refuse"
    )
}
