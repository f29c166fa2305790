-- The paths whose NAR file a client brought, kept by the triggers below, so that lists of them need not look through
-- all paths. Whether an upstream has the file, too, is asked of its origins.
CREATE TABLE uploaded_paths (
    store_path_hash BLOB PRIMARY KEY NOT NULL,
    FOREIGN KEY (store_path_hash) REFERENCES narinfos (store_path_hash) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

INSERT INTO uploaded_paths (store_path_hash)
SELECT n.store_path_hash FROM nar_files f
JOIN narinfos n ON n.file_hash = f.file_hash AND n.compression = f.compression
WHERE f.uploaded = 1;

CREATE TRIGGER narinfos_come_uploaded AFTER INSERT ON narinfos BEGIN
    INSERT INTO uploaded_paths (store_path_hash)
    SELECT new.store_path_hash FROM nar_files f
    WHERE f.file_hash = new.file_hash AND f.compression = new.compression AND f.uploaded = 1;
END;
CREATE TRIGGER narinfos_get_another_file AFTER UPDATE OF file_hash, compression ON narinfos
WHEN new.file_hash <> old.file_hash OR new.compression <> old.compression BEGIN
    DELETE FROM uploaded_paths WHERE store_path_hash = new.store_path_hash;
    INSERT INTO uploaded_paths (store_path_hash)
    SELECT new.store_path_hash FROM nar_files f
    WHERE f.file_hash = new.file_hash AND f.compression = new.compression AND f.uploaded = 1;
END;
CREATE TRIGGER nar_files_are_uploaded AFTER UPDATE OF uploaded ON nar_files WHEN new.uploaded <> old.uploaded BEGIN
    DELETE FROM uploaded_paths WHERE store_path_hash IN (
        SELECT n.store_path_hash FROM narinfos n
        WHERE n.file_hash = new.file_hash AND n.compression = new.compression);
    INSERT INTO uploaded_paths (store_path_hash)
    SELECT n.store_path_hash FROM narinfos n
    WHERE new.uploaded = 1 AND n.file_hash = new.file_hash AND n.compression = new.compression;
END;
