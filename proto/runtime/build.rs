//! Names the version, and the commit that a release is built from, for `--version`: `$NCPS_COMMIT`, which a package sets that has no
//! repository, else what git says. Builds for development have none: each commit would have everything built anew.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=NCPS_COMMIT");
    let given = std::env::var("NCPS_COMMIT").ok().filter(|commit| !commit.is_empty());
    let version = std::env::var("CARGO_PKG_VERSION").expect("cargo says it");
    let version = match given.or_else(|| is_release().then(of_git).flatten()) {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo::rustc-env=NCPS_VERSION={version}");
}

fn is_release() -> bool {
    std::env::var("PROFILE").is_ok_and(|profile| profile == "release")
}

/// Of the repository that the source lies in, if it is one, and git is there.
fn of_git() -> Option<String> {
    println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
