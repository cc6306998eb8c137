//! Clinical codes: a code system and a text, and which texts a system allows.
//!
//! A code column is the one place where text crosses to the centre, so every text is held to the shape of its
//! system. What does not fit is not a code, whatever the source calls it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ucum;

/// The longest text of any code, in bytes.
pub const CODE_BYTES_MAX: usize = 24;

/// The name of a code system, for example `snomed`: 1 to 24 of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CodeSystem(String);

/// The text is not a code system's name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a code system's name: use 1 to 24 of a-z, 0-9 and -")]
pub struct CodeSystemError(String);

impl CodeSystem {
    /// The system's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CodeSystem {
    type Error = CodeSystemError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = (1..=24).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if fits { Ok(Self(text)) } else { Err(CodeSystemError(text)) }
    }
}

impl From<CodeSystem> for String {
    fn from(system: CodeSystem) -> Self {
        system.0
    }
}

impl std::fmt::Display for CodeSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the texts of a code system look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeShape {
    /// 6 to 18 digits: the id of a concept, with its partition and Verhoeff check digit (SNOMED CT Technical Implementation
    /// Guide, SCTID). One in 500 of the numbers that have ten digits passes.
    Sctid,
    /// Five of `A-Z`, `a-z`, `0-9`, padded at the end with `.`, that are not a word (Read v2, CTV3).
    Read,
    /// A letter and two digits; then, after an optional point, a digit or `X`, a digit, and `D` or `A` (ICD-10, OPCS-4). No
    /// postcode fits.
    Classification,
    /// 3, 5 or 6 of `A-Z`, `0-9`: a letter first, and at least two digits (Organisation Data Service).
    Organisation,
    /// 1 to 7 digits, `-`, a digit (LOINC).
    Loinc,
    /// A unit of known atoms and annotations (see `ucum.rs`).
    Ucum,
    /// `E` or `W` or `S` or `N`, and 8 digits (Office for National Statistics area codes).
    Area,
    /// 1 to 7 digits: fewer than an NHS number has, or a date of birth.
    Digits,
    /// 1 or 2 of `A-Z`, `0-9`.
    Category,
}

impl CodeShape {
    /// The systems that every site knows by name, and their shapes.
    pub const KNOWN_SYSTEMS: [(&str, Self); 12] = [
        ("snomed", Self::Sctid),
        ("dmd", Self::Sctid),
        ("read2", Self::Read),
        ("ctv3", Self::Read),
        ("icd10", Self::Classification),
        ("opcs4", Self::Classification),
        ("loinc", Self::Loinc),
        ("rxnorm", Self::Digits),
        ("ucum", Self::Ucum),
        ("lsoa", Self::Area),
        ("msoa", Self::Area),
        // NHS Data Dictionary, ETHNIC CATEGORY
        ("ethnic-category", Self::Category),
    ];

    /// The shape of a system that every site knows by name; `None`: a mapping has to declare it.
    pub fn of_known_system(name: &str) -> Option<Self> {
        Self::KNOWN_SYSTEMS.iter().find(|(known, _)| *known == name).map(|(_, shape)| *shape)
    }

    /// What a text has to be, for people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Sctid => "the id of a concept, 6 to 18 digits, the last of them the check digit",
            Self::Read => "five letters and digits, padded at the end with points",
            Self::Classification => "a letter and two digits, then perhaps a point and up to two more",
            Self::Organisation => "a letter, then letters and digits, 3, 5 or 6 in all",
            Self::Loinc => "up to seven digits, a hyphen and a digit",
            Self::Ucum => "a unit of the Unified Code for Units of Measure",
            Self::Area => "E, W, S or N and eight digits",
            Self::Digits => "one to seven digits",
            Self::Category => "one or two capital letters and digits",
        }
    }

    /// Whether a text (already normalised, see [`normalise_code`]) has this shape.
    pub fn fits(self, text: &str) -> bool {
        let bytes = text.as_bytes();
        if bytes.is_empty() || bytes.len() > CODE_BYTES_MAX {
            return false;
        }
        let digits = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
        match self {
            Self::Sctid => {
                (6..=18).contains(&bytes.len()) && digits(bytes) && is_concept(bytes) && verhoeff(bytes)
            }
            Self::Read => {
                let padding = bytes.iter().position(|&byte| byte == b'.').unwrap_or(bytes.len());
                bytes.len() == 5
                    && bytes[..padding].iter().all(u8::is_ascii_alphanumeric)
                    && bytes[padding..].iter().all(|&byte| byte == b'.')
                    && !is_word(&bytes[..padding])
            }
            Self::Classification => match bytes {
                [letter, one, two, rest @ ..] => {
                    letter.is_ascii_uppercase()
                        && one.is_ascii_digit()
                        && two.is_ascii_digit()
                        && is_subdivision(rest)
                }
                _ => false,
            },
            Self::Organisation => {
                matches!(bytes.len(), 3 | 5 | 6)
                    && bytes[0].is_ascii_uppercase()
                    && bytes.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
                    && bytes.iter().filter(|byte| byte.is_ascii_digit()).count() >= 2
            }
            Self::Loinc => match text.split_once('-') {
                Some((number, check)) => {
                    (1..=7).contains(&number.len())
                        && digits(number.as_bytes())
                        && check.len() == 1
                        && digits(check.as_bytes())
                }
                None => false,
            },
            Self::Ucum => ucum::is_unit(text),
            Self::Area => bytes.len() == 9 && b"EWSN".contains(&bytes[0]) && digits(&bytes[1..]),
            Self::Digits => bytes.len() <= 7 && digits(bytes),
            Self::Category => {
                bytes.len() <= 2
                    && bytes.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
            }
        }
    }
}

/// The text of a code as the rest of the system knows it.
///
/// Read v2 is five bytes with its trailing dots; some systems drop the dots or append a two-digit term code, or both
/// (NHS Read code guidance: normalise the length, never fold the case). ICD-10 and OPCS-4 come with and without the point.
/// Spaces around a code are never part of it.
pub fn normalise_code(shape: CodeShape, text: &str) -> String {
    let text = text.trim_matches(' ');
    match shape {
        CodeShape::Read => {
            let bytes = text.as_bytes();
            // Five and a term code, or four (the dot dropped) and a term code. Where the digits begin, a character begins.
            let stem = match bytes {
                [.., tens, units]
                    if matches!(bytes.len(), 6 | 7) && tens.is_ascii_digit() && units.is_ascii_digit() =>
                {
                    &text[..bytes.len() - 2]
                }
                _ => text,
            };
            format!("{stem:.<5}")
        }
        CodeShape::Classification => text.chars().filter(|&letter| letter != '.').collect(),
        _ => text.to_owned(),
    }
}

/// Codes by system, as people write them in a manifest or a policy: `{ snomed = ["44054006"], read2 = ["C10F."] }`.
pub type CodesBySystem = BTreeMap<CodeSystem, Vec<String>>;

/// Whether letters in the place of a Read code are more likely somebody's name.
///
/// Codes of letters alone are rare: CTV3 gives out those that begin with `X` or `Y`, Read v2 those of ICD-10's additional
/// terms (`?yu…`) and residual ones (`y` and `z` at the end); its medicines are in small letters.
fn is_word(letters: &[u8]) -> bool {
    let [first, second, rest @ ..] = letters else { return false };
    if rest.is_empty() || !letters.iter().all(u8::is_ascii_alphabetic) {
        return false;
    }
    let additional = *second == b'y' && rest[0] == b'u';
    let residual = |byte: &u8| matches!(byte, b'y' | b'z');
    if matches!(first, b'X' | b'Y') || additional || letters.iter().rev().take(2).all(residual) {
        return false;
    }
    let capitalised = first.is_ascii_uppercase() && letters[1..].iter().all(u8::is_ascii_lowercase);
    letters.len() == 5 || capitalised && !residual(second)
}

/// What may follow the first three characters of an ICD-10 or OPCS-4 code.
fn is_subdivision(bytes: &[u8]) -> bool {
    let digit = u8::is_ascii_digit;
    match bytes {
        [] | [b'X'] => true,
        // A dagger or an asterisk, as hospitals write them.
        [fourth, b'D' | b'A'] => digit(fourth),
        [fourth, fifth, b'D' | b'A'] => digit(fourth) && digit(fifth),
        [fourth] => digit(fourth),
        [fourth, fifth] => (digit(fourth) || *fourth == b'X') && digit(fifth),
        _ => false,
    }
}

/// Whether an SCTID is of a concept: the two digits before the check digit are `00`, or `10` in an extension, whose
/// ids have at least eleven digits because they hold a namespace.
fn is_concept(digits: &[u8]) -> bool {
    match &digits[digits.len() - 3..digits.len() - 1] {
        b"00" => true,
        b"10" => digits.len() >= 11,
        _ => false,
    }
}

/// The Verhoeff check of a digit string whose last digit is the check digit (SNOMED CT TIG, "Check-digit computation").
fn verhoeff(digits: &[u8]) -> bool {
    const PRODUCT: [[u8; 10]; 10] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ];
    const STEP: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let mut check = 0_u8;
    for (position, digit) in digits.iter().rev().enumerate() {
        let mut value = digit - b'0';
        for _ in 0..position % 8 {
            value = STEP[usize::from(value)];
        }
        check = PRODUCT[usize::from(check)][usize::from(value)];
    }
    check == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_codes_fit_their_system_and_text_does_not() {
        assert!(CodeShape::KNOWN_SYSTEMS.iter().all(|(name, _)| CodeShape::of_known_system(name).is_some()));
        let fits = |system: &str, text: &str| {
            let shape = CodeShape::of_known_system(system).unwrap();
            shape.fits(&normalise_code(shape, text))
        };
        for (system, text) in [
            ("snomed", "827241000000103"),
            ("snomed", "44054006"),
            ("read2", "9Nu0."),
            ("read2", "9Nu0"),
            ("read2", "9Nu0.00"),
            ("read2", "9Nu000"),
            ("read2", "Ayu.."),
            ("read2", "ByuDF"),
            ("read2", "Eu32z"),
            ("read2", "bxd.."),
            ("read2", "PKyyz"),
            ("read2", "C"),
            ("ctv3", "XaaVL"),
            ("ctv3", "XaZ89"),
            ("icd10", "E11.9"),
            ("icd10", "I10"),
            ("icd10", "B24X"),
            ("icd10", "M90.9A"),
            ("opcs4", "K40.1"),
            ("loinc", "4548-4"),
            ("ucum", "mm[Hg]"),
            ("ucum", "{score}"),
            ("lsoa", "E01000001"),
            ("ethnic-category", "A"),
        ] {
            assert!(fits(system, text), "{system} {text}");
        }
        for (system, text) in [
            ("snomed", "44054007"),
            ("snomed", "John Smith"),
            ("read2", "..9Nu"),
            ("read2", "Smith John"),
            ("read2", "Smith"),
            ("read2", "SMITH"),
            ("ctv3", "smith"),
            ("read2", "John"),
            ("read2", "Lee"),
            ("icd10", "SMITH"),
            ("icd10", "SW1A2AA"),
            ("icd10", "M11AA"),
            ("icd10", "A81001"),
            ("loinc", "9434765919"),
            ("ucum", "{john}"),
            ("ucum", "see notes"),
            ("rxnorm", "9434765919"),
            ("rxnorm", "19570319"),
            ("snomed", "9434765919"),
            ("lsoa", "SW1A 2AA"),
        ] {
            assert!(!fits(system, text), "{system} {text}");
        }
    }
}
