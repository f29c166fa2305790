//! The ways in which a program of ours ends.
//!
//! Knows the codes that service managers and scripts see. Absent: exit codes per cause; the log says why.

use std::process::ExitCode;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Asked to stop, and stopped; or the command did what it was asked. Code 0.
    Ok,
    /// Something failed while running. Code 1: a service manager may try again.
    Failure,
    /// The command line, the configuration or the place it points at can't be used. Code 2: trying again
    /// won't help.
    Usage,
    /// Control, which was to be asked, can't be reached. Code 3: it may be reached later, or elsewhere.
    Unreachable,
}

impl Exit {
    /// The code as the process' parent sees it.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_documentation() {
        let all = [Exit::Ok, Exit::Failure, Exit::Usage, Exit::Unreachable];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3]);
    }
}
