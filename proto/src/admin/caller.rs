//! Who asks for a change, as the connection shows it: nothing that a caller says of itself counts.

use std::fmt;

use tonic::Extensions;
use tonic::transport::server::UdsConnectInfo;

/// Who asks. Named in the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `uid N` over a Unix socket.
    pub who: String,
}

impl Caller {
    /// What the layers below say of a request: a caller that one of them found out, else the peer of its socket.
    pub fn of(extensions: &Extensions) -> Caller {
        if let Some(caller) = extensions.get::<Caller>() {
            return caller.clone();
        }
        let peer = extensions.get::<UdsConnectInfo>().and_then(|socket| socket.peer_cred);
        let who = peer.map_or_else(|| "unknown".to_owned(), |peer| format!("uid {}", peer.uid()));
        Caller { who }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_was_found_out_counts() {
        let mut extensions = Extensions::new();
        assert_eq!(Caller::of(&extensions).to_string(), "unknown");
        let (peer_addr, peer_cred) = (None, None);
        extensions.insert(UdsConnectInfo { peer_addr, peer_cred });
        assert_eq!(Caller::of(&extensions).to_string(), "unknown");
        extensions.insert(Caller { who: "token ops".to_owned() });
        assert_eq!(Caller::of(&extensions).to_string(), "token ops");
    }
}
