//! The canonical text of a narinfo, and the text that signatures are made over.

use std::fmt::{self, Write};

use crate::{NarInfo, STORE_DIR, StorePath};

impl NarInfo {
    /// The one text of this narinfo: fields in Nix's order, one space after each colon, hashes
    /// in nix32, references sorted, every line ended. `References: ` keeps its space when empty
    /// (without it Nix would swallow the next line).
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(512 + 64 * self.references.len());
        let written = self.write_fields(&mut text);
        written.expect("writing to a String can't fail");
        text
    }

    fn write_fields(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "StorePath: {STORE_DIR}/{}", self.store_path)?;
        writeln!(out, "URL: {}", self.url)?;
        writeln!(out, "Compression: {}", self.compression)?;
        write_optional(out, "FileHash", self.file_hash.as_ref())?;
        write_optional(out, "FileSize", self.file_size.as_ref())?;
        writeln!(out, "NarHash: {}", self.nar_hash)?;
        writeln!(out, "NarSize: {}", self.nar_size)?;
        write_references(out, &self.sorted_references())?;
        write_optional(out, "Deriver", self.deriver.as_ref())?;
        for signature in &self.signatures {
            writeln!(out, "Sig: {signature}")?;
        }
        write_optional(out, "CA", self.ca.as_ref())
    }

    /// What a signature of this narinfo covers: store path, NAR hash, NAR size, references.
    pub fn fingerprint(&self) -> String {
        let Self { store_path, nar_hash, nar_size, .. } = self;
        let references: Vec<String> = self.sorted_references().into_iter().map(StorePath::absolute).collect();
        let references = references.join(",");
        format!("1;{STORE_DIR}/{store_path};{nar_hash};{nar_size};{references}")
    }

    pub(super) fn sorted_references(&self) -> Vec<&StorePath> {
        let mut references: Vec<_> = self.references.iter().collect();
        references.sort_unstable();
        references.dedup();
        references
    }
}

fn write_optional<T: fmt::Display>(out: &mut String, key: &str, value: Option<&T>) -> fmt::Result {
    match value {
        Some(value) => writeln!(out, "{key}: {value}"),
        None => Ok(()),
    }
}

fn write_references(out: &mut String, references: &[&StorePath]) -> fmt::Result {
    out.push_str("References: ");
    for (index, reference) in references.iter().enumerate() {
        let separator = if index == 0 { "" } else { " " };
        write!(out, "{separator}{reference}")?;
    }
    out.push('\n');
    Ok(())
}
