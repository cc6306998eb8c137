//! Opens an input again and again and closes none.

use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut open = Vec::new();
    loop {
        open.push(host.open("observations")?);
    }
}

module!(run);
