//! What the services of the centre have in common: their front door, their commands' way of speaking, and what they answer
//! when something is wrong.

pub mod command;
pub mod door;
pub mod problem;
pub mod report;

pub use door::{DoorLimits, ServeError, listen, run, serve};
pub use problem::{Problem, Refusal};
