//! How upstreams are reached: who they are, who we are to them, and where they may send us. Plain data; secrets
//! are never printed and wiped when dropped.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use zeroize::Zeroizing;

/// One upstream cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Base URL without a trailing slash, a query, a user and a password. Names the upstream everywhere.
    pub url: String,
    /// Lower is asked first; among equals who answers faster.
    pub priority: i32,
    /// It may sleep: while it can't be asked it has no say, so that what the others lack is absent.
    pub optional: bool,
    /// Narinfos without a trusted signature are passed on, never signed by us.
    pub unsigned: bool,
    /// Who we are to it; wins over the netrc file.
    pub login: Option<Login>,
    /// A client certificate and its private key, in PEM.
    pub identity: Option<Secret>,
}

impl UpstreamSettings {
    /// An upstream with nothing special about it.
    pub fn plain(url: &str, priority: i32) -> UpstreamSettings {
        let url = url.trim_end_matches('/').to_owned();
        UpstreamSettings { url, priority, optional: false, unsigned: false, login: None, identity: None }
    }
}

/// What all upstreams have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outward {
    /// Logins by host, as a netrc file has them; the first that fits counts.
    pub netrc: Vec<NetrcEntry>,
    /// Where upstreams may send us although the address is a private one.
    pub allowed: Vec<Target>,
    /// Certificate authorities beside the system's, in PEM; empty for none.
    pub roots: String,
}

/// A login for a host, or for every host that no entry before it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetrcEntry {
    pub host: Option<String>,
    pub login: Login,
}

/// A user and a password (HTTP Basic, RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

/// A text that is never printed, and wiped when it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(text.into()))
    }

    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A place in a private network that an upstream may send us to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This name, in lower case, whatever it resolves to.
    Host(String),
    /// These addresses.
    Net(IpNet),
}

impl Target {
    /// Whether a host of this name at this address is meant.
    pub fn covers(&self, host: &str, addr: IpAddr) -> bool {
        match self {
            Target::Host(name) => name.eq_ignore_ascii_case(host),
            Target::Net(net) => net.contains(&addr),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    /// A CIDR, an address, or a host name.
    fn from_str(text: &str) -> Result<Target, String> {
        if let Ok(net) = text.parse() {
            return Ok(Target::Net(net));
        }
        if let Ok(addr) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Target::Net(addr.into()));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if text.is_empty() || !text.chars().all(is_name) {
            return Err("expected a host name, an address or a network such as 10.0.0.0/8".to_owned());
        }
        Ok(Target::Host(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Host(name) => f.write_str(name),
            Target::Net(net) => write!(f, "{net}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_names_or_networks() {
        let covers = |target: &str, host: &str, addr: &str| {
            let target: Target = target.parse().expect("a target");
            assert_eq!(target.to_string().parse(), Ok(target.clone()), "it travels as text");
            target.covers(host, addr.parse().expect("an address"))
        };
        assert!(covers("10.0.0.0/8", "x", "10.1.2.3") && !covers("10.0.0.0/8", "x", "11.0.0.1"));
        assert!(covers("fd00::1", "x", "fd00::1") && covers("[fd00::1]", "x", "fd00::1"));
        assert!(
            covers("Store.lan", "store.LAN", "10.0.0.1") && !covers("store.lan", "other.lan", "10.0.0.1")
        );
        for wrong in ["", "a b", "http://x", "10.0.0.0/33", "x/8"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let login = Login { user: "me".to_owned(), password: Secret::new("hunter2") };
        assert!(!format!("{login:?}").contains("hunter2"));
        assert_eq!(login.password.reveal(), "hunter2");
    }
}
