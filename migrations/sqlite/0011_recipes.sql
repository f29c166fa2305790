-- NAR files that were made of another one of their NAR, and how. Times are seconds since 1970.
ALTER TABLE nar_files ADD COLUMN recipe_source BLOB CHECK (recipe_source IS NULL OR length(recipe_source) = 32);
ALTER TABLE nar_files ADD COLUMN recipe_source_compression TEXT;
ALTER TABLE nar_files ADD COLUMN recipe_level INTEGER;
ALTER TABLE nar_files ADD COLUMN recipe_encoder TEXT;

-- From when on nobody needs to keep it, since narinfos name another file of its NAR.
ALTER TABLE nar_files ADD COLUMN drop_at INTEGER;
CREATE INDEX nar_files_to_drop ON nar_files (drop_at) WHERE drop_at IS NOT NULL;
