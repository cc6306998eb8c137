//! What went wrong, as an RFC 9457 problem document. A document holds a code and fixed text: no identifier, no input.

use std::error::Error;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The media type of a problem document.
pub const CONTENT_TYPE: &str = "application/problem+json";
/// Seconds after which to come back, where the service is full or busy.
const BUSY_S: u32 = 60;

/// A service's closed list of reasons for which something that was sent is refused.
pub trait Refusal: Error + Send + Sync + 'static {
    /// What the service is called in its answers.
    const SERVICE: &'static str;

    /// The code: stable, for programs.
    fn code(&self) -> &'static str;

    /// The HTTP status.
    fn status(&self) -> u16;

    /// Seconds after which the same may be taken; absent: never.
    fn retry_after_s(&self) -> Option<u32> {
        None
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Problem<R: Refusal> {
    /// What was sent is refused.
    #[error(transparent)]
    Rejected(#[from] R),
    /// No space.
    #[error("the {}'s disk is full; nothing was lost, send it again later", R::SERVICE)]
    DiskFull,
    /// Too much to do.
    #[error("the {} is busy; send it again later", R::SERVICE)]
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
    #[error("the {} has a fault of its own; send it again later", R::SERVICE)]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

impl<R: Refusal> Problem<R> {
    /// Something that should not happen.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

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

    fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Busy | Self::DiskFull => Some(BUSY_S),
            Self::Rejected(reason) => reason.retry_after_s(),
            _ => None,
        }
    }
}

impl<R: Refusal> IntoResponse for Problem<R> {
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
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
