//! Command lines, variables and files of the programs: what is refused, what is understood, and what counts. How a
//! program starts with as little of them as possible is in `first_start.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::processes::UNDER_TEST;

const KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
const KEY_2: &str = "other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// How a command ended that ends by itself.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs it with these variables alone, and with data where there can be none.
fn run(args: &[&str], env: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(UNDER_TEST);
    command.args(args).env_clear().env("STATE_DIRECTORY", "/dev/null/state").envs(env.iter().copied());
    let output = command.output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// It is refused, on standard error alone, with each of these texts.
fn is_refused(ended: &Ended, problems: &[&str]) {
    let Ended { code, out, err } = ended;
    assert_eq!((*code, out.as_str()), (Some(2), ""), "{err}");
    for problem in problems {
        assert!(err.contains(problem), "{problem:?} is not in:\n{err}");
    }
}

/// A configuration file of this name and text.
fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(name);
    std::fs::write(&path, text).expect("room");
    (dir, path)
}

fn config_flag(path: &Path) -> String {
    format!("--config={}", path.display())
}

/// What `ncps config show` says of a field: its text, and where that came from.
fn shown(field: &str, args: &[&str], env: &[(&str, &str)]) -> (String, String) {
    let ended = run(&[&["ncps", "config", "show"], args].concat(), env);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let line = ended.out.lines().find_map(|line| line.strip_prefix(&format!("{field} = ")));
    let line = line.unwrap_or_else(|| panic!("no {field} in:\n{}", ended.out));
    let (text, source) = line.rsplit_once("  (").expect("a text and its source");
    (text.to_owned(), source.trim_end_matches(')').to_owned())
}

#[test]
fn every_problem_is_said_at_once_with_all_its_names() {
    let yaml =
        "cache:\n  negative-ttl: soon\n  sign-narinfo: perhaps\n  hostnam: typo\nlog:\n  format: poem\n";
    let (_dir, path) = file("config.yaml", yaml);
    let config = config_flag(&path);
    let env = [("UPSTREAM_CACHES", "ftp://a.example"), ("MAX_DOWNLOADS", "0"), ("CACHE_PRIORITY", "-1")];
    let flags = [
        "--cache-hostnam=x",
        "--cache-hostname=a/b",
        "--upstream-public-key=nonsense",
        "--xyzzy",
        "--cache-data-path=relative",
        "--cache-storage-s3-bucket=b",
        "--cache-redis-addrs=r:6379",
        "--cache-database-url=postgres://me:s3cret@db/ncps",
        "--cache-max-size",
    ];
    let of_control = [
        "16 problems in the configuration:",
        "unknown flag --cache-hostnam: did you mean --cache-hostname (CACHE_HOSTNAME, cache.hostname)?",
        "unknown flag --xyzzy, see --help",
        "--cache-max-size (CACHE_MAX_SIZE, cache.max-size): needs a value",
        "--cache-storage-s3-bucket (CACHE_STORAGE_S3_BUCKET, cache.storage.s3.bucket): \"b\" from flag",
        "--cache-redis-addrs (CACHE_REDIS_ADDRS, cache.redis.addrs): \"r:6379\" from flag",
        "--cache-database-url (CACHE_DATABASE_URL, cache.database-url): \"postgres://***@db/ncps\" from flag",
        "--cache-hostname (CACHE_HOSTNAME, cache.hostname): \"a/b\" from flag --cache-hostname: expected",
        "--upstream-public-key (UPSTREAM_PUBLIC_KEYS, cache.upstream.public-keys): \"nonsense\" from flag",
        "--cache-data-path (CACHE_DATA_PATH, cache.data-path): \"relative\" from flag",
        "--upstream-cache (UPSTREAM_CACHES, cache.upstream.caches): \"ftp://a.example\" from variable UPSTREAM_CACHES",
        "--max-downloads (MAX_DOWNLOADS, max-downloads): \"0\" from variable MAX_DOWNLOADS: expected",
        "--cache-priority (CACHE_PRIORITY, cache.priority): \"-1\" from variable CACHE_PRIORITY: expected",
        "--cache-negative-ttl (CACHE_NEGATIVE_TTL, cache.negative-ttl): \"soon\" from file ",
        "config.yaml key cache.sign-narinfo: expected true or false",
        "--log-format (LOG_FORMAT, log.format): \"poem\" from file ",
        "config.yaml: unknown key cache.hostnam: did you mean --cache-hostname (CACHE_HOSTNAME, cache.hostname)?",
    ];
    for program in [&["ncps-control"][..], &["ncps", "serve"], &["ncps", "config", "check"]] {
        let ended = run(&[program, &[&config], &flags].concat(), &env);
        is_refused(&ended, &of_control);
        assert!(!ended.err.contains("s3cret"), "{}", ended.err);
    }
}

#[test]
fn every_problem_of_an_edge_is_said_at_once() {
    let (_dir, path) = file("config.toml", "[edge]\nurl = \"nonsense\"\ncolour = \"blue\"\n");
    let args = [
        "ncps-edge",
        &config_flag(&path),
        "--control-url=http://192.0.2.1:8502",
        "--shutdown-grace=5",
        "--edge-nam=x",
    ];
    let problems = [
        "6 problems in the configuration:",
        "unknown flag --edge-nam: did you mean --edge-name (EDGE_NAME, edge.name)?",
        "--control-url (CONTROL_URL, control.url): \"http://192.0.2.1:8502\" from flag --control-url: plain HTTP",
        "--shutdown-grace (SHUTDOWN_GRACE, shutdown.grace): \"5\" from flag --shutdown-grace: expected",
        "--server-addr (SERVER_ADDR, server.addr): \"8501\" from variable SERVER_ADDR: expected",
        "--edge-url (EDGE_URL, edge.url): \"nonsense\" from file ",
        "config.toml: unknown key edge.colour",
    ];
    is_refused(&run(&args, &[("SERVER_ADDR", "8501")]), &problems);
}

#[test]
fn unknown_keys_are_refused_in_every_format() {
    for (name, text) in [
        ("a.yaml", "cache:\n  hostname: a\n  hostnames: b\n  upstream: {url: c}\n"),
        ("a.yml", "cache: {hostname: a, hostnames: b, upstream: {url: c}}\n"),
        ("a.toml", "[cache]\nhostname = 'a'\nhostnames = 'b'\nupstream.url = 'c'\n"),
        ("a.json", r#"{"cache": {"hostname": "a", "hostnames": "b", "upstream": {"url": "c"}}}"#),
        ("a.conf", "[cache]\nhostname = 'a'\nhostnames = 'b'\nupstream.url = 'c'\n"),
    ] {
        let (_dir, path) = file(name, text);
        let line = |key| format!("{}: unknown key {key}", path.display());
        let lines = [line("cache.hostnames"), line("cache.upstream.url")];
        let problems = ["2 problems", &lines[0], &lines[1]];
        let named = run(&["ncps", "serve", &config_flag(&path)], &[]);
        is_refused(&named, &problems);
        let variable = run(&["ncps", "serve"], &[("NCPS_CONFIG_FILE", &path.to_string_lossy())]);
        is_refused(&variable, &problems);
    }
}

#[test]
fn files_that_are_none_are_refused_without_their_text() {
    let cases =
        [("a.yaml", "cache: [s3cret"), ("a.toml", "cache = s3cret"), ("a.json", "{\"cache\": s3cret}")];
    for (name, text) in cases {
        let (_dir, path) = file(name, text);
        let ended = run(&["ncps", "serve", &config_flag(&path)], &[]);
        is_refused(&ended, &["1 problem in the configuration:", &path.to_string_lossy()]);
        assert!(!ended.err.contains("s3cret"), "{}", ended.err);
    }
    let absent = run(&["ncps", "serve", "--config=/dev/null/absent.yaml"], &[]);
    is_refused(&absent, &["/dev/null/absent.yaml"]);
}

#[test]
fn a_file_in_the_configuration_home_is_found() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("ncps/config.yaml");
    std::fs::create_dir(path.parent().expect("inside")).expect("room");
    std::fs::write(&path, "cache: {hostname: from.file}").expect("room");
    let env = [("XDG_CONFIG_HOME", &*home.path().to_string_lossy())];
    let source = format!("file {} key cache.hostname", path.display());
    assert_eq!(shown("cache-hostname", &[], &env), ("from.file".to_owned(), source));
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let text = "cache:\n  priority: 30\n  sign-narinfo: false\n  upstream:\n    caches: [http://f.example]\n";
    let (_dir, path) = file("config.yaml", text);
    let config = config_flag(&path);
    for (field, variable, key, [default, of_file, of_variable, of_flag]) in [
        ("cache-priority", "CACHE_PRIORITY", "cache.priority", ["10", "30", "20", "15"]),
        ("cache-sign-narinfo", "CACHE_SIGN_NARINFO", "cache.sign-narinfo", ["true", "false", "1", "0"]),
        (
            "upstream-cache",
            "UPSTREAM_CACHES",
            "cache.upstream.caches",
            [
                "https://cache.nixos.org",
                "http://f.example",
                "http://v.example,http://w.example",
                "http://a.example",
            ],
        ),
    ] {
        let flag = format!("--{field}={of_flag}");
        let env = [(variable, of_variable)];
        let from = |text: &str, source: &str| (text.to_owned(), source.to_owned());
        let of_file_key = format!("file {} key {key}", path.display());
        assert_eq!(shown(field, &[], &[]), from(default, "default"));
        assert_eq!(shown(field, &[&config], &[]), from(of_file, &of_file_key));
        assert_eq!(shown(field, &[&config], &env), from(of_variable, &format!("variable {variable}")));
        assert_eq!(shown(field, &[&flag, &config], &env), from(of_flag, &format!("flag --{field}")));
        assert_eq!(shown(field, &[&flag], &env), from(of_flag, &format!("flag --{field}")));
        assert_eq!(shown(field, &[], &[(variable, "")]), from(default, "default"), "an empty one is none");
    }
}

#[test]
fn both_planes_take_the_others_part_of_a_file() {
    let text = "cache: {priority: 7}\nedge: {name: e}\ncontrol: {url: 'unix:/x'}\nanalytics: {reporting: {enabled: true}}\nsrever: {addr: x}\n";
    let (_dir, path) = file("shared.yaml", text);
    for program in [&["ncps-control"][..], &["ncps-edge"], &["ncps", "serve"], &["ncps", "migrate", "up"]] {
        let ended = run(&[program, &[&config_flag(&path)]].concat(), &[]);
        is_refused(&ended, &["1 problem in the configuration:", "shared.yaml: unknown key srever.addr"]);
    }
}

#[test]
fn lists_are_repeated_or_separated_by_commas() {
    let both = format!("{KEY},{KEY_2}");
    let repeated = [format!("--upstream-public-key={KEY}"), format!("--upstream-public-key={KEY_2}")];
    let repeated = [repeated[0].as_str(), &repeated[1]];
    assert_eq!(shown("upstream-public-key", &repeated, &[]).0, both);
    assert_eq!(shown("upstream-public-key", &[], &[("UPSTREAM_PUBLIC_KEYS", &both)]).0, both);
}

#[test]
fn one_field_by_two_names_is_refused() {
    let args = ["ncps", "serve", "--cache-data-path=/a", "--cache-storage-local=/b"];
    let problem = "given twice, by flag --cache-data-path and by flag --cache-storage-local";
    is_refused(&run(&args, &[]), &[problem]);
}

#[test]
fn mistyped_command_lines_are_refused_and_help_is_an_answer() {
    for args in [&["ncps"][..], &["ncps", "sreve"], &["ncps", "migrate"]] {
        is_refused(&run(args, &[]), &["Usage: ncps"]);
    }
    is_refused(&run(&["ncps", "--bogus=1", "sreve"], &[]), &["unknown flag --bogus", "sreve", "Usage: ncps"]);
    is_refused(&run(&["ncps-edge", "x"], &[]), &["unexpected argument x"]);
    is_refused(&run(&["ncps", "--cache-hostname=x", "serve"], &[]), &["has to stand after its name"]);
    is_refused(&run(&["ncps", "serve", "--control-url=unix:/x"], &[]), &["is no option of this command"]);
    for program in ["ncps", "ncps-cli", "ncps-edge", "ncps-control", "dbmate"] {
        let version = format!("{program} {}\n", ncps_runtime::version::VERSION);
        assert_eq!(run(&[program, "--version"], &[]).out, version);
    }
    for args in [&["ncps", "serve", "--help"][..], &["ncps-edge", "--help"]] {
        let help = run(args, &[]);
        assert!(help.code == Some(0) && help.err.is_empty());
        let words = help.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("[env: SERVER_ADDR] [default: :8501]"), "{words}");
    }
}

#[test]
fn a_password_in_a_url_is_never_printed() {
    let url = "--upstream-cache=https://me:s3cret@a.example";
    let (text, source) = shown("upstream-cache", &[url], &[]);
    assert_eq!((text.as_str(), source.as_str()), ("https://***@a.example", "flag --upstream-cache"));
    let with_parameter = format!("{url}?colour=blue");
    for args in [&["ncps", "serve", url][..], &["ncps", "serve", &with_parameter]] {
        let ended = run(args, &[]);
        assert!(ended.code == Some(2) && !ended.err.contains("s3cret"), "{}", ended.err);
    }
}

#[test]
fn certificates_for_upstreams_are_tried_at_the_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pair = || rcgen::generate_simple_self_signed(["me".to_owned()]).expect("generated");
    let (ours, other) = (pair(), pair());
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("room");
        path.display().to_string()
    };
    let cert = write("cert.pem", ours.cert.pem());
    let (key, wrong) = (
        write("key.pem", ours.signing_key.serialize_pem()),
        write("wrong.pem", other.signing_key.serialize_pem()),
    );
    let check = |url: &str, roots: &str| {
        let (url, roots) = (format!("--upstream-cache={url}"), format!("--upstream-ca-file={roots}"));
        run(&["ncps", "config", "check", &url, &roots], &[])
    };
    let url = |key: &str| format!("https://a.example?tls-certificate={cert}&tls-private-key={key}");
    let good = check(&url(&key), &cert);
    assert_eq!(good.code, Some(0), "{}", good.err);
    let bad = check(&url(&wrong), &key);
    let unusable =
        ["--upstream-cache ", "can't be used together", "--upstream-ca-file ", "holds no certificate in PEM"];
    is_refused(&bad, &unusable);
    assert!(!bad.err.contains("PRIVATE KEY"), "{}", bad.err);
}

#[test]
fn who_reads_the_configuration_may_have_seen_enough() {
    for asked in ["show", "check"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(UNDER_TEST);
        command.args(["ncps", "config", asked]).env_clear().stdout(writer);
        let output = command.output().expect("it starts");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*err), (Some(0), ""), "{asked}");
    }
}
