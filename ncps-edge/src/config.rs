//! The edge's own configuration: where it listens, where its disk is, who it is, and where control is. All
//! else comes from control.

use std::path::{Path, PathBuf};

use ncps_runtime::config::values::listen_addr;
use ncps_runtime::config::{Env, Field, ListenAddr, Resolver};
use ncps_runtime::{fields, paths};
use url::Url;

/// Where Nix clients are served.
pub const SERVER_ADDR: Field = Field::value(
    "server-addr",
    "SERVER_ADDR",
    "server.addr",
    "Where Nix clients are served; without a host, on all addresses.",
)
.default(":8501")
.value_name("ADDR");

/// Who the edge is.
pub const EDGE_NAME: Field =
    Field::value("edge-name", "EDGE_NAME", "edge.name", "The edge's name. By default the machine's.")
        .value_name("NAME");

/// How others reach it.
pub const EDGE_URL: Field = Field::value(
    "edge-url",
    "EDGE_URL",
    "edge.url",
    "How other edges reach this one, such as http://host:8501.",
)
.value_name("URL");

/// Where control is.
pub const CONTROL_URL: Field = Field::value(
    "control-url",
    "CONTROL_URL",
    "control.url",
    "Where control is: unix:PATH, or http://HOST:PORT on this machine. By default its socket in the usual places.",
)
.value_name("URL");

/// The fields of an edge, wherever control is.
pub const EDGE: &[Field] = &[SERVER_ADDR, EDGE_NAME, EDGE_URL];

/// The fields of an edge in a process of its own.
pub const REMOTE: &[Field] = &[CONTROL_URL];

/// An edge, wherever control is.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeConfig {
    pub data_path: PathBuf,
    pub server_addr: ListenAddr,
    pub name: String,
    pub url: Option<String>,
}

/// How an edge of its own process reaches control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlUrl {
    /// A socket on this host.
    Unix(PathBuf),
    /// Plain HTTP/2, on the loopback only.
    Http(Url),
    /// The first of these sockets that is there.
    FirstOf(Vec<PathBuf>),
}

impl EdgeConfig {
    /// Reads [`EDGE`] and the data path. `None` where a problem was noted.
    pub fn read(r: &mut Resolver, env: Env<'_>) -> Option<EdgeConfig> {
        let server_addr = r.get(&SERVER_ADDR, listen_addr);
        let url = r.get(&EDGE_URL, http_url);
        let name = r.text(&EDGE_NAME).unwrap_or_else(|| {
            let name = paths::hostname();
            r.computed(&EDGE_NAME, &name);
            name
        });
        let data_path = fields::read_data_path(r, env)?;
        Some(EdgeConfig { data_path, server_addr: server_addr?, name, url })
    }
}

impl ControlUrl {
    /// Reads [`REMOTE`]. `None` where a problem was noted.
    pub fn read(r: &mut Resolver, env: Env<'_>, data: Option<&Path>) -> Option<ControlUrl> {
        if r.given(&CONTROL_URL) {
            return r.get(&CONTROL_URL, control_url);
        }
        let places = paths::control_sockets(env, paths::is_root(), data);
        let listed: Vec<_> = places.iter().map(|p| format!("unix:{}", p.display())).collect();
        r.computed(&CONTROL_URL, listed.join(" or "));
        Some(ControlUrl::FirstOf(places))
    }
}

fn http_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|e| format!("{e}; expected a URL such as http://host:8501"))?;
    match url.scheme() {
        "http" | "https" => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("expected a URL that begins with http:// or https://".to_owned()),
    }
}

fn control_url(text: &str) -> Result<ControlUrl, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = PathBuf::from(path);
        return if path.is_absolute() {
            Ok(ControlUrl::Unix(path))
        } else {
            Err("expected an absolute path after unix:".to_owned())
        };
    }
    let url = Url::parse(text).map_err(|e| format!("{e}; expected unix:PATH or http://HOST:PORT"))?;
    match (url.scheme(), is_loopback(&url)) {
        ("http", true) => Ok(ControlUrl::Http(url)),
        ("http", false) => Err("plain HTTP leaves this host: only loopback addresses can be used".to_owned()),
        _ => Err("expected unix:PATH or http://HOST:PORT (TLS is not there yet)".to_owned()),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_is_reached_on_this_host_only() {
        assert_eq!(control_url("unix:/run/c.sock"), Ok(ControlUrl::Unix("/run/c.sock".into())));
        assert!(matches!(control_url("http://127.0.0.1:8502"), Ok(ControlUrl::Http(_))));
        assert!(matches!(control_url("http://[::1]:8502"), Ok(ControlUrl::Http(_))));
        for refused in ["http://10.0.0.1:8502", "https://127.0.0.1", "unix:relative", "control", ""] {
            assert!(control_url(refused).is_err(), "{refused}");
        }
    }
}
