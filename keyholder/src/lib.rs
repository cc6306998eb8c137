//! The keyholder: holds the pseudonym keys and evaluates them blindly for sites. It never sees an identifier, and what it
//! sees of a patient is different every time.
//!
//! | step | module |
//! |---|---|
//! | bytes → `Verified<EvaluationRequest>` → counted, or a [`reason::Reason`] → evaluated | [`evaluate`] |
//! | a site's request → a sealed key, signed, for who cannot reach the service | [`deliver`] |
//! | sites, nonces, counts, alarms | [`database`] |
//! | keys at rest | [`keys`] |
//! | HTTP around it | [`service`], [`problem`]; its door is `lockgate-service` |
//!
//! It has no connection to the linker and none to the warehouse: sites and their public keys are entered by its operator.

pub mod config;
pub mod database;
pub mod deliver;
pub mod evaluate;
pub mod keys;
pub mod problem;
pub mod reason;
pub mod report;
pub mod service;
