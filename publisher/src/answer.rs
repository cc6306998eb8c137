//! What a command answers: text for people, one JSON object for scripts, and an exit code.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// The answer of one command.
#[derive(Debug)]
pub(crate) struct Answer {
    pub text: String,
    pub json: Value,
    pub exit_code: u8,
}

impl Answer {
    /// The same words in JSON as in text.
    pub(crate) fn of(value: &(impl fmt::Display + Serialize)) -> anyhow::Result<Self> {
        Ok(Self { text: value.to_string(), json: serde_json::to_value(value)?, exit_code: 0 })
    }

    /// With this exit code.
    pub(crate) fn with_exit_code(self, exit_code: u8) -> Self {
        Self { exit_code, ..self }
    }
}
