//! A synthetic hospital. Most of its patients are people of the practices of the same seed, so that their records can
//! be linked; the rest are from elsewhere.

use std::path::Path;

use indicatif::ProgressBar;
use jiff::civil::Date;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::calendar::Calendar;
use crate::codes::system::{ICD10, OPCS4};
use crate::draft::{Draft, Finish};
use crate::error::PracticeError;
use crate::gp::Planted;
use crate::hospital_tables::{self, HospitalPatientRow, HospitalWriter, SpellRow};
use crate::people::{PLANTED_PLACE, People, Person, mix, pick};
use crate::{nhs_number, notes, objections, words};

/// The site code of every synthetic hospital.
pub const SITE_CODE: &str = "RX101";

/// What to make.
#[derive(Debug, Clone)]
pub struct HospitalRequest {
    /// The same seed makes the same people.
    pub seed: u64,
    /// Patients of each practice around it; a third of them are known here.
    pub patients: u32,
    /// Practices around it.
    pub practices: u32,
    /// Spells for each patient of the hospital and month.
    pub spells_per_patient_month: f64,
    /// Months of spells.
    pub months: u32,
    /// The day of the run; discharges end with the month before it.
    pub as_of: Date,
    /// Text to plant in every identifiable field of one patient.
    pub marker: Option<String>,
    /// Patients in 1,000 with some kind of objection in their record.
    pub objections_per_mille: u32,
}

/// What was made.
#[derive(Debug, serde::Serialize)]
pub struct MadeHospital {
    /// The hospital's site code.
    pub ods_code: String,
    /// Patients.
    pub patients: u64,
    /// Those that a practice of the same seed has, too.
    pub patients_shared: u64,
    /// Spells.
    pub spells: u64,
    /// Diagnoses and procedures.
    pub codes: u64,
    /// The planted patient.
    pub planted: Option<Planted>,
}

/// One in this many people of a practice is known to the hospital.
const KNOWN_ONE_IN: u64 = 3;

/// Consultants of the hospital.
const STAFF: i64 = 20;

/// Diagnoses (ICD-10), commonest first, as coders write them: with the point, without, and with the filler `X`.
const DIAGNOSES: &[&str] = &[
    "I10X", "E11.9", "I48.9", "J44.1", "N18.3", "I25.1", "E119", "J18.9", "N39.0", "K21.9", "J45.9", "Z92.1",
    "F32.9", "M17.1", "I50.0", "R07.4", "R10.4", "K80.2", "S72.0", "I63.9", "C50.9", "C34.9", "H25.9", "O80",
    "O80X", "A41.9", "E78.0", "I21.4", "G40.9", "K57.3", "L03.1", "R55X", "S52.5", "Z51.1", "M54.5", "D50.9",
    "E86X", "F05.9", "I26.9",
];

/// Diagnoses of the groups that never leave.
const SENSITIVE_DIAGNOSES: &[&str] = &["B24X", "B20.0", "A53.9", "A54.9", "O04.9", "Z31.2", "F64.0"];

/// Texts that are no codes.
const MALFORMED: &[&str] = &["see notes", "?", "E1", "DIABETES"];

/// Procedures (OPCS-4).
const PROCEDURES: &[&str] = &[
    "C75.1", "G45.1", "H22.9", "W40.1", "W37.1", "J18.3", "T20.2", "K63.3", "M45.9", "X29.2", "U05.1",
    "Y53.4", "R24.9", "X352", "G451", "K75.1", "E63.2", "S06.5", "W24.1", "Q07.4",
];

/// Admission methods (NHS Data Dictionary, ADMISSION METHOD CODE), commonest first.
const METHODS: &[&str] =
    &["21", "11", "21", "12", "21", "13", "22", "28", "31", "82", "2A", "81", "24", "32"];

/// Treatment functions.
const SPECIALTIES: &[&str] =
    &["300", "100", "110", "320", "340", "430", "501", "180", "420", "130", "502", "800"];

/// Makes a hospital. The bar counts spells.
pub fn make(
    request: &HospitalRequest,
    out: &Path,
    replace: bool,
    finish: Finish,
    bar: &ProgressBar,
) -> Result<MadeHospital, PracticeError> {
    let calendar = Calendar::before(request.as_of, request.months)?;
    if request.patients < 20 || request.practices == 0 {
        return Err(PracticeError::argument("--patients", "at least 20, and at least one practice"));
    }
    let draft = Draft::create(out, replace, hospital_tables::TABLES)?;
    let mut hospital = Hospital {
        request,
        calendar: &calendar,
        people: People::new(request.seed, request.as_of, request.marker.as_deref()),
        rng: ChaCha8Rng::seed_from_u64(mix(request.seed, 0x4051)),
        write: HospitalWriter::new(draft.connection())?,
        roster: Vec::new(),
        objectors: 0,
        shared: 0,
        spells: 0,
        codes: 0,
        planted_spells: Vec::new(),
    };
    hospital.house()?;
    hospital.patients()?;
    hospital.spells(bar)?;
    let planted = hospital.planted()?;
    let made = MadeHospital {
        ods_code: SITE_CODE.to_owned(),
        patients: hospital.roster.len() as u64,
        patients_shared: hospital.shared,
        spells: hospital.spells,
        codes: hospital.codes,
        planted,
    };
    drop(hospital);
    bar.set_message("indexes");
    draft.finish(hospital_tables::INDEXES, finish)?;
    Ok(made)
}

struct Hospital<'c> {
    request: &'c HospitalRequest,
    calendar: &'c Calendar,
    people: People,
    rng: ChaCha8Rng,
    write: HospitalWriter<'c>,
    /// Local id and place of each patient.
    roster: Vec<(String, u64)>,
    objectors: usize,
    shared: u64,
    spells: u64,
    codes: u64,
    planted_spells: Vec<String>,
}

impl Hospital<'_> {
    fn house(&mut self) -> Result<(), PracticeError> {
        self.write.provider(SITE_CODE, "Lockgate General Hospital")?;
        for staff in 1..=STAFF {
            let name = format!(
                "{} {}",
                pick(&mut self.rng, words::FORENAMES_M),
                pick(&mut self.rng, words::SURNAMES)
            );
            let name = match &self.request.marker {
                Some(marker) if staff == STAFF => format!("{name}-{marker}"),
                _ => name,
            };
            self.write.staff(staff, &name, "Consultant")?;
        }
        Ok(())
    }

    fn patients(&mut self) -> Result<(), PracticeError> {
        let around = u64::from(self.request.patients) * u64::from(self.request.practices);
        let known = |place: &u64| {
            *place == PLANTED_PLACE || mix(self.request.seed ^ 0x4051, *place).is_multiple_of(KNOWN_ONE_IN)
        };
        let mut places: Vec<u64> = (0..around).filter(known).collect();
        self.shared = places.len() as u64;
        places.extend(around..around + around / 6);
        for (position, place) in places.into_iter().enumerate() {
            let person = self.people.at(place)?;
            self.patient(position, place, around, &person)?;
        }
        Ok(())
    }

    fn patient(
        &mut self,
        position: usize,
        place: u64,
        around: u64,
        person: &Person,
    ) -> Result<(), PracticeError> {
        let planted = place == PLANTED_PLACE && self.request.marker.is_some();
        let id = match &self.request.marker {
            Some(marker) if planted => format!("{marker}-7000001"),
            _ => format!("{}", 7_000_001 + position),
        };
        let random = mix(self.request.seed ^ 0x405b, place);
        let special = if planted { 1_000 } else { random % 1_000 };
        let number = match (position, special) {
            (3, _) | (_, 0..15) => None,
            (4, _) | (_, 15..18) => Some(nhs_number::spoiled(&person.nhs_number)),
            _ => Some(person.nhs_number.clone()),
        };
        let practice = if place < around {
            format!("A81{:03}", place / u64::from(self.request.patients) + 1)
        } else {
            // NHS Data Dictionary: not known.
            "V81999".to_owned()
        };
        self.write.patient(&HospitalPatientRow {
            id: &id,
            nhs_number: number.as_deref(),
            born: &person.born.to_string(),
            died: "",
            sex: person.sex,
            postcode: &person.postcode,
            lsoa: &person.lsoa,
            ethnicity: person.ethnicity,
            test: position == 1 || (20..22).contains(&special),
            restricted: position == 2 || (22..25).contains(&special),
            deleted: (25..27).contains(&special),
            forename: &person.forename,
            surname: &person.surname,
            street: &person.street,
            town: &person.town,
            phone: &person.phone,
            practice: &practice,
        })?;
        let objects = position >= 5
            && special >= 27
            && !planted
            && mix(self.request.seed ^ 0x40b1, place) % 1_000 < u64::from(self.request.objections_per_mille);
        // Wherever there are patients there is evidence: a hospital without any would be one that cannot be read.
        if objects || position == 5 {
            let case = objections::case(self.objectors, random >> 20);
            self.objectors += 1;
            for entry in case.entries {
                let (effective, recorded) =
                    (entry.effective(self.request.as_of), entry.entered(self.request.as_of));
                self.write.consent(&id, entry.system, entry.code, &effective, &recorded, entry.deleted)?;
            }
        }
        self.roster.push((id, place));
        Ok(())
    }

    fn spells(&mut self, bar: &ProgressBar) -> Result<(), PracticeError> {
        let people = self.roster.len() as f64;
        let total =
            (people * self.request.spells_per_patient_month * f64::from(self.request.months)).round() as u64;
        bar.set_length(total);
        let roster = std::mem::take(&mut self.roster);
        let days = self.calendar.days() as u64;
        for day in 0..days {
            while self.spells < total * (day + 1) / days {
                let (id, place) = pick(&mut self.rng, &roster);
                self.spell(id, *place, day as i32, None)?;
            }
            bar.set_position(self.spells);
        }
        self.roster = roster;
        Ok(())
    }

    fn spell(
        &mut self,
        patient: &str,
        place: u64,
        day: i32,
        planted: Option<&str>,
    ) -> Result<(), PracticeError> {
        self.spells += 1;
        let id = match planted {
            Some(marker) => format!("{marker}-{}", self.spells),
            None => format!("{}", 500_000_000_000_u64 + self.spells),
        };
        let stay = (*pick(&mut self.rng, &[0, 0, 0, 1, 1, 2, 3, 5, 9, 24])).min(day + 300);
        let admitted = self.stamp(day - stay, 0);
        // Who came in the last days of the window may still be there.
        let still_there =
            planted.is_none() && day + 3 >= self.calendar.days() as i32 && self.rng.random_range(0..3) == 0;
        let discharged = if still_there { String::new() } else { self.stamp(day, 12) };
        let method = *pick(&mut self.rng, METHODS);
        let specialty = *pick(&mut self.rng, SPECIALTIES);
        let mut summary = String::new();
        if planted.is_some() || self.spells.is_multiple_of(4) {
            notes::write(&mut summary, &mut self.rng, &self.people.at(place)?);
        }
        self.write.spell(&SpellRow {
            id: &id,
            patient,
            admitted: &admitted,
            discharged: &discharged,
            method,
            specialty,
            site: SITE_CODE,
            deleted: planted.is_none() && self.rng.random_range(0..150) == 0,
            ward: "Ward 7",
            consultant: if planted.is_some() { STAFF } else { self.rng.random_range(1..STAFF) },
            summary: &summary,
        })?;
        let diagnoses = self.rng.random_range(1..6);
        for position in 1..=diagnoses {
            let list = match self.rng.random_range(0..1_000) {
                _ if planted.is_some() => DIAGNOSES,
                0..6 => SENSITIVE_DIAGNOSES,
                6..8 => MALFORMED,
                _ => DIAGNOSES,
            };
            // The minimum of two draws: the commonest come first.
            let place = self.rng.random_range(0..list.len()).min(self.rng.random_range(0..list.len()));
            let deleted = self.rng.random_range(0..200) == 0;
            self.write.coding(&id, position, "D", ICD10, list[place], deleted)?;
            self.codes += 1;
        }
        for position in 1..=self.rng.random_range(0..3) {
            let code = *pick(&mut self.rng, PROCEDURES);
            self.write.coding(&id, position, "P", OPCS4, code, false)?;
            self.codes += 1;
        }
        if planted.is_some() {
            self.planted_spells.push(id);
        }
        Ok(())
    }

    /// `2026-10-31 14:05`.
    fn stamp(&mut self, day: i32, hour: u32) -> String {
        let minute = self.rng.random_range(0..720);
        format!("{} {:02}:{:02}", self.calendar.iso(day), hour + minute / 60, minute % 60)
    }

    fn planted(&mut self) -> Result<Option<Planted>, PracticeError> {
        let Some(marker) = self.request.marker.clone() else { return Ok(None) };
        let Some((id, _)) = self.roster.first().cloned() else { return Ok(None) };
        for month in 0..self.request.months as i32 {
            let day = (month * 30 + 9).min(self.calendar.days() as i32 - 1);
            self.spell(&id, PLANTED_PLACE, day, Some(&marker))?;
        }
        let person = self.people.at(PLANTED_PLACE)?;
        let mut local_ids = vec![id];
        local_ids.append(&mut self.planted_spells);
        Ok(Some(Planted::new(&marker, &person, local_ids)))
    }
}
