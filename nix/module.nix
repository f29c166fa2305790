# `services.ncps`, in the place of nixpkgs' module for the Go ncps, and `services.ncps-control` and `services.ncps-edge`
# for a fleet. What is run is in plan.nix.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.ncps;
  plans = import ./plan.nix;
  options = import ./options.nix { inherit lib pkgs cfg; };

  renamed = from: to: lib.mkRenamedOptionModule ([ "services" "ncps" ] ++ from) ([ "services" "ncps" ] ++ to);
  removed = option: lib.mkRemovedOptionModule ([ "services" "ncps" ] ++ option);

  service =
    name: description: cfg: plan:
    lib.mkIf cfg.enable {
      # Control and edges of one host meet at a socket that is their user's.
      users.users.ncps = {
        isSystemUser = true;
        group = "ncps";
      };
      users.groups.ncps = { };

      # For `ncps import` and `ncps-cli`.
      environment.systemPackages = [ cfg.package ];

      systemd.tmpfiles.settings.${name} = lib.genAttrs plan.directories (_: {
        d = {
          user = "ncps";
          group = "ncps";
          mode = "0700";
        };
      });

      systemd.services.${name} = {
        inherit description;
        after = [ "network-online.target" ];
        wants = [ "network-online.target" ];
        wantedBy = [ "multi-user.target" ];
        # It is started again for as long as it takes.
        startLimitIntervalSec = 0;
        script = plans.script plan cfg.package (pkgs.writeText "${name}.json" (builtins.toJSON plan.settings));
        unitConfig.RequiresMountsFor = plan.directories;
        serviceConfig = import ./hardening.nix // {
          Type = "notify";
          NotifyAccess = "main";
          User = "ncps";
          Group = "ncps";
          Restart = "on-failure";
          RestartSec = "5s";
          # A release may migrate a large database first.
          TimeoutStartSec = "infinity";
          StateDirectory = name;
          StateDirectoryMode = "0700";
          # Where the socket of control is.
          RuntimeDirectory = lib.optional (name != "ncps-edge") "ncps";
          RuntimeDirectoryMode = "0700";
          LoadCredential = plan.credentials;
          ReadWritePaths = plan.directories;
          LimitNOFILE = 65536;
          # Longer than shutdown.grace.
          TimeoutStopSec = lib.mkDefault 90;
        };
      };
    };

  # Where clients are served, by options and by keys of the file.
  addressOf = cfg: cfg.settings.server.addr or cfg.server.addr or ":8501";
  edge = config.services.ncps-edge;

  refuse = condition: message: {
    assertion = !condition;
    message = "services.ncps: ${message}";
  };
in
{
  disabledModules = [ "services/networking/ncps.nix" ];

  imports = [
    (renamed [ "cache" "dataPath" ] [ "cache" "storage" "local" ])
    (renamed [ "upstream" "caches" ] [ "cache" "upstream" "urls" ])
    (renamed [ "upstream" "publicKeys" ] [ "cache" "upstream" "publicKeys" ])
    (removed [ "dbmatePackage" ] "ncps migrates its database itself.")
    (removed [ "cache" "lock" "postgresKeyPrefix" ] "One process serves a data path: there is nobody to lock out.")
  ];

  options.services = options;

  config = lib.mkMerge [
    (service "ncps" "ncps, a Nix binary cache" cfg (plans.ncps cfg))
    (service "ncps-control" "control of ncps" config.services.ncps-control (plans.control config.services.ncps-control))
    (service "ncps-edge" "edge of ncps" config.services.ncps-edge (plans.edge config.services.ncps-edge))
    (lib.mkIf cfg.enable {
      assertions = [
        (refuse ((cfg.cache.databaseURL == null) == (cfg.cache.databaseURLFile == null))
          "exactly one of cache.databaseURL and cache.databaseURLFile has to be given")
        (refuse (cfg.cache.databaseURL != null && !lib.hasPrefix "sqlite:" cfg.cache.databaseURL)
          "PostgreSQL and MySQL are not used: cache.databaseURL has to begin with sqlite:")
        (refuse (cfg.cache.storage.s3 != null) "object storage is not there: cache.storage.s3 has to be null")
        (refuse (cfg.cache.redis != null || cfg.cache.lock.backend != "local")
          "Redis is not used: cache.redis has to be null, and cache.lock.backend local")
        (refuse cfg.cache.cdc.enabled "NAR files are kept whole: cache.cdc.enabled has to be false")
        (refuse config.services.ncps-control.enable "it holds control, and can't run beside services.ncps-control")
        (refuse (edge.enable && addressOf edge == addressOf cfg)
          "services.ncps-edge listens at ${addressOf cfg}, too: one of them needs another settings.server.addr")
      ];
    })
  ];
}
