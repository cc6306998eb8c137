//! End-to-end tests over the real binaries: one subject a file.

mod whole_flow;

/// Every test can fail with a message of its own.
type TestResult = anyhow::Result<()>;
