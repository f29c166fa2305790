//! Rows into domain types. A value that the program never writes is an error that names table, column and
//! row, never a default.

use std::fmt::Display;

use ncps_nix::{
    Compression, ContentAddress, FileHash, NarFileName, NarHash, NarInfo, Sha256Hash, Signature, StorePath,
    StorePathHash,
};
use ncps_proto::{NarFacts, Origin, Recipe};
use ncps_runtime::clock::UnixTime;

use super::DbError;
use crate::record::{NarFile, PathUse};

type Result<T> = std::result::Result<T, DbError>;
/// The table, and the key of the row in text.
pub(super) type At = (&'static str, String);

/// name, nar_hash, nar_size, file_hash, compression, file_size, store_refs, deriver, ca
#[derive(Debug)]
pub(super) struct NarInfoRow {
    name: String,
    nar_hash: Vec<u8>,
    nar_size: i64,
    file_hash: Vec<u8>,
    compression: String,
    file_size: Option<i64>,
    references: String,
    deriver: Option<String>,
    ca: Option<String>,
}

/// Reads columns in the order of the struct's fields: the macros of sqlx, which would do this, are not built.
macro_rules! row {
    ($row:ident { $($field:ident),+ $(,)? }) => {
        impl<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> for $row {
            fn from_row(row: &'r sqlx::sqlite::SqliteRow) -> std::result::Result<Self, sqlx::Error> {
                let mut column = 0..;
                Ok($row { $($field: sqlx::Row::try_get(row, column.next().unwrap_or(0_usize))?),+ })
            }
        }
    };
}

pub(super) use row;

/// The same of rows that lookups read.
macro_rules! looked_up {
    ($row:ident { $($field:ident),+ $(,)? }) => {
        impl $row {
            pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
                let mut column = 0..;
                Ok($row { $($field: row.get(column.next().unwrap_or(0_usize))?),+ })
            }
        }
    };
}

looked_up!(NarInfoRow {
    name,
    nar_hash,
    nar_size,
    file_hash,
    compression,
    file_size,
    references,
    deriver,
    ca
});

/// file_size, nar_hash, nar_size, proven, uploaded, recipe_source, recipe_source_compression, recipe_level,
/// recipe_encoder, drop_at
#[derive(Debug)]
pub(super) struct FileRow {
    file_size: Option<i64>,
    nar_hash: Option<Vec<u8>>,
    nar_size: Option<i64>,
    proven: i64,
    uploaded: i64,
    recipe_source: Option<Vec<u8>>,
    recipe_source_compression: Option<String>,
    recipe_level: Option<i32>,
    recipe_encoder: Option<String>,
    drop_at: Option<i64>,
}

looked_up!(FileRow {
    file_size,
    nar_hash,
    nar_size,
    proven,
    uploaded,
    recipe_source,
    recipe_source_compression,
    recipe_level,
    recipe_encoder,
    drop_at
});

/// upstream, url, origin_compression
#[derive(Debug)]
pub(super) struct OriginRow {
    upstream: String,
    url: String,
    compression: String,
}

looked_up!(OriginRow { upstream, url, compression });

/// key_name, signature
#[derive(Debug)]
pub(super) struct SignatureRow {
    key_name: String,
    signature: Vec<u8>,
}

looked_up!(SignatureRow { key_name, signature });

/// store_path_hash, label, name, made_by, created_at, expires_at
#[derive(Debug)]
pub(super) struct PinRow {
    pub(super) store_path_hash: Vec<u8>,
    pub(super) label: String,
    pub(super) name: String,
    pub(super) made_by: String,
    pub(super) created_at: i64,
    pub(super) expires_at: Option<i64>,
}

row!(PinRow { store_path_hash, label, name, made_by, created_at, expires_at });

/// store_path_hash, name, file_hash, compression, served_at, last_access
#[derive(Debug)]
pub(super) struct UseRow {
    store_path_hash: Vec<u8>,
    name: String,
    file_hash: Vec<u8>,
    compression: String,
    served_at: i64,
    last_access: i64,
}

row!(UseRow { store_path_hash, name, file_hash, compression, served_at, last_access });

impl UseRow {
    pub(super) fn into_use(self) -> Result<PathUse> {
        let hash = store_path_hash(&self.store_path_hash)?;
        let at = ("narinfos", hash.to_string());
        Ok(PathUse {
            path: StorePath::new(hash, &self.name).map_err(|e| bad(&at, "name", e))?,
            file: file_name(&at, &self.file_hash, &self.compression)?,
            last_use: UnixTime(self.served_at.max(self.last_access)),
        })
    }
}

impl NarInfoRow {
    pub(super) fn into_narinfo(self, hash: StorePathHash, signatures: Vec<SignatureRow>) -> Result<NarInfo> {
        let at = ("narinfos", hash.to_string());
        let file = file_name(&at, &self.file_hash, &self.compression)?;
        Ok(NarInfo {
            store_path: StorePath::new(hash, &self.name).map_err(|e| bad(&at, "name", e))?,
            url: file.url(),
            compression: file.compression,
            file_hash: Some(file.hash),
            file_size: self.file_size.map(|size| unsigned(&at, "file_size", size)).transpose()?,
            nar_hash: NarHash(sha256(&at, "nar_hash", &self.nar_hash)?),
            nar_size: unsigned(&at, "nar_size", self.nar_size)?,
            references: store_paths(&at, "store_refs", &self.references)?,
            deriver: store_paths(&at, "deriver", self.deriver.as_deref().unwrap_or(""))?.pop(),
            signatures: signatures.into_iter().map(|row| row.into_signature(hash)).collect::<Result<_>>()?,
            ca: self.ca.map(|ca| ContentAddress::parse(&ca)).transpose().map_err(|e| bad(&at, "ca", e))?,
        })
    }
}

impl SignatureRow {
    fn into_signature(self, hash: StorePathHash) -> Result<Signature> {
        let at = ("signatures", hash.to_string());
        let bytes = fixed(&at, "signature", &self.signature)?;
        Ok(Signature { key_name: self.key_name, bytes })
    }
}

impl FileRow {
    pub(super) fn into_file(self, name: NarFileName, origins: Vec<OriginRow>) -> Result<NarFile> {
        let at = ("nar_files", name.to_string());
        let nar = match (self.nar_hash, self.nar_size) {
            (Some(hash), Some(size)) => Some(NarFacts {
                hash: NarHash(sha256(&at, "nar_hash", &hash)?),
                size: unsigned(&at, "nar_size", size)?,
            }),
            (None, None) => None,
            _ => return Err(bad(&at, "nar_size", "NAR hash and size must come together")),
        };
        let of = (self.recipe_source, self.recipe_source_compression);
        let recipe = match (of, self.recipe_level, self.recipe_encoder) {
            ((Some(hash), Some(compression)), Some(level), Some(encoder)) => {
                Some(Recipe { source: file_name(&at, &hash, &compression)?, level, encoder })
            }
            ((None, None), None, None) => None,
            _ => return Err(bad(&at, "recipe_source", "a recipe must come whole")),
        };
        Ok(NarFile {
            file_size: self.file_size.map(|size| unsigned(&at, "file_size", size)).transpose()?,
            nar,
            proven: self.proven != 0,
            uploaded: self.uploaded != 0,
            origins: origins.into_iter().map(|row| row.into_origin(name)).collect::<Result<_>>()?,
            drop_at: self.drop_at.map(UnixTime),
            recipe,
        })
    }
}

impl OriginRow {
    fn into_origin(self, name: NarFileName) -> Result<Origin> {
        let at = ("origins", name.to_string());
        let compression = compression(&at, &self.compression)?;
        Ok(Origin { upstream: self.upstream, url: self.url, compression })
    }
}

pub(super) fn file_hash(name: &NarFileName) -> &[u8] {
    name.hash.0.as_bytes().as_slice()
}

pub(super) fn file_name(at: &At, hash: &[u8], name: &str) -> Result<NarFileName> {
    let hash = FileHash(sha256(at, "file_hash", hash)?);
    Ok(NarFileName { hash, compression: compression(at, name)? })
}

pub(super) fn store_path_hash(bytes: &[u8]) -> Result<StorePathHash> {
    let at = ("narinfos", data_encoding::HEXLOWER.encode(bytes));
    fixed(&at, "store_path_hash", bytes).map(StorePathHash::from_bytes)
}

fn compression(at: &At, name: &str) -> Result<Compression> {
    Compression::from_name(name).ok_or_else(|| bad(at, "compression", "no compression of ours"))
}

pub(super) fn sha256(at: &At, column: &'static str, bytes: &[u8]) -> Result<Sha256Hash> {
    fixed(at, column, bytes).map(Sha256Hash::from_bytes)
}

fn fixed<const N: usize>(at: &At, column: &'static str, bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| bad(at, column, format!("{} bytes, expected {N}", bytes.len())))
}

pub(super) fn unsigned(at: &At, column: &'static str, number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| bad(at, column, "negative"))
}

fn store_paths(at: &At, column: &'static str, text: &str) -> Result<Vec<StorePath>> {
    let names = text.split(' ').filter(|name| !name.is_empty());
    names.map(|name| StorePath::parse(name).map_err(|e| bad(at, column, e))).collect()
}

pub(super) fn bad((table, key): &At, column: &'static str, reason: impl Display) -> DbError {
    DbError::BadRow { table, column, key: key.clone(), reason: reason.to_string() }
}
