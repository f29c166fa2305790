//! The command lines by which the original is started in the wild, as they are written there: containers, Compose,
//! Kubernetes, and what nixpkgs' module has made of its options over the years. Only places are put in: the shell
//! that reads them is the usual one, and takes the quotes.

use std::path::Path;

use ncps_nix::SecretKey;
use ncps_tests::{Fixture, Process, ReservedPort, Upstream, UpstreamKey};

use super::*;

pub(crate) const COMPOSE: &str = "
mkdir -m 0755 -p /storage/var
mkdir -m 0700 -p /storage/var/ncps
mkdir -m 0700 -p /storage/var/ncps/db
/bin/dbmate --url=sqlite:/storage/var/ncps/db/db.sqlite migrate up
exec /bin/ncps serve --cache-hostname=your-ncps-hostname --cache-data-path=/storage \
    --cache-database-url=sqlite:/storage/var/ncps/db/db.sqlite \
    --upstream-cache=https://cache.nixos.org --upstream-cache=https://nix-community.cachix.org \
    --upstream-public-key=cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY= \
    --upstream-public-key=nix-community.cachix.org-1:mB9FSh9qf2dCimDSUo8Zy7bkq5CX+/rkCWyvRCYg3Fs=";

pub(crate) const DOCKER: &str = "
docker run kalbasit/ncps /bin/dbmate --url=sqlite:/storage/db/db.sqlite migrate up
docker run kalbasit/ncps /bin/ncps serve --cache-hostname=your-ncps-hostname --cache-data-path=/storage \
    --cache-database-url=sqlite:/storage/db/db.sqlite --upstream-cache=https://cache.nixos.org \
    --upstream-public-key=cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

pub(crate) const KUBERNETES: &str = "
mkdir -m 0755 -p /storage/var && mkdir -m 0700 -p /storage/var/ncps && mkdir -m 0700 -p /storage/var/ncps/db
mkdir -p /nar-temp-dir
/bin/dbmate --url=sqlite:/storage/var/ncps/db/db.sqlite migrate up
exec /bin/ncps serve --cache-hostname=REPLACE-ME --cache-data-path=/storage --cache-temp-path=/nar-temp-dir \
    --cache-database-url=sqlite:/storage/var/ncps/db/db.sqlite --upstream-cache=https://cache.nixos.org \
    --upstream-public-key=cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// The unit's umask is the module's.
const NIXPKGS_FIRST: &str = "
umask 0066
/bin/dbmate --migrations-dir=/nix/store/x-ncps/share/ncps/db/migrations --url=sqlite:/var/lib/ncps/db/db.sqlite up
exec /bin/ncps --log-level='info' --prometheus-enabled serve --cache-hostname='cache.example' \
    --cache-data-path='/var/lib/ncps' --cache-database-url='sqlite:/var/lib/ncps/db/db.sqlite' \
    --cache-temp-path='/tmp/ncps' --server-addr=':8501' --cache-allow-delete-verb --cache-allow-put-verb \
    --cache-max-size='100G' --cache-lru-schedule='0 2 * * *' --cache-lru-schedule-timezone='America/Los_Angeles' \
    --cache-secret-key-path='/run/credentials/secretKey' --upstream-cache='https://cache.nixos.org' \
    --upstream-public-key='cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=' \
    --netrc-file='/etc/nix/netrc'";

const NIXPKGS_SECOND: &str = "
umask 0066
/bin/dbmate-ncps --url='sqlite:/var/lib/ncps/db/db.sqlite' up
exec /bin/ncps --analytics-reporting-enabled=false --log-level='warn' serve --cache-hostname='cache.example' \
    --cache-database-url='sqlite:/var/lib/ncps/db/db.sqlite' --cache-temp-path='/tmp/ncps' --server-addr=':8501' \
    --cache-database-pool-max-open-conns='0' --cache-database-pool-max-idle-conns='0' --cache-lock-backend='local' \
    --cache-lock-redis-key-prefix='ncps:lock:' --cache-lock-download-ttl='5m0s' --cache-lock-lru-ttl='30m0s' \
    --cache-lock-retry-max-attempts='3' --cache-lock-retry-initial-delay='100ms' --cache-lock-retry-max-delay='2s' \
    --cache-lock-retry-jitter='true' --cache-lock-allow-degraded-mode='false' --cache-sign-narinfo='false' \
    --cache-storage-local='/var/lib/ncps' --cache-upstream-url='https://cache.nixos.org' \
    --cache-upstream-public-key='cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=' \
    --cache-upstream-dialer-timeout='3s' --cache-upstream-response-header-timeout='3s'";

const NIXPKGS_THIRD: &str = r#"
umask 0066
cat > /etc/ncps-config.json <<'END'
{"analytics":{"reporting":{"enabled":true,"samples":false}},"cache":{"allow-delete-verb":false,"allow-put-verb":false,
"cdc":{"avg":65536,"enabled":false,"max":262144,"min":16384},"database":{"pool":{"max-idle-conns":0,"max-open-conns":0}},
"hostname":"cache.example","lock":{"allow-degraded-mode":false,"backend":"local","download-lock-ttl":"5m0s",
"lru-lock-ttl":"30m0s","redis":{"key-prefix":"ncps:lock:"},"retry":{"initial-delay":"100ms","jitter":true,
"max-attempts":3,"max-delay":"2s"}},"lru":{"timezone":"Local"},"sign-narinfo":true,"storage":{"local":"/var/lib/ncps"},
"temp-path":"/tmp/ncps","upstream":{"public-keys":["cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="],
"urls":["https://cache.nixos.org"]}},"log":{"level":"info"},"server":{"addr":":8501"}}
END
export DATABASE_URL="$(cat "/run/credentials/databaseURL")"
/bin/dbmate-ncps up
export CACHE_SECRET_KEY_PATH="/run/credentials/secretKey"
export CACHE_REDIS_PASSWORD="hunter2"
export CACHE_DATABASE_URL="$(cat "/run/credentials/databaseURL")"
exec /bin/ncps --config "/etc/ncps-config.json" serve"#;

/// What of a script is put in another place.
const FOLDERS: [&str; 6] =
    ["/storage", "/nar-temp-dir", "/var/lib/ncps", "/tmp/ncps", "/run/credentials", "/etc"];

struct Host {
    dir: TempDir,
    port: ReservedPort,
    upstream: Upstream,
    fixture: Fixture,
    upstream_key: UpstreamKey,
    key: SecretKey,
}

impl Host {
    async fn new() -> Host {
        let upstream_key = UpstreamKey::new("cache.nixos.org-1");
        let fixture = Fixture::new("hello-1.0").build(&upstream_key);
        let key = SecretKey::generate("given.example").expect("a good name");
        let upstream = Upstream::with(&[&fixture]).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let host = Host { dir, port: ReservedPort::new(), upstream, fixture, upstream_key, key };
        for folder in ["var/lib/ncps/db", "tmp/ncps", "etc/nix", "run/credentials"] {
            std::fs::create_dir_all(host.path(folder)).expect("room");
        }
        write(&host.path("run/credentials/secretKey"), &host.key.to_text());
        let database = host.path("var/lib/ncps/db/db.sqlite");
        write(&host.path("run/credentials/databaseURL"), &format!("sqlite:{}", database.display()));
        write(&host.path("etc/nix/netrc"), "machine cache.example login me password hunter2");
        host
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// A script in which every place is one of ours.
    fn here(&self, script: &str) -> String {
        let root = self.dir.path().display().to_string();
        let mut script = script.replace("docker run kalbasit/ncps /bin/ncps", "exec /bin/ncps");
        script = script.replace("docker run kalbasit/ncps ", "");
        for folder in FOLDERS {
            script = script.replace(folder, &format!("{root}{folder}"));
        }
        for program in ["ncps", "dbmate-ncps", "dbmate"] {
            script = script.replace(&format!("/bin/{program} "), &format!("'{UNDER_TEST}' {program} "));
        }
        let script = upstreams_here(&script, &self.upstream.url(), &self.upstream_key);
        script.replace(":8501", &self.port.addr().to_string())
    }

    /// It starts, serves what the upstream has, and stops. Returns what it said.
    async fn runs(&self, script: &str) -> Vec<String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-e", "-c", &self.here(script)]).env_clear().env("HOME", self.path("home"));
        // Those lines that don't say it mean the usual port.
        command.env("PATH", "/usr/bin:/bin").env("CONTROL_HTTP_ADDR", "127.0.0.1:0");
        if !script.contains(":8501") {
            command.env("SERVER_ADDR", self.port.addr().to_string());
        }
        let mut process = Process::spawn_command(command);
        process.ready(self.port.addr()).await;
        for path in [self.fixture.narinfo_path(), self.fixture.nar_path()] {
            let mut response = ncps_tests::get(self.port.addr(), &path).await.expect("it answers");
            assert_eq!(response.status, 200, "{path}");
            response.whole().await;
        }
        assert_eq!(process.terminate().await.code(), Some(0));
        process.lines()
    }

    async fn signs(&self, script: &str) {
        self.runs(script).await;
        let made = std::fs::read_to_string(self.path("var/lib/ncps/secret.key"));
        assert!(made.is_err(), "the given key is used");
    }

    fn has(&self, below: &str) -> bool {
        Path::exists(&self.path(below))
    }
}

fn has_line(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

#[tokio::test]
async fn containers_start() {
    let host = Host::new().await;
    let lines = host.runs(DOCKER).await;
    assert!(has_line(&lines, "db.sqlite: made"), "{lines:#?}");
    assert!(host.has("storage/db/db.sqlite") && host.has("storage/store/nix-cache-info"));
}

#[tokio::test]
async fn compose_starts_again_and_again() {
    let host = Host::new().await;
    for says in ["db.sqlite: made", "db.sqlite: nothing is pending"] {
        let lines = host.runs(COMPOSE).await;
        assert!(has_line(&lines, says), "{lines:#?}");
    }
    assert!(host.has("storage/var/ncps/db/db.sqlite") && !host.has("storage/db"));
}

#[tokio::test]
async fn kubernetes_starts() {
    let host = Host::new().await;
    let lines = host.runs(KUBERNETES).await;
    assert!(has_line(&lines, "--cache-temp-path is not needed"), "{lines:#?}");
    assert_eq!(std::fs::read_dir(host.path("nar-temp-dir")).expect("it is kept").count(), 0);
}

#[tokio::test]
async fn the_first_module_of_nixpkgs_starts() {
    let host = Host::new().await;
    host.signs(NIXPKGS_FIRST).await;
}

#[tokio::test]
async fn the_second_module_of_nixpkgs_starts() {
    let host = Host::new().await;
    host.runs(NIXPKGS_SECOND).await;
    assert!(!host.has("var/lib/ncps/secret.key"), "nothing is signed");
}

#[tokio::test]
async fn the_third_module_of_nixpkgs_starts() {
    let host = Host::new().await;
    let lines = host.runs(NIXPKGS_THIRD).await;
    assert!(!host.has("var/lib/ncps/secret.key"), "the given key is used");
    let moot: Vec<_> = lines.iter().filter(|line| line.contains("without effect here")).collect();
    let [moot] = moot[..] else { panic!("said once: {lines:#?}") };
    for flag in
        ["--analytics-reporting-enabled", "--cache-cdc-min", "--cache-redis-password", "--cache-lock-lru-ttl"]
    {
        assert!(moot.contains(flag), "{moot}");
    }
    assert!(!has_line(&lines, "hunter2"), "{lines:#?}");
}
