//! The standard's vectors, another implementation's, and answers that are not to be believed.

use serde::Deserialize;
use zeroize::Zeroizing;

use super::*;

/// One batch; every value is hexadecimal.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Vector {
    seed: String,
    key_info: String,
    public_key: String,
    inputs: Vec<String>,
    blinds: Vec<String>,
    blinded_elements: Vec<String>,
    evaluation_elements: Vec<String>,
    proof: String,
    proof_random_scalar: String,
    outputs: Vec<String>,
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

fn joined(texts: &[String]) -> Vec<u8> {
    texts.iter().flat_map(|text| hex(text)).collect()
}

fn seed(byte: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([byte; 32])
}

fn os(buffer: &mut [u8]) -> Result<(), NoRandomness> {
    getrandom::fill(buffer).map_err(|_| NoRandomness)
}

/// Randomness that is known beforehand: one scalar after the other.
fn scalars(texts: &[String]) -> impl FnMut(&mut [u8]) -> Result<(), NoRandomness> + use<> {
    let mut scalars: Vec<Vec<u8>> = texts.iter().rev().map(|text| hex(text)).collect();
    move |buffer| {
        buffer.copy_from_slice(&scalars.pop().ok_or(NoRandomness)?);
        Ok(())
    }
}

fn agrees(document: &str) -> usize {
    let vectors: Vec<Vector> = serde_json::from_str(document).unwrap();
    for vector in &vectors {
        let seed = Zeroizing::new(hex(&vector.seed).try_into().unwrap());
        let key = SecretKey::derive(&seed, &hex(&vector.key_info)).unwrap();
        assert_eq!(key.public().to_string(), vector.public_key);

        let inputs: Vec<_> = vector.inputs.iter().map(|input| hex(input)).collect();
        let blinded = Blinded::new(inputs.clone(), &mut scalars(&vector.blinds)).unwrap();
        assert_eq!(blinded.elements(), joined(&vector.blinded_elements));
        let random = std::slice::from_ref(&vector.proof_random_scalar);
        let evaluated = key.evaluate(blinded.elements(), &mut scalars(random)).unwrap();
        assert_eq!(evaluated.elements, joined(&vector.evaluation_elements));
        assert_eq!(evaluated.proof.as_slice(), hex(&vector.proof));

        let outputs = blinded.finalise(&evaluated.elements, &evaluated.proof, &key.public()).unwrap();
        let expected: Vec<_> = vector.outputs.iter().map(|output| hex(output)).collect();
        assert_eq!(outputs.len(), expected.len());
        for ((input, output), expected) in outputs.iter().zip(&expected) {
            assert_eq!(output.as_slice(), expected);
            assert_eq!(output, &key.evaluate_open(input).unwrap());
        }
    }
    vectors.len()
}

#[test]
fn the_standard_agrees() {
    // RFC 9497, appendix A.1.2.
    assert_eq!(agrees(include_str!("../vectors/rfc9497.json")), 3);
}

#[test]
fn another_implementation_agrees_on_random_inputs() {
    // See vectors/README.md.
    assert!(agrees(include_str!("../vectors/voprf-ts.json")) >= 32);
}

#[test]
fn blinding_hides_and_unblinding_finds() {
    let key = SecretKey::derive(&seed(1), b"a").unwrap();
    let ask = || Blinded::new(vec![b"one".to_vec(), b"two".to_vec()], &mut os).unwrap();
    let (first, second) = (ask(), ask());
    assert_ne!(
        first.elements(),
        second.elements(),
        "two blindings of one input can be told to be of one input"
    );
    let finish = |blinded: Blinded<Vec<u8>>| {
        let evaluated = key.evaluate(blinded.elements(), &mut os).unwrap();
        blinded.finalise(&evaluated.elements, &evaluated.proof, &key.public()).unwrap()
    };
    assert_eq!(finish(first), finish(second));
    let other = SecretKey::derive(&seed(1), b"b").unwrap();
    assert_ne!(key.evaluate_open(b"one").unwrap(), other.evaluate_open(b"one").unwrap());
}

#[test]
fn an_answer_that_was_not_made_with_the_published_key_is_not_believed() {
    let key = SecretKey::derive(&seed(1), b"a").unwrap();
    let ask = || Blinded::new(vec![b"one".to_vec(), b"two".to_vec()], &mut os).unwrap();
    let evaluated =
        |blinded: &Blinded<_>, key: &SecretKey| key.evaluate(blinded.elements(), &mut os).unwrap();

    // Another key, with its own honest proof.
    let other = SecretKey::derive(&seed(2), b"a").unwrap();
    let blinded = ask();
    let theirs = evaluated(&blinded, &other);
    assert_eq!(blinded.finalise(&theirs.elements, &theirs.proof, &key.public()), Err(OprfError::WrongKey));

    // One element made with another key, under the proof of the right one.
    let blinded = ask();
    let (mut ours, theirs) = (evaluated(&blinded, &key), evaluated(&blinded, &other));
    ours.elements[ELEMENT_BYTES..].copy_from_slice(&theirs.elements[ELEMENT_BYTES..]);
    assert_eq!(blinded.finalise(&ours.elements, &ours.proof, &key.public()), Err(OprfError::WrongKey));

    // Swapped, so that patients would get each other's tokens.
    let blinded = ask();
    let mut ours = evaluated(&blinded, &key);
    ours.elements.rotate_left(ELEMENT_BYTES);
    assert_eq!(blinded.finalise(&ours.elements, &ours.proof, &key.public()), Err(OprfError::WrongKey));

    // Fewer, and none.
    for kept in [ELEMENT_BYTES, 0] {
        let blinded = ask();
        let ours = evaluated(&blinded, &key);
        let few = &ours.elements[..kept];
        assert_eq!(blinded.finalise(few, &ours.proof, &key.public()), Err(OprfError::Batch));
    }

    // The proof of another batch; a changed one; no proof at all.
    let blinded = ask();
    let (ours, before) = (evaluated(&blinded, &key), evaluated(&ask(), &key));
    assert_eq!(blinded.finalise(&ours.elements, &before.proof, &key.public()), Err(OprfError::WrongKey));
    for position in 0..PROOF_BYTES {
        let blinded = ask();
        let mut ours = evaluated(&blinded, &key);
        ours.proof[position] ^= 1;
        assert!(blinded.finalise(&ours.elements, &ours.proof, &key.public()).is_err(), "byte {position}");
    }
    let blinded = ask();
    let ours = evaluated(&blinded, &key);
    assert_eq!(blinded.finalise(&ours.elements, &[0xff; PROOF_BYTES], &key.public()), Err(OprfError::Proof));
}

#[test]
fn the_key_touches_nothing_but_canonical_elements() {
    let key = SecretKey::derive(&seed(1), b"a").unwrap();
    let good = Blinded::new(vec![b"one"], &mut os).unwrap().elements().to_vec();
    // The identity; the field's modulus (a second encoding of it); a negative field element; not square.
    let modulus = "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    let negative = "0100000000000000000000000000000000000000000000000000000000000000";
    let not_square = "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371";
    for bad in [[0; 32].to_vec(), hex(modulus), hex(negative), hex(not_square), vec![0xff; 32]] {
        let batch = [good.as_slice(), &bad].concat();
        assert_eq!(key.evaluate(&batch, &mut os), Err(OprfError::Element));
        assert!(PublicKey::from_bytes(bad.try_into().unwrap()).is_err());
    }
    for bytes in [0, 31, 33, (BATCH_MAX + 1) * ELEMENT_BYTES] {
        assert_eq!(key.evaluate(&vec![7; bytes], &mut os), Err(OprfError::Batch), "{bytes}");
    }
    let mut none = |_: &mut [u8]| Err(NoRandomness);
    assert_eq!(key.evaluate(&good, &mut none), Err(OprfError::Randomness(NoRandomness)));
    assert!(Blinded::new(vec![b"one"], &mut none).is_err());
}
