//! `nix-cache-info`: what a cache says about itself.
//!
//! Read as Nix reads it, tolerantly, since it carries nothing that is trusted; written in the one
//! form of cache.nixos.org.

use crate::STORE_DIR;

/// Larger files are refused: a cache says three lines here.
const MAX_BYTES: usize = 64 * 1024;

/// Why a `nix-cache-info` is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CacheInfoError {
    /// More than 64 KiB.
    #[error("nix-cache-info is larger than 64 KiB")]
    TooLarge,
    /// Not UTF-8.
    #[error("nix-cache-info is not UTF-8")]
    NotUtf8,
    /// Newer clients fail on this, too.
    #[error("nix-cache-info has a Priority that is no number")]
    Priority,
}

/// The three values of a `nix-cache-info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheInfo {
    /// Where the cache's store paths are; [`STORE_DIR`] when not said, since clients then
    /// check nothing.
    pub store_dir: String,
    /// Whether clients may ask for many paths at once.
    pub want_mass_query: bool,
    /// The lower, the earlier it is asked; 0 when not said (Nix 2.4 and later).
    pub priority: u32,
}

impl CacheInfo {
    /// Reads `Key: value` lines. Lines without a colon and unknown keys are ignored, values are
    /// trimmed, the last of several wins; priorities are clamped to what a `u32` holds.
    ///
    /// # Errors
    /// See [`CacheInfoError`].
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, CacheInfoError> {
        let bytes = text.as_ref();
        if bytes.len() > MAX_BYTES {
            return Err(CacheInfoError::TooLarge);
        }
        let text = str::from_utf8(bytes).map_err(|_| CacheInfoError::NotUtf8)?;
        let mut info = Self { store_dir: STORE_DIR.to_owned(), want_mass_query: false, priority: 0 };
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            info.set(key, value.trim())?;
        }
        Ok(info)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), CacheInfoError> {
        match key {
            "StoreDir" => self.store_dir = value.to_owned(),
            "WantMassQuery" => self.want_mass_query = value == "1",
            "Priority" => self.priority = parse_priority(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Three lines, each with its newline.
    pub fn render(&self) -> String {
        format!(
            "StoreDir: {}\nWantMassQuery: {}\nPriority: {}\n",
            self.store_dir,
            u8::from(self.want_mass_query),
            self.priority
        )
    }
}

fn parse_priority(value: &str) -> Result<u32, CacheInfoError> {
    let number: i64 = value.parse().map_err(|_| CacheInfoError::Priority)?;
    let clamped = number.clamp(0, i64::from(u32::MAX));
    u32::try_from(clamped).map_err(|_| CacheInfoError::Priority)
}
