//! What a module can reach: the host, and one pass over an input.

use crate::bitmap::Bitmap;
use crate::codes::Dictionary;
use crate::{Batch, CodePage, Level, Result, Window};

/// The host, as a module sees it: the component's imports in production, fixtures in tests.
///
/// Nothing here is called once a row.
pub trait Host: Sized {
    /// One pass over an input.
    type Scan: Scan;

    /// Begins a pass over an input of the manifest. Modules call [`Host::open`].
    fn scan(&self, input: &str) -> Result<Self::Scan>;

    /// How many codes the run's dictionary holds.
    fn code_count(&self) -> u32;

    /// The run's dictionary from this position to its end. Modules call [`Input::dictionary`].
    fn codes(&self, first: u32) -> CodePage;

    /// The dictionary positions of a codelist, one bit each. Modules call [`Input::codelist`].
    fn codelist_bits(&self, name: &str) -> Result<Vec<u8>>;

    /// Writes at most [`BATCH_ROWS_MAX`](crate::BATCH_ROWS_MAX) rows to an output of the manifest.
    fn write(&self, output: &str, rows: &Batch) -> Result<()>;

    /// The days that the run covers, both inclusive.
    fn window(&self) -> Window;

    /// A line for the site's log, cut at 256 bytes. It never leaves the site.
    fn log(&self, level: Level, message: &str);

    /// Opens an input of the manifest.
    fn open(&self, input: &str) -> Result<Input<'_, Self>> {
        Ok(Input { host: self, scan: self.scan(input)? })
    }
}

/// One pass over an input.
pub trait Scan {
    /// The next batch, at most [`BATCH_ROWS_MAX`](crate::BATCH_ROWS_MAX) rows; `None` at the end.
    fn next(&mut self) -> Result<Option<Batch>>;
}

/// An open input. Codelists and the dictionary are asked of it, because opening an input may add codes to the
/// dictionary: what was asked before is then too short.
pub struct Input<'h, H: Host> {
    pub(crate) host: &'h H,
    pub(crate) scan: H::Scan,
}

impl<H: Host> Input<'_, H> {
    /// The next batch, ordered by patient, then date; `None` at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator of results would need `?` twice in every loop"
    )]
    pub fn next(&mut self) -> Result<Option<Batch>> {
        self.scan.next()
    }

    /// Which codes of the run belong to a codelist of the manifest.
    pub fn codelist(&self, name: &str) -> Result<Bitmap> {
        self.host.codelist_bits(name).map(Bitmap::from_bytes)
    }

    /// The run's dictionary: all texts, so ask for it only where a codelist does not do.
    pub fn dictionary(&self) -> Dictionary {
        Dictionary::new(self.host.codes(0))
    }

    /// Which codes of the run are of none of these systems. Usually none, so that a caller can skip the test of rows.
    pub fn codes_outside(&self, systems: &[&str]) -> Bitmap {
        self.dictionary().outside(systems)
    }
}
