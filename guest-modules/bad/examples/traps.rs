//! Panics, which is the instruction `unreachable`.

use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let first = host.window().first_day;
    assert!(first == i32::MIN, "on purpose");
    Ok(())
}

module!(run);
