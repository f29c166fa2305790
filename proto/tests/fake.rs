//! The conformance suite over the in-memory plane, plain and through the gRPC adapters.

use std::sync::Arc;
use std::time::Duration;

use ncps_nix::SecretKey;
use ncps_proto::conformance::{Setup, check};
use ncps_proto::fake::FakeControl;
use ncps_proto::{
    ControlPlane, EdgeSettings, Login, LookAhead, MinFree, NetrcEntry, Outward, Scope, Secret, Token,
    UpstreamSettings, WhenAway, Writing, decode_settings, encode_settings, grpc,
};

fn settings(setup: &Setup, key: &SecretKey) -> EdgeSettings {
    EdgeSettings {
        index_id: "test".into(),
        hostname: "cache".into(),
        public_keys: vec![key.public()],
        upstreams: vec![UpstreamSettings::plain("http://a.test", 1), special()],
        outward: outward(),
        give_up_after: Some(Duration::from_secs(300)),
        trusted_keys: vec![setup.trusted.clone()],
        tokens: vec![token()],
        writing: Writing { put: true, delete: true, require_token: true, max_upload_bytes: 1 << 30 },
        priority: 10,
        connect_timeout: Duration::from_secs(3),
        header_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(30),
        transfer_timeout: Duration::from_secs(3600),
        hedge_delay: Duration::from_millis(400),
        max_downloads: 8,
        max_waiting_downloads: 64,
        max_decoders: 2,
        max_spool_bytes: 1 << 30,
        near_cache_bytes: 1 << 20,
        absent_on_upstream_failure: false,
        negative_ttl: setup.negative_ttl,
        object_ttl: Duration::from_secs(3600),
        max_objects_bytes: 1 << 30,
        max_narinfo_requests: 256,
        fleet_secret: Some(Secret::new("of the fleet")),
        keep_peer_copies: false,
        max_size: None,
        min_free: MinFree::NOTHING,
        when_away: WhenAway::StoredOnly,
        look_ahead: LookAhead::Nars,
        recompress: Some(6),
    }
}

fn token() -> Token {
    Token {
        id: "ci".into(),
        hash: ncps_nix::Sha256Hash::of(b"token"),
        scopes: Scope::ALL.to_vec(),
        expires_at: Some(1 << 40),
        edges: vec!["edge".into()],
    }
}

fn special() -> UpstreamSettings {
    UpstreamSettings {
        optional: true,
        unsigned: true,
        login: Some(login()),
        identity: Some(Secret::new("pem")),
        ..UpstreamSettings::plain("http://b.test/sub", 2)
    }
}

fn outward() -> Outward {
    let entry = |host: Option<&str>| NetrcEntry { host: host.map(Into::into), login: login() };
    let allowed = ["10.0.0.0/8", "store.lan"].map(|text| text.parse().expect("a target"));
    Outward { netrc: vec![entry(Some("b.test")), entry(None)], allowed: allowed.into(), roots: "pem".into() }
}

fn login() -> Login {
    Login { user: "me".into(), password: Secret::new("hunter2") }
}

async fn fake(setup: Setup) -> Arc<dyn ControlPlane> {
    let key = SecretKey::generate("cache").expect("randomness is there");
    let mut settings = settings(&setup, &key);
    setup.configure(&mut settings);
    Arc::new(FakeControl::new(key, settings, setup.negative_ttl))
}

#[tokio::test]
async fn the_fake_conforms() {
    check(fake).await;
}

#[tokio::test]
async fn the_fake_conforms_through_grpc() {
    check(|setup| async { grpc::in_process(fake(setup).await) }).await;
}

#[test]
fn settings_survive_the_file() {
    let key = SecretKey::generate("cache").expect("randomness is there");
    let setup = Setup { trusted: key.public(), negative_ttl: Duration::ZERO, tokens: Vec::new() };
    let settings = settings(&setup, &key);
    assert_eq!(decode_settings(&encode_settings(settings.clone())).expect("it parses"), settings);
    assert!(decode_settings(b"\xff\xff not settings").is_err());
}
