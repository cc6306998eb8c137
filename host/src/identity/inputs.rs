//! What tokens are made from: the identifying parts of a person in one normal form, written in one way.
//!
//! A practice and a hospital that never speak to each other agree on a token because they agree on these bytes. The rules are
//! in `docs/FORMAT.md`, "Tokens"; `host/vectors/tokens.json` holds vectors for whoever makes them another way.

use jiff::civil::Date;
use lockgate_signing::manifest::LinkKind;
use zeroize::Zeroizing;

use super::nhs_number::NhsNumber;

const LABEL: &[u8] = b"lockgate token v1";
const PATIENT: &str = "patient";
const LOCAL_PATIENT: &str = "local-patient";

/// The input of one token: `label 0 domain 0 epoch 0 kind 0 (part 0)*`, the epoch as four bytes, the largest first.
///
/// Every part ends with a zero byte and holds none, so no two inputs have the same bytes. Cannot be printed.
pub(crate) struct Input<'a> {
    pub(super) kind: &'static str,
    parts: [&'a [u8]; 3],
    count: usize,
}

impl<'a> Input<'a> {
    fn new<const N: usize>(kind: &'static str, parts: [&'a [u8]; N]) -> Self {
        let mut all: [&[u8]; 3] = [&[]; 3];
        all[..N].copy_from_slice(&parts);
        Self { kind, parts: all, count: N }
    }

    /// The patient token of somebody with a valid NHS number.
    pub(crate) fn of_nhs_number(number: &'a NhsNumber) -> Self {
        Self::new(PATIENT, [number.digits()])
    }

    /// The patient token of somebody without one: it means something at this site only.
    pub(crate) fn of_local_id(site: &'a str, local_id: &'a [u8]) -> Self {
        Self::new(LOCAL_PATIENT, [site.as_bytes(), local_id])
    }

    /// Whether it makes a patient token, and not a link token.
    pub(super) fn is_of_a_patient(&self) -> bool {
        matches!(self.kind, PATIENT | LOCAL_PATIENT)
    }

    pub(super) fn parts(&self) -> &[&'a [u8]] {
        &self.parts[..self.count]
    }

    /// The whole input.
    pub(super) fn bytes(&self, domain: &str, epoch: u32) -> Zeroizing<Vec<u8>> {
        let parts: usize = self.parts().iter().map(|part| part.len() + 1).sum();
        let mut bytes = Vec::with_capacity(LABEL.len() + domain.len() + self.kind.len() + parts + 8);
        prefix(domain, epoch, |piece| bytes.extend_from_slice(piece));
        bytes.extend_from_slice(self.kind.as_bytes());
        bytes.push(0);
        for part in self.parts() {
            bytes.extend_from_slice(part);
            bytes.push(0);
        }
        Zeroizing::new(bytes)
    }
}

/// What the inputs of a domain and epoch begin with.
pub(super) fn prefix(domain: &str, epoch: u32, mut write: impl FnMut(&[u8])) {
    for piece in [LABEL, &[0], domain.as_bytes(), &[0], &epoch.to_be_bytes(), &[0]] {
        write(piece);
    }
}

/// The identifying parts of a person as link tokens need them, normalised. Cannot be printed or serialised.
pub(crate) struct LinkParts {
    nhs_number: Option<NhsNumber>,
    /// `YYYY-MM-DD`.
    birth_date: Option<[u8; 10]>,
    sex: Option<&'static str>,
    /// Upper case, without its space.
    postcode: Option<Postcode>,
}

/// Earlier birth years are not used for linkage (HES linkage rules); they are what systems write for "not known".
const EARLIEST_BIRTH_YEAR: i16 = 1895;

impl LinkParts {
    /// Takes what is usable of each part. A date of birth on 1 January is kept: people are born on it.
    pub(crate) fn new(
        nhs_number: Option<NhsNumber>,
        birth_date: Option<Date>,
        sex: Option<&'static str>,
        postcode: Option<&[u8]>,
    ) -> Self {
        let birth_date = birth_date.filter(|date| (EARLIEST_BIRTH_YEAR..=9999).contains(&date.year()));
        Self {
            nhs_number,
            birth_date: birth_date.map(written),
            // Who has no recorded sex cannot be told from a twin by it.
            sex: sex.filter(|sex| *sex != "unknown"),
            postcode: postcode.and_then(Postcode::parse),
        }
    }

    /// The input of a link token; `None` where a part of it is missing: a token of fewer parts would link strangers.
    pub(crate) fn input(&self, kind: LinkKind) -> Option<Input<'_>> {
        let nhs_number = self.nhs_number.as_ref().map(|number| number.digits().as_slice());
        let birth_date = self.birth_date.as_ref().map(<[u8; 10]>::as_slice);
        let sex = self.sex.map(str::as_bytes);
        let postcode = self.postcode.as_ref().map(Postcode::bytes);
        Some(match kind {
            LinkKind::NhsNumber => Input::new(kind.name(), [nhs_number?]),
            LinkKind::NhsNumberBirthDateSex => Input::new(kind.name(), [nhs_number?, birth_date?, sex?]),
            LinkKind::BirthDateSexPostcode => Input::new(kind.name(), [birth_date?, sex?, postcode?]),
        })
    }
}

fn written(date: Date) -> [u8; 10] {
    let digit = |number: i16, place: i16| b'0' + (number / place % 10).unsigned_abs() as u8;
    let (year, month, day) = (date.year(), i16::from(date.month()), i16::from(date.day()));
    [
        digit(year, 1000),
        digit(year, 100),
        digit(year, 10),
        digit(year, 1),
        b'-',
        digit(month, 10),
        digit(month, 1),
        b'-',
        digit(day, 10),
        digit(day, 1),
    ]
}

/// A postcode of the United Kingdom: upper case without spaces, 5 to 7 characters.
struct Postcode {
    text: [u8; 7],
    length: usize,
}

impl Postcode {
    /// Reads it as people write it: upper or lower case, with or without spaces. Nothing else is forgiven: what is not the
    /// shape of a postcode is none, and pseudo-postcodes (`ZZ99 …`: no fixed abode, abroad, not known) are nobody's address.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut letters = [0; 7];
        let mut length = 0;
        for byte in text.iter().filter(|byte| **byte != b' ') {
            *letters.get_mut(length)? = byte.to_ascii_uppercase();
            length += 1;
        }
        let (outward, inward) = letters[..length].split_at_checked(length.checked_sub(3)?)?;
        let inward_fits = inward[0].is_ascii_digit() && inward[1..].iter().all(u8::is_ascii_uppercase);
        // Areas are one or two letters; districts a digit, and a digit or a letter after it (Royal Mail PAF).
        let district = match outward {
            [area, rest @ ..] if area.is_ascii_uppercase() => match rest {
                [second, rest @ ..] if second.is_ascii_uppercase() => rest,
                rest => rest,
            },
            _ => return None,
        };
        let outward_fits = match district {
            [digit] => digit.is_ascii_digit(),
            [digit, last] => digit.is_ascii_digit() && last.is_ascii_alphanumeric(),
            _ => false,
        };
        let usable = inward_fits && outward_fits && !letters.starts_with(b"ZZ99");
        usable.then_some(Self { text: letters, length })
    }

    fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_postcode_has_one_form_and_nonsense_has_none() {
        let read = |text: &str| {
            Postcode::parse(text.as_bytes()).map(|code| String::from_utf8(code.bytes().to_vec()))
        };
        for text in ["SW1A 2AA", "sw1a2aa", " SW1A  2AA ", "Sw1a 2aA"] {
            assert_eq!(read(text).unwrap().unwrap(), "SW1A2AA");
        }
        for text in ["M1 1AE", "B33 8TH", "CR2 6XH", "DN55 1PT", "W1A 1HQ", "EC1A 1BB"] {
            assert!(read(text).is_some(), "{text}");
        }
        for text in [
            "", "unknown", "SW1A", "SW1A 2A", "SW1A2AAA", "1W1A 2AA", "SWA 2AA", "ZZ99 3VZ", "zz993wz",
            "SW1A-2AA", "É1 1AE",
        ] {
            assert!(read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn no_two_inputs_have_the_same_bytes() {
        let number = NhsNumber::parse(b"9434765919").unwrap();
        let of_number = |domain, epoch| Input::of_nhs_number(&number).bytes(domain, epoch);
        assert_ne!(of_number("a", 1), of_number("b", 1));
        assert_ne!(of_number("a", 1), of_number("a", 2));
        assert_ne!(
            Input::of_local_id("A81001", b"1").bytes("a", 1),
            Input::of_local_id("A8100", b"11").bytes("a", 1)
        );
        assert_eq!(
            of_number("a", 1).as_slice(),
            b"lockgate token v1\0a\0\0\0\0\x01\0patient\09434765919\0".as_slice()
        );
    }
}
