//! What is open to everybody: what a new token would close, and what would be open without one that there is.

use ncps_proto::{EdgeSettings, Scope};

use crate::Control;

impl Control {
    pub(super) fn open_scopes(&self, without: Option<&str>) -> Vec<Scope> {
        let mut settings = EdgeSettings::clone(&self.settings());
        let is_left = |name: &str| without != Some(name);
        let gone = self.tokens().into_iter().find(|token| without == Some(&token.id));
        let gone = gone.map(|token| token.name);
        settings.tokens.retain(|token| is_left(&token.id) && gone.as_ref() != Some(&token.id));
        open(&settings)
    }
}

/// A token that is bound to edges closes nothing elsewhere.
fn open(settings: &EdgeSettings) -> Vec<Scope> {
    let writing = settings.writing;
    let served = [
        (Scope::Read, true),
        (Scope::Write, writing.put && !writing.require_token),
        (Scope::Delete, writing.delete && !writing.require_token),
    ];
    let closed = |scope| {
        let mut everywhere = settings.tokens.iter().filter(|token| token.edges.is_empty());
        everywhere.any(|token| token.scopes.contains(&scope))
    };
    let open = served.into_iter().filter(|(scope, served)| *served && !closed(*scope));
    open.map(|(scope, _)| scope).collect()
}
