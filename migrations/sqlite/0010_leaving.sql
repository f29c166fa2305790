-- Edges that are to leave the fleet, or were taken out of it and are not to come back with what they held.
CREATE TABLE leaving (
    instance TEXT    NOT NULL PRIMARY KEY,
    edge     TEXT    NOT NULL,
    removed  INTEGER NOT NULL CHECK (removed IN (0, 1)),
    since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
