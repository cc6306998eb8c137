//! What a module hands over to be written, on its way out of the module's memory.
//!
//! The interface's own types would have a column copied element by element; a list of whole numbers that is still in the
//! module's memory is copied as one block.

use lockgate_signing::block::Values;
use wasmtime::AsContext;
use wasmtime::component::{ComponentType, Lift, WasmList};

/// The order of the bytes of a module's lists, in every module.
const _: () =
    assert!(cfg!(target_endian = "little"), "a column would have to be turned round on its way out");

/// The interface's `batch`, still in the module's memory.
#[derive(ComponentType, Lift)]
#[component(record)]
pub struct WrittenBatch {
    rows: u32,
    columns: Vec<WrittenColumn>,
}

/// The interface's `column`.
#[derive(ComponentType, Lift)]
#[component(record)]
pub struct WrittenColumn {
    values: WrittenValues,
    missing: Option<WasmList<u8>>,
}

/// The interface's `values`.
#[derive(ComponentType, Lift)]
#[component(variant)]
pub enum WrittenValues {
    #[component(name = "patients")]
    Patients(WasmList<u32>),
    #[component(name = "codes")]
    Codes(WasmList<u32>),
    #[component(name = "dates")]
    Dates(WasmList<i32>),
    /// Wasmtime gives no block of these.
    #[component(name = "numbers")]
    Numbers(Vec<f64>),
    #[component(name = "categories")]
    Categories(WasmList<u8>),
}

/// Rows that a module wrote: untrusted, of any shape.
pub struct Emitted {
    /// How many it says they are.
    pub rows: u32,
    /// What it says they are.
    pub columns: Vec<EmittedColumn>,
}

/// One column that a module wrote.
pub struct EmittedColumn {
    /// A value a row.
    pub values: Values,
    /// A bit a row, set where there is no value.
    pub missing: Option<Vec<u8>>,
}

impl WrittenBatch {
    /// Copies it out of the memory of the module, whose store this is.
    pub fn copy_out<S: AsContext<Data: 'static>>(self, store: &S) -> Emitted {
        let columns = self.columns.into_iter().map(|column| column.copy_out(store));
        Emitted { rows: self.rows, columns: columns.collect() }
    }
}

impl WrittenColumn {
    fn copy_out<S: AsContext<Data: 'static>>(self, store: &S) -> EmittedColumn {
        let values = match self.values {
            WrittenValues::Patients(list) => Values::Patients(list.as_le_slice(store).to_vec()),
            WrittenValues::Codes(list) => Values::Codes(list.as_le_slice(store).to_vec()),
            WrittenValues::Dates(list) => Values::Dates(list.as_le_slice(store).to_vec()),
            WrittenValues::Numbers(values) => Values::Numbers(values),
            WrittenValues::Categories(list) => Values::Categories(list.as_le_slice(store).to_vec()),
        };
        EmittedColumn { values, missing: self.missing.map(|list| list.as_le_slice(store).to_vec()) }
    }
}
