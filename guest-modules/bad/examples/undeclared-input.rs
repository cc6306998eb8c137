//! Opens an input that the manifest does not declare.

use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    host.open("patients").map(|_| ())
}

module!(run);
