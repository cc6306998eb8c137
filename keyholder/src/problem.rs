//! What went wrong, and what of it is this side's fault. The documents are `lockgate-service`'s.

use lockgate_service::Refusal;

use crate::database::DatabaseError;
use crate::reason::Reason;

/// Why a request has no answer.
pub type Problem = lockgate_service::Problem<Reason>;

impl Refusal for Reason {
    const SERVICE: &'static str = "keyholder";

    fn code(&self) -> &'static str {
        Self::code(*self)
    }

    fn status(&self) -> u16 {
        Self::status(*self)
    }

    fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::TooManyRequests => Some(60),
            Self::QuotaExceeded => Some(86_400),
            _ => None,
        }
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        // Without its counts nothing is evaluated.
        if error.is_disk_full() { Self::DiskFull } else { Self::internal(error) }
    }
}
