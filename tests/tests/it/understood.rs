//! Command lines that stand in files which no compiler reads: the programs themselves say whether they understand them.

use std::fmt::Debug;
use std::process::Command;

use crate::processes::UNDER_TEST;

/// The program that is meant has no problem with it.
pub(crate) fn is_understood<S: AsRef<str> + Debug>(line: &[S], variables: &[(&str, &str)]) {
    problems(line, variables).unwrap_or_else(|said| panic!("{line:?}: {said}"));
}

/// Asks the program that is meant, without running it: `config check`, or the help of the command where it is
/// `ncps-cli`. What it says is the error.
pub(crate) fn problems<S: AsRef<str>>(line: &[S], variables: &[(&str, &str)]) -> Result<(), String> {
    let line: Vec<&str> = line.iter().map(AsRef::as_ref).collect();
    let (path, args) = line.split_first().expect("a program");
    let program = path.rsplit('/').next().unwrap_or(path);
    let asked = match program {
        "ncps-cli" => [&[program], args, &["--help"]].concat(),
        "ncps-edge" | "ncps-control" => [&[program, "config", "check"], args].concat(),
        "ncps" => {
            let serve = args.iter().position(|arg| *arg == "serve");
            let (before, after) = args.split_at(serve.unwrap_or_else(|| panic!("no serve in {line:?}")));
            [&[program], before, &["config", "check"], &after[1..]].concat()
        }
        other => panic!("{other} is none of ours"),
    };
    let mut command = Command::new(UNDER_TEST);
    command.args(&asked).env_clear().env("HOME", "/nonexistent").envs(variables.iter().copied());
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(said)
}

#[test]
fn what_is_mistyped_is_not_understood() {
    for line in
        ["/bin/ncps serve --xyzzy", "/bin/ncps-edge --xyzzy", "/bin/ncps-control --xyzzy", "ncps-cli xyzzy"]
    {
        let line: Vec<&str> = line.split(' ').collect();
        let said = problems(&line, &[]).expect_err("nobody knows it");
        assert!(said.contains("xyzzy"), "{line:?}: {said}");
    }
}
