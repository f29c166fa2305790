//! An upstream as it is written: a base URL, who we are to it, and in its query what is special about it. The URL
//! that is kept has neither login nor query, so that it can be shown.

use std::path::PathBuf;

use ncps_proto::{Login, Secret, UpstreamSettings};
use ncps_runtime::config::values::{absolute_path, boolean};
use url::Url;

use super::pem;

/// What an upstream without `?priority=` gets: cache.nixos.org's own.
const DEFAULT_PRIORITY: i32 = 40;

const EXPECTED: &str = "expected a URL such as https://cache.nixos.org or http://host:5000?priority=10";

/// An upstream with all that its URL says. Reads the files that it names.
pub(super) fn parse(text: &str) -> Result<UpstreamSettings, String> {
    let mut url = base(text)?;
    let login = login(&url)?;
    let query = Query::read(&url)?;
    if query.cert.is_some() && url.scheme() != "https" {
        return Err("a certificate is for https only".to_owned());
    }
    clean(&mut url);
    Ok(UpstreamSettings {
        optional: query.optional.unwrap_or(false),
        login,
        identity: query.identity()?,
        ..UpstreamSettings::plain(url.as_str(), query.priority.unwrap_or(DEFAULT_PRIORITY))
    })
}

/// The URL by which an upstream is known, of one that may say more.
pub(super) fn name(text: &str) -> Result<String, String> {
    let mut url = base(text)?;
    clean(&mut url);
    Ok(UpstreamSettings::plain(url.as_str(), 0).url)
}

fn base(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("{EXPECTED}: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(EXPECTED.to_owned());
    }
    if url.fragment().is_some() {
        return Err(format!("a fragment means nothing here; {EXPECTED}"));
    }
    Ok(url)
}

fn clean(url: &mut Url) {
    url.set_query(None);
    // Only URLs without a host refuse these.
    url.set_username("").ok();
    url.set_password(None).ok();
}

fn login(url: &Url) -> Result<Option<Login>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let undecodable = || "the user and the password have to be UTF-8, percent-encoded".to_owned();
    let user = percent_decoded(url.username()).ok_or_else(undecodable)?;
    let password = percent_decoded(url.password().unwrap_or_default()).ok_or_else(undecodable)?;
    if user.contains(':') {
        return Err("a user's name can't hold a colon (RFC 7617)".to_owned());
    }
    Ok(Some(Login { user, password: Secret::new(password) }))
}

/// A `%` that begins no escape stands for itself, as in URLs elsewhere.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.split_at_checked(2)).flatten();
        let escaped = escaped.and_then(|(digits, after)| Some((hex(digits)?, after)));
        let (byte, next) = escaped.unwrap_or((*first, after));
        bytes.push(byte);
        rest = next;
    }
    String::from_utf8(bytes).ok()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// What the query says.
#[derive(Default)]
struct Query {
    priority: Option<i32>,
    optional: Option<bool>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Query {
    fn read(url: &Url) -> Result<Query, String> {
        let mut query = Query::default();
        for (name, value) in url.query_pairs() {
            match &*name {
                "priority" => once(&mut query.priority, &name, priority(&value))?,
                "optional" => once(&mut query.optional, &name, boolean(&value))?,
                "tls-certificate" => once(&mut query.cert, &name, absolute_path(&value))?,
                "tls-private-key" => once(&mut query.key, &name, absolute_path(&value))?,
                other => {
                    return Err(format!(
                        "unknown parameter {other:?}: priority, optional, tls-certificate and tls-private-key are known"
                    ));
                }
            }
        }
        if query.cert.is_some() != query.key.is_some() {
            return Err("tls-certificate and tls-private-key need each other".to_owned());
        }
        Ok(query)
    }

    fn identity(&self) -> Result<Option<Secret>, String> {
        let Some((cert, key)) = self.cert.as_deref().zip(self.key.as_deref()) else { return Ok(None) };
        pem::identity(cert, key).map(Some)
    }
}

fn once<T>(place: &mut Option<T>, name: &str, value: Result<T, String>) -> Result<(), String> {
    let value = value.map_err(|expected| format!("{name}: {expected}"))?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{name} is given twice")),
    }
}

fn priority(text: &str) -> Result<i32, String> {
    let number = text.parse::<i32>().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| "expected a whole number, 0 or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login_of(text: &str) -> Option<(String, String)> {
        let login = parse(text).expect(text).login?;
        Some((login.user, login.password.reveal().to_owned()))
    }

    #[test]
    fn the_url_that_is_kept_says_nothing_else() {
        let upstream = parse("https://me:pw@A.example:444/x/?priority=3&optional=1").expect("usable");
        assert_eq!((upstream.url.as_str(), upstream.priority), ("https://a.example:444/x", 3));
        assert!(upstream.optional && upstream.identity.is_none() && !upstream.unsigned);
        assert_eq!(parse("http://a"), Ok(UpstreamSettings::plain("http://a", 40)));
        assert_eq!(name("https://u@a.example/?priority=1"), Ok("https://a.example".to_owned()));
    }

    #[test]
    fn logins_are_percent_decoded() {
        let of = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(login_of("https://a"), None);
        assert_eq!(login_of("https://me:p%40ss%2Fw%3A@a"), of("me", "p@ss/w:"));
        assert_eq!(login_of("https://me@a"), of("me", ""));
        assert_eq!(login_of("https://:pw@a"), of("", "pw"));
        assert_eq!(login_of("https://me:100%25%zz%@a"), of("me", "100%%zz%"));
        assert_eq!(login_of("https://m%C3%A9:%C3%A9@a"), of("mé", "é"));
    }

    #[test]
    fn what_is_special_is_said_once_and_rightly() {
        assert!(!parse("http://a?optional=false").expect("usable").optional);
        for (text, expected) in [
            ("https://a?priority=1&priority=1", "given twice"),
            ("https://a?optional=perhaps", "optional: expected true or false"),
            ("https://a?secret=hunter2", "unknown parameter"),
            ("https://a?tls-certificate=/c", "need each other"),
            ("https://a?tls-certificate=c&tls-private-key=/k", "tls-certificate: expected an absolute path"),
            ("http://a?tls-certificate=/c&tls-private-key=/k", "for https only"),
            ("https://a?tls-certificate=/dev/null/c&tls-private-key=/k", "/dev/null/c"),
            ("https://u%3Ax:hunter2@a", "colon"),
            ("https://u:%FFhunter2@a", "UTF-8"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
