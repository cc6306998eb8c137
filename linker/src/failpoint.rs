//! Points at which a test may kill the process. Nothing at all without the `failpoints` feature.
//!
//! `FAILPOINTS="linker.block.renamed=return" lockgate-linker serve …` dies there the first time, as under `kill -9`: no
//! destructor runs, nothing is flushed. `2*off->return` dies the third time; the other actions of the `fail` crate work too.

/// Bytes of a header were received; nothing was decided.
pub const HEADER_RECEIVED: &str = "linker.header.received";
/// The header is verified and its place in the chain is taken.
pub const HEADER_ADMITTED: &str = "linker.header.admitted";
/// The first bytes of a block were received.
pub const BLOCK_RECEIVED: &str = "linker.block.received";
/// All bytes of a block are written under a temporary name, and verified.
pub const BLOCK_WRITTEN: &str = "linker.block.written";
/// The block has its name, and is on stable storage.
pub const BLOCK_RENAMED: &str = "linker.block.renamed";
/// All blocks and the header are on stable storage.
pub const HEADER_STORED: &str = "linker.header.stored";
/// The acceptance is written and not committed.
pub const BEFORE_COMMIT: &str = "linker.before-commit";
/// The acceptance is committed.
pub const AFTER_COMMIT: &str = "linker.after-commit";
/// The receipt is about to be sent.
pub const BEFORE_ANSWER: &str = "linker.before-answer";
/// An enrolment is written and not committed.
pub const ENROLMENT_BEFORE_COMMIT: &str = "linker.enrolment.before-commit";
/// An enrolment is committed and not answered.
pub const ENROLMENT_BEFORE_ANSWER: &str = "linker.enrolment.before-answer";
/// A block of a bundle was handed to a recipient.
pub const COLLECTION_BLOCK_SENT: &str = "linker.collection.block-sent";
/// A deletion statement is written and not committed.
pub const DELETION_BEFORE_COMMIT: &str = "linker.deletion.before-commit";
/// A deletion statement is committed and not answered.
pub const DELETION_BEFORE_ANSWER: &str = "linker.deletion.before-answer";

/// All that a site meets, in the order of a bundle's life.
pub const ALL: [&str; 11] = [
    ENROLMENT_BEFORE_COMMIT,
    ENROLMENT_BEFORE_ANSWER,
    HEADER_RECEIVED,
    HEADER_ADMITTED,
    BLOCK_RECEIVED,
    BLOCK_WRITTEN,
    BLOCK_RENAMED,
    HEADER_STORED,
    BEFORE_COMMIT,
    AFTER_COMMIT,
    BEFORE_ANSWER,
];
/// All that a recipient meets.
pub const OF_RECIPIENTS: [&str; 3] = [COLLECTION_BLOCK_SENT, DELETION_BEFORE_COMMIT, DELETION_BEFORE_ANSWER];

/// Dies here if a test asks for it.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(point: &str) {
    fail::fail_point!(point, |_| std::process::abort());
}

/// Dies here if a test asks for it.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn reach(_point: &str) {}
