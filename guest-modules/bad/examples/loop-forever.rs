//! Never ends.

use std::hint::black_box;

use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut number = host.window().first_day;
    loop {
        number = black_box(number).wrapping_add(1);
    }
}

module!(run);
