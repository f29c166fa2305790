//! The program `ncps-control`. See the library.

use std::process::ExitCode;

/// Many threads make and drop small things: the system's allocator is slower and keeps more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    ncps_control::run::run(std::env::args_os(), &env).into()
}
