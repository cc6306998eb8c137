//! Invented people. A person is a function of the seed and a place, so that a practice and a hospital of the same seed
//! know the same person without sharing anything else.

use jiff::ToSpan;
use jiff::civil::Date;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::calendar::add_days;
use crate::error::PracticeError;
use crate::nhs_number::NhsNumbers;
use crate::words;

/// One of every 97 people is a twin of the one before: same birth date, home and surname. Linkage that works without
/// the NHS number confuses exactly these.
const TWIN_EVERY: u64 = 97;

/// The place of the person that carries the marker.
pub const PLANTED_PLACE: u64 = 0;

/// Everything that identifies a person.
#[derive(Debug, Clone)]
pub struct Person {
    /// Ten digits, of the test range.
    pub nhs_number: String,
    /// `F`, `M`, `I` (indeterminate) or `U` (unknown).
    pub sex: &'static str,
    /// Birth date.
    pub born: Date,
    /// Forename.
    pub forename: String,
    /// Surname.
    pub surname: String,
    /// House and street.
    pub street: String,
    /// Town.
    pub town: String,
    /// Postcode.
    pub postcode: String,
    /// Lower layer super output area: a statistical area of about 1,500 people.
    pub lsoa: String,
    /// Ethnic category; may be empty.
    pub ethnicity: &'static str,
    /// Telephone number.
    pub phone: String,
}

/// All people of one seed.
#[derive(Debug)]
pub struct People {
    seed: u64,
    as_of: Date,
    numbers: NhsNumbers,
    marker: Option<String>,
}

impl People {
    /// The people of a seed, their ages counted back from a day. With a marker, one of them has it in every field.
    pub fn new(seed: u64, as_of: Date, marker: Option<&str>) -> Self {
        Self { seed, as_of, numbers: NhsNumbers::new(seed), marker: marker.map(str::to_owned) }
    }

    /// The person at a place.
    pub fn at(&self, place: u64) -> Result<Person, PracticeError> {
        let mut person = self.invented(place)?;
        if place % TWIN_EVERY == 1 && place > 1 {
            let sibling = self.invented(place - 1)?;
            person.born = sibling.born;
            person.surname = sibling.surname;
            person.street = sibling.street;
            person.town = sibling.town;
            person.postcode = sibling.postcode;
            person.lsoa = sibling.lsoa;
        }
        if let Some(marker) = self.marker.as_deref().filter(|_| place == PLANTED_PLACE) {
            person.plant(marker);
        }
        Ok(person)
    }

    fn invented(&self, place: u64) -> Result<Person, PracticeError> {
        let mut rng = ChaCha8Rng::seed_from_u64(mix(self.seed, place));
        let sex = match rng.random_range(0..1_000) {
            0 => "I",
            1..3 => "U",
            3..505 => "F",
            _ => "M",
        };
        let forenames = if sex == "M" { words::FORENAMES_M } else { words::FORENAMES_F };
        let (town, area) = *pick(&mut rng, words::TOWNS);
        let outward = rng.random_range(1..20);
        let postcode =
            format!("{area}{outward} {}{}{}", rng.random_range(1..10), inward(&mut rng), inward(&mut rng));
        Ok(Person {
            nhs_number: self.numbers.at(place)?,
            sex,
            born: born(&mut rng, self.as_of),
            forename: (*pick(&mut rng, forenames)).to_owned(),
            surname: (*pick(&mut rng, words::SURNAMES)).to_owned(),
            street: format!("{} {}", rng.random_range(1..190), pick(&mut rng, words::STREETS)),
            town: town.to_owned(),
            lsoa: format!("E0199{:04}", rng.random_range(0..words::TOWNS.len() * 20)),
            postcode,
            ethnicity: ethnicity(&mut rng),
            // 07700 900000 to 900999 are kept for drama (Ofcom, numbers for use in TV and radio).
            phone: format!("07700 900{:03}", rng.random_range(0..1_000)),
        })
    }
}

impl Person {
    /// Puts the marker into every field that can hold text. The postcode keeps its shape, so that linkage uses it; it
    /// is the only one of its area.
    fn plant(&mut self, marker: &str) {
        self.forename = format!("{} {marker}", self.forename);
        self.surname = format!("{marker}-{}", self.surname);
        self.street = format!("{} {marker}", self.street);
        self.town = format!("{marker} {}", self.town);
        self.phone = format!("{} ext {marker}", self.phone);
        "ZB7 4QX".clone_into(&mut self.postcode);
        self.sex = "F";
        self.born = jiff::civil::date(1957, 3, 19);
    }

    /// Forename and surname.
    pub fn name(&self) -> String {
        format!("{} {}", self.forename, self.surname)
    }
}

/// A number that two inputs decide, spread evenly (SplitMix64's finaliser).
pub fn mix(seed: u64, place: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One of a list; lists here are constants that are never empty.
pub fn pick<'a, T>(rng: &mut impl Rng, list: &'a [T]) -> &'a T {
    &list[rng.random_range(0..list.len())]
}

/// Letters that the second half of a postcode uses.
fn inward(rng: &mut impl Rng) -> char {
    char::from(*pick(rng, b"ABDEFGHJLNPQRSTUWXYZ"))
}

/// Ages of England, by ten years: share in 1,000.
fn born(rng: &mut impl Rng, as_of: Date) -> Date {
    const DECADES: [u32; 10] = [107, 117, 128, 139, 128, 134, 113, 83, 42, 9];
    let mut draw = rng.random_range(0..DECADES.iter().sum());
    let mut decade = 0;
    for (index, share) in DECADES.iter().enumerate() {
        if draw < *share {
            decade = index;
            break;
        }
        draw -= share;
    }
    let years = decade as i64 * 10 + rng.random_range(0..10);
    add_days(as_of.saturating_sub(years.years()), -rng.random_range(1..365))
}

fn ethnicity(rng: &mut impl Rng) -> &'static str {
    let mut draw = rng.random_range(0..words::ETHNICITIES.iter().map(|(_, share)| share).sum());
    for (code, share) in words::ETHNICITIES {
        if draw < *share {
            return code;
        }
        draw -= share;
    }
    ""
}
