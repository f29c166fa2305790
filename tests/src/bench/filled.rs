//! The rows of [`paths`](super::paths), as if edges had published and committed them: by SQL, since what is measured is
//! not how long that takes.

use std::path::Path;

use ncps_nix::NarInfo;
use rusqlite::{Connection, Result, Transaction, params};

use super::paths::{self, UPSTREAM};

/// As SQLite has numbers.
const FILE_SIZE: i64 = paths::FILE_SIZE as i64;
const NAR_SIZE: i64 = paths::NAR_SIZE as i64;

/// How often the whole grows by an equal part, in the order of keys. Pages of B-trees split and are as full as where paths
/// come one by one, which would take hours.
pub const GROWTH: usize = 20;

/// Of memory, in KiB: what is written to at random should fit.
const MEMORY: usize = 2 << 20;

/// Puts the rows of the first `count` paths into a database of control that has none. Not safe against a crash.
///
/// # Errors
/// Where the schema is another one, or the disk is full.
pub fn fill(database: &Path, count: usize) -> Result<()> {
    let mut db = Connection::open(database)?;
    for pragma in ["journal_mode = OFF", "synchronous = OFF", "foreign_keys = OFF"] {
        db.execute_batch(&format!("PRAGMA {pragma}"))?;
    }
    db.execute_batch(&format!("PRAGMA cache_size = -{MEMORY}"))?;
    let triggers = without_triggers(&db)?;
    for part in 0..GROWTH {
        let transaction = db.transaction()?;
        grow(&transaction, count, part)?;
        transaction.commit()?;
    }
    let count = count as i64;
    for (what, size) in [("narinfos", NAR_SIZE), ("nar_files", FILE_SIZE)] {
        let sum = params![count, count * size, what];
        db.execute("UPDATE sums SET number = ?1, bytes = ?2 WHERE what = ?3", sum)?;
    }
    db.execute_batch(&triggers)?;
    db.execute_batch("PRAGMA journal_mode = WAL")
}

/// Takes the triggers away, whose sums are known beforehand, and returns what makes them again.
fn without_triggers(db: &Connection) -> Result<String> {
    let mut query = db.prepare("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")?;
    let found = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found: Vec<(String, String)> = found.collect::<Result<_>>()?;
    for (name, _) in &found {
        db.execute_batch(&format!("DROP TRIGGER {name}"))?;
    }
    Ok(found.into_iter().map(|(_, sql)| format!("{sql};\n")).collect())
}

fn grow(db: &Transaction<'_>, count: usize, part: usize) -> Result<()> {
    let mut numbers: Vec<usize> = (part..count).step_by(GROWTH).collect();
    numbers.sort_unstable_by_key(|n| *paths::file(*n).hash.0.as_bytes());
    files(db, &numbers)?;
    origins(db, &numbers)?;
    numbers.sort_unstable_by_key(|n| *paths::hash(*n).as_bytes());
    narinfos(db, &numbers, count)?;
    signatures(db, &numbers, count)
}

fn files(db: &Transaction<'_>, numbers: &[usize]) -> Result<()> {
    let mut row = db.prepare(
        "INSERT INTO nar_files (file_hash, compression, file_size, nar_hash, nar_size, proven, created_at, last_access) \
         VALUES (?1, 'xz', ?2, ?3, ?4, 1, 1, 1)",
    )?;
    for n in numbers {
        let (file, nar) = (paths::file(*n), paths::nar(*n));
        row.execute(params![file.hash.0.as_bytes(), FILE_SIZE, nar.0.as_bytes(), NAR_SIZE])?;
    }
    Ok(())
}

fn origins(db: &Transaction<'_>, numbers: &[usize]) -> Result<()> {
    let mut row = db.prepare(
        "INSERT INTO origins (file_hash, compression, rank, upstream, url, origin_compression) \
         VALUES (?1, 'xz', 0, ?2, ?3, 'xz')",
    )?;
    for n in numbers {
        let file = paths::file(*n);
        row.execute(params![file.hash.0.as_bytes(), UPSTREAM, format!("{UPSTREAM}/{}", file.url())])?;
    }
    Ok(())
}

fn narinfos(db: &Transaction<'_>, numbers: &[usize], count: usize) -> Result<()> {
    let mut row = db.prepare(
        "INSERT INTO narinfos (store_path_hash, name, nar_hash, nar_size, file_hash, compression, file_size, \
         store_refs, deriver, created_at, served_at) VALUES (?1, ?2, ?3, ?4, ?5, 'xz', ?6, ?7, ?8, 1, 1)",
    )?;
    for n in numbers {
        let NarInfo { store_path, references, deriver, nar_hash, .. } = paths::narinfo(*n, count);
        let references: Vec<String> = references.iter().map(ToString::to_string).collect();
        row.execute(params![
            store_path.hash().as_bytes(),
            store_path.name(),
            nar_hash.0.as_bytes(),
            NAR_SIZE,
            paths::file(*n).hash.0.as_bytes(),
            FILE_SIZE,
            references.join(" "),
            deriver.map(|deriver| deriver.to_string()),
        ])?;
    }
    Ok(())
}

fn signatures(db: &Transaction<'_>, numbers: &[usize], count: usize) -> Result<()> {
    let mut row = db.prepare(
        "INSERT INTO signatures (store_path_hash, position, key_name, signature) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for n in numbers {
        for (position, signature) in (0_i64..).zip(paths::narinfo(*n, count).signatures) {
            let key = paths::hash(*n);
            row.execute(params![key.as_bytes(), position, signature.key_name, signature.bytes])?;
        }
    }
    Ok(())
}
