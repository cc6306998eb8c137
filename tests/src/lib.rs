//! The harness: a whole Lockgate on one machine, made of the real binaries, real files and real sockets.
//!
//! A [`Stage`] is a temporary folder with a registry and a linker; [`Stage::site`] adds sites to it. The end-to-end tests,
//! `cargo xtask demo` and `cargo xtask bench` are written against it, so that what is shown is what is tested.

pub mod binaries;
pub mod command;
pub mod exactly_once;
pub mod folder;
pub mod http;
pub mod keyholder;
pub mod leak;
pub mod linker;
pub mod opened;
pub mod registry;
pub mod sealed_keys;
pub mod server;
pub mod site;
pub mod small_disk;
pub mod stage;
pub mod warehouse;
pub mod watched;
pub mod wire;

pub use binaries::Binaries;
pub use command::Finished;
pub use exactly_once::ExactlyOnce;
pub use folder::copy_folder;
pub use keyholder::Keyholder;
pub use linker::Linker;
pub use registry::Registry;
pub use sealed_keys::SealedKeys;
pub use site::{Site, SiteOptions};
pub use small_disk::SmallDisk;
pub use stage::Stage;
pub use warehouse::{Warehouse, WarehouseKeys};

/// The day that the examples are made for: the last complete month is October 2026.
pub const AS_OF: &str = "2026-11-01";
