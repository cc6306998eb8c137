//! What a site asks of the keyholder, and its answer: blinded elements in, evaluated elements and a proof out.
//!
//! The request is signed with the site's enrolled key, says when it was made and carries a nonce, so that it counts once and
//! against one site's quota. The answer is not signed: its proof says more than a signature could, namely that exactly these
//! elements were evaluated with the published key.

use crate::cbor::{CborError, Reader, Writer};
use crate::envelope::Message;
use crate::ids::{Name, SiteId};

/// One element of ristretto255, bytes.
pub const ELEMENT_BYTES: usize = 32;
/// The most elements of one request: half a MiB.
pub const ELEMENTS_MAX: usize = 16_384;
/// The proof, bytes: two scalars.
pub const PROOF_BYTES: usize = 64;

/// "Evaluate these with the key of this domain and epoch." Signed by the site.
#[derive(Clone, PartialEq, Eq)]
pub struct EvaluationRequest {
    /// Who asks.
    pub site: SiteId,
    /// When, seconds since 1970-01-01 UTC.
    pub at_s: i64,
    /// Random; the keyholder takes each once.
    pub nonce: [u8; 16],
    /// What the tokens are for: the purpose of a manifest.
    pub domain: Name,
    /// The epoch of the key.
    pub epoch: u32,
    /// Blinded elements, [`ELEMENT_BYTES`] each.
    pub elements: Vec<u8>,
}

impl std::fmt::Debug for EvaluationRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.elements.len() / ELEMENT_BYTES;
        write!(f, "EvaluationRequest({}, {} epoch {}, {count} elements)", self.site, self.domain, self.epoch)
    }
}

const REQUEST: &str = "evaluation request";
const ANSWER: &str = "evaluation answer";
const FORMAT: u64 = 1;

impl Message for EvaluationRequest {
    const CONTENT_TYPE: &'static str = "application/vnd.lockgate.evaluation-request+cbor";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.versioned_record(7, FORMAT);
        writer.unsigned(2);
        writer.text(self.site.as_str());
        writer.unsigned(3);
        writer.integer(self.at_s);
        writer.unsigned(4);
        writer.bytes(&self.nonce);
        writer.unsigned(5);
        writer.text(self.domain.as_str());
        writer.unsigned(6);
        writer.unsigned(self.epoch.into());
        writer.unsigned(7);
        writer.bytes(&self.elements);
        writer.into_bytes()
    }

    fn decode(payload: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(payload);
        let r = &mut reader;
        r.versioned_record(7, FORMAT, REQUEST)?;
        r.field(2, REQUEST)?;
        let site = r.text(REQUEST)?.parse().map_err(|error| CborError::value(REQUEST, error))?;
        r.field(3, REQUEST)?;
        let at_s = r.integer(REQUEST)?;
        r.field(4, REQUEST)?;
        let nonce = r.fixed(REQUEST)?;
        r.field(5, REQUEST)?;
        let domain = r.text(REQUEST)?.parse().map_err(|error| CborError::value(REQUEST, error))?;
        r.field(6, REQUEST)?;
        let epoch = r.narrow(REQUEST)?;
        r.field(7, REQUEST)?;
        let elements = elements(r, REQUEST)?;
        reader.finish()?;
        Ok(Self { site, at_s, nonce, domain, epoch, elements })
    }
}

/// The evaluated elements, in the order in which they were asked, and one proof for all of them.
#[derive(Clone, PartialEq, Eq)]
pub struct EvaluationAnswer {
    /// Evaluated elements, [`ELEMENT_BYTES`] each.
    pub elements: Vec<u8>,
    /// RFC 9497, section 2.2: that all of them were evaluated with one key.
    pub proof: [u8; PROOF_BYTES],
}

impl EvaluationAnswer {
    /// The media type of an answer.
    pub const CONTENT_TYPE: &'static str = "application/vnd.lockgate.evaluation-answer+cbor";
    /// The largest answer, bytes.
    pub const BYTES_MAX: usize = ELEMENTS_MAX * ELEMENT_BYTES + 128;

    /// Encodes it as deterministic CBOR.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.versioned_record(3, FORMAT);
        writer.unsigned(2);
        writer.bytes(&self.elements);
        writer.unsigned(3);
        writer.bytes(&self.proof);
        writer.into_bytes()
    }

    /// Decodes it strictly.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        r.versioned_record(3, FORMAT, ANSWER)?;
        r.field(2, ANSWER)?;
        let elements = elements(r, ANSWER)?;
        r.field(3, ANSWER)?;
        let proof = r.fixed(ANSWER)?;
        reader.finish()?;
        Ok(Self { elements, proof })
    }
}

impl std::fmt::Debug for EvaluationAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EvaluationAnswer({} elements)", self.elements.len() / ELEMENT_BYTES)
    }
}

fn elements(reader: &mut Reader<'_>, place: &'static str) -> Result<Vec<u8>, CborError> {
    let bytes = reader.bytes(place)?;
    let count = bytes.len() / ELEMENT_BYTES;
    if !bytes.len().is_multiple_of(ELEMENT_BYTES) || !(1..=ELEMENTS_MAX).contains(&count) {
        return Err(CborError::value(
            place,
            format_args!("not 1 to {ELEMENTS_MAX} elements of {ELEMENT_BYTES} bytes"),
        ));
    }
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_is() {
        let request = EvaluationRequest {
            site: "A81001".parse().unwrap(),
            at_s: 1_793_500_000,
            nonce: [7; 16],
            domain: "care-planning".parse().unwrap(),
            epoch: 1,
            elements: vec![9; 3 * ELEMENT_BYTES],
        };
        assert_eq!(EvaluationRequest::decode(&request.encode()).unwrap(), request);
        assert_eq!(format!("{request:?}"), "EvaluationRequest(A81001, care-planning epoch 1, 3 elements)");
        let answer = EvaluationAnswer { elements: vec![9; ELEMENT_BYTES], proof: [1; PROOF_BYTES] };
        assert_eq!(EvaluationAnswer::decode(&answer.encode()).unwrap(), answer);
        for bytes in [0, 31, 33, (ELEMENTS_MAX + 1) * ELEMENT_BYTES] {
            let request = EvaluationRequest { elements: vec![9; bytes], ..request.clone() };
            assert!(EvaluationRequest::decode(&request.encode()).is_err(), "{bytes}");
            let answer = EvaluationAnswer { elements: vec![9; bytes], ..answer.clone() };
            assert!(EvaluationAnswer::decode(&answer.encode()).is_err(), "{bytes}");
        }
        let largest = EvaluationAnswer { elements: vec![9; ELEMENTS_MAX * ELEMENT_BYTES], ..answer };
        assert!(largest.encode().len() <= EvaluationAnswer::BYTES_MAX);
    }
}
