//! Ids and codes that are plain decimal numbers, which most are: as numbers they are smaller and found faster than as texts.

/// The number that a text is the one usual form of: up to 19 digits without a leading zero.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    let usual = (1..=19).contains(&text.len()) && text[0] != b'0';
    // 19 digits are below 2^64; the sum may wrap where something else than digits is seen to be in it.
    let number =
        || text.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(10).wrapping_add(u64::from(byte & 0xf)));
    (usual && text.iter().fold(true, |all, byte| all & byte.is_ascii_digit())).then(number)
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn only_the_usual_form_of_a_number_is_one() {
        assert_eq!(decimal(b"7"), Some(7));
        assert_eq!(decimal(b"9999999999999999999"), Some(9_999_999_999_999_999_999));
        for text in ["", "0", "07", " 7", "7 ", "-7", "+7", "7.", "1e3", "10000000000000000000", "\u{0661}"] {
            assert_eq!(decimal(text.as_bytes()), None, "{text}");
        }
    }
}
