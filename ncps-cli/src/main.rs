//! The program `ncps`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ncps_cli::run(std::env::args_os(), &|name| std::env::var(name).ok()).into()
}
