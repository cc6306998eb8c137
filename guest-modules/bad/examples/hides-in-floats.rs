//! Hides a message in the bits of numbers that mean nothing: the last ones, the sign of nought, and what stands in the place of
//! a missing value.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, Values, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    let last_bits = (0..8).map(|row| f64::from_bits(1.5_f64.to_bits() + 0x00c0_ffee * row));
    let payload = f64::from_bits(0x7ff8_0000_dead_beef);
    rows.columns[column::NUMBER].values = Values::Numbers(last_bits.chain([-0.0, payload]).collect());
    rows.columns[column::NUMBER].missing = Some(vec![0, 0b10]);
    host.write("rows", &rows)
}

module!(run);
