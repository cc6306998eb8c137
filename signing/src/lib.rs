//! Everything of Lockgate that crosses a trust boundary as bytes.
//!
//! A leaf library: no I/O, no clock, no async. The agent, the publisher and the linker share these types and nothing else.

pub mod block;
pub mod bundle;
pub mod canonical;
pub mod carriage;
pub mod cbor;
#[cfg(test)]
mod cddl_tests;
pub mod code;
pub mod codelist;
pub mod cohort;
pub mod collection;
pub mod deletion;
pub mod delivery;
pub mod digest;
pub mod direction;
pub mod encryption;
pub mod enrolment;
pub mod envelope;
pub mod evaluation;
pub mod holds;
pub mod ids;
pub mod keys;
pub mod manifest;
pub mod mapping;
pub mod opened;
pub mod policy;
pub mod receipt;
pub mod recipients;
pub mod rollout;
pub mod scope;
pub mod sealed;
pub mod target;
pub mod text_format;
pub mod token_keys;
mod ucum;
