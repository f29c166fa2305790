//! How a NAR file is compressed: the codecs that we can decode, by narinfo name and by extension.
//!
//! Nix knows more (gzip, br, lz4, lzip, lzma, …). They are absent on purpose: a file that can't
//! be decoded can't be proven, so it is never offered.

use std::fmt;

/// A codec that both Nix and we can decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// The NAR itself.
    None,
    /// xz, possibly of several streams.
    Xz,
    /// bzip2; what a narinfo without a `Compression` line means.
    Bzip2,
    /// zstd, possibly of several frames; understood by Nix since 2.4 and 2.3.17.
    Zstd,
}

impl Compression {
    /// The value of `Compression:` in a narinfo.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Zstd => "zstd",
        }
    }

    /// What follows `.nar.` in a file name; None for an uncompressed NAR.
    pub const fn extension(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Xz => Some("xz"),
            Self::Bzip2 => Some("bz2"),
            Self::Zstd => Some("zst"),
        }
    }

    /// The inverse of [`Self::name`]; None for a codec that we can't decode.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "xz" => Some(Self::Xz),
            "bzip2" => Some(Self::Bzip2),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The inverse of [`Self::extension`]; None for an extension of no codec of ours.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension {
            "xz" => Some(Self::Xz),
            "bz2" => Some(Self::Bzip2),
            "zst" => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
