//! Asking before something is done that people may not expect: on a terminal. A script says `--yes`, or nothing is
//! done.

use std::io::{self, IsTerminal, Write};

use crate::failure::{Done, Failure};

/// Goes on where the answer is yes, or was given beforehand.
///
/// # Errors
/// [`Failure::Input`] where it is anything else, or nobody can be asked.
pub fn confirmed(beforehand: bool, effect: &str) -> Done {
    if beforehand {
        eprintln!("{effect}");
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Input(format!("{effect} Nothing was changed; --yes does it without asking.")));
    }
    eprint!("{effect} Go on? [y/N] ");
    io::stderr().flush().ok();
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).ok();
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Input("Nothing was changed.".to_owned())),
    }
}
