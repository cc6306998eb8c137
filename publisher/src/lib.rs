//! The central team's tool: checks modules, mappings, policies and lists, and publishes them in a TUF repository (The
//! Update Framework, specification 1.0) that any web server or folder can serve.
//!
//! ```text
//! <repository>/metadata/     signed metadata: N.root.json, N.targets.json and a list for each delegated role, N.snapshot.json,
//!                            timestamp.json
//! <repository>/targets/      what is published, each file named by the digest of its bytes
//! <repository>/staged/       what the next `publish` makes live; not signed, not to be served
//! <keys>/                    private keys (PKCS#8 PEM, 0600), and root.json, which the practices pin
//! ```

pub mod catalogue;
pub mod ceremony;
pub mod change;
pub mod check;
pub mod codelist;
pub mod coherence;
pub mod contract;
pub mod documents;
pub mod edit;
pub mod envelope;
pub mod floor;
pub mod key_file;
pub mod keys;
pub mod lint;
mod mapping_sql;
pub mod module;
mod offers;
pub mod proposal;
pub mod publish;
pub mod published;
pub mod repository;
pub mod review;
pub mod role;
pub mod roles_file;
pub mod staging;
pub mod status;
pub mod workshop;
