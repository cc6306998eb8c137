//! What a run may use, beyond what its manifest says.

use lockgate_signing::manifest::{Manifest, OutputType};
use wasmtime::ResourceLimiter;

use super::BATCH_ROWS;

/// The host's own bounds, which no manifest can widen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLimits {
    /// The wasm stack, bytes.
    pub stack_bytes: usize,
    /// Elements of all tables together.
    pub table_elements: usize,
    /// Core instances, memories and tables of one component.
    pub instances: usize,
    /// Scans that are open at once.
    pub scans: usize,
    /// Calls of host functions in one run; a run of ten million rows makes about a thousand.
    pub calls: u64,
    /// Log lines of one run; further ones are dropped.
    pub log_lines: u32,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            stack_bytes: 512 << 10,
            table_elements: 20_000,
            instances: 32,
            scans: 16,
            calls: 200_000,
            log_lines: 1_000,
        }
    }
}

/// What a module may hand to the host in one call, bytes: two batches of its widest output, so that one which is too long is
/// told as that, and a mebibyte for everything else. Without it a module could have one list copied many times over.
pub(crate) fn handed_bytes_max(manifest: &Manifest) -> usize {
    let row_bytes = |kind: &OutputType| match kind {
        OutputType::Patient | OutputType::Code { .. } | OutputType::Date { .. } => 4,
        OutputType::Number { .. } => 8,
        OutputType::Category { .. } => 1,
    };
    // And a bit a row, rounded up.
    let widths = manifest
        .outputs
        .values()
        .map(|output| output.columns.iter().map(|column| row_bytes(&column.kind) + 1).sum::<usize>());
    2 * BATCH_ROWS * widths.max().unwrap_or(0) + (1 << 20)
}

/// Which limit a trap stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitReached {
    #[error("the memory limit is reached")]
    Memory,
    #[error("the table limit is reached")]
    Table,
}

/// Keeps the linear memories of a store, all together, within the manifest's limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MemoryLimiter {
    bytes_max: usize,
    bytes: usize,
    table_elements: usize,
    instances: usize,
}

impl MemoryLimiter {
    pub(crate) fn new(memory_mib: u32, limits: &HostLimits) -> Self {
        Self {
            bytes_max: (memory_mib as usize) << 20,
            bytes: 0,
            table_elements: limits.table_elements,
            instances: limits.instances,
        }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if bytes > self.bytes_max {
            // A trap rather than a failed growth: the module would only abort with a message that says less.
            return Err(LimitReached::Memory.into());
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.table_elements { Err(LimitReached::Table.into()) } else { Ok(true) }
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }
}
