//! A host of fixtures, so that a module's logic is tested natively.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::{
    BATCH_ROWS_MAX, Batch, Bitmap, CodePage, Error, Host, Level, Result, Row, Scan, Values, Window, date,
};

/// A host of fixtures: what a test puts in comes out as inputs, what the module writes is kept.
///
/// It holds a module to the shape of the interface (declared names, lists of one length, codes of the dictionary,
/// finite numbers), not to the manifest: a run through the agent's `preview` does that.
#[derive(Debug)]
pub struct TestHost {
    window: Window,
    codes: Vec<(String, String)>,
    codelists: BTreeMap<String, Vec<u32>>,
    inputs: BTreeMap<String, Vec<Batch>>,
    written: RefCell<BTreeMap<String, Vec<Batch>>>,
    log: RefCell<Vec<String>>,
}

impl TestHost {
    /// A host whose run covers these days, both inclusive, as ISO texts.
    ///
    /// # Panics
    /// When a text is not a day.
    pub fn new(first_day: &str, last_day: &str) -> Self {
        Self {
            window: Window { first_day: day(first_day), last_day: day(last_day) },
            codes: Vec::new(),
            codelists: BTreeMap::new(),
            inputs: BTreeMap::new(),
            written: RefCell::default(),
            log: RefCell::default(),
        }
    }

    /// The position of a code in the dictionary, to which it is added if need be.
    pub fn code(&mut self, system: &str, text: &str) -> u32 {
        let code = (system.to_owned(), text.to_owned());
        let position = self.codes.iter().position(|known| *known == code).unwrap_or_else(|| {
            self.codes.push(code);
            self.codes.len() - 1
        });
        position as u32
    }

    /// Declares a codelist of these positions.
    pub fn codelist(&mut self, name: &str, codes: &[u32]) {
        self.codelists.insert(name.to_owned(), codes.to_vec());
    }

    /// Declares an input, and adds one batch to it.
    pub fn input<R: Row>(&mut self, name: &str, rows: impl IntoIterator<Item = R>) {
        self.inputs.entry(name.to_owned()).or_default().push(Batch::of(rows));
    }

    /// The rows that the module wrote to an output.
    ///
    /// # Panics
    /// When they are of other columns.
    pub fn rows<R: Row>(&self, output: &str) -> Vec<R> {
        let written = self.written.borrow();
        let batches = written.get(output).map_or(&[][..], Vec::as_slice);
        let read = |batch, row| {
            R::read(batch, row)
                .unwrap_or_else(|| panic!("`{output}`, row {row}: other columns than the test reads"))
        };
        batches.iter().flat_map(|batch| (0..batch.row_count()).map(move |row| read(batch, row))).collect()
    }

    /// The batches that the module wrote to an output.
    pub fn batches(&self, output: &str) -> Vec<Batch> {
        self.written.borrow().get(output).cloned().unwrap_or_default()
    }

    /// The lines that the module logged.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    fn refuse(&self, rows: &Batch) -> Option<String> {
        if let Err(error) = rows.check() {
            return Some(error.to_string());
        }
        if rows.row_count() > BATCH_ROWS_MAX {
            return Some(format!("{} rows in one batch", rows.row_count()));
        }
        rows.columns.iter().find_map(|column| match &column.values {
            Values::Codes(codes) => {
                let missing = Bitmap::from_bytes(column.missing.clone().unwrap_or_default());
                let mut rows = (0_u32..).zip(codes);
                let unknown =
                    rows.find(|(row, code)| **code as usize >= self.codes.len() && !missing.contains(*row));
                unknown.map(|(row, code)| format!("row {row}: code {code} is not in the dictionary"))
            }
            Values::Numbers(numbers) => numbers
                .iter()
                .position(|number| !number.is_finite())
                .map(|row| format!("row {row}: not a finite number")),
            _ => None,
        })
    }
}

/// The day of an ISO text.
///
/// # Panics
/// When the text is not a day.
pub fn day(text: &str) -> i32 {
    date::parse(text).unwrap_or_else(|| panic!("`{text}` is not a day"))
}

impl Host for TestHost {
    type Scan = TestScan;

    fn scan(&self, input: &str) -> Result<TestScan> {
        let batches = self.inputs.get(input).ok_or_else(|| Error::Undeclared(input.to_owned()))?;
        Ok(TestScan { batches: batches.clone().into_iter() })
    }

    fn code_count(&self) -> u32 {
        self.codes.len() as u32
    }

    fn codes(&self, first: u32) -> CodePage {
        let mut page =
            CodePage { system_names: Vec::new(), systems: Vec::new(), text: Vec::new(), ends: Vec::new() };
        for (system, text) in self.codes.iter().skip(first as usize) {
            let position = page.system_names.iter().position(|name| name == system).unwrap_or_else(|| {
                page.system_names.push(system.clone());
                page.system_names.len() - 1
            });
            page.systems.push(position as u8);
            page.text.extend_from_slice(text.as_bytes());
            page.ends.push(page.text.len() as u32);
        }
        page
    }

    fn codelist_bits(&self, name: &str) -> Result<Vec<u8>> {
        let codes = self.codelists.get(name).ok_or_else(|| Error::Undeclared(name.to_owned()))?;
        let mut bytes = codes.iter().copied().collect::<Bitmap>().into_bytes();
        bytes.resize(self.codes.len().div_ceil(8), 0);
        Ok(bytes)
    }

    fn write(&self, output: &str, rows: &Batch) -> Result<()> {
        if let Some(why) = self.refuse(rows) {
            return Err(Error::Refused(format!("`{output}`: {why}")));
        }
        self.written.borrow_mut().entry(output.to_owned()).or_default().push(rows.clone());
        Ok(())
    }

    fn window(&self) -> Window {
        self.window
    }

    fn log(&self, _: Level, message: &str) {
        self.log.borrow_mut().push(message.to_owned());
    }
}

/// One pass over a fixture.
#[derive(Debug)]
pub struct TestScan {
    batches: std::vec::IntoIter<Batch>,
}

impl Scan for TestScan {
    fn next(&mut self) -> Result<Option<Batch>> {
        Ok(self.batches.next())
    }
}
