//! The register of tokens: made, listed, revoked, and found by their secret. All of them are in memory; the database
//! has each change before it is in force.
//!
//! Of a secret only the hash is kept, and the secret leaves this module once, to who asked for the token. Absent: who
//! may ask (see [`crate::gate`]), and telling edges (see [`crate::control`]).

mod request;
mod secret;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ncps_nix::Sha256Hash;
use ncps_proto::{Code, Error, MadeToken, NewToken, Result, Scope, Token, TokenInfo, tokens};
use ncps_runtime::clock::{Clock, UnixTime};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::db::{Db, DbError};

/// Tokens at once, those included that were revoked and are still listed. Each is told to every edge, and compared
/// with every secret that is shown.
const MOST: usize = 10_000;
/// How often it is looked whether tokens have expired that somebody uses for long.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A token in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) info: TokenInfo,
    hash: Sha256Hash,
    /// Fires when it counts no more: revoked, or expired.
    pub(crate) over: CancellationToken,
}

impl Entry {
    fn new(info: TokenInfo, hash: Sha256Hash) -> Arc<Entry> {
        Arc::new(Entry { info, hash, over: CancellationToken::new() })
    }

    /// As both planes know it.
    fn token(&self) -> Token {
        let TokenInfo { name, scopes, edges, expires_at, .. } = &self.info;
        Token {
            id: name.clone(),
            hash: self.hash,
            scopes: scopes.clone(),
            expires_at: *expires_at,
            edges: edges.clone(),
        }
    }

    /// Whether it is good for this now; else why not.
    pub(crate) fn check(&self, scope: Scope, now: UnixTime) -> std::result::Result<(), String> {
        let name = &self.info.name;
        if self.is_revoked() {
            return Err(format!("token {name} was revoked"));
        }
        if self.is_over(now) {
            return Err(format!("token {name} has expired"));
        }
        if !self.info.scopes.contains(&scope) {
            return Err(format!("{name} is no token of scope {scope}"));
        }
        Ok(())
    }

    fn is_revoked(&self) -> bool {
        self.info.revoked_at.is_some()
    }

    fn is_over(&self, now: UnixTime) -> bool {
        self.is_revoked() || self.info.expires_at.is_some_and(|at| at <= now.0)
    }
}

/// Every token.
#[derive(Debug)]
pub struct Tokens {
    db: Db,
    /// In the order in which they were made.
    entries: RwLock<Vec<Arc<Entry>>>,
    /// Whose turn it is to change something: it is checked, written and in force before the next one looks.
    turn: tokio::sync::Mutex<()>,
}

impl Tokens {
    /// Reads them.
    ///
    /// # Errors
    /// Where the database can't be read, or holds what this program never writes.
    pub async fn open(db: &Db) -> Result<Tokens> {
        let tokens = db.tokens().await.map_err(|e| trouble("read the tokens", e))?;
        let entries = tokens.into_iter().map(|(info, hash)| Entry::new(info, hash)).collect();
        Ok(Tokens { db: db.clone(), entries: RwLock::new(entries), turn: tokio::sync::Mutex::default() })
    }

    /// All of them, in the order in which they were made.
    pub(crate) fn list(&self) -> Vec<TokenInfo> {
        self.entries.read().iter().map(|entry| entry.info.clone()).collect()
    }

    /// Those that edges have to know: not revoked, and good for something over HTTP. Also those that have expired,
    /// since what they were made for is not open to everybody then.
    pub(crate) fn for_edges(&self) -> Vec<Token> {
        let entries = self.entries.read();
        let told = entries.iter().filter(|entry| !entry.is_revoked());
        let told = told.filter(|entry| entry.info.scopes.iter().any(|scope| scope.is_for_http()));
        told.map(|entry| entry.token()).collect()
    }

    /// Whether there is a token of this scope, expired ones included.
    pub(crate) fn any(&self, scope: Scope) -> bool {
        let entries = self.entries.read();
        entries.iter().any(|entry| !entry.is_revoked() && entry.info.scopes.contains(&scope))
    }

    /// The token of a secret, whatever became of it. Every one is compared to its end.
    pub(crate) fn of(&self, secret: &[u8]) -> Option<Arc<Entry>> {
        let entries = self.entries.read();
        tokens::find_by(entries.iter(), |entry| &entry.hash, secret).cloned()
    }

    /// Makes a token.
    ///
    /// # Errors
    /// [`Code::Invalid`] where it can't be made as asked for; [`Code::Overloaded`] where there are too many.
    pub(crate) async fn create(&self, new: NewToken, now: UnixTime) -> Result<MadeToken> {
        let new = request::checked(new, now)?;
        let _turn = self.turn.lock().await;
        let forgotten = self.admit(&new.name, now)?;
        let secret = secret::make()?;
        let hash = Sha256Hash::of(secret.reveal().as_bytes());
        let info = TokenInfo {
            id: secret::make_id()?,
            name: new.name,
            scopes: new.scopes,
            edges: new.edges,
            created_at: now.0,
            expires_at: new.expires_at,
            revoked_at: None,
        };
        let written = self.db.put_token(&info, hash, &forgotten).await;
        written.map_err(|e| trouble("keep a new token", e))?;
        let mut entries = self.entries.write();
        entries.retain(|entry| !forgotten.contains(&entry.info.id));
        entries.push(Entry::new(info.clone(), hash));
        Ok(MadeToken { token: info, secret })
    }

    /// Whether there may be one more of this name; returns who makes room for it.
    fn admit(&self, name: &str, now: UnixTime) -> Result<Vec<String>> {
        let entries = self.entries.read();
        let taken = |entry: &&Arc<Entry>| !entry.is_revoked() && entry.info.name == name;
        if let Some(other) = entries.iter().find(taken) {
            let state = if other.is_over(now) { ", which has expired" } else { "" };
            return Err(Error::new(
                Code::Invalid,
                format!(
                    "there is a token named {name} already{state}: revoke it first, or choose another name"
                ),
            ));
        }
        if entries.iter().any(|entry| entry.info.id == name) {
            return Err(Error::new(
                Code::Invalid,
                format!("{name} is the id of a token: choose another name"),
            ));
        }
        if entries.len() < MOST {
            return Ok(Vec::new());
        }
        let oldest = entries.iter().filter(|entry| entry.is_revoked());
        let oldest = oldest.min_by_key(|entry| entry.info.revoked_at).map(|entry| entry.info.id.clone());
        let full = || {
            Error::new(
                Code::Overloaded,
                format!("there are {MOST} tokens, no more are made: revoke some first"),
            )
        };
        oldest.map(|id| vec![id]).ok_or_else(full)
    }

    /// Ends a token, by its name or its id: whoever uses it is cut off.
    ///
    /// # Errors
    /// [`Code::Absent`] where there is none, [`Code::Invalid`] where it was revoked before.
    pub(crate) async fn revoke(&self, which: &str, now: UnixTime) -> Result<TokenInfo> {
        let _turn = self.turn.lock().await;
        let found = self.named(which)?;
        self.db.revoke_token(&found.info.id, now).await.map_err(|e| trouble("revoke a token", e))?;
        let info = TokenInfo { revoked_at: Some(now.0), ..found.info.clone() };
        let mut entries = self.entries.write();
        for entry in entries.iter_mut().filter(|entry| entry.info.id == info.id) {
            *entry = Entry::new(info.clone(), entry.hash);
        }
        found.over.cancel();
        Ok(info)
    }

    fn named(&self, which: &str) -> Result<Arc<Entry>> {
        let entries = self.entries.read();
        let live = entries.iter().find(|entry| !entry.is_revoked() && entry.info.name == which);
        if let Some(found) = live.or_else(|| entries.iter().find(|entry| entry.info.id == which)) {
            return match found.is_revoked() {
                false => Ok(Arc::clone(found)),
                true => Err(Error::new(Code::Invalid, format!("token {which} was revoked before"))),
            };
        }
        let message = match entries.iter().any(|entry| entry.info.name == which) {
            true => format!("token {which} was revoked before"),
            false => format!("there is no token with the name or id {which:?}"),
        };
        Err(Error::new(Code::Absent, message))
    }

    /// Cuts off who uses a token that expires meanwhile, until `stop` fires.
    pub(crate) async fn watch(self: Arc<Self>, clock: Arc<dyn Clock>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            self.expire(clock.now());
        }
    }

    fn expire(&self, now: UnixTime) {
        self.entries.read().iter().filter(|entry| entry.is_over(now)).for_each(|entry| entry.over.cancel());
    }
}

fn trouble(what: &str, error: DbError) -> Error {
    Error::new(Code::Unavailable, what).because(error)
}
