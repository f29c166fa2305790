//! Parsers of values that several fields share: durations, sizes, booleans, addresses to listen at.
//!
//! Their errors say what is expected; who calls adds the text and the names. Absent: URLs and everything
//! that belongs to one plane.

use std::path::PathBuf;
use std::time::Duration;

pub use super::listen::{ListenAddr, listen_addr};

/// Units of Go's `time.ParseDuration`, which the original reads, and days.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

/// A duration: numbers with units one after the other, such as `3s`, `100ms`, `1h30m`, `1.5h`. Units are
/// ns, us, ms, s, m, h and d. Of bare numbers only `0` is one.
///
/// # Errors
/// What is expected, for a missing or unknown unit, a sign, or more than 584 years.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    duration_nanos(text)
        .map(Duration::from_nanos)
        .ok_or_else(|| "expected a duration with its unit, such as 30s, 100ms or 1h30m".to_owned())
}

fn duration_nanos(text: &str) -> Option<u64> {
    let mut rest = Some(text).filter(|text| !text.is_empty())?;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, next) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *scale)?)?;
        rest = next;
    }
    u64::try_from(total).ok()
}

/// `number` units of `scale` nanoseconds; what is smaller than a nanosecond is dropped.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let fraction = fraction.get(..fraction.len().min(15))?;
    let parts: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(parts * scale / divisor)
}

/// A size in bytes: an integer and one suffix out of B, K, M, G, T, in either case, also written as KB or
/// KiB; always powers of 1024. A bare number is refused, as in the original: it would be read as bytes by
/// some and as gigabytes by others.
///
/// # Errors
/// What is expected, for anything else or for 2^64 and more.
pub fn byte_size(text: &str) -> Result<u64, String> {
    byte_count(text)
        .ok_or_else(|| "expected a whole number and a unit out of B, K, M, G, T, such as 50G".to_owned())
}

fn byte_count(text: &str) -> Option<u64> {
    let (number, suffix) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Yes or no, in the spellings of Go's `strconv.ParseBool` and those of YAML 1.1.
///
/// # Errors
/// What is expected.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "y" | "on" => Ok(true),
        "false" | "f" | "0" | "no" | "n" | "off" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// A path that does not depend on where the process was started.
///
/// # Errors
/// What was expected.
pub fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("expected an absolute path".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, millis) in [
            ("3s", 3_000),
            ("5m", 300_000),
            ("100ms", 100),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("0.25s", 250),
            ("2d", 172_800_000),
            ("1h0m1s", 3_601_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("7ns"), Ok(Duration::from_nanos(7)));
        assert_eq!(duration("2us"), duration("2µs"));
    }

    #[test]
    fn other_durations_are_refused() {
        for text in [
            "",
            "3",
            "30",
            "s",
            "-3s",
            "+3s",
            "3 s",
            "3x",
            "1.s",
            ".5s",
            "1.2.3s",
            "3s4",
            "9999999999h",
            "1h,2m",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0B", 0),
            ("7b", 7),
            ("1K", 1 << 10),
            ("2m", 2 << 20),
            ("50G", 50 << 30),
            ("50GB", 50 << 30),
            ("50GiB", 50 << 30),
            ("1t", 1 << 40),
            ("16777215T", 16_777_215 << 40),
        ] {
            assert_eq!(byte_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn other_sizes_are_refused() {
        for text in
            ["", "10", "G", "-1G", "1.5G", "10 G", "10P", "10GG", "16777216T", "99999999999999999999B"]
        {
            assert!(byte_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn booleans_are_those_of_go_and_yaml() {
        for (text, yes) in [
            ("true", true),
            ("T", true),
            ("1", true),
            ("ON", true),
            ("False", false),
            ("no", false),
            ("0", false),
        ] {
            assert_eq!(boolean(text), Ok(yes), "{text}");
        }
        assert_eq!(boolean("maybe"), Err("expected true or false".to_owned()));
    }
}
