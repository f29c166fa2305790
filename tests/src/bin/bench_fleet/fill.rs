//! The rows of all paths, as if edges had published and committed them: by SQL, since what is measured is not how long
//! that takes. Signatures are noise of the right length: control verifies narinfos when they come, and never again.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, QueryBuilder, Sqlite, SqliteConnection};

use crate::world::{FILE_SIZE, World, bytes, nar};

/// Rows in one statement; SQLite takes 32,766 values at once.
const ROWS: usize = 1000;
const NAR_SIZE: i64 = 200_000;
const UPSTREAM: &str = "https://cache.nixos.org";

pub(crate) async fn fill(database: &Path, world: &World) {
    let options = SqliteConnectOptions::new().filename(database).synchronous(SqliteSynchronous::Off);
    let mut db = options.disable_statement_logging().connect().await.expect("control's database");
    sqlx::query("PRAGMA cache_size = -1000000").execute(&mut db).await.expect("more memory");
    // In the order of keys, as B-trees like it.
    let numbers = || (0..world.size.paths).collect::<Vec<_>>();
    let (mut by_path, mut by_file) = (numbers(), numbers());
    by_path.sort_unstable_by_key(|n| world.path(*n));
    by_file.sort_unstable_by_key(|n| world.file(*n));
    sqlx::query("BEGIN").execute(&mut db).await.expect("a transaction");
    for some in by_file.chunks(ROWS) {
        files(&mut db, world, some).await;
        origins(&mut db, world, some).await;
    }
    for some in by_path.chunks(ROWS) {
        narinfos(&mut db, world, some).await;
        signatures(&mut db, world, some).await;
    }
    sqlx::query("COMMIT").execute(&mut db).await.expect("a commit");
    db.close().await.expect("an end");
}

type Values<'a> = QueryBuilder<Sqlite>;

async fn put(db: &mut SqliteConnection, mut query: Values<'_>) {
    query.build().execute(db).await.expect("rows that fit the schema");
}

async fn files(db: &mut SqliteConnection, world: &World, numbers: &[usize]) {
    let mut query: Values<'_> = QueryBuilder::new(
        "INSERT INTO nar_files (file_hash, compression, file_size, nar_hash, nar_size, proven, created_at, last_access) ",
    );
    query.push_values(numbers, |mut row, n| {
        row.push_bind(world.file(*n).hash.0.as_bytes().to_vec())
            .push_bind("xz")
            .push_bind(FILE_SIZE as i64)
            .push_bind(nar(*n).0.as_bytes().to_vec())
            .push_bind(NAR_SIZE)
            .push_bind(1_i64)
            .push_bind(1_i64)
            .push_bind(1_i64);
    });
    put(db, query).await;
}

async fn origins(db: &mut SqliteConnection, world: &World, numbers: &[usize]) {
    let mut query: Values<'_> = QueryBuilder::new(
        "INSERT INTO origins (file_hash, compression, rank, upstream, url, origin_compression) ",
    );
    query.push_values(numbers, |mut row, n| {
        let name = world.file(*n);
        row.push_bind(name.hash.0.as_bytes().to_vec())
            .push_bind("xz")
            .push_bind(0_i64)
            .push_bind(UPSTREAM)
            .push_bind(format!("{UPSTREAM}/{}", name.url()))
            .push_bind("xz");
    });
    put(db, query).await;
}

async fn narinfos(db: &mut SqliteConnection, world: &World, numbers: &[usize]) {
    let mut query: Values<'_> = QueryBuilder::new(
        "INSERT INTO narinfos (store_path_hash, name, nar_hash, nar_size, file_hash, compression, file_size, store_refs, \
         deriver, created_at, served_at) ",
    );
    query.push_values(numbers, |mut row, n| {
        let references: Vec<String> =
            (1..=6).map(|next| base_name(world, (n + next) % world.size.paths)).collect();
        row.push_bind(world.path(*n).as_bytes().to_vec())
            .push_bind(name(*n))
            .push_bind(nar(*n).0.as_bytes().to_vec())
            .push_bind(NAR_SIZE)
            .push_bind(world.file(*n).hash.0.as_bytes().to_vec())
            .push_bind("xz")
            .push_bind(FILE_SIZE as i64)
            .push_bind(references.join(" "))
            .push_bind(format!("{}.drv", base_name(world, *n)))
            .push_bind(1_i64)
            .push_bind(1_i64);
    });
    put(db, query).await;
}

async fn signatures(db: &mut SqliteConnection, world: &World, numbers: &[usize]) {
    let mut query: Values<'_> =
        QueryBuilder::new("INSERT INTO signatures (store_path_hash, position, key_name, signature) ");
    let both = numbers.iter().flat_map(|n| [(*n, 0_i64, "cache.nixos.org-1"), (*n, 1, "bench-1")]);
    query.push_values(both, |mut row, (n, position, key)| {
        row.push_bind(world.path(n).as_bytes().to_vec())
            .push_bind(position)
            .push_bind(key)
            .push_bind(bytes::<64>(b's', n).to_vec());
    });
    put(db, query).await;
}

fn name(n: usize) -> String {
    format!("package-{n}-1.0")
}

fn base_name(world: &World, n: usize) -> String {
    format!("{}-{}", world.path(n), name(n))
}
