//! Calls itself without end.

use std::hint::black_box;

use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    black_box(deeper(host.window().first_day));
    Ok(())
}

fn deeper(depth: i32) -> i32 {
    if depth == i32::MIN {
        return 0;
    }
    black_box(deeper(black_box(depth.wrapping_add(1)))).wrapping_mul(3)
}

module!(run);
