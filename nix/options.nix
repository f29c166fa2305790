# The options of `services.ncps`, with the names, types and defaults of nixpkgs' module for the Go ncps, and those that
# every service of ours has beside. What of nixpkgs' options has no meaning here is accepted where it changes nothing.
{ lib, pkgs, cfg }:
let
  inherit (lib) mkEnableOption mkOption types;

  option = type: default: description: mkOption { inherit type default description; };
  optional = type: description: option (types.nullOr type) null description;
  needed = type: description: mkOption { inherit type description; };
  moot = type: default: option type default "Without effect: ncps needs no such thing.";

  # Those of every service.
  common = about: {
    enable = mkEnableOption about;
    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = "the package of this checkout";
      description = "The package with the programs.";
    };
    settings = option (types.attrsOf types.anything) { } ''
      Keys of the configuration file, as docs/CONFIGURATION.md lists them: { cache.scrub.rate = "100M"; }.
      They win over other options.'';
    credentials = option (types.attrsOf types.str) { } ''
      Files that only root has to be able to read, by the variable that names each to the program:
      { CONTROL_TOKEN_FILE = "/etc/ncps/token"; }. Systemd hands over a copy, made when the service starts.'';
  };
in
{
  ncps-control = common "control of an ncps fleet";
  ncps-edge = common "an edge of an ncps fleet";

  ncps = common "ncps, a Nix binary cache for one network" // {
    logLevel = option (types.enum [
      "trace"
      "debug"
      "info"
      "warn"
      "error"
      "fatal"
      "panic"
    ]) "info" "Least severity that is logged.";
    openTelemetry.enable = mkEnableOption "logs, metrics and traces by OpenTelemetry";
    openTelemetry.grpcURL = optional types.str "The collector; without one everything is written to standard output.";
    prometheus.enable = mkEnableOption "metrics for Prometheus at /metrics";
    analytics.reporting.enable = moot types.bool true;
    analytics.reporting.samples = moot types.bool false;
    netrcFile = optional types.path "Logins for upstreams by host.";
    server.addr = option types.str ":8501" "Where Nix clients are served.";

    cache = {
      hostName = needed types.str "Name of the cache and of its signing key.";
      databaseURL = mkOption {
        type = types.nullOr types.str;
        default = "sqlite:${cfg.cache.storage.local}/db/db.sqlite";
        defaultText = "sqlite:/var/lib/ncps/db/db.sqlite";
        description = "The index: sqlite: and an absolute path.";
      };
      databaseURLFile = optional types.path "A file with that; databaseURL has to be null then.";
      secretKeyPath = optional types.path "The signing key; by default one is made.";
      signNarinfo = option types.bool true "Sign narinfos with the cache's own key.";
      allowPutVerb = mkEnableOption "uploads (PUT)";
      allowDeleteVerb = mkEnableOption "deletions (DELETE)";
      maxSize = optional types.str "Disk that NARs and narinfos may take, such as 100G.";
      lru.schedule = optional types.str "When to evict also without need, as cron has it.";
      lru.scheduleTimeZone = option types.str "Local" "The time zone of that.";
      storage.local = option types.path "/var/lib/ncps" "Where everything is kept.";
      storage.s3 = optional (types.attrsOf types.anything) "Has to be null: object storage is not there.";
      tempPath = moot types.path "/tmp";

      upstream = {
        urls = needed (types.listOf types.str) "Upstream caches.";
        publicKeys = option (types.listOf types.str) [ ] "Keys that they sign with, name:base64.";
        dialerTimeout = optional types.str "Time for a connection to one.";
        responseHeaderTimeout = optional types.str "Time from a request to the head of its response.";
      };

      cdc.enabled = option types.bool false "Has to be false: NAR files are kept whole.";
      cdc.min = moot types.int 16384;
      cdc.avg = moot types.int 65536;
      cdc.max = moot types.int 262144;
      database.pool.maxOpenConns = moot types.int 0;
      database.pool.maxIdleConns = moot types.int 0;
      redis = optional (types.attrsOf types.anything) "Has to be null: Redis is not used.";
      lock = {
        backend = option types.str "local" "Has to be local: one process serves a data path.";
        redisKeyPrefix = moot types.str "ncps:lock:";
        downloadTTL = moot types.str "5m0s";
        lruTTL = moot types.str "30m0s";
        retry.maxAttempts = moot types.int 3;
        retry.initialDelay = moot types.str "100ms";
        retry.maxDelay = moot types.str "2s";
        retry.jitter = moot types.bool true;
        allowDegradedMode = moot types.bool false;
      };
    };
  };
}
