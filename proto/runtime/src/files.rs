//! How many files and sockets the process may have open at once: as many as it is allowed to. The usual soft limit of
//! 1,024 is for programs that call `select`, which none of ours does; each connection takes one, and each file that is
//! read. Absent: the hard limit, which is whoever starts the process' to set.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one. What it is then, `None` where there is none; where the system
/// refuses, it stays as it was.
pub fn raise_file_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if raised.is_ok() { maximum } else { current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise_file_limit(), hard);
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
        assert_eq!(raise_file_limit(), hard, "again it changes nothing");
    }
}
