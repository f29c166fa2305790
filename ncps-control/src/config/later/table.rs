//! The table of the original's later names. Variables and keys are spelled as the original spells them.

use ncps_runtime::config::Field;

use super::{Fate, Later};

const NOT_SENT: &str = "Nothing is ever sent to anybody.";
const LOG: &str = "--log-format says how log lines look.";
const XZ: &str = "xz is built in.";
const POOL: &str = "One connection writes and a few read, which is what SQLite can use.";
const POLL: &str = "Nobody polls: readers are woken.";
const CDC_OFF: &str = "There are no chunks.";
const STAGING_OFF: &str = "There is no staging.";
const REDIS_OFF: &str = "There is no Redis.";
const LOCK_OFF: &str = "There are no locks between processes.";
const S3: &str = "Object storage is not there yet: NAR files are kept on the local disk.";
const CDC: &str = "Chunking is not there: NAR files are kept whole.";
const STAGING: &str = "Staging is not there: it needs object storage.";
const REDIS: &str = "Redis is not used: one process serves a data path, and needs no lock for that.";
const LOCK: &str = "Locks between processes are not there: one process serves a data path.";
const PPROF: &str = "There is no profiling over HTTP.";

const fn moot(field: Field) -> Later {
    Later { field, fate: Fate::Moot }
}

const fn off(field: Field) -> Later {
    Later { field, fate: Fate::Off }
}

/// Those of every command.
pub(super) const GLOBAL_ROWS: &[Later] = &[
    moot(Field::switch(
        "analytics-reporting-enabled",
        "ANALYTICS_REPORTING_ENABLED",
        "analytics.reporting.enabled",
        NOT_SENT,
    )),
    moot(Field::switch("analytics-reporting-samples", "", "analytics.reporting.samples", NOT_SENT)),
    moot(Field::switch("log-console-writer-enabled", "", "", LOG)),
    moot(Field::value("log-console-writer-prefix", "", "", LOG)),
    moot(Field::switch("use-xz-binary", "USE_XZ_BINARY", "use-xz-binary", XZ)),
    moot(Field::value("xz-binary-path", "XZ_BINARY_PATH", "xz-binary-path", XZ)),
];

/// Those of `serve`.
pub(super) const ROWS: &[Later] = &[
    off(Field::value("cache-storage-s3-bucket", "CACHE_STORAGE_S3_BUCKET", "cache.storage.s3.bucket", S3)),
    off(Field::value(
        "cache-storage-s3-endpoint",
        "CACHE_STORAGE_S3_ENDPOINT",
        "cache.storage.s3.endpoint",
        S3,
    )),
    off(Field::value("cache-storage-s3-region", "CACHE_STORAGE_S3_REGION", "cache.storage.s3.region", S3)),
    off(Field::value(
        "cache-storage-s3-access-key-id",
        "CACHE_STORAGE_S3_ACCESS_KEY_ID",
        "cache.storage.s3.access-key-id",
        S3,
    )
    .secret()),
    off(Field::value(
        "cache-storage-s3-secret-access-key",
        "CACHE_STORAGE_S3_SECRET_ACCESS_KEY",
        "cache.storage.s3.secret-access-key",
        S3,
    )
    .secret()),
    off(Field::switch(
        "cache-storage-s3-force-path-style",
        "CACHE_STORAGE_S3_FORCE_PATH_STYLE",
        "cache.storage.s3.force-path-style",
        S3,
    )),
    moot(Field::value(
        "cache-database-pool-max-open-conns",
        "CACHE_DATABASE_POOL_MAX_OPEN_CONNS",
        "cache.database.pool.max-open-conns",
        POOL,
    )),
    moot(Field::value(
        "cache-database-pool-max-idle-conns",
        "CACHE_DATABASE_POOL_MAX_IDLE_CONNS",
        "cache.database.pool.max-idle-conns",
        POOL,
    )),
    off(Field::switch("cache-cdc-enabled", "CACHE_CDC_ENABLED", "cache.cdc.enabled", CDC)),
    moot(Field::value("cache-cdc-min", "CACHE_CDC_MIN", "cache.cdc.min", CDC_OFF)),
    moot(Field::value("cache-cdc-avg", "CACHE_CDC_AVG", "cache.cdc.avg", CDC_OFF)),
    moot(Field::value("cache-cdc-max", "CACHE_CDC_MAX", "cache.cdc.max", CDC_OFF)),
    moot(Field::switch(
        "cache-cdc-lazy-chunking-enabled",
        "CACHE_CDC_LAZY_CHUNKING_ENABLED",
        "cache.cdc.lazy-chunking-enabled",
        CDC_OFF,
    )),
    moot(Field::value(
        "cache-cdc-background-workers",
        "CACHE_CDC_BACKGROUND_WORKERS",
        "cache.cdc.background-workers",
        CDC_OFF,
    )),
    moot(Field::value("cache-cdc-delete-delay", "CACHE_CDC_DELETE_DELAY", "cache.cdc.delete-delay", CDC_OFF)),
    moot(Field::value(
        "cache-cdc-lazy-recovery-schedule",
        "CACHE_CDC_LAZY_RECOVERY_SCHEDULE",
        "cache.cdc.lazy-recovery-schedule",
        CDC_OFF,
    )),
    moot(Field::value(
        "cache-cdc-lazy-recovery-batch-size",
        "CACHE_CDC_LAZY_RECOVERY_BATCH_SIZE",
        "cache.cdc.lazy-recovery-batch-size",
        CDC_OFF,
    )),
    moot(Field::value(
        "cache-cdc-lazy-cleanup-schedule",
        "CACHE_CDC_LAZY_CLEANUP_SCHEDULE",
        "cache.cdc.lazy-cleanup-schedule",
        CDC_OFF,
    )),
    moot(Field::value(
        "cache-cdc-chunk-wait-timeout",
        "CACHE_CDC_CHUNK_WAIT_TIMEOUT",
        "cache.cdc.chunk-wait-timeout",
        CDC_OFF,
    )),
    off(Field::switch(
        "cache-inflight-staging-enabled",
        "CACHE_INFLIGHT_STAGING_ENABLED",
        "cache.inflight-staging.enabled",
        STAGING,
    )),
    moot(Field::value(
        "cache-inflight-staging-retention",
        "CACHE_INFLIGHT_STAGING_RETENTION",
        "cache.inflight-staging.retention",
        STAGING_OFF,
    )),
    moot(Field::value(
        "cache-inflight-staging-part-size",
        "CACHE_INFLIGHT_STAGING_PART_SIZE",
        "cache.inflight-staging.part-size",
        STAGING_OFF,
    )),
    off(Field::list("cache-redis-addrs", "CACHE_REDIS_ADDRS", "cache.redis.addrs", REDIS)),
    moot(Field::value("cache-redis-username", "CACHE_REDIS_USERNAME", "cache.redis.username", REDIS_OFF)),
    moot(
        Field::value("cache-redis-password", "CACHE_REDIS_PASSWORD", "cache.redis.password", REDIS_OFF)
            .secret(),
    ),
    moot(Field::value("cache-redis-db", "CACHE_REDIS_DB", "cache.redis.db", REDIS_OFF)),
    moot(Field::switch("cache-redis-use-tls", "CACHE_REDIS_USE_TLS", "cache.redis.use-tls", REDIS_OFF)),
    moot(Field::value("cache-redis-pool-size", "CACHE_REDIS_POOL_SIZE", "cache.redis.pool-size", REDIS_OFF)),
    Later {
        field: Field::value("cache-lock-backend", "CACHE_LOCK_BACKEND", "cache.lock.backend", LOCK),
        fate: Fate::Only("local"),
    },
    moot(Field::value(
        "cache-lock-redis-key-prefix",
        "CACHE_LOCK_REDIS_KEY_PREFIX",
        "cache.lock.redis.key-prefix",
        LOCK_OFF,
    )),
    moot(Field::value(
        "cache-lock-download-ttl",
        "CACHE_LOCK_DOWNLOAD_TTL",
        "cache.lock.download-lock-ttl",
        LOCK_OFF,
    )),
    moot(Field::value("cache-lock-lru-ttl", "CACHE_LOCK_LRU_TTL", "cache.lock.lru-lock-ttl", LOCK_OFF)),
    moot(Field::value(
        "cache-lock-retry-max-attempts",
        "CACHE_LOCK_RETRY_MAX_ATTEMPTS",
        "cache.lock.retry.max-attempts",
        LOCK_OFF,
    )),
    moot(Field::value(
        "cache-lock-retry-initial-delay",
        "CACHE_LOCK_RETRY_INITIAL_DELAY",
        "cache.lock.retry.initial-delay",
        LOCK_OFF,
    )),
    moot(Field::value(
        "cache-lock-retry-max-delay",
        "CACHE_LOCK_RETRY_MAX_DELAY",
        "cache.lock.retry.max-delay",
        LOCK_OFF,
    )),
    moot(Field::switch(
        "cache-lock-retry-jitter",
        "CACHE_LOCK_RETRY_JITTER",
        "cache.lock.retry.jitter",
        LOCK_OFF,
    )),
    moot(Field::switch(
        "cache-lock-allow-degraded-mode",
        "CACHE_LOCK_ALLOW_DEGRADED_MODE",
        "cache.lock.allow-degraded-mode",
        LOCK_OFF,
    )),
    moot(Field::value(
        "cache-download-poll-timeout",
        "CACHE_DOWNLOAD_POLL_TIMEOUT",
        "cache.download.poll-timeout",
        POLL,
    )),
    moot(Field::value("pprof-addr", "PPROF_ADDR", "pprof.addr", PPROF)),
];
