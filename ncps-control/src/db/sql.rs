//! Every statement that runs after the start. Each finds its rows by primary key or index: a test asks
//! SQLite for the plans.

pub(super) const NARINFO: &str = "SELECT name, nar_hash, nar_size, file_hash, compression, file_size, \
     store_refs, deriver, ca FROM narinfos WHERE store_path_hash = $1";
pub(super) const SIGNATURES: &str =
    "SELECT key_name, signature FROM signatures WHERE store_path_hash = $1 ORDER BY position";
pub(super) const NAMING: &str =
    "SELECT store_path_hash FROM narinfos WHERE file_hash = $1 AND compression = $2";
pub(super) const FILE: &str = "SELECT file_size, nar_hash, nar_size, proven, uploaded, \
     recipe_source, recipe_source_compression, recipe_level, recipe_encoder, drop_at \
     FROM nar_files WHERE file_hash = $1 AND compression = $2";
pub(super) const MET: &str = "SELECT last_access, file_size, proven, uploaded AND NOT EXISTS \
     (SELECT 1 FROM origins o WHERE o.file_hash = f.file_hash AND o.compression = f.compression) \
     FROM nar_files f WHERE file_hash = $1 AND compression = $2";
pub(super) const ORIGINS: &str = "SELECT upstream, url, origin_compression FROM origins \
     WHERE file_hash = $1 AND compression = $2 ORDER BY rank";
pub(super) const FILES_OF: &str = "SELECT file_hash, compression FROM nar_files WHERE nar_hash = $1";
pub(super) const ALIAS: &str =
    "SELECT true_file_hash, true_compression FROM aliases WHERE file_hash = $1 AND compression = $2";

pub(super) const PUT_FILE: &str = "INSERT INTO nar_files \
     (file_hash, compression, file_size, nar_hash, nar_size, proven, uploaded, created_at, last_access, \
     recipe_source, recipe_source_compression, recipe_level, recipe_encoder, drop_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11, $12, $13) \
     ON CONFLICT (file_hash, compression) DO UPDATE SET \
     file_size = excluded.file_size, nar_hash = excluded.nar_hash, nar_size = excluded.nar_size, \
     proven = excluded.proven, uploaded = excluded.uploaded, recipe_source = excluded.recipe_source, \
     recipe_source_compression = excluded.recipe_source_compression, recipe_level = excluded.recipe_level, \
     recipe_encoder = excluded.recipe_encoder, drop_at = excluded.drop_at";
pub(super) const TO_DROP: &str = "SELECT file_hash, compression FROM nar_files \
     WHERE drop_at <= $1 ORDER BY drop_at LIMIT $2";
pub(super) const DELETE_ORIGINS: &str = "DELETE FROM origins WHERE file_hash = $1 AND compression = $2";
pub(super) const PUT_ORIGIN: &str = "INSERT INTO origins \
     (file_hash, compression, rank, upstream, url, origin_compression) VALUES ($1, $2, $3, $4, $5, $6)";
pub(super) const PUT_ALIAS: &str = "INSERT INTO aliases \
     (file_hash, compression, true_file_hash, true_compression) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (file_hash, compression) DO UPDATE SET \
     true_file_hash = excluded.true_file_hash, true_compression = excluded.true_compression";
pub(super) const DELETE_ALIAS: &str = "DELETE FROM aliases WHERE file_hash = $1 AND compression = $2";
pub(super) const PUT_NARINFO: &str = "INSERT INTO narinfos (store_path_hash, name, nar_hash, nar_size, \
     file_hash, compression, file_size, store_refs, deriver, ca, created_at, served_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT (store_path_hash) DO UPDATE SET \
     name = excluded.name, nar_hash = excluded.nar_hash, nar_size = excluded.nar_size, \
     file_hash = excluded.file_hash, compression = excluded.compression, file_size = excluded.file_size, \
     store_refs = excluded.store_refs, deriver = excluded.deriver, ca = excluded.ca";
pub(super) const DELETE_SIGNATURES: &str = "DELETE FROM signatures WHERE store_path_hash = $1";
pub(super) const PUT_SIGNATURE: &str =
    "INSERT INTO signatures (store_path_hash, position, key_name, signature) VALUES ($1, $2, $3, $4)";
pub(super) const DELETE_NARINFO: &str = "DELETE FROM narinfos WHERE store_path_hash = $1";
/// Of a JSON array of [file hash in hexadecimal, compression, time]. One of values makes SQLite look through the table.
pub(super) const ACCESSED: &str = "UPDATE nar_files SET last_access = a.value ->> 2 FROM json_each($1) a \
     WHERE file_hash = unhex(a.value ->> 0) AND compression = a.value ->> 1";
/// The same of [store path hash in hexadecimal, time].
pub(super) const SERVED: &str = "UPDATE narinfos SET served_at = a.value ->> 1 FROM json_each($1) a \
     WHERE store_path_hash = unhex(a.value ->> 0)";

pub(super) const PUT_TOKEN: &str = "INSERT INTO tokens \
     (id, name, secret_hash, scopes, edges, created_at, expires_at, revoked_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
pub(super) const REVOKE_TOKEN: &str = "UPDATE tokens SET revoked_at = $2 WHERE id = $1";
pub(super) const DELETE_TOKEN: &str = "DELETE FROM tokens WHERE id = $1";

/// All of them, at the start: they are in memory from then on.
pub(super) const TOKENS: &str = "SELECT id, name, secret_hash, scopes, edges, created_at, expires_at, revoked_at \
     FROM tokens ORDER BY created_at, id";
pub(super) const STRAYS: &str = "SELECT file_hash, compression, seen_at FROM strays WHERE instance = $1";
pub(super) const PUT_STRAY: &str = "INSERT INTO strays (instance, file_hash, compression, seen_at) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (instance, file_hash, compression) DO NOTHING";
pub(super) const DELETE_STRAY: &str =
    "DELETE FROM strays WHERE instance = $1 AND file_hash = $2 AND compression = $3";

pub(super) const PUT_EVENT: &str = "INSERT INTO journal \
     (id, at, kind, actor, store_path_hash, nar_file, detail) VALUES ($1, $2, $3, $4, $5, $6, $7) \
     ON CONFLICT (id) DO NOTHING";
pub(super) const LAST_EVENTS: &str = "SELECT id, at, kind, actor, store_path_hash, nar_file, detail \
     FROM journal WHERE id > 0 ORDER BY id DESC LIMIT $1";
pub(super) const LAST_AUDIT: &str = "SELECT id, at, kind, actor, store_path_hash, nar_file, detail \
     FROM journal WHERE actor IS NOT NULL AND id > 0 ORDER BY id DESC LIMIT $1";
/// Among the last ones alone: others are not found by any index.
pub(super) const LAST_OF_KIND: &str = "SELECT id, at, kind, actor, store_path_hash, nar_file, detail \
     FROM journal WHERE id > (SELECT MAX(id) FROM journal) - 5000 AND id > 0 AND kind = $2 ORDER BY id DESC LIMIT $1";
pub(super) const LAST_BUT_KIND: &str = "SELECT id, at, kind, actor, store_path_hash, nar_file, detail \
     FROM journal WHERE id > (SELECT MAX(id) FROM journal) - 5000 AND id > 0 AND kind <> $2 ORDER BY id DESC LIMIT $1";
pub(super) const EVENTS_OF_PATH: &str = "SELECT id, at, kind, actor, store_path_hash, nar_file, detail \
     FROM journal WHERE store_path_hash = $1 ORDER BY id DESC LIMIT $2";
pub(super) const EVENTS_OF_NAR: &str = "SELECT id, at, kind, actor, store_path_hash, nar_file, detail \
     FROM journal WHERE nar_file = $1 ORDER BY id DESC LIMIT $2";
/// By the primary key: the index of what has no actor is in the order of time.
pub(super) const TRIM_NUMBER: &str = "DELETE FROM journal WHERE id <= $1 AND COALESCE(actor, '') = ''";
pub(super) const TRIM_AGE: &str = "DELETE FROM journal WHERE actor IS NULL AND at < $1";
pub(super) const PATHS: &str = "SELECT n.store_path_hash, n.name, n.nar_size, n.file_hash, n.compression, \
     n.file_size, n.created_at, f.last_access FROM narinfos n \
     JOIN nar_files f ON f.file_hash = n.file_hash AND f.compression = n.compression \
     WHERE n.store_path_hash > $1 ORDER BY n.store_path_hash LIMIT $2";
pub(super) const LISTED: &str = "SELECT n.store_path_hash, n.name, n.nar_size, n.file_hash, n.compression, \
     n.file_size, n.created_at, f.last_access FROM narinfos n \
     JOIN nar_files f ON f.file_hash = n.file_hash AND f.compression = n.compression \
     WHERE n.store_path_hash = $1";

/// From the uploads on, however many other paths there are. What an upstream has, too, is none.
pub(super) const UPLOADS: &str = "SELECT n.store_path_hash, n.name, n.nar_size, n.file_hash, n.compression, \
     n.file_size, n.created_at, f.last_access FROM uploaded_paths u CROSS JOIN narinfos n CROSS JOIN nar_files f \
     WHERE u.store_path_hash > $1 AND n.store_path_hash = u.store_path_hash \
     AND f.file_hash = n.file_hash AND f.compression = n.compression AND NOT EXISTS \
     (SELECT 1 FROM origins o WHERE o.file_hash = f.file_hash AND o.compression = f.compression) \
     ORDER BY u.store_path_hash LIMIT $2";
pub(super) const LEAVING: &str = "SELECT removed FROM leaving WHERE instance = $1";
pub(super) const PUT_LEAVING: &str = "INSERT INTO leaving (instance, edge, removed, since) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (instance) DO UPDATE SET removed = excluded.removed, since = excluded.since";
pub(super) const DELETE_LEAVING: &str = "DELETE FROM leaving WHERE instance = $1 AND removed = 0";

pub(super) const PUT_PIN: &str = "INSERT INTO pins \
     (store_path_hash, label, name, made_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6) \
     ON CONFLICT (store_path_hash, label) DO UPDATE SET \
     name = excluded.name, made_by = excluded.made_by, expires_at = excluded.expires_at";
pub(super) const DELETE_PIN: &str = "DELETE FROM pins WHERE store_path_hash = $1 AND label = $2";
/// The one that reads a whole table, once a start: pins are few.
pub(super) const PINS: &str =
    "SELECT store_path_hash, label, name, made_by, created_at, expires_at FROM pins";

/// Where no narinfo names it, not even one whose row is about to change.
pub(super) const DELETE_FILE: &str = "DELETE FROM nar_files WHERE file_hash = $1 AND compression = $2 \
     AND NOT EXISTS (SELECT 1 FROM narinfos n WHERE n.file_hash = $1 AND n.compression = $2)";
pub(super) const PUT_REMOVAL: &str = "INSERT INTO removals \
     (file_hash, compression, store_path_hash, removed_at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (file_hash, compression, store_path_hash) DO UPDATE SET removed_at = excluded.removed_at";
pub(super) const DELETE_REMOVALS: &str = "DELETE FROM removals WHERE store_path_hash = $1";
pub(super) const REMOVALS: &str =
    "SELECT store_path_hash FROM removals WHERE file_hash = $1 AND compression = $2";
pub(super) const ANY_REMOVAL: &str = "SELECT removed_at FROM removals WHERE removed_at > 0 LIMIT 1";
pub(super) const FORGET_REMOVALS: &str = "DELETE FROM removals WHERE removed_at < $1";

/// A page of all paths, with what their choice depends on.
pub(super) const USES: &str = "SELECT n.store_path_hash, n.name, n.file_hash, n.compression, n.served_at, \
     f.last_access FROM narinfos n JOIN nar_files f ON f.file_hash = n.file_hash AND f.compression = n.compression \
     WHERE n.store_path_hash > $1 ORDER BY n.store_path_hash LIMIT $2";
/// The same of one path.
pub(super) const USE: &str = "SELECT n.store_path_hash, n.name, n.file_hash, n.compression, n.served_at, \
     f.last_access FROM narinfos n JOIN nar_files f ON f.file_hash = n.file_hash AND f.compression = n.compression \
     WHERE n.store_path_hash = $1";
pub(super) const SUM: &str = "SELECT number, bytes FROM sums WHERE what = $1";
pub(super) const META: &str = "SELECT value FROM meta WHERE key = $1";
pub(super) const PUT_TOTAL: &str = "INSERT INTO totals (instance, counter, run, value, before) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (instance, counter) DO UPDATE SET \
     run = excluded.run, value = excluded.value, before = excluded.before";

pub(super) const PUT_EDGE: &str = "INSERT INTO edges \
     (name, instance, url, zone, durable, capacity, version, first_seen, last_seen) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO UPDATE SET \
     instance = excluded.instance, url = excluded.url, zone = excluded.zone, durable = excluded.durable, \
     capacity = excluded.capacity, version = excluded.version, first_seen = excluded.first_seen, \
     last_seen = excluded.last_seen";
pub(super) const DELETE_EDGE: &str = "DELETE FROM edges WHERE name = $1";

#[cfg(test)]
pub(super) const ALL: &[&str] = &[
    PUT_EDGE,
    DELETE_EDGE,
    STRAYS,
    PUT_STRAY,
    DELETE_STRAY,
    LEAVING,
    PUT_LEAVING,
    DELETE_LEAVING,
    NARINFO,
    SIGNATURES,
    NAMING,
    FILE,
    MET,
    ORIGINS,
    FILES_OF,
    ALIAS,
    PUT_FILE,
    TO_DROP,
    DELETE_ORIGINS,
    PUT_ORIGIN,
    PUT_ALIAS,
    DELETE_ALIAS,
    PUT_NARINFO,
    DELETE_SIGNATURES,
    PUT_SIGNATURE,
    DELETE_NARINFO,
    ACCESSED,
    SERVED,
    PUT_TOKEN,
    REVOKE_TOKEN,
    DELETE_TOKEN,
    PUT_EVENT,
    LAST_EVENTS,
    LAST_AUDIT,
    LAST_OF_KIND,
    LAST_BUT_KIND,
    EVENTS_OF_PATH,
    EVENTS_OF_NAR,
    TRIM_NUMBER,
    TRIM_AGE,
    PATHS,
    LISTED,
    UPLOADS,
    PUT_PIN,
    DELETE_PIN,
    DELETE_FILE,
    PUT_REMOVAL,
    DELETE_REMOVALS,
    REMOVALS,
    ANY_REMOVAL,
    FORGET_REMOVALS,
    USES,
    USE,
    SUM,
    META,
    PUT_TOTAL,
];
