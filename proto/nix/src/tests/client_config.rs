//! What clients are told: whole texts, what the `nix` of this machine reads in them, if there is one, and URLs that would
//! mean something else somewhere.

use std::io::ErrorKind;
use std::process::Command;

use crate::client_config::{CacheUrl, CacheUrlError, ClientConfig, TOKEN_PLACEHOLDER};
use crate::{PublicKey, SecretKey};

const NIXOS: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

fn key(text: &str) -> PublicKey {
    PublicKey::parse(text).expect("a key")
}

fn named(name: &str) -> PublicKey {
    SecretKey::generate(name).expect("a key").public()
}

fn config<'a>(ours: &'a [PublicKey], upstream: &'a [PublicKey]) -> ClientConfig<'a> {
    let url = CacheUrl::parse("http://cache.lan:8501").expect("a URL");
    ClientConfig { url, ours, upstream, priority: None, token: None }
}

#[test]
fn ours_come_first_and_each_once() {
    let (signing, nixos) = (named("cache.lan"), key(NIXOS));
    let (ours, upstream) = ([signing.clone()], [nixos.clone(), signing.clone(), nixos]);
    let said = config(&ours, &upstream).snippets();
    assert_eq!(
        said.nix_conf,
        format!(
            "extra-substituters = http://cache.lan:8501\n\
             extra-trusted-public-keys = {signing} {NIXOS}\n"
        )
    );
    assert_eq!(
        said.nixos,
        format!(
            "nix.settings = {{\n  substituters = [\n    \"http://cache.lan:8501\"\n  ];\n  \
             trusted-public-keys = [\n    \"{signing}\"\n    \"{NIXOS}\"\n  ];\n}};\n"
        )
    );
    let flake = said.nixos.replace("nix.settings", "nixConfig");
    let flake = flake.replace("substituters", "extra-substituters").replace("trusted", "extra-trusted");
    assert_eq!((said.flake, said.netrc), (flake, None));
}

#[test]
fn a_cache_that_signs_nothing_and_trusts_nobody_names_no_keys() {
    let said = config(&[], &[]).snippets();
    assert_eq!(said.nix_conf, "extra-substituters = http://cache.lan:8501\n");
    assert!(!said.nixos.contains("keys") && !said.flake.contains("keys"));
}

#[test]
fn a_priority_goes_with_the_url_and_a_token_with_the_host() {
    let url = CacheUrl::parse("https://[fe80::1]:8501/nix/").expect("a URL");
    let token = Some(TOKEN_PLACEHOLDER);
    let config = ClientConfig { url, ours: &[], upstream: &[], priority: Some(30), token };
    let said = config.snippets();
    assert_eq!(said.nix_conf, "extra-substituters = https://[fe80::1]:8501/nix?priority=30\n");
    assert_eq!(said.netrc.as_deref(), Some("machine fe80::1 login nix password TOKEN\n"));
}

#[test]
fn names_of_keys_stay_strings_of_nix() {
    let ours = [named("a\"b\\${c}")];
    let said = config(&ours, &[]).snippets();
    assert!(said.nixos.contains("    \"a\\\"b\\\\\\${c}:"), "{}", said.nixos);
}

#[test]
fn urls_that_are_none() {
    use CacheUrlError::{Host, Path, Port, Scheme, TooLong};
    for (text, expected) in [
        ("", Scheme),
        ("cache.lan", Scheme),
        ("ftp://cache.lan", Scheme),
        ("http://", Host),
        ("http://:8501", Host),
        ("http:///x", Host),
        ("http://user:secret@cache.lan", Host),
        ("http://user@cache.lan", Host),
        ("http://a b", Host),
        ("http://\"><script>", Host),
        ("http://a'b", Host),
        ("http://${x}", Host),
        ("http://[::1", Host),
        ("http://[]", Host),
        ("http://[::1]x", Port),
        ("http://cache.lan:", Port),
        ("http://cache.lan:+80", Port),
        ("http://cache.lan:65536", Port),
        ("http://cache.lan/a?b", Path),
        ("http://cache.lan/#", Path),
        ("http://cache.lan/\n", Path),
        ("http://cache.lan/<b>", Path),
    ] {
        assert_eq!(CacheUrl::parse(text), Err(expected), "{text}");
    }
    assert_eq!(CacheUrl::parse(&format!("http://{}", "a".repeat(1024))), Err(TooLong));
}

#[test]
fn urls_that_are_some() {
    for (text, said, host) in [
        ("http://cache.lan", "http://cache.lan", "cache.lan"),
        ("https://cache.lan:443/", "https://cache.lan:443", "cache.lan"),
        ("http://10.0.0.1:8501/a/b//", "http://10.0.0.1:8501/a/b", "10.0.0.1"),
        ("http://[::1]:8501", "http://[::1]:8501", "::1"),
        ("http://my_host", "http://my_host", "my_host"),
    ] {
        let url = CacheUrl::parse(text).expect(text);
        assert_eq!((url.to_string().as_str(), url.host()), (said, host), "{text}");
    }
}

/// What a program of Nix prints; `None` without one.
fn printed(command: &mut Command) -> Option<String> {
    match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("no Nix on PATH: not compared");
            None
        }
        output => {
            let output = output.expect("it runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).expect("text"))
        }
    }
}

#[test]
fn nix_reads_what_is_meant() {
    let (ours, upstream) = ([named("a\"b\\${c}")], [key(NIXOS)]);
    let config = config(&ours, &upstream);
    let said = config.snippets();
    let written: Vec<String> = config.keys().iter().map(|key| format!("{key:?}")).collect();
    let lists = [format!("[\"{}\"]", config.substituter()), format!("[{}]", written.join(","))];
    for (snippet, prefix) in [(&said.nixos, ""), (&said.flake, "extra-")] {
        let mut nix = Command::new("nix-instantiate");
        nix.args(["--store", "dummy://", "--eval", "--strict", "--json", "-E", &format!("{{ {snippet} }}")]);
        let Some(value) = printed(&mut nix) else { return };
        for (name, list) in ["substituters", "trusted-public-keys"].iter().zip(&lists) {
            let expected = format!("\"{prefix}{name}\":{list}");
            assert!(value.contains(&expected), "{expected}: {value}");
        }
    }
    let mut nix = Command::new("nix");
    nix.env("NIX_CONFIG", &said.nix_conf).env("NIX_REMOTE", "dummy://").env("NIX_USER_CONF_FILES", "");
    let Some(settings) = printed(nix.args(["--extra-experimental-features", "nix-command", "show-config"]))
    else {
        return;
    };
    let line = |name: &str| {
        let line = settings.lines().find(|line| line.starts_with(&format!("{name} = ")));
        line.unwrap_or_else(|| panic!("no {name}: {settings}")).to_owned()
    };
    assert!(line("substituters").split(' ').any(|word| word == config.substituter()));
    let trusted = line("trusted-public-keys");
    assert!(config.keys().iter().all(|key| trusted.split(' ').any(|word| word == key)), "{trusted}");
}
