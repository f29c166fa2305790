//! Sizes and times as people read them, and paths as people write them.

use std::fmt;
use std::str::FromStr;

use chrono::DateTime;
use ncps_nix::{StorePath, StorePathHash};
use serde::{Serialize, Serializer};

/// Bytes, to three digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut unit) = (self.0 as f64, 0);
        // What would be rounded to 1024 is one of the next unit.
        while number >= 1023.5 && unit + 1 < UNITS.len() {
            (number, unit) = (number / 1024.0, unit + 1);
        }
        let digits = if unit == 0 || number >= 99.95 { 0 } else { 1 };
        write!(f, "{number:.digits$} {}", UNITS[unit])
    }
}

/// Seconds since 1970, in UTC; 0 and what is no time at all is `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp(self.0, 0).filter(|_| self.0 != 0) {
            Some(time) => write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%SZ")),
            None => f.write_str("-"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0 == 0 { to.serialize_none() } else { to.collect_str(self) }
    }
}

/// A path, however it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathArg(pub(crate) StorePathHash);

impl FromStr for PathArg {
    type Err = String;

    /// A store path or something in it, its base name, its hash, or the name of its narinfo.
    fn from_str(text: &str) -> Result<Self, String> {
        let base = text.strip_prefix("/nix/store/").unwrap_or(text);
        let base = base.split('/').next().unwrap_or(base);
        let base = base.strip_suffix(".narinfo").unwrap_or(base);
        let hash = match StorePathHash::parse(base) {
            Ok(hash) => Ok(hash),
            Err(error) if !base.contains('-') => Err(error),
            Err(_) => StorePath::parse(base).map(|path| path.hash()),
        };
        hash.map(PathArg).map_err(|error| {
            format!(
                "{error}; expected a store path such as /nix/store/HASH-NAME, or its HASH: 32 characters out of \
                 0-9 and a-z without e, o, t and u"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let text = |bytes: u64| Size(bytes).to_string();
        assert_eq!([0, 1023, 1024].map(text), ["0 B", "1023 B", "1.0 KiB"]);
        assert_eq!([1 << 20, (1 << 20) - 1, 150 << 30].map(text), ["1.0 MiB", "1.0 MiB", "150 GiB"]);
        assert_eq!(text(u64::MAX), "16384 PiB");
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(Time(1_000_000_000).to_string(), "2001-09-09T01:46:40Z");
        assert_eq!((Time(0).to_string(), Time(i64::MAX).to_string()), ("-".to_owned(), "-".to_owned()));
    }

    #[test]
    fn paths_may_be_written_in_many_ways() {
        let hash = "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c";
        let expected = StorePathHash::parse(hash).map(PathArg).expect("a hash");
        for text in [
            hash.to_owned(),
            format!("{hash}-hello-2.12"),
            format!("/nix/store/{hash}-hello-2.12"),
            format!("/nix/store/{hash}-hello-2.12/bin/hello"),
            format!("{hash}.narinfo"),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_told_what_would_be_one() {
        for text in ["", "hello", "0c0c", "/nix/store/", "/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-x"] {
            let error = text.parse::<PathArg>().expect_err(text);
            assert!(error.contains("without e, o, t and u"), "{error}");
        }
    }
}
