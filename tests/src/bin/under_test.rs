//! The programs under test in one binary: the first argument names the program, the rest is its command line. Called
//! by another name than its own it is `ncps` under that name. Each runs as from its own `main`. Tests get this one
//! from cargo, which builds no other package's binaries for them.

use std::path::Path;
use std::process::ExitCode;

use ncps_runtime::exit::Exit;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    if let Some(point) = env(ncps_tests::FAULT) {
        ncps_runtime::fault::arm(&point);
    }
    if !called_by_its_own_name() {
        return ncps_cli::run(std::env::args_os(), &env).into();
    }
    let args = std::env::args_os().skip(1);
    let program = std::env::args().nth(1).unwrap_or_default();
    let exit = match program.as_str() {
        "ncps" | "dbmate" | "dbmate-ncps" => ncps_cli::run(args, &env),
        "ncps-cli" => ncps_cli::administer(args, &env),
        "ncps-edge" => ncps_edge::run(args, &env),
        "ncps-control" => ncps_control::run::run(args, &env),
        other => {
            eprintln!("expected ncps, ncps-cli, ncps-edge or ncps-control, not {other:?}");
            Exit::Usage
        }
    };
    exit.into()
}

fn called_by_its_own_name() -> bool {
    let called = std::env::args_os().next().unwrap_or_default();
    Path::new(&called).file_name().is_none_or(|name| name == "under_test")
}
