//! Tokens: what somebody who knows a secret may do. Only the hash of the secret is kept and travels; who makes
//! tokens, and what a plane does with one, is elsewhere.

use std::fmt;
use std::str::FromStr;

use std::time::Duration;

use data_encoding::BASE64;
use ncps_nix::Sha256Hash;

use crate::Secret;

/// One thing that a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Read over HTTP. As soon as one token has it, who has none reads nothing.
    Read,
    /// PUT over HTTP.
    Write,
    /// DELETE over HTTP.
    Delete,
    /// What its owner uploads is signed by us although nobody else vouches for it.
    Sign,
    /// Be an edge: the control plane's gRPC service.
    Edge,
    /// Be one whose disk is kept, so that others pass uploads on to it.
    Durable,
    /// Administrate: the other gRPC service.
    Admin,
}

impl Scope {
    /// Every scope, for tables and help.
    pub const ALL: [Scope; 7] =
        [Scope::Read, Scope::Write, Scope::Delete, Scope::Sign, Scope::Edge, Scope::Durable, Scope::Admin];

    /// Whether it is about HTTP, so that edges have to know who has it.
    pub const fn is_for_http(self) -> bool {
        matches!(self, Scope::Read | Scope::Write | Scope::Delete | Scope::Sign)
    }

    /// As it is written everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Delete => "delete",
            Scope::Sign => "sign",
            Scope::Edge => "edge",
            Scope::Durable => "durable",
            Scope::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope: one of read, write, delete, sign, edge, durable, admin")]
pub struct NoScope(pub String);

impl FromStr for Scope {
    type Err = NoScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Scope::ALL.into_iter().find(|scope| scope.name() == text).ok_or_else(|| NoScope(text.to_owned()))
    }
}

/// A token as both planes know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its name in lists, logs and the audit log.
    pub id: String,
    /// sha256 of the secret.
    pub hash: Sha256Hash,
    pub scopes: Vec<Scope>,
    /// In seconds since 1970; from then on it is none.
    pub expires_at: Option<i64>,
    /// Names of the edges where it counts; none: everywhere.
    pub edges: Vec<String>,
}

impl Token {
    /// Whether it is bound to no edge, or to this one among others.
    pub fn counts_at(&self, edge: &str) -> bool {
        self.edges.is_empty() || self.edges.iter().any(|name| name == edge)
    }

    /// Whether it allows something at the edge of this name, at this time.
    pub fn allows(&self, scope: Scope, edge: &str, now: i64) -> bool {
        self.counts_at(edge)
            && self.scopes.contains(&scope)
            && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// Whether whoever shows `secret` may do something at the edge of this name, at this time: everybody may while no
/// token has the scope and none is `required`. One that has expired still closes what it was made for.
pub fn permit(
    tokens: &[Token],
    required: bool,
    scope: Scope,
    secret: Option<&[u8]>,
    edge: &str,
    now: i64,
) -> bool {
    let open = !required && tokens.iter().all(|token| !token.scopes.contains(&scope));
    let token = || find(tokens, secret?);
    open || token().is_some_and(|token| token.allows(scope, edge, now))
}

/// What may be the secret of a token in an `Authorization` field: a Bearer, or the password of Basic with any user
/// (RFC 6750, RFC 7617).
pub fn shown(authorization: &str) -> Option<Vec<u8>> {
    let (scheme, rest) = authorization.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let login = BASE64.decode(rest.as_bytes()).ok()?;
    let colon = login.iter().position(|byte| *byte == b':')?;
    Some(login[colon + 1..].to_vec())
}

/// The token of a secret. Every one is compared to its end, so that the time says nothing.
pub fn find<'t>(tokens: impl IntoIterator<Item = &'t Token>, secret: &[u8]) -> Option<&'t Token> {
    find_by(tokens, |token| &token.hash, secret)
}

/// The same among what has the hash of a secret.
pub fn find_by<'t, T>(
    all: impl IntoIterator<Item = &'t T>,
    hash: impl Fn(&T) -> &Sha256Hash,
    secret: &[u8],
) -> Option<&'t T> {
    let given = Sha256Hash::of(secret);
    all.into_iter().fold(None, |found, one| if same(hash(one), &given) { Some(one) } else { found })
}

fn same(one: &Sha256Hash, other: &Sha256Hash) -> bool {
    let differences = one.as_bytes().iter().zip(other.as_bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differences) == 0
}

/// What its owner shows, once: the only copy there ever is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeToken {
    pub token: TokenInfo,
    pub secret: Secret,
}

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    pub name: String,
    pub scopes: Vec<Scope>,
    /// Names of the edges where it is to count; none: everywhere.
    pub edges: Vec<String>,
    pub expiry: Expiry,
}

/// Until when something counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    #[default]
    Never,
    /// For so long from now on, by control's clock.
    After(Duration),
    /// In seconds since 1970.
    At(i64),
}

/// A token as its administrators see it: nothing of its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// Random; no other token ever has it.
    pub id: String,
    /// No other token has it until this one is revoked.
    pub name: String,
    pub scopes: Vec<Scope>,
    /// Names of the edges where it counts; none: everywhere.
    pub edges: Vec<String>,
    /// In seconds since 1970, as the other times.
    pub created_at: i64,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
}

/// What clients may change, and who may. Reads are governed by tokens alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writing {
    /// PUT is served: to anybody while no token has [`Scope::Write`].
    pub put: bool,
    /// DELETE is served: to anybody while no token has [`Scope::Delete`].
    pub delete: bool,
    /// Nobody changes anything without a token, also while there is none.
    pub require_token: bool,
    /// Of one uploaded NAR file.
    pub max_upload_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(secret: &str) -> Token {
        Token {
            id: secret.to_owned(),
            hash: Sha256Hash::of(secret.as_bytes()),
            scopes: vec![Scope::Read, Scope::Sign],
            expires_at: Some(100),
            edges: vec!["here".to_owned()],
        }
    }

    #[test]
    fn a_token_is_a_password_or_a_bearer() {
        let text = |field: &str| shown(field).and_then(|secret| String::from_utf8(secret).ok());
        let basic = |login: &str| format!("Basic {}", BASE64.encode(login.as_bytes()));
        for good in [
            basic("me:s3:cret"),
            basic(":s3:cret"),
            "bearer s3:cret".to_owned(),
            "Bearer  s3:cret ".to_owned(),
        ] {
            assert_eq!(text(&good).as_deref(), Some("s3:cret"), "{good}");
        }
        for bad in
            [basic("s3:cret:"), basic("none"), "Bearer".to_owned(), "Basic !".to_owned(), String::new()]
        {
            assert_ne!(text(&bad).as_deref(), Some("s3:cret"), "{bad}");
        }
    }

    #[test]
    fn a_token_is_bound_to_scopes_edges_and_time() {
        let token = token("s3cret");
        assert!(token.allows(Scope::Read, "here", 99));
        assert!(!token.allows(Scope::Write, "here", 99));
        assert!(!token.allows(Scope::Read, "there", 99));
        assert!(!token.allows(Scope::Read, "here", 100));
        let everywhere = Token { edges: Vec::new(), expires_at: None, ..token };
        assert!(everywhere.allows(Scope::Sign, "there", i64::MAX));
    }

    #[test]
    fn what_no_token_closes_is_open_unless_one_is_required() {
        let tokens = [token("s3cret")];
        let may = |required, scope, secret: Option<&str>, now| {
            permit(&tokens, required, scope, secret.map(str::as_bytes), "here", now)
        };
        assert!(may(false, Scope::Write, None, 0), "no token has it");
        assert!(!may(true, Scope::Write, None, 0) && !may(true, Scope::Write, Some("s3cret"), 0));
        assert!(may(false, Scope::Read, Some("s3cret"), 99) && !may(false, Scope::Read, Some("guess"), 99));
        assert!(!may(false, Scope::Read, Some("s3cret"), 100), "expired");
        assert!(!may(false, Scope::Read, None, 100), "and yet not open");
    }

    #[test]
    fn tokens_are_found_by_their_secret_alone() {
        let tokens = [token("a"), token("b")];
        assert_eq!(find(&tokens, b"b"), Some(&tokens[1]));
        assert_eq!(find(&tokens, b"c"), None);
        assert_eq!(find(&[], b"a"), None);
    }

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
        }
        assert!("Read".parse::<Scope>().is_err());
    }
}
