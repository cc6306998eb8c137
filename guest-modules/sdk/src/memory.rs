//! A host of prepared batches, to measure a module natively against the same module in its sandbox.
//!
//! It does what the component boundary must also do, and nothing else: every batch is copied to the module, and every
//! written batch is copied out again (then dropped).
//!
//! A measurement should use an allocator that keeps large blocks, or the figures are those of the kernel's page faults:
//! glibc returns a batch's lists to the system each time (`MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_` stop
//! that), while a module's linear memory stays mapped, so that the native side looks up to ten times slower than it is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::rc::Rc;

use crate::{Batch, CodePage, Error, Host, Level, Result, Scan, Window};

/// A host of prepared batches.
#[derive(Debug)]
pub struct MemoryHost {
    /// The days that the run covers.
    pub window: Window,
    /// The run's dictionary.
    pub codes: CodePage,
    /// The bits of each codelist.
    pub codelists: BTreeMap<String, Vec<u8>>,
    /// The batches of each input.
    pub inputs: BTreeMap<String, Rc<Vec<Batch>>>,
    /// Rows written so far, all outputs together.
    pub rows_written: Cell<u64>,
}

impl Host for MemoryHost {
    type Scan = MemoryScan;

    fn scan(&self, input: &str) -> Result<MemoryScan> {
        let batches = self.inputs.get(input).ok_or_else(|| Error::Undeclared(input.to_owned()))?;
        Ok(MemoryScan { batches: Rc::clone(batches), at: 0 })
    }

    fn code_count(&self) -> u32 {
        self.codes.ends.len() as u32
    }

    /// The whole dictionary: modules ask for it from 0 only.
    fn codes(&self, _: u32) -> CodePage {
        self.codes.clone()
    }

    fn codelist_bits(&self, name: &str) -> Result<Vec<u8>> {
        self.codelists.get(name).cloned().ok_or_else(|| Error::Undeclared(name.to_owned()))
    }

    fn write(&self, _: &str, rows: &Batch) -> Result<()> {
        black_box(rows.clone());
        self.rows_written.set(self.rows_written.get() + u64::from(rows.rows));
        Ok(())
    }

    fn window(&self) -> Window {
        self.window
    }

    fn log(&self, _: Level, _: &str) {}
}

/// One pass over prepared batches.
#[derive(Debug)]
pub struct MemoryScan {
    batches: Rc<Vec<Batch>>,
    at: usize,
}

impl Scan for MemoryScan {
    fn next(&mut self) -> Result<Option<Batch>> {
        let batch = self.batches.get(self.at).cloned();
        self.at += 1;
        Ok(batch)
    }
}
