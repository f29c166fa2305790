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
    let said = answer(&format!("{effect} Go on?")).unwrap_or_default();
    match said.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Input("Nothing was changed.".to_owned())),
    }
}

/// Asks, where it is known that somebody is there.
///
/// # Errors
/// [`Failure::Failed`] where no answer can be read.
pub fn is_yes(question: &str) -> Result<bool, Failure> {
    let said = answer(question).map_err(|error| Failure::Failed(format!("ask: {error}")))?;
    Ok(matches!(said.as_str(), "y" | "Y" | "yes"))
}

fn answer(question: &str) -> io::Result<String> {
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}
