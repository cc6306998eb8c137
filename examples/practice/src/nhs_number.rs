//! NHS numbers that are valid and never issued: 999 000 0000 to 999 999 9999 (NHS Data Dictionary, NHS NUMBER).

use crate::error::PracticeError;

/// Every valid number of the test range, in a seeded order.
#[derive(Debug)]
pub struct NhsNumbers {
    /// The six digits between the leading 999 and the check digit.
    middles: Vec<u32>,
    start: usize,
}

/// Consecutive people are this many places apart, so that their numbers do not look alike.
const STRIDE: usize = 524_287;

impl NhsNumbers {
    /// The order of this seed.
    pub fn new(seed: u64) -> Self {
        let middles: Vec<u32> = (0..1_000_000).filter(|&middle| check_digit(middle).is_some()).collect();
        let start = (crate::people::mix(seed, 0x4e48) % middles.len() as u64) as usize;
        Self { middles, start }
    }

    /// The number of the person at this place; two places never share one.
    ///
    /// Fails past the end of the test range, at about 909,000 people.
    pub fn at(&self, place: u64) -> Result<String, PracticeError> {
        if place >= self.middles.len() as u64 {
            let why = format!(
                "the test range holds {} NHS numbers; ask for fewer patients and more --months",
                self.middles.len()
            );
            return Err(PracticeError::argument("--patients", why));
        }
        // STRIDE is prime and larger than any common divisor, so that this visits every place once.
        let middle = self.middles[(self.start + place as usize * STRIDE) % self.middles.len()];
        Ok(text(middle, check_digit(middle).unwrap_or(0)))
    }
}

fn text(middle: u32, check: u32) -> String {
    format!("999{middle:06}{check}")
}

/// The Modulus 11 check digit; `None` where it would be 10, which makes the number invalid.
fn check_digit(middle: u32) -> Option<u32> {
    // The three leading nines weigh 10, 9 and 8; the middle's digits 7 down to 2.
    let mut sum = 9 * (10 + 9 + 8);
    let mut rest = middle;
    for weight in 2..=7 {
        sum += weight * (rest % 10);
        rest /= 10;
    }
    match 11 - sum % 11 {
        11 => Some(0),
        10 => None,
        digit => Some(digit),
    }
}

/// The same number with a check digit that is wrong.
pub fn spoiled(number: &str) -> String {
    let mut bytes = number.as_bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last = b'0' + (*last - b'0' + 1) % 10;
    }
    bytes.into_iter().map(char::from).collect()
}

/// As people write it: `999 123 4567`.
pub fn spaced(number: &str) -> String {
    format!("{} {} {}", &number[..3], &number[3..6], &number[6..])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn valid(number: &str) -> bool {
        let digits: Vec<u32> = number.bytes().map(|byte| u32::from(byte - b'0')).collect();
        let sum: u32 = digits[..9].iter().zip((2..=10).rev()).map(|(digit, weight)| digit * weight).sum();
        digits.len() == 10 && (11 - sum % 11) % 11 == digits[9]
    }

    #[test]
    fn every_number_is_valid_once_and_of_the_test_range() {
        let numbers = NhsNumbers::new(7);
        let seen: BTreeSet<String> = (0..909_000).map(|place| numbers.at(place).unwrap()).collect();
        assert_eq!(seen.len(), 909_000);
        for number in seen.iter().step_by(997) {
            assert!(valid(number) && number.starts_with("999"), "{number}");
            assert!(!valid(&spoiled(number)), "{number}");
        }
        assert!(numbers.at(1_000_000).is_err());
        assert_eq!(spaced("9991234567"), "999 123 4567");
    }
}
