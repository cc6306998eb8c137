//! The keyholder's side.

use std::fmt;

use voprf::{BlindedElement, Ristretto255, VoprfServer};
use zeroize::Zeroizing;

use crate::{ELEMENT_BYTES, OUTPUT_BYTES, OprfError, PROOF_BYTES, PublicKey, Randomness, Rng, elements};

/// The key of one domain and epoch. Zeroised when dropped; cannot be printed.
pub struct SecretKey {
    server: VoprfServer<Ristretto255>,
    public: PublicKey,
}

/// An evaluated batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    /// The elements, in the order in which they were asked.
    pub elements: Vec<u8>,
    /// The proof that all of them were evaluated with one key.
    pub proof: [u8; PROOF_BYTES],
}

impl SecretKey {
    /// Derives a key from a secret seed and from what it is for (RFC 9497, section 3.2.1).
    pub fn derive(seed: &Zeroizing<[u8; 32]>, info: &[u8]) -> Result<Self, OprfError> {
        let server = VoprfServer::new_from_seed(seed.as_slice(), info)?;
        let mut public = [0; ELEMENT_BYTES];
        public.copy_from_slice(&<Ristretto255 as voprf::Group>::serialize_elem(server.get_public_key()));
        let public = PublicKey::from_bytes(public).map_err(|_| OprfError::Element)?;
        Ok(Self { server, public })
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Evaluates a batch blindly, and proves it.
    pub fn evaluate(&self, blinded: &[u8], randomness: Randomness<'_>) -> Result<Evaluated, OprfError> {
        // Every element is checked before the key touches any: an element of another group would leak the key.
        let blinded: Vec<_> =
            elements(blinded)?.map(BlindedElement::deserialize).collect::<Result<_, _>>()?;
        let result = self.server.batch_blind_evaluate(&mut Rng(randomness), &blinded)?;
        let mut elements = Vec::with_capacity(blinded.len() * ELEMENT_BYTES);
        result.messages.iter().for_each(|message| elements.extend_from_slice(&message.serialize()));
        let mut proof = [0; PROOF_BYTES];
        proof.copy_from_slice(&result.proof.serialize());
        Ok(Evaluated { elements, proof })
    }

    /// The function itself, on an input in the open. For tests and tools of those who hold both.
    pub fn evaluate_open(&self, input: &[u8]) -> Result<Zeroizing<[u8; OUTPUT_BYTES]>, OprfError> {
        Ok(Zeroizing::new(self.server.evaluate(input)?.into()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public)
    }
}
