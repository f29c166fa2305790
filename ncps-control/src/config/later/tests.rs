//! What becomes of the original's later names: none is unknown, none is silently wrong.

use ncps_runtime::config::{CommandLine, Env, Sources, command};

use super::*;

/// The flags that change nothing, or the problems.
fn read_with(args: &[String], env: Env<'_>) -> Result<Vec<&'static str>, Vec<String>> {
    let tables: &[&[Field]] = &[LATER, LATER_GLOBAL];
    let args = ["ncps".to_owned()].into_iter().chain(args.iter().cloned());
    let line = CommandLine::parse(command("ncps", "test", tables), tables, args).expect("no help");
    let mut r = Resolver::new(Sources::gather(tables, &[], &line, env, None));
    let moot = super::read(&mut r);
    r.finish().map_err(|problems| problems.problems().to_vec())?;
    Ok(moot)
}

fn args(args: &[&str]) -> Result<Vec<&'static str>, Vec<String>> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    read_with(&args, &|_| None)
}

#[test]
fn nothing_given_is_nothing_said() {
    assert_eq!(args(&[]), Ok(vec![]));
}

#[test]
fn all_that_changes_nothing_is_accepted_and_told() {
    let moot: Vec<&Later> = rows().filter(|row| matches!(row.fate, Fate::Moot)).collect();
    let typed: Vec<String> = moot.iter().map(|row| format!("--{}=1", row.field.flag)).collect();
    let flags: Vec<&str> = moot.iter().map(|row| row.field.flag).collect();
    assert_eq!(read_with(&typed, &|_| None), Ok(flags));
    assert!(moot.len() > 30);
}

#[test]
fn all_that_would_change_the_meaning_is_refused_at_once() {
    let refused: Vec<&Later> = rows().filter(|row| !matches!(row.fate, Fate::Moot)).collect();
    let typed: Vec<String> = refused.iter().map(|row| format!("--{}=1", row.field.flag)).collect();
    let problems = read_with(&typed, &|_| None).expect_err("none of these is there");
    assert_eq!(problems.len(), refused.len());
    for (problem, row) in problems.iter().zip(&refused) {
        assert!(
            problem.starts_with(&row.field.to_string()) && problem.ends_with(row.field.help),
            "{problem}"
        );
    }
}

#[test]
fn defaults_of_the_original_change_nothing() {
    for off in [
        "--cache-lock-backend=local",
        "--cache-cdc-enabled=false",
        "--cache-inflight-staging-enabled=false",
        "--cache-storage-s3-force-path-style=false",
        "--cache-redis-addrs=",
    ] {
        assert_eq!(args(&[off]), Ok(vec![]), "{off}");
    }
    assert!(args(&["--cache-lock-backend=redis"]).is_err());
    assert!(args(&["--use-xz-binary=perhaps"]).is_err(), "still a switch");
}
