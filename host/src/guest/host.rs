//! What a module can call: read declared inputs, write declared outputs, ask for the window, and log.
//!
//! A call that breaks the manifest ends the run at once, with an error that the module cannot swallow.

use lockgate_signing::block::Bitmap;
use lockgate_signing::manifest::Manifest;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};

use super::limits::{HostLimits, MemoryLimiter};
use super::world::lockgate::extract::columns as wit;
use super::world::lockgate::extract::{columns, log, period, sink, source};
use super::written::{Emitted, WrittenBatch};
use super::{GuestError, Inputs, printable};
use crate::check::Checker;
use crate::crossing::CrossingError;
use crate::order::{Cells, Chunk, MISSING_CATEGORY, MISSING_CODE, MISSING_DATE, Merge};
use crate::seal::Sealer;

/// Rows of a batch, in both directions.
pub(crate) const BATCH_ROWS: usize = 65_536;

/// A pass over an input that a module holds.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Scan {
    merge: Merge,
}

/// Everything that a module may import.
pub(super) fn add_to_linker(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    source::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    add_sink(linker)?;
    period::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// Everything of one run.
pub(crate) struct RunState {
    pub(super) inputs: Inputs,
    pub(super) sealer: Sealer,
    pub(super) memory: MemoryLimiter,
    checker: Checker,
    scans: ResourceTable,
    open_scans: usize,
    window: (i32, i32),
    limits: HostLimits,
    log_lines: u32,
    calls: u64,
    module: Arc<Manifest>,
}

impl RunState {
    /// The state of a run over the days `window`, both inclusive.
    pub(crate) fn new(
        module: Arc<Manifest>,
        inputs: Inputs,
        sealer: Sealer,
        checker: Checker,
        window: (i32, i32),
        limits: HostLimits,
    ) -> Self {
        Self {
            inputs,
            sealer,
            memory: MemoryLimiter::default(),
            checker,
            scans: ResourceTable::new(),
            open_scans: 0,
            window,
            limits,
            log_lines: 0,
            calls: 0,
            module,
        }
    }
}

impl RunState {
    /// Seals what may be released of the module's tables, after its last row.
    pub(super) fn release(&mut self) -> Result<(), GuestError> {
        for (position, checked) in self.checker.release().map_err(GuestError::Broke)? {
            self.sealer.take(position, checked, &self.inputs).map_err(GuestError::Output)?;
        }
        Ok(())
    }

    /// Counts a call. The time that a call takes here is neither fuel nor seen by the epochs, so their number is limited.
    fn called(&mut self) -> Result<(), GuestError> {
        self.calls += 1;
        if self.calls > self.limits.calls { Err(GuestError::Calls(self.limits.calls)) } else { Ok(()) }
    }
}

impl columns::Host for RunState {}

impl source::Host for RunState {
    fn open(&mut self, input: String) -> wasmtime::Result<Result<Resource<Scan>, source::SourceError>> {
        self.called()?;
        if self.open_scans >= self.limits.scans {
            return Err(GuestError::Handles(self.limits.scans).into());
        }
        let (_, merge) = self.inputs.open(&input)?;
        self.open_scans += 1;
        Ok(Ok(self.scans.push(Scan { merge })?))
    }

    fn code_count(&mut self) -> wasmtime::Result<u32> {
        self.called()?;
        Ok(self.inputs.code_count())
    }

    fn codes(&mut self, first: u32) -> wasmtime::Result<source::CodePage> {
        self.called()?;
        let mut page = source::CodePage {
            system_names: self.inputs.systems().to_vec(),
            systems: Vec::new(),
            text: Vec::new(),
            ends: Vec::new(),
        };
        for position in first..self.inputs.code_count() {
            let Some((system, text)) = self.inputs.code(position) else { break };
            page.systems.push(system);
            page.text.extend_from_slice(text.as_bytes());
            page.ends.push(page.text.len() as u32);
        }
        Ok(page)
    }

    fn codelist(&mut self, name: String) -> wasmtime::Result<Result<Vec<u8>, source::SourceError>> {
        self.called()?;
        match self.inputs.codelist(&name) {
            Some(bits) => Ok(Ok(bits)),
            None => Err(GuestError::Undeclared(printable(&name)).into()),
        }
    }
}

impl source::HostScan for RunState {
    fn next(
        &mut self,
        scan: Resource<Scan>,
    ) -> wasmtime::Result<Result<Option<columns::Batch>, source::SourceError>> {
        self.called()?;
        let scan = self.scans.get_mut(&scan)?;
        let chunk = scan.merge.next(BATCH_ROWS, self.inputs.positions());
        let chunk = chunk.map_err(|error| GuestError::Input(CrossingError::from(error)))?;
        Ok(Ok(chunk.map(|chunk| batch_of(chunk, self.inputs.positions()))))
    }

    fn drop(&mut self, scan: Resource<Scan>) -> wasmtime::Result<()> {
        self.scans.delete(scan)?;
        self.open_scans -= 1;
        Ok(())
    }
}

impl RunState {
    fn write(&mut self, output: &str, rows: Emitted) -> Result<(), GuestError> {
        let position = self.module.outputs.keys().position(|name| name.as_str() == output);
        let position = position.ok_or_else(|| GuestError::Undeclared(printable(output)))?;
        let checked = self.checker.check(position, rows, &self.inputs).map_err(GuestError::Broke)?;
        if let Some(checked) = checked {
            self.sealer.take(position, checked, &self.inputs).map_err(GuestError::Output)?;
        }
        Ok(())
    }
}

/// The interface `sink` by hand, because of the way that its batches are copied.
fn add_sink(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    type Call<'a> = StoreContextMut<'a, RunState>;
    let write = |mut call: Call<'_>, (output, rows): (String, WrittenBatch)| {
        call.data_mut().called()?;
        let rows = rows.copy_out(&call);
        call.data_mut().write(&output, rows)?;
        Ok((Ok::<_, sink::SinkError>(()),))
    };
    linker.instance("lockgate:extract/sink@1.0.0")?.func_wrap("write", write)
}

impl period::Host for RunState {
    fn current(&mut self) -> wasmtime::Result<period::Window> {
        self.called()?;
        Ok(period::Window { first_day: self.window.0, last_day: self.window.1 })
    }
}

impl log::Host for RunState {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.called()?;
        self.log_lines += 1;
        if self.log_lines > self.limits.log_lines {
            return Ok(());
        }
        let (module, message) = (&self.module.id, printable(&message));
        match level {
            log::Level::Debug => tracing::debug!(target: "lockgate::module", %module, "{message}"),
            log::Level::Info => tracing::info!(target: "lockgate::module", %module, "{message}"),
            log::Level::Warn => tracing::warn!(target: "lockgate::module", %module, "{message}"),
        }
        Ok(())
    }
}

/// Rows for the module: dictionary positions in place of source numbers, a bitmap in place of missing marks.
fn batch_of(chunk: Chunk, positions: &[u32]) -> wit::Batch {
    let rows = chunk.rows() as u32;
    let column = |cells: Cells| match cells {
        Cells::Patients(values) => wit::Column { values: wit::Values::Patients(values), missing: None },
        Cells::Codes(mut values) => {
            let missing = unmark(&mut values, |value| *value == MISSING_CODE);
            for value in &mut values {
                // A missing code was just set to 0, which is the number of the malformed one and has no position.
                *value = positions.get(*value as usize).copied().filter(|&at| at != u32::MAX).unwrap_or(0);
            }
            wit::Column { values: wit::Values::Codes(values), missing }
        }
        Cells::Dates(mut values) => {
            let missing = unmark(&mut values, |value| *value == MISSING_DATE);
            wit::Column { values: wit::Values::Dates(values), missing }
        }
        Cells::Numbers(mut values) => {
            let missing = unmark(&mut values, |value| value.is_nan());
            wit::Column { values: wit::Values::Numbers(values), missing }
        }
        Cells::Categories(mut values) => {
            let missing = unmark(&mut values, |value| *value == MISSING_CATEGORY);
            wit::Column { values: wit::Values::Categories(values), missing }
        }
    };
    wit::Batch { rows, columns: chunk.columns.into_iter().map(column).collect() }
}

/// Sets missing values to 0 and says where they were; `None` where there are none.
fn unmark<T: Default>(values: &mut [T], is_missing: impl Fn(&T) -> bool) -> Option<Vec<u8>> {
    if !values.iter().any(&is_missing) {
        return None;
    }
    let mut missing = Bitmap::none(values.len());
    for (row, value) in values.iter_mut().enumerate() {
        if is_missing(value) {
            missing.set(row);
            *value = T::default();
        }
    }
    Some(missing.as_bytes().to_vec())
}
