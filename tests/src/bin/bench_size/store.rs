//! A store of many files on an edge's disk, as that edge had committed them: NAR files of the right length, most of it a
//! hole, and beside each its narinfo with a signature of ours, since the edge looks for that after its start.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ncps_tests::UpstreamKey;
use ncps_tests::bench::{Start, paths};

use crate::made::Large;
use crate::number;

/// What a NAR file and its narinfo file take on the disk: a block each.
pub(crate) const BYTES_EACH: u64 = 2 * 4096;

/// What is there.
pub(crate) struct Store {
    /// NAR files, each of which has a narinfo file.
    pub(crate) files: usize,
    /// What its directories take on the disk.
    pub(crate) directories: u64,
}

pub(crate) fn make(large: &Large) -> Store {
    let (data, files) = (large.data(), number("BENCH_FILES", 200_000).min(large.paths));
    let key = UpstreamKey::new("bench-1");
    fs::write(data.join("secret.key"), key.secret().to_text().as_bytes()).expect("room for a key");
    let store = data.join("store");
    fs::create_dir_all(store.join("nar")).expect("room for a store");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for first in 0..threads {
            let (store, key) = (&store, &key);
            scope
                .spawn(move || (first..files).step_by(threads).for_each(|n| put(store, key, n, large.paths)));
        }
    });
    let taken = |dir: &Path| fs::metadata(dir).expect("it was made").blocks() * 512;
    Store { files, directories: taken(&store) + taken(&store.join("nar")) }
}

/// A process on it. The files are not what their names say: nothing may look into them.
pub(crate) fn start(program: &Path, large: &Large) -> Start {
    let start = Start::of(program).on(&large.data());
    start.flag("--log-level=warn").flag("--cache-recompress=off")
}

fn put(store: &Path, key: &UpstreamKey, n: usize, of: usize) {
    let mut narinfo = paths::narinfo(n, of);
    narinfo.signatures = vec![key.sign(&narinfo)];
    let mut nar = File::create(store.join(&narinfo.url)).expect("room for a NAR file");
    nar.write_all(b"x").and_then(|()| nar.set_len(paths::FILE_SIZE)).expect("room for a NAR file");
    fs::write(store.join(format!("{}.narinfo", paths::hash(n))), narinfo.render())
        .expect("room for a narinfo");
}
