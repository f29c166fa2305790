//! Names, defaults and every refusal of the control plane's fields.

use std::collections::HashSet;
use std::num::NonZeroU64;

use ncps_nix::PublicKey;
use ncps_proto::UpstreamSettings;
use ncps_runtime::config::{CommandLine, ConfigErrors, Sources, command, conflicts};
use ncps_runtime::fields::RUNTIME;

use super::*;

mod uploads;
mod upstreams;

const TABLES: &[&[Field]] = &[CONTROL, LATER, LATER_GLOBAL];

const STATE: (&str, &str) = ("STATE_DIRECTORY", "/state");

fn read(args: &[&str], vars: &[(&str, &str)]) -> Result<ControlConfig, ConfigErrors> {
    read_with(args, vars, None)
}

/// The same with a file.
fn read_with(
    args: &[&str],
    vars: &[(&str, &str)],
    file: Option<&Path>,
) -> Result<ControlConfig, ConfigErrors> {
    let command = command("ncps-control", "test", TABLES);
    let line = CommandLine::parse(command, TABLES, [&["ncps-control"], args].concat()).expect("no help");
    let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let mut r = Resolver::new(Sources::gather(TABLES, &[], &line, &env, file));
    let config = ControlConfig::read(&mut r, &env);
    r.finish()?;
    Ok(config.expect("nothing is wrong"))
}

fn good(args: &[&str]) -> ControlConfig {
    read(args, &[STATE]).expect("usable")
}

fn problems(args: &[&str]) -> Vec<String> {
    read(args, &[STATE]).expect_err("unusable").problems().to_vec()
}

#[test]
fn the_table_has_no_conflicts() {
    assert_eq!(conflicts(&[CONTROL, LATER, LATER_GLOBAL, RUNTIME]), Vec::<String>::new());
}

#[test]
fn nothing_has_to_be_given() {
    let config = good(&[]);
    assert_eq!(config.data_path, Path::new("/state"));
    assert_eq!(config.database, Path::new("/state/db/db.sqlite"));
    assert_eq!(config.key, KeySource::Default("/state/secret.key".into()));
    assert_eq!(config.negative_ttl, Duration::from_secs(60));
    assert_eq!(config.temp_path, None);
    let ControlAddr::FirstOf(sockets) = &config.addr else { panic!("{:?}", config.addr) };
    assert_eq!(sockets.last(), Some(&"/state/control.sock".into()));
    let settings = config.settings;
    assert_eq!(settings.hostname, paths::hostname());
    assert_eq!(settings.upstreams, [UpstreamSettings::plain("https://cache.nixos.org", 40)]);
    assert_eq!(settings.trusted_keys, [PublicKey::parse(DEFAULT_KEY).expect("valid")]);
    let timeouts = [settings.connect_timeout, settings.header_timeout, settings.idle_timeout];
    assert_eq!(timeouts, [3, 3, 30].map(Duration::from_secs));
    assert_eq!(settings.transfer_timeout, Duration::from_secs(6 * 3600));
    assert_eq!(settings.hedge_delay, Duration::from_millis(400));
    assert_eq!((settings.max_downloads, settings.max_waiting_downloads, settings.priority), (32, 4096, 10));
    assert_eq!((settings.max_spool_bytes, settings.near_cache_bytes), (64 << 30, 64 << 20));
    assert!(settings.max_decoders > 0 && !settings.absent_on_upstream_failure);
}

#[test]
fn limits_have_the_originals_names() {
    let defaults = good(&[]);
    assert_eq!((defaults.settings.max_size, defaults.eviction_schedule), (None, None));
    assert_eq!(defaults.settings.min_free, MinFree { percent: 5, at_most: 10 << 30 });
    assert_eq!(defaults.settings.min_free.of(100 << 30), 5 << 30);
    assert_eq!(defaults.settings.min_free.of(1 << 40), 10 << 30);
    let given = good(&[
        "--cache-max-size=50G",
        "--cache-lru-schedule=0 3 * * *",
        "--cache-lru-schedule-timezone=Europe/Paris",
        "--cache-min-free=2%",
    ]);
    assert_eq!(given.settings.max_size, Some(50 << 30));
    assert_eq!(given.settings.min_free, MinFree { percent: 2, at_most: u64::MAX });
    let paris = "Europe/Paris".parse().expect("a zone");
    assert_eq!(given.eviction_schedule, Schedule::parse("0 3 * * *", paris).ok());
    assert_eq!(good(&["--cache-min-free=7M"]).settings.min_free.of(1 << 40), 7 << 20);
    assert!(good(&["--cache-lru-schedule=@every 1h"]).eviction_schedule.is_some(), "needs no max size");
}

#[test]
fn scrubs_are_weekly_and_bounded_unless_told_otherwise() {
    let weekly =
        Scrubs { schedule: Schedule::parse("0 4 * * 0", Zone::Local).ok(), rate: NonZeroU64::new(50 << 20) };
    assert_eq!(good(&[]).scrubs, weekly);
    let given = good(&["--scrub-schedule=off", "--scrub-rate=0"]);
    assert_eq!(given.scrubs, Scrubs::default());
}

#[test]
fn limits_that_mean_nothing_are_refused() {
    for (flag, expected) in [
        ("--cache-max-size=50", "unit"),
        ("--cache-min-free=5", "percentage"),
        ("--cache-min-free=100%", "percentage"),
        ("--cache-min-free=-1%", "percentage"),
        ("--cache-lru-schedule=daily", "five fields"),
        ("--cache-lru-schedule=0 0 3 * * *", "five fields"),
        ("--cache-lru-schedule=0 0 30 2 *", "no date that exists"),
        ("--max-downloads=257", "from 1 to 256"),
        ("--max-decoders=257", "from 1 to 256"),
        ("--cache-lru-schedule-timezone=Mars", "time zone"),
    ] {
        let problems = problems(&[flag]);
        assert!(matches!(&*problems, [one] if one.contains(expected)), "{flag}: {problems:?}");
    }
}

#[test]
fn the_originals_command_line_is_understood() {
    let config = good(&[
        "--cache-hostname=ncps.example",
        "--cache-data-path=/storage",
        "--cache-database-url=sqlite:/storage/var/ncps/db/db.sqlite",
        "--cache-temp-path=/tmp",
        "--cache-sign-narinfo=false",
        "--upstream-cache=https://b.example/",
        "--upstream-cache=http://a.example:5000/path?priority=3",
        "--upstream-public-key=cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=",
    ]);
    assert_eq!(
        (config.data_path, config.database),
        ("/storage".into(), "/storage/var/ncps/db/db.sqlite".into())
    );
    assert_eq!((config.key, config.temp_path), (KeySource::None, Some("/tmp".into())));
    let urls: Vec<_> = config.settings.upstreams.iter().map(|u| (u.url.as_str(), u.priority)).collect();
    assert_eq!(urls, [("http://a.example:5000/path", 3), ("https://b.example", 40)]);
    assert_eq!((config.settings.hostname.as_str(), config.settings.trusted_keys.len()), ("ncps.example", 1));
}

#[test]
fn later_names_are_understood() {
    let config = good(&[
        "--cache-storage-local=/storage",
        "--cache-upstream-url=https://a.example,https://b.example",
        "--cache-upstream-public-key=a:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=",
        "--upstream-dialer-timeout=5s",
        "--cache-secret-key-path=/key",
        "--control-addr=unix:/run/c.sock",
    ]);
    assert_eq!(config.data_path, Path::new("/storage"));
    assert_eq!(config.settings.upstreams.len(), 2);
    assert_eq!(config.settings.connect_timeout, Duration::from_secs(5));
    assert_eq!(config.key, KeySource::Given("/key".into()));
    assert_eq!(config.addr, ControlAddr::Unix("/run/c.sock".into()));
    let vars = [STATE, ("CACHE_UPSTREAM_URLS", "https://a.example"), ("CACHE_NEGATIVE_TTL", "1s")];
    let config = read(&[], &vars).expect("usable");
    assert_eq!((config.settings.upstreams.len(), config.negative_ttl), (1, Duration::from_secs(1)));
}

#[test]
fn the_default_key_is_for_the_default_upstream_only() {
    assert_eq!(good(&["--upstream-cache=https://a.example"]).settings.trusted_keys, []);
    assert_eq!(good(&["--upstream-cache=https://cache.nixos.org/"]).settings.trusted_keys.len(), 1);
}

#[test]
fn database_urls() {
    let database =
        |url| read(&[&format!("--cache-database-url={url}")], &[STATE]).map(|config| config.database);
    for url in ["sqlite:/a/b", "sqlite:///a/b"] {
        assert_eq!(database(url).expect("usable"), Path::new("/a/b"));
    }
    for url in ["sqlite:a/b", "sqlite://a/b", "sqlite:", "/a/b", "sqlite:/a/", "mysql://h/d", "sqlite:/a?x=y"]
    {
        let error = database(url).expect_err(url).to_string();
        assert!(error.contains("expected sqlite: and an absolute path"), "{error}");
    }
    assert!(database("postgres://h/d").expect_err("not yet").to_string().contains("not supported yet"));
}

#[test]
fn unusable_upstreams_are_refused() {
    for url in [
        "cache.nixos.org",
        "ftp://a.example",
        "https://",
        "https://a.example#x",
        "https://a.example?token=x",
        "https://a.example?priority=high",
        "https://a.example?priority=-1",
        "https://a.example?priority=1&priority=2",
        "https://user:password@a.example?priority=high",
    ] {
        let problems = problems(&[&format!("--upstream-cache={url}")]);
        assert!(
            matches!(&problems[..], [one] if one.starts_with("--upstream-cache ")),
            "{url}: {problems:?}"
        );
        assert!(!problems.concat().contains("password@"), "{problems:?}");
    }
    let twice =
        problems(&["--upstream-cache=https://a.example", "--upstream-cache=https://A.example/?priority=1"]);
    assert_eq!(twice.len(), 1);
    assert!(twice[0].contains("https://a.example is given twice"), "{twice:?}");
}

#[test]
fn beyond_this_machine_control_listens_with_tls_only() {
    let tls = ["--control-tls-cert=/c.pem", "--control-tls-key=/k.pem"];
    let addr = |addr: &str, flags: &[&str]| {
        let addr = format!("--control-addr={addr}");
        read(&[&[&*addr], flags].concat(), &[STATE])
    };
    let listens = |config: ControlConfig, encrypted: bool| {
        assert!(matches!(config.socket, Some(ControlAddr::FirstOf(places)) if !places.is_empty()));
        matches!(config.addr, ControlAddr::Tcp { addr, tls } if addr.port() == 8502 && tls.is_some() == encrypted)
    };
    let (here, beyond) = (
        ["127.0.0.1:8502", "[::1]:8502", "localhost:8502"],
        [":8502", "0.0.0.0:8502", "192.168.1.1:8502", "[::]:8502"],
    );
    for text in here {
        assert!(listens(addr(text, &[]).expect(text), false), "{text}");
    }
    for text in beyond {
        assert!(addr(text, &[]).expect_err(text).to_string().contains("without TLS"), "{text}");
        let insists = addr(text, &["--control-insecure"]).expect(text);
        assert!(insists.warnings.concat().contains("--control-insecure"));
        assert!(listens(insists, false), "{text}");
    }
    for text in here.into_iter().chain(beyond) {
        assert!(listens(addr(text, &tls).expect(text), true), "{text}");
        assert!(addr(text, &tls[..1]).is_err(), "{text}: half of it");
    }
    let addr = |text| addr(text, &[]);
    assert_eq!(addr("unix:/c.sock").expect("usable").socket, None);
    assert_eq!(problems(&tls).len(), 1, "a socket needs no TLS");
    for text in ["unix:control.sock", "control.example:8502", "8502"] {
        assert!(addr(text).is_err(), "{text}");
    }
}

#[test]
fn all_problems_are_said_at_once() {
    let problems = problems(&[
        "--cache-hostname=https://ncps.example/",
        "--cache-data-path=relative",
        "--cache-database-url=db.sqlite",
        "--cache-secret-key-path=key",
        "--upstream-cache=nonsense",
        "--upstream-public-key=nonsense",
        "--cache-upstream-dialer-timeout=0s",
        "--upstream-idle-timeout=30",
        "--cache-negative-ttl=long",
        "--cache-priority=-1",
        "--max-downloads=0",
        "--max-decoders=none",
        "--max-spool-size=10",
        "--control-addr=:1",
        "--cache-sign-narinfo=perhaps",
    ]);
    let flags = |p: &String| p.split(' ').next().map(str::to_owned);
    let named: HashSet<String> = problems.iter().filter_map(flags).collect();
    assert_eq!(named.len(), 15, "{problems:#?}");
}

#[test]
fn hostnames_are_key_names() {
    for bad in ["", "a/b", "https://a", "a:8501", "a b"] {
        assert_eq!(problems(&["--cache-hostname", bad]).len(), 1, "{bad}");
    }
}

#[test]
fn without_any_home_the_data_path_has_to_be_given() {
    if paths::is_root() {
        return; // root always has one
    }
    let error = read(&[], &[]).expect_err("no data path").to_string();
    assert!(error.contains("--cache-data-path"), "{error}");
}
