-- What happened, in the order of `id`. Rows with an actor are the audit log, which is kept; the others are history,
-- bounded in number and age.
CREATE TABLE journal (
    id              INTEGER PRIMARY KEY NOT NULL,
    at              INTEGER NOT NULL,
    kind            TEXT    NOT NULL,
    actor           TEXT,
    store_path_hash BLOB    CHECK (store_path_hash IS NULL OR length(store_path_hash) = 20),
    nar_file        TEXT,
    detail          TEXT    NOT NULL
) STRICT;

-- What happened to a path, and to a NAR file?
CREATE INDEX journal_by_path ON journal (store_path_hash, id) WHERE store_path_hash IS NOT NULL;
CREATE INDEX journal_by_nar_file ON journal (nar_file, id) WHERE nar_file IS NOT NULL;
-- Who changed what?
CREATE INDEX journal_audit ON journal (id) WHERE actor IS NOT NULL;
-- What is old enough to go?
CREATE INDEX journal_history ON journal (at) WHERE actor IS NULL;

-- How many there are and how many bytes they have: kept by the triggers below, so that nobody has to count. For
-- narinfos the sizes of their NARs; for NAR files their own.
CREATE TABLE sums (
    what   TEXT    PRIMARY KEY NOT NULL,
    number INTEGER NOT NULL,
    bytes  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO sums (what, number, bytes) SELECT 'narinfos', COUNT(*), COALESCE(SUM(nar_size), 0) FROM narinfos;
INSERT INTO sums (what, number, bytes) SELECT 'nar_files', COUNT(*), COALESCE(SUM(file_size), 0) FROM nar_files;

CREATE TRIGGER narinfos_come AFTER INSERT ON narinfos BEGIN
    UPDATE sums SET number = number + 1, bytes = bytes + new.nar_size WHERE what = 'narinfos';
END;
CREATE TRIGGER narinfos_go AFTER DELETE ON narinfos BEGIN
    UPDATE sums SET number = number - 1, bytes = bytes - old.nar_size WHERE what = 'narinfos';
END;
CREATE TRIGGER narinfos_change AFTER UPDATE OF nar_size ON narinfos WHEN new.nar_size <> old.nar_size BEGIN
    UPDATE sums SET bytes = bytes + new.nar_size - old.nar_size WHERE what = 'narinfos';
END;
CREATE TRIGGER nar_files_come AFTER INSERT ON nar_files BEGIN
    UPDATE sums SET number = number + 1, bytes = bytes + COALESCE(new.file_size, 0) WHERE what = 'nar_files';
END;
CREATE TRIGGER nar_files_go AFTER DELETE ON nar_files BEGIN
    UPDATE sums SET number = number - 1, bytes = bytes - COALESCE(old.file_size, 0) WHERE what = 'nar_files';
END;
CREATE TRIGGER nar_files_change AFTER UPDATE OF file_size ON nar_files WHEN new.file_size IS NOT old.file_size BEGIN
    UPDATE sums SET bytes = bytes + COALESCE(new.file_size, 0) - COALESCE(old.file_size, 0)
    WHERE what = 'nar_files';
END;

-- What each edge counted, as it said itself: `value` since its process `run` began, `before` by its former ones. A
-- report that is repeated changes nothing, and a restart takes nothing away.
CREATE TABLE totals (
    instance TEXT    NOT NULL,
    counter  TEXT    NOT NULL,
    run      TEXT    NOT NULL,
    value    INTEGER NOT NULL,
    before   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (instance, counter)
) STRICT, WITHOUT ROWID;
