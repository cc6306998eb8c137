//! What the linker knows: sites, tokens, keys, bundles, incidents; in SQLite.
//!
//! One struct, so that PostgreSQL can take its place when one machine is no longer enough: nothing outside of this module
//! knows SQL. The calls block; the service makes them on threads for blocking work.
//!
//! Why rusqlite and not sqlx: the agent reads clinical databases with rusqlite 0.41, and a workspace can link only one
//! `libsqlite3-sys`; sqlx is bound to an older one, so both cannot be in one lock file.

mod bundles;
mod recipients;
mod sites;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockgate_signing::digest::Digest;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

pub use self::bundles::{Acceptance, BundleRow, Incident, SiteRow, Wanted};
pub use self::recipients::{Accepted, RecipientRow};
pub use self::sites::{Enrolment, KeyRow};

/// How long a command waits for another process that writes.
const BUSY: Duration = Duration::from_secs(10);
/// The version of [`SCHEMA`], in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 2;

const SCHEMA: &str = "
CREATE TABLE site (
    site TEXT PRIMARY KEY,
    added_at_s INTEGER NOT NULL,
    revoked_at_s INTEGER
) STRICT;
CREATE TABLE token (
    secret_digest BLOB PRIMARY KEY,
    site TEXT NOT NULL REFERENCES site,
    expires_at_s INTEGER NOT NULL,
    used_by BLOB,
    used_at_s INTEGER
) STRICT;
CREATE TABLE site_key (
    id BLOB PRIMARY KEY,
    site TEXT NOT NULL REFERENCES site,
    public BLOB NOT NULL,
    enrolled_at_s INTEGER NOT NULL,
    revoked_at_s INTEGER
) STRICT;
CREATE INDEX site_key_site ON site_key (site);
-- A row without `accepted_at_s` is pending: its header was verified, and it waits for blocks.
CREATE TABLE bundle (
    id BLOB PRIMARY KEY,
    site TEXT NOT NULL REFERENCES site,
    sequence INTEGER NOT NULL,
    previous BLOB,
    key BLOB NOT NULL REFERENCES site_key,
    module TEXT NOT NULL,
    module_version TEXT NOT NULL,
    period TEXT NOT NULL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    received_at_s INTEGER NOT NULL,
    accepted_at_s INTEGER,
    receipt BLOB,
    supersedes BLOB,
    superseded_by BLOB,
    kind TEXT NOT NULL,
    -- Its place among all that was accepted, in the order of the commits: what recipients go by.
    position INTEGER UNIQUE,
    UNIQUE (site, sequence),
    CHECK ((accepted_at_s IS NULL) = (receipt IS NULL)),
    CHECK ((accepted_at_s IS NULL) = (position IS NULL))
) STRICT;
CREATE UNIQUE INDEX bundle_previous ON bundle (site, previous) WHERE previous IS NOT NULL;
CREATE INDEX bundle_supersedes ON bundle (supersedes) WHERE supersedes IS NOT NULL;
CREATE TABLE bundle_block (
    bundle BLOB NOT NULL REFERENCES bundle,
    position INTEGER NOT NULL,
    digest BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (bundle, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX bundle_block_digest ON bundle_block (digest);
-- Who may collect, and says that it has deleted.
CREATE TABLE recipient (
    key BLOB PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    public BLOB NOT NULL,
    added_at_s INTEGER NOT NULL,
    revoked_at_s INTEGER
) STRICT;
-- Signed statements on retractions, for the sites that asked.
CREATE TABLE deletion (
    bundle BLOB NOT NULL REFERENCES bundle,
    key BLOB NOT NULL REFERENCES recipient,
    statement BLOB NOT NULL,
    received_at_s INTEGER NOT NULL,
    PRIMARY KEY (bundle, key)
) STRICT, WITHOUT ROWID;
-- What an operator should look at.
CREATE TABLE incident (
    id INTEGER PRIMARY KEY,
    at_s INTEGER NOT NULL,
    site TEXT NOT NULL,
    code TEXT NOT NULL,
    bundle BLOB NOT NULL,
    UNIQUE (site, code, bundle)
) STRICT;
";

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No database there.
    #[error("{} is not there; run `lockgate-linker init` first", .0.display())]
    Missing(PathBuf),
    /// Made by another version.
    #[error(
        "the database has schema {found}, this program needs {SCHEMA_VERSION}; use the version that made it"
    )]
    Schema {
        /// What it has.
        found: i64,
    },
    /// SQLite refuses.
    #[error("the database fails: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row that this program did not write.
    #[error("the database holds a damaged {0}; restore it from a backup")]
    Damaged(&'static str),
    /// A command names what is not there.
    #[error("{0}")]
    NotFound(String),
}

impl DatabaseError {
    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }
}

type Result<T> = std::result::Result<T, DatabaseError>;

/// The database: one connection that writes, one that reads without waiting for it (WAL).
#[derive(Debug)]
pub struct Database {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
}

impl Database {
    /// Makes a new database.
    pub fn create(path: &Path) -> Result<()> {
        let connection = Connection::open(path)?;
        prepare(&connection)?;
        connection.execute_batch(&format!("BEGIN;{SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"))?;
        Ok(())
    }

    /// Opens a database that [`Database::create`] made.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(DatabaseError::Missing(path.to_owned()));
        }
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            prepare(&connection)?;
            Ok::<_, DatabaseError>(connection)
        };
        let (writer, reader) = (open()?, open()?);
        let found = writer.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found != SCHEMA_VERSION {
            return Err(DatabaseError::Schema { found });
        }
        reader.pragma_update(None, "query_only", true)?;
        Ok(Self { writer: Mutex::new(writer), reader: Mutex::new(reader) })
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        // A panic between two statements leaves nothing behind: what was not committed is rolled back.
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one transaction; it takes the write lock at once, so that what it reads holds until it commits.
    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }
}

/// WAL with `synchronous = FULL`: a commit has returned only when it is on stable storage.
fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn digest(bytes: [u8; 32]) -> Digest {
    Digest::from_bytes(bytes)
}

/// A number of the format as SQLite's signed one. The format's own limits keep all of them far below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
