//! Why something that was sent is refused: a closed list, one stable code each.
//!
//! The list is about what was sent. What is wrong on this side (a full disk, too much work) is in [`crate::problem`].

use lockgate_signing::bundle::BLOCK_BYTES_MAX;
use lockgate_signing::cbor::CborError;
use lockgate_signing::envelope::{ENVELOPE_BYTES_MAX, EnvelopeError};

/// Why something is refused. The texts name no identifier and repeat nothing of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Reason {
    /// Not COSE_Sign1 in the form of `bundle.cddl`.
    #[error("this is not a signed envelope of Lockgate's form")]
    NotAnEnvelope,
    /// A second encoding of something that has one.
    #[error(
        "the CBOR is not deterministic: lengths and integers in shortest form, keys in order, nothing indefinite"
    )]
    NotDeterministic,
    /// Bytes after the end.
    #[error("bytes are left over after the end")]
    TrailingBytes,
    /// Above a limit of the format.
    #[error(
        "larger than the format allows: {ENVELOPE_BYTES_MAX} bytes of header, {BLOCK_BYTES_MAX} bytes of block"
    )]
    TooLarge,
    /// An envelope of another kind, for example a receipt sent as a bundle.
    #[error("the envelope is of another type than is expected here")]
    WrongRole,
    /// Signed with a key that is not enrolled.
    #[error("the key is not enrolled here; enrol the site")]
    UnknownKey,
    /// Signed with a key that was revoked.
    #[error("the key was revoked; enrol the site again with a new token")]
    RevokedKey,
    /// The signature is not of these bytes.
    #[error("the signature does not verify")]
    BadSignature,
    /// Another site's bundle, signed or replayed with this key.
    #[error("the site that is named is not the site that the key belongs to")]
    WrongSite,
    /// Signed, but not a message of this version.
    #[error("the signature verifies, but the content is not what this version of the format allows")]
    ContentInvalid,
    /// Another bundle has this place in the site's chain, or the chain does not join.
    #[error(
        "the bundle does not fit the site's chain: its sequence number or its predecessor is taken or differs"
    )]
    ChainFork,
    /// No verified header waits for this block.
    #[error("no verified header names this block; send the header first")]
    BlockNotNamed,
    /// The path is not a digest.
    #[error("a block is addressed by 64 lower-case hexadecimal digits")]
    BlockAddress,
    /// Other bytes than the digest says.
    #[error("the block's bytes have another digest")]
    BlockDigestMismatch,
    /// More or fewer bytes than the header says.
    #[error("the block has another size than the header says")]
    BlockSizeMismatch,
    /// The site is not known here.
    #[error("the site is not registered here; ask the linker's operator")]
    UnknownSite,
    /// No such token, or a token of another site.
    #[error("the enrolment token is not known for this site; ask the linker's operator for a new one")]
    TokenUnknown,
    /// The token has enrolled another key.
    #[error("the enrolment token has been used for another key; ask the linker's operator for a new one")]
    TokenUsed,
    /// The token is too old.
    #[error("the enrolment token has expired; ask the linker's operator for a new one")]
    TokenExpired,
    /// Too many bundles of the site are begun and not complete.
    #[error("too many bundles of this site wait for blocks; complete them first")]
    TooManyPending,
    /// Signed with a key that is no recipient's.
    #[error(
        "the key is not a recipient's here, or no longer; ask the linker's operator to enter it with `recipient add`"
    )]
    UnknownRecipient,
    /// A request of another time.
    #[error("the request was made at another time than now; set the clock right and ask again")]
    StaleRequest,
    /// No bundle with this id was accepted.
    #[error("no bundle with this id was accepted here")]
    UnknownBundle,
    /// A statement that is not about the retraction that it names.
    #[error("the statement names a bundle that is no retraction, or says of one what is not so")]
    DeletionMismatch,
}

impl Reason {
    /// Every reason, for documents and tests.
    pub const ALL: [Self; 24] = [
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
        Self::ChainFork,
        Self::BlockNotNamed,
        Self::BlockAddress,
        Self::BlockDigestMismatch,
        Self::BlockSizeMismatch,
        Self::UnknownSite,
        Self::TokenUnknown,
        Self::TokenUsed,
        Self::TokenExpired,
        Self::TooManyPending,
        Self::UnknownRecipient,
        Self::StaleRequest,
        Self::UnknownBundle,
        Self::DeletionMismatch,
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
            Self::ChainFork => "chain-fork",
            Self::BlockNotNamed => "block-not-named",
            Self::BlockAddress => "block-address",
            Self::BlockDigestMismatch => "block-digest-mismatch",
            Self::BlockSizeMismatch => "block-size-mismatch",
            Self::UnknownSite => "unknown-site",
            Self::TokenUnknown => "token-unknown",
            Self::TokenUsed => "token-used",
            Self::TokenExpired => "token-expired",
            Self::TooManyPending => "too-many-pending",
            Self::UnknownRecipient => "unknown-recipient",
            Self::StaleRequest => "stale-request",
            Self::UnknownBundle => "unknown-bundle",
            Self::DeletionMismatch => "deletion-mismatch",
        }
    }

    /// The HTTP status that carries it.
    pub const fn status(self) -> u16 {
        match self {
            Self::NotAnEnvelope
            | Self::NotDeterministic
            | Self::TrailingBytes
            | Self::WrongRole
            | Self::BlockAddress => 400,
            Self::UnknownKey
            | Self::RevokedKey
            | Self::BadSignature
            | Self::WrongSite
            | Self::UnknownSite
            | Self::TokenUnknown
            | Self::TokenExpired
            | Self::UnknownRecipient
            | Self::StaleRequest => 403,
            Self::BlockNotNamed | Self::UnknownBundle => 404,
            Self::ChainFork | Self::TokenUsed | Self::DeletionMismatch => 409,
            Self::TooLarge => 413,
            Self::ContentInvalid | Self::BlockDigestMismatch | Self::BlockSizeMismatch => 422,
            Self::TooManyPending => 429,
        }
    }
}

impl From<&EnvelopeError> for Reason {
    fn from(error: &EnvelopeError) -> Self {
        let encoding = |error: &CborError, otherwise| match error {
            CborError::NotDeterministic(_) => Self::NotDeterministic,
            CborError::Leftover(_) => Self::TrailingBytes,
            CborError::Truncated
            | CborError::Malformed(_)
            | CborError::Unexpected { .. }
            | CborError::Value { .. } => otherwise,
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
    fn every_reason_has_a_code_of_its_own() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|reason| (400..500).contains(&reason.status())));
    }

    #[test]
    fn the_document_lists_every_code_and_its_status() {
        let document = include_str!("../../docs/FORMAT.md");
        for reason in Reason::ALL {
            let row = format!("| `{}` | {} |", reason.code(), reason.status());
            assert!(document.contains(&row), "{row} is not in docs/FORMAT.md");
        }
    }
}
