//! The fields of the control plane: names of the original where it has them, and our own after its pattern.

use ncps_runtime::config::{Alias, Field};
use ncps_runtime::fields::DATA_PATH;

pub(super) const HOSTNAME: Field = Field::value(
    "cache-hostname",
    "CACHE_HOSTNAME",
    "cache.hostname",
    "Name of the cache and of its signing key, without scheme and path. By default the machine's host name.",
)
.value_name("NAME");

pub(super) const DATABASE_URL: Field = Field::value(
    "cache-database-url",
    "CACHE_DATABASE_URL",
    "cache.database-url",
    "The index: sqlite: and an absolute path. By default db/db.sqlite under the data path.",
)
.value_name("URL")
// So `migrate up` of the original calls it.
.aliases(&[Alias::key("cache.database.url")]);

pub(super) const SIGN_NARINFO: Field = Field::switch(
    "cache-sign-narinfo",
    "CACHE_SIGN_NARINFO",
    "cache.sign-narinfo",
    "Sign narinfos with the cache's own key; otherwise only the upstreams' signatures are served.",
)
.default("true");

pub(super) const SECRET_KEY_PATH: Field = Field::value(
    "cache-secret-key-path",
    "CACHE_SECRET_KEY_PATH",
    "cache.secret-key-path",
    "The signing key, in Nix's format. By default secret.key under the data path, made if there is none.",
)
.value_name("PATH");

pub(super) const TEMP_PATH: Field = Field::value(
    "cache-temp-path",
    "CACHE_TEMP_PATH",
    "cache.temp-path",
    "Accepted for compatibility, not needed: downloads grow beside the store.",
)
.value_name("PATH");

pub(super) const ALLOW_PUT: Field = Field::switch(
    "cache-allow-put-verb",
    "CACHE_ALLOW_PUT_VERB",
    "cache.allow-put-verb",
    "Let clients upload (PUT), at the root and under /upload, where nothing is looked for upstream: whoever has a \
     token of scope write, or anybody while there is none.",
);

pub(super) const ALLOW_DELETE: Field = Field::switch(
    "cache-allow-delete-verb",
    "CACHE_ALLOW_DELETE_VERB",
    "cache.allow-delete-verb",
    "Let clients delete (DELETE) narinfos, NARs and other objects: whoever has a token of scope delete, or anybody \
     while there is none.",
);

pub(super) const REQUIRE_TOKEN: Field = Field::switch(
    "cache-require-token",
    "CACHE_REQUIRE_TOKEN",
    "cache.require-token",
    "Let nobody upload or delete without a token of scope write or delete, also while there is no such token.",
);

pub(super) const MAX_UPLOAD: Field = Field::value(
    "max-upload-size",
    "MAX_UPLOAD_SIZE",
    "max-upload-size",
    "The largest NAR file that may be uploaded, as it comes and as it is decoded; larger ones get 413.",
)
.value_name("SIZE")
.default("16G");

pub(super) const UPLOAD_KEYS: Field = Field::list(
    "cache-trusted-upload-key",
    "CACHE_TRUSTED_UPLOAD_KEYS",
    "cache.trusted-upload-keys",
    "A key that vouches for uploads, name:base64, beside those of the upstreams: what it signed is admitted, and \
     signed by us.",
)
.value_name("KEY");

pub(super) const ONLY_TRUSTED: Field = Field::switch(
    "cache-require-trusted-signature",
    "CACHE_REQUIRE_TRUSTED_SIGNATURE",
    "cache.require-trusted-signature",
    "Admit only uploads that a trusted key signed or that are content-addressed, not those of who writes with a \
     token of scope sign.",
);

pub(super) const SIGN_UNSIGNED: Field = Field::switch(
    "cache-sign-unsigned-uploads",
    "CACHE_SIGN_UNSIGNED_UPLOADS",
    "cache.sign-unsigned-uploads",
    "Admit and sign whatever is uploaded, as the Go original does: whoever may write can then give every client any \
     contents for any path, in our name.",
);

pub(super) const UPSTREAMS: Field = Field::list(
    "upstream-cache",
    "UPSTREAM_CACHES",
    "cache.upstream.caches",
    "An upstream cache, http or https. A user and a password may stand before its host (percent-encoded), and in its \
     query priority=N (lower is asked first, 40 if not given), optional=1 (it may be away: then it has no say), and \
     tls-certificate=PATH with tls-private-key=PATH (PEM), by which we prove who we are.",
)
.value_name("URL")
.default(super::DEFAULT_UPSTREAM)
.aliases(&[Alias::new("cache-upstream-url", "CACHE_UPSTREAM_URLS", "cache.upstream.urls")]);

pub(super) const PUBLIC_KEYS: Field = Field::list(
    "upstream-public-key",
    "UPSTREAM_PUBLIC_KEYS",
    "cache.upstream.public-keys",
    "A key that upstreams sign with, name:base64; one pool for all. By default that of cache.nixos.org, if that \
     is the only upstream.",
)
.value_name("KEY")
.aliases(&[Alias::flag_env("cache-upstream-public-key", "CACHE_UPSTREAM_PUBLIC_KEYS")]);

pub(super) const ALLOW_UNSIGNED: Field = Field::list(
    "allow-unsigned-upstream",
    "ALLOW_UNSIGNED_UPSTREAMS",
    "cache.upstream.allow-unsigned",
    "One of the upstreams, from which narinfos without a trusted signature are passed on, unsigned: clients then \
     decide whether they take them.",
)
.value_name("URL");

pub(super) const GIVE_UP_AFTER: Field = Field::value(
    "upstream-give-up-after",
    "UPSTREAM_GIVE_UP_AFTER",
    "cache.upstream.give-up-after",
    "An upstream that could not be asked for this long has no say while others answer: what they lack is absent. \
     Or never.",
)
.value_name("DURATION")
.default("5m");

pub(super) const NETRC_FILE: Field = Field::value(
    "netrc-file",
    "NETRC_FILE",
    "cache.netrc-file",
    "Logins for upstreams by host, as curl and Nix read them. By default $HOME/.netrc, if there is one.",
)
.value_name("PATH");

pub(super) const ALLOW_TARGETS: Field = Field::list(
    "upstream-allow-target",
    "UPSTREAM_ALLOW_TARGETS",
    "cache.upstream.allow-targets",
    "A host, an address or a network (CIDR) of a private range that upstreams may send us to. Without it only \
     upstreams that are in such a range themselves may.",
)
.value_name("HOST|CIDR");

pub(super) const CA_FILE: Field = Field::value(
    "upstream-ca-file",
    "UPSTREAM_CA_FILE",
    "cache.upstream.ca-file",
    "Certificate authorities in PEM that upstreams may be certified by, beside those of the system.",
)
.value_name("PATH");

pub(super) const CONNECT_TIMEOUT: Field = Field::value(
    "cache-upstream-dialer-timeout",
    "CACHE_UPSTREAM_DIALER_TIMEOUT",
    "cache.upstream.dialer-timeout",
    "Time for a connection to an upstream, TLS included.",
)
.value_name("DURATION")
.default("3s")
.aliases(&[Alias::flag_env("upstream-dialer-timeout", "UPSTREAM_DIALER_TIMEOUT")]);

pub(super) const HEADER_TIMEOUT: Field = Field::value(
    "cache-upstream-response-header-timeout",
    "CACHE_UPSTREAM_RESPONSE_HEADER_TIMEOUT",
    "cache.upstream.response-header-timeout",
    "Time from a request to an upstream to the head of its response.",
)
.value_name("DURATION")
.default("3s")
.aliases(&[Alias::flag_env("upstream-response-header-timeout", "UPSTREAM_RESPONSE_HEADER_TIMEOUT")]);

pub(super) const IDLE_TIMEOUT: Field = Field::value(
    "upstream-idle-timeout",
    "UPSTREAM_IDLE_TIMEOUT",
    "cache.upstream.idle-timeout",
    "Time without a byte after which a download counts as stalled and goes on elsewhere.",
)
.value_name("DURATION")
.default("30s");

pub(super) const TRANSFER_TIMEOUT: Field = Field::value(
    "upstream-transfer-timeout",
    "UPSTREAM_TRANSFER_TIMEOUT",
    "cache.upstream.transfer-timeout",
    "Time for one NAR file, all sources and retries included.",
)
.value_name("DURATION")
.default("6h");

pub(super) const HEDGE_DELAY: Field = Field::value(
    "upstream-hedge-delay",
    "UPSTREAM_HEDGE_DELAY",
    "cache.upstream.hedge-delay",
    "When an upstream has not answered for this long, the next one is asked as well.",
)
.value_name("DURATION")
.default("400ms");

pub(super) const NEGATIVE_TTL: Field = Field::value(
    "cache-negative-ttl",
    "CACHE_NEGATIVE_TTL",
    "cache.negative-ttl",
    "For how long a path that no upstream has is not asked for again, give or take 10 %.",
)
.value_name("DURATION")
.default("60s");

pub(super) const GET_TOKEN: Field = Field::value(
    "cache-get-token",
    "CACHE_GET_TOKEN",
    "cache.get-token",
    "A token that readers must know: as the password of HTTP Basic, which Nix sends from its netrc file, with any \
     user, or as Bearer. By default everybody reads.",
)
.value_name("TOKEN")
.secret();

pub(super) const PRIORITY: Field = Field::value(
    "cache-priority",
    "CACHE_PRIORITY",
    "cache.priority",
    "What nix-cache-info says to clients that have several caches; lower wins, cache.nixos.org has 40.",
)
.value_name("N")
.default("10");

pub(super) const MAX_SIZE: Field = Field::value(
    "cache-max-size",
    "CACHE_MAX_SIZE",
    "cache.max-size",
    "Disk that the NARs and narinfos of an edge may take, directories included; other objects (--max-objects-size) \
     and running downloads (--max-spool-size) come on top. Past it the files that were read longest ago are \
     evicted, down to 90 % of it, with or without a schedule; they are fetched again when asked for. By default \
     only --cache-min-free is a limit.",
)
.value_name("SIZE");

pub(super) const MIN_FREE: Field = Field::value(
    "cache-min-free",
    "CACHE_MIN_FREE",
    "cache.min-free",
    "Free space that is left on the disk: a size, or a percentage of the disk. Under it files are evicted, and \
     where that is not enough, what is fetched is served and not kept. By default 5 % of the disk, at most 10G.",
)
.value_name("SIZE|PERCENT");

pub(super) const LRU_SCHEDULE: Field = Field::value(
    "cache-lru-schedule",
    "CACHE_LRU_SCHEDULE",
    "cache.lru.schedule",
    "When to evict what is past --cache-max-size or under --cache-min-free, also without need: minute, hour, day, \
     month and weekday (\"0 3 * * *\"), or @every and a duration (\"@every 1h\"). Not needed: eviction runs \
     whenever a limit is passed.",
)
.value_name("SCHEDULE");

pub(super) const LRU_TIMEZONE: Field = Field::value(
    "cache-lru-schedule-timezone",
    "CACHE_LRU_SCHEDULE_TZ",
    "cache.lru.timezone",
    "The time zone of --cache-lru-schedule: Local, or a name such as Europe/Paris.",
)
.value_name("ZONE")
.default("Local");

pub(super) const SCRUB_SCHEDULE: Field = Field::value(
    "scrub-schedule",
    "SCRUB_SCHEDULE",
    "cache.scrub.schedule",
    "When every edge reads what it stores and compares it with its names, in the time zone of \
     --cache-lru-schedule-timezone; what is wrong is fetched again. By default on Sundays at 4; off: only on demand.",
)
.value_name("SCHEDULE|off")
.default("0 4 * * 0");

pub(super) const SCRUB_RATE: Field = Field::value(
    "scrub-rate",
    "SCRUB_RATE",
    "cache.scrub.rate",
    "Bytes that an edge reads per second for that at most; 0: as fast as its disk is.",
)
.value_name("SIZE")
.default("50M");

pub(super) const KEEP_PEER_COPIES: Field = Field::switch(
    "keep-peer-copies",
    "KEEP_PEER_COPIES",
    "cache.keep-peer-copies",
    "Keep what an edge got from another one, too, as far as there is room: read from its own disk the next time. \
     Otherwise it is passed on, and the fleet holds each NAR once.",
)
.default("true");

pub(super) const MAX_DOWNLOADS: Field = Field::value(
    "max-downloads",
    "MAX_DOWNLOADS",
    "max-downloads",
    "NAR files that are fetched at once, 256 at most.",
)
.value_name("N")
.default("32");

pub(super) const MAX_WAITING: Field = Field::value(
    "max-waiting-downloads",
    "MAX_WAITING_DOWNLOADS",
    "max-waiting-downloads",
    "NAR files that may wait for their turn to be fetched; past it requests get 503.",
)
.value_name("N")
.default("4096");

pub(super) const MAX_DECODERS: Field = Field::value(
    "max-decoders",
    "MAX_DECODERS",
    "max-decoders",
    "Compressed streams that are decoded at once, 256 at most. By default one per core.",
)
.value_name("N");

pub(super) const MAX_SPOOL: Field = Field::value(
    "max-spool-size",
    "MAX_SPOOL_SIZE",
    "max-spool-size",
    "Disk that running downloads may reserve; past it they wait for room.",
)
.value_name("SIZE")
.default("64G");

pub(super) const NEAR_CACHE: Field =
    Field::value("near-cache-size", "NEAR_CACHE_SIZE", "near-cache-size", "Memory for narinfos.")
        .value_name("SIZE")
        .default("64M");

pub(super) const ABSENT_ON_FAILURE: Field = Field::switch(
    "absent-on-upstream-failure",
    "ABSENT_ON_UPSTREAM_FAILURE",
    "absent-on-upstream-failure",
    "Answer 404 instead of 502 or 504 when an upstream failed and none had the path. Clients then remember for \
     an hour that the path is absent, long after the upstream is back, and build it themselves.",
);

pub(super) const OBJECT_TTL: Field = Field::value(
    "object-ttl",
    "OBJECT_TTL",
    "object-ttl",
    "After this long debug info, realisations and build traces are asked for again; file listings and logs never.",
)
.value_name("DURATION")
.default("1h");

pub(super) const MAX_OBJECTS: Field = Field::value(
    "max-objects-size",
    "MAX_OBJECTS_SIZE",
    "max-objects-size",
    "Disk for file listings, logs, debug info, realisations and build traces; past it the oldest go.",
)
.value_name("SIZE")
.default("2G");

pub(super) const MAX_NARINFO_REQUESTS: Field = Field::value(
    "upstream-max-narinfo-requests",
    "UPSTREAM_MAX_NARINFO_REQUESTS",
    "cache.upstream.max-narinfo-requests",
    "Narinfos that are asked of one upstream at once, and so the most connections for them; others wait.",
)
.value_name("N")
.default("256");

pub(super) const WHEN_AWAY: Field = Field::value(
    "when-control-away",
    "WHEN_CONTROL_AWAY",
    "control.when-away",
    "What edges do, while they can't reach control, for paths that are neither in their memory nor on their disk. \
     upstream-signed: ask the upstreams and pass their narinfos on with their signatures. Clients have to trust the \
     upstreams' keys beside ours; one that trusts ours alone refuses such a path, and its own cache keeps that answer \
     for 30 days, long after control is back. stored-only: answer 503, so that clients come again.",
)
.value_name("POLICY")
.default("upstream-signed");

pub(super) const PREFETCH: Field = Field::value(
    "prefetch",
    "PREFETCH",
    "cache.prefetch",
    "What edges get ahead of a client that has asked for two paths of a closure, one of which refers to the other. \
     metadata: the narinfos of all that they refer to, and of what that refers to in turn, so that the client waits for \
     the upstreams once and not once per level. nars: once it downloads, also the NARs of the paths that it asked for, \
     with at most half of --max-downloads. off: nothing.",
)
.value_name("WHAT")
.default("metadata");

pub(super) const RECOMPRESS: Field = Field::value(
    "cache-recompress",
    "CACHE_RECOMPRESS",
    "cache.recompress",
    "What stored NARs become in the background. zstd: the files that came as xz, bzip2 or uncompressed are compressed anew, \
     and narinfos name the new ones, which clients unpack many times faster; the former files are dropped after a day where \
     an upstream can give them again. off: they stay as they came.",
)
.value_name("CODEC")
.default("zstd");

pub(super) const RECOMPRESS_LEVEL: Field = Field::value(
    "cache-recompress-level",
    "CACHE_RECOMPRESS_LEVEL",
    "cache.recompress-level",
    "The level of zstd for that, from 1 to 19.",
)
.value_name("LEVEL")
.default("6");

pub(super) const CONTROL_ADDR: Field = Field::value(
    "control-addr",
    "CONTROL_ADDR",
    "control.addr",
    "Where edges and administrators reach control: unix:PATH, or an address and port such as :8502, which needs TLS \
     unless it is a loopback address. By default control.sock in $RUNTIME_DIRECTORY, /run/ncps for root, \
     $XDG_RUNTIME_DIR/ncps or the data path; that socket is there beside an address and port, too.",
)
.value_name("ADDR");

pub(super) const CONTROL_TLS_CERT: Field = Field::value(
    "control-tls-cert",
    "CONTROL_TLS_CERT",
    "control.tls.cert",
    "Certificate chain in PEM for the address of --control-addr; read again when it changes. Needs \
     --control-tls-key.",
)
.value_name("PATH");

pub(super) const CONTROL_TLS_KEY: Field = Field::value(
    "control-tls-key",
    "CONTROL_TLS_KEY",
    "control.tls.key",
    "Private key of the certificate, in PEM.",
)
.value_name("PATH");

pub(super) const CONTROL_CLIENT_CA: Field = Field::value(
    "control-tls-client-ca",
    "CONTROL_TLS_CLIENT_CA",
    "control.tls.client-ca",
    "Certificate authorities in PEM that may certify edges and administrators, who then need no token: by the URI \
     ncps://edge/NAME, ncps://durable-edge/NAME or ncps://admin/NAME among the names of a certificate. Read again when \
     it changes.",
)
.value_name("PATH");

pub(super) const CONTROL_CLIENT_CRL: Field = Field::value(
    "control-tls-client-crl",
    "CONTROL_TLS_CLIENT_CRL",
    "control.tls.client-crl",
    "Lists in PEM of the certificates that these authorities have revoked; read again when it changes. Needs \
     --control-tls-client-ca.",
)
.value_name("PATH");

pub(super) const CONTROL_INSECURE: Field = Field::switch(
    "control-insecure",
    "CONTROL_INSECURE",
    "control.insecure",
    "Listen at an address beyond this machine without TLS, and show the dashboard to others than this machine. Whoever \
     sees the traffic can read the tokens in it: only for a proxy in front that does TLS.",
);

pub(super) const CONTROL_HTTP_ADDR: Field = Field::value(
    "control-http-addr",
    "CONTROL_HTTP_ADDR",
    "control.http-addr",
    "Where control answers /healthz, /readyz and /metrics, and shows its dashboard at /. By default :8503; 127.0.0.1:8503 where it runs beside an \
     edge.",
)
.value_name("ADDR");

/// What names the database.
pub const DATABASE: &[Field] = &[DATABASE_URL];

/// The table of these fields, and of the data path, which both planes have.
pub const CONTROL: &[Field] = &[
    HOSTNAME,
    DATA_PATH,
    DATABASE_URL,
    SIGN_NARINFO,
    SECRET_KEY_PATH,
    TEMP_PATH,
    ALLOW_PUT,
    ALLOW_DELETE,
    REQUIRE_TOKEN,
    MAX_UPLOAD,
    UPLOAD_KEYS,
    ONLY_TRUSTED,
    SIGN_UNSIGNED,
    UPSTREAMS,
    PUBLIC_KEYS,
    ALLOW_UNSIGNED,
    GIVE_UP_AFTER,
    NETRC_FILE,
    ALLOW_TARGETS,
    CA_FILE,
    CONNECT_TIMEOUT,
    HEADER_TIMEOUT,
    IDLE_TIMEOUT,
    TRANSFER_TIMEOUT,
    HEDGE_DELAY,
    NEGATIVE_TTL,
    GET_TOKEN,
    PRIORITY,
    MAX_SIZE,
    MIN_FREE,
    LRU_SCHEDULE,
    LRU_TIMEZONE,
    SCRUB_SCHEDULE,
    SCRUB_RATE,
    KEEP_PEER_COPIES,
    MAX_DOWNLOADS,
    MAX_WAITING,
    MAX_DECODERS,
    MAX_SPOOL,
    NEAR_CACHE,
    ABSENT_ON_FAILURE,
    WHEN_AWAY,
    PREFETCH,
    RECOMPRESS,
    RECOMPRESS_LEVEL,
    CONTROL_ADDR,
    CONTROL_TLS_CERT,
    CONTROL_TLS_KEY,
    CONTROL_CLIENT_CA,
    CONTROL_CLIENT_CRL,
    CONTROL_INSECURE,
    OBJECT_TTL,
    MAX_OBJECTS,
    MAX_NARINFO_REQUESTS,
    CONTROL_HTTP_ADDR,
];
