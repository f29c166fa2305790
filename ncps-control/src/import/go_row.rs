//! A row of the Go original's database as a narinfo's text. Pure: the text is parsed by whoever reads narinfos.
//!
//! The original keeps no text since 0.8, but its columns are the lines of one.

use std::fmt::Write;

use ncps_runtime::clock::UnixTime;

/// What the original's database knows of a store path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoRow {
    /// The text of the narinfo; `None` where it is in a file (until 0.8, and after it where it was not moved yet).
    pub narinfo: Option<String>,
    /// Where the upstream had the NAR, where that is no name of a NAR file.
    pub upstream_url: Option<String>,
    /// When narinfo or NAR were last read.
    pub last_access: Option<UnixTime>,
    /// Its NAR in every compression.
    pub nar_files: Vec<GoNarFile>,
}

/// One representation of a NAR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoNarFile {
    /// As it is spelled in file names.
    pub hash: String,
    /// `xz`, `zstd`, `none`, …, or nothing.
    pub compression: String,
    /// It lies in pieces.
    pub is_chunked: bool,
    /// When it was last read.
    pub last_access: Option<UnixTime>,
}

/// What a narinfo is made of there.
#[derive(Debug, Default)]
pub(super) struct NarInfoColumns {
    /// In the order of [`NarInfoColumns::NAMES`].
    pub(super) texts: Vec<Option<String>>,
    pub(super) references: Vec<String>,
    pub(super) signatures: Vec<String>,
}

/// The lines that they are, in the order of the columns.
const LINES: [&str; 9] =
    ["StorePath", "URL", "Compression", "FileHash", "FileSize", "NarHash", "NarSize", "Deriver", "CA"];

impl NarInfoColumns {
    pub(super) const NAMES: [&'static str; LINES.len()] = [
        "store_path",
        "url",
        "compression",
        "file_hash",
        "file_size",
        "nar_hash",
        "nar_size",
        "deriver",
        "ca",
    ];

    /// `None` where the columns were never filled.
    pub(super) fn text(&self) -> Option<String> {
        self.texts.first()?.as_ref()?;
        let mut text = String::new();
        for (line, value) in LINES.iter().zip(&self.texts) {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                write_line(&mut text, line, value);
            }
        }
        write_line(&mut text, "References", &self.references.join(" "));
        self.signatures.iter().for_each(|signature| write_line(&mut text, "Sig", signature));
        Some(text)
    }
}

fn write_line(text: &mut String, line: &str, value: &str) {
    // A value with a line break makes a text that does not parse as meant, and whose signature does not fit.
    writeln!(text, "{line}: {value}").expect("writing to a String can't fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_lines() {
        let value = |text: &str| Some(text.to_owned());
        let mut columns = NarInfoColumns {
            texts: vec![
                value("/nix/store/a"),
                value("nar/b.nar"),
                value("none"),
                None,
                value(""),
                None,
                value("7"),
            ],
            references: vec!["c".to_owned(), "d".to_owned()],
            signatures: vec!["k:s".to_owned()],
        };
        let text = "StorePath: /nix/store/a\nURL: nar/b.nar\nCompression: none\nNarSize: 7\nReferences: c d\nSig: k:s\n";
        assert_eq!(columns.text().as_deref(), Some(text));
        columns.texts[0] = None;
        assert_eq!(columns.text(), None, "its text is in a file");
        assert_eq!(NarInfoColumns::default().text(), None);
    }
}
