//! The one table of what may go wrong: a small closed set of codes, and for each what HTTP, gRPC, the log and
//! a retrying caller make of it. Knows nothing of who raised it. Absent on purpose: 403 and 429, which Nix
//! takes for "absent" and for "wait a minute" (DESIGN §6 of the project's architecture).

/// What to do about a failure. Matched exhaustively by both translators, so that a new code stops the build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Known to be nowhere. The only code that a client may remember as an absence.
    Absent,
    /// The caller's input can't be right.
    Invalid,
    /// An upstream failed, and none had what was asked for.
    UpstreamFailed,
    /// Our deadline on an upstream passed.
    UpstreamTimeout,
    /// A part of ours that was needed is away or stopping.
    Unavailable,
    /// A limit of ours is reached and its queue is full.
    Overloaded,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// The verb is switched off.
    VerbOff,
    /// The disk can't take what must be stored.
    StorageFull,
    /// What the caller sends is larger than is taken.
    TooLarge,
    /// What the caller sends came too slowly.
    TooSlow,
    /// What the caller sends is well-formed, and not taken.
    Refused,
    /// A bug.
    Internal,
}

/// What one code means on every border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The HTTP status.
    pub http: u16,
    /// The gRPC status.
    pub grpc: tonic::Code,
    /// The name, as it stands in logs and in gRPC metadata.
    pub name: &'static str,
    /// What the client is told.
    pub phrase: &'static str,
    /// The level at which the operator sees it.
    pub level: tracing::Level,
    /// Whether the same request may succeed a little later.
    pub retry: bool,
}

impl Code {
    /// Every code, for tables and tests.
    pub const ALL: [Code; 13] = [
        Code::Absent,
        Code::Invalid,
        Code::UpstreamFailed,
        Code::UpstreamTimeout,
        Code::Unavailable,
        Code::Overloaded,
        Code::Unauthenticated,
        Code::VerbOff,
        Code::StorageFull,
        Code::TooLarge,
        Code::TooSlow,
        Code::Refused,
        Code::Internal,
    ];

    /// The row of the table.
    pub const fn meaning(self) -> Meaning {
        use tonic::Code as Grpc;
        use tracing::Level;
        const fn row(
            http: u16,
            grpc: Grpc,
            name: &'static str,
            phrase: &'static str,
            level: Level,
            retry: bool,
        ) -> Meaning {
            Meaning { http, grpc, name, phrase, level, retry }
        }
        match self {
            Code::Absent => row(404, Grpc::NotFound, "absent", "not found", Level::DEBUG, false),
            Code::Invalid => row(400, Grpc::InvalidArgument, "invalid", "bad request", Level::INFO, false),
            Code::UpstreamFailed => {
                row(502, Grpc::Aborted, "upstream_failed", "an upstream cache failed", Level::WARN, true)
            }
            Code::UpstreamTimeout => row(
                504,
                Grpc::DeadlineExceeded,
                "upstream_timeout",
                "an upstream cache was too slow",
                Level::WARN,
                true,
            ),
            Code::Unavailable => {
                row(503, Grpc::Unavailable, "unavailable", "temporarily unavailable", Level::WARN, true)
            }
            Code::Overloaded => row(
                503,
                Grpc::ResourceExhausted,
                "overloaded",
                "too much to do, try again",
                Level::WARN,
                true,
            ),
            Code::Unauthenticated => row(
                401,
                Grpc::Unauthenticated,
                "unauthenticated",
                "credentials are missing or wrong",
                Level::INFO,
                false,
            ),
            Code::VerbOff => {
                row(405, Grpc::Unimplemented, "verb_off", "method not allowed", Level::INFO, false)
            }
            Code::StorageFull => {
                row(507, Grpc::OutOfRange, "storage_full", "the cache's disk is full", Level::ERROR, true)
            }
            Code::TooLarge => row(413, Grpc::OutOfRange, "too_large", "too large", Level::INFO, false),
            Code::TooSlow => row(408, Grpc::DeadlineExceeded, "too_slow", "too slow", Level::INFO, true),
            Code::Refused => row(422, Grpc::FailedPrecondition, "refused", "refused", Level::INFO, false),
            Code::Internal => row(500, Grpc::Internal, "internal", "internal error", Level::ERROR, false),
        }
    }

    /// Whether it is about what the caller sent, so that he may be told what is wrong with it.
    pub const fn is_callers(self) -> bool {
        matches!(self, Code::Invalid | Code::TooLarge | Code::TooSlow | Code::Refused)
    }

    /// The code whose [`Meaning::name`] this is.
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.meaning().name == name)
    }

    /// The nearest code to a gRPC status that carries no name of ours (a broken link, a foreign server). What fails inside
    /// control has a name, so `Internal` without one is the transport's: a connection that took its calls along.
    pub fn from_grpc(grpc: tonic::Code) -> Code {
        match grpc {
            tonic::Code::Unavailable
            | tonic::Code::Cancelled
            | tonic::Code::Unknown
            | tonic::Code::Internal
            | tonic::Code::DeadlineExceeded => Code::Unavailable,
            other => {
                Code::ALL.into_iter().find(|code| code.meaning().grpc == other).unwrap_or(Code::Internal)
            }
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.meaning().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.meaning().name), Some(code));
        }
    }

    #[test]
    fn reads_never_see_403_or_429() {
        assert!(Code::ALL.iter().all(|c| !matches!(c.meaning().http, 403 | 429)));
    }

    #[test]
    fn only_absence_is_a_404() {
        for code in Code::ALL {
            assert_eq!(code.meaning().http == 404, code == Code::Absent, "{code}");
        }
    }

    #[test]
    fn a_broken_link_is_never_an_absence() {
        for grpc in 1..=16 {
            let grpc = tonic::Code::from(grpc);
            assert!(Code::from_grpc(grpc) != Code::Absent || grpc == tonic::Code::NotFound);
        }
    }
}
