//! The programs under test in one binary: the first argument names the program, the rest is its command line. Each
//! runs as from its own `main`. Tests get this one from cargo, which builds no other package's binaries for them.

use std::process::ExitCode;

use ncps_runtime::exit::Exit;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1);
    let program = std::env::args().nth(1).unwrap_or_default();
    let env = |name: &str| std::env::var(name).ok();
    let exit = match program.as_str() {
        "ncps" | "dbmate" | "dbmate-ncps" => ncps_cli::run(args, &env),
        "ncps-edge" => ncps_edge::run(args, &env),
        "ncps-control" => ncps_control::run::run(args, &env),
        other => {
            eprintln!("expected ncps, ncps-edge or ncps-control, not {other:?}");
            Exit::Usage
        }
    };
    exit.into()
}
