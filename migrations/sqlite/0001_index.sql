-- The index, by use. Hashes are bytes, times are seconds since 1970, sizes are bytes.
-- A NAR file is named by (file_hash, compression) everywhere: the hash alone does not tell a representation.

-- What holds for the database as a whole. `index_id` is made with the database and tells it from any other.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The representations of NARs. What they decode to is a claim of some narinfo until `proven` is 1.
CREATE TABLE nar_files (
    file_hash   BLOB    NOT NULL CHECK (length(file_hash) = 32),
    compression TEXT    NOT NULL,
    file_size   INTEGER,
    nar_hash    BLOB    CHECK (nar_hash IS NULL OR length(nar_hash) = 32),
    nar_size    INTEGER,
    proven      INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    last_access INTEGER NOT NULL,
    PRIMARY KEY (file_hash, compression)
) STRICT, WITHOUT ROWID;

-- Which other representations of a NAR are there?
CREATE INDEX nar_files_by_nar_hash ON nar_files (nar_hash);

-- Where a NAR file can be fetched again, best (lowest rank) first.
CREATE TABLE origins (
    file_hash          BLOB    NOT NULL,
    compression        TEXT    NOT NULL,
    rank               INTEGER NOT NULL,
    upstream           TEXT    NOT NULL,
    url                TEXT    NOT NULL,
    origin_compression TEXT    NOT NULL,
    PRIMARY KEY (file_hash, compression, rank),
    FOREIGN KEY (file_hash, compression) REFERENCES nar_files (file_hash, compression) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Names that turned out wrong, and the file that is meant.
CREATE TABLE aliases (
    file_hash        BLOB NOT NULL CHECK (length(file_hash) = 32),
    compression      TEXT NOT NULL,
    true_file_hash   BLOB NOT NULL CHECK (length(true_file_hash) = 32),
    true_compression TEXT NOT NULL,
    PRIMARY KEY (file_hash, compression)
) STRICT, WITHOUT ROWID;

-- Narinfos as they are served. `store_refs` are base names, separated by single spaces.
CREATE TABLE narinfos (
    store_path_hash BLOB    PRIMARY KEY NOT NULL CHECK (length(store_path_hash) = 20),
    name            TEXT    NOT NULL,
    nar_hash        BLOB    NOT NULL CHECK (length(nar_hash) = 32),
    nar_size        INTEGER NOT NULL,
    file_hash       BLOB    NOT NULL,
    compression     TEXT    NOT NULL,
    file_size       INTEGER,
    store_refs      TEXT    NOT NULL,
    deriver         TEXT,
    ca              TEXT,
    created_at      INTEGER NOT NULL,
    served_at       INTEGER NOT NULL,
    FOREIGN KEY (file_hash, compression) REFERENCES nar_files (file_hash, compression)
) STRICT;

-- Which narinfos name a NAR file?
CREATE INDEX narinfos_by_nar_file ON narinfos (file_hash, compression);

-- The signatures of a narinfo, in the order in which they are served.
CREATE TABLE signatures (
    store_path_hash BLOB    NOT NULL,
    position        INTEGER NOT NULL,
    key_name        TEXT    NOT NULL,
    signature       BLOB    NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (store_path_hash, position),
    FOREIGN KEY (store_path_hash) REFERENCES narinfos (store_path_hash) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
