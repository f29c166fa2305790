//! Parsers of the values that only control has. Their errors say what is expected; who calls adds the text.

use std::path::PathBuf;

use ncps_proto::{LookAhead, MinFree, WhenAway};
use ncps_runtime::config::values::{absolute_path, byte_size, listen_addr};
use ncps_runtime::program::BLOCKING_THREADS;

use super::ControlAddr;

/// A name that can be a host's and a key's.
pub(super) fn hostname(text: &str) -> Result<String, String> {
    if text.contains("://") || text.contains('/') {
        return Err("expected a host name without scheme and path, such as cache.example".to_owned());
    }
    let bad = |c: char| c == ':' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.contains(bad) {
        return Err(
            "expected a host name, which is the name of the signing key, too: without port or spaces"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// The file of `sqlite:/path` or `sqlite:///path`.
///
/// # Errors
/// What is expected, without the text: a URL of another database may hold a password.
pub fn database_path(text: &str) -> Result<PathBuf, String> {
    let expected =
        || "expected sqlite: and an absolute path, such as sqlite:/var/lib/ncps/db/db.sqlite".to_owned();
    let (scheme, rest) = text.split_once(':').ok_or_else(expected)?;
    if scheme.starts_with("postgres") || scheme.starts_with("mysql") {
        return Err(format!("{scheme} is not supported yet; {}", expected()));
    }
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if scheme != "sqlite" || !path.starts_with('/') || path.ends_with('/') {
        return Err(expected());
    }
    if path.contains('?') {
        return Err(format!("parameters are not supported; {}", expected()));
    }
    Ok(PathBuf::from(path))
}

/// `unix:PATH`, or an address and port.
pub(super) fn control_addr(text: &str) -> Result<ControlAddr, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return absolute_path(path).map(ControlAddr::Unix);
    }
    let addr = listen_addr(text).map(|addr| ControlAddr::Tcp { addr, tls: None });
    addr.map_err(|_| "expected unix:PATH, or an address and port such as :8502 or 127.0.0.1:8502".to_owned())
}

/// A size, or a percentage of the disk.
pub(super) fn min_free(text: &str) -> Result<MinFree, String> {
    let expected = |_| "expected a size such as 10G, or a percentage such as 5%".to_owned();
    match text.strip_suffix('%') {
        Some(number) => match number.trim_end().parse() {
            Ok(percent @ 0..100) => Ok(MinFree { percent, at_most: u64::MAX }),
            _ => Err("expected a whole percentage under 100%".to_owned()),
        },
        None => byte_size(text).map(|at_most| MinFree { percent: 100, at_most }).map_err(expected),
    }
}

/// What edges do while control is away, by its name.
pub(super) fn when_away(text: &str) -> Result<WhenAway, String> {
    named(text, &WhenAway::NAMED)
}

/// What comes ahead, by its name.
pub(super) fn look_ahead(text: &str) -> Result<LookAhead, String> {
    named(text, &LookAhead::NAMED)
}

/// Whether stored files become zstd, by its name.
pub(super) fn recompress(text: &str) -> Result<bool, String> {
    named(text, &[("zstd", true), ("off", false)])
}

/// The levels above need far more memory, of the clients too.
pub(super) fn zstd_level(text: &str) -> Result<i32, String> {
    let level = text.parse().ok().filter(|level| (1..=19).contains(level));
    level.ok_or_else(|| "expected a whole number from 1 to 19".to_owned())
}

/// What goes by this name among those that have one; two at least.
fn named<T: Copy>(text: &str, all: &[(&str, T)]) -> Result<T, String> {
    let found = all.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        let (last, others) = names.split_last().expect("two at least");
        format!("expected {} or {last}", others.join(", "))
    })
}

/// Downloads at once, and decoders at once. A download may decode, and so may a reader that passes a full disk by, of
/// which there are as many; each keeps a thread.
pub(super) const MOST_AT_ONCE: u32 = 256;
const _: () = assert!(2 * (MOST_AT_ONCE as usize) <= BLOCKING_THREADS / 2);

/// A whole number from 1 to [`MOST_AT_ONCE`].
pub(super) fn at_once(text: &str) -> Result<u32, String> {
    let number = count(text).ok().filter(|number| *number <= MOST_AT_ONCE);
    number.ok_or_else(|| format!("expected a whole number from 1 to {MOST_AT_ONCE}"))
}

/// A whole number from 1 on.
pub(super) fn count(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a whole number from 1 on".to_owned())
}

/// A whole number from 0 on.
pub(super) fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "expected a whole number from 0 on".to_owned())
}
