//! Says that it cannot do its work, after it has written rows.

use bad_modules::good_rows;
use lockgate_guest::{Error, Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let rows = good_rows(host, 10)?;
    host.write("rows", &rows)?;
    Err(Error::Module("the register is not open on Sundays".into()))
}

module!(run);
