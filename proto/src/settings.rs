//! The configuration of an edge, as it travels and as it is kept: domain types to messages and back.

use std::time::Duration;

use ncps_nix::PublicKey;
use prost::Message as _;

use crate::convert::{all, malformed, millis, public_key, sha256};
use crate::gen_v1 as wire;
use crate::{
    EdgeSettings, Login, LookAhead, MinFree, NetrcEntry, Outward, Result, Secret, Target, Token,
    UpstreamSettings, WhenAway, Writing,
};

/// The settings as bytes, for the file in which an edge keeps the last ones.
pub fn encode_settings(settings: EdgeSettings) -> Vec<u8> {
    self::wire(settings).encode_to_vec()
}

/// Settings from such bytes.
///
/// # Errors
/// [`crate::Code::Invalid`] where they are not what [`encode_settings`] made.
pub fn decode_settings(bytes: &[u8]) -> Result<EdgeSettings> {
    let wire = wire::EdgeSettings::decode(bytes).map_err(|e| malformed("settings").because(e))?;
    read(wire)
}

pub(crate) fn read(wire: wire::EdgeSettings) -> Result<EdgeSettings> {
    let look_ahead_said = wire.look_ahead();
    Ok(EdgeSettings {
        index_id: wire.index_id,
        hostname: wire.hostname,
        public_keys: all(wire.public_keys, public_key)?,
        upstreams: wire.upstreams.into_iter().map(upstream).collect(),
        outward: Outward {
            netrc: all(wire.netrc, netrc)?,
            allowed: all(wire.allowed_targets, |text| text.parse().map_err(|_| malformed("target")))?,
            roots: wire.roots,
        },
        give_up_after: wire.give_up_after_ms.map(Duration::from_millis),
        trusted_keys: all(wire.trusted_keys, public_key)?,
        tokens: all(wire.tokens, token)?,
        // What is not said is not allowed.
        writing: wire.writing.map_or_else(Writing::default, writing),
        priority: wire.priority,
        connect_timeout: Duration::from_millis(wire.connect_timeout_ms),
        header_timeout: Duration::from_millis(wire.header_timeout_ms),
        idle_timeout: Duration::from_millis(wire.idle_timeout_ms),
        transfer_timeout: Duration::from_millis(wire.transfer_timeout_ms),
        hedge_delay: Duration::from_millis(wire.hedge_delay_ms),
        max_downloads: wire.max_downloads,
        max_waiting_downloads: wire.max_waiting_downloads,
        max_decoders: wire.max_decoders,
        max_spool_bytes: wire.max_spool_bytes,
        near_cache_bytes: wire.near_cache_bytes,
        absent_on_upstream_failure: wire.absent_on_upstream_failure,
        negative_ttl: Duration::from_millis(wire.negative_ttl_ms),
        object_ttl: Duration::from_millis(wire.object_ttl_ms),
        max_objects_bytes: wire.max_objects_bytes,
        max_narinfo_requests: wire.max_narinfo_requests,
        fleet_secret: Some(wire.fleet_secret).filter(|secret| !secret.is_empty()).map(Secret::new),
        keep_peer_copies: !wire.no_peer_copies,
        max_size: wire.max_size,
        // What an older control, or an older state file, does not say.
        min_free: wire
            .min_free
            .map_or(MinFree::NOTHING, |m| MinFree { percent: m.percent, at_most: m.at_most }),
        when_away: if wire.stored_only { WhenAway::StoredOnly } else { WhenAway::UpstreamSigned },
        look_ahead: look_ahead(look_ahead_said),
        recompress: wire.recompress_level,
    })
}

pub(crate) fn wire(settings: EdgeSettings) -> wire::EdgeSettings {
    let keys = |keys: Vec<PublicKey>| keys.iter().map(PublicKey::to_string).collect();
    wire::EdgeSettings {
        index_id: settings.index_id,
        hostname: settings.hostname,
        public_keys: keys(settings.public_keys),
        upstreams: settings.upstreams.into_iter().map(upstream_wire).collect(),
        netrc: settings.outward.netrc.into_iter().map(netrc_wire).collect(),
        allowed_targets: settings.outward.allowed.iter().map(Target::to_string).collect(),
        roots: settings.outward.roots,
        give_up_after_ms: settings.give_up_after.map(millis),
        trusted_keys: keys(settings.trusted_keys),
        tokens: settings.tokens.into_iter().map(token_wire).collect(),
        writing: Some(writing_wire(settings.writing)),
        priority: settings.priority,
        connect_timeout_ms: millis(settings.connect_timeout),
        header_timeout_ms: millis(settings.header_timeout),
        idle_timeout_ms: millis(settings.idle_timeout),
        transfer_timeout_ms: millis(settings.transfer_timeout),
        hedge_delay_ms: millis(settings.hedge_delay),
        max_downloads: settings.max_downloads,
        max_waiting_downloads: settings.max_waiting_downloads,
        max_decoders: settings.max_decoders,
        max_spool_bytes: settings.max_spool_bytes,
        near_cache_bytes: settings.near_cache_bytes,
        absent_on_upstream_failure: settings.absent_on_upstream_failure,
        negative_ttl_ms: millis(settings.negative_ttl),
        object_ttl_ms: millis(settings.object_ttl),
        max_objects_bytes: settings.max_objects_bytes,
        max_narinfo_requests: settings.max_narinfo_requests,
        fleet_secret: settings.fleet_secret.map(|secret| secret.reveal().to_owned()).unwrap_or_default(),
        no_peer_copies: !settings.keep_peer_copies,
        max_size: settings.max_size,
        min_free: Some(wire::MinFree {
            percent: settings.min_free.percent,
            at_most: settings.min_free.at_most,
        }),
        stored_only: settings.when_away == WhenAway::StoredOnly,
        look_ahead: look_ahead_wire(settings.look_ahead).into(),
        recompress_level: settings.recompress,
    }
}

fn look_ahead(wire: wire::LookAhead) -> LookAhead {
    match wire {
        wire::LookAhead::Off => LookAhead::Off,
        wire::LookAhead::Nars => LookAhead::Nars,
        // What an older control, or an older state file, does not say.
        wire::LookAhead::Metadata | wire::LookAhead::Unspecified => LookAhead::Metadata,
    }
}

fn look_ahead_wire(look_ahead: LookAhead) -> wire::LookAhead {
    match look_ahead {
        LookAhead::Off => wire::LookAhead::Off,
        LookAhead::Metadata => wire::LookAhead::Metadata,
        LookAhead::Nars => wire::LookAhead::Nars,
    }
}

fn upstream(wire: wire::Upstream) -> UpstreamSettings {
    UpstreamSettings {
        url: wire.url,
        priority: wire.priority,
        optional: wire.optional,
        unsigned: wire.unsigned,
        login: wire.login.map(login),
        identity: Some(wire.identity).filter(|pem| !pem.is_empty()).map(Secret::new),
    }
}

fn upstream_wire(upstream: UpstreamSettings) -> wire::Upstream {
    wire::Upstream {
        url: upstream.url,
        priority: upstream.priority,
        optional: upstream.optional,
        unsigned: upstream.unsigned,
        login: upstream.login.map(login_wire),
        identity: upstream.identity.map(|pem| pem.reveal().to_owned()).unwrap_or_default(),
    }
}

fn login(wire: wire::Login) -> Login {
    Login { user: wire.user, password: Secret::new(wire.password) }
}

fn login_wire(login: Login) -> wire::Login {
    wire::Login { user: login.user, password: login.password.reveal().to_owned() }
}

fn netrc(wire: wire::NetrcEntry) -> Result<NetrcEntry> {
    let login = login(wire.login.ok_or_else(|| malformed("login"))?);
    Ok(NetrcEntry { host: Some(wire.host).filter(|host| !host.is_empty()), login })
}

fn netrc_wire(entry: NetrcEntry) -> wire::NetrcEntry {
    wire::NetrcEntry { host: entry.host.unwrap_or_default(), login: Some(login_wire(entry.login)) }
}

fn token(wire: wire::Token) -> Result<Token> {
    Ok(Token {
        id: wire.id,
        hash: sha256(&wire.hash)?,
        scopes: all(wire.scopes, |scope| scope.parse().map_err(|e| malformed("scope").because(e)))?,
        expires_at: wire.expires_at,
        edges: wire.edges,
    })
}

fn token_wire(token: Token) -> wire::Token {
    wire::Token {
        id: token.id,
        hash: token.hash.as_bytes().to_vec(),
        scopes: token.scopes.iter().map(ToString::to_string).collect(),
        expires_at: token.expires_at,
        edges: token.edges,
    }
}

fn writing(wire: wire::Writing) -> Writing {
    let wire::Writing { put, delete, require_token, max_upload_bytes } = wire;
    Writing { put, delete, require_token, max_upload_bytes }
}

fn writing_wire(writing: Writing) -> wire::Writing {
    let Writing { put, delete, require_token, max_upload_bytes } = writing;
    wire::Writing { put, delete, require_token, max_upload_bytes }
}
