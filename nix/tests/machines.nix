# Machines as people configure them, and their services. The tests of the checkout have the programs read what these
# are started with.
let
  key = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
  evaluate = (import ./lib.nix).evaluate (import ../module.nix);
  services =
    machine:
    let
      system = evaluate machine;
    in
    # All of it is looked at, also what no test does.
    builtins.deepSeq system system.systemd.services;

  small.ncps = {
    enable = true;
    cache.hostName = "cache.example";
    cache.upstream.urls = [ "https://cache.nixos.org" ];
    cache.upstream.publicKeys = [ key ];
  };
in
{
  small = services small;

  # Every option of nixpkgs' module that is not about what ncps has not.
  large = services {
    ncps = {
      enable = true;
      package = "/nix/store/mine";
      logLevel = "fatal";
      openTelemetry.enable = true;
      openTelemetry.grpcURL = "http://collector:4317";
      prometheus.enable = true;
      analytics.reporting.enable = false;
      analytics.reporting.samples = true;
      netrcFile = "/etc/nix/netrc";
      server.addr = "127.0.0.1:8501";
      cache = {
        hostName = "cache.example";
        databaseURL = "sqlite:/srv/index/db.sqlite";
        storage.local = "/srv/ncps";
        storage.s3 = null;
        tempPath = "/srv/tmp";
        secretKeyPath = "/run/keys/cache";
        signNarinfo = true;
        allowPutVerb = true;
        allowDeleteVerb = true;
        maxSize = "100G";
        lru.schedule = "0 2 * * *";
        lru.scheduleTimeZone = "America/Los_Angeles";
        upstream.urls = [
          "https://cache.nixos.org"
          "https://nix-community.cachix.org?priority=50"
        ];
        upstream.publicKeys = [ key ];
        upstream.dialerTimeout = "5s";
        upstream.responseHeaderTimeout = "10s";
        cdc.enabled = false;
        cdc.min = 1;
        cdc.avg = 2;
        cdc.max = 3;
        database.pool.maxOpenConns = 5;
        database.pool.maxIdleConns = 5;
        redis = null;
        lock.backend = "local";
        lock.redisKeyPrefix = "x";
        lock.downloadTTL = "1m";
        lock.lruTTL = "1m";
        lock.retry.maxAttempts = 1;
        lock.retry.initialDelay = "1s";
        lock.retry.maxDelay = "1s";
        lock.retry.jitter = false;
        lock.allowDegradedMode = true;
      };
      settings.cache.scrub.rate = "100M";
      settings.shutdown.grace = "30s";
      credentials.SERVER_TLS_KEY = "/run/keys/tls";
      credentials.SERVER_TLS_CERT = "/run/keys/cert";
    };
  };

  # Names of former years.
  old = services {
    ncps = {
      enable = true;
      cache.hostName = "cache.example";
      cache.dataPath = "/srv/old";
      cache.signNarinfo = false;
      upstream.caches = [ "https://cache.nixos.org" ];
      upstream.publicKeys = [ key ];
    };
  };

  given = services {
    ncps = small.ncps // {
      cache = small.ncps.cache // {
        databaseURL = null;
        databaseURLFile = "/run/keys/database";
      };
    };
  };

  fleet = services {
    ncps-control = {
      enable = true;
      settings.cache.hostname = "cache.example";
      settings.cache.max-size = "1T";
      settings.control.addr = ":8502";
      credentials.CONTROL_TLS_CERT = "/run/keys/cert";
      credentials.CONTROL_TLS_KEY = "/run/keys/key";
    };
    ncps-edge.enable = true;
  };

  far = services {
    ncps-edge = {
      enable = true;
      settings.edge.name = "edge-1";
      settings.edge.url = "http://edge-1:8501";
      settings.control.url = "https://control:8502";
      credentials.CONTROL_TOKEN_FILE = "/run/keys/token";
    };
  };
}
