//! What systemd makes of the sandbox of a unit, as far as it decides whether our programs work in it: the system calls that
//! kill, sockets that can't be had, memory that can't be written and run, being no root, limits.
//!
//! Knows the settings that our units use, and refuses others of the same kind. Absent: what concerns the places of files
//! (`ProtectSystem=` and the like), and the life of a service.

mod calls;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use syscalls::Sysno;

/// The settings of a unit file, in their order. The same setting may be there several times.
#[derive(Debug)]
pub struct Unit {
    path: PathBuf,
    settings: Vec<(String, String)>,
}

impl Unit {
    /// # Errors
    /// If there is no such file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
        let pairs = lines.filter_map(|line| line.split_once('='));
        let settings = pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
        Ok(Self { path: path.to_owned(), settings })
    }

    /// All settings.
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// What a setting says, each time that it is there.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.settings.iter().filter(|(setting, _)| setting == name).map(|(_, value)| &**value).collect()
    }

    /// The command that starts a program as the unit says: `launcher` (the binary `confined`) after what it can't do itself.
    /// `None`, and a note, where Perl or unshare, which each Debian has, lack or are not allowed to.
    ///
    /// # Panics
    /// If so, and `NCPS_REQUIRE_SANDBOX` is 1.
    pub fn launcher(&self, launcher: &str) -> Option<Vec<String>> {
        let mut words = self.as_a_user();
        words.extend(self.without_new_code());
        if !runs(&words) {
            let required = std::env::var("NCPS_REQUIRE_SANDBOX").is_ok_and(|value| value == "1");
            assert!(!required, "NCPS_REQUIRE_SANDBOX is set, and this does not run here: {words:?}");
            println!("skipped: this does not run here: {words:?}");
            return None;
        }
        words.extend([launcher.to_owned(), self.path.to_string_lossy().into_owned()]);
        Some(words)
    }

    /// Who is root is so no more, without capabilities, and owns what was root's: as if the files were the user's.
    fn as_a_user(&self) -> Vec<String> {
        if self.all("User").is_empty() || !rustix::process::geteuid().is_root() {
            return Vec::new();
        }
        let words = ["/usr/bin/unshare", "--user", "--map-user=1000", "--map-group=1000", "--"];
        words.map(ToOwned::to_owned).to_vec()
    }

    /// `prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)`, which no safe Rust library knows (Linux 6.3).
    fn without_new_code(&self) -> Vec<String> {
        if self.all("MemoryDenyWriteExecute") != ["true"] {
            return Vec::new();
        }
        let script =
            format!("syscall({}, 65, 1, 0, 0, 0) == 0 or die $!; exec @ARGV or die $!", Sysno::prctl.id());
        ["/usr/bin/perl".to_owned(), "-e".to_owned(), script, "--".to_owned()].to_vec()
    }

    /// Puts the rest in force for this process and what it becomes. There is no way back.
    ///
    /// # Errors
    /// Where the unit says what is not known here, or the system refuses.
    pub fn confine(&self) -> Result<(), String> {
        if let [mask] = self.all("UMask")[..] {
            umask(Mode::from(
                u32::from_str_radix(mask, 8).map_err(|error| format!("UMask={mask}: {error}"))?,
            ));
        }
        if let [limit] = self.all("LimitNOFILE")[..] {
            limit_files(limit.parse().map_err(|error| format!("LimitNOFILE={limit}: {error}"))?)?;
        }
        if let [families] = self.all("RestrictAddressFamilies")[..] {
            calls::only_families(families)?;
        }
        match self.all("SystemCallFilter")[..] {
            ["@system-service", "~@privileged @resources"] => calls::only_of_services(),
            ref other => Err(format!("SystemCallFilter={other:?} is not known here")),
        }
    }
}

fn runs(words: &[String]) -> bool {
    let command = [words, &["/bin/true".to_owned()]].concat();
    Command::new(&command[0]).args(&command[1..]).status().is_ok_and(|status| status.success())
}

/// A machine may allow less.
fn limit_files(limit: u64) -> Result<(), String> {
    let most = getrlimit(Resource::Nofile).maximum.map_or(limit, |most| most.min(limit));
    let both = Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Nofile, both).map_err(|error| format!("LimitNOFILE: {error}"))
}
