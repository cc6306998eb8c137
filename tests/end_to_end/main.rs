//! End-to-end tests over the real binaries: one subject a file.

mod alarms;
mod arrows;
mod attacks;
mod code_columns;
mod conformance;
mod crashes;
mod directions;
mod full_disk;
mod hostile;
mod keyholder;
mod leaks;
mod objection_vectors;
mod objections;
mod page;
mod publishing;
mod quiet;
mod receipts;
mod record;
mod rejections;
mod removed;
mod repeatable;
mod resending;
mod retraction;
mod rollout;
mod sealed;
mod sealed_keys;
mod service;
mod status;
mod tokens;
mod walkthrough;
mod whole_flow;
mod workshop;

/// Every test can fail with a message of its own.
type TestResult = anyhow::Result<()>;
