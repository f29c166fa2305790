//! Tokens as use cases: what changes is in the register first, and then said to every edge where it counts.

use std::sync::Arc;

use ncps_proto::admin::{Caller, EventKind};
use ncps_proto::{EdgeSettings, MadeToken, NewToken, Result, Scope, Token, TokenInfo};

use super::Control;
use crate::gate::{Fleet, Gate};
use crate::journal::Note;

impl Control {
    /// Makes a token. It counts from now on, at every edge that is attached.
    ///
    /// # Errors
    /// [`ncps_proto::Code::Invalid`] where it can't be made as asked for, [`ncps_proto::Code::Overloaded`] where there
    /// are too many, [`ncps_proto::Code::Unavailable`] where it can't be kept.
    pub async fn create_token(&self, caller: &Caller, new: NewToken) -> Result<MadeToken> {
        let was_lenient = !self.tokens.any(Scope::Edge);
        let made = self.tokens.create(new, self.clock.now()).await?;
        self.announce_tokens();
        if was_lenient && self.tokens.any(Scope::Edge) {
            // Who came in without one, where that was enough, has to show one now; others are back in a moment.
            self.sessions.cut_all();
        }
        self.journal.audit(caller, Note::new(EventKind::TokenCreated, described(&made.token))).await?;
        Ok(made)
    }

    /// Ends a token, by its name or its id.
    ///
    /// # Errors
    /// [`ncps_proto::Code::Absent`] where there is none, [`ncps_proto::Code::Invalid`] where it was revoked before,
    /// [`ncps_proto::Code::Unavailable`] where that can't be kept: then it counts on.
    pub async fn revoke_token(&self, caller: &Caller, which: &str) -> Result<TokenInfo> {
        let token = self.tokens.revoke(which, self.clock.now()).await?;
        self.announce_tokens();
        self.journal.audit(caller, Note::new(EventKind::TokenRevoked, described(&token))).await?;
        Ok(token)
    }

    /// Every token, in the order in which they were made; those too that were revoked not long ago.
    pub fn tokens(&self) -> Vec<TokenInfo> {
        self.tokens.list()
    }

    /// The door of a service to which strangers can connect; see [`Gate::new`].
    pub(crate) fn gate(&self, scope: Scope, lenient: bool) -> Gate {
        let attached = Fleet { sessions: Arc::clone(&self.sessions), refusals: Arc::clone(&self.refusals) };
        Gate::new(&self.tokens, attached, &self.clock, scope, lenient)
    }

    /// Puts the register's tokens in force. The register is looked at in the turn of the change, so that of two at
    /// once the later one has both.
    pub(super) fn announce_tokens(&self) {
        self.settings.change(|settings| settings.tokens = in_force(&self.configured, &self.tokens));
    }
}

/// The configuration's and the register's.
pub(super) fn in_force(configured: &[Token], register: &crate::Tokens) -> Vec<Token> {
    [configured, &register.for_edges()].concat()
}

/// The settings as one edge hears them: of the tokens those that count there, and of their edges none but itself.
pub(super) fn as_told_to(edge: &str, settings: &EdgeSettings) -> EdgeSettings {
    let bound = |token: &Token| match token.edges.is_empty() {
        true => token.clone(),
        false => Token { edges: vec![edge.to_owned()], ..token.clone() },
    };
    let here = settings.tokens.iter().filter(|token| token.counts_at(edge));
    EdgeSettings { tokens: here.map(bound).collect(), ..settings.clone() }
}

/// For the audit log: which token, and what it is good for.
fn described(token: &TokenInfo) -> String {
    let scopes: Vec<_> = token.scopes.iter().copied().map(Scope::name).collect();
    format!("{} ({}): {}", token.name, token.id, scopes.join(","))
}
