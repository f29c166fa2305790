//! The configuration of the control plane: its table of fields, and what is read from them.
//!
//! Reading collects every problem in the [`Resolver`]; whoever called [`ControlConfig::read`] asks it to
//! finish. Absent: fields of the edge, and making anything that is named here.

mod fields;
mod later;
mod netrc;
mod pem;
mod upstream_url;
mod upstreams;
mod values;

#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ncps_nix::{PublicKey, Sha256Hash};
use ncps_proto::admin::Setting;
use ncps_proto::{EdgeSettings, LookAhead, MinFree, Scope, Token, WhenAway, Writing};
use ncps_runtime::config::values::{absolute_path, byte_size, duration, listen_addr};
use ncps_runtime::config::{Env, Field, ListenAddr, Resolver, Source};
use ncps_runtime::fields::read_data_path;
use ncps_runtime::paths;
use ncps_runtime::tls::TlsFiles;
use ncps_runtime::tls::clients::ClientFiles;

use crate::eviction::{Schedule, Zone};
use crate::{Admission, Scrubs};
pub use fields::{CONTROL, DATABASE};
pub use later::{LATER, LATER_GLOBAL, later_reference};
pub use values::database_path;

const DEFAULT_UPSTREAM: &str = "https://cache.nixos.org";
const DEFAULT_KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// Where control listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlAddr {
    /// At this socket.
    Unix(PathBuf),
    /// At this address. Without TLS it was checked, or somebody insists.
    Tcp {
        /// Where.
        addr: ListenAddr,
        /// What it proves itself with.
        tls: Option<PortTls>,
    },
    /// At the first of these sockets that can be made.
    FirstOf(Vec<PathBuf>),
}

/// TLS of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTls {
    /// What control proves itself with.
    pub files: TlsFiles,
    /// Who certifies edges and administrators; without it they need tokens.
    pub clients: Option<ClientFiles>,
}

/// Where the signing key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Narinfos are not signed.
    None,
    /// A file that was named and has to be there.
    Given(PathBuf),
    /// The file under the data path, which is made where it is missing.
    Default(PathBuf),
}

/// All that control is configured with.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlConfig {
    /// Where everything is kept.
    pub data_path: PathBuf,
    /// The database's file.
    pub database: PathBuf,
    /// Where the signing key comes from.
    pub key: KeySource,
    /// For how long an absence is believed.
    pub negative_ttl: Duration,
    /// Where edges reach control.
    pub addr: ControlAddr,
    /// Where administrators of this host reach it, where `addr` is no socket: the first token is made there.
    pub socket: Option<ControlAddr>,
    /// Where probes and Prometheus are answered; `None` where nowhere was named. The programs have defaults.
    pub http_addr: Option<ListenAddr>,
    /// What has no TLS may be reached from beyond this machine.
    pub insecure: bool,
    /// Given, and not needed.
    pub temp_path: Option<PathBuf>,
    /// Flags of the original's that were given and change nothing.
    pub without_effect: Vec<&'static str>,
    /// What to warn of at the start.
    pub warnings: Vec<String>,
    /// When eviction runs, also without need.
    pub eviction_schedule: Option<Schedule>,
    /// When stored files are compared with their names.
    pub scrubs: Scrubs,
    /// What of uploads is admitted.
    pub admission: Admission,
    /// What edges are configured with; index id and public keys are known later.
    pub settings: EdgeSettings,
    /// All values as they are shown, filled in by the program that reads them.
    pub shown: Vec<Setting>,
}

impl ControlConfig {
    /// Reads the fields of [`CONTROL`], [`LATER`] and [`LATER_GLOBAL`]. `None` where something is missing without
    /// which nothing else makes sense; problems are noted in `r` either way.
    pub fn read(r: &mut Resolver, env: Env<'_>) -> Option<ControlConfig> {
        let mut warnings = Vec::new();
        let settings = settings(r, env, &mut warnings);
        let temp_path = r.get(&fields::TEMP_PATH, absolute_path);
        let without_effect = later::read(r);
        let zone = r.get_or(&fields::LRU_TIMEZONE, str::parse, Zone::Local);
        let eviction_schedule = r.get(&fields::LRU_SCHEDULE, |text| Schedule::parse(text, zone));
        let scrubs = scrubs(r, zone);
        let admission = admission(r);
        let negative_ttl = settings.negative_ttl;
        let database = r.get(&fields::DATABASE_URL, database_path);
        let addr = control_addr(r, &mut warnings);
        let http_addr = r.get(&fields::CONTROL_HTTP_ADDR, listen_addr);
        let sign = r.flag(&fields::SIGN_NARINFO);
        let key_path = r.get(&fields::SECRET_KEY_PATH, absolute_path);
        let data_path = read_data_path(r, env)?;
        Some(ControlConfig {
            database: database.unwrap_or_else(|| default_database(r, &data_path)),
            key: if sign { key_source(r, key_path, &data_path) } else { KeySource::None },
            negative_ttl,
            socket: matches!(addr, Some(ControlAddr::Tcp { .. })).then(|| default_addr(r, env, &data_path)),
            addr: addr.unwrap_or_else(|| default_addr(r, env, &data_path)),
            http_addr,
            insecure: r.flag(&fields::CONTROL_INSECURE),
            temp_path,
            without_effect,
            warnings,
            eviction_schedule,
            scrubs,
            admission,
            settings,
            shown: Vec::new(),
            data_path,
        })
    }
}

impl ControlConfig {
    /// Notes all that was read, as it is shown: secrets are hidden, and what was accepted for the sake of others counts
    /// as nothing until it is given.
    pub fn note(&mut self, r: &Resolver) {
        let shown = r.show().into_iter().filter(|(field, ..)| !field.hidden || r.given(field));
        let setting = |(field, value, source): (Field, String, Source)| Setting {
            flag: field.flag.to_owned(),
            value,
            source: source.to_string(),
        };
        self.shown = shown.map(setting).collect();
    }

    /// Where probes and Prometheus are answered, unless something else was given.
    pub fn default_http_addr(&mut self, r: &mut Resolver, addr: ListenAddr) {
        if !r.given(&fields::CONTROL_HTTP_ADDR) {
            r.computed(&fields::CONTROL_HTTP_ADDR, addr);
            self.http_addr = Some(addr);
        }
    }
}

/// Where the database is, read from [`DATABASE`] and the data path alone. `None` where a problem was noted.
pub fn read_database(r: &mut Resolver, env: Env<'_>) -> Option<PathBuf> {
    if r.given(&fields::DATABASE_URL) {
        return r.get(&fields::DATABASE_URL, database_path);
    }
    let data_path = read_data_path(r, env)?;
    Some(default_database(r, &data_path))
}

fn default_database(r: &mut Resolver, data: &Path) -> PathBuf {
    let path = data.join("db/db.sqlite");
    if !r.given(&fields::DATABASE_URL) {
        r.computed(&fields::DATABASE_URL, format_args!("sqlite:{}", path.display()));
    }
    path
}

fn key_source(r: &mut Resolver, given: Option<PathBuf>, data: &Path) -> KeySource {
    if let Some(path) = given {
        return KeySource::Given(path);
    }
    let path = data.join("secret.key");
    if !r.given(&fields::SECRET_KEY_PATH) {
        r.computed(&fields::SECRET_KEY_PATH, path.display());
    }
    KeySource::Default(path)
}

/// What leaves this machine is encrypted, unless somebody insists.
fn control_addr(r: &mut Resolver, warnings: &mut Vec<String>) -> Option<ControlAddr> {
    let tls = TlsFiles::read(r, &fields::CONTROL_TLS_CERT, &fields::CONTROL_TLS_KEY);
    let clients = client_files(r);
    if clients.is_some() && tls.is_none() {
        r.problem(&fields::CONTROL_CLIENT_CA, "needs TLS: --control-tls-cert and --control-tls-key");
    }
    let tls = tls.map(|files| PortTls { files, clients });
    let insists = r.flag(&fields::CONTROL_INSECURE);
    let addr = match r.get(&fields::CONTROL_ADDR, values::control_addr) {
        Some(ControlAddr::Tcp { addr, .. }) => addr,
        other => {
            if tls.is_some() {
                r.problem(
                    &fields::CONTROL_TLS_CERT,
                    "needs an address and port, such as --control-addr=:8502",
                );
            }
            return other;
        }
    };
    if tls.is_none() && !is_loopback(addr) {
        if insists {
            warnings.push(format!(
                "--control-insecure: control listens at {addr} without TLS, and whoever sees the traffic can read the \
                 tokens in it"
            ));
        } else {
            r.problem(
                &fields::CONTROL_ADDR,
                "without TLS (--control-tls-cert, --control-tls-key) control listens on a loopback address or a Unix \
                 socket only; --control-insecure forces it",
            );
        }
    }
    Some(ControlAddr::Tcp { addr, tls })
}

fn client_files(r: &mut Resolver) -> Option<ClientFiles> {
    let ca = r.get(&fields::CONTROL_CLIENT_CA, absolute_path);
    let crl = r.get(&fields::CONTROL_CLIENT_CRL, absolute_path);
    if r.given(&fields::CONTROL_CLIENT_CRL) && !r.given(&fields::CONTROL_CLIENT_CA) {
        r.problem(&fields::CONTROL_CLIENT_CRL, "has to be given with --control-tls-client-ca");
    }
    Some(ClientFiles { ca: ca?, crl })
}

fn is_loopback(addr: ListenAddr) -> bool {
    matches!(addr, ListenAddr::At(addr) if addr.ip().is_loopback())
}

fn default_addr(r: &mut Resolver, env: Env<'_>, data: &Path) -> ControlAddr {
    let sockets = paths::control_sockets(env, paths::is_root(), Some(data));
    if let Some(first) = sockets.first().filter(|_| !r.given(&fields::CONTROL_ADDR)) {
        r.computed(&fields::CONTROL_ADDR, format_args!("unix:{}", first.display()));
    }
    ControlAddr::FirstOf(sockets)
}

fn settings(r: &mut Resolver, env: Env<'_>, warnings: &mut Vec<String>) -> EdgeSettings {
    let upstreams = upstreams::upstreams(r);
    EdgeSettings {
        index_id: String::new(),
        hostname: hostname(r),
        public_keys: Vec::new(),
        trusted_keys: upstreams::trusted_keys(r, &upstreams),
        upstreams,
        outward: upstreams::outward(r, env, warnings),
        give_up_after: upstreams::give_up_after(r),
        tokens: get_token(r),
        writing: writing(r),
        priority: r.get_or(&fields::PRIORITY, values::number, 0),
        connect_timeout: timeout(r, &fields::CONNECT_TIMEOUT),
        header_timeout: timeout(r, &fields::HEADER_TIMEOUT),
        idle_timeout: timeout(r, &fields::IDLE_TIMEOUT),
        transfer_timeout: timeout(r, &fields::TRANSFER_TIMEOUT),
        hedge_delay: r.get_or(&fields::HEDGE_DELAY, duration, Duration::ZERO),
        max_downloads: r.get_or(&fields::MAX_DOWNLOADS, values::at_once, 1),
        max_waiting_downloads: r.get_or(&fields::MAX_WAITING, values::number, 0),
        max_decoders: decoders(r),
        max_spool_bytes: r.get_or(&fields::MAX_SPOOL, byte_size, 0),
        near_cache_bytes: r.get_or(&fields::NEAR_CACHE, byte_size, 0),
        absent_on_upstream_failure: r.flag(&fields::ABSENT_ON_FAILURE),
        negative_ttl: r.get_or(&fields::NEGATIVE_TTL, duration, Duration::ZERO),
        object_ttl: r.get_or(&fields::OBJECT_TTL, duration, Duration::ZERO),
        max_objects_bytes: r.get_or(&fields::MAX_OBJECTS, byte_size, 0),
        max_narinfo_requests: r.get_or(&fields::MAX_NARINFO_REQUESTS, values::count, 1),
        fleet_secret: None,
        keep_peer_copies: r.flag(&fields::KEEP_PEER_COPIES),
        max_size: r.get(&fields::MAX_SIZE, byte_size),
        min_free: min_free(r),
        when_away: r.get_or(&fields::WHEN_AWAY, values::when_away, WhenAway::default()),
        look_ahead: r.get_or(&fields::PREFETCH, values::look_ahead, LookAhead::default()),
        recompress: recompress(r),
    }
}

/// The level of zstd that stored files become.
fn recompress(r: &mut Resolver) -> Option<i32> {
    let level = r.get_or(&fields::RECOMPRESS_LEVEL, values::zstd_level, 1);
    r.get_or(&fields::RECOMPRESS, values::recompress, false).then_some(level)
}

/// Kept as a hash from here on. One that is empty is none, as in the original.
fn get_token(r: &mut Resolver) -> Vec<Token> {
    let token = r.get(&fields::GET_TOKEN, |text| Ok::<_, String>(text.to_owned()));
    let token = token.filter(|token| !token.is_empty());
    let reads = |token: String| Token {
        id: fields::GET_TOKEN.flag.to_owned(),
        hash: Sha256Hash::of(token.as_bytes()),
        scopes: vec![Scope::Read],
        expires_at: None,
        edges: Vec::new(),
    };
    token.map(reads).into_iter().collect()
}

fn writing(r: &mut Resolver) -> Writing {
    Writing {
        put: r.flag(&fields::ALLOW_PUT),
        delete: r.flag(&fields::ALLOW_DELETE),
        require_token: r.flag(&fields::REQUIRE_TOKEN),
        max_upload_bytes: r.get_or(&fields::MAX_UPLOAD, byte_size, 0),
    }
}

fn admission(r: &mut Resolver) -> Admission {
    let only_trusted = r.flag(&fields::ONLY_TRUSTED);
    let anything = r.flag(&fields::SIGN_UNSIGNED);
    if only_trusted && anything {
        r.problem(&fields::SIGN_UNSIGNED, "contradicts --cache-require-trusted-signature");
    }
    Admission { keys: r.list(&fields::UPLOAD_KEYS, PublicKey::parse), only_trusted, anything }
}

/// 5 % of the disk, but on large disks no more than 10 GiB.
const DEFAULT_MIN_FREE: MinFree = MinFree { percent: 5, at_most: 10 << 30 };

fn min_free(r: &mut Resolver) -> MinFree {
    if r.given(&fields::MIN_FREE) {
        return r.get_or(&fields::MIN_FREE, values::min_free, DEFAULT_MIN_FREE);
    }
    r.computed(&fields::MIN_FREE, "5%, at most 10G");
    DEFAULT_MIN_FREE
}

fn scrubs(r: &mut Resolver, zone: Zone) -> Scrubs {
    let schedule = |text: &str| match text {
        "off" => Ok(None),
        text => Schedule::parse(text, zone).map(Some),
    };
    let rate = |text: &str| if text == "0" { Ok(0) } else { byte_size(text) };
    Scrubs {
        schedule: r.get_or(&fields::SCRUB_SCHEDULE, schedule, None),
        rate: NonZeroU64::new(r.get_or(&fields::SCRUB_RATE, rate, 0)),
    }
}

fn hostname(r: &mut Resolver) -> String {
    if r.given(&fields::HOSTNAME) {
        return r.get_or(&fields::HOSTNAME, values::hostname, String::new());
    }
    let name = paths::hostname();
    r.computed(&fields::HOSTNAME, &name);
    name
}

/// A time that can't be zero: nothing would ever be in time.
fn timeout(r: &mut Resolver, field: &Field) -> Duration {
    let timeout = r.get(field, duration);
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        r.problem(field, "has to be longer than 0s");
    }
    timeout.unwrap_or(Duration::ZERO)
}

fn decoders(r: &mut Resolver) -> u32 {
    if r.given(&fields::MAX_DECODERS) {
        return r.get_or(&fields::MAX_DECODERS, values::at_once, 1);
    }
    let cores =
        std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let cores = cores.min(values::MOST_AT_ONCE);
    r.computed(&fields::MAX_DECODERS, cores);
    cores
}
