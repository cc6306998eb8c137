//! The linker: takes in bundles, verifies them, stores them, and answers with a signed receipt. It cannot read what it stores.
//!
//! | step | module |
//! |---|---|
//! | bytes → `Verified<BundleHeader>`, or a [`reason::Reason`] | [`verify`] |
//! | header and what is known of the site → accept, duplicate, reject | [`decide`] |
//! | a block's bytes → stable storage, hashed on the way | `upload`, [`store`] |
//! | all there → committed → receipt | [`intake`] |
//! | out to recipients, their statements back to sites | [`collection`] |
//! | HTTP around it | [`service`], [`problem`]; its door is `lockgate-service` |
//! | a bundle as one file | [`offline`] |
//! | what headers count of objections, and when that is alarming | [`objections`] |
//!
//! [`verify::verify_bundle`] needs none of the rest: see `examples/verify.rs`.

pub mod collection;
pub mod config;
pub mod database;
pub mod decide;
pub mod failpoint;
pub mod intake;
pub mod limits;
pub mod objections;
pub mod offline;
pub mod problem;
pub mod reason;
pub mod report;
pub mod service;
pub mod store;
mod upload;
pub mod verify;
