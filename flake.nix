# The package, the NixOS module and its test. docs/NIXOS.md says how they are used.
{
  description = "A Nix binary cache for one network";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      package = pkgs: pkgs.callPackage ./nix/package.nix { commit = self.shortRev or ""; };
      each = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        ncps = package pkgs;
        default = ncps;
      });

      overlays.default = final: _: { ncps = package final; };

      nixosModules = rec {
        ncps = ./nix/module.nix;
        default = ncps;
      };

      checks = each (pkgs: {
        inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) ncps;
        vm = pkgs.testers.runNixOSTest ./nix/tests/vm.nix;
      });
    };
}
