//! Two processes and one lock file.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ncps_runtime::lock::{DirLock, LockError};

const PATH: &str = "NCPS_TEST_LOCK_PATH";

/// Not a test of its own: the other process of the test below. Holds the lock until its input ends.
#[test]
#[ignore = "started by a_second_process_learns_who_holds_it"]
fn holder() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let _lock = DirLock::acquire(Path::new(&path)).expect("nobody holds it");
    println!("\nheld");
    std::io::stdin().read_to_end(&mut Vec::new()).expect("readable");
}

fn start_holder(path: &Path) -> Child {
    let program = std::env::current_exe().expect("the test program");
    let mut child = Command::new(program)
        .args(["--ignored", "--exact", "holder", "--nocapture"])
        .env(PATH, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let output = BufReader::new(child.stdout.as_mut().expect("piped"));
    let held = output.lines().map_while(Result::ok).any(|line| line == "held");
    assert!(held, "the other process took the lock");
    child
}

#[test]
fn a_second_process_learns_who_holds_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("lock");
    let mut child = start_holder(&path);
    match DirLock::acquire(&path).expect_err("it is held") {
        LockError::Held { path: named, holder: Some(holder) } => {
            assert_eq!((named, holder.pid), (path.clone(), child.id()));
            assert!(holder.command.starts_with("lock-"), "{holder}");
        }
        other => panic!("{other}"),
    }
    // Killed, it can't release anything: the kernel does.
    child.kill().expect("killed");
    child.wait().expect("ended");
    let lock = DirLock::acquire(&path).expect("the holder is gone");
    assert_eq!(lock.path(), path);
}
