//! Write an extraction module for Lockgate.
//!
//! A module is a function over a [`Host`]: it opens the inputs that its manifest declares, looks at them in
//! [batches](Batch) of columns, and writes rows to the outputs that its manifest declares. There is nothing else that
//! it can reach: no clock, no files, no network.
//!
//! ```
//! use lockgate_guest::{Code, Day, Host, Patient, Result, RowWriter};
//!
//! // The columns of the input `diagnoses`, in the order of the manifest.
//! const PATIENT: usize = 0;
//! const RECORDED: usize = 1;
//! const CODE: usize = 2;
//!
//! /// Every diagnosis of asthma: patient, day, code.
//! pub fn run<H: Host>(host: &H) -> Result<()> {
//!     let mut diagnoses = host.open("diagnoses")?;
//!     // Tested once for each distinct code of the site, not once a row.
//!     let asthma = diagnoses.codelist("asthma")?;
//!     let mut found = RowWriter::new(host, "asthma");
//!     while let Some(batch) = diagnoses.next()? {
//!         let patients = batch.patients(PATIENT)?;
//!         let recorded = batch.days(RECORDED)?;
//!         let codes = batch.codes(CODE)?;
//!         for row in batch.rows_with_codes(CODE, &asthma)? {
//!             if let (Some(day), Some(code)) = (recorded.at(row), codes.at(row)) {
//!                 found.push((Patient(patients[row]), Day(day), Code(code)))?;
//!             }
//!         }
//!     }
//!     found.finish()
//! }
//!
//! lockgate_guest::module!(run);
//!
//! // The same function runs natively over fixtures, so that its logic is tested without WebAssembly.
//! # fn main() {
//! use lockgate_guest::testing::TestHost;
//!
//! let mut host = TestHost::new("2026-01-01", "2026-01-31");
//! let asthma = host.code("snomed", "195967001");
//! let other = host.code("snomed", "44054006");
//! host.codelist("asthma", &[asthma]);
//! host.input("diagnoses", [(Patient(1), Day(20_460), Code(other)), (Patient(2), Day(20_461), Code(asthma))]);
//! run(&host).unwrap();
//! assert_eq!(host.rows::<(Patient, Day, Code)>("asthma"), [(Patient(2), Day(20_461), Code(asthma))]);
//! # }
//! ```
//!
//! In `Cargo.toml`, `crate-type = ["cdylib", "rlib"]`: the first for the component, the second for tests.

pub mod bindings;
mod bitmap;
pub mod canonical;
mod cells;
mod codes;
#[cfg(target_family = "wasm")]
mod component;
pub mod date;
mod edit;
mod error;
mod host;
#[cfg(not(target_family = "wasm"))]
pub mod memory;
mod patient_map;
mod registrations;
mod rows;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use bindings::lockgate::extract::columns::{Batch, Column, Values};
pub use bindings::lockgate::extract::log::Level;
pub use bindings::lockgate::extract::period::Window;
pub use bindings::lockgate::extract::source::CodePage;
pub use bitmap::Bitmap;
pub use cells::Cells;
pub use codes::Dictionary;
#[cfg(target_family = "wasm")]
pub use component::ComponentHost;
pub use error::{Error, Result};
pub use host::{Host, Input, Scan};
pub use patient_map::PatientMap;
pub use registrations::Persons;
pub use rows::{Category, Cell, Code, Day, Number, Patient, Row, RowWriter};

/// The most rows of one batch, in either direction.
pub const BATCH_ROWS_MAX: usize = 65_536;

/// Makes a function `fn run<H: Host>(host: &H) -> Result<()>` the module's entry point.
///
/// Natively it expands to nothing, so that a module can be linked into tests and benches.
#[macro_export]
macro_rules! module {
    ($run:path) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "the component's exports are symbols without mangling")]
        const _: () = {
            struct Module;

            impl $crate::bindings::Guest for Module {
                fn run() -> ::core::result::Result<(), ::std::string::String> {
                    $run(&$crate::ComponentHost).map_err(|error| ::std::string::ToString::to_string(&error))
                }
            }

    $crate::bindings::export!(Module with_types_in $crate::bindings);
        };
    };
}
