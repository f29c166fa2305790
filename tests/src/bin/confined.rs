//! Becomes a program under the sandbox of a unit: `confined UNIT PROGRAM ARGUMENTS…`. What it can't do itself, the command
//! that [`Unit::launcher`] makes does before.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use ncps_tests::sandbox::Unit;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [unit, program, args @ ..] = &args[..] else {
        eprintln!("usage: confined UNIT PROGRAM ARGUMENTS…");
        return ExitCode::from(2);
    };
    let unit = Unit::read(Path::new(unit)).map_err(|error| error.to_string());
    let why = match unit.and_then(|unit| unit.confine()) {
        Ok(()) => Command::new(program).args(args).exec().to_string(),
        Err(why) => why,
    };
    eprintln!("confined: {why}");
    ExitCode::from(2)
}
