//! The original's names since its 0.4, written down here a second time as the original spells them: a slip of a
//! letter in the tables would make its operators' settings unknown.
//!
//! Keys are here where the original documents them.

use ncps_runtime::config::Field;

use super::{LATER, LATER_GLOBAL};
use crate::config::CONTROL;

/// A flag, its variable, and its key.
type Names = (&'static str, Option<&'static str>, Option<&'static str>);

const fn bare(flag: &'static str) -> Names {
    (flag, None, None)
}

const fn usual(flag: &'static str, variable: &'static str) -> Names {
    (flag, Some(variable), None)
}

const fn keyed(flag: &'static str, variable: &'static str, key: &'static str) -> Names {
    (flag, Some(variable), Some(key))
}

/// Before or after the command.
const GLOBAL: &[Names] = &[
    keyed("analytics-reporting-enabled", "ANALYTICS_REPORTING_ENABLED", "analytics.reporting.enabled"),
    bare("analytics-reporting-samples"),
    bare("log-console-writer-enabled"),
    bare("log-console-writer-prefix"),
    keyed("use-xz-binary", "USE_XZ_BINARY", "use-xz-binary"),
    keyed("xz-binary-path", "XZ_BINARY_PATH", "xz-binary-path"),
];

/// Of `serve`, without meaning here.
const SERVE: &[Names] = &[
    usual("cache-storage-s3-bucket", "CACHE_STORAGE_S3_BUCKET"),
    usual("cache-storage-s3-endpoint", "CACHE_STORAGE_S3_ENDPOINT"),
    usual("cache-storage-s3-region", "CACHE_STORAGE_S3_REGION"),
    usual("cache-storage-s3-access-key-id", "CACHE_STORAGE_S3_ACCESS_KEY_ID"),
    usual("cache-storage-s3-secret-access-key", "CACHE_STORAGE_S3_SECRET_ACCESS_KEY"),
    usual("cache-storage-s3-force-path-style", "CACHE_STORAGE_S3_FORCE_PATH_STYLE"),
    usual("cache-database-pool-max-open-conns", "CACHE_DATABASE_POOL_MAX_OPEN_CONNS"),
    usual("cache-database-pool-max-idle-conns", "CACHE_DATABASE_POOL_MAX_IDLE_CONNS"),
    usual("cache-cdc-enabled", "CACHE_CDC_ENABLED"),
    usual("cache-cdc-min", "CACHE_CDC_MIN"),
    usual("cache-cdc-avg", "CACHE_CDC_AVG"),
    usual("cache-cdc-max", "CACHE_CDC_MAX"),
    usual("cache-cdc-lazy-chunking-enabled", "CACHE_CDC_LAZY_CHUNKING_ENABLED"),
    usual("cache-cdc-background-workers", "CACHE_CDC_BACKGROUND_WORKERS"),
    usual("cache-cdc-delete-delay", "CACHE_CDC_DELETE_DELAY"),
    usual("cache-cdc-lazy-recovery-schedule", "CACHE_CDC_LAZY_RECOVERY_SCHEDULE"),
    usual("cache-cdc-lazy-recovery-batch-size", "CACHE_CDC_LAZY_RECOVERY_BATCH_SIZE"),
    usual("cache-cdc-lazy-cleanup-schedule", "CACHE_CDC_LAZY_CLEANUP_SCHEDULE"),
    usual("cache-cdc-chunk-wait-timeout", "CACHE_CDC_CHUNK_WAIT_TIMEOUT"),
    usual("cache-inflight-staging-enabled", "CACHE_INFLIGHT_STAGING_ENABLED"),
    usual("cache-inflight-staging-retention", "CACHE_INFLIGHT_STAGING_RETENTION"),
    usual("cache-inflight-staging-part-size", "CACHE_INFLIGHT_STAGING_PART_SIZE"),
    usual("cache-redis-addrs", "CACHE_REDIS_ADDRS"),
    usual("cache-redis-username", "CACHE_REDIS_USERNAME"),
    usual("cache-redis-password", "CACHE_REDIS_PASSWORD"),
    usual("cache-redis-db", "CACHE_REDIS_DB"),
    usual("cache-redis-use-tls", "CACHE_REDIS_USE_TLS"),
    usual("cache-redis-pool-size", "CACHE_REDIS_POOL_SIZE"),
    usual("cache-lock-backend", "CACHE_LOCK_BACKEND"),
    usual("cache-lock-redis-key-prefix", "CACHE_LOCK_REDIS_KEY_PREFIX"),
    keyed("cache-lock-download-ttl", "CACHE_LOCK_DOWNLOAD_TTL", "cache.lock.download-lock-ttl"),
    keyed("cache-lock-lru-ttl", "CACHE_LOCK_LRU_TTL", "cache.lock.lru-lock-ttl"),
    usual("cache-lock-retry-max-attempts", "CACHE_LOCK_RETRY_MAX_ATTEMPTS"),
    usual("cache-lock-retry-initial-delay", "CACHE_LOCK_RETRY_INITIAL_DELAY"),
    usual("cache-lock-retry-max-delay", "CACHE_LOCK_RETRY_MAX_DELAY"),
    usual("cache-lock-retry-jitter", "CACHE_LOCK_RETRY_JITTER"),
    usual("cache-lock-allow-degraded-mode", "CACHE_LOCK_ALLOW_DEGRADED_MODE"),
    usual("cache-download-poll-timeout", "CACHE_DOWNLOAD_POLL_TIMEOUT"),
    usual("pprof-addr", "PPROF_ADDR"),
];

/// Of `serve`, meant as they are.
const MEANT: &[Names] = &[
    keyed("cache-get-token", "CACHE_GET_TOKEN", "cache.get-token"),
    keyed(
        "cache-require-trusted-signature",
        "CACHE_REQUIRE_TRUSTED_SIGNATURE",
        "cache.require-trusted-signature",
    ),
    keyed("cache-trusted-upload-key", "CACHE_TRUSTED_UPLOAD_KEYS", "cache.trusted-upload-keys"),
    usual("cache-storage-local", "CACHE_STORAGE_LOCAL"),
    keyed("cache-upstream-url", "CACHE_UPSTREAM_URLS", "cache.upstream.urls"),
    usual("cache-upstream-public-key", "CACHE_UPSTREAM_PUBLIC_KEYS"),
    usual("cache-upstream-dialer-timeout", "CACHE_UPSTREAM_DIALER_TIMEOUT"),
    usual("cache-upstream-response-header-timeout", "CACHE_UPSTREAM_RESPONSE_HEADER_TIMEOUT"),
    usual("upstream-dialer-timeout", "UPSTREAM_DIALER_TIMEOUT"),
    usual("upstream-response-header-timeout", "UPSTREAM_RESPONSE_HEADER_TIMEOUT"),
];

/// All sets of names of a table, those of aliases among them.
fn names(table: &'static [Field]) -> Vec<Names> {
    let some = |name: &'static str| (!name.is_empty()).then_some(name);
    let own = table.iter().map(|field| (field.flag, some(field.env), some(field.key)));
    let aliases = table.iter().flat_map(|field| field.aliases);
    own.chain(aliases.filter_map(|alias| Some((alias.flag?, alias.env, alias.key)))).collect()
}

/// The variable has to be this one and no other, the key where one is documented.
fn has(table: &[Names], (flag, variable, key): Names) {
    let (_, env, file) = table.iter().find(|row| row.0 == flag).unwrap_or_else(|| panic!("--{flag}"));
    assert_eq!(*env, variable, "--{flag}");
    assert!(key.is_none() || *file == key, "--{flag}: {file:?} is not {key:?}");
}

#[test]
fn every_name_of_the_originals_is_known_as_it_spells_it() {
    for (table, literal) in [(LATER_GLOBAL, GLOBAL), (LATER, SERVE), (CONTROL, MEANT)] {
        let table = names(table);
        literal.iter().for_each(|names| has(&table, *names));
    }
}

#[test]
fn no_name_is_made_up() {
    for (table, literal) in [(LATER_GLOBAL, GLOBAL), (LATER, SERVE)] {
        for (flag, ..) in names(table) {
            assert!(literal.iter().any(|row| row.0 == flag), "the original has no --{flag}");
        }
    }
}
