//! Every limit of the service, in one place.

use std::time::Duration;

use lockgate_service::DoorLimits;
use lockgate_signing::bundle::BLOCK_BYTES_MAX;
use lockgate_signing::envelope::ENVELOPE_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// What the service takes from outside, at most.
///
/// Memory: a connection holds at most [`READ_BUFFER_BYTES`]; an upload two parts of [`PART_BYTES`] besides; a header its
/// bytes and what they decode to (less than 24 times as much). With the values below that is 32 + 32 + 192 MiB if every one
/// of them is used to the full by enrolled sites that mean harm, and some 20 MiB in practice. Blocks are never whole in memory,
/// but for those that are handed out to recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections; further ones wait to be taken from the listening queue.
    pub connections_max: u32,
    /// Headers and enrolments in work at once; further ones wait.
    pub headers_max: u32,
    /// Blocks received at once, until they are on stable storage; further ones wait.
    pub uploads_max: u32,
    /// Bundles handed out to recipients at once, three blocks (48 MiB) of memory each at most; further ones wait.
    pub collections_max: u32,
    /// Bundles of one site that are begun and not complete.
    pub pending_per_site_max: u32,
    /// How long a request may wait for its turn before it is told to come back.
    pub wait_s: u64,
    /// How long the head of a request may take, from the connection or from the answer before it.
    pub head_timeout_s: u64,
    /// How long a body may pause.
    pub idle_timeout_s: u64,
    /// How long a request may take in all: 16 MiB on a line of 250 kbit/s.
    pub request_timeout_s: u64,
    /// How long open requests have to end when the service stops.
    pub shutdown_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            headers_max: 8,
            uploads_max: 16,
            collections_max: 2,
            pending_per_site_max: 1_000,
            wait_s: 20,
            head_timeout_s: 60,
            idle_timeout_s: 30,
            request_timeout_s: 600,
            shutdown_s: 10,
        }
    }
}

impl Limits {
    /// The largest header or enrolment request, bytes; the format's.
    pub const HEADER_BYTES_MAX: usize = ENVELOPE_BYTES_MAX;

    /// What a connection may take.
    pub fn door(&self) -> DoorLimits {
        DoorLimits {
            connections_max: self.connections_max,
            head_timeout: Duration::from_secs(self.head_timeout_s),
            shutdown: Duration::from_secs(self.shutdown_s),
            read_buffer_bytes: READ_BUFFER_BYTES,
        }
    }

    pub(crate) fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_s)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
    }
}

/// What one connection buffers, bytes.
pub const READ_BUFFER_BYTES: usize = 128 << 10;

/// What of a block is written in one go, bytes. (An S3 store wants at least 5 MiB for all parts but the last.)
pub const PART_BYTES: usize = 1 << 20;

/// What is read and dropped of a refused body, so that its sender gets to read the answer; who sends more is cut off.
pub const DRAIN_BYTES_MAX: u64 = 4 * BLOCK_BYTES_MAX;

/// How long an enrolment token can be used.
pub const TOKEN_LIFE_S: i64 = 14 * 24 * 3600;
