//! `/` for browsers: what this cache is, and what to paste into a client's configuration. Everybody else, curl and Nix
//! too, gets the JSON of the Go original.
//!
//! One answer without scripts, with nothing to be loaded after it. What clients are told is made in
//! [`ncps_nix::client_config`]. Absent: who may read it (as the rest, see [`super::credentials`]).

use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use http::{HeaderMap, Uri, header};
use ncps_nix::Sha256Hash;
use ncps_nix::client_config::{CacheUrl, ClientConfig, Snippets, TOKEN_PLACEHOLDER};
use ncps_proto::{EdgeSettings, Scope};

const PAGE: &str = include_str!("landing.html");
const STYLE: &str = include_str!("landing.css");
const NETRC: &str = include_str!("landing_netrc.html");

/// What a browser prefers: a page has to be named, and liked better than JSON.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let quality = |wanted: &str| {
        let fields = headers.get_all(header::ACCEPT).iter().filter_map(|field| field.to_str().ok());
        let ranges = fields.flat_map(|field| field.split(','));
        ranges.filter_map(|range| quality_of(range, wanted)).max_by(f32::total_cmp)
    };
    let page = quality("text/html").unwrap_or(0.0);
    page > 0.0 && page > quality("application/json").unwrap_or(0.0)
}

fn quality_of(range: &str, wanted: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    parts.next().filter(|named| named.eq_ignore_ascii_case(wanted))?;
    let said = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some(said.map_or(1.0, |said| said.parse().unwrap_or(0.0)))
}

/// How the client reached us, so that others can, too. `None` where it says no host that could stand in a
/// configuration.
pub(super) fn url(uri: &Uri, headers: &HeaderMap, tls: bool) -> Option<CacheUrl> {
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = uri.authority().map(http::uri::Authority::as_str).or(named)?;
    // A proxy before us may do TLS.
    let forwarded = headers
        .get("x-forwarded-proto")
        .and_then(|schemes| schemes.to_str().ok())
        .is_some_and(first_is_https);
    let scheme = if tls || forwarded { "https" } else { "http" };
    CacheUrl::parse(&format!("{scheme}://{host}")).ok()
}

/// Of several proxies the first one is the client's.
fn first_is_https(schemes: &str) -> bool {
    schemes.split(',').next().is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
}

pub(super) fn page(settings: &EdgeSettings, edge: &str, url: CacheUrl) -> Response {
    let closed =
        settings.tokens.iter().any(|token| token.scopes.contains(&Scope::Read) && token.counts_at(edge));
    let config = ClientConfig {
        url,
        ours: &settings.public_keys,
        upstream: &settings.trusted_keys,
        priority: None,
        token: closed.then_some(TOKEN_PLACEHOLDER),
    };
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        BASE64.encode(Sha256Hash::of(STYLE.as_bytes()).as_bytes())
    );
    let fields = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // It says how this client reached us.
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Accept"),
    ];
    (fields, render(&settings.hostname, &config)).into_response()
}

const BESIDE: &str = "<p>The first one signs now. The keys of upstreams above are needed beside it: what was not signed here \
    yet comes with theirs alone.</p>";

fn render(hostname: &str, config: &ClientConfig<'_>) -> String {
    let Snippets { nix_conf, nixos, flake, netrc } = config.snippets();
    let keys = config.ours.iter().map(|key| format!("<li><code>{}</code></li>", escaped(&key.to_string())));
    let keys: String = keys.collect();
    let keys = match keys.is_empty() {
        true => "<p>It signs nothing itself: the keys of its upstreams count.</p>".to_owned(),
        false => format!("<ul class=\"keys\">{keys}</ul>\n{BESIDE}"),
    };
    let netrc = netrc.map(|netrc| NETRC.replace("{{netrc}}", &escaped(&netrc))).unwrap_or_default();
    let mut page = PAGE.replace("{{style}}", STYLE);
    // Keys and netrc are ours and escaped; the rest is text.
    let url = config.url.to_string();
    let texts = [("url", &*url), ("nix_conf", &nix_conf), ("nixos", &nixos), ("flake", &flake)];
    for (name, text) in texts {
        page = page.replace(&format!("{{{{{name}}}}}"), &escaped(text));
    }
    page = page.replace("{{keys}}", &keys).replace("{{netrc}}", &netrc);
    // Last: it may look like one of the names.
    page.replace("{{hostname}}", &escaped(hostname))
}

/// Text that means itself in HTML, in attributes, too, and that is no name of ours.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '{' => escaped.push_str("&#123;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use ncps_nix::SecretKey;

    use super::*;

    fn accepts(accept: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for field in accept {
            headers.append(header::ACCEPT, HeaderValue::from_str(field).expect("a value"));
        }
        is_wanted(&headers)
    }

    #[test]
    fn browsers_get_a_page_and_others_json() {
        for browser in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html, application/json;q=0.9",
            "application/json; q=0.1, Text/HTML; q=0.2",
            "text/html;level=1",
        ] {
            assert!(accepts(&[browser]), "{browser}");
        }
        assert!(accepts(&["application/xml", "text/html"]));
        for other in [
            "*/*",
            "",
            "text/*",
            "application/json",
            "text/html, application/json",
            "text/html;q=0",
            "text/html;q=x",
        ] {
            assert!(!accepts(&[other]), "{other}");
        }
        assert!(!accepts(&[]));
    }

    #[test]
    fn the_url_is_the_one_that_the_client_used() {
        let said = |uri: &str, fields: &[(&'static str, &str)], tls| {
            let fields = fields.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
            });
            let headers = fields.collect();
            url(&uri.parse().expect("a URI"), &headers, tls).map(|url| url.to_string())
        };
        let plain = |url: &str| Some(url.to_owned());
        assert_eq!(said("/", &[("host", "cache.lan:8501")], false), plain("http://cache.lan:8501"));
        assert_eq!(said("/", &[("host", "[::1]:8501")], true), plain("https://[::1]:8501"));
        assert_eq!(said("http://h2.lan/", &[("host", "other")], false), plain("http://h2.lan"));
        let proxied = [("host", "cache.lan"), ("x-forwarded-proto", "https")];
        assert_eq!(said("/", &proxied, false), plain("https://cache.lan"));
        let twice = [("host", "cache.lan"), ("x-forwarded-proto", "HTTPS, http")];
        assert_eq!(said("/", &twice, false), plain("https://cache.lan"));
        for bad in ["\"><script>", "a b", "", "me@cache.lan", "cache.lan/${x}"] {
            assert_eq!(said("/", &[("host", bad)], false), None, "{bad}");
        }
        assert_eq!(said("/", &[], false), None);
    }

    #[test]
    fn names_stay_text() {
        let key = SecretKey::generate("<b>&\"'{{url}}").expect("a key").public();
        let ours = [key];
        let url = CacheUrl::parse("http://cache.lan").expect("a URL");
        let config = ClientConfig { url, ours: &ours, upstream: &[], priority: None, token: Some("T") };
        let page = render("</title><script>{{keys}}", &config);
        assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("{{"), "{page}");
        assert!(page.contains("&lt;/title&gt;&lt;script&gt;&#123;&#123;keys}}"), "{page}");
        assert!(page.contains("machine cache.lan login nix password T"), "{page}");
        let open = ClientConfig { token: None, ours: &[], ..config };
        let page = render("cache", &open);
        assert!(
            !page.contains("netrc") && page.contains("signs nothing itself") && !page.contains("signs now"),
            "{page}"
        );
    }
}
