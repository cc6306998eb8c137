//! What a code of each system looks like, written from the systems' own specifications and not from the agent's code.

/// The system's published name and the code in its one form; `None` if the text is no code of its system.
pub(super) fn read(local_system: &str, text: &str) -> Option<(&'static str, String)> {
    let text = text.trim_matches(' ');
    let whole = |fits: bool| fits.then(|| text.to_owned());
    let (system, code) = match local_system {
        "SCT" => ("snomed", whole(is_sctid(text))),
        // The dictionary of medicines and devices uses SNOMED CT identifiers.
        "DMD" => ("dmd", whole(is_sctid(text))),
        "RCT2" => ("read2", five_bytes(text)),
        "CTV3" => ("ctv3", five_bytes(text)),
        "I10" => ("icd10", without_point(text)),
        "O4" => ("opcs4", without_point(text)),
        "LN" => ("loinc", whole(is_loinc(text))),
        "CVX" => ("cvx", whole(is_number(text))),
        "RXN" => ("rxnorm", whole(is_number(text))),
        _ => return None,
    };
    code.map(|code| (system, code))
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Numbers of local meaning: shorter than an NHS number.
fn is_number(text: &str) -> bool {
    all_digits(text) && text.len() <= 8
}

fn is_loinc(text: &str) -> bool {
    text.split_once('-').is_some_and(|(number, check)| {
        all_digits(number) && number.len() <= 7 && all_digits(check) && check.len() == 1
    })
}

/// Read codes: letters and digits, filled with dots to five; a term code of two digits may follow, with or without the
/// last dot before it.
fn five_bytes(text: &str) -> Option<String> {
    let stem = match text.len().checked_sub(2) {
        Some(at @ (4 | 5)) if text.get(at..).is_some_and(all_digits) => text.get(..at)?,
        _ => text,
    };
    let code = stem.trim_end_matches('.');
    let fits = stem.len() <= 5 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then(|| format!("{code}{}", ".".repeat(5 - code.len())))
}

/// ICD-10 and OPCS-4: a letter, then at least two digits among letters and digits; the point is for reading.
fn without_point(text: &str) -> Option<String> {
    let code = text.replace('.', "");
    let rest = code.strip_prefix(|first: char| first.is_ascii_uppercase())?;
    let fits = (2..=7).contains(&rest.len())
        && rest.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
        && rest.bytes().filter(u8::is_ascii_digit).count() >= 2;
    fits.then_some(code)
}

/// SNOMED CT identifiers of concepts: 6 to 18 digits, the last of which is Verhoeff's check digit. The two before it say
/// what is identified: 00 a concept of the international edition, 10 one of an extension, which has seven digits more.
fn is_sctid(text: &str) -> bool {
    let partition = text.len().checked_sub(3).and_then(|at| text.get(at..at + 2));
    let is_concept = partition == Some("00") || partition == Some("10") && text.len() > 10;
    is_concept && (6..=18).contains(&text.len()) && all_digits(text) && verhoeff(text.as_bytes()) == 0
}

/// Verhoeff's sum of digits, as what it is: the product of permuted elements of the dihedral group of the pentagon
/// (0 to 4 the rotations, 5 to 9 the reflections). It is 0 for a number with a valid check digit.
fn verhoeff(digits: &[u8]) -> u8 {
    digits.iter().rev().enumerate().fold(0, |sum, (place, digit)| {
        let permuted = (0..place % 8).fold(digit - b'0', |digit, _| permute(digit));
        product(sum, permuted)
    })
}

fn product(one: u8, other: u8) -> u8 {
    match (one < 5, other < 5) {
        (true, true) => (one + other) % 5,
        (true, false) => (one + other) % 5 + 5,
        (false, true) => (one + 5 - other) % 5 + 5,
        (false, false) => (one + 5 - other) % 5,
    }
}

/// The permutation (1 5 8 9 4 2 7 0)(3 6).
fn permute(digit: u8) -> u8 {
    match digit {
        1 => 5,
        5 => 8,
        8 => 9,
        9 => 4,
        4 => 2,
        2 => 7,
        7 => 0,
        0 => 1,
        3 => 6,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_one_form_and_texts_have_none() {
        let normal = |system, text| read(system, text).map(|(_, code)| code);
        assert_eq!(normal("SCT", "827241000000103").as_deref(), Some("827241000000103"));
        assert_eq!(normal("SCT", " 44054006 ").as_deref(), Some("44054006"));
        assert_eq!(normal("RCT2", "9Nu0").as_deref(), Some("9Nu0."));
        assert_eq!(normal("RCT2", "9Nu0.00").as_deref(), Some("9Nu0."));
        assert_eq!(normal("RCT2", "9Nu000").as_deref(), Some("9Nu0."));
        assert_eq!(normal("I10", "E11.9").as_deref(), Some("E119"));
        assert_eq!(normal("LN", "4548-4").as_deref(), Some("4548-4"));
        for (system, text) in [
            ("SCT", "44054007"),
            ("SCT", "450"),
            ("SCT", "9434765919"),
            ("RCT2", "9Nu0.x"),
            ("I10", "DIABETES"),
            ("I10", "E1"),
            ("LN", "QALY"),
            ("RXN", "see notes"),
        ] {
            assert_eq!(normal(system, text), None, "{system} {text}");
        }
    }
}
