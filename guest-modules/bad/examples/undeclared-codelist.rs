//! Asks for a codelist that the manifest does not declare.

use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let observations = host.open("observations")?;
    observations.codelist("hiv").map(|_| ())
}

module!(run);
