//! NHS numbers: ten digits with a check digit (NHS Data Dictionary, NHS NUMBER).

use std::fmt;

/// A valid NHS number. Cannot be printed or serialised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NhsNumber([u8; 10]);

impl NhsNumber {
    /// Reads a number as a clinical system writes it: spaces and hyphens do not count, nothing else is forgiven.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut digits = [0; 10];
        let mut count = 0;
        for &byte in text.iter().filter(|byte| !matches!(byte, b' ' | b'-')) {
            *digits.get_mut(count)? = byte;
            count += usize::from(byte.is_ascii_digit());
            if !byte.is_ascii_digit() {
                return None;
            }
        }
        (count == 10 && checks(&digits)).then_some(Self(digits))
    }

    /// The ten digits, for tokens only.
    pub(crate) fn digits(&self) -> &[u8; 10] {
        &self.0
    }

    /// Whether it is from the range that is never issued (999 000 0000 to 999 999 9999).
    pub(crate) fn is_test(&self) -> bool {
        self.0.starts_with(b"999")
    }
}

/// The modulus 11 check: weights 10 to 2; a remainder that would need the digit 10 is invalid; so are ten equal digits.
fn checks(digits: &[u8; 10]) -> bool {
    let sum: u32 =
        digits[..9].iter().zip((2..=10).rev()).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    let check = (11 - sum % 11) % 11;
    check != 10 && check == u32::from(digits[9] - b'0') && digits.iter().any(|digit| digit != &digits[0])
}

impl fmt::Debug for NhsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NhsNumber(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_digit_decides() {
        // 943 476 5919 is the data dictionary's example; 987 654 4321 and 401 023 2137 are in common use as examples.
        for valid in ["9434765919", "943 476 5919", "943-476-5919", "4010232137", "9990000018"] {
            assert!(NhsNumber::parse(valid.as_bytes()).is_some(), "{valid}");
        }
        for invalid in
            ["9434765918", "943476591", "94347659190", "0000000000", "1111111111", "943476591X", "", "９"]
        {
            assert!(NhsNumber::parse(invalid.as_bytes()).is_none(), "{invalid}");
        }
        // 987 654 328?: the sum leaves 1, which would need the digit 10.
        for last in 0..10 {
            assert!(NhsNumber::parse(format!("100000100{last}").as_bytes()).is_none_or(|_| last != 0));
        }
        assert!(NhsNumber::parse(b"9990000018").is_some_and(|number| number.is_test()));
        assert!(NhsNumber::parse(b"9434765919").is_some_and(|number| !number.is_test()));
    }
}
