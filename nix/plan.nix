# From the options of a service to what systemd runs: the configuration file, the script, and files that only root
# reads. Pure, and without anything of nixpkgs, so that a test of the checkout can evaluate it.
#
# Absent: what is the same for every service (hardening.nix), and how options are declared (module.nix, options.nix).
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    filter
    isAttrs
    isString
    listToAttrs
    map
    mapAttrs
    substring
    stringLength
    ;

  # Without what is not given.
  given =
    set:
    listToAttrs (
      concatMap (
        name:
        let
          value = if isAttrs set.${name} then given set.${name} else set.${name};
        in
        if value == null || value == { } || value == [ ] || value == "" then [ ] else [ { inherit name value; } ]
      ) (attrNames set)
    );

  # The second one wins.
  over =
    below: above:
    below
    // mapAttrs (
      name: value: if isAttrs value && isAttrs (below.${name} or null) then over below.${name} value else value
    ) above;

  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;

  # Whether a place is in the directory that systemd makes.
  isBelow = directory: place: place == directory || hasPrefix "${directory}/" place;

  parent = place: builtins.dirOf place;

  sqlitePath =
    url: if isString url && hasPrefix "sqlite:" url then substring 7 (stringLength url) url else null;

  # Files by the variables that name them to the program: systemd hands copies over.
  handedOver = files: map (variable: "${variable}:${toString files.${variable}}") (attrNames files);
  place = variable: "\"$CREDENTIALS_DIRECTORY/${variable}\"";

  ofNcps = cfg: {
    log.level = cfg.logLevel;
    opentelemetry = if cfg.openTelemetry.enable then { enabled = true; grpc-url = cfg.openTelemetry.grpcURL; } else { };
    prometheus.enabled = cfg.prometheus.enable;
    server.addr = cfg.server.addr;
    cache = {
      hostname = cfg.cache.hostName;
      database-url = cfg.cache.databaseURL;
      # As text: a path of Nix would become a copy in the store.
      storage.local = toString cfg.cache.storage.local;
      sign-narinfo = cfg.cache.signNarinfo;
      allow-put-verb = cfg.cache.allowPutVerb;
      allow-delete-verb = cfg.cache.allowDeleteVerb;
      max-size = cfg.cache.maxSize;
      lru.schedule = cfg.cache.lru.schedule;
      lru.timezone = cfg.cache.lru.scheduleTimeZone;
      netrc-file = toString cfg.netrcFile;
      upstream = {
        urls = cfg.cache.upstream.urls;
        public-keys = cfg.cache.upstream.publicKeys;
        dialer-timeout = cfg.cache.upstream.dialerTimeout;
        response-header-timeout = cfg.cache.upstream.responseHeaderTimeout;
      };
      # Nothing but what means nothing is accepted of these.
      cdc.enabled = cfg.cache.cdc.enabled;
      lock.backend = cfg.cache.lock.backend;
    };
  };

  ncps =
    cfg:
    let
      database = sqlitePath cfg.cache.databaseURL;
      directories = [ (toString cfg.cache.storage.local) ] ++ (if database == null then [ ] else [ (parent database) ]);
      key = if cfg.cache.secretKeyPath == null then { } else { CACHE_SECRET_KEY_PATH = cfg.cache.secretKeyPath; };
      files = cfg.credentials // key;
      url = if cfg.cache.databaseURLFile == null then { } else { CACHE_DATABASE_URL = cfg.cache.databaseURLFile; };
    in
    {
      program = "ncps";
      arguments = [ "serve" ];
      settings = over (given (ofNcps cfg)) cfg.settings;
      # Made for it, as systemd makes no others.
      directories = filter (place: !isBelow "/var/lib/ncps" place) directories;
      credentials = handedOver (files // url);
      variables =
        mapAttrs (variable: _: place variable) files
        # The file has the value itself.
        // mapAttrs (variable: _: "\"$(cat ${place variable})\"") url;
    };

  # Their settings are the keys of the file alone.
  plain = program: defaults: cfg: {
    inherit program;
    arguments = [ ];
    settings = over defaults cfg.settings;
    directories = [ ];
    credentials = handedOver cfg.credentials;
    variables = mapAttrs (variable: _: place variable) cfg.credentials;
  };
in
{
  inherit ncps over;
  control = plain "ncps-control" { };
  # The socket of a control on the same host, unless another place is named.
  edge = plain "ncps-edge" { control.url = "unix:/run/ncps/control.sock"; };

  # What the unit starts; `exec` keeps the process that systemd knows.
  script =
    plan: package: file:
    let
      exports = map (variable: "export ${variable}=${plan.variables.${variable}}") (attrNames plan.variables);
      start = [ "exec ${package}/bin/${plan.program} --config=${file}" ] ++ plan.arguments;
    in
    concatStringsSep "\n" (exports ++ [ (concatStringsSep " " start) ]);
}
