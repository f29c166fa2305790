//! What a cluster is configured with unless a test says otherwise.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ncps_edge::config::{EdgeConfig, Limits};
use ncps_proto::{EdgeSettings, LookAhead, MinFree, Outward, WhenAway, Writing};
use ncps_runtime::config::ListenAddr;

/// Its data path is known when it starts.
pub(super) fn an_edge() -> EdgeConfig {
    EdgeConfig {
        data_path: PathBuf::new(),
        server_addr: any_port(),
        name: "edge".to_owned(),
        url: None,
        zone: None,
        durable: true,
        max_size: None,
        landing_page: true,
        tls: None,
        authorities: None,
        limits: Limits::default(),
    }
}

/// None that is known before it starts.
pub(super) fn any_port() -> ListenAddr {
    ListenAddr::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

/// Timeouts that upstreams keep that are well, on a machine with too much to do as well. Tests of those that fall silent
/// have shorter ones.
pub(super) fn default_settings() -> EdgeSettings {
    EdgeSettings {
        index_id: String::new(),
        hostname: "cache.test".to_owned(),
        public_keys: Vec::new(),
        upstreams: Vec::new(),
        outward: Outward::default(),
        give_up_after: None,
        trusted_keys: Vec::new(),
        tokens: Vec::new(),
        writing: Writing::default(),
        priority: 10,
        connect_timeout: Duration::from_secs(5),
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        transfer_timeout: Duration::from_secs(120),
        hedge_delay: Duration::from_millis(400),
        max_downloads: 32,
        max_waiting_downloads: 1024,
        max_decoders: 2,
        max_spool_bytes: 16 << 30,
        near_cache_bytes: 16 << 20,
        absent_on_upstream_failure: false,
        negative_ttl: Duration::from_secs(60),
        object_ttl: Duration::from_secs(3600),
        max_objects_bytes: 1 << 30,
        max_narinfo_requests: 256,
        fleet_secret: None,
        keep_peer_copies: true,
        max_size: None,
        min_free: MinFree::NOTHING,
        when_away: WhenAway::default(),
        look_ahead: LookAhead::default(),
        recompress: None,
    }
}
