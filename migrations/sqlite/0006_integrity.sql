-- NAR files that an edge holds, that the index does not know, and that nothing vouches for. Removed after a week.
CREATE TABLE strays (
    instance    TEXT    NOT NULL,
    file_hash   BLOB    NOT NULL CHECK (length(file_hash) = 32),
    compression TEXT    NOT NULL,
    seen_at     INTEGER NOT NULL,
    PRIMARY KEY (instance, file_hash, compression)
) STRICT, WITHOUT ROWID;
