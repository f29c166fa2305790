//! The strict reader of narinfos.
//!
//! Nix's own parser takes values from two bytes after the colon up to the next newline, wherever
//! that is, lets later fields win and guesses codecs. Here every line is `Key: value\n` and means
//! one thing, or the narinfo is refused.

use std::collections::HashSet;

use crate::{
    Compression, ContentAddress, ContentAddressError, FileHash, HashError, NarHash, NarInfo, Sha256Hash,
    Signature, SignatureError, StorePath, StorePathError,
};

/// Larger narinfos are refused: 1 MiB (99.9 % of those in the wild are below 4 KiB).
pub const MAX_NARINFO_BYTES: usize = 1024 * 1024;

/// More signatures are refused: each may have to be verified.
const MAX_SIGNATURES: usize = 256;

/// Sizes above this are refused: no file system and no database column holds them.
const MAX_SIZE: u64 = i64::MAX as u64;

/// Why a narinfo is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    /// More than [`MAX_NARINFO_BYTES`].
    #[error("narinfo is larger than {MAX_NARINFO_BYTES} bytes")]
    TooLarge,
    /// Not UTF-8.
    #[error("narinfo is not UTF-8")]
    NotUtf8,
    /// A required field is not there.
    #[error("narinfo without {0}")]
    Missing(&'static str),
    /// A well-formed narinfo of a NAR file that we can't decode.
    #[error("narinfo line {line}: unsupported compression {name:?}")]
    UnsupportedCompression {
        /// Counted from 1.
        line: usize,
        /// The value given, cut to 32 characters.
        name: String,
    },
    /// A line that is not as it must be.
    #[error("narinfo line {line}: {reason}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: NarInfoLineError,
    },
}

/// What is wrong with a line of a narinfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoLineError {
    /// The last line has no newline.
    #[error("no newline at the end")]
    Unterminated,
    /// An empty line.
    #[error("blank line")]
    Blank,
    /// A carriage return.
    #[error("carriage return")]
    CarriageReturn,
    /// Not `Key: value`.
    #[error("not of the form `Key: value`")]
    Shape,
    /// A known key that may stand once stands again.
    #[error("second {0}")]
    Duplicate(&'static str),
    /// A store path.
    #[error("{field}: {reason}")]
    StorePath {
        /// Which field.
        field: &'static str,
        /// Why.
        reason: StorePathError,
    },
    /// A hash.
    #[error("{field}: {reason}")]
    Hash {
        /// Which field.
        field: &'static str,
        /// Why.
        reason: HashError,
    },
    /// A size that is not a plain number, or too large; a NarSize of 0.
    #[error("malformed {0}")]
    Size(&'static str),
    /// Empty, or with whitespace or control characters.
    #[error("malformed URL")]
    Url,
    /// A signature.
    #[error("Sig: {0}")]
    Signature(SignatureError),
    /// More than 256 different signatures.
    #[error("too many signatures")]
    TooManySignatures,
    /// A content address.
    #[error("CA: {0}")]
    ContentAddress(ContentAddressError),
}

impl NarInfo {
    /// Reads a narinfo strictly: UTF-8, every line `Key: value\n`, no carriage return, no blank
    /// line, each known key once (`Sig` excepted). Unknown keys are dropped.
    ///
    /// Normalised on the way: a missing or empty `Compression` is bzip2; `unknown-deriver`, an
    /// empty `CA`, a `FileSize` of 0 and a `FileHash` of another algorithm are none; references
    /// and signatures that repeat stand once; with `Compression: none` hash and size of the NAR
    /// win over those of the file.
    ///
    /// # Errors
    /// See [`NarInfoError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NarInfoError> {
        if bytes.len() > MAX_NARINFO_BYTES {
            return Err(NarInfoError::TooLarge);
        }
        let text = str::from_utf8(bytes).map_err(|_| NarInfoError::NotUtf8)?;
        let mut fields = Fields::default();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            fields.read(line).map_err(|trouble| trouble.at(index + 1))?;
        }
        fields.finish()
    }
}

/// Trouble on a line that does not yet know its number.
enum Trouble {
    Line(NarInfoLineError),
    Compression(String),
}

impl Trouble {
    fn at(self, line: usize) -> NarInfoError {
        match self {
            Self::Line(reason) => NarInfoError::Line { line, reason },
            Self::Compression(name) => NarInfoError::UnsupportedCompression { line, name },
        }
    }
}

impl From<NarInfoLineError> for Trouble {
    fn from(reason: NarInfoLineError) -> Self {
        Self::Line(reason)
    }
}

/// What has been read so far. The outer Option says whether the key was there, the inner one
/// whether it had a value that counts.
#[derive(Default)]
struct Fields {
    store_path: Option<StorePath>,
    url: Option<String>,
    compression: Option<Compression>,
    file_hash: Option<Option<FileHash>>,
    file_size: Option<Option<u64>>,
    nar_hash: Option<NarHash>,
    nar_size: Option<u64>,
    references: Option<Vec<StorePath>>,
    deriver: Option<Option<StorePath>>,
    signatures: Vec<Signature>,
    ca: Option<Option<ContentAddress>>,
}

impl Fields {
    fn read(&mut self, line: &str) -> Result<(), Trouble> {
        let (key, value) = split_line(line)?;
        match key {
            "StorePath" => once(&mut self.store_path, "StorePath", parse_store_path(value)?),
            "URL" => once(&mut self.url, "URL", parse_url(value)?),
            "Compression" => {
                let compression = parse_compression(value)?;
                once(&mut self.compression, "Compression", compression)
            }
            "FileHash" => once(&mut self.file_hash, "FileHash", parse_file_hash(value)?),
            "FileSize" => once(&mut self.file_size, "FileSize", parse_file_size(value)?),
            "NarHash" => once(&mut self.nar_hash, "NarHash", parse_nar_hash(value)?),
            "NarSize" => once(&mut self.nar_size, "NarSize", parse_nar_size(value)?),
            "References" => once(&mut self.references, "References", parse_references(value)?),
            "Deriver" => once(&mut self.deriver, "Deriver", parse_deriver(value)?),
            "Sig" => self.add_signature(value),
            "CA" => once(&mut self.ca, "CA", parse_ca(value)?),
            _ => Ok(()),
        }
        .map_err(Trouble::from)
    }

    fn add_signature(&mut self, value: &str) -> Result<(), NarInfoLineError> {
        let signature = Signature::parse(value).map_err(NarInfoLineError::Signature)?;
        if self.signatures.contains(&signature) {
            return Ok(());
        }
        if self.signatures.len() == MAX_SIGNATURES {
            return Err(NarInfoLineError::TooManySignatures);
        }
        self.signatures.push(signature);
        Ok(())
    }

    fn finish(self) -> Result<NarInfo, NarInfoError> {
        let nar_hash = self.nar_hash.ok_or(NarInfoError::Missing("NarHash"))?;
        let nar_size = self.nar_size.ok_or(NarInfoError::Missing("NarSize"))?;
        let compression = self.compression.unwrap_or(Compression::Bzip2);
        let (file_hash, file_size) = match compression {
            Compression::None => (Some(FileHash(nar_hash.0)), Some(nar_size)),
            _ => (self.file_hash.flatten(), self.file_size.flatten()),
        };
        Ok(NarInfo {
            store_path: self.store_path.ok_or(NarInfoError::Missing("StorePath"))?,
            url: self.url.ok_or(NarInfoError::Missing("URL"))?,
            compression,
            file_hash,
            file_size,
            nar_hash,
            nar_size,
            references: self.references.unwrap_or_default(),
            deriver: self.deriver.flatten(),
            signatures: self.signatures,
            ca: self.ca.flatten(),
        })
    }
}

fn split_line(line: &str) -> Result<(&str, &str), NarInfoLineError> {
    let line = line.strip_suffix('\n').ok_or(NarInfoLineError::Unterminated)?;
    if line.is_empty() {
        return Err(NarInfoLineError::Blank);
    }
    if line.contains('\r') {
        return Err(NarInfoLineError::CarriageReturn);
    }
    let (key, value) = line.split_once(':').ok_or(NarInfoLineError::Shape)?;
    let value = value.strip_prefix(' ').ok_or(NarInfoLineError::Shape)?;
    match key.bytes().all(|b| b.is_ascii_graphic()) && !key.is_empty() {
        true => Ok((key, value)),
        false => Err(NarInfoLineError::Shape),
    }
}

fn once<T>(slot: &mut Option<T>, field: &'static str, value: T) -> Result<(), NarInfoLineError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(NarInfoLineError::Duplicate(field)),
    }
}

fn parse_store_path(value: &str) -> Result<StorePath, NarInfoLineError> {
    StorePath::parse_absolute(value).map_err(in_store_path("StorePath"))
}

fn in_store_path(field: &'static str) -> impl Fn(StorePathError) -> NarInfoLineError {
    move |reason| NarInfoLineError::StorePath { field, reason }
}

/// Opaque, but what it is put into (requests, logs, other narinfos) has lines and words.
fn parse_url(value: &str) -> Result<String, NarInfoLineError> {
    let malformed = |c: char| c.is_whitespace() || c.is_control();
    match value.is_empty() || value.contains(malformed) {
        true => Err(NarInfoLineError::Url),
        false => Ok(value.to_owned()),
    }
}

/// Empty counts as missing, as in Nix.
fn parse_compression(value: &str) -> Result<Compression, Trouble> {
    match value {
        "" => Ok(Compression::Bzip2),
        name => {
            Compression::from_name(name).ok_or_else(|| Trouble::Compression(name.chars().take(32).collect()))
        }
    }
}

fn parse_file_hash(value: &str) -> Result<Option<FileHash>, NarInfoLineError> {
    match Sha256Hash::parse_typed(value) {
        Ok(hash) => Ok(Some(FileHash(hash))),
        Err(HashError::OtherAlgorithm) => Ok(None),
        Err(reason) => Err(NarInfoLineError::Hash { field: "FileHash", reason }),
    }
}

fn parse_nar_hash(value: &str) -> Result<NarHash, NarInfoLineError> {
    let hash = Sha256Hash::parse_typed(value).map(NarHash);
    hash.map_err(|reason| NarInfoLineError::Hash { field: "NarHash", reason })
}

/// Nix writes no FileSize where it is 0, that is, unknown.
fn parse_file_size(value: &str) -> Result<Option<u64>, NarInfoLineError> {
    let size = parse_size(value).ok_or(NarInfoLineError::Size("FileSize"))?;
    Ok((size > 0).then_some(size))
}

fn parse_nar_size(value: &str) -> Result<u64, NarInfoLineError> {
    parse_size(value).filter(|size| *size > 0).ok_or(NarInfoLineError::Size("NarSize"))
}

/// Digits only: Rust's own parser would take a sign.
fn parse_size(value: &str) -> Option<u64> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    value.parse().ok().filter(|size| digits && *size <= MAX_SIZE)
}

fn parse_references(value: &str) -> Result<Vec<StorePath>, NarInfoLineError> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let mut seen = HashSet::new();
    let mut references = Vec::new();
    for base_name in value.split(' ') {
        // Before it is parsed, a duplicate costs neither a parse nor a copy.
        if seen.insert(base_name) {
            let path = StorePath::parse(base_name);
            references.push(path.map_err(in_store_path("References"))?);
        }
    }
    Ok(references)
}

fn parse_deriver(value: &str) -> Result<Option<StorePath>, NarInfoLineError> {
    match value {
        "unknown-deriver" => Ok(None),
        base_name => StorePath::parse(base_name).map(Some).map_err(in_store_path("Deriver")),
    }
}

/// Nix reads an empty value as none.
fn parse_ca(value: &str) -> Result<Option<ContentAddress>, NarInfoLineError> {
    match value {
        "" => Ok(None),
        address => ContentAddress::parse(address).map(Some).map_err(NarInfoLineError::ContentAddress),
    }
}
