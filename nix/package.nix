# All programs, with what belongs to them.
{
  lib,
  rustPlatform,
  # What --version says: there is no repository where it is built.
  commit ? "",
}:
rustPlatform.buildRustPackage {
  pname = "ncps";
  version = (lib.importTOML ../Cargo.toml).workspace.package.version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.lock
      ../Cargo.toml
      ../LICENSE
      ../README.md
      ../docs
      ../migrations
      ../ncps-cli
      ../ncps-control
      ../ncps-edge
      ../packaging
      ../proto
      ../tests
    ];
  };
  env.NCPS_COMMIT = commit;
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [
    "--package=ncps-cli"
    "--package=ncps-edge"
    "--package=ncps-control"
    "--bins"
  ];

  # Most of them want a network of their own; the checkout runs them.
  doCheck = false;
  postInstall = "bash packaging/install '' $out $out/bin";

  meta = {
    description = "Nix binary cache for one network";
    license = lib.licenses.mit;
    mainProgram = "ncps";
    platforms = lib.platforms.linux;
  };
}
