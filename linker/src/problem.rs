//! What went wrong, and what of it is this side's fault. The documents are `lockgate-service`'s.

use lockgate_service::Refusal;

use crate::database::DatabaseError;
use crate::reason::Reason;
use crate::store::StoreError;

/// Why a request has no answer.
pub type Problem = lockgate_service::Problem<Reason>;

impl Refusal for Reason {
    const SERVICE: &'static str = "linker";

    fn code(&self) -> &'static str {
        Self::code(*self)
    }

    fn status(&self) -> u16 {
        Self::status(*self)
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        if error.is_disk_full() { Self::DiskFull } else { Self::internal(error) }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull => Self::DiskFull,
            error => Self::internal(error),
        }
    }
}
