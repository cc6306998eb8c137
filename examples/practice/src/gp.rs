//! A synthetic practice.
//!
//! Rows are written in the order in which a practice would have typed them: the past first, then day by day, so that a
//! month lies together in the file. Memory grows with patients, not with rows.

use std::path::Path;

use indicatif::ProgressBar;
use jiff::ToSpan;
use jiff::civil::Date;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::calendar::{Calendar, add_days, day_month_year};
use crate::codes::{self, CONDITIONS, Code, Codes, Medicine, kind, system};
use crate::draft::{Draft, Finish};
use crate::error::PracticeError;
use crate::gp_tables::{self, GpWriter, IssueRow, ObservationRow, PatientRow};
use crate::objections::{self, CASES, Case};
use crate::people::{PLANTED_PLACE, People, Person, mix, pick};
use crate::{nhs_number, notes, words};

/// What to make.
#[derive(Debug, Clone)]
pub struct GpRequest {
    /// The same seed makes the same people.
    pub seed: u64,
    /// Registrations.
    pub patients: u32,
    /// Which practice of the seed, from 1: no two share a person.
    pub number: u32,
    /// Coded entries for each patient and month.
    pub coded_per_patient_month: f64,
    /// Issues for each patient and month.
    pub issues_per_patient_month: f64,
    /// Months of events.
    pub months: u32,
    /// The day of the run; events end with the month before it.
    pub as_of: Date,
    /// Text to plant in every identifiable field of one patient.
    pub marker: Option<String>,
    /// Patients in 1,000 with some kind of objection in their record.
    pub objections_per_mille: u32,
}

/// What was made, for whoever looks for leaks or checks counts.
#[derive(Debug, serde::Serialize)]
pub struct MadeGp {
    /// The practice's code.
    pub ods_code: String,
    /// Registrations.
    pub patients: u32,
    /// Coded entries, those before the window, objections and planted ones included.
    pub observations: u64,
    /// Issues.
    pub issues: u64,
    /// The planted patient.
    pub planted: Option<Planted>,
}

/// What a search for leaks must not find anywhere.
#[derive(Debug, serde::Serialize)]
pub struct Planted {
    /// The marker.
    pub marker: String,
    /// NHS number, without spaces.
    pub nhs_number: String,
    /// Postcode.
    pub postcode: String,
    /// Birth date, ISO.
    pub birth_date: String,
    /// Local ids: of the patient and, in a hospital, of the spells.
    pub local_ids: Vec<String>,
}

impl Planted {
    pub(crate) fn new(marker: &str, person: &Person, local_ids: Vec<String>) -> Self {
        Self {
            marker: marker.to_owned(),
            nhs_number: person.nhs_number.clone(),
            postcode: person.postcode.clone(),
            birth_date: person.born.to_string(),
            local_ids,
        }
    }
}

/// Doctors and nurses of a practice.
const USERS: i64 = 12;
/// The one whose name is the marker.
const PLANTED_USER: i64 = USERS;
/// Rows in 1,000 that have free text.
const NOTES_PER_MILLE: u32 = 60;
/// Weight of a day at the weekend; other days weigh 100.
const WEEKEND_WEIGHT: u64 = 8;

/// Makes a practice. The bar counts rows.
pub fn make(
    request: &GpRequest,
    out: &Path,
    replace: bool,
    finish: Finish,
    bar: &ProgressBar,
) -> Result<MadeGp, PracticeError> {
    let calendar = Calendar::before(request.as_of, request.months)?;
    if request.patients < 20 {
        return Err(PracticeError::argument(
            "--patients",
            "at least 20, so that every kind of patient is there",
        ));
    }
    let draft = Draft::create(out, replace, gp_tables::TABLES)?;
    let codes = Codes::new();
    let medicines = codes::medicines();
    let mut practice = Practice {
        request,
        calendar: &calendar,
        people: People::new(request.seed, request.as_of, request.marker.as_deref()),
        codes: &codes,
        medicines: &medicines,
        rng: ChaCha8Rng::seed_from_u64(mix(request.seed, 0x6770 + u64::from(request.number))),
        write: GpWriter::new(draft.connection())?,
        roster: Vec::with_capacity(request.patients as usize),
        objectors: Vec::new(),
        observations: 0,
        issues: 0,
        note: String::new(),
        bar,
    };
    let months = f64::from(request.months) * f64::from(request.patients);
    let coded = (request.coded_per_patient_month * months).round() as u64;
    let issues = (request.issues_per_patient_month * months).round() as u64;
    bar.set_length(coded + issues);
    let ods_code = practice.tables_of_the_house()?;
    practice.patients()?;
    practice.events(coded, issues)?;
    practice.objections()?;
    let planted = practice.planted()?;
    let (observations, issues) = (practice.observations, practice.issues);
    drop(practice);
    bar.set_message("indexes");
    draft.finish(gp_tables::INDEXES, finish)?;
    Ok(MadeGp { ods_code, patients: request.patients, observations, issues, planted })
}

/// What the events need to know of a patient.
#[derive(Debug)]
struct Registered {
    id: String,
    place: u64,
    /// Deviations from the mean at which this person's measurements lie.
    lean: f64,
    diabetic: bool,
    first_drug: i64,
    drugs: u8,
    user: i64,
    /// How often this patient comes, 0 for one who left or died before the window.
    visits: u32,
}

struct Practice<'c> {
    request: &'c GpRequest,
    calendar: &'c Calendar,
    people: People,
    codes: &'c Codes,
    medicines: &'c [Medicine],
    rng: ChaCha8Rng,
    write: GpWriter<'c>,
    roster: Vec<Registered>,
    objectors: Vec<(usize, &'static Case)>,
    observations: u64,
    issues: u64,
    note: String,
    bar: &'c ProgressBar,
}

/// What is special about a registration. The first ones have one of each kind, however small the practice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Special {
    Test,
    Dummy,
    Sensitive,
    Deleted,
    MissingNumber,
    InvalidNumber,
    /// The person of the registration before it, once more.
    Again,
    No,
}

impl Special {
    fn of(position: u32, random: u64) -> Self {
        match (position, random % 10_000) {
            (0 | 10..20, _) => Self::No,
            (1, _) | (20.., 0..15) => Self::Test,
            (2, _) | (20.., 15..30) => Self::Dummy,
            (3, _) | (20.., 30..60) => Self::Sensitive,
            (4, _) | (20.., 60..80) => Self::Deleted,
            (5, _) | (20.., 80..150) => Self::MissingNumber,
            (6, _) | (20.., 150..180) => Self::InvalidNumber,
            (8, _) | (20.., 180..230) => Self::Again,
            _ => Self::No,
        }
    }
}

impl Practice<'_> {
    fn tables_of_the_house(&mut self) -> Result<String, PracticeError> {
        let ods_code = format!("A81{:03}", self.request.number);
        self.write.organisation(&ods_code, &format!("Lockgate Surgery {}", self.request.number))?;
        for user in 1..=USERS {
            let (forename, surname) =
                (*pick(&mut self.rng, words::FORENAMES_F), *pick(&mut self.rng, words::SURNAMES));
            let surname = match &self.request.marker {
                Some(marker) if user == PLANTED_USER => format!("{surname}-{marker}"),
                _ => surname.to_owned(),
            };
            self.write.user(
                user,
                forename,
                &surname,
                if user < 8 { "General practitioner" } else { "Nurse" },
            )?;
        }
        for code in self.codes.all() {
            self.write.code(code)?;
        }
        for code in consent_codes() {
            self.write.code(&code)?;
        }
        for medicine in self.medicines {
            self.write.medicine(system::DMD, medicine)?;
        }
        Ok(ods_code)
    }

    fn patients(&mut self) -> Result<(), PracticeError> {
        let first_place = u64::from(self.request.number - 1) * u64::from(self.request.patients);
        for position in 0..self.request.patients {
            let place = first_place + u64::from(position);
            let random = mix(self.request.seed ^ 0x5bec, place);
            let special = Special::of(position, random);
            let place = if special == Special::Again { place - 1 } else { place };
            let planted = self.request.marker.is_some() && place == PLANTED_PLACE;
            let person = self.people.at(place)?;
            self.patient(position, place, &person, special, planted)?;
            let objects = special == Special::No
                && position >= 10
                && mix(self.request.seed ^ 0x0b1ec, place) % 1_000
                    < u64::from(self.request.objections_per_mille);
            if objects {
                let case = objections::case(self.objectors.len(), random >> 20);
                self.objectors.push((position as usize, case));
            }
        }
        Ok(())
    }

    fn patient(
        &mut self,
        position: u32,
        place: u64,
        person: &Person,
        special: Special,
        planted: bool,
    ) -> Result<(), PracticeError> {
        let (first, end) = (self.calendar.first, self.calendar.end);
        let age = (end.year() - person.born.year()).max(0);
        let id = match &self.request.marker {
            Some(marker) if planted => format!("{marker}-4000000000000000001"),
            _ => local_id(position),
        };
        let number = match special {
            Special::MissingNumber if position.is_multiple_of(2) => Some(String::new()),
            Special::MissingNumber => None,
            Special::InvalidNumber => Some(nhs_number::spoiled(&person.nhs_number)),
            _ if position % 20 == 7 => Some(nhs_number::spaced(&person.nhs_number)),
            _ => Some(person.nhs_number.clone()),
        };
        let registered = add_days(end, -self.rng.random_range(30..9_000)).max(person.born);
        let (died, deducted) = match self.rng.random_range(0..100) {
            _ if planted => (None, None),
            0..3 => (Some(add_days(end, -self.rng.random_range(10..2_000)).max(registered)), None),
            3..8 => (None, Some(add_days(end, -self.rng.random_range(10..2_000)).max(registered))),
            _ => (None, None),
        };
        let gone = died.or(deducted).is_some_and(|day| day < first);
        let deducted_text = deducted.map(day_month_year);
        let (born, died, registered) = (
            day_month_year(person.born),
            died.map(day_month_year).unwrap_or_default(),
            day_month_year(registered),
        );
        self.note.clear();
        if planted || position.is_multiple_of(9) {
            notes::write(&mut self.note, &mut self.rng, person);
        }
        let user = if planted { PLANTED_USER } else { self.rng.random_range(1..USERS) };
        self.write.patient(&PatientRow {
            id: &id,
            nhs_number: number.as_deref(),
            born: &born,
            died: &died,
            sex: person.sex,
            postcode: if position % 50 == 13 { "ZZ99 3VZ" } else { &person.postcode },
            lsoa: if position % 40 == 11 { "" } else { &person.lsoa },
            ethnicity: person.ethnicity,
            registered: &registered,
            deducted: match (&deducted_text, position % 3) {
                (Some(text), _) => Some(text.as_str()),
                (None, 0) => None,
                (None, 1) => Some(""),
                (None, _) => Some("01/01/1800"),
            },
            kind: match special {
                Special::Test => "test",
                Special::Dummy => "dummy",
                _ if position % 60 == 21 => "temporary",
                _ => "regular",
            },
            sensitive: special == Special::Sensitive,
            deleted: special == Special::Deleted,
            forename: &person.forename,
            surname: &person.surname,
            street: &person.street,
            town: &person.town,
            phone: &person.phone,
            gp: user,
            note: &self.note,
        })?;
        let mut patient = Registered {
            id,
            place,
            lean: self.rng.random_range(-1.0..1.0) + self.rng.random_range(-1.0..1.0),
            diabetic: false,
            first_drug: 0,
            drugs: 0,
            user,
            visits: if gone { 0 } else { (2 + u32::from(age.unsigned_abs()) / 8).min(12) },
        };
        self.drugs(&mut patient, age)?;
        self.history(&mut patient, age)?;
        self.roster.push(patient);
        Ok(())
    }

    /// The repeat prescriptions of a patient.
    fn drugs(&mut self, patient: &mut Registered, age: i16) -> Result<(), PracticeError> {
        patient.drugs = self.rng.random_range(0..=(1 + age.clamp(0, 90) / 15)) as u8;
        for slot in 0..patient.drugs {
            let entered = add_days(self.calendar.first, -self.rng.random_range(10..3_000)).to_string();
            let dosage = self.dosage(patient);
            let medicine = &self.medicines[medicine_of(patient.place, slot)];
            let number =
                self.write.drug_record(&patient.id, system::DMD, &medicine.code, &entered, &dosage)?;
            if slot == 0 {
                patient.first_drug = number;
            }
        }
        Ok(())
    }

    /// Long-term conditions, entered before the window.
    fn history(&mut self, patient: &mut Registered, age: i16) -> Result<(), PracticeError> {
        if age < 18 {
            return Ok(());
        }
        for (index, (per_mille, _)) in CONDITIONS.iter().enumerate() {
            // Long-term conditions come with age: none more than at 18, twice the mean at 80.
            let chance = per_mille * u64::from(age.unsigned_abs() - 10) / 35;
            if self.rng.random_range(0..1_000) >= chance {
                continue;
            }
            let code = &self.codes.conditions()[index];
            patient.diabetic |= code.term.contains("iabetes");
            let entered = add_days(self.calendar.first, -self.rng.random_range(20..5_000)).to_string();
            self.note.clear();
            self.observation(patient, &entered, &entered, code, None, None, false)?;
        }
        Ok(())
    }

    /// Everything of the window, day by day.
    fn events(&mut self, coded: u64, issues: u64) -> Result<(), PracticeError> {
        let visits: Vec<u32> = (0_u32..)
            .zip(&self.roster)
            .flat_map(|(index, patient)| std::iter::repeat_n(index, patient.visits as usize))
            .collect();
        let roster = std::mem::take(&mut self.roster);
        let weights = (0..self.calendar.days() as i32).map(|day| match self.calendar.weekday(day) {
            0..5 => 100,
            _ => WEEKEND_WEIGHT,
        });
        let weights: Vec<u64> = weights.collect();
        let total: u64 = weights.iter().sum();
        let (mut weight, mut coded_done, mut issues_done) = (0, 0, 0);
        for (day, day_weight) in weights.iter().enumerate() {
            weight += day_weight;
            let share = |rows: u64| (u128::from(rows) * u128::from(weight) / u128::from(total)) as u64;
            while coded_done < share(coded) {
                let rows = (*pick(&mut self.rng, &[1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 10, 14]))
                    .min(share(coded) - coded_done);
                let patient = &roster[*pick(&mut self.rng, &visits) as usize];
                self.consultation(patient, day as i32, rows)?;
                coded_done += rows;
            }
            while issues_done < share(issues) {
                let rows = (*pick(&mut self.rng, &[1, 1, 1, 2, 2, 3, 4])).min(share(issues) - issues_done);
                let patient = &roster[*pick(&mut self.rng, &visits) as usize];
                self.issue(patient, day as i32, rows)?;
                issues_done += rows;
            }
            self.bar.set_position(coded_done + issues_done);
        }
        self.roster = roster;
        Ok(())
    }

    /// One consultation: its rows have one day, each its own effective date.
    fn consultation(&mut self, patient: &Registered, day: i32, rows: u64) -> Result<(), PracticeError> {
        let mut entered = [0; 19];
        let entered = self.entered(&mut entered, day, b'T');
        let consultation = self.write.consultation(&patient.id, entered, patient.user, "GP Surgery")?;
        let codes = self.codes;
        let mut pair = None;
        for _ in 0..rows {
            let random = self.rng.next_u64();
            let code = match pair.take() {
                Some(code) => code,
                None if patient.diabetic && random.is_multiple_of(8) => codes.hba1c(),
                None if patient.diabetic && random % 8 == 1 => codes.bmi(),
                None => codes.draw(random),
            };
            if code.text == codes::SYSTOLIC {
                pair = Some(codes.diastolic());
            }
            let value = code.measure.map(|measure| {
                let lean = if patient.diabetic && code.text == codes::HBA1C { 2.2 } else { 0.0 };
                measure.value(patient.lean + lean, self.rng.random_range(-1.0..1.0))
            });
            self.note.clear();
            if self.rng.random_range(0..1_000) < NOTES_PER_MILLE {
                let person = self.people.at(patient.place)?;
                notes::write(&mut self.note, &mut self.rng, &person);
            }
            let mut effective = [0; 19];
            let effective = self.effective(&mut effective, day, entered);
            self.observation(patient, entered, effective, code, value, Some(consultation), true)?;
        }
        Ok(())
    }

    /// The text of entry: a day, or for one in four consultations a time.
    fn entered<'t>(&mut self, buffer: &'t mut [u8; 19], day: i32, between: u8) -> &'t str {
        let random = self.rng.next_u32();
        let text = time(buffer, self.calendar.iso(day), random, between);
        if random.is_multiple_of(4) { text } else { &text[..10] }
    }

    /// The effective date of a row: mostly the day of entry, with every way in which real ones differ.
    fn effective<'t>(&mut self, buffer: &'t mut [u8; 19], day: i32, entered: &'t str) -> &'t str
    where
        Self: 't,
    {
        let random = self.rng.next_u32();
        let back = (random >> 16) as i32;
        let iso = match random % 200 {
            0..140 => return &entered[..10],
            140..176 => return time(buffer, self.calendar.iso(day), random >> 8, b'T'),
            176..192 => self.calendar.iso(day - back % 60),
            192..196 => self.calendar.iso(day - back % 390),
            196 => return "1800-01-01",
            197 => return "",
            // Only a month, only a year.
            198 => &self.calendar.iso(day - back % 390)[..7],
            _ => &self.calendar.iso(day - 390)[..4],
        };
        let length = iso.len();
        buffer[..length].copy_from_slice(iso.as_bytes());
        ascii(&buffer[..length])
    }

    #[expect(clippy::too_many_arguments, reason = "one row's fields, each from another place")]
    fn observation(
        &mut self,
        patient: &Registered,
        entered: &str,
        effective: &str,
        code: &Code,
        value: Option<f64>,
        consultation: Option<i64>,
        may_be_withheld: bool,
    ) -> Result<(), PracticeError> {
        let withheld = if may_be_withheld { self.rng.random_range(0..1_000) } else { 1_000 };
        self.observations += 1;
        self.write.observation(&ObservationRow {
            patient: &patient.id,
            entered,
            effective,
            system: code.system,
            code: &code.text,
            value,
            unit: value.and(code.measure).map(|measure| measure.unit),
            kind: code.kind,
            deleted: withheld < 8,
            confidential: (8..12).contains(&withheld),
            code_id: code.id,
            consultation,
            user: patient.user,
            value_text: None,
            note: Some(self.note.as_str()).filter(|note| !note.is_empty()),
        })
    }

    fn issue(&mut self, patient: &Registered, day: i32, rows: u64) -> Result<(), PracticeError> {
        let mut buffer = [0; 19];
        let entered = time(&mut buffer, self.calendar.iso(day), self.rng.next_u32(), b' ');
        for _ in 0..rows {
            let slot = if patient.drugs == 0 { 0 } else { self.rng.random_range(0..patient.drugs) };
            let medicine = medicine_of(patient.place, slot);
            let dosage = self.dosage(patient);
            let medicine = &self.medicines[medicine];
            let withheld = self.rng.random_range(0..1_000);
            self.issues += 1;
            self.write.issue(&IssueRow {
                patient: &patient.id,
                entered,
                effective: &entered[..10],
                system: system::DMD,
                code: &medicine.code,
                quantity: (withheld != 500).then_some(medicine.quantity),
                days: (withheld != 501).then_some(medicine.days),
                deleted: withheld < 6,
                confidential: (6..8).contains(&withheld),
                drug_record: patient.first_drug + i64::from(slot),
                user: patient.user,
                quantity_unit: medicine.quantity_unit,
                dosage: &dosage,
            })?;
        }
        Ok(())
    }

    fn dosage(&mut self, patient: &Registered) -> std::borrow::Cow<'static, str> {
        let usual = *pick(&mut self.rng, notes::DOSAGES);
        match &self.request.marker {
            Some(marker) if patient.place == PLANTED_PLACE => format!("{usual}, {marker} collects").into(),
            _ => usual.into(),
        }
    }

    fn objections(&mut self) -> Result<(), PracticeError> {
        let roster = std::mem::take(&mut self.roster);
        let consent = consent_codes();
        self.note.clear();
        for (position, case) in std::mem::take(&mut self.objectors) {
            for entry in case.entries {
                let known = consent
                    .iter()
                    .find(|code| (code.system, code.text.as_str()) == (entry.system, entry.code));
                let patient = &roster[position];
                self.observations += 1;
                self.write.observation(&ObservationRow {
                    patient: &patient.id,
                    entered: &entry.entered(self.request.as_of),
                    effective: &entry.effective(self.request.as_of),
                    system: entry.system,
                    code: entry.code,
                    value: None,
                    unit: None,
                    kind: kind::CONSENT,
                    deleted: entry.deleted,
                    confidential: false,
                    code_id: known.map_or(0, |code| code.id),
                    consultation: None,
                    user: patient.user,
                    value_text: None,
                    note: Some("Patient rang, does not want data shared"),
                })?;
            }
        }
        self.roster = roster;
        Ok(())
    }

    /// Rows of the planted patient in every month: an ordinary one with a note, one with the marker in the code, one
    /// with it in the unit and the value, and an issue.
    fn planted(&mut self) -> Result<Option<Planted>, PracticeError> {
        let Some(marker) = self.request.marker.clone() else { return Ok(None) };
        let roster = std::mem::take(&mut self.roster);
        let Some(patient) = roster.first().filter(|patient| patient.place == PLANTED_PLACE) else {
            return Ok(None);
        };
        let person = self.people.at(PLANTED_PLACE)?;
        let bmi = self.codes.bmi().clone();
        let (unit, text) = (format!("see {marker}"), format!("{marker} letter"));
        let mut month = self.calendar.first;
        while month < self.calendar.end {
            let day = crate::calendar::days_between(self.calendar.first, month) + 8;
            let entered = self.calendar.iso(day).to_owned();
            for round in 0..6 {
                notes::write(&mut self.note, &mut self.rng, &person);
                let note = format!("{} ({marker})", self.note);
                self.observations += 1;
                self.write.observation(&ObservationRow {
                    patient: &patient.id,
                    entered: &entered,
                    effective: &entered,
                    system: bmi.system,
                    code: if round == 1 { &text } else { &bmi.text },
                    value: Some(31.5),
                    unit: Some(if round == 2 { unit.as_str() } else { "kg/m2" }),
                    kind: bmi.kind,
                    deleted: false,
                    confidential: false,
                    code_id: bmi.id,
                    consultation: None,
                    user: PLANTED_USER,
                    value_text: Some(&text),
                    note: Some(&note),
                })?;
            }
            self.issue(patient, day, 2)?;
            month = month.saturating_add(1.month());
        }
        Ok(Some(Planted::new(&marker, &person, vec![patient.id.clone()])))
    }
}

/// Every objection code, and every look-alike, as rows of the code table.
pub(crate) fn consent_codes() -> Vec<Code> {
    let entries: std::collections::BTreeSet<(&str, &str)> =
        CASES.iter().flat_map(|case| case.entries).map(|entry| (entry.code, entry.system)).collect();
    let system_of =
        |name: &str| [system::SNOMED, system::READ2, system::CTV3].into_iter().find(|known| *known == name);
    (361_000_000..)
        .zip(entries)
        .filter_map(|(id, (text, system))| {
            Some(Code {
                id,
                system: system_of(system)?,
                text: text.to_owned(),
                term: "Consent or dissent".to_owned(),
                kind: kind::CONSENT,
                measure: None,
            })
        })
        .collect()
}

/// Local ids are text: most have 19 digits and differ only in the last ones, which a floating-point number would lose.
fn local_id(position: u32) -> String {
    match position % 10 {
        9 => format!("{}", 1_000_000 + u64::from(position)),
        _ => format!("{}", 4_611_686_018_427_000_000_u64 + u64::from(position) * 3),
    }
}

/// The medicine of a person's prescription.
fn medicine_of(place: u64, slot: u8) -> usize {
    // The minimum of two draws: some medicines are much commoner than others.
    let random = mix(place, 0xd0 + u64::from(slot));
    let (one, two) = (random % 900, (random >> 32) % 900);
    one.min(two) as usize
}

/// Writes a time of day behind a day. The last minute of the day comes often: windows end there.
fn time<'t>(buffer: &'t mut [u8; 19], day: &str, random: u32, between: u8) -> &'t str {
    let second = if random.is_multiple_of(64) { 86_399 } else { 28_800 + random % 36_000 };
    let two = |number: u32| [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
    buffer[..10].copy_from_slice(&day.as_bytes()[..10]);
    buffer[10] = between;
    buffer[11..13].copy_from_slice(&two(second / 3_600));
    buffer[13] = b':';
    buffer[14..16].copy_from_slice(&two(second / 60 % 60));
    buffer[16] = b':';
    buffer[17..19].copy_from_slice(&two(second % 60));
    ascii(buffer)
}

/// Digits and punctuation as text.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
