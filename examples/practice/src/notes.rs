//! Free text: what a clinician types, with what must not leave in it.

use std::fmt::Write;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::people::{Person, pick};

/// What is written about a person. Beginnings and ends are joined.
const SAID: &[&str] = &[
    "lives alone since husband died",
    "brought in by daughter, worried about memory",
    "works nights at the biscuit factory",
    "asked not to be phoned at work",
    "says pain worse when climbing stairs",
    "moved here from her sister's in Larkhampton",
    "letter from hospital scanned, see attachments",
    "did not attend, message left with neighbour",
];

/// Dosage instructions, as they are typed.
pub const DOSAGES: &[&str] = &[
    "One To Be Taken Daily",
    "One To Be Taken Twice A Day",
    "Two To Be Taken Up To Four Times A Day",
    "Inhale Two Doses Twice A Day",
    "Apply Thinly As Directed",
    "As Directed",
];

/// Writes a note over the text that was there.
pub fn write(note: &mut String, rng: &mut ChaCha8Rng, person: &Person) {
    note.clear();
    let said = pick(rng, SAID);
    // Writing to a String cannot fail.
    let _ = match rng.next_u32() % 4 {
        0 => write!(note, "{} {}: {said}. Tel {}", person.forename, person.surname, person.phone),
        1 => write!(note, "Seen at home, {}, {} {}. {said}", person.street, person.town, person.postcode),
        2 => write!(note, "{} (NHS {}) {said}; \"rang twice\", she said", person.surname, person.nhs_number),
        _ => write!(note, "{said}. Next of kin: {}", person.surname),
    };
}
