//! The site's side.

use voprf::{EvaluationElement, Group as _, Proof, Ristretto255, VoprfClient};
use zeroize::Zeroizing;

use crate::{
    BATCH_MAX, ELEMENT_BYTES, OUTPUT_BYTES, OprfError, PROOF_BYTES, PublicKey, Randomness, Rng, elements,
};

/// What the function gives for one input.
pub type Output = Zeroizing<[u8; OUTPUT_BYTES]>;

/// A batch on its way: what was asked, and the blinds that hide it. Used once; cannot be printed.
pub struct Blinded<I> {
    inputs: Vec<I>,
    clients: Vec<VoprfClient<Ristretto255>>,
    elements: Vec<u8>,
}

impl<I: AsRef<[u8]>> Blinded<I> {
    /// Hides the inputs, each behind a blind of its own.
    pub fn new(inputs: Vec<I>, randomness: Randomness<'_>) -> Result<Self, OprfError> {
        if inputs.is_empty() || inputs.len() > BATCH_MAX {
            return Err(OprfError::Batch);
        }
        let mut rng = Rng(randomness);
        let mut clients = Vec::with_capacity(inputs.len());
        let mut elements = Vec::with_capacity(inputs.len() * ELEMENT_BYTES);
        for input in &inputs {
            let blinded = VoprfClient::blind(input.as_ref(), &mut rng)?;
            elements.extend_from_slice(&blinded.message.serialize());
            clients.push(blinded.state);
        }
        Ok(Self { inputs, clients, elements })
    }

    /// What the keyholder gets to see: random group elements.
    pub fn elements(&self) -> &[u8] {
        &self.elements
    }

    /// Checks the proof against the published key, then takes the blinds away. All of it is believed, or nothing.
    pub fn finalise(
        self,
        evaluated: &[u8],
        proof: &[u8; PROOF_BYTES],
        key: &PublicKey,
    ) -> Result<Vec<(I, Output)>, OprfError> {
        // 1. As many answers as questions, each a canonical element.
        let evaluated = elements(evaluated)?;
        if evaluated.len() != self.clients.len() {
            return Err(OprfError::Batch);
        }
        let evaluated: Vec<_> = evaluated.map(EvaluationElement::deserialize).collect::<Result<_, _>>()?;
        // 2. One proof that all of them were made with the published key: a keyholder that used a key of its own for one site
        //    could otherwise recognise that site's tokens.
        let proof = Proof::deserialize(proof).map_err(|_| OprfError::Proof)?;
        let key = Ristretto255::deserialize_elem(&key.to_bytes())?;
        let outputs: Vec<Output> =
            VoprfClient::batch_finalize(&self.inputs, &self.clients, &evaluated, &proof, key)?
                .map(|output| output.map(|output| Zeroizing::new(output.into())))
                .collect::<Result<_, _>>()?;
        Ok(self.inputs.into_iter().zip(outputs).collect())
    }
}
