-- Edges by their names, as they were when they were attached last. Names unseen for 7 days are forgotten.
CREATE TABLE edges (
    name       TEXT    PRIMARY KEY NOT NULL,
    instance   TEXT    NOT NULL, -- random, made with the edge's data
    url        TEXT,             -- how peers reach it
    zone       TEXT,
    durable    INTEGER NOT NULL,
    capacity   INTEGER,          -- bytes, where it has a limit of its own
    version    TEXT    NOT NULL, -- of its release
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
