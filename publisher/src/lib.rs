//! The central team's tool: checks modules, mappings, policies and lists, and publishes them in a TUF repository (The
//! Update Framework, specification 1.0) that any web server or folder can serve.
//!
//! ```text
//! <repository>/metadata/     signed metadata: 1.root.json, N.targets.json, N.snapshot.json, timestamp.json
//! <repository>/targets/      what is published, each file named by the digest of its bytes
//! <repository>/staged/       what the next `publish` makes live; not signed, not to be served
//! <keys>/                    one key a role (PKCS#8 PEM, 0600), and root.json, which the practices pin
//! ```

pub mod check;
pub mod codelist;
pub mod contract;
pub mod documents;
pub mod keys;
pub mod lint;
pub mod module;
pub mod publish;
pub mod repository;
pub mod staging;
