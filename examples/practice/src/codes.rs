//! The codes that a practice uses, and how often.
//!
//! A few dozen are real and mean what they say, because modules ask for them. The rest only look real: what matters of
//! them is their shape and their distribution, the commonest 1,000 making 85 % of all rows.

use crate::people::mix;
use crate::sctid;

/// Codes in use at one practice.
const CODES: usize = 8_000;
/// The commonest codes, and how many of [`TICKETS`] they share.
const COMMON: usize = 1_000;
const COMMON_TICKETS: usize = TICKETS * 85 / 100;
/// One draw picks a ticket; a code has as many tickets as it is common.
const TICKETS: usize = 1 << 16;
/// Medicines in use at one practice.
const MEDICINES: u64 = 900;

/// A supplier's name of a code system, as it stands in the rows.
pub mod system {
    /// SNOMED CT.
    pub const SNOMED: &str = "SCT";
    /// Read version 2.
    pub const READ2: &str = "RCT2";
    /// Clinical Terms Version 3.
    pub const CTV3: &str = "CTV3";
    /// LOINC.
    pub const LOINC: &str = "LN";
    /// Vaccines administered (CDC).
    pub const CVX: &str = "CVX";
    /// Dictionary of medicines and devices.
    pub const DMD: &str = "DMD";
    /// RxNorm.
    pub const RXNORM: &str = "RXN";
    /// ICD-10.
    pub const ICD10: &str = "I10";
    /// OPCS-4.
    pub const OPCS4: &str = "O4";
}

/// A supplier's name of a kind of entry, as it stands in the rows.
pub mod kind {
    /// A diagnosis.
    pub const DIAGNOSIS: &str = "DIAG";
    /// A symptom, finding or status.
    pub const FINDING: &str = "FIND";
    /// Something measured in the room.
    pub const MEASUREMENT: &str = "MEAS";
    /// A result from a laboratory.
    pub const RESULT: &str = "RES";
    /// A procedure.
    pub const PROCEDURE: &str = "PROC";
    /// A referral.
    pub const REFERRAL: &str = "REF";
    /// An immunisation.
    pub const IMMUNISATION: &str = "IMM";
    /// Family history.
    pub const FAMILY: &str = "FH";
    /// Administration.
    pub const ADMINISTRATION: &str = "ADM";
    /// Consent and dissent. A kind of its own, so that objections are found without reading every row.
    pub const CONSENT: &str = "CONS";
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// UCUM.
    pub unit: &'static str,
    mean: f64,
    deviation: f64,
    /// 1, 10 or 100: values have no more decimals than a clinician would type.
    steps: f64,
}

impl Measure {
    /// A value of a person whose values lie `person` deviations from the mean; `noise` is between -1 and 1.
    pub fn value(self, person: f64, noise: f64) -> f64 {
        let value = self.mean + self.deviation * (person + noise * 0.6).clamp(-2.8, 4.0);
        (value.max(self.mean * 0.1) * self.steps).round() / self.steps
    }
}

/// One code of the code table.
#[derive(Debug, Clone)]
pub struct Code {
    /// The supplier's number of it.
    pub id: i64,
    /// One of [`system`].
    pub system: &'static str,
    /// As it stands in the rows, not normalised.
    pub text: String,
    /// What it means.
    pub term: String,
    /// One of [`kind`].
    pub kind: &'static str,
    /// For a measurement or result: its values.
    pub measure: Option<Measure>,
}

const fn measure(unit: &'static str, mean: f64, deviation: f64, steps: f64) -> Option<Measure> {
    Some(Measure { unit, mean, deviation, steps })
}

type Known = (&'static str, &'static str, &'static str, &'static str, Option<Measure>);

use kind::{
    ADMINISTRATION, DIAGNOSIS, FAMILY, FINDING, IMMUNISATION, MEASUREMENT, PROCEDURE, REFERRAL, RESULT,
};
use system::{READ2, SNOMED};

/// Systolic blood pressure; a row of it is followed by one of [`DIASTOLIC`].
pub const SYSTOLIC: &str = "271649006";
/// Diastolic blood pressure.
pub const DIASTOLIC: &str = "271650006";
/// HbA1c, IFCC standardised.
pub const HBA1C: &str = "999791000000106";
/// Body mass index.
pub const BMI: &str = "60621009";
/// Type 2 diabetes in SNOMED CT, and in Read v2 with the dot.
pub const DIABETES: [&str; 2] = ["44054006", "C10F."];

/// The codes that mean what they say, commonest first.
const KNOWN: &[Known] = &[
    (SNOMED, SYSTOLIC, "Systolic blood pressure", MEASUREMENT, measure("mm[Hg]", 132.0, 15.0, 1.0)),
    (SNOMED, DIASTOLIC, "Diastolic blood pressure", MEASUREMENT, measure("mm[Hg]", 78.0, 9.0, 1.0)),
    (SNOMED, BMI, "Body mass index", MEASUREMENT, measure("kg/m2", 27.4, 4.6, 10.0)),
    (SNOMED, "27113001", "Body weight", MEASUREMENT, measure("kg", 77.0, 14.0, 10.0)),
    (SNOMED, "50373000", "Body height", MEASUREMENT, measure("cm", 168.0, 9.0, 1.0)),
    (SNOMED, HBA1C, "Haemoglobin A1c level, IFCC standardised", RESULT, measure("mmol/mol", 41.0, 8.0, 1.0)),
    (SNOMED, "364075005", "Heart rate", MEASUREMENT, measure("/min", 74.0, 10.0, 1.0)),
    (SNOMED, "1000731000000107", "Serum creatinine level", RESULT, measure("umol/L", 79.0, 16.0, 1.0)),
    (SNOMED, "1000661000000107", "Serum sodium level", RESULT, measure("mmol/L", 139.0, 2.4, 1.0)),
    (SNOMED, "1000651000000109", "Serum potassium level", RESULT, measure("mmol/L", 4.4, 0.4, 10.0)),
    (SNOMED, "1005671000000105", "Serum cholesterol level", RESULT, measure("mmol/L", 4.9, 1.0, 10.0)),
    (SNOMED, "1022431000000105", "Haemoglobin estimation", RESULT, measure("g/L", 138.0, 13.0, 1.0)),
    (SNOMED, "1022791000000101", "Serum TSH level", RESULT, measure("m[IU]/L", 2.1, 0.9, 100.0)),
    (SNOMED, "266919005", "Never smoked tobacco", FINDING, None),
    (SNOMED, "8517006", "Ex-smoker", FINDING, None),
    (SNOMED, "77176002", "Smoker", FINDING, None),
    (READ2, "22K..", "Body mass index", MEASUREMENT, measure("kg/m2", 27.4, 4.6, 10.0)),
    (
        READ2,
        "2469.",
        "O/E - systolic blood pressure reading",
        MEASUREMENT,
        measure("mm[Hg]", 132.0, 15.0, 1.0),
    ),
    (READ2, "42W5", "Haemoglobin A1c level, IFCC standardised", RESULT, measure("mmol/mol", 41.0, 8.0, 1.0)),
    (READ2, "137R", "Current smoker", FINDING, None),
    (READ2, "65E..00", "Influenza vaccination", IMMUNISATION, None),
    (SNOMED, "82423001", "Chronic pain", FINDING, None),
    (SNOMED, "49727002", "Cough", FINDING, None),
    (SNOMED, "25064002", "Headache", FINDING, None),
    (SNOMED, "21522001", "Abdominal pain", FINDING, None),
    (SNOMED, "195662009", "Acute viral pharyngitis", DIAGNOSIS, None),
    (SNOMED, "10509002", "Acute bronchitis", DIAGNOSIS, None),
    (SNOMED, "171207006", "Depression screening", PROCEDURE, None),
    (SNOMED, "430193006", "Medication reconciliation", PROCEDURE, None),
    (SNOMED, "103697008", "Patient referral for dental care", REFERRAL, None),
];

/// Long-term conditions: the share of adults that have it in 1,000, and its code.
pub const CONDITIONS: &[(u64, Known)] = &[
    (70, (SNOMED, DIABETES[0], "Diabetes mellitus type 2", DIAGNOSIS, None)),
    (8, (READ2, DIABETES[1], "Type 2 diabetes mellitus", DIAGNOSIS, None)),
    (6, (READ2, "C10F", "Type 2 diabetes mellitus", DIAGNOSIS, None)),
    (5, (SNOMED, "46635009", "Diabetes mellitus type 1", DIAGNOSIS, None)),
    (150, (SNOMED, "38341003", "Hypertensive disorder", DIAGNOSIS, None)),
    (70, (SNOMED, "195967001", "Asthma", DIAGNOSIS, None)),
    (22, (SNOMED, "13645005", "Chronic obstructive lung disease", DIAGNOSIS, None)),
    (35, (SNOMED, "53741008", "Coronary arteriosclerosis", DIAGNOSIS, None)),
    (24, (SNOMED, "49436004", "Atrial fibrillation", DIAGNOSIS, None)),
    (18, (SNOMED, "230690007", "Cerebrovascular accident", DIAGNOSIS, None)),
    (10, (SNOMED, "84114007", "Heart failure", DIAGNOSIS, None)),
    (110, (SNOMED, "35489007", "Depressive disorder", DIAGNOSIS, None)),
    (45, (SNOMED, "40930008", "Hypothyroidism", DIAGNOSIS, None)),
    (60, (SNOMED, "396275006", "Osteoarthritis", DIAGNOSIS, None)),
    (9, (SNOMED, "84757009", "Epilepsy", DIAGNOSIS, None)),
    (10, (SNOMED, "52448006", "Dementia", DIAGNOSIS, None)),
];

/// Real codes of the groups that never leave (see `examples/registry/sensitive`).
const SENSITIVE: &[Known] = &[
    (SNOMED, "86406008", "Human immunodeficiency virus infection", DIAGNOSIS, None),
    (SNOMED, "76272004", "Syphilis", DIAGNOSIS, None),
    (SNOMED, "15628003", "Gonorrhoea", DIAGNOSIS, None),
    (SNOMED, "240589008", "Chlamydia trachomatis infection", DIAGNOSIS, None),
    (SNOMED, "57797005", "Induced termination of pregnancy", PROCEDURE, None),
    (SNOMED, "52637005", "In vitro fertilisation", PROCEDURE, None),
    (SNOMED, "93461009", "Gender dysphoria", DIAGNOSIS, None),
];

/// Texts in the code column that are no code of their system: a host must count the rows and drop them.
const MALFORMED: &[Known] = &[
    (SNOMED, "44054007", "Wrong check digit", DIAGNOSIS, None),
    (SNOMED, "see letter", "Free text instead of a code", FINDING, None),
    (SNOMED, "4.40540E+07", "A spreadsheet was here", DIAGNOSIS, None),
    (READ2, "C10FX1", "Six bytes", DIAGNOSIS, None),
    (READ2, "Mrs Jones", "Free text instead of a code", ADMINISTRATION, None),
];

/// The code table of a practice, and the draw of the next row's code.
#[derive(Debug)]
pub struct Codes {
    all: Vec<Code>,
    tickets: Vec<u16>,
    conditions: std::ops::Range<usize>,
    sensitive: std::ops::Range<usize>,
    malformed: std::ops::Range<usize>,
    diastolic: usize,
    hba1c: usize,
    bmi: usize,
}

impl Codes {
    /// The same table for every seed, so that one codelist fits every practice.
    #[expect(
        clippy::new_without_default,
        reason = "a default that costs milliseconds invites making it in a loop"
    )]
    pub fn new() -> Self {
        let mut all: Vec<Code> = Vec::with_capacity(CODES + 64);
        let known = |all: &mut Vec<Code>, list: &mut dyn Iterator<Item = &Known>| {
            let start = all.len();
            for &(system, text, term, kind, measure) in list {
                let id = 348_000_000 + all.len() as i64;
                all.push(Code { id, system, text: text.to_owned(), term: term.to_owned(), kind, measure });
            }
            start..all.len()
        };
        known(&mut all, &mut KNOWN.iter());
        while all.len() < CODES {
            let invented = invented(all.len());
            all.push(invented);
        }
        let tickets = tickets();
        let conditions = known(&mut all, &mut CONDITIONS.iter().map(|(_, known)| known));
        let sensitive = known(&mut all, &mut SENSITIVE.iter());
        let malformed = known(&mut all, &mut MALFORMED.iter());
        let place = |text: &str| KNOWN.iter().position(|known| known.1 == text).unwrap_or(0);
        Self {
            diastolic: place(DIASTOLIC),
            hba1c: place(HBA1C),
            bmi: place(BMI),
            all,
            tickets,
            conditions,
            sensitive,
            malformed,
        }
    }

    /// The code table.
    pub fn all(&self) -> &[Code] {
        &self.all
    }

    /// The code of the next row, by 64 random bits.
    pub fn draw(&self, random: u64) -> &Code {
        let place = usize::from(self.tickets[random as usize % TICKETS]);
        // Of 10,000 rows 15 are sensitive and 5 malformed.
        match (random >> 32) % 10_000 {
            0..15 => &self.all[self.sensitive.clone()][place % SENSITIVE.len()],
            15..20 => &self.all[self.malformed.clone()][place % MALFORMED.len()],
            _ => &self.all[place],
        }
    }

    /// Diastolic blood pressure.
    pub fn diastolic(&self) -> &Code {
        &self.all[self.diastolic]
    }

    /// HbA1c.
    pub fn hba1c(&self) -> &Code {
        &self.all[self.hba1c]
    }

    /// Body mass index.
    pub fn bmi(&self) -> &Code {
        &self.all[self.bmi]
    }

    /// The long-term conditions, in the order of [`CONDITIONS`].
    pub fn conditions(&self) -> &[Code] {
        &self.all[self.conditions.clone()]
    }
}

/// A code that looks real, at this rank.
fn invented(rank: usize) -> Code {
    let random = mix(0xc0de, rank as u64);
    let (kind, measure) = match random % 100 {
        0..24 => (FINDING, None),
        24..38 => (DIAGNOSIS, None),
        38..62 => (RESULT, RESULTS[(random >> 8) as usize % RESULTS.len()]),
        62..75 => (PROCEDURE, None),
        75..87 => (ADMINISTRATION, None),
        87..92 => (REFERRAL, None),
        92..97 => (IMMUNISATION, None),
        _ => (FAMILY, None),
    };
    let (system, text) = match (random >> 16) % 100 {
        0..6 => (READ2, read2(rank)),
        6 => (system::CTV3, format!("Xb{}", base36(rank, 3))),
        _ => (SNOMED, sctid::concept(rank as u64)),
    };
    let id = 348_000_000 + rank as i64;
    Code { id, system, text, term: format!("Synthetic entry {rank}"), kind, measure }
}

/// Values of invented results.
const RESULTS: &[Option<Measure>] = &[
    measure("mmol/L", 2.3, 0.4, 100.0),
    measure("g/L", 42.0, 5.0, 1.0),
    measure("10*9/L", 6.8, 1.9, 10.0),
    measure("U/L", 27.0, 12.0, 1.0),
    measure("umol/L", 11.0, 5.0, 1.0),
    measure("%", 42.0, 9.0, 10.0),
    measure("mL/min", 78.0, 16.0, 1.0),
    None,
];

/// Read v2 as systems write it: with its dot, without, and with a term code.
fn read2(rank: usize) -> String {
    // Letters first: no invented code begins like an objection code (`9N`).
    let stem = format!("{}{}", char::from(b'A' + (rank % 26) as u8), base36(rank, 3));
    match rank % 3 {
        0 => stem + ".",
        1 => stem,
        _ => stem + ".00",
    }
}

/// The last digits of a number in base 36, as letters and digits.
fn base36(number: usize, digits: u32) -> String {
    let digit = |power: u32| char::from_digit((number / 36_usize.pow(power) % 36) as u32, 36).unwrap_or('0');
    (0..digits).rev().map(digit).collect()
}

/// How many tickets each rank has: the commonest 1,000 share 85 %, falling off as 1 / (rank + 8); the rest are even.
fn tickets() -> Vec<u16> {
    let weight = |rank: usize| 1.0 / (rank as f64 + 8.0);
    let total: f64 = (0..COMMON).map(weight).sum();
    let mut tickets = Vec::with_capacity(TICKETS);
    let mut sum = 0.0;
    for rank in 0..COMMON {
        sum += weight(rank);
        let end = (sum / total * COMMON_TICKETS as f64).round() as usize;
        tickets.resize(end.max(tickets.len()), rank as u16);
    }
    let rest = TICKETS - tickets.len();
    tickets.extend((0..rest).map(|ticket| (COMMON + ticket % (CODES - COMMON)) as u16));
    tickets
}

/// A medicine.
#[derive(Debug)]
pub struct Medicine {
    /// dm+d code.
    pub code: String,
    /// What it is.
    pub term: String,
    /// `tablet`, `ml` and so on.
    pub quantity_unit: &'static str,
    /// How many for how many days.
    pub quantity: f64,
    /// Days that it lasts.
    pub days: i64,
}

/// The medicines of a practice: again the same for every seed.
pub fn medicines() -> Vec<Medicine> {
    let medicine = |rank: u64| {
        let (quantity_unit, quantity, days) = match mix(0xd06, rank) % 6 {
            0..3 => ("tablet", 28.0, 28),
            3 => ("tablet", 56.0, 28),
            4 => ("ml", 200.0, 10),
            _ => ("dose", 120.0, 30),
        };
        let code = sctid::extension(rank);
        Medicine { code, term: format!("Synthetic medicine {rank}"), quantity_unit, quantity, days }
    };
    (0..MEDICINES).map(medicine).collect()
}

#[cfg(test)]
mod tests {
    use lockgate_signing::code::{CodeShape, normalise_code};

    use super::*;

    #[test]
    fn every_code_but_the_malformed_has_the_shape_of_its_system() {
        let codes = Codes::new();
        for (place, code) in codes.all().iter().enumerate() {
            let shape = if code.system == SNOMED { CodeShape::Sctid } else { CodeShape::Read };
            let fits = shape.fits(&normalise_code(shape, &code.text));
            assert_eq!(fits, !codes.malformed.contains(&place), "{code:?}");
            if let Some(measure) = code.measure {
                assert!(CodeShape::Ucum.fits(measure.unit));
            }
        }
    }

    #[test]
    fn the_commonest_thousand_codes_are_85_percent_of_the_rows() {
        let codes = Codes::new();
        let common = codes.tickets.iter().filter(|&&rank| usize::from(rank) < COMMON).count();
        assert_eq!((codes.tickets.len(), common), (TICKETS, COMMON_TICKETS));
        let used: std::collections::BTreeSet<u16> = codes.tickets.iter().copied().collect();
        assert!(used.len() > 7_900, "{}", used.len());
        let texts: std::collections::BTreeSet<&str> =
            codes.all().iter().map(|code| code.text.as_str()).collect();
        assert_eq!(texts.len(), codes.all().len(), "no code is there twice");
    }
}
