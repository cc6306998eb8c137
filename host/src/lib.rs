//! The agent: reads a clinical database, removes who objects, replaces identities, runs signed modules, and pushes signed
//! bundles. [`run`] is the way that the data takes; `ARCHITECTURE.md` is the map.

pub mod agent;
mod check;
pub mod cli;
pub mod config;
mod crossing;
mod decimal;
mod dictionary;
mod disclosure;
pub mod encryption;
pub mod enrol;
mod evidence;
mod failpoint;
pub mod guest;
pub mod identity;
mod jitter;
pub mod ledger;
pub mod linker_client;
pub mod modules;
mod objections;
pub mod observed;
mod order;
pub mod outbox;
pub mod plan;
pub mod progress;
pub mod push;
mod read_ahead;
mod retract;
pub mod run;
mod seal;
mod source;
pub mod status;

/// How the agent names itself to the linker and the keyholder.
pub(crate) const USER_AGENT: &str = concat!("lockgate-agent/", env!("CARGO_PKG_VERSION"));
