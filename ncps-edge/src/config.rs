//! The edge's own configuration: where it listens, where its disk is, who it is, and where control is. All
//! else comes from control.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ncps_runtime::config::values::{absolute_path, boolean, byte_size, listen_addr};
use ncps_runtime::config::{Env, Field, ListenAddr, Resolver};
use ncps_runtime::tls::TlsFiles;
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

/// Where it stands.
pub const EDGE_ZONE: Field = Field::value(
    "edge-zone",
    "EDGE_ZONE",
    "edge.zone",
    "Where the edge stands, such as a site or a rack: edges of one zone read from each other first.",
)
.value_name("NAME");

/// Whether its disk is kept.
pub const EDGE_DURABLE: Field = Field::value(
    "edge-durable",
    "EDGE_DURABLE",
    "edge.durable",
    "Whether the edge's disk is kept, so that uploads may rest on it: where control asks for a token or a certificate, \
     that has to permit it. By default true for ncps serve, false for an edge in a process of its own.",
)
.value_name("BOOL");

/// How much of its disk it may use.
pub const EDGE_MAX_SIZE: Field = Field::value(
    "edge-max-size",
    "EDGE_MAX_SIZE",
    "edge.max-size",
    "What this edge's store may take on its disk, such as 50G, instead of --cache-max-size, which is for every edge.",
)
.value_name("SIZE");

/// What browsers get.
pub const LANDING_PAGE: Field = Field::switch(
    "server-landing-page",
    "SERVER_LANDING_PAGE",
    "server.landing-page",
    "Show browsers a page at / that says what this is and how to point Nix at it. Everybody else, Nix and curl too, gets \
     the JSON that is there without it.",
)
.default("true");

/// Where control is.
pub const CONTROL_URL: Field = Field::value(
    "control-url",
    "CONTROL_URL",
    "control.url",
    "Where control is: unix:PATH, https://HOST:PORT, or http://HOST:PORT on this machine. By default its socket in the \
     usual places.",
)
.value_name("URL");

/// Who vouches for control.
pub const CONTROL_CA_FILE: Field = Field::value(
    "control-ca-file",
    "CONTROL_CA_FILE",
    "control.ca-file",
    "Certificate authorities in PEM that alone may certify control, and other edges beside those of the system. By \
     default those of the system certify both.",
)
.value_name("PATH");

/// What control is shown.
pub const CONTROL_TOKEN_FILE: Field = Field::value(
    "control-token-file",
    "CONTROL_TOKEN_FILE",
    "control.token-file",
    "A file with a token of scope edge (edge,durable where --edge-durable is on), which control asks for over TCP; read \
     again when control refuses it.",
)
.value_name("PATH");

/// What the edge proves itself to control with.
pub const CONTROL_CLIENT_CERT: Field = Field::value(
    "control-client-cert",
    "CONTROL_CLIENT_CERT",
    "control.client-cert",
    "Certificate chain in PEM that is shown to control instead of a token: one that names ncps://edge/NAME \
     (ncps://durable-edge/NAME where --edge-durable is on), of an authority of control's --control-tls-client-ca; read \
     again for each connection. Needs --control-client-key.",
)
.value_name("PATH");

/// The key of that.
pub const CONTROL_CLIENT_KEY: Field = Field::value(
    "control-client-key",
    "CONTROL_CLIENT_KEY",
    "control.client-key",
    "Private key of the certificate for control, in PEM.",
)
.value_name("PATH");

/// What the server proves itself with.
pub const SERVER_TLS_CERT: Field = Field::value(
    "server-tls-cert",
    "SERVER_TLS_CERT",
    "server.tls.cert",
    "Certificate chain in PEM, for HTTPS instead of HTTP; read again when it changes. Needs --server-tls-key.",
)
.value_name("PATH");

/// The key of that.
pub const SERVER_TLS_KEY: Field = Field::value(
    "server-tls-key",
    "SERVER_TLS_KEY",
    "server.tls.key",
    "Private key of the certificate, in PEM.",
)
.value_name("PATH");

/// How many connections are held.
pub const MAX_CONNECTIONS: Field = Field::value(
    "max-connections",
    "MAX_CONNECTIONS",
    "max-connections",
    "Connections of clients at once. When all are taken, the one that is quiet for longest makes room; while all are \
     busy, more wait in the kernel's queue.",
)
.value_name("N")
.default("4096");

/// How many requests are in flight.
pub const MAX_REQUESTS: Field = Field::value(
    "max-requests",
    "MAX_REQUESTS",
    "max-requests",
    "Requests in flight at once, running bodies included; past it requests get 503.",
)
.value_name("N")
.default("8192");

/// The fields of an edge, wherever control is.
pub const EDGE: &[Field] = &[
    SERVER_ADDR,
    EDGE_NAME,
    EDGE_URL,
    EDGE_ZONE,
    EDGE_DURABLE,
    EDGE_MAX_SIZE,
    SERVER_TLS_CERT,
    SERVER_TLS_KEY,
    MAX_CONNECTIONS,
    MAX_REQUESTS,
    LANDING_PAGE,
];

/// The fields of an edge in a process of its own.
pub const REMOTE: &[Field] =
    &[CONTROL_URL, CONTROL_CA_FILE, CONTROL_TOKEN_FILE, CONTROL_CLIENT_CERT, CONTROL_CLIENT_KEY];

/// An edge, wherever control is.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeConfig {
    pub data_path: PathBuf,
    pub server_addr: ListenAddr,
    pub name: String,
    pub url: Option<String>,
    /// Edges of one zone read from each other first.
    pub zone: Option<String>,
    /// Its disk is kept.
    pub durable: bool,
    /// What its store may take, in bytes, instead of what control says.
    pub max_size: Option<u64>,
    /// Browsers get a page at `/`.
    pub landing_page: bool,
    /// HTTPS instead of HTTP.
    pub tls: Option<TlsFiles>,
    /// Who may certify other edges beside the authorities of the system: those that certify control.
    pub authorities: Option<PathBuf>,
    pub limits: Limits,
}

/// What clients may take of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Held at once. Past them the one that is quiet for longest makes room, or else more wait in the kernel's queue.
    pub connections: usize,
    /// In flight at once; more are refused.
    pub requests: usize,
    /// For the head of an HTTP/1.1 request, from the end of the answer before. It closes idle connections too:
    /// longer than the 90 s after which clients close them themselves.
    pub head_timeout: Duration,
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 4096,
            requests: 8192,
            head_timeout: Duration::from_secs(120),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// How an edge of its own process, or a command, reaches control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlLink {
    pub url: ControlUrl,
    /// Who vouches for control, in PEM; `None`: the authorities of the system.
    pub ca_file: Option<PathBuf>,
    /// The token that control is shown.
    pub token_file: Option<PathBuf>,
    /// The certificate that it is shown.
    pub identity: Option<TlsFiles>,
}

impl From<ControlUrl> for ControlLink {
    /// A link that needs nothing else.
    fn from(url: ControlUrl) -> Self {
        ControlLink { url, ca_file: None, token_file: None, identity: None }
    }
}

impl ControlLink {
    /// Reads [`REMOTE`]. `None` where a problem was noted.
    pub fn read(r: &mut Resolver, env: Env<'_>, data: Option<&Path>) -> Option<ControlLink> {
        let url = ControlUrl::read(r, env, data);
        let ca_file = r.get(&CONTROL_CA_FILE, absolute_path);
        let token_file = r.get(&CONTROL_TOKEN_FILE, absolute_path);
        let identity = TlsFiles::read(r, &CONTROL_CLIENT_CERT, &CONTROL_CLIENT_KEY);
        let url = url?;
        let secure = matches!(url, ControlUrl::Https(_));
        for (field, given) in
            [(&CONTROL_CA_FILE, ca_file.is_some()), (&CONTROL_CLIENT_CERT, identity.is_some())]
        {
            if given && !secure {
                r.problem(field, "needs an https:// URL (--control-url)");
            }
        }
        Some(ControlLink { url, ca_file, token_file, identity })
    }
}

/// Where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlUrl {
    /// A socket on this host.
    Unix(PathBuf),
    /// Plain HTTP/2, on the loopback only.
    Http(Url),
    /// HTTP/2 over TLS.
    Https(Url),
    /// The first of these sockets that is there.
    FirstOf(Vec<PathBuf>),
}

impl EdgeConfig {
    /// Reads [`EDGE`] and the data path. `durable` is what counts where nothing is said of it. `None` where a problem
    /// was noted.
    pub fn read(r: &mut Resolver, env: Env<'_>, durable: bool) -> Option<EdgeConfig> {
        let server_addr = r.get(&SERVER_ADDR, listen_addr);
        let url = r.get(&EDGE_URL, http_url);
        let name = r.get(&EDGE_NAME, name).unwrap_or_else(|| {
            let name = paths::hostname();
            r.computed(&EDGE_NAME, &name);
            name
        });
        let zone = r.get(&EDGE_ZONE, self::name);
        let durable = r.get(&EDGE_DURABLE, boolean).unwrap_or_else(|| {
            r.computed(&EDGE_DURABLE, durable);
            durable
        });
        let max_size = r.get(&EDGE_MAX_SIZE, capacity);
        let tls = TlsFiles::read(r, &SERVER_TLS_CERT, &SERVER_TLS_KEY);
        let limits = Limits::read(r);
        let data_path = fields::read_data_path(r, env)?;
        Some(EdgeConfig {
            data_path,
            server_addr: server_addr?,
            name,
            url,
            zone,
            durable,
            max_size,
            landing_page: r.flag(&LANDING_PAGE),
            tls,
            authorities: None,
            limits,
        })
    }
}

impl ControlUrl {
    fn read(r: &mut Resolver, env: Env<'_>, data: Option<&Path>) -> Option<ControlUrl> {
        if r.given(&CONTROL_URL) {
            return r.get(&CONTROL_URL, control_url);
        }
        let places = paths::control_sockets(env, paths::is_root(), data);
        let listed: Vec<_> = places.iter().map(|p| format!("unix:{}", p.display())).collect();
        r.computed(&CONTROL_URL, listed.join(" or "));
        Some(ControlUrl::FirstOf(places))
    }
}

impl FromStr for ControlUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        control_url(text)
    }
}

impl Limits {
    fn read(r: &mut Resolver) -> Limits {
        let standard = Limits::default();
        Limits {
            connections: r.get_or(&MAX_CONNECTIONS, count, standard.connections),
            requests: r.get_or(&MAX_REQUESTS, count, standard.requests),
            ..standard
        }
    }
}

/// A whole number from 1 on, as far as semaphores count.
fn count(text: &str) -> Result<usize, String> {
    let number = text.parse::<u32>().ok().filter(|number| *number > 0).and_then(|n| usize::try_from(n).ok());
    number.ok_or_else(|| "expected a whole number from 1 on".to_owned())
}

/// Of an edge or a zone, as control takes it.
fn name(text: &str) -> Result<String, String> {
    let is_name = ncps_proto::is_name(text);
    let expected = "expected 1 to 255 bytes without control characters";
    if is_name { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}

fn capacity(text: &str) -> Result<u64, String> {
    let bytes = byte_size(text)?;
    ncps_proto::check_capacity(bytes).map(|()| bytes).map_err(|error| error.to_string())
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
    let expected = "expected unix:PATH, https://HOST:PORT, or http://HOST:PORT on this machine";
    let url = Url::parse(text).map_err(|e| format!("{e}; {expected}"))?;
    // Nor would they be sent anywhere.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a token stands in a file of its own, not in the URL".to_owned());
    }
    match (url.scheme(), is_loopback(&url)) {
        ("https", _) if url.has_host() => Ok(ControlUrl::Https(url)),
        ("http", true) => Ok(ControlUrl::Http(url)),
        ("http", false) => {
            Err("plain HTTP leaves this host, and a token would, too: use https://".to_owned())
        }
        _ => Err(expected.to_owned()),
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
    use ncps_runtime::config::{CommandLine, Sources, command};

    use super::*;

    fn read(args: &[&str]) -> Result<EdgeConfig, Vec<String>> {
        let fields = &[&[fields::DATA_PATH][..], EDGE];
        let args = [&["ncps-edge", "--cache-data-path=/data"], args].concat();
        let line = CommandLine::parse(command("ncps-edge", "test", fields), fields, args).expect("no help");
        let env = |_: &str| None;
        let mut r = Resolver::new(Sources::gather(fields, &[], &line, &env, None));
        let config = EdgeConfig::read(&mut r, &env, false);
        r.finish().map_err(|problems| problems.problems().to_vec())?;
        Ok(config.expect("nothing is wrong"))
    }

    #[test]
    fn tls_needs_both_files() {
        let config = read(&["--server-tls-cert=/c.pem", "--server-tls-key=/k.pem"]).expect("usable");
        assert_eq!(config.tls, Some(TlsFiles { cert: "/c.pem".into(), key: "/k.pem".into() }));
        assert_eq!(read(&[]).expect("usable").tls, None);
        for one in ["--server-tls-cert=/c.pem", "--server-tls-key=/k.pem"] {
            let problems = read(&[one]).expect_err("the other is missing");
            assert!(matches!(&problems[..], [p] if p.contains("has to be given with")), "{problems:?}");
        }
    }

    #[test]
    fn limits_are_counts() {
        assert_eq!(read(&[]).expect("usable").limits, Limits::default());
        let limits = read(&["--max-connections=7", "--max-requests=9"]).expect("usable").limits;
        assert_eq!((limits.connections, limits.requests), (7, 9));
        assert_eq!(read(&["--max-connections=0", "--max-requests=all"]).expect_err("no counts").len(), 2);
    }

    #[test]
    fn a_zone_a_disk_and_its_limit() {
        let config = read(&[]).expect("usable");
        assert_eq!((config.zone, config.durable, config.max_size), (None, false, None));
        let args = ["--edge-zone=hall 2", "--edge-durable=true", "--edge-max-size=10G"];
        let config = read(&args).expect("usable");
        assert_eq!((config.zone, config.durable), (Some("hall 2".to_owned()), true));
        assert_eq!(config.max_size, Some(10 << 30));
        let bad = ["--edge-name=a\nb", "--edge-zone=a\tb", "--edge-durable=perhaps", "--edge-max-size=0B"];
        assert_eq!(read(&bad).expect_err("none of it").len(), 4);
    }

    #[test]
    fn control_is_reached_over_tls_or_on_this_host() {
        assert_eq!(control_url("unix:/run/c.sock"), Ok(ControlUrl::Unix("/run/c.sock".into())));
        assert!(matches!(control_url("http://127.0.0.1:8502"), Ok(ControlUrl::Http(_))));
        assert!(matches!(control_url("http://[::1]:8502"), Ok(ControlUrl::Http(_))));
        assert!(matches!(control_url("https://control.example:8502"), Ok(ControlUrl::Https(_))));
        for refused in
            ["http://10.0.0.1:8502", "https://me:secret@host", "ftp://host", "unix:relative", "control", ""]
        {
            assert!(control_url(refused).is_err(), "{refused}");
        }
    }
}
