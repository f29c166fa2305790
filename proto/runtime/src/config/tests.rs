//! Precedence, names, files and problems, over a table like those of the planes.

use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

const HOST: Field = Field::value("cache-hostname", "CACHE_HOSTNAME", "cache.hostname", "Name of the cache.");
const STORE: Field =
    Field::value("cache-storage-local", "CACHE_STORAGE_LOCAL", "cache.storage.local", "Data path.")
        .aliases(&[Alias::new("cache-data-path", "CACHE_DATA_PATH", "cache.data-path")])
        .value_name("PATH");
const SIZE: Field = Field::value("cache-max-size", "CACHE_MAX_SIZE", "cache.max-size", "Size limit.");
const URLS: Field =
    Field::list("cache-upstream-url", "CACHE_UPSTREAM_URLS", "cache.upstream.urls", "Upstreams.")
        .default("https://cache.nixos.org")
        .aliases(&[Alias::new("upstream-cache", "UPSTREAM_CACHES", "cache.upstream.caches")]);
const SIGN: Field =
    Field::switch("cache-sign-narinfo", "CACHE_SIGN_NARINFO", "cache.sign-narinfo", "Sign | or not.")
        .default("true");
const PUT: Field =
    Field::switch("cache-allow-put-verb", "CACHE_ALLOW_PUT_VERB", "cache.allow-put-verb", "Uploads.");
const PORT: Field = Field::value("port", "PORT", "port", "A number.").default("80");
const TOKEN: Field = Field::value("cache-get-token", "CACHE_GET_TOKEN", "cache.get-token", "Token.").secret();
const XZ: Field = Field::value("xz", "", "xz", "Accepted.").hidden();

const TABLE: &[Field] = &[HOST, STORE, SIZE, URLS, SIGN, PUT, PORT, TOKEN, XZ];
const OTHER_PLANE: &[&str] = &["edge.name"];

struct Given {
    args: Vec<&'static str>,
    env: Vec<(&'static str, &'static str)>,
    file: Option<(&'static str, &'static str)>,
}

fn args(args: &[&'static str]) -> Given {
    Given { args: args.to_vec(), env: Vec::new(), file: None }
}

impl Given {
    fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    fn file(mut self, name: &'static str, text: &'static str) -> Self {
        self.file = Some((name, text));
        self
    }

    /// The path of a file is in a directory of its own, which problems name as `DIR`.
    fn with<T>(self, read: impl FnOnce(&mut Resolver) -> T) -> (T, Vec<String>) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = self.file.map(|(name, text)| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        });
        let line = line(&self.args);
        let env = |name: &str| self.env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let mut r = Resolver::new(Sources::gather(&[TABLE], OTHER_PLANE, &line, &env, path.as_deref()));
        let value = read(&mut r);
        let problems = r.finish().map_or_else(|errors| errors.problems().to_vec(), |()| Vec::new());
        let dir = dir.path().to_str().expect("temporary paths are text");
        (value, problems.iter().map(|problem| problem.replace(dir, "DIR")).collect())
    }

    fn text(self, field: &Field) -> Option<String> {
        let (text, problems) = self.with(|r| r.text(field));
        assert_eq!(problems, Vec::<String>::new());
        text
    }

    fn list(self, field: &Field) -> Vec<String> {
        let (texts, problems) = self.with(|r| r.list(field, |text| Ok::<_, String>(text.to_owned())));
        assert_eq!(problems, Vec::<String>::new());
        texts
    }

    fn flag(self, field: &Field) -> bool {
        let (on, problems) = self.with(|r| r.flag(field));
        assert_eq!(problems, Vec::<String>::new());
        on
    }

    fn problems(self) -> Vec<String> {
        self.with(|_| ()).1
    }
}

fn line(args: &[&str]) -> CommandLine {
    let command = command("ncps", "test", &[TABLE]);
    CommandLine::parse(command, &[TABLE], [&["ncps"], args].concat()).expect("no other answer")
}

fn number(text: &str) -> Result<u16, ParseIntError> {
    text.parse()
}

#[test]
fn precedence_is_flag_variable_file_default() {
    for (flag, variable, file, expected) in [
        (true, true, true, "1"),
        (true, false, true, "1"),
        (true, true, false, "1"),
        (true, false, false, "1"),
        (false, true, true, "2"),
        (false, true, false, "2"),
        (false, false, true, "3"),
        (false, false, false, "80"),
    ] {
        let mut given = args(if flag { &["--port=1"] } else { &[] });
        given = if variable { given.env("PORT", "2") } else { given };
        given = if file { given.file("f.yaml", "port: 3") } else { given };
        assert_eq!(given.text(&PORT).as_deref(), Some(expected), "{flag} {variable} {file}");
    }
}

#[test]
fn precedence_holds_across_names() {
    let file = "cache: { storage: { local: /file } }";
    assert_eq!(
        args(&["--cache-data-path=/flag"])
            .env("CACHE_STORAGE_LOCAL", "/env")
            .file("f.yml", file)
            .text(&STORE),
        Some("/flag".to_owned())
    );
    assert_eq!(
        args(&[]).env("CACHE_DATA_PATH", "/env").file("f.yml", file).text(&STORE),
        Some("/env".to_owned())
    );
}

#[test]
fn every_name_of_a_field_counts() {
    for given in [
        args(&["--cache-storage-local", "/x"]),
        args(&["--cache-data-path", "/x"]),
        args(&[]).env("CACHE_STORAGE_LOCAL", "/x"),
        args(&[]).env("CACHE_DATA_PATH", "/x"),
        args(&[]).file("f.toml", "[cache.storage]\nlocal = '/x'"),
        args(&[]).file("f.toml", "[cache]\ndata-path = '/x'"),
    ] {
        assert_eq!(given.text(&STORE), Some("/x".to_owned()));
    }
}

#[test]
fn the_last_of_repeated_flags_counts() {
    assert_eq!(args(&["--port=1", "--port=2"]).text(&PORT).as_deref(), Some("2"));
    assert!(!args(&["--cache-allow-put-verb", "--cache-allow-put-verb=false"]).flag(&PUT));
}

#[test]
fn an_empty_variable_is_not_set_and_an_empty_flag_is() {
    assert_eq!(args(&[]).env("PORT", "").text(&PORT).as_deref(), Some("80"));
    assert_eq!(args(&["--port="]).text(&PORT).as_deref(), Some(""));
}

#[test]
fn switches_stand_alone_or_take_a_value() {
    assert!(args(&[]).flag(&SIGN));
    assert!(!args(&[]).flag(&PUT));
    assert!(args(&["--cache-allow-put-verb"]).flag(&PUT));
    assert!(!args(&["--cache-sign-narinfo=false"]).flag(&SIGN));
    assert!(!args(&[]).env("CACHE_SIGN_NARINFO", "0").flag(&SIGN));
    assert!(!args(&[]).file("f.json", r#"{"cache": {"sign-narinfo": false}}"#).flag(&SIGN));
}

#[test]
fn lists_repeat_and_split() {
    assert_eq!(args(&[]).list(&URLS), ["https://cache.nixos.org"]);
    assert_eq!(args(&["--upstream-cache=a", "--upstream-cache", "b, c,"]).list(&URLS), ["a", "b", "c"]);
    assert_eq!(args(&[]).env("UPSTREAM_CACHES", "a,b").list(&URLS), ["a", "b"]);
    assert_eq!(args(&[]).file("f.yaml", "cache:\n  upstream:\n    caches: a,b").list(&URLS), ["a", "b"]);
    assert_eq!(args(&[]).file("f.yaml", "cache.upstream.urls: ['a,b', 3]").list(&URLS), ["a,b", "3"]);
    assert_eq!(args(&["--upstream-cache=a"]).env("UPSTREAM_CACHES", "b").list(&URLS), ["a"]);
}

#[test]
fn files_are_yaml_toml_or_json() {
    let yaml = "cache:\n  hostname: h\n  max-size: 10G\n  upstream:\n    caches:\n      - a\n      - b\nport: 8501\n";
    let toml =
        "port = 8501\n[cache]\nhostname = 'h'\nmax-size = '10G'\n[cache.upstream]\ncaches = ['a', 'b']\n";
    let json = r#"{"port": 8501, "cache": {"hostname": "h", "max-size": "10G", "upstream": {"caches": ["a", "b"]}}}"#;
    for (name, text) in [
        ("f.yaml", yaml),
        ("f.yml", yaml),
        ("f.toml", toml),
        ("f.json", json),
        ("f", yaml),
        ("f.conf", toml),
        ("f", json),
    ] {
        let given = args(&[]).file(name, text);
        let (values, problems) = given.with(|r| {
            let urls = r.list(&URLS, |text| Ok::<_, String>(text.to_owned()));
            (r.text(&HOST), r.get(&SIZE, values::byte_size), urls, r.get(&PORT, number))
        });
        let expected =
            (Some("h".to_owned()), Some(10 << 30), vec!["a".to_owned(), "b".to_owned()], Some(8501));
        assert_eq!((values, problems), (expected, vec![]), "{name}: {text}");
    }
}

#[test]
fn yaml_scalars_stay_what_was_written() {
    for (text, expected) in
        [(":8501", ":8501"), ("0.0.0.0:80", "0.0.0.0:80"), ("3s", "3s"), ("'007'", "007"), ("1.5h", "1.5h")]
    {
        let yaml: &'static str = Box::leak(format!("port: {text}").into_boxed_str());
        assert_eq!(args(&[]).file("f.yaml", yaml).text(&PORT).as_deref(), Some(expected));
    }
}

#[test]
fn empty_files_and_nulls_give_nothing() {
    for (name, text) in [
        ("f.yaml", ""),
        ("f.yaml", "# nothing\n"),
        ("f.json", " "),
        ("f.yaml", "port:\ncache:\n"),
        ("f.yaml", "port: ''"),
        ("f", ""),
    ] {
        assert_eq!(args(&[]).file(name, text).text(&PORT).as_deref(), Some("80"), "{text}");
    }
}

#[test]
fn unknown_keys_are_all_listed_and_the_other_plane_is_known() {
    let text = "cache:\n  hostnam: x\n  hostname: h\nedge:\n  name: e\nzz: [1]\n";
    assert_eq!(
        args(&[]).file("f.yaml", text).problems(),
        [
            "DIR/f.yaml: unknown key cache.hostnam: did you mean --cache-hostname (CACHE_HOSTNAME, cache.hostname)?",
            "DIR/f.yaml: unknown key zz"
        ]
    );
}

#[test]
fn broken_files_are_named_without_their_text() {
    for (name, text, expected) in [
        ("f.toml", "a = 1\ntoken = hunter2 x\n", "DIR/f.toml: not TOML: line 2: "),
        ("f.json", "{\"token\": hunter2}", "DIR/f.json: not JSON: expected value at line 1 column 11"),
        ("f.yaml", "a: [hunter2\nb: }", "DIR/f.yaml: not YAML: "),
        ("f.yaml", "hunter2", "DIR/f.yaml: not YAML: expected keys and values at the top"),
        ("f", "hunter2", "DIR/f: neither of: not TOML: line 1: "),
        ("f.yaml", "cache: { hostname: a }\ncache.hostname: b", "DIR/f.yaml: cache.hostname is given twice"),
    ] {
        let problems = args(&[]).file(name, text).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(expected), "{problems:?}");
        assert!(!problems[0].contains("hunter2"), "{problems:?}");
    }
}

#[test]
fn a_missing_file_is_a_problem() {
    let sources = Sources::gather(&[TABLE], &[], &line(&[]), &|_| None, Some(Path::new("/absent/ncps.yaml")));
    let errors = Resolver::new(sources).finish().expect_err("no such file");
    assert_eq!(
        errors.to_string(),
        "1 problem in the configuration:\n  /absent/ncps.yaml: No such file or directory (os error 2)"
    );
}

#[test]
fn two_names_at_one_level_contradict() {
    assert_eq!(
        args(&["--cache-data-path=/a", "--cache-storage-local=/b"]).problems(),
        [
            "--cache-storage-local (CACHE_STORAGE_LOCAL, cache.storage.local): given twice, by flag --cache-storage-local and by flag --cache-data-path: keep one of them"
        ]
    );
    assert_eq!(args(&[]).env("UPSTREAM_CACHES", "a").env("CACHE_UPSTREAM_URLS", "a").problems().len(), 1);
    let both = "cache: { data-path: /a, storage: { local: /b } }";
    assert_eq!(args(&["--cache-data-path=/c"]).file("f.yaml", both).problems().len(), 1);
}

#[test]
fn all_problems_are_told_at_once() {
    let given = args(&["--cache-max-size=10", "--cache-get-token=hunter2"])
        .env("CACHE_UPSTREAM_URLS", "https://me:pw@a/x,ok,b")
        .env("CACHE_SIGN_NARINFO", "perhaps")
        .file("f.yaml", "cache: { hostname: [a], get-tokens: x }\nport: 99999\n");
    let (values, problems) = given.with(|r| {
        let urls = r.list(&URLS, |text| if text == "ok" { Ok(text.len()) } else { Err("expected ok") });
        r.problem(&STORE, "needs --edge-durable");
        let token: Option<u8> = r.get(&TOKEN, |text| Err(format!("{text} is too short")));
        let twice = (r.get(&PORT, number), r.get(&PORT, number));
        (r.get(&SIZE, values::byte_size), urls, r.flag(&SIGN), r.require(&HOST, number), twice, token)
    });
    assert_eq!(values, (None, vec![2], false, None, (None, None), None));
    assert_eq!(
        problems,
        [
            "DIR/f.yaml: unknown key cache.get-tokens: did you mean --cache-get-token (CACHE_GET_TOKEN, cache.get-token)?",
            "--cache-hostname (CACHE_HOSTNAME, cache.hostname): file DIR/f.yaml key cache.hostname: expected one value, found a list",
            "--cache-upstream-url (CACHE_UPSTREAM_URLS, cache.upstream.urls): \"https://***@a/x\" from variable CACHE_UPSTREAM_URLS: expected ok",
            "--cache-upstream-url (CACHE_UPSTREAM_URLS, cache.upstream.urls): \"b\" from variable CACHE_UPSTREAM_URLS: expected ok",
            "--cache-storage-local (CACHE_STORAGE_LOCAL, cache.storage.local): needs --edge-durable",
            "--cache-get-token (CACHE_GET_TOKEN, cache.get-token): \"(secret)\" from flag --cache-get-token: (secret) is too short",
            "--port (PORT, port): \"99999\" from file DIR/f.yaml key port: number too large to fit in target type",
            "--cache-max-size (CACHE_MAX_SIZE, cache.max-size): \"10\" from flag --cache-max-size: expected a whole number and a unit out of B, K, M, G, T, such as 50G",
            "--cache-sign-narinfo (CACHE_SIGN_NARINFO, cache.sign-narinfo): \"perhaps\" from variable CACHE_SIGN_NARINFO: expected true or false",
            "--cache-hostname (CACHE_HOSTNAME, cache.hostname): has to be given",
        ]
    );
}

#[test]
fn show_tells_value_and_place() {
    let given = args(&["--upstream-cache=https://u:p@x", "--cache-get-token=hunter2"])
        .env("CACHE_MAX_SIZE", "10G")
        .file("f.yaml", "cache: { data-path: /d }");
    let (shown, _) = given.with(|r| {
        r.computed(&HOST, "machine");
        let shown = r.show();
        shown.into_iter().map(|(field, text, source)| (field.flag, text, source)).collect::<Vec<_>>()
    });
    let rows: Vec<String> =
        shown.iter().map(|(flag, text, source)| format!("{flag}={text} ({source})")).collect();
    let path = match &shown[1].2 {
        Source::File { path, key } if key == "cache.data-path" => path.display().to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        rows,
        [
            "cache-hostname=machine (default)".to_owned(),
            format!("cache-storage-local=/d (file {path} key cache.data-path)"),
            "cache-max-size=10G (variable CACHE_MAX_SIZE)".to_owned(),
            "cache-upstream-url=https://***@x (flag --upstream-cache)".to_owned(),
            "cache-sign-narinfo=true (default)".to_owned(),
            "cache-allow-put-verb=false (default)".to_owned(),
            "port=80 (default)".to_owned(),
            "cache-get-token=(secret) (flag --cache-get-token)".to_owned(),
            "xz= (not set)".to_owned(),
        ]
    );
}

#[test]
fn given_means_not_by_default() {
    assert!(!args(&[]).with(|r| r.given(&PORT)).0);
    assert!(args(&[]).env("PORT", "80").with(|r| r.given(&PORT)).0);
    assert!(args(&["--cache-data-path=/x"]).with(|r| r.given(&STORE)).0);
}

#[test]
fn the_file_is_the_named_one_or_the_one_that_exists() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().to_str().expect("temporary paths are text").to_owned();
    let env = |name: &str| (name == "XDG_CONFIG_HOME").then(|| home.clone());
    let named = |name: &str| (name == "NCPS_CONFIG_FILE").then(|| "/named.toml".to_owned());
    assert_eq!(find_file(&line(&[]), &env), None);
    let path = dir.path().join("ncps/config.yaml");
    std::fs::create_dir(dir.path().join("ncps")).expect("made");
    std::fs::write(&path, "").expect("written");
    assert_eq!(find_file(&line(&[]), &env), Some(path));
    assert_eq!(find_file(&line(&[]), &named), Some(PathBuf::from("/named.toml")));
    assert_eq!(find_file(&line(&["--config=/flag.json"]), &named), Some(PathBuf::from("/flag.json")));
}

#[test]
fn global_flags_go_before_and_after_the_sub_command() {
    const GLOBAL: &[Field] = &[PORT];
    let serve = clap::Command::new("serve").args(super::args(&[&[HOST]]));
    let root = root_command("ncps", "test", &[GLOBAL]).subcommand(serve);
    root.clone().debug_assert();
    for args in [["ncps", "--port=1", "--config=/c", "serve"], ["ncps", "serve", "--port=1", "--config=/c"]] {
        let line = CommandLine::parse(root.clone(), &[GLOBAL], args).expect("known flags");
        let (name, line) = line.subcommand().expect("there is one");
        assert_eq!(name, "serve");
        let mut r = Resolver::new(Sources::gather(&[GLOBAL, &[HOST]], &[], &line, &|_| None, None));
        assert_eq!(r.get(&PORT, number), Some(1), "{args:?}");
        assert_eq!(find_file(&line, &|_| None), Some(PathBuf::from("/c")));
    }
}

#[test]
fn help_shows_variable_and_default_and_hides_other_names() {
    let mut command = command("ncps", "test", &[TABLE, &[PORT]]);
    command.clone().debug_assert();
    let help = command.render_help().to_string();
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("--cache-upstream-url <VALUE> Upstreams. [env: CACHE_UPSTREAM_URLS] [default: https://cache.nixos.org]"), "{help}");
    assert!(words.contains("--cache-storage-local <PATH> Data path."), "{help}");
    assert!(!help.contains("cache-data-path") && !help.contains("--xz"), "{help}");
}

#[test]
fn the_reference_is_a_table() {
    let table = reference(&[&[STORE, SIGN, XZ], &[URLS, STORE]]);
    assert_eq!(
        table,
        "\
| Flag | Variable | File key | Default | Meaning |
| --- | --- | --- | --- | --- |
| `--cache-storage-local` | `CACHE_STORAGE_LOCAL` | `cache.storage.local` | – | Data path. Also: `--cache-data-path`, `CACHE_DATA_PATH`, `cache.data-path`. |
| `--cache-sign-narinfo[=false]` | `CACHE_SIGN_NARINFO` | `cache.sign-narinfo` | `true` | Sign \\| or not. |
| `--cache-upstream-url` (repeatable) | `CACHE_UPSTREAM_URLS` | `cache.upstream.urls` | `https://cache.nixos.org` | Upstreams. Also: `--upstream-cache`, `UPSTREAM_CACHES`, `cache.upstream.caches`. |
"
    );
}

#[test]
fn tables_that_claim_a_name_twice_are_found() {
    assert_eq!(conflicts(&[TABLE, &[PORT]]), Vec::<String>::new());
    const THIEF: Field = Field::value("thief", "PORT", "cache.data-path", "Claims names.");
    const DRIFT: Field = PORT.default("81");
    assert_eq!(
        conflicts(&[TABLE, &[THIEF, DRIFT]]),
        ["--port is defined twice, differently", "PORT names 2 fields", "cache.data-path names 2 fields"]
    );
}

#[test]
fn durations_are_read_through_the_resolver() {
    let (grace, problems) = args(&["--port=1m30s"]).with(|r| r.get(&PORT, values::duration));
    assert_eq!((grace, problems), (Some(Duration::from_secs(90)), vec![]));
}
