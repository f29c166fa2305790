//! A data directory in the layout of the Go original, of three generations of its schema. Its files and rows are
//! what that program leaves behind; nothing of it runs.

use std::path::{Path, PathBuf};

use ncps_nix::{Compression, NarInfo, PublicKey};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use crate::{Fixture, UpstreamKey, encode};

/// Which version wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// 0.4: narinfos and the key are files; `nars` belong to one narinfo each.
    Files,
    /// 0.6: narinfos are files, the key is a row; `nar_files` are shared.
    SharedNars,
    /// 0.9: narinfos are rows.
    Rows,
}

/// The directory.
#[derive(Debug)]
pub struct GoNcps {
    root: PathBuf,
    era: Era,
    key: UpstreamKey,
    entries: Vec<GoEntry>,
    is_killed: bool,
}

/// A path in it. By default everything is as it should be.
#[derive(Debug)]
pub struct GoEntry {
    narinfo: NarInfo,
    /// Name and content of its NAR on disk.
    file: Option<(String, Vec<u8>)>,
    chunks: u32,
    last_access: &'static str,
}

impl GoEntry {
    /// The NAR lies in pieces alone.
    pub fn chunked(&mut self) -> &mut Self {
        self.file = None;
        self.chunks = 3;
        self
    }

    /// Its NAR is gone.
    pub fn without_nar(&mut self) -> &mut Self {
        self.file = None;
        self
    }

    /// Changes the NAR on disk.
    pub fn damage(&mut self, how: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        how(&mut self.file.as_mut().expect("it has a file").1);
        self
    }

    /// Changes the narinfo after it was signed.
    pub fn forge(&mut self, how: impl FnOnce(&mut NarInfo)) -> &mut Self {
        how(&mut self.narinfo);
        self
    }

    /// When it was read, as `YYYY-MM-DD HH:MM:SS`, in UTC.
    pub const fn read_at(&mut self, time: &'static str) -> &mut Self {
        self.last_access = time;
        self
    }

    /// The URL that it hands out.
    pub fn url(&self) -> String {
        format!("/{}", self.narinfo.url)
    }
}

impl GoNcps {
    /// An empty one below `root`, with a key of its own.
    pub fn new(root: &Path, era: Era) -> Self {
        Self {
            root: root.to_owned(),
            era,
            key: UpstreamKey::new("go.test"),
            entries: Vec::new(),
            is_killed: false,
        }
    }

    /// It is killed in the end: what it knows of paths is in the write-ahead log beside its database alone.
    pub const fn killed(&mut self) {
        self.is_killed = true;
    }

    /// That log.
    pub fn log(&self) -> PathBuf {
        self.database().with_file_name("db.sqlite-wal")
    }

    /// What its clients trust.
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// Its key.
    pub const fn key(&self) -> &UpstreamKey {
        &self.key
    }

    /// Where its database is.
    pub fn database(&self) -> PathBuf {
        self.root.join("var/ncps/db/db.sqlite")
    }

    /// Adds what it makes of an upstream's path: signed, and an uncompressed NAR compressed.
    pub fn add(&mut self, fixture: &Fixture) -> &mut GoEntry {
        let mut fixture = fixture.signed(&self.key);
        let url = fixture.narinfo.url.clone();
        let (mut name, mut bytes) = (file_of(&url), fixture.file.to_bytes().to_vec());
        if fixture.narinfo.compression == Compression::None {
            bytes = encode(Compression::Zstd, &bytes);
            name += ".zst";
            fixture.narinfo.file_hash = None;
            fixture.narinfo.url = format!("{url}?hash={}", fixture.hash_part());
            if self.era == Era::Files {
                fixture.narinfo.compression = Compression::Zstd;
                fixture.narinfo.url = format!("nar/{name}?hash={}", fixture.hash_part());
            }
        }
        self.entries.push(GoEntry {
            narinfo: fixture.narinfo,
            file: Some((name, bytes)),
            chunks: 0,
            last_access: "2025-01-02 03:04:05",
        });
        self.entries.last_mut().expect("it was pushed")
    }

    /// Writes everything.
    ///
    /// # Panics
    /// If there is no room.
    pub async fn write(&self) {
        for folder in ["config", "store/narinfo", "store/nar", "store/tmp"] {
            std::fs::create_dir_all(self.root.join(folder)).expect("room");
        }
        for entry in &self.entries {
            if let Some((name, bytes)) = &entry.file {
                self.put("store/nar", name, bytes);
            }
            if self.era != Era::Rows {
                let file = format!("{}.narinfo", entry.narinfo.store_path.hash());
                self.put("store/narinfo", &file, entry.narinfo.render().as_bytes());
            }
        }
        if self.era == Era::Files {
            let key = self.key.secret().to_text();
            std::fs::write(self.root.join("config/cache.key"), key.as_bytes()).expect("room");
        }
        if self.era == Era::Rows {
            std::fs::remove_dir(self.root.join("store/narinfo")).expect("it is empty");
        }
        self.write_database().await;
    }

    fn put(&self, folder: &str, file: &str, bytes: &[u8]) {
        let folder = self.root.join(folder).join(&file[..1]).join(&file[..2]);
        std::fs::create_dir_all(&folder).expect("room");
        std::fs::write(folder.join(file), bytes).expect("room");
    }

    async fn write_database(&self) {
        let path = self.database();
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("room");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut db = options.connect().await.expect("made");
        let schema = [
            SCHEMA,
            match self.era {
                Era::Files => NARS,
                Era::SharedNars => SHARED_NARS,
                Era::Rows => ROWS,
            },
        ];
        for sql in schema {
            sqlx::raw_sql(sql).execute(&mut db).await.expect("a schema");
        }
        if self.era != Era::Files {
            let key = self.key.secret().to_text();
            let sql = "INSERT INTO config (key, value) VALUES ('cluster_uuid', 'x'), ('secret_key', $1)";
            sqlx::query(sql).bind(key.as_str()).execute(&mut db).await.expect("a row");
        }
        if self.is_killed {
            let log = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;";
            sqlx::raw_sql(log).execute(&mut db).await.expect("it keeps a log");
        }
        run(&mut db, "BEGIN".to_owned()).await;
        for (id, entry) in (1..).zip(&self.entries) {
            self.insert(&mut db, id, entry).await;
        }
        run(&mut db, "COMMIT".to_owned()).await;
        let files = if self.is_killed { vec![path, self.log()] } else { Vec::new() };
        let left = files.into_iter().map(|file| (std::fs::read(&file).expect("there"), file));
        let left: Vec<_> = left.collect();
        // A connection that is closed leaves no log.
        db.close().await.expect("closed");
        left.into_iter().for_each(|(bytes, file)| std::fs::write(file, bytes).expect("room"));
    }

    async fn insert(&self, db: &mut SqliteConnection, id: i64, entry: &GoEntry) {
        let narinfo = &entry.narinfo;
        let hash = narinfo.store_path.hash();
        let at = entry.last_access;
        // The driver of the original writes times like this.
        let row = format!("({id}, '{hash}', '{at}.123456789+00:00')");
        run(db, format!("INSERT INTO narinfos (id, hash, last_accessed_at) VALUES {row}")).await;
        let file = file_of(&narinfo.url);
        let nar_hash = file.split('.').next().unwrap_or_default();
        let (compression, size) = (narinfo.compression, narinfo.file_size.unwrap_or(1));
        match self.era {
            Era::Files => {
                let row = format!("({id}, '{nar_hash}', '{compression}', {size})");
                let columns = "narinfo_id, hash, compression, file_size";
                return run(db, format!("INSERT INTO nars ({columns}) VALUES {row}")).await;
            }
            Era::SharedNars => {
                let row = format!("('{nar_hash}', '{compression}', {size})");
                let columns = "hash, compression, file_size";
                run(db, format!("INSERT OR IGNORE INTO nar_files ({columns}) VALUES {row}")).await;
            }
            Era::Rows => {
                let row = format!("('{nar_hash}', '{compression}', {size}, {})", entry.chunks);
                let columns = "hash, compression, file_size, total_chunks";
                run(db, format!("INSERT OR IGNORE INTO nar_files ({columns}) VALUES {row}")).await;
                self.insert_narinfo(db, id, narinfo).await;
            }
        }
        let shared = format!("SELECT {id}, id FROM nar_files WHERE hash = '{nar_hash}'");
        run(db, format!("INSERT INTO narinfo_nar_files {shared}")).await;
    }

    async fn insert_narinfo(&self, db: &mut SqliteConnection, id: i64, narinfo: &NarInfo) {
        let text = |text: Option<String>| text.map_or("NULL".to_owned(), |text| format!("'{text}'"));
        let columns = [
            ("store_path", text(Some(narinfo.store_path.absolute()))),
            ("url", text(Some(narinfo.url.clone()))),
            ("compression", text(Some(narinfo.compression.to_string()))),
            ("file_hash", text(narinfo.file_hash.map(|hash| hash.to_string()))),
            ("file_size", narinfo.file_size.map_or("NULL".to_owned(), |size| size.to_string())),
            ("nar_hash", text(Some(narinfo.nar_hash.to_string()))),
            ("nar_size", narinfo.nar_size.to_string()),
            ("deriver", text(narinfo.deriver.as_ref().map(ToString::to_string))),
            ("ca", text(narinfo.ca.as_ref().map(ToString::to_string))),
        ];
        let set = columns.map(|(column, value)| format!("{column} = {value}")).join(", ");
        run(db, format!("UPDATE narinfos SET {set} WHERE id = {id}")).await;
        for reference in &narinfo.references {
            run(db, format!("INSERT INTO narinfo_references VALUES ({id}, '{reference}')")).await;
        }
        for signature in &narinfo.signatures {
            run(db, format!("INSERT INTO narinfo_signatures VALUES ({id}, '{signature}')")).await;
        }
    }
}

async fn run(db: &mut SqliteConnection, sql: String) {
    sqlx::query(AssertSqlSafe(sql)).execute(db).await.expect("a row");
}

fn file_of(url: &str) -> String {
    let path = url.split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// All generations.
const SCHEMA: &str = "
    CREATE TABLE schema_migrations (version varchar(128) PRIMARY KEY);
    CREATE TABLE narinfos (
        id INTEGER PRIMARY KEY AUTOINCREMENT, hash TEXT NOT NULL UNIQUE,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL, updated_at TIMESTAMP,
        last_accessed_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);";

const NARS: &str = "
    CREATE TABLE nars (
        id INTEGER PRIMARY KEY AUTOINCREMENT, narinfo_id INTEGER NOT NULL REFERENCES narinfos (id),
        hash TEXT NOT NULL UNIQUE, compression TEXT NOT NULL DEFAULT '', file_size INTEGER NOT NULL,
        query TEXT NOT NULL DEFAULT '', last_accessed_at TIMESTAMP);";

const SHARED_NARS: &str = "
    CREATE TABLE config (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
    CREATE TABLE nar_files (
        id INTEGER PRIMARY KEY AUTOINCREMENT, hash TEXT NOT NULL UNIQUE, compression TEXT NOT NULL DEFAULT '',
        file_size INTEGER NOT NULL, query TEXT NOT NULL DEFAULT '', last_accessed_at TIMESTAMP);
    CREATE TABLE narinfo_nar_files (
        narinfo_id INTEGER NOT NULL, nar_file_id INTEGER NOT NULL, PRIMARY KEY (narinfo_id, nar_file_id));";

const ROWS: &str = "
    ALTER TABLE narinfos ADD COLUMN store_path TEXT;
    ALTER TABLE narinfos ADD COLUMN url TEXT;
    ALTER TABLE narinfos ADD COLUMN compression TEXT;
    ALTER TABLE narinfos ADD COLUMN file_hash TEXT;
    ALTER TABLE narinfos ADD COLUMN file_size BIGINT;
    ALTER TABLE narinfos ADD COLUMN nar_hash TEXT;
    ALTER TABLE narinfos ADD COLUMN nar_size BIGINT;
    ALTER TABLE narinfos ADD COLUMN deriver TEXT;
    ALTER TABLE narinfos ADD COLUMN system TEXT;
    ALTER TABLE narinfos ADD COLUMN ca TEXT;
    CREATE TABLE narinfo_references (narinfo_id BIGINT NOT NULL, reference TEXT NOT NULL);
    CREATE TABLE narinfo_signatures (narinfo_id BIGINT NOT NULL, signature TEXT NOT NULL);
    CREATE TABLE config (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
    CREATE TABLE nar_files (
        id INTEGER PRIMARY KEY AUTOINCREMENT, hash TEXT NOT NULL, compression TEXT NOT NULL DEFAULT '',
        file_size INTEGER NOT NULL, query TEXT NOT NULL DEFAULT '', last_accessed_at TIMESTAMP,
        total_chunks BIGINT NOT NULL DEFAULT 0, UNIQUE (hash, compression, query));
    CREATE TABLE narinfo_nar_files (
        narinfo_id INTEGER NOT NULL, nar_file_id INTEGER NOT NULL, PRIMARY KEY (narinfo_id, nar_file_id));";
