-- A client brought the file. Without an origin nobody can give it again: it goes last, and its narinfos with it.
ALTER TABLE nar_files ADD COLUMN uploaded INTEGER NOT NULL DEFAULT 0;
