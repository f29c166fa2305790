-- Roots whose closures are not evicted. A label may name several of them, and a path may have several labels;
-- the empty one is none.
CREATE TABLE pins (
    store_path_hash BLOB    NOT NULL CHECK (length(store_path_hash) = 20),
    label           TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    made_by         TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER,
    PRIMARY KEY (store_path_hash, label)
) STRICT, WITHOUT ROWID;

-- What was taken out of the index, and the files that it had: an edge that was away removes them when it is back.
CREATE TABLE removals (
    file_hash       BLOB    NOT NULL CHECK (length(file_hash) = 32),
    compression     TEXT    NOT NULL,
    store_path_hash BLOB    NOT NULL CHECK (length(store_path_hash) = 20),
    removed_at      INTEGER NOT NULL,
    PRIMARY KEY (file_hash, compression, store_path_hash)
) STRICT, WITHOUT ROWID;

-- What is published again was not removed.
CREATE INDEX removals_by_path ON removals (store_path_hash);

-- Names are forgotten after a while.
CREATE INDEX removals_by_time ON removals (removed_at);
