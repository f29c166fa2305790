//! The program `ncps-cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ncps_cli::administer(std::env::args_os(), &|name| std::env::var(name).ok()).into()
}
