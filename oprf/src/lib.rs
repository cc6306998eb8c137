//! Blind evaluation of pseudonyms: RFC 9497, VOPRF mode, suite ristretto255-SHA512, in batches with one proof.
//!
//! | who | does | type |
//! |---|---|---|
//! | site | hides inputs behind random blinds | [`Blinded`] |
//! | keyholder | evaluates what it cannot read, and proves with which key | [`SecretKey`] |
//! | site | checks the proof, takes the blinds away | [`Blinded::finalise`] |
//!
//! The site never holds the key and the keyholder never sees an input: two blindings of one input have nothing in common.
//! Elements travel as byte strings of [`ELEMENT_BYTES`] each, one after the other. The curve and the protocol are the `voprf`
//! crate's; nothing outside of this crate knows it. No I/O, no clock; randomness is an argument.

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use client::{Blinded, Output};
pub use server::{Evaluated, SecretKey};
use voprf::{Group as _, Ristretto255};

/// One group element, bytes.
pub const ELEMENT_BYTES: usize = 32;
/// A proof over a whole batch, bytes.
pub const PROOF_BYTES: usize = 64;
/// An output, bytes.
pub const OUTPUT_BYTES: usize = 64;
/// The most elements of one batch. (RFC 9497 would allow 65,535; this keeps a request at half a MiB.)
pub const BATCH_MAX: usize = 16_384;

/// Fills a buffer from the operating system's randomness; handed in by the caller.
pub type Randomness<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>;

/// There is no randomness, so there is no blinding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no randomness")]
pub struct NoRandomness;

/// Why a batch cannot be made, evaluated or believed. Says nothing of inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OprfError {
    /// None, or too many at once.
    #[error("a batch has 1 to {BATCH_MAX} elements")]
    Batch,
    /// An input that the protocol cannot take (longer than 65,535 bytes).
    #[error("an input is too long")]
    Input,
    /// Bytes that are no element: not canonical, not on the curve, or the identity, which would give the blind away.
    #[error("an element is not a canonical encoding of a group element other than the identity")]
    Element,
    /// Bytes that are no proof.
    #[error("the proof is not a pair of canonical scalars")]
    Proof,
    /// Evaluated with another key than the published one, or not all of it with one key.
    #[error("the proof does not verify: this was not evaluated with the published key")]
    WrongKey,
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

impl From<voprf::Error> for OprfError {
    fn from(error: voprf::Error) -> Self {
        match error {
            voprf::Error::Info | voprf::Error::Input | voprf::Error::DeriveKeyPair => Self::Input,
            voprf::Error::Deserialization => Self::Element,
            voprf::Error::Batch => Self::Batch,
            voprf::Error::ProofVerification | voprf::Error::Protocol => Self::WrongKey,
            voprf::Error::Rng => Self::Randomness(NoRandomness),
        }
    }
}

/// What proofs are checked with: published, signed. Displays as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; ELEMENT_BYTES]);

/// The text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token key is 64 lower-case hexadecimal digits, a canonical element of ristretto255")]
pub struct PublicKeyError;

impl PublicKey {
    /// Reads 32 bytes; refuses what is no element, and the identity.
    pub fn from_bytes(bytes: [u8; ELEMENT_BYTES]) -> Result<Self, PublicKeyError> {
        Ristretto255::deserialize_elem(&bytes).map(|_| Self(bytes)).map_err(|_| PublicKeyError)
    }

    /// The 32 bytes.
    pub fn to_bytes(self) -> [u8; ELEMENT_BYTES] {
        self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| PublicKeyError)?;
        Self::from_bytes(bytes.try_into().map_err(|_| PublicKeyError)?)
    }
}

/// The elements of a batch, each of its own bytes; none and too many are refused before any work.
fn elements(bytes: &[u8]) -> Result<impl ExactSizeIterator<Item = &[u8]>, OprfError> {
    if bytes.is_empty()
        || !bytes.len().is_multiple_of(ELEMENT_BYTES)
        || bytes.len() > BATCH_MAX * ELEMENT_BYTES
    {
        return Err(OprfError::Batch);
    }
    Ok(bytes.chunks_exact(ELEMENT_BYTES))
}

/// [`Randomness`] as the traits that `voprf` asks for.
struct Rng<'a>(Randomness<'a>);

impl rand_core::TryRngCore for Rng<'_> {
    type Error = NoRandomness;

    fn try_next_u32(&mut self) -> Result<u32, NoRandomness> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, NoRandomness> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), NoRandomness> {
        (self.0)(buffer)
    }
}

impl rand_core::TryCryptoRng for Rng<'_> {}
