//! What goes wrong with the database, at opening and later. Every message names the file or the row; the
//! ones of opening also say what to do.

use std::path::PathBuf;

/// A database that can't be used. It was left as it was found.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The Go original's.
    #[error(
        "{0} is a database of the Go ncps and was left untouched: take it over where it is with `ncps import --in-place` \
         and the same flags, or choose another --cache-database-url and import what it lists with \
         `ncps import --from=ITS-DATA-PATH --database=sqlite:{0}`"
    )]
    GoOriginal(PathBuf),
    /// Some other program's.
    #[error(
        "{0} is a database of another program and was left untouched: choose another --cache-database-url, or \
         move the file away"
    )]
    Foreign(PathBuf),
    /// Written by a later version of this program.
    #[error(
        "{path} was written by a newer ncps (schema {found}, this one knows {known}) and was left untouched: run \
         that version again, or choose another --cache-database-url"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// No SQLite database, or one that can't be read.
    #[error(
        "{path} is no usable SQLite database ({reason}) and was left untouched: restore it from a backup, or move \
         it away (the index is built anew as paths are asked for)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file system.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// SQLite, while opening or migrating.
    #[error("{action} {path}")]
    Sqlite {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A read or a write that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DbError {
    /// SQLite: busy, full, I/O.
    #[error("{0}")]
    Sqlite(&'static str, #[source] sqlx::Error),
    /// The same of a lookup.
    #[error("{0}")]
    Lookup(&'static str, #[source] rusqlite::Error),
    /// More lookups wait than may, or the process is stopping.
    #[error("{0}")]
    Turned(&'static str),
    /// A row holds what the program never writes.
    #[error("table {table}, column {column}, row {key}: {reason}")]
    BadRow { table: &'static str, column: &'static str, key: String, reason: String },
}

impl From<DbError> for ncps_proto::Error {
    fn from(error: DbError) -> Self {
        let code = match &error {
            DbError::Sqlite(..) | DbError::Lookup(..) => ncps_proto::Code::Unavailable,
            DbError::Turned(_) => ncps_proto::Code::Overloaded,
            DbError::BadRow { .. } => ncps_proto::Code::Internal,
        };
        ncps_proto::Error::new(code, "the index can't be read").because(error)
    }
}
