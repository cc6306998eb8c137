//! The warehouse: opens what sites have sent, keeps it as tables under tokens of its own, and deletes what is retracted.
//!
//! | step | module |
//! |---|---|
//! | which bundles there are, and each whole; statements back | [`linker_client`] |
//! | verified again, opened, applied once, stated | [`collect`] |
//! | tokens of sites → tokens of the warehouse | [`rekey`] |
//! | tables, what was applied, whose rows stay out | [`store`] |
//! | keys and the folder | [`keys`], [`config`] |

pub mod collect;
pub mod config;
pub mod failpoint;
pub mod keys;
pub mod linker_client;
pub mod rekey;
pub mod report;
pub mod store;
