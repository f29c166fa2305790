//! Why a command failed, and the exit code that says so.

use ncps_proto::{Code, Error};
use ncps_runtime::exit::Exit;

/// How a command ends.
pub type Done = Result<(), Failure>;

/// Each with what is printed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It was tried, and failed; or something bad was found.
    #[error("{0}")]
    Failed(String),
    /// What was asked for can't be: nothing was changed. The text says what would be right.
    #[error("{0}")]
    Input(String),
    /// There is no control to ask.
    #[error("{0}")]
    Unreachable(String),
}

impl Failure {
    /// Prints it, and tells the exit code.
    pub fn say(&self) -> Exit {
        eprintln!("ncps-cli: {self}");
        match self {
            Failure::Failed(_) => Exit::Failure,
            Failure::Input(_) => Exit::Usage,
            Failure::Unreachable(_) => Exit::Unreachable,
        }
    }

    /// What running it gave: a failure of ours, or of the machine.
    pub fn of_any(error: anyhow::Error) -> Failure {
        error.downcast().unwrap_or_else(|error| Failure::Failed(format!("{error:#}")))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let story = error.story();
        match error.code() {
            Code::Invalid | Code::Absent => Failure::Input(story),
            Code::Unavailable => Failure::Unreachable(story),
            _ => Failure::Failed(story),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_who_is_at_fault() {
        let exit = |code| Failure::from(Error::new(code, "why")).say();
        assert_eq!(exit(Code::Invalid), Exit::Usage);
        assert_eq!(exit(Code::Absent), Exit::Usage);
        assert_eq!(exit(Code::Unavailable), Exit::Unreachable);
        assert_eq!(exit(Code::Internal), Exit::Failure);
    }
}
