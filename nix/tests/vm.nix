# A client that knows ncps alone gets what only Harmonia has: through one that is alone, and through a fleet.
# It takes nixpkgs and KVM: nix build .#checks.x86_64-linux.vm
{ lib, pkgs, ... }:
let
  # Made for this test, and for nothing else.
  upstream.secret = "upstream.test-1:u7ovFBx8qQgZvMLa3lxH+vvnHwx0+tRIfhMGuLhehst9qrB3JHK/hnaxrL5hFQKGFe9ESRNPFIGm550Xe4aKmA==";
  upstream.public = "upstream.test-1:faqwdyRyv4Z2say+YRUChhXvREkTTxSBpuedF3uGipg=";
  ours.secret = "cache.test-1:INB0tZbWM6/3mFH+l2RvT4zQcqocoaSDsfy2ckJlRbFBt8GzslJEyuQ60WJK6pdPFcJWPvXrET5TplzWfVwZGg==";
  ours.public = "cache.test-1:QbfBs7JSRMrkOtFiSuqXTxXCVj716xE+U6Zc1n1cGRo=";

  secretKey = toString (pkgs.writeText "cache-key" ours.secret);
  client = host: {
    nix.settings.substituters = lib.mkForce [ "http://${host}:8501" ];
    nix.settings.trusted-public-keys = lib.mkForce [ ours.public ];
  };
in
{
  name = "ncps";

  nodes = {
    harmonia = {
      services.harmonia = {
        enable = true;
        signKeyPaths = [ (pkgs.writeText "upstream-key" upstream.secret) ];
      };
      networking.firewall.allowedTCPPorts = [ 5000 ];
      system.extraDependencies = [ pkgs.emptyFile ];
    };

    alone = {
      imports = [ ../module.nix ];
      services.ncps = {
        enable = true;
        cache.hostName = "cache.test";
        cache.secretKeyPath = secretKey;
        cache.upstream.urls = [ "http://harmonia:5000" ];
        cache.upstream.publicKeys = [ upstream.public ];
      };
      networking.firewall.allowedTCPPorts = [ 8501 ];
    };

    fleet = {
      imports = [ ../module.nix ];
      services.ncps-control = {
        enable = true;
        settings.cache.hostname = "cache.test";
        settings.cache.upstream.urls = [ "http://harmonia:5000" ];
        settings.cache.upstream.public-keys = [ upstream.public ];
        credentials.CACHE_SECRET_KEY_PATH = secretKey;
      };
      services.ncps-edge.enable = true;
      networking.firewall.allowedTCPPorts = [ 8501 ];
    };

    first = client "alone";
    second = client "fleet";
  };

  testScript = ''
    start_all()
    # Its socket may be what starts it.
    harmonia.wait_for_open_port(5000)
    alone.wait_for_unit("ncps.service")
    fleet.wait_for_unit("ncps-control.service")
    fleet.wait_for_unit("ncps-edge.service")

    for client, host in [(first, "alone"), (second, "fleet")]:
        client.wait_until_succeeds(f"curl -sf http://{host}:8501/readyz")
        assert '"hostname":"cache.test"' in client.succeed(f"curl -sf http://{host}:8501/")
        client.succeed("nix-store --realise ${pkgs.emptyFile}")

    # Served on without anybody behind.
    harmonia.crash()
    alone.succeed("systemctl restart ncps.service")
    alone.wait_for_unit("ncps.service")
    name = "${builtins.substring 11 32 pkgs.emptyFile.outPath}"
    first.succeed(f"curl -sf http://alone:8501/{name}.narinfo | grep cache.test")
  '';
}
