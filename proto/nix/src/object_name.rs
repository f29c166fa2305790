//! Names of what a binary cache holds beside narinfos and NARs: file listings, build logs, debug info,
//! realisations and build traces. One text names one object, in URLs (decoded) and on disk alike.
//!
//! Knows which names Nix 2.4 to 2.35, Hydra, dwarffs and nixseparatedebuginfod ask for. Absent on purpose:
//! percent-decoding of requests (the router's), and what is in the objects.

use std::fmt;

use data_encoding::HEXLOWER;

use crate::store_path::check_name;
use crate::{Sha256Hash, StorePath, StorePathHash};

/// A file name can't be longer on the usual file systems.
const MAX_FILE_NAME_BYTES: usize = 255;

/// Why a text names no object of a binary cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an object in a binary cache")]
pub struct ObjectNameError;

/// An object beside narinfos and NARs. `Display` gives its path within the cache, without a leading slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// `<32 nix32>.ls`: the files of a NAR, as JSON.
    Listing(StorePathHash),
    /// `log/<base name>.drv`: what a builder wrote.
    Log(StorePath),
    /// `debuginfo/<40 hex>[.debug]`: where the debug symbols of an executable are, as JSON. `nix copy` writes
    /// the name with the suffix, Hydra without; they are two objects.
    DebugInfo { build_id: BuildId, suffix: bool },
    /// `realisations/sha256:<64 hex>!<output>.doi` (Nix 2.4 to 2.34).
    Realisation { derivation: Sha256Hash, output: OutputName },
    /// `build-trace-v2/<base name>.drv/<output>.doi` (Nix 2.35 and later).
    BuildTrace { derivation: StorePath, output: OutputName },
}

/// A GNU build id of 20 bytes (SHA-1), which is what gcc and clang make.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId([u8; 20]);

/// The name of a derivation's output, such as `out` or `dev`: of the characters of store path names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputName(Box<str>);

impl ObjectName {
    /// Reads a decoded path within the cache, without a leading slash. A name that the disk could not hold as
    /// one file (a realisation of an output with more than 179 characters) is none.
    ///
    /// # Errors
    /// [`ObjectNameError`] for anything else than the five shapes.
    pub fn parse(path: &str) -> Result<Self, ObjectNameError> {
        let name = match path.split_once('/') {
            None => listing(path),
            Some(("log", file)) => derivation(file).map(Self::Log),
            Some(("debuginfo", file)) => debug_info(file),
            Some(("realisations", file)) => realisation(file),
            Some(("build-trace-v2", rest)) => build_trace(rest),
            Some(_) => None,
        };
        let fits = |name: &Self| name.to_string().split('/').all(|part| part.len() <= MAX_FILE_NAME_BYTES);
        name.filter(fits).ok_or(ObjectNameError)
    }

    /// The path as it stands in a URL. `?` would begin a query, and S3 reads a raw `+` as a space.
    pub fn url_path(&self) -> String {
        self.to_string().replace('+', "%2B").replace('?', "%3F")
    }
}

fn listing(file: &str) -> Option<ObjectName> {
    let hash = file.strip_suffix(".ls")?;
    StorePathHash::parse(hash).ok().map(ObjectName::Listing)
}

fn derivation(file: &str) -> Option<StorePath> {
    StorePath::parse(file).ok().filter(|path| path.name().ends_with(".drv"))
}

fn debug_info(file: &str) -> Option<ObjectName> {
    let (hex, suffix) = match file.strip_suffix(".debug") {
        Some(hex) => (hex, true),
        None => (file, false),
    };
    BuildId::parse(hex).map(|build_id| ObjectName::DebugInfo { build_id, suffix })
}

fn realisation(file: &str) -> Option<ObjectName> {
    let (hex, file) = file.strip_prefix("sha256:")?.split_once('!')?;
    // Nix 2.4 to 2.34 write base 16 here; a name of 52 characters would be base 32.
    let derivation = Sha256Hash::parse_bare(hex).ok().filter(|_| hex.len() == 64)?;
    output(file).map(|output| ObjectName::Realisation { derivation, output })
}

fn build_trace(rest: &str) -> Option<ObjectName> {
    let (drv, file) = rest.split_once('/')?;
    let derivation = derivation(drv)?;
    output(file).map(|output| ObjectName::BuildTrace { derivation, output })
}

fn output(file: &str) -> Option<OutputName> {
    OutputName::parse(file.strip_suffix(".doi")?)
}

impl BuildId {
    /// Reads 40 lower-case base16 characters.
    pub fn parse(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

impl OutputName {
    /// Reads a name by the rule of store path names.
    pub fn parse(text: &str) -> Option<Self> {
        check_name(text).ok().map(|()| Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listing(hash) => write!(f, "{hash}.ls"),
            Self::Log(derivation) => write!(f, "log/{derivation}"),
            Self::DebugInfo { build_id, suffix } => {
                write!(f, "debuginfo/{build_id}{}", if *suffix { ".debug" } else { "" })
            }
            Self::Realisation { derivation, output } => {
                write!(f, "realisations/sha256:{}!{output}.doi", derivation.hex())
            }
            Self::BuildTrace { derivation, output } => {
                write!(f, "build-trace-v2/{derivation}/{output}.doi")
            }
        }
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for OutputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
