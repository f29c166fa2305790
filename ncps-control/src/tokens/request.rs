//! What is asked for, checked: a token that could do nothing, or not what its maker believes, is refused with what
//! would be right.

use ncps_proto::{Code, Error, Expiry, NewToken, Result, Scope};
use ncps_runtime::clock::UnixTime;

/// A name is printed in lists and logs, and typed.
const MOST_NAME_BYTES: usize = 64;
/// Edges of one token, and the length of a name as edges may have them.
const MOST_EDGES: usize = 64;
const MOST_EDGE_BYTES: usize = 255;
/// The name of the token of `--cache-get-token`.
const CONFIGURED: &str = "cache-get-token";

/// A token that can be made.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) name: String,
    /// Each once, in their usual order.
    pub(super) scopes: Vec<Scope>,
    pub(super) edges: Vec<String>,
    pub(super) expires_at: Option<i64>,
}

pub(super) fn checked(new: NewToken, now: UnixTime) -> Result<Checked> {
    check_name(&new.name)?;
    let scopes: Vec<_> = Scope::ALL.into_iter().filter(|scope| new.scopes.contains(scope)).collect();
    if scopes.is_empty() {
        return refuse("a token needs a scope: read, write, delete, sign, edge, durable or admin");
    }
    if scopes.contains(&Scope::Durable) && !scopes.contains(&Scope::Edge) {
        return refuse("a token of scope durable is that of an edge: --scope edge,durable");
    }
    let mut edges = new.edges;
    edges.sort_unstable();
    edges.dedup();
    check_edges(&edges, &scopes)?;
    Ok(Checked { name: new.name, scopes, edges, expires_at: expires_at(new.expiry, now)? })
}

fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || name.len() > MOST_NAME_BYTES || !name.chars().all(allowed) {
        return refuse(
            "the name of a token is 1 to 64 letters, digits, dots, hyphens, underscores or @, and begins with a \
             letter or digit",
        );
    }
    if name == CONFIGURED {
        return refuse("cache-get-token is the name of the token in the configuration");
    }
    Ok(())
}

fn check_edges(edges: &[String], scopes: &[Scope]) -> Result<()> {
    if edges.len() > MOST_EDGES {
        return refuse("a token is bound to 64 edges at most");
    }
    let is_name =
        |name: &String| (1..=MOST_EDGE_BYTES).contains(&name.len()) && !name.contains(char::is_control);
    if !edges.iter().all(is_name) {
        return refuse("the name of an edge has 1 to 255 bytes");
    }
    if !edges.is_empty() && scopes.contains(&Scope::Admin) {
        return refuse("a token of scope admin can't be bound to edges: administration is control's");
    }
    Ok(())
}

fn expires_at(expiry: Expiry, now: UnixTime) -> Result<Option<i64>> {
    let at = match expiry {
        Expiry::Never => return Ok(None),
        Expiry::After(time) => now.plus(time).0,
        Expiry::At(at) => at,
    };
    if at <= now.0 {
        return refuse("a token has to expire in the future");
    }
    Ok(Some(at))
}

fn refuse<T>(message: &str) -> Result<T> {
    Err(Error::new(Code::Invalid, message))
}
