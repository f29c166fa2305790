-- Tokens: who knows the secret may do what. The secret itself is kept nowhere. Those that were revoked stay a while,
-- so that lists and the audit log can say whose they were.
CREATE TABLE tokens (
    id          TEXT    PRIMARY KEY NOT NULL,
    name        TEXT    NOT NULL,
    secret_hash BLOB    NOT NULL UNIQUE CHECK (length(secret_hash) = 32), -- sha256
    scopes      TEXT    NOT NULL, -- names, separated by single spaces
    edges       TEXT    NOT NULL, -- names, separated by line feeds; none: everywhere
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER
) STRICT, WITHOUT ROWID;

-- A name is one token's, until that is revoked.
CREATE UNIQUE INDEX tokens_by_name ON tokens (name) WHERE revoked_at IS NULL;
