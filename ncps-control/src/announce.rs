//! What an operator should see of the configuration once, at the start: what is used, what was given and is not, and
//! what to beware of.
//!
//! Absent: problems; with those there is no start.

use std::num::NonZeroU64;

use chrono::{DateTime, SecondsFormat};
use ncps_nix::SecretKey;
use ncps_proto::{EdgeSettings, Scope, Token, Writing};
use ncps_runtime::clock::UnixTime;

use crate::Admission;
use crate::config::ControlConfig;

/// Logs it all.
pub(crate) fn configuration(config: &ControlConfig, key: Option<&SecretKey>, now: UnixTime) {
    tracing::info!(
        data = %config.data_path.display(),
        database = %config.database.display(),
        key = key.map(SecretKey::name),
        upstreams = config.settings.upstreams.len(),
        "control plane"
    );
    if let Some(next) = config.eviction_schedule.as_ref().and_then(|schedule| schedule.after(now)) {
        tracing::info!(next = in_utc(next), "evicts on schedule");
    }
    if let Some(next) = config.scrubs.schedule.as_ref().and_then(|schedule| schedule.after(now)) {
        let bytes_per_second = config.scrubs.rate.map(NonZeroU64::get);
        tracing::info!(next = in_utc(next), bytes_per_second, "scrubs on schedule");
    }
    without_effect(config);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    writing(config.settings.writing, &config.settings.tokens, &config.admission);
    trust(&config.settings);
}

fn in_utc(at: UnixTime) -> Option<String> {
    DateTime::from_timestamp(at.0, 0).map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
}

fn without_effect(config: &ControlConfig) {
    if let Some(path) = &config.temp_path {
        tracing::info!(path = %path.display(), "--cache-temp-path is not needed: downloads grow beside the store");
    }
    if !config.without_effect.is_empty() {
        let flags: Vec<_> = config.without_effect.iter().map(|flag| format!("--{flag}")).collect();
        let flags = flags.join(" ");
        tracing::info!(flags, "accepted for the sake of the original, without effect here");
    }
}

fn writing(Writing { put, delete, require_token, .. }: Writing, tokens: &[Token], admission: &Admission) {
    for (allowed, verb, does, scope) in
        [(put, "PUT", "upload", Scope::Write), (delete, "DELETE", "delete", Scope::Delete)]
    {
        let nobody = tokens.iter().all(|token| !token.scopes.contains(&scope));
        match (allowed && nobody, require_token) {
            (false, _) => {}
            (true, false) => tracing::warn!(
                "anybody may {does} ({verb}): there is no token of scope {scope}; --cache-require-token closes it"
            ),
            (true, true) => tracing::warn!("nobody may {does} ({verb}): there is no token of scope {scope}"),
        }
    }
    if put && admission.anything {
        tracing::warn!("--cache-sign-unsigned-uploads: whatever is uploaded is signed");
    }
}

fn trust(settings: &EdgeSettings) {
    for upstream in settings.upstreams.iter().filter(|upstream| upstream.unsigned) {
        tracing::warn!(upstream = upstream.url, "narinfos without a trusted signature are passed on");
    }
    if settings.trusted_keys.is_empty() && !settings.upstreams.iter().all(|upstream| upstream.unsigned) {
        tracing::warn!(
            "no --upstream-public-key: only content-addressed paths can be checked, all others are refused"
        );
    }
}
