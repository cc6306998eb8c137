//! The agent's library: see `ARCHITECTURE.md` for the way that the data takes through it.

pub mod trust;
