//! Imports CSV of Synthea.

use std::path::Path;

use indicatif::ProgressBar;
use jiff::civil::Date;

use crate::draft::Finish;
use crate::error::PracticeError;

/// How to import.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// Decides who objects, and how.
    pub seed: u64,
    /// The day of the run.
    pub as_of: Date,
    /// Patients in 1,000 with some kind of objection in their record.
    pub objections_per_mille: u32,
    /// Replaces files that are there.
    pub replace: bool,
    /// How to finish each database.
    pub finish: Finish,
}

/// Imports.
pub fn import(_: &ImportRequest, csv: &Path, _: &Path, _: &ProgressBar) -> Result<u64, PracticeError> {
    Err(PracticeError::csv(csv, "not yet"))
}
