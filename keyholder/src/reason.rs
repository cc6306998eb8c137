//! Why a request is refused: a closed list, each with a stable code and an HTTP status.

use lockgate_signing::cbor::CborError;
use lockgate_signing::envelope::EnvelopeError;

/// Why a request is refused. The text is for people; programs go by [`Reason::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Reason {
    /// Not an envelope.
    #[error("not a signed envelope")]
    NotAnEnvelope,
    /// An envelope in another encoding than the one it has to have.
    #[error("the encoding is not deterministic CBOR")]
    NotDeterministic,
    /// Bytes after the end.
    #[error("bytes follow the end of the request")]
    TrailingBytes,
    /// Too large.
    #[error("the request is too large")]
    TooLarge,
    /// An envelope of another kind, for example a bundle's header.
    #[error("the envelope is of another type than is expected here")]
    WrongRole,
    /// Signed with a key that is not entered here.
    #[error("the key is not known here; ask the keyholder's operator to enter the site's public key")]
    UnknownKey,
    /// Signed with a key, or for a site, that was revoked.
    #[error("the key was revoked; ask the keyholder's operator")]
    RevokedKey,
    /// The signature is not of these bytes.
    #[error("the signature does not verify")]
    BadSignature,
    /// In another site's name.
    #[error("the site that is named is not the site that the key belongs to")]
    WrongSite,
    /// Signed, but not a message of this version.
    #[error("the signature verifies, but the content is not what this version of the format allows")]
    ContentInvalid,
    /// Made at another time: old, or by a clock that is wrong.
    #[error("the request was not made just now; check the clocks of the site and of the keyholder")]
    ClockApart,
    /// Taken before.
    #[error("this request was taken before; make a new one")]
    Replayed,
    /// No key of this domain and epoch.
    #[error("there is no key for this domain and epoch; it may be retired, or not be made yet")]
    NoSuchKey,
    /// Bytes that are no group element.
    #[error("the request holds bytes that are no element of the group")]
    NotAnElement,
    /// The day's quota is used up.
    #[error(
        "the site's evaluations of the day are used up; come back tomorrow, or ask the keyholder's operator"
    )]
    QuotaExceeded,
    /// Too many requests in a short time.
    #[error("too many requests of this site in a minute; come back later")]
    TooManyRequests,
}

impl Reason {
    /// Every reason, for documents and tests.
    pub const ALL: [Self; 16] = [
        Self::NotAnEnvelope,
        Self::NotDeterministic,
        Self::TrailingBytes,
        Self::TooLarge,
        Self::WrongRole,
        Self::UnknownKey,
        Self::RevokedKey,
        Self::BadSignature,
        Self::WrongSite,
        Self::ContentInvalid,
        Self::ClockApart,
        Self::Replayed,
        Self::NoSuchKey,
        Self::NotAnElement,
        Self::QuotaExceeded,
        Self::TooManyRequests,
    ];

    /// The code: stable, for programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotAnEnvelope => "not-an-envelope",
            Self::NotDeterministic => "not-deterministic",
            Self::TrailingBytes => "trailing-bytes",
            Self::TooLarge => "too-large",
            Self::WrongRole => "wrong-role",
            Self::UnknownKey => "unknown-key",
            Self::RevokedKey => "revoked-key",
            Self::BadSignature => "bad-signature",
            Self::WrongSite => "wrong-site",
            Self::ContentInvalid => "content-invalid",
            Self::ClockApart => "clock-apart",
            Self::Replayed => "replayed",
            Self::NoSuchKey => "no-such-key",
            Self::NotAnElement => "not-an-element",
            Self::QuotaExceeded => "quota-exceeded",
            Self::TooManyRequests => "too-many-requests",
        }
    }

    /// The HTTP status that carries it.
    pub const fn status(self) -> u16 {
        match self {
            Self::NotAnEnvelope | Self::NotDeterministic | Self::TrailingBytes | Self::WrongRole => 400,
            Self::UnknownKey | Self::RevokedKey | Self::BadSignature | Self::WrongSite | Self::ClockApart => {
                403
            }
            Self::NoSuchKey => 404,
            Self::Replayed => 409,
            Self::TooLarge => 413,
            Self::ContentInvalid | Self::NotAnElement => 422,
            Self::QuotaExceeded | Self::TooManyRequests => 429,
        }
    }
}

impl From<&EnvelopeError> for Reason {
    fn from(error: &EnvelopeError) -> Self {
        let encoding = |error: &CborError, otherwise| match error {
            CborError::NotDeterministic(_) => Self::NotDeterministic,
            CborError::Leftover(_) => Self::TrailingBytes,
            _ => otherwise,
        };
        match error {
            EnvelopeError::TooLarge(_) => Self::TooLarge,
            EnvelopeError::Encoding(error) => encoding(error, Self::NotAnEnvelope),
            EnvelopeError::WrongRole(_) => Self::WrongRole,
            EnvelopeError::WrongKey { .. } => Self::UnknownKey,
            EnvelopeError::Signature(_) => Self::BadSignature,
            EnvelopeError::Content(error) => encoding(error, Self::ContentInvalid),
        }
    }
}

impl From<EnvelopeError> for Reason {
    fn from(error: EnvelopeError) -> Self {
        Self::from(&error)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_code_of_its_own_and_is_documented() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        let document = include_str!("../../docs/KEYHOLDER.md");
        for reason in Reason::ALL {
            let row = format!("| `{}` | {} |", reason.code(), reason.status());
            assert!(document.contains(&row), "{row} is not in docs/KEYHOLDER.md");
        }
    }
}
