//! Who we are to an upstream, and to the hosts that it sends us to: a login goes to the host that it belongs to
//! and to nobody else, and never in the clear where the upstream itself is asked over TLS.

use ncps_proto::{Login, NetrcEntry};
use url::Url;

pub(super) struct Logins {
    base: Url,
    own: Option<Login>,
    netrc: Vec<NetrcEntry>,
}

impl Logins {
    pub(super) fn new(base: &Url, own: Option<&Login>, netrc: &[NetrcEntry]) -> Logins {
        Logins { base: base.clone(), own: own.cloned(), netrc: netrc.to_vec() }
    }

    /// The login for a request to `url`, if there is one.
    pub(super) fn of(&self, url: &Url) -> Option<&Login> {
        if self.base.scheme() == "https" && url.scheme() != "https" {
            return None;
        }
        let is_own = url.origin() == self.base.origin();
        let own = self.own.as_ref().filter(|_| is_own);
        own.or_else(|| self.in_netrc(url.host_str()?, is_own))
    }

    /// The default entry is for the upstream itself, not for whomever it names.
    fn in_netrc(&self, host: &str, is_own: bool) -> Option<&Login> {
        let fits = |entry: &&NetrcEntry| match &entry.host {
            Some(name) => name.eq_ignore_ascii_case(host),
            None => is_own,
        };
        self.netrc.iter().find(fits).map(|entry| &entry.login)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ncps_proto::Secret;

    fn login(user: &str) -> Login {
        Login { user: user.to_owned(), password: Secret::new("p") }
    }

    fn entry(host: Option<&str>, user: &str) -> NetrcEntry {
        NetrcEntry { host: host.map(str::to_owned), login: login(user) }
    }

    fn asked(own: Option<&str>, netrc: &[NetrcEntry], url: &str) -> Option<String> {
        let base = Url::parse("https://cache.test/sub/").expect("valid");
        let logins = Logins::new(&base, own.map(login).as_ref(), netrc);
        logins.of(&Url::parse(url).expect("valid")).map(|login| login.user.clone())
    }

    #[test]
    fn a_login_stays_with_its_host() {
        let netrc = [entry(Some("s3.test"), "s3"), entry(Some("cache.test"), "netrc"), entry(None, "any")];
        let at = |own, url| asked(own, &netrc, url);
        assert_eq!(at(Some("own"), "https://cache.test/sub/x").as_deref(), Some("own"));
        assert_eq!(at(None, "https://cache.test/other").as_deref(), Some("netrc"));
        assert_eq!(at(Some("own"), "https://s3.test/x").as_deref(), Some("s3"));
        assert_eq!(at(Some("own"), "https://other.test/x"), None, "the default entry does not travel");
        assert_eq!(at(Some("own"), "https://cache.test:444/x").as_deref(), Some("netrc"), "another server");
        assert_eq!(at(Some("own"), "http://cache.test/sub/x"), None, "not in the clear");
        assert_eq!(asked(None, &netrc[2..], "https://cache.test/x").as_deref(), Some("any"));
    }
}
