//! What a client's machine is told of a cache: lines for `nix.conf`, a NixOS module, a flake, and a netrc file.
//!
//! Pure text in the forms that Nix reads. What is added to a machine stands beside what it has: its other caches are
//! still asked, the lowest priority first. Absent: asking a cache for its keys, and writing files.

use std::fmt;

use crate::PublicKey;

/// Stands for a token that the reader has, or is yet to be given.
pub const TOKEN_PLACEHOLDER: &str = "TOKEN";

/// Longer ones are none: a host name has 253 characters at most.
const MAX_URL: usize = 1024;

/// Why a text is no URL of a cache. Never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CacheUrlError {
    /// Neither `http://` nor `https://` before it.
    #[error("a cache's URL begins with http:// or https://")]
    Scheme,
    /// More than 1024 bytes.
    #[error("a cache's URL is longer than 1024 bytes")]
    TooLong,
    /// No host, or one with other characters than names and addresses have; a login is one.
    #[error("no host, or one with characters that no host has; logins belong into the netrc file")]
    Host,
    /// What follows the host's colon is no port.
    #[error("not a port")]
    Port,
    /// What follows the host has a query, a fragment, or characters that would have to be quoted somewhere.
    #[error("a path with characters that a cache's URL can't have")]
    Path,
}

/// Where a cache is: `http://HOST[:PORT][/PATH]` or https. Made of characters that mean themselves in `nix.conf`, in
/// strings of the Nix language, in a shell and in HTML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheUrl {
    text: String,
    host: String,
}

impl CacheUrl {
    /// Reads a URL. A slash at its end is dropped.
    ///
    /// # Errors
    /// See [`CacheUrlError`].
    pub fn parse(text: &str) -> Result<Self, CacheUrlError> {
        if text.len() > MAX_URL {
            return Err(CacheUrlError::TooLong);
        }
        let after = |scheme| text.strip_prefix(scheme);
        let rest = after("https://").or_else(|| after("http://")).ok_or(CacheUrlError::Scheme)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !path.chars().all(|c| c.is_ascii_alphanumeric() || "/-._~%+".contains(c)) {
            return Err(CacheUrlError::Path);
        }
        let host = host_of(authority)?.to_owned();
        Ok(Self { text: text.trim_end_matches('/').to_owned(), host })
    }

    /// As netrc files name it: no port, no brackets around an address.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn host_of(authority: &str) -> Result<&str, CacheUrlError> {
    if authority.contains('@') {
        return Err(CacheUrlError::Host);
    }
    let (host, port, in_host) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(CacheUrlError::Host)?;
            (address, port, ":.%")
        }
        None => {
            let (name, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (name, port, "-._")
        }
    };
    if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || in_host.contains(c)) {
        return Err(CacheUrlError::Host);
    }
    let is_port = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with('+');
    match port.strip_prefix(':') {
        Some(port) if is_port(port) => Ok(host),
        None if port.is_empty() => Ok(host),
        _ => Err(CacheUrlError::Port),
    }
}

/// What is told.
#[derive(Debug, Clone)]
pub struct ClientConfig<'a> {
    /// Where the cache is.
    pub url: CacheUrl,
    /// Its own keys: the one that signs first, then former ones.
    pub ours: &'a [PublicKey],
    /// Those of its upstreams, which are needed beside ours: what an edge serves without control has these signatures
    /// alone.
    pub upstream: &'a [PublicKey],
    /// In the place of what the cache says of itself; the lowest is asked first, cache.nixos.org has 40.
    pub priority: Option<u32>,
    /// By which it lets readers in, or [`TOKEN_PLACEHOLDER`]; `None` where everybody reads.
    pub token: Option<&'a str>,
}

/// The texts, each whole and ending with a newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippets {
    /// For `/etc/nix/nix.conf`.
    pub nix_conf: String,
    /// Among the options of a NixOS module.
    pub nixos: String,
    /// Beside `inputs` and `outputs` in a `flake.nix`.
    pub flake: String,
    /// For `/etc/nix/netrc`, where Nix looks by itself; `None` where everybody reads.
    pub netrc: Option<String>,
}

impl ClientConfig<'_> {
    /// All of them.
    pub fn snippets(&self) -> Snippets {
        let names = ["extra-substituters", "extra-trusted-public-keys"];
        Snippets {
            nix_conf: self.nix_conf(names),
            nixos: self.set("nix.settings", ["substituters", "trusted-public-keys"]),
            flake: self.set("nixConfig", names),
            netrc: self.netrc(),
        }
    }

    /// The URL with its priority, as Nix takes it.
    pub fn substituter(&self) -> String {
        match self.priority {
            Some(priority) => format!("{}?priority={priority}", self.url),
            None => self.url.to_string(),
        }
    }

    /// Every key once, ours first.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for key in self.ours.iter().chain(self.upstream).map(ToString::to_string) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    fn nix_conf(&self, [substituters, keys]: [&str; 2]) -> String {
        let substituter = self.substituter();
        let ours = format!("{substituters} = {substituter}\n");
        match self.keys().join(" ") {
            none if none.is_empty() => ours,
            all => format!("{ours}{keys} = {all}\n"),
        }
    }

    fn set(&self, set: &str, [substituters, keys]: [&str; 2]) -> String {
        let ours = list(substituters, &[self.substituter()]);
        let keys = match self.keys() {
            none if none.is_empty() => String::new(),
            all => list(keys, &all),
        };
        format!("{set} = {{\n{ours}{keys}}};\n")
    }

    fn netrc(&self) -> Option<String> {
        let token = self.token?;
        Some(format!("machine {} login nix password {token}\n", self.url.host()))
    }
}

/// An attribute whose value is a list of strings, one a line.
fn list(name: &str, items: &[String]) -> String {
    let items: String = items.iter().map(|item| format!("    {}\n", quoted(item))).collect();
    format!("  {name} = [\n{items}  ];\n")
}

/// A string of the Nix language: names of keys may have any character but whitespace.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${"))
}
