//! Lockgate.

fn main() {}
