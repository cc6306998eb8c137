//! What a module would send for one month, as `lockgate-agent preview --json` prints it.

use std::collections::BTreeMap;

use lockgate_signing::ids::{Name, Period};
use serde::{Deserialize, Serialize};

/// What would be sent for one month. Patients are labels, which no token can be read from.
///
/// Fields that a later agent adds are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Extract {
    /// The month.
    pub period: Period,
    /// Rows, all outputs together.
    pub rows: u64,
    /// Bytes of the sealed blocks.
    pub bytes: u64,
    /// What the run used: about one unit an instruction.
    pub fuel: u64,
    /// Patients who are in it.
    pub patients_sent: u64,
    /// What the host read and withheld, by its own names.
    pub counts: BTreeMap<String, serde_json::Value>,
    /// The outputs, in the order of the manifest.
    pub outputs: Vec<OutputRows>,
}

/// The rows of one output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OutputRows {
    /// The output.
    pub name: Name,
    /// The names of its columns.
    pub columns: Vec<String>,
    /// Its rows; a cell without a value is empty.
    #[serde(rename(deserialize = "first-rows"))]
    pub rows: Vec<Vec<String>>,
}

impl Extract {
    /// The host's counts that are not nothing, in words: `10 patients`, `1 withheld type 1`.
    pub fn counts_in_words(&self) -> Vec<String> {
        let counts = self.counts.iter().filter_map(|(name, count)| Some((name, count.as_u64()?)));
        counts
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{count} {}", name.replace('-', " ")))
            .collect()
    }
}
