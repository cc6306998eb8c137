//! Takes memory until there is none.

use std::hint::black_box;

use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![host.window().first_day as u8; 1 << 20]);
        black_box(&kept);
    }
}

module!(run);
