//! SNOMED CT identifiers with a valid check digit, for codes that mean nothing.

/// A concept id of the international form: item, partition `00`, check digit.
///
/// Items from 9,000,000 are not in use, so that an invented code is not by accident a real one.
pub fn concept(item: u64) -> String {
    with_check(format!("{}00", 9_000_000 + item))
}

/// A concept id of an extension, as the dictionary of medicines and devices has: item, namespace 1000001, partition `10`.
pub fn extension(item: u64) -> String {
    with_check(format!("{}100000110", 9_000_000 + item))
}

/// Appends the Verhoeff digit (SNOMED CT Technical Implementation Guide, "Check-digit computation").
///
/// The dihedral group D5 and the permutation are computed here, not tabled, so that this and the host's table check
/// each other.
fn with_check(digits: String) -> String {
    let mut check = 0;
    for (position, byte) in digits.bytes().rev().enumerate() {
        let mut value = byte - b'0';
        for _ in 0..(position + 1) % 8 {
            value = PERMUTATION[usize::from(value)];
        }
        check = dihedral(check, value);
    }
    let inverse = if (1..5).contains(&check) { 5 - check } else { check };
    digits + &inverse.to_string()
}

const PERMUTATION: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];

/// The product in D5: 0 to 4 are rotations, 5 to 9 reflections.
fn dihedral(left: u8, right: u8) -> u8 {
    match (left < 5, right < 5) {
        (true, true) => (left + right) % 5,
        (true, false) => 5 + (left + right - 5) % 5,
        (false, true) => 5 + (left - right) % 5,
        (false, false) => (left + 5 - right) % 5,
    }
}

#[cfg(test)]
mod tests {
    use lockgate_signing::code::CodeShape;

    use super::*;

    #[test]
    fn the_host_takes_every_made_up_code_for_one() {
        assert_eq!(with_check("4405400".to_owned()), "44054006");
        assert_eq!(with_check("82724100000010".to_owned()), "827241000000103");
        for item in 0..10_000 {
            assert!(CodeShape::Sctid.fits(&concept(item)) && CodeShape::Sctid.fits(&extension(item)));
        }
    }
}
