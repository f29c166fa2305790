//! File systems mounted for a test: a small disk that can be filled, and a directory that nobody can write in.
//!
//! To mount one takes root. Where that is not to be had the tests that want one pass without having tried; with
//! `NCPS_REQUIRE_MOUNT=1` they fail. Absent: other file systems than a tmpfs, and faults below them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted directory. Dropped, it is unmounted, and whoever still has it open keeps it until then.
#[derive(Debug)]
pub struct Mount(PathBuf);

impl Mount {
    /// An empty file system of 24 MiB on a directory, which is made where it lacks. `None`, and a note, where
    /// file systems can't be mounted.
    ///
    /// # Panics
    /// If there is no room, or if mounts are required.
    pub fn small_disk(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("room for a directory");
        Self::new(at, &["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
    }

    /// What is in a directory as it is, and not even root can write in it. `None`, and a note, where file systems
    /// can't be mounted.
    ///
    /// # Panics
    /// If it can't be made read-only, or if mounts are required.
    pub fn read_only(dir: &Path) -> Option<Self> {
        let sealed = Self::new(dir, &["-o", "bind", &dir.to_string_lossy()])?;
        let remounted = mount(&["-o", "remount,ro,bind"], dir);
        assert!(remounted.is_ok(), "it can't be made read-only: {remounted:?}");
        Some(sealed)
    }

    fn new(at: &Path, args: &[&str]) -> Option<Self> {
        let Err(why) = mount(args, at) else { return Some(Self(at.to_owned())) };
        let required = std::env::var("NCPS_REQUIRE_MOUNT").is_ok_and(|value| value == "1");
        assert!(!required, "NCPS_REQUIRE_MOUNT is set and a file system can't be mounted: {why}");
        println!("skipped: a file system can't be mounted here: {why}");
        None
    }

    /// Takes all that is free, to the last block.
    ///
    /// # Panics
    /// If not even an empty file can be made.
    pub fn fill(&self) {
        let mut ballast = File::options().append(true).create(true).open(self.ballast()).expect("created");
        for block in [1 << 16, 1 << 12] {
            while ballast.write_all(&vec![0; block]).is_ok() {}
        }
    }

    /// The same but for a few blocks of 4 KiB.
    ///
    /// # Panics
    /// As [`Mount::fill`], and if there are not so many blocks.
    pub fn fill_but(&self, blocks: u64) {
        self.fill();
        let ballast = File::options().write(true).open(self.ballast()).expect("it is there");
        let taken = ballast.metadata().expect("it is open").len();
        let left = taken.checked_sub(blocks << 12).expect("so many were free");
        ballast.set_len(left).expect("shortened");
    }

    /// Gives back what was filled.
    ///
    /// # Panics
    /// If it took nothing.
    pub fn free(&self) {
        // A child that is just being forked has the file, too: without its blocks that does not matter.
        File::create(self.ballast()).expect("emptied");
        std::fs::remove_file(self.ballast()).expect("removed");
    }

    /// Bytes that anybody may still take.
    ///
    /// # Panics
    /// If the file system can't be asked.
    pub fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.0).expect("mounted");
        stat.f_bavail * stat.f_frsize
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "it can't be unmounted");
    }
}

/// What `mount` says where it fails.
fn mount(args: &[&str], at: &Path) -> Result<(), String> {
    let output = Command::new("mount").args(args).arg(at).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
