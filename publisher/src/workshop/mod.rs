//! The workshop: where a module is written. It is laid out, built, checked as a publisher checks it, run on an invented
//! site, and compared with what it sent before.
//!
//! ```text
//! <module>/module.toml            what it reads, writes and needs
//! <module>/Cargo.toml, src/       its source, where it is written in Rust
//! <module>/module.wasm            the module, where it is written in another language
//! <module>/fixture/               the invented site that it runs on: see `fixture`
//! <module>/golden/<month>/        what it sends from there, a CSV file an output
//! ```
//!
//! A module runs in the real agent, which is a program of its own (`lockgate-agent preview`), on a registry and a database
//! that are made for the run and go with it. So what is shown is what a practice would send.

pub mod agent;
pub mod compile;
pub mod diff;
pub mod extract;
pub mod fixture;
pub mod folder;
pub mod golden;
pub mod scaffold;
pub mod sdk;
pub mod site;
