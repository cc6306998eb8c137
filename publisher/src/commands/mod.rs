//! The commands beyond staging a file.

pub(crate) mod edits;
pub(crate) mod signing;
pub(crate) mod upkeep;
