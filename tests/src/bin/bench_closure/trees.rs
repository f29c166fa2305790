//! Which trees of the machine make the closure: packages are trees of files, and what lies in `/usr` was one once. The
//! choice follows from the names alone, so that it is the same as long as the machine is.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use ncps_nix::Sha256Hash;

/// Where there are trees. The last one is below the home of cargo.
const PLACES: [&str; 4] = ["/usr/share", "/usr/lib", "/usr/include", "registry/src"];
/// A tree of more is taken apart into those below it.
const MOST: Amount = Amount { bytes: 24 << 20, files: 3_000 };
/// A file that lies beside trees is one of its own from this size on.
const LEAST_FILE: u64 = 256 << 10;

/// How much there is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// What becomes a store path.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) path: PathBuf,
    pub(crate) amount: Amount,
}

impl Amount {
    fn and(self, more: Amount) -> Amount {
        Amount { bytes: self.bytes + more.bytes, files: self.files + more.files }
    }

    fn fits(self, most: Amount) -> bool {
        self.bytes <= most.bytes && self.files <= most.files
    }

    /// How large a file is on average.
    fn average(self) -> u64 {
        self.bytes / self.files.max(1)
    }
}

/// Trees of this much together, as far as the machine has them: both bytes and files come close, since what is missing
/// decides whether one of large or of small files is next.
pub(crate) fn choose(most: Amount) -> Vec<Tree> {
    let average = most.average();
    let (large, small): (Vec<_>, Vec<_>) =
        all().into_iter().partition(|tree| tree.amount.average() > average);
    let (mut large, mut small) = (VecDeque::from(large), VecDeque::from(small));
    let (mut chosen, mut sum) = (Vec::new(), Amount::default());
    loop {
        let of_small = small.is_empty() || (sum.average() <= average && !large.is_empty());
        let next = if of_small { large.pop_front() } else { small.pop_front() };
        let Some(tree) = next else { return chosen };
        if sum.and(tree.amount).fits(most) {
            sum = sum.and(tree.amount);
            chosen.push(tree);
        }
    }
}

/// Every tree there is, in the order of a hash of its name: neighbours are often alike.
fn all() -> Vec<Tree> {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
    let cargo = cargo.unwrap_or_else(home);
    let mut trees = Vec::new();
    for place in PLACES {
        take_apart(&cargo.join(place), &mut trees);
    }
    trees.sort_by_cached_key(|tree| *Sha256Hash::of(tree.path.as_os_str().as_encoded_bytes()).as_bytes());
    trees
}

fn take_apart(dir: &Path, trees: &mut Vec<Tree>) {
    for path in entries(dir) {
        match measure(&path) {
            Some(amount) if amount.fits(MOST) => trees.extend(tree(path, amount)),
            _ if path.is_dir() && !path.is_symlink() => take_apart(&path, trees),
            _ => {}
        }
    }
}

/// Unless it is too little, or Nix would not take its name.
fn tree(path: PathBuf, amount: Amount) -> Option<Tree> {
    let name = path.file_name()?.to_str()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "+-._?=".contains(c);
    let is_name = name.chars().all(fits) && !name.starts_with('.') && name.len() < 200;
    let is_enough = path.is_dir() || amount.bytes >= LEAST_FILE;
    (is_name && is_enough && amount.files > 0).then_some(Tree { path, amount })
}

/// What a tree has in it; none of what is neither a file, nor a directory, nor a link.
fn measure(path: &Path) -> Option<Amount> {
    let metadata = path.symlink_metadata().ok()?;
    if metadata.is_dir() {
        let mut sum = Amount::default();
        for entry in entries(path) {
            sum = sum.and(measure(&entry)?);
        }
        return Some(sum);
    }
    let is_plain = metadata.is_file() || metadata.is_symlink();
    is_plain.then_some(Amount { bytes: metadata.len(), files: 1 })
}

/// None where it can't be read.
fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
