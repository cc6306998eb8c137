//! The store: what was applied, the rows, whose rows stay out, and what is still to be said. In SQLite, a table for each
//! output of a module, so that anybody who knows SQL can look.
//!
//! Nothing outside of this module knows SQL: other tables can take the place of these when a country is in them.
//!
//! Deleting is for real. SQLite overwrites what it deletes (`secure_delete`); but where it moves entries between pages, it leaves
//! copies in what is free of them. So after deletions the tables are written anew and the log is emptied
//! ([`Store::erase`]) before anybody is told. Memory: once the size of the tables while that lasts, so that no copy of them is
//! elsewhere on the disk.

mod apply;
mod renewed;
mod rows;
mod schema;
mod sites;
mod statements;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockgate_signing::digest::Digest;
use lockgate_signing::ids::BundleId;
use rusqlite::{Connection, ErrorCode, OpenFlags};

pub use self::apply::{Applied, Opened, Outcome};
pub use self::renewed::Renewals;
pub use self::rows::{OutputRows, TableRow};
pub use self::sites::{PinnedKey, SiteRow};
pub use self::statements::{DueStatement, RetractionRow, WaitingRow};

const BUSY: Duration = Duration::from_secs(10);
/// The version of [`schema::SCHEMA`], in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 2;

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No tables there.
    #[error("{} is not there; run `lockgate-warehouse init` first", .0.display())]
    Missing(PathBuf),
    /// Made by another version.
    #[error(
        "the tables have schema {found}, this program needs {SCHEMA_VERSION}; use the version that made them, or collect everything anew into an empty folder"
    )]
    Schema {
        /// What they have.
        found: i64,
    },
    /// SQLite refuses.
    #[error("the tables fail: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row that this program did not write.
    #[error("the tables hold a damaged {0}; restore them from a backup")]
    Damaged(&'static str),
    /// Somebody reads at this moment, so that the log cannot be emptied.
    #[error(
        "the log of the tables cannot be emptied while somebody reads; it is tried again, and nothing is stated before"
    )]
    NotErased,
    /// A command names what is not there.
    #[error("{0}")]
    NotFound(String),
}

impl StoreError {
    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }
}

type Result<T> = std::result::Result<T, StoreError>;

/// The store, open for one who writes.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Makes the tables.
    pub fn create(path: &Path) -> Result<()> {
        let connection = Connection::open(path)?;
        prepare(&connection)?;
        let schema = schema::SCHEMA;
        connection.execute_batch(&format!("BEGIN;{schema}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"))?;
        Ok(())
    }

    /// Opens tables that [`Store::create`] made.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(StoreError::Missing(path.to_owned()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        prepare(&connection)?;
        let found = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found != SCHEMA_VERSION {
            return Err(StoreError::Schema { found });
        }
        Ok(Self { connection })
    }

    /// Whether rows were deleted outside of a retraction, and not erased yet.
    pub fn is_erase_due(&self) -> Result<bool> {
        Ok(self.erase_due()? != 0)
    }

    fn erase_due(&self) -> Result<i64> {
        Ok(self.connection.query_row("SELECT erase_due FROM progress", [], |row| row.get(0))?)
    }

    /// Writes the tables anew and empties the log, so that what was deleted is in none of their files.
    pub fn erase(&self) -> Result<()> {
        let due = self.erase_due()?;
        self.connection.execute_batch("VACUUM")?;
        let busy: i64 = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy != 0 {
            return Err(StoreError::NotErased);
        }
        // What was deleted in the meantime is still due.
        self.connection.execute("UPDATE progress SET erase_due = 0 WHERE erase_due = ?1", [due])?;
        Ok(())
    }
}

/// WAL with `synchronous = FULL`: a commit has returned only when it is on stable storage. What is deleted is overwritten, and
/// nothing is sorted in files beside.
fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn bundle_id(bytes: [u8; 32]) -> BundleId {
    BundleId(Digest::from_bytes(bytes))
}

/// A number of the format as SQLite's signed one. The format's own limits keep all of them far below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A name of ours, quoted for SQL. Names are of a-z, 0-9, `-`, `/` and `#`.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
