//! The tables that every warehouse has. Those of the outputs are made when the first bundle with them comes.

pub(super) const SCHEMA: &str = "
-- How far the linker's list was gone through.
CREATE TABLE progress (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL,
    -- The bundle by which retracted rows were deleted that may still be in free parts of these files; 0: none.
    erase_due INTEGER NOT NULL
) STRICT;
INSERT INTO progress VALUES (1, 0, 0);
-- The keys of sites, pinned by the operator.
CREATE TABLE site_key (
    id BLOB PRIMARY KEY,
    site TEXT NOT NULL,
    public BLOB NOT NULL,
    added_at_s INTEGER NOT NULL
) STRICT;
-- What was applied, each once.
CREATE TABLE bundle (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    site TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,
    module TEXT NOT NULL,
    module_version TEXT NOT NULL,
    purpose TEXT NOT NULL,
    period TEXT NOT NULL,
    snapshot_at_s INTEGER NOT NULL,
    applied_at_s INTEGER NOT NULL,
    -- Replaced by a later bundle of its site, module and period: its rows are gone.
    replaced INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX bundle_period ON bundle (site, module, period);
-- What could not be applied; tried again each time.
CREATE TABLE waiting (
    position INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    why TEXT NOT NULL,
    since_s INTEGER NOT NULL
) STRICT;
-- The table of each output, by module, name and columns.
CREATE TABLE output (
    number INTEGER PRIMARY KEY,
    module TEXT NOT NULL,
    name TEXT NOT NULL,
    columns TEXT NOT NULL,
    table_name TEXT NOT NULL UNIQUE,
    UNIQUE (module, name, columns)
) STRICT;
-- Patients of a bundle: whether a Type 2 objection holds. Link tokens by kind.
CREATE TABLE patient (
    bundle INTEGER NOT NULL REFERENCES bundle,
    token BLOB NOT NULL,
    type_2 INTEGER NOT NULL,
    PRIMARY KEY (bundle, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX patient_token ON patient (token);
CREATE TABLE link (
    bundle INTEGER NOT NULL REFERENCES bundle,
    token BLOB NOT NULL,
    kind TEXT NOT NULL,
    link BLOB NOT NULL,
    PRIMARY KEY (bundle, token, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX link_token ON link (token);
-- Whose rows stay out of a module, whichever site sends them, until the site that said so sends them again.
CREATE TABLE retracted (
    module TEXT NOT NULL,
    token BLOB NOT NULL,
    site TEXT NOT NULL,
    snapshot_at_s INTEGER NOT NULL,
    PRIMARY KEY (module, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX retracted_token ON retracted (token);
-- What a token of an earlier epoch has become: found by a keyed hash of the former token, and masked with another. So it can
-- be read with that token and the key, and joined with nothing.
CREATE TABLE renewed (
    former BLOB PRIMARY KEY,
    later BLOB NOT NULL
) STRICT, WITHOUT ROWID;
-- What is to be said of a retraction: after it was applied, after the log was emptied, after the linker took it.
CREATE TABLE statement (
    bundle INTEGER NOT NULL REFERENCES bundle,
    key TEXT NOT NULL,
    deleted_at_s INTEGER NOT NULL,
    signed BLOB,
    sent_at_s INTEGER,
    PRIMARY KEY (bundle, key)
) STRICT, WITHOUT ROWID;
-- Numbers for whoever watches: what a retraction deleted here, and how much of it other sites had sent.
CREATE TABLE retraction (
    bundle INTEGER PRIMARY KEY REFERENCES bundle,
    patients INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    rows_of_others INTEGER NOT NULL
) STRICT;
";
