//! `ncps import` of a data directory of the Go original: its old URLs and its old key serve clients as before, what is
//! wrong in it is refused, and a run that is killed goes on where it was.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ncps_nix::{Compression, NarFileName, NarInfo, Sha256Hash};
use ncps_runtime::fault::Point;
use ncps_tests::{
    Cli, Era, FAULT, Fixture, GoNcps, Installation, Mode, Nix, Process, Upstream, UpstreamKey, both_modes,
    decode, eventually,
};
use rustix::process::Signal;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use crate::processes::UNDER_TEST;

pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The command ended like this and said all of this.
    pub(crate) fn says(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        for text in texts {
            assert!(
                self.out.contains(text) || self.err.contains(text),
                "{text}:\n{}\n{}",
                self.out,
                self.err
            );
        }
    }
}

/// `ncps import` with these flags.
pub(crate) fn import<S: AsRef<std::ffi::OsStr>>(flags: &[S], env: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(UNDER_TEST);
    command.args(["ncps", "import"]).args(flags).env_clear().envs(env.iter().copied());
    let output = command.output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Every file below a directory, with its content, inode, mode and time.
fn tree(root: &Path) -> BTreeMap<PathBuf, (Sha256Hash, u64, u32, i64)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(root).expect("it is there") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            let metadata = path.metadata().expect("there");
            let hash = Sha256Hash::of(&std::fs::read(&path).expect("read"));
            files.insert(path, (hash, metadata.ino(), metadata.mode(), metadata.mtime_nsec()));
        }
    }
    files
}

/// A stopped Go original, an upstream that is down, and an installation of ours beside it.
struct Scene {
    _dir: TempDir,
    go: GoNcps,
    old: PathBuf,
    key: UpstreamKey,
    _upstream: Upstream,
    ncps: Installation,
    flags: Vec<String>,
}

impl Scene {
    async fn new(mode: Mode, era: Era) -> Scene {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let old = dir.path().join("old");
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::with(&[]).await;
        upstream.down().await;
        let ncps = Installation::of(mode, UNDER_TEST, &upstream, &key);
        let flags = vec![
            format!("--cache-data-path={}", ncps.edge_data().display()),
            format!("--cache-database-url=sqlite:{}", ncps.control_data().join("db/db.sqlite").display()),
            format!("--upstream-cache={}", upstream.url()),
            format!("--upstream-public-key={}", key.public()),
        ];
        Scene { go: GoNcps::new(&old, era), _dir: dir, old, key, _upstream: upstream, ncps, flags }
    }

    fn fixture(&self, name: &str, compression: Compression) -> Fixture {
        Fixture::new(name).size(50_000).compressible().compression(compression).build(&self.key)
    }

    /// One path of each compression; what it hands out for each.
    fn add_good_ones(&mut self) -> Vec<(Fixture, String)> {
        let codecs = [Compression::Xz, Compression::Zstd, Compression::Bzip2, Compression::None];
        let mut all: Vec<_> = codecs.map(|codec| self.fixture(&format!("{codec}-1.0"), codec)).into();
        // A name that says nothing of the bytes, and the spelling of Cachix.
        let opaque = format!("nar/{}.nar.xz", Sha256Hash::of(b"opaque").nix32());
        all.push(self.fixture("opaque-1.0", Compression::Xz).changed(|narinfo| narinfo.url = opaque));
        let spelled = self.fixture("hex-1.0", Compression::Xz);
        let hex = format!("nar/{}.nar.xz", spelled.file_hash().0.hex());
        all.push(spelled.changed(|narinfo| narinfo.url = hex));
        let added = |fixture: Fixture| {
            let url = self.go.add(&fixture).url();
            (fixture, url)
        };
        all.into_iter().map(added).collect()
    }

    fn import(&self, more: &[&str]) -> Ended {
        self.import_with(more, &[])
    }

    fn import_with(&self, more: &[&str], env: &[(&str, &str)]) -> Ended {
        import(&self.all_flags(more), env)
    }

    fn all_flags(&self, more: &[&str]) -> Vec<String> {
        let mut flags = self.flags.clone();
        if !more.contains(&"--in-place") {
            flags.push(format!("--from={}", self.old.display()));
        }
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        flags
    }

    /// In two processes the key is moved to where control looks for it.
    async fn serve(&mut self) {
        let (made, wanted) = (self.ncps.edge_data(), self.ncps.control_data());
        if made != wanted && made.join("secret.key").exists() {
            std::fs::rename(made.join("secret.key"), wanted.join("secret.key")).expect("moved");
        }
        self.ncps.start().await;
    }

    /// A client that remembers the old narinfo, and one that asks anew.
    async fn serves(&self, fixture: &Fixture, old_url: &str) {
        let (status, body) = self.ncps.fetch(old_url).await;
        assert_eq!(status, 200, "{old_url}");
        let codec =
            NarFileName::parse(old_url.split('?').next().unwrap_or_default().trim_start_matches("/nar/"));
        let codec = codec.expect("a NAR URL").compression;
        assert_eq!(decode(codec, &body.whole()).expect("whole"), fixture.nar.to_bytes(), "{old_url}");
        let (status, body) = self.ncps.fetch(&fixture.narinfo_path()).await;
        assert_eq!(status, 200, "{}", fixture.store_path());
        let narinfo = NarInfo::parse(&body.whole()).expect("it parses");
        let signatures = [self.go.public_key(), self.key.public()];
        let names = signatures.map(|key| key.name().to_owned());
        assert_eq!(
            narinfo.signatures.iter().filter(|s| names.contains(&s.key_name)).count(),
            2,
            "both keep theirs"
        );
        let (status, body) = self.ncps.fetch(&format!("/{}", narinfo.url)).await;
        let body = body.whole();
        assert_eq!((status, Some(Sha256Hash::of(&body))), (200, narinfo.file_hash.map(|hash| hash.0)));
        assert_eq!(decode(narinfo.compression, &body).expect("whole"), fixture.nar.to_bytes());
    }
}

async fn is_imported_and_served(mode: Mode, era: Era) {
    let mut scene = Scene::new(mode, era).await;
    let good = scene.add_good_ones();
    let chunked = scene.fixture("chunked-1.0", Compression::Xz);
    let gone = scene.fixture("gone-1.0", Compression::Xz);
    if era == Era::Rows {
        scene.go.add(&chunked).chunked();
    }
    scene.go.add(&gone).without_nar();
    scene.go.write().await;
    let before = tree(&scene.old);

    let chunks = if era == Era::Rows {
        "skipped: 1 chunked, 1 without a NAR"
    } else {
        "skipped: 0 chunked, 1 without a NAR"
    };
    scene.import(&["--dry-run"]).says(0, &["6 paths", chunks, "refused: 0"]);
    assert!(!scene.ncps.edge_data().exists(), "nothing is made");
    scene.import(&[]).says(0, &["imported: 6 paths, 6 NAR files", chunks, "refused: 0"]);
    assert_eq!(tree(&scene.old), before, "it is only read");
    scene.import(&[]).says(0, &["imported: 0 paths, 0 NAR files", "already there: 6"]);

    scene.serve().await;
    assert_eq!(scene.ncps.public_key().await, scene.go.public_key());
    for (fixture, url) in &good {
        scene.serves(fixture, url).await;
    }
    assert_ne!(scene.ncps.fetch(&gone.narinfo_path()).await.0, 200);
    assert_ne!(scene.ncps.fetch(&chunked.narinfo_path()).await.0, 200);
    if let Some(nix) = Nix::find() {
        nix.trust(&[scene.go.public_key()]);
        let paths: Vec<_> = good.iter().map(|(fixture, _)| fixture.store_path()).collect();
        nix.copy_from(&scene.ncps.url(), &paths).await.ok();
        for path in paths {
            nix.verify_own(path).await.ok();
        }
    }
    scene.ncps.terminate().await;
}

both_modes! {
    async fn the_first_layout_is_served_again(mode) {
        is_imported_and_served(mode, Era::Files).await;
    }

    async fn the_layout_between_is_served_again(mode) {
        is_imported_and_served(mode, Era::SharedNars).await;
    }

    async fn the_last_layout_is_served_again(mode) {
        is_imported_and_served(mode, Era::Rows).await;
    }

    async fn what_no_upstream_signed_counts_as_an_upload(mode) {
        let mut scene = Scene::new(mode, Era::Rows).await;
        let [built, fetched] = ["built-1.0", "fetched-1.0"].map(|name| scene.fixture(name, Compression::Xz));
        let own = scene.go.public_key().name().to_owned();
        scene.go.add(&built).forge(|narinfo| narinfo.signatures.retain(|signature| signature.key_name == own));
        scene.go.add(&fetched);
        scene.go.write().await;
        scene.import(&[]).says(0, &["imported: 2 paths"]);
        scene.serve().await;
        let cli = Cli::at(UNDER_TEST, &scene.ncps.socket());
        let listed = cli.json(&["paths", "list", "--uploaded"]).await;
        let paths: Vec<_> = listed.as_array().expect("a list").iter().map(|row| row["path"].as_str()).collect();
        assert_eq!(paths, [Some(built.store_path().absolute().as_str())]);
        let why = async |fixture: &Fixture| cli.ok(&["paths", "why", &fixture.hash_part()]).await;
        assert!(why(&built).await.contains("uploaded by a client"));
        assert!(!why(&fetched).await.contains("uploaded by a client"));
        scene.ncps.terminate().await;
    }

    async fn what_is_wrong_is_refused_and_never_served(mode) {
        let mut scene = Scene::new(mode, Era::Rows).await;
        let fixture = |name: &str| Fixture::new(name).size(50_000).compression(Compression::Xz).build(&scene.key);
        let bad = ["flipped", "short", "other", "forged", "moved", "unknown", "hostile"].map(fixture);
        let [flipped, short, other, forged, moved, unknown, hostile] = &bad;
        scene.go.add(flipped).damage(|bytes| bytes[10_000] ^= 1);
        scene.go.add(short).damage(|bytes| bytes.truncate(20_000));
        let swapped = forged.file.to_bytes().to_vec();
        scene.go.add(other).damage(|bytes| *bytes = swapped);
        scene.go.add(forged).forge(|narinfo| narinfo.nar_size += 1);
        scene.go.add(moved).forge(|narinfo| narinfo.references = vec![moved.store_path().clone()]);
        scene.go.add(unknown).forge(|narinfo| narinfo.signatures.clear());
        scene.go.add(hostile).forge(|narinfo| narinfo.url = "nar/../../../etc/passwd".to_owned());
        let good = scene.fixture("good-1.0", Compression::Xz);
        let url = scene.go.add(&good).url();
        scene.go.write().await;
        let ended = scene.import(&[]);
        ended.says(1, &["imported: 1 paths, 1 NAR files", "refused: 7", "another NAR", "no signature"]);
        for fixture in &bad {
            assert!(ended.err.contains(&format!("{} refused", fixture.hash_part())), "{}", ended.err);
        }
        assert_eq!(scene.ncps.files("store/nar").len(), 1);
        scene.serve().await;
        scene.serves(&good, &url).await;
        for fixture in &bad {
            for path in [fixture.narinfo_path(), fixture.canonical_nar_path()] {
                assert_ne!(scene.ncps.fetch(&path).await.0, 200, "{path}");
            }
        }
    }
}

/// The data path is the original's, and its database is where the flags say that ours is.
async fn in_place(era: Era) -> (Scene, Vec<(Fixture, String)>) {
    let mut scene = Scene::new(Mode::Combined, era).await;
    scene.old = scene.ncps.edge_data();
    scene.go = GoNcps::new(&scene.old, era);
    scene.flags[1] = format!("--cache-database-url=sqlite:{}", scene.go.database().display());
    scene.ncps = scene.ncps.control_flag(&scene.flags[1]);
    let good = scene.add_good_ones();
    let bad = scene.fixture("bad-1.0", Compression::Xz);
    scene.go.add(&bad).damage(|bytes| bytes[4_000] ^= 1);
    scene.go.write().await;
    (scene, good)
}

async fn is_taken_over(era: Era) {
    let (mut scene, good) = in_place(era).await;
    let database = scene.flags[1].trim_start_matches("--cache-database-url=").to_owned();
    let refused = Installation::of(Mode::Combined, UNDER_TEST, &scene._upstream, &scene.key);
    let command = refused.control_command(&scene.ncps.edge_data());
    let mut process = refused.spawn(&command);
    assert_eq!(process.exit().await.code(), Some(2));
    let said = process.lines().join(" ");
    let names = format!("ncps import --in-place --cache-data-path={}", scene.ncps.edge_data().display());
    assert!(said.contains(&names), "it says what to do: {said}");

    scene.import(&["--in-place"]).says(1, &["imported: 6 paths, 6 NAR files", "refused: 1"]);
    let data = scene.ncps.edge_data();
    for gone in ["store/narinfo", "config", "store/tmp"] {
        assert!(!data.join(gone).exists(), "{gone}");
    }
    let database = PathBuf::from(database.trim_start_matches("sqlite:"));
    assert!(database.with_file_name("db.sqlite.go-ncps").exists(), "its database is kept");
    let left: Vec<_> = tree(&data.join("go-ncps/store/nar")).into_keys().collect();
    assert_eq!(left.len(), 1, "what was refused is kept: {left:?}");
    let files = tree(&data.join("store/nar"));
    assert!(files.len() == 6 && files.keys().all(|path| path.parent() == Some(&*data.join("store/nar"))));
    for path in files.keys() {
        let metadata = path.metadata().expect("there");
        assert_eq!((metadata.nlink(), metadata.mode() & 0o777), (1, 0o644), "{}", path.display());
    }

    scene.serve().await;
    assert_eq!(scene.ncps.public_key().await, scene.go.public_key());
    for (fixture, url) in &good {
        scene.serves(fixture, url).await;
    }
    scene.import(&["--in-place"]).says(2, &["is locked by"]);
    scene.ncps.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_layout_is_taken_over_in_place() {
    is_taken_over(Era::Files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_layout_is_taken_over_in_place() {
    is_taken_over(Era::Rows).await;
}

/// Steps of an import.
const POINTS: [Point; 5] =
    [Point::NarSealed, Point::NarRenamed, Point::NarStored, Point::RowsWritten, Point::NarinfoStored];

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_is_gone_on_with() {
    for point in POINTS {
        let mut scene = Scene::new(Mode::Combined, Era::Rows).await;
        let good = scene.add_good_ones();
        scene.go.write().await;
        let before = tree(&scene.old);
        let killed = scene.import_with(&[], &[(FAULT, &point.name())]);
        assert_eq!(killed.code, None, "{point:?} was passed: {}", killed.err);
        assert_eq!(tree(&scene.old), before, "{point:?}");
        scene.import(&[]).says(0, &["refused: 0"]);
        assert!(scene.ncps.files("spool").is_empty(), "{point:?}");
        is_served(&mut scene, &good).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_in_place_loses_nothing() {
    for (point, era) in POINTS.into_iter().zip([Era::Rows, Era::Files].into_iter().cycle()) {
        let (mut scene, good) = in_place(era).await;
        let contents = |scene: &Scene| -> Vec<Sha256Hash> {
            let mut all: Vec<_> =
                tree(&scene.old.join("store/nar")).into_values().map(|(hash, ..)| hash).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let before = contents(&scene);
        let killed = scene.import_with(&["--in-place"], &[(FAULT, &point.name())]);
        assert_eq!(killed.code, None, "{point:?} was passed: {}", killed.err);
        assert_eq!(contents(&scene), before, "{point:?}");
        scene.import(&["--in-place"]).says(1, &["refused: 1"]);
        is_served(&mut scene, &good).await;
    }
}

async fn is_served(scene: &mut Scene, good: &[(Fixture, String)]) {
    scene.serve().await;
    for (fixture, url) in good {
        scene.serves(fixture, url).await;
    }
    eventually("an empty spool", async || scene.ncps.files("spool").is_empty()).await;
    scene.ncps.terminate().await;
}

/// More than can be done before a signal comes.
const MANY: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_told_to_stop_says_so_and_is_gone_on_with() {
    let mut scene = Scene::new(Mode::Combined, Era::Rows).await;
    let all: Vec<_> = (0..MANY)
        .map(|n| {
            let fixture = Fixture::new(&format!("many-{n}")).seed(n).size(20_000);
            let fixture = fixture.compression(Compression::Xz).build(&scene.key);
            let url = scene.go.add(&fixture).url();
            (fixture, url)
        })
        .collect();
    scene.go.write().await;
    let before = tree(&scene.old);
    let command = [&["ncps".to_owned(), "import".to_owned()], &scene.all_flags(&[])[..]].concat();
    let mut running = Process::spawn(Path::new(UNDER_TEST), &command, &[]);
    running.line_with("import: ").await;
    running.signal(Signal::TERM);
    assert_eq!(running.exit().await.code(), Some(1), "{:?}", running.lines());
    let said = running.lines().join("\n");
    assert!(said.contains("stopped before the end") && said.contains("goes on from there"), "{said}");
    let done = said.split_once("imported: ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    let done: u64 = done.expect("a number of paths");
    assert!((1..MANY).contains(&done), "{said}");
    let left = format!("imported: {} paths", MANY - done);
    scene.import(&[]).says(0, &[&left, &format!("already there: {done}"), "refused: 0"]);
    assert_eq!(tree(&scene.old), before);
    is_served(&mut scene, &all[..2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_the_databases_log_is_imported_and_left_there() {
    let mut scene = Scene::new(Mode::Combined, Era::Rows).await;
    let good = scene.add_good_ones();
    scene.go.killed();
    scene.go.write().await;
    assert!(std::fs::metadata(scene.go.log()).expect("there").len() > 0);
    let alone = SqliteConnectOptions::new().filename(scene.go.database()).read_only(true).immutable(true);
    let mut alone = alone.connect().await.expect("opened");
    let paths: i64 =
        sqlx::query_scalar("SELECT count(*) FROM narinfos").fetch_one(&mut alone).await.expect("read");
    assert_eq!(paths, 0, "the log has all of them");
    alone.close().await.expect("closed");
    let before = tree(&scene.old);
    scene.import(&["--dry-run"]).says(0, &["6 paths"]);
    scene.import(&[]).says(0, &["imported: 6 paths, 6 NAR files", "refused: 0"]);
    assert_eq!(tree(&scene.old), before, "nothing is made or changed beside it");
    is_served(&mut scene, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_linked_where_they_can_be() {
    let mut scene = Scene::new(Mode::Combined, Era::Rows).await;
    scene.add_good_ones();
    scene.go.write().await;
    let inodes = |root: &Path| -> Vec<u64> {
        let mut inodes: Vec<_> = tree(root).into_values().map(|(_, inode, ..)| inode).collect();
        inodes.sort_unstable();
        inodes
    };
    let theirs = inodes(&scene.old.join("store/nar"));
    scene.import(&["--link"]).says(0, &["6 NAR files"]);
    assert_eq!(inodes(&scene.ncps.edge_data().join("store/nar")), theirs);
    std::fs::remove_dir_all(scene.ncps.edge_data()).expect("removed");
    scene.import(&["--copy"]).says(0, &["6 NAR files"]);
    let ours = inodes(&scene.ncps.edge_data().join("store/nar"));
    assert!(ours.len() == 6 && ours.iter().all(|inode| !theirs.contains(inode)));

    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let device = |path: &Path| path.metadata().expect("there").dev();
    if device(elsewhere.path()) == device(&scene.old) {
        return;
    }
    scene.flags[0] = format!("--cache-data-path={}", elsewhere.path().join("data").display());
    scene.flags[1] = format!("--cache-database-url=sqlite:{}/db/db.sqlite", elsewhere.path().display());
    scene.import(&["--link"]).says(1, &["link", "goes on from there"]);
    scene.import(&[]).says(0, &["6 NAR files"]);
    assert_eq!(inodes(&elsewhere.path().join("data/store/nar")).len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn accesses_are_taken_over() {
    let mut scene = Scene::new(Mode::Combined, Era::Files).await;
    let fixture = scene.fixture("read-1.0", Compression::Xz);
    scene.go.add(&fixture).read_at("2020-09-13 12:26:40");
    scene.go.write().await;
    scene.import(&[]).says(0, &["imported: 1 paths"]);
    let database = scene.ncps.control_data().join("db/db.sqlite");
    let mut db = SqliteConnectOptions::new().filename(database).connect().await.expect("opened");
    for sql in ["SELECT last_access FROM nar_files", "SELECT served_at FROM narinfos"] {
        let at: i64 = sqlx::query_scalar(sql).fetch_one(&mut db).await.expect("a row");
        assert_eq!(at, 1_600_000_000, "{sql}");
    }
    db.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_ours_is_not_overwritten() {
    let mut scene = Scene::new(Mode::Combined, Era::Rows).await;
    let good = scene.add_good_ones();
    scene.go.write().await;
    let (data, own) = (scene.ncps.edge_data(), UpstreamKey::new("ours"));
    std::fs::create_dir_all(&data).expect("room");
    let text = own.secret().to_text();
    std::fs::write(data.join("secret.key"), text.as_bytes()).expect("room");
    scene.import(&[]).says(2, &["secret.key holds the key ours:", "move it away"]);
    assert_eq!(std::fs::read(data.join("secret.key")).expect("there"), text.as_bytes());
    std::fs::remove_file(data.join("secret.key")).expect("moved away");
    scene.import(&[]).says(0, &["imported: 6 paths", &format!("signing key: {}", scene.go.public_key())]);
    is_served(&mut scene, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_explained() {
    let mut scene = Scene::new(Mode::Combined, Era::Rows).await;
    scene.add_good_ones();
    scene.go.write().await;
    let old = format!("--from={}", scene.old.display());
    import(&scene.flags, &[]).says(2, &["--from: has to name the directory"]);
    scene.import(&["--link", "--copy"]).says(2, &["--copy: can't be given with --link"]);
    scene.import(&["--in-place", &old]).says(2, &["--in-place: takes over the data path"]);
    scene.import(&["--in-place"]).says(2, &["is no data path of the Go ncps"]);
    scene.import(&["--from=/does/not/exist"]).says(2, &["/does/not/exist"]);
    let empty = tempfile::tempdir().expect("a directory");
    scene
        .import(&[&format!("--from={}", empty.path().display())])
        .says(2, &["neither a data path of the Go ncps"]);
    let other = empty.path().join("other.sqlite");
    std::fs::write(&other, "text").expect("room");
    let database = format!("--database=sqlite:{}", other.display());
    scene.import(&[&database]).says(2, &["is no database of the Go ncps"]);
    assert!(!scene.ncps.edge_data().exists(), "nothing is made");
}
