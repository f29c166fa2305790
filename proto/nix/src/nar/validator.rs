//! Whether a stream of bytes is a canonical NAR, decided chunk by chunk.
//!
//! Two layers: strings (length, bytes, zero padding) and the grammar over them. File contents are
//! skipped, not kept; all other strings are short by rule, and a directory stack of bounded depth
//! holds the last name at each level. So memory stays below about 300 KiB whatever comes in.

use super::{MAGIC, padding};

/// Deepest nesting of directories. Nix 2.34.8 and later stop at 64, older ones nowhere; a cache
/// passes on what older caches hold, so this is only the bound of our own memory.
pub const MAX_DEPTH: usize = 1024;

const MAX_NAME: u64 = 255;
const MAX_TARGET: u64 = 4095;
/// The longest keyword is the magic, 13 bytes; Nix allows 32 for any.
const MAX_KEYWORD: u64 = 32;

/// Where a stream stopped being a NAR, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a NAR at byte {offset}: {kind}")]
pub struct NarError {
    /// Bytes read when the trouble was seen, the last one included; the length of the NAR where
    /// there are bytes after it.
    pub offset: u64,
    /// What is wrong.
    pub kind: NarErrorKind,
}

/// What is wrong with a NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NarErrorKind {
    /// The stream ended inside the NAR.
    #[error("truncated")]
    Truncated,
    /// Bytes after the end of the NAR.
    #[error("bytes after the end")]
    TrailingBytes,
    /// A keyword other than those possible here.
    #[error("unexpected keyword")]
    Keyword,
    /// A string longer than allowed here.
    #[error("string too long")]
    TooLong,
    /// Padding that is not zero.
    #[error("non-zero padding")]
    Padding,
    /// An entry name that is empty, `.`, `..`, or contains `/` or NUL.
    #[error("malformed entry name")]
    Name,
    /// An entry that does not sort after the one before it.
    #[error("entries out of order")]
    Order,
    /// A symlink target that is empty or contains NUL.
    #[error("malformed symlink target")]
    Target,
    /// Directories nested deeper than [`MAX_DEPTH`].
    #[error("nested too deeply")]
    TooDeep,
}

/// What the next string has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Magic,
    NodeOpen,
    Type,
    Kind,
    ExecutableOrContents,
    ExecutableValue,
    ContentsKey,
    Contents,
    TargetKey,
    Target,
    /// `)` of a file or symlink.
    NodeClose,
    /// `entry`, or `)` of the directory.
    EntryOrClose,
    EntryOpen,
    NameKey,
    Name,
    NodeKey,
    EntryClose,
    End,
}

/// Where in a string the stream is.
#[derive(Debug, Clone, Copy)]
enum Reading {
    Length { bytes: [u8; 8], have: u8 },
    Bytes { left: u64, padding: u8 },
    Padding { left: u8 },
}

const LENGTH: Reading = Reading::Length { bytes: [0; 8], have: 0 };

/// A push parser: feed it chunks, then ask whether that was all of a NAR.
///
/// After an error it stays failed and repeats that error.
#[derive(Debug)]
pub struct Validator {
    expect: Expect,
    reading: Reading,
    /// The string being read; stays empty for contents.
    string: Vec<u8>,
    /// For each open directory the last entry's name; empty before the first entry.
    directories: Vec<Vec<u8>>,
    offset: u64,
    failed: Option<NarError>,
}

impl Default for Validator {
    fn default() -> Self {
        Self::new()
    }
}

impl Validator {
    /// Nothing read yet.
    pub const fn new() -> Self {
        Self {
            expect: Expect::Magic,
            reading: LENGTH,
            string: Vec::new(),
            directories: Vec::new(),
            offset: 0,
            failed: None,
        }
    }

    /// Takes the next bytes; how they are cut into chunks does not matter.
    ///
    /// # Errors
    /// At the first byte that can't be part of a NAR.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), NarError> {
        let mut rest = chunk;
        while !rest.is_empty() && self.failed.is_none() {
            match self.step(rest) {
                Ok(after) => rest = after,
                Err(kind) => self.fail(kind),
            }
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// Whether the bytes so far are exactly one NAR.
    ///
    /// # Errors
    /// [`NarErrorKind::Truncated`], or the error that a push gave.
    pub fn finish(mut self) -> Result<(), NarError> {
        if self.expect != Expect::End && self.failed.is_none() {
            self.fail(NarErrorKind::Truncated);
        }
        self.failed.map_or(Ok(()), Err)
    }

    fn fail(&mut self, kind: NarErrorKind) {
        let offset = self.offset;
        self.failed = Some(NarError { offset, kind });
    }

    /// Takes a part of `rest`, which is not empty, and gives what is left of it.
    fn step<'a>(&mut self, rest: &'a [u8]) -> Result<&'a [u8], NarErrorKind> {
        if self.expect == Expect::End {
            return Err(NarErrorKind::TrailingBytes);
        }
        let wanted = match self.reading {
            Reading::Length { .. } | Reading::Padding { .. } => 1,
            Reading::Bytes { left, .. } => usize::try_from(left).unwrap_or(usize::MAX),
        };
        let (taken, rest) = rest.split_at(wanted.min(rest.len()));
        self.offset += taken.len() as u64;
        match self.reading {
            Reading::Length { bytes, have } => self.read_length(taken[0], bytes, have)?,
            Reading::Bytes { left, padding } => self.read_bytes(taken, left, padding)?,
            Reading::Padding { left } => self.read_padding(taken[0], left)?,
        }
        Ok(rest)
    }

    /// ## Length => (Length | Bytes | Padding)
    fn read_length(&mut self, byte: u8, mut bytes: [u8; 8], have: u8) -> Result<(), NarErrorKind> {
        bytes[usize::from(have)] = byte;
        if have < 7 {
            self.reading = Reading::Length { bytes, have: have + 1 };
            return Ok(());
        }
        let left = u64::from_le_bytes(bytes);
        if left > self.expect.max_len() {
            return Err(NarErrorKind::TooLong);
        }
        self.string.clear();
        self.after_bytes(left, padding(left))
    }

    /// ## Bytes => (Bytes | Padding | Length)
    fn read_bytes(&mut self, taken: &[u8], left: u64, padding: u8) -> Result<(), NarErrorKind> {
        if self.expect != Expect::Contents {
            self.string.extend_from_slice(taken);
        }
        self.after_bytes(left - taken.len() as u64, padding)
    }

    fn after_bytes(&mut self, left: u64, padding: u8) -> Result<(), NarErrorKind> {
        self.reading = match (left, padding) {
            (0, 0) => return self.end_string(),
            (0, left) => Reading::Padding { left },
            (left, padding) => Reading::Bytes { left, padding },
        };
        Ok(())
    }

    /// ## Padding => (Padding | Length)
    fn read_padding(&mut self, byte: u8, left: u8) -> Result<(), NarErrorKind> {
        if byte != 0 {
            return Err(NarErrorKind::Padding);
        }
        if left == 1 {
            return self.end_string();
        }
        self.reading = Reading::Padding { left: left - 1 };
        Ok(())
    }

    fn end_string(&mut self) -> Result<(), NarErrorKind> {
        self.reading = LENGTH;
        self.expect = self.next()?;
        Ok(())
    }

    /// The grammar: what follows the string just read.
    fn next(&mut self) -> Result<Expect, NarErrorKind> {
        match (self.expect, self.string.as_slice()) {
            (Expect::Magic, MAGIC) => Ok(Expect::NodeOpen),
            (Expect::NodeOpen, b"(") => Ok(Expect::Type),
            (Expect::Type, b"type") => Ok(Expect::Kind),
            (Expect::Kind, b"regular") => Ok(Expect::ExecutableOrContents),
            (Expect::Kind, b"symlink") => Ok(Expect::TargetKey),
            (Expect::Kind, b"directory") => self.open_directory(),
            (Expect::ExecutableOrContents, b"executable") => Ok(Expect::ExecutableValue),
            (Expect::ExecutableValue, b"") => Ok(Expect::ContentsKey),
            (Expect::ExecutableOrContents | Expect::ContentsKey, b"contents") => Ok(Expect::Contents),
            (Expect::Contents, _) => Ok(Expect::NodeClose),
            (Expect::TargetKey, b"target") => Ok(Expect::Target),
            (Expect::Target, target) => check_target(target),
            (Expect::NodeClose, b")") => Ok(self.after_node()),
            (Expect::EntryOrClose, b"entry") => Ok(Expect::EntryOpen),
            (Expect::EntryOrClose, b")") => {
                self.directories.pop();
                Ok(self.after_node())
            }
            (Expect::EntryOpen, b"(") => Ok(Expect::NameKey),
            (Expect::NameKey, b"name") => Ok(Expect::Name),
            (Expect::Name, _) => self.take_name(),
            (Expect::NodeKey, b"node") => Ok(Expect::NodeOpen),
            (Expect::EntryClose, b")") => Ok(Expect::EntryOrClose),
            _ => Err(NarErrorKind::Keyword),
        }
    }

    fn open_directory(&mut self) -> Result<Expect, NarErrorKind> {
        if self.directories.len() == MAX_DEPTH {
            return Err(NarErrorKind::TooDeep);
        }
        self.directories.push(Vec::new());
        Ok(Expect::EntryOrClose)
    }

    fn after_node(&self) -> Expect {
        match self.directories.is_empty() {
            true => Expect::End,
            false => Expect::EntryClose,
        }
    }

    fn take_name(&mut self) -> Result<Expect, NarErrorKind> {
        let name = &self.string;
        if matches!(name.as_slice(), b"" | b"." | b"..") || name.iter().any(|b| b"/\0".contains(b)) {
            return Err(NarErrorKind::Name);
        }
        let last = self.directories.last_mut().ok_or(NarErrorKind::Keyword)?;
        if name <= last {
            return Err(NarErrorKind::Order);
        }
        last.clone_from(name);
        Ok(Expect::NodeKey)
    }
}

impl Expect {
    const fn max_len(self) -> u64 {
        match self {
            Self::Contents => u64::MAX,
            Self::Target => MAX_TARGET,
            Self::Name => MAX_NAME,
            _ => MAX_KEYWORD,
        }
    }
}

fn check_target(target: &[u8]) -> Result<Expect, NarErrorKind> {
    match target.is_empty() || target.contains(&0) {
        true => Err(NarErrorKind::Target),
        false => Ok(Expect::NodeClose),
    }
}
