//! A database that is being made: under a temporary name until it is whole, then renamed. A draft that is dropped
//! leaves no file behind.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::error::PracticeError;

/// How the finished database keeps its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// One file.
    Rollback,
    /// Write-ahead log. The last rows of each table, objections among them, are only in the `-wal` file beside the
    /// database, as they are while a clinical system runs: a reader that ignores it misses them.
    Wal,
}

/// How to finish a database.
#[derive(Debug, Clone, Copy)]
pub struct Finish {
    /// The journal.
    pub journal: Journal,
    /// Writes the same rows in another physical order.
    pub shuffle: Option<u64>,
}

/// Rows of each table that a [`Journal::Wal`] database has in its log only.
const WAL_ROWS: u32 = 200;

/// A database that is being made.
#[derive(Debug)]
pub struct Draft {
    /// `Some` until it is finished or dropped.
    connection: Option<Connection>,
    temporary: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// Starts one, with its tables.
    pub fn create(target: &Path, replace: bool, tables: &str) -> Result<Self, PracticeError> {
        if target.exists() && !replace {
            let why = format!("{} is there already; add --replace to replace it", target.display());
            return Err(PracticeError::argument("--out", why));
        }
        let Some(name) = target.file_name() else {
            return Err(PracticeError::argument("--out", format!("{} is not a file name", target.display())));
        };
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}.tmp", std::process::id()));
        let temporary = target.with_file_name(temporary_name);
        remove(&temporary)?;
        // SQLite's own error for a missing folder names neither the folder nor the reason.
        fs::File::create_new(&temporary).map_err(PracticeError::file(target))?;
        let draft = Self { connection: Some(open(&temporary)?), temporary, target: target.to_owned() };
        draft.connection().execute_batch(tables)?;
        draft.connection().execute_batch("BEGIN")?;
        Ok(draft)
    }

    /// The database, in one transaction from beginning to end.
    pub fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("taken only by finish, which consumes the draft, and by drop")
    }

    /// Writes the indexes, and puts the database where it belongs.
    pub fn finish(mut self, indexes: &str, finish: Finish) -> Result<(), PracticeError> {
        self.connection().execute_batch("COMMIT")?;
        if let Some(seed) = finish.shuffle {
            self.shuffle(seed)?;
        }
        self.connection().execute_batch(indexes)?;
        // What a planner knows of the tables is part of a real database, and small.
        self.connection().execute_batch("PRAGMA analysis_limit = 1000; ANALYZE")?;
        if finish.journal == Journal::Wal {
            move_last_rows_to_the_log(self.connection())?;
        }
        self.connection = None;
        remove(&beside(&self.target, "-wal"))?;
        remove(&beside(&self.target, "-shm"))?;
        if finish.journal == Journal::Wal {
            remove(&beside(&self.temporary, "-shm"))?;
            rename(&beside(&self.temporary, "-wal"), &beside(&self.target, "-wal"))?;
        }
        rename(&self.temporary, &self.target)
    }

    /// Copies every table into a second file in another order, which takes the place of the first.
    fn shuffle(&mut self, seed: u64) -> Result<(), PracticeError> {
        // The draft is locked by its own connection; closed, the copy can read it.
        self.connection = None;
        let copy = beside(&self.temporary, ".shuffled");
        remove(&copy)?;
        copy_in_another_order(&self.temporary, &copy, seed)?;
        rename(&copy, &self.temporary)?;
        self.connection = Some(open(&self.temporary)?);
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.connection = None;
        for suffix in ["", "-wal", "-shm", ".shuffled"] {
            // Nothing better can be done about a file that cannot be removed, and the first error is the one to show.
            let _ = fs::remove_file(beside(&self.temporary, suffix));
        }
    }
}

fn open(path: &Path) -> Result<Connection, PracticeError> {
    let connection = Connection::open(path)?;
    // No journal and no fsync: a draft that is interrupted is thrown away.
    connection.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA cache_size = -32768; PRAGMA temp_store = FILE;",
    )?;
    Ok(connection)
}

fn copy_in_another_order(whole: &Path, copy: &Path, seed: u64) -> Result<(), PracticeError> {
    let connection = open(copy)?;
    connection.execute("ATTACH ?1 AS whole", [whole.to_string_lossy()])?;
    let tables = connection
        .prepare("SELECT name, sql FROM whole.sqlite_schema WHERE type = 'table' ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(String, String)>, _>>()?;
    // An odd 32-bit factor: the product with a row number stays within 63 bits.
    let factor = (crate::people::mix(seed, 1) >> 32) | 1;
    connection.execute_batch("BEGIN")?;
    for (name, sql) in tables {
        connection.execute_batch(&sql)?;
        connection.execute_batch(&format!(
            "INSERT INTO main.{name} SELECT * FROM whole.{name} ORDER BY rowid * {factor} % 4294967291, rowid"
        ))?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}

fn move_last_rows_to_the_log(connection: &Connection) -> Result<(), PracticeError> {
    let tables = connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    for name in &tables {
        connection.execute_batch(&format!(
            "CREATE TEMP TABLE held_{name} AS SELECT * FROM main.{name}
                 WHERE rowid > (SELECT max(rowid) FROM main.{name}) - {WAL_ROWS} ORDER BY rowid;
             DELETE FROM main.{name} WHERE rowid > (SELECT max(rowid) FROM main.{name}) - {WAL_ROWS};"
        ))?;
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch(
        "PRAGMA locking_mode = NORMAL; PRAGMA journal_mode = DELETE; PRAGMA journal_mode = WAL;
         PRAGMA wal_autocheckpoint = 0; BEGIN",
    )?;
    for name in &tables {
        connection.execute_batch(&format!("INSERT INTO main.{name} SELECT * FROM temp.held_{name}"))?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn rename(from: &Path, to: &Path) -> Result<(), PracticeError> {
    fs::rename(from, to).map_err(PracticeError::file(to))
}

fn remove(path: &Path) -> Result<(), PracticeError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(PracticeError::file(path)(error)),
        _ => Ok(()),
    }
}
