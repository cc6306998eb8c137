//! Reads the inputs of every period, in the order of the manifest.

use std::sync::Arc;

use lockgate_signing::manifest::Manifest;
use lockgate_signing::mapping::Mapping;

use crate::crossing::{CrossedInput, Crossing, CrossingError};
use crate::dictionary::{CodeBook, Dictionary};
use crate::identity::Patients;
use crate::order::RowMemory;
use crate::plan::{self, PlanStep};
use crate::progress::ProgressBar;
use crate::read_ahead::ReadAhead;
use crate::source::Snapshot;

/// What the readers of a run have in common.
pub(super) struct InputReader<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) mapping: &'a Mapping,
    pub(super) patients: &'a Patients,
    pub(super) book: &'a Arc<CodeBook>,
    pub(super) memory: &'a RowMemory,
    pub(super) scratch: &'a std::path::Path,
    pub(super) ahead: &'a ReadAhead,
    pub(super) rows: &'a ProgressBar,
}

impl InputReader<'_> {
    /// Reads with one connection what no other reader has begun.
    pub(super) fn read(&self, snapshot: Snapshot, steps: &[PlanStep]) {
        let mut dictionary = Dictionary::new(Arc::clone(self.book));
        self.ahead.read_jobs(|job| self.read_one(&snapshot, &mut dictionary, steps, job));
    }

    /// A job is an input of a period: all inputs of the first, then all of the second.
    fn read_one(
        &self,
        snapshot: &Snapshot,
        dictionary: &mut Dictionary,
        steps: &[PlanStep],
        job: usize,
    ) -> Result<CrossedInput, CrossingError> {
        let inputs = &self.manifest.inputs;
        let (step, position) = (steps[job / inputs.len()], job % inputs.len());
        let input = inputs.values().nth(position).ok_or_else(|| CrossingError::Table("none".to_owned()))?;
        let crossing = Crossing {
            mapping: self.mapping,
            manifest: self.manifest,
            patients: self.patients,
            memory: self.memory,
            scratch: self.scratch,
        };
        let progress = |rows| {
            self.rows.rows_read(rows);
            !self.ahead.is_stopped()
        };
        crossing.read(snapshot, dictionary, input, plan::window(input, step.period), progress)
    }
}
