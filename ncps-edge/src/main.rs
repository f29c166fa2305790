//! The program `ncps-edge`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ncps_edge::run(std::env::args_os(), &|name| std::env::var(name).ok()).into()
}
