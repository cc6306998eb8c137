//! Attacks by whoever holds the web server, the network, or some of the keys, through the real agent. Each ends in its
//! own clear message, and leaves the agent running what it ran before.

pub(crate) mod case;
pub(crate) mod forge;
mod served;
mod signers;
pub(crate) mod store;
mod time;
mod versions;
