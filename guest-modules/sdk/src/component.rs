//! The host as the component's imports.

use crate::bindings::lockgate::extract::{log, period, sink, source};
use crate::{Batch, CodePage, Host, Level, Result, Scan, Window};

/// The real host, reached through the component's imports.
#[derive(Debug, Clone, Copy)]
pub struct ComponentHost;

impl Host for ComponentHost {
    type Scan = source::Scan;

    fn scan(&self, input: &str) -> Result<source::Scan> {
        Ok(source::open(input)?)
    }

    fn code_count(&self) -> u32 {
        source::code_count()
    }

    fn codes(&self, first: u32) -> CodePage {
        source::codes(first)
    }

    fn codelist_bits(&self, name: &str) -> Result<Vec<u8>> {
        Ok(source::codelist(name)?)
    }

    fn write(&self, output: &str, rows: &Batch) -> Result<()> {
        Ok(sink::write(output, rows)?)
    }

    fn window(&self) -> Window {
        period::current()
    }

    fn log(&self, level: Level, message: &str) {
        log::write(level, message);
    }
}

impl Scan for source::Scan {
    fn next(&mut self) -> Result<Option<Batch>> {
        Ok(source::Scan::next(self)?)
    }
}
