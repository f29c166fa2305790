//! Narinfos as text, written field by field: each kind has its own fields and order.

use std::fmt::Display;

use ncps_nix::StorePath;

use crate::Fixture;

/// A narinfo that is being written.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Its first three lines, which all kinds agree on.
    pub(super) fn of(fixture: &Fixture) -> Self {
        let narinfo = &fixture.narinfo;
        Self::default()
            .line("StorePath", narinfo.store_path.absolute())
            .line("URL", &narinfo.url)
            .line("Compression", narinfo.compression)
    }

    pub(super) fn line(mut self, key: &str, value: impl Display) -> Self {
        self.0 += &format!("{key}: {value}\n");
        self
    }

    pub(super) fn file(self, fixture: &Fixture) -> Self {
        let narinfo = &fixture.narinfo;
        let (hash, size) = (narinfo.file_hash.expect("it has one"), narinfo.file_size.expect("it has one"));
        self.line("FileHash", hash).line("FileSize", size)
    }

    pub(super) fn nar(self, fixture: &Fixture) -> Self {
        self.line("NarHash", fixture.narinfo.nar_hash).line("NarSize", fixture.narinfo.nar_size)
    }

    /// As given; none: an empty value.
    pub(super) fn references(self, references: &[StorePath]) -> Self {
        let names: Vec<_> = references.iter().map(ToString::to_string).collect();
        self.line("References", names.join(" "))
    }

    /// As given; none: no line.
    pub(super) fn references_if_any(self, references: &[StorePath]) -> Self {
        if references.is_empty() { self } else { self.references(references) }
    }

    pub(super) fn deriver(self, deriver: Option<&StorePath>) -> Self {
        match deriver {
            Some(deriver) => self.line("Deriver", deriver),
            None => self,
        }
    }

    pub(super) fn signed(self, fixture: &Fixture) -> String {
        let signatures = fixture.narinfo.signatures.iter();
        signatures.fold(self, |text, signature| text.line("Sig", signature)).0
    }
}
