//! The database made before serving: `ncps migrate`, and the same under the name of dbmate, as the original's
//! containers and units call it.

use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use crate::processes::UNDER_TEST;

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(args: &[&str], env: &[(&str, &str)]) -> Ended {
    run_as(Path::new(UNDER_TEST), args, env)
}

fn run_as(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Ended {
    let output = Command::new(program).args(args).env_clear().envs(env.iter().copied()).output();
    let output = output.expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn place() -> (TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("var/ncps/db/db.sqlite");
    let url = format!("sqlite:{}", path.display());
    (dir, path, url)
}

/// What is said of a database.
#[derive(Clone, Copy)]
enum Said {
    WouldBeMade,
    Made,
    NothingPending,
}

/// It says this of the database, and of each migration that there is, and ends well.
fn says(ended: &Ended, database: &Path, said: Said) {
    let each =
        |before: &str| migrations().iter().map(|known| format!("{before}: {known}")).collect::<Vec<_>>();
    let lines = match said {
        Said::WouldBeMade => [vec!["would be made".to_owned()], each("pending")].concat(),
        Said::Made => [vec!["made".to_owned()], each("applied")].concat(),
        Said::NothingPending => vec!["nothing is pending".to_owned()],
    };
    let expected: String = lines.iter().map(|line| format!("{}: {line}\n", database.display())).collect();
    assert_eq!((ended.code, &*ended.out, &*ended.err), (Some(0), &*expected, ""));
}

/// Version and name of each, in order, by their files: `0001_index.sql` is `1 (index)`.
fn migrations() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/sqlite");
    let files = std::fs::read_dir(folder).expect("there");
    let mut names: Vec<_> = files.map(|file| file.expect("listed").file_name()).collect();
    names.sort();
    let read = |name: &str| {
        let (version, rest) = name.split_once('_').expect("a version");
        let about = rest.strip_suffix(".sql").expect("SQL").replace('_', " ");
        format!("{} ({about})", version.trim_start_matches('0'))
    };
    names.iter().map(|name| read(&name.to_string_lossy())).collect()
}

const MADE: Said = Said::Made;
const NOTHING: Said = Said::NothingPending;

#[test]
fn it_is_made_once_where_the_usual_names_say() {
    let (dir, path, url) = place();
    let flag = format!("--cache-database-url={url}");
    let dry = run(&["ncps", "migrate", "up", &flag, "--dry-run"], &[]);
    says(&dry, &path, Said::WouldBeMade);
    assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0, "nothing is made");
    says(&run(&["ncps", "migrate", "up", &flag], &[]), &path, MADE);
    says(&run(&["ncps", "migrate", "up"], &[("CACHE_DATABASE_URL", &url)]), &path, NOTHING);
    let file = dir.path().join("config.yaml");
    for key in ["database-url: ", "database:\n    url: "] {
        std::fs::write(&file, format!("cache:\n  hostname: x\n  {key}{url}\n")).expect("room");
        let config = format!("--config={}", file.display());
        says(&run(&["ncps", "migrate", "up", "--dry-run", &config], &[]), &path, NOTHING);
    }
    let data = dir.path().join("data");
    let at_data = run(&["ncps", "migrate", "up"], &[("STATE_DIRECTORY", &data.to_string_lossy())]);
    says(&at_data, &data.join("db/db.sqlite"), MADE);
}

#[test]
fn there_is_no_way_back() {
    let (_dir, path, url) = place();
    let ended = run(&["ncps", "migrate", "down", &format!("--cache-database-url={url}")], &[]);
    assert!(ended.code == Some(2) && ended.err.contains("forward only"), "{}", ended.err);
    assert!(!path.exists());
}

#[test]
fn dbmate_is_understood_as_packages_call_it() {
    let (_dir, path, url) = place();
    let flag = format!("--url={url}");
    says(&run(&["dbmate", &flag, "migrate", "up"], &[]), &path, MADE);
    for args in [
        &["dbmate", &flag, "migrate", "up"][..],
        &["dbmate", "--migrations-dir=/nix/store/x/share/ncps/db/migrations", &flag, "up"],
        &["dbmate-ncps", "-u", &url, "--no-dump-schema", "up"],
        &["dbmate", "--wait", "-d", "/x", &flag, "migrate"],
    ] {
        says(&run(args, &[]), &path, NOTHING);
    }
    says(&run(&["dbmate-ncps", "up"], &[("DATABASE_URL", &url)]), &path, NOTHING);
    says(&run(&["dbmate", "-e", "URL", "up"], &[("URL", &url)]), &path, NOTHING);
    let sqlite3 = url.replace("sqlite:", "sqlite3:");
    says(&run(&["dbmate", "up"], &[("DATABASE_URL", &sqlite3)]), &path, NOTHING);
}

#[test]
fn a_symlink_of_its_name_is_dbmate() {
    let (dir, path, url) = place();
    let flag = format!("--url={url}");
    for (name, lines) in [("dbmate", MADE), ("dbmate-ncps", NOTHING)] {
        let link = dir.path().join(name);
        std::os::unix::fs::symlink(UNDER_TEST, &link).expect("room");
        says(&run_as(&link, &[&flag, "up"], &[]), &path, lines);
        says(&run_as(&link, &["up"], &[("DATABASE_URL", &url)]), &path, NOTHING);
    }
    let other = dir.path().join("ncps");
    std::os::unix::fs::symlink(UNDER_TEST, &other).expect("room");
    let ended = run_as(&other, &[&flag, "up"], &[]);
    assert!(ended.code == Some(2) && ended.err.contains("--url"), "{}", ended.err);
}

#[test]
fn what_dbmate_could_and_we_can_not_is_refused() {
    let (_dir, path, url) = place();
    let flag = format!("--url={url}");
    for (args, expected) in [
        (&["dbmate", &flag, "rollback"][..], "rollback is not understood"),
        (&["dbmate", &flag, "status", "--exit-code"], "status is not understood"),
        (&["dbmate", "up"], "--url or DATABASE_URL has to be given"),
        (&["dbmate", "--url=postgres://me:s3cret@h/d", "up"], "not supported yet"),
        (&["dbmate", "--url=sqlite:relative.sqlite", "up"], "an absolute path"),
        (&["dbmate", &flag], "Usage: dbmate"),
    ] {
        let ended = run(args, &[]);
        assert!(ended.code == Some(2) && ended.err.contains(expected), "{args:?}: {}", ended.err);
        assert!(ended.out.is_empty() && !ended.err.contains("s3cret"), "{}", ended.err);
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn the_originals_database_is_left_alone() {
    let (_dir, path, url) = place();
    let folder = path.parent().expect("it has one");
    std::fs::create_dir_all(folder).expect("room");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut go = options.connect().await.expect("made");
    sqlx::query("CREATE TABLE schema_migrations (version TEXT)").execute(&mut go).await.expect("made");
    go.close().await.expect("closed");
    let before = std::fs::read(&path).expect("there");
    let (flag, database) = (format!("--url={url}"), format!("--cache-database-url={url}"));
    for args in [
        &["dbmate", &flag, "migrate", "up"][..],
        &["ncps", "migrate", "up", &database],
        &["ncps", "migrate", "up", "--dry-run", &database],
    ] {
        let ended = run(args, &[]);
        assert!(ended.code == Some(2) && ended.err.contains("a database of the Go ncps"), "{}", ended.err);
        assert_eq!(std::fs::read(&path).expect("there"), before);
        assert_eq!(std::fs::read_dir(folder).expect("there").count(), 1, "not even a lock is made");
    }
}
