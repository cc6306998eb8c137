//! The agent's tokens against `host/vectors/tokens.json`, which another implementation of the same rules wrote.

use std::collections::BTreeMap;

use lockgate_oprf::SecretKey;
use lockgate_signing::manifest::LinkKind;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::inputs::{Input, LinkParts};
use super::nhs_number::NhsNumber;
use super::sealed_key::TokenKey;
use lockgate_signing::canonical;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Vectors {
    domain: String,
    epoch: u32,
    sealed_key: String,
    oprf_seed: String,
    oprf_key_info: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    given: Given,
    #[serde(flatten)]
    tokens: BTreeMap<String, Option<Made>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Given {
    nhs_number: Option<String>,
    birth_date: Option<jiff::civil::Date>,
    sex: Option<String>,
    postcode: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Made {
    input: String,
    sealed_key: String,
    oprf: String,
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

#[test]
fn another_implementation_makes_the_same_tokens() {
    let vectors: Vectors = serde_json::from_str(include_str!("../../vectors/tokens.json")).unwrap();
    let key = |text: &str| Zeroizing::new(hex(text).try_into().unwrap());
    let sealed = TokenKey::from_bytes(key(&vectors.sealed_key), vectors.epoch).domain(&vectors.domain);
    let oprf = SecretKey::derive(&key(&vectors.oprf_seed), &hex(&vectors.oprf_key_info)).unwrap();
    let (mut made, mut none) = (0, 0);
    for case in &vectors.cases {
        let given = &case.given;
        let number = given.nhs_number.as_ref().and_then(|text| NhsNumber::parse(text.as_bytes()));
        let sex =
            given.sex.as_deref().map(|sex| *canonical::SEX.iter().find(|known| **known == sex).unwrap());
        let postcode = given.postcode.as_deref().map(str::as_bytes);
        let parts = LinkParts::new(number, given.birth_date, sex, postcode);
        for (kind, expected) in &case.tokens {
            let input = match kind.as_str() {
                "patient" => number.as_ref().map(Input::of_nhs_number),
                kind => parts.input(LinkKind::of_name(kind).unwrap()),
            };
            match (&input, expected) {
                (Some(input), Some(expected)) => {
                    let bytes = input.bytes(&vectors.domain, vectors.epoch);
                    assert_eq!(bytes.as_slice(), hex(&expected.input), "{kind}");
                    assert_eq!(sealed.token(input).as_slice(), hex(&expected.sealed_key), "{kind}");
                    assert_eq!(oprf.evaluate_open(&bytes).unwrap()[..16], hex(&expected.oprf), "{kind}");
                    made += 1;
                }
                (None, None) => none += 1,
                _ => panic!("{kind}: a token on one side only"),
            }
        }
    }
    assert!(made >= 20 && none >= 15, "{made} tokens, {none} without");
}
