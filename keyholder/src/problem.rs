//! What went wrong, as an RFC 9457 problem document. A document holds a code and fixed text: no input.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::database::DatabaseError;
use crate::reason::Reason;

/// The media type of a problem document.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// What was sent is refused.
    #[error(transparent)]
    Rejected(#[from] Reason),
    /// No space for the counts; without them nothing is evaluated.
    #[error("the keyholder's disk is full; send it again later")]
    DiskFull,
    /// Too much to do.
    #[error("the keyholder is busy; send it again later")]
    Busy,
    /// The sender is too slow.
    #[error("the request took too long; send it again")]
    Timeout,
    /// The sender went away.
    #[error("the request ended before its end; send it again")]
    Interrupted,
    /// No such address.
    #[error("there is nothing at this address")]
    NotFound,
    /// Another method is meant.
    #[error("this address takes another method")]
    MethodNotAllowed,
    /// A fault on this side; the cause is for the log.
    #[error("the keyholder has a fault of its own; send it again later")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Problem {
    /// The code: stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(reason) => reason.code(),
            Self::DiskFull => "disk-full",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Internal(_) => "internal",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Rejected(reason) => reason.status(),
            Self::DiskFull => 507,
            Self::Busy => 503,
            Self::Timeout => 408,
            Self::Interrupted => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Internal(_) => 500,
        }
    }

    /// The document.
    pub fn document(&self) -> serde_json::Value {
        serde_json::json!({
            "type": format!("urn:lockgate:problem:{}", self.code()),
            "title": self.to_string(),
            "status": self.status(),
            "code": self.code(),
        })
    }

    fn retry_after_s(&self) -> Option<&'static str> {
        match self {
            Self::Busy | Self::DiskFull | Self::Rejected(Reason::TooManyRequests) => Some("60"),
            Self::Rejected(Reason::QuotaExceeded) => Some("86400"),
            _ => None,
        }
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        if error.is_disk_full() { Self::DiskFull } else { Self::Internal(error.into()) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        match &self {
            Self::Internal(cause) => tracing::error!(%cause, "internal fault"),
            Self::DiskFull => tracing::error!("the disk is full"),
            problem => tracing::warn!(code = problem.code(), "refused"),
        }
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.document().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }
}
