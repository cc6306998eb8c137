//! Points at which a test may kill the process. Nothing at all without the `failpoints` feature.
//!
//! `FAILPOINTS="warehouse.committed=return" lockgate-warehouse collect …` dies there, as under `kill -9`: no destructor runs,
//! nothing is flushed.

/// A bundle was received whole and verified; nothing of it is stored.
pub const RECEIVED: &str = "warehouse.received";
/// Its rows are written and not committed.
pub const BEFORE_COMMIT: &str = "warehouse.before-commit";
/// It is committed. After a retraction: the rows are gone from the tables, and may be in the log of the database.
pub const COMMITTED: &str = "warehouse.committed";
/// What was deleted is gone from the disk, and nothing says so yet.
pub const ERASED: &str = "warehouse.erased";
/// The statement is signed and kept, and not sent.
pub const STATED: &str = "warehouse.stated";
/// The linker has taken the statement, and this is not noted.
pub const SENT: &str = "warehouse.sent";

/// All of them, in the order of a bundle's life.
pub const ALL: [&str; 6] = [RECEIVED, BEFORE_COMMIT, COMMITTED, ERASED, STATED, SENT];

/// Dies here if a test asks for it.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(point: &str) {
    fail::fail_point!(point, |_| std::process::abort());
}

/// Dies here if a test asks for it.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn reach(_point: &str) {}
