//! Imports CSV of Synthea, one person's life a row after another, into two practices and a hospital.
//!
//! Ambulatory and home encounters are a practice's, emergency and inpatient ones the hospital's. What Synthea lacks is
//! derived from the patient's id: NHS number, postcode, telephone; objections from the seed. Codes, dates, values and
//! units stay as they are, the strange ones included. Nothing in it has a date of recording other than its date, which
//! therefore serves as both.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use indicatif::ProgressBar;
use jiff::civil::Date;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::calendar::day_month_year;
use crate::codes::{Code, Medicine, kind, system};
use crate::draft::{Draft, Finish};
use crate::error::PracticeError;
use crate::gp::consent_codes;
use crate::gp_tables::{self, GpWriter, IssueRow, ObservationRow, PatientRow};
use crate::hospital::SITE_CODE;
use crate::hospital_tables::{self, HospitalPatientRow, HospitalWriter, SpellRow};
use crate::nhs_number::NhsNumbers;
use crate::objections::{self, CASES, Case};
use crate::people::mix;
use crate::words;

/// How to import.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// Decides who objects, and how.
    pub seed: u64,
    /// The day of the run.
    pub as_of: Date,
    /// Patients in 1,000 with some kind of objection in their record.
    pub objections_per_mille: u32,
    /// Replaces files that are there.
    pub replace: bool,
    /// How to finish each database.
    pub finish: Finish,
}

/// What became of the CSV.
#[derive(Debug, Default, Serialize)]
pub struct Imported {
    /// Patients; each is registered with one practice.
    pub patients: u64,
    /// Those that the hospital knows, too.
    pub patients_shared: u64,
    /// Coded entries of each practice, objections included.
    pub observations: [u64; 2],
    /// Issues of each practice.
    pub issues: [u64; 2],
    /// Spells in the hospital.
    pub spells: u64,
    /// Diagnoses and procedures of the spells.
    pub codes: u64,
    /// Observations and medicines of hospital encounters: the hospital has no such tables.
    pub left_out: u64,
}

/// Imports a folder of CSV into `practice-1.sqlite`, `practice-2.sqlite` and `hospital.sqlite`. The bar counts rows.
pub fn import(
    request: &ImportRequest,
    csv: &Path,
    out: &Path,
    bar: &ProgressBar,
) -> Result<Imported, PracticeError> {
    let patients = patients(request, csv)?;
    fs::create_dir_all(out).map_err(PracticeError::file(out))?;
    let create = |name: &str, tables: &str| Draft::create(&out.join(name), request.replace, tables);
    let practices =
        [create("practice-1.sqlite", gp_tables::TABLES)?, create("practice-2.sqlite", gp_tables::TABLES)?];
    let hospital = create("hospital.sqlite", hospital_tables::TABLES)?;
    let mut import = Import {
        request,
        csv,
        bar,
        patients,
        places: HashMap::new(),
        encounters: HashMap::new(),
        practices: [
            PracticeSide::new(GpWriter::new(practices[0].connection())?),
            PracticeSide::new(GpWriter::new(practices[1].connection())?),
        ],
        hospital: HospitalWriter::new(hospital.connection())?,
        imported: Imported::default(),
    };
    import.houses()?;
    import.registrations()?;
    import.encounters()?;
    import.conditions()?;
    import.procedures()?;
    import.observations()?;
    import.medications()?;
    import.immunisations()?;
    import.objections()?;
    let imported = std::mem::take(&mut import.imported);
    drop(import);
    bar.set_message("indexes");
    for practice in practices {
        practice.finish(gp_tables::INDEXES, request.finish)?;
    }
    hospital.finish(hospital_tables::INDEXES, request.finish)?;
    Ok(imported)
}

#[derive(Debug, Deserialize)]
struct PatientCsv {
    id: String,
    birthdate: String,
    deathdate: String,
    first: String,
    last: String,
    gender: String,
    address: String,
}

#[derive(Debug, Deserialize)]
struct EncounterCsv {
    id: String,
    patient: String,
    start: String,
    stop: String,
    class: String,
    display: String,
}

/// A condition or a procedure.
#[derive(Debug, Deserialize)]
struct EventCsv {
    patient: String,
    encounter: String,
    start: String,
    code: String,
    display: String,
}

#[derive(Debug, Deserialize)]
struct ObservationCsv {
    patient: String,
    encounter: String,
    date: String,
    category: String,
    system: String,
    code: String,
    display: String,
    value: String,
    units: String,
}

#[derive(Debug, Deserialize)]
struct ImmunisationCsv {
    patient: String,
    encounter: String,
    date: String,
    code: String,
    display: String,
}

/// A patient with what was derived.
#[derive(Debug)]
struct Patient {
    csv: PatientCsv,
    born: Date,
    nhs_number: String,
    postcode: String,
    town: &'static str,
    phone: String,
    lsoa: String,
    practice: usize,
    /// Local ids, at the practice and at the hospital.
    id: String,
    hospital_id: String,
    in_hospital: bool,
    objection: Option<&'static Case>,
}

/// Where an encounter took place.
#[derive(Debug)]
enum Encounter {
    Practice,
    /// With the number of its diagnoses and procedures so far.
    Hospital([i64; 2]),
}

struct PracticeSide<'c> {
    write: GpWriter<'c>,
    /// Numbers in the code table, by system and code.
    codes: HashMap<(&'static str, String), i64>,
    medicines: HashMap<String, ()>,
}

impl<'c> PracticeSide<'c> {
    fn new(write: GpWriter<'c>) -> Self {
        Self { write, codes: HashMap::new(), medicines: HashMap::new() }
    }

    /// The number of a code in the code table, where it is put when it is first seen.
    fn code(
        &mut self,
        system: &'static str,
        text: &str,
        term: &str,
        kind: &'static str,
    ) -> Result<i64, PracticeError> {
        let next = 348_000_000 + self.codes.len() as i64;
        let id = *self.codes.entry((system, text.to_owned())).or_insert(next);
        if id == next {
            let (text, term) = (text.to_owned(), term.to_owned());
            self.write.code(&Code { id, system, text, term, kind, measure: None })?;
        }
        Ok(id)
    }
}

struct Import<'c> {
    request: &'c ImportRequest,
    csv: &'c Path,
    bar: &'c ProgressBar,
    patients: Vec<Patient>,
    /// Index of each patient id.
    places: HashMap<String, usize>,
    encounters: HashMap<String, Encounter>,
    practices: [PracticeSide<'c>; 2],
    hospital: HospitalWriter<'c>,
    imported: Imported,
}

/// One entry on its way to a practice.
struct Entry<'a> {
    patient: &'a str,
    date: &'a str,
    system: &'static str,
    code: &'a str,
    term: &'a str,
    kind: &'static str,
    value: &'a str,
    unit: &'a str,
}

impl Import<'_> {
    fn houses(&mut self) -> Result<(), PracticeError> {
        for (number, practice) in (1..).zip(&mut self.practices) {
            practice.write.organisation(&format!("A82{number:03}"), &format!("Synthea Surgery {number}"))?;
            practice.write.user(1, "Amelia", "Featherstonehaugh", "General practitioner")?;
            for code in consent_codes() {
                practice.write.code(&code)?;
            }
        }
        self.hospital.provider(SITE_CODE, "Synthea General Hospital")?;
        self.hospital.staff(1, "Arthur Llewellyn", "Consultant")
    }

    fn registrations(&mut self) -> Result<(), PracticeError> {
        let path = self.csv.join("patients.csv");
        for (place, patient) in self.patients.iter().enumerate() {
            let died = match patient.csv.deathdate.as_str() {
                "" => String::new(),
                text => day_month_year(day(&path, text)?),
            };
            let born = day_month_year(patient.born);
            self.practices[patient.practice].write.patient(&PatientRow {
                id: &patient.id,
                nhs_number: Some(&patient.nhs_number),
                born: &born,
                died: &died,
                sex: sex(&path, &patient.csv.gender)?,
                postcode: &patient.postcode,
                lsoa: &patient.lsoa,
                ethnicity: "",
                registered: &born,
                deducted: None,
                kind: "regular",
                sensitive: false,
                deleted: false,
                forename: &patient.csv.first,
                surname: &patient.csv.last,
                street: &patient.csv.address,
                town: patient.town,
                phone: &patient.phone,
                gp: 1,
                note: "",
            })?;
            self.places.insert(patient.csv.id.clone(), place);
        }
        self.imported.patients = self.patients.len() as u64;
        Ok(())
    }

    fn encounters(&mut self) -> Result<(), PracticeError> {
        let path = self.csv.join("encounters.csv");
        for row in rows::<EncounterCsv>(&path)? {
            let row = row?;
            self.bar.inc(1);
            let place = self.place(&path, &row.patient)?;
            let encounter = match row.class.as_str() {
                "AMB" | "HH" => Encounter::Practice,
                "EMER" | "IMP" => {
                    self.spell(&path, place, &row)?;
                    Encounter::Hospital([0, 0])
                }
                class => return Err(PracticeError::csv(&path, format!("class `{class}` is not known"))),
            };
            self.encounters.insert(row.id, encounter);
        }
        Ok(())
    }

    fn spell(&mut self, path: &Path, place: usize, row: &EncounterCsv) -> Result<(), PracticeError> {
        let patient = &mut self.patients[place];
        if !patient.in_hospital {
            patient.in_hospital = true;
            self.imported.patients_shared += 1;
            let died = patient.csv.deathdate.get(..10).unwrap_or_default();
            self.hospital.patient(&HospitalPatientRow {
                id: &patient.hospital_id,
                nhs_number: Some(&patient.nhs_number),
                born: &patient.csv.birthdate,
                died,
                sex: sex(path, &patient.csv.gender)?,
                postcode: &patient.postcode,
                lsoa: &patient.lsoa,
                ethnicity: "",
                test: false,
                restricted: false,
                deleted: false,
                forename: &patient.csv.first,
                surname: &patient.csv.last,
                street: &patient.csv.address,
                town: patient.town,
                phone: &patient.phone,
                practice: &format!("A82{:03}", patient.practice + 1),
            })?;
        }
        // NHS Data Dictionary, ADMISSION METHOD CODE.
        let display = row.display.to_lowercase();
        let method = match row.class.as_str() {
            _ if display.contains("obstetric") => "31",
            _ if display.contains("transfer") => "81",
            "EMER" => "21",
            _ if display.contains("emergency") => "21",
            _ => "11",
        };
        self.imported.spells += 1;
        self.hospital.spell(&SpellRow {
            id: &row.id,
            patient: &patient.hospital_id,
            admitted: &row.start,
            discharged: &row.stop,
            method,
            specialty: "",
            site: SITE_CODE,
            deleted: false,
            ward: "Ward 7",
            consultant: 1,
            summary: &format!("{} {}: {}", patient.csv.first, patient.csv.last, row.display),
        })
    }

    fn conditions(&mut self) -> Result<(), PracticeError> {
        let path = self.csv.join("conditions.csv");
        for row in rows::<EventCsv>(&path)? {
            let row = row?;
            let kind = if row.display.ends_with("(disorder)") { kind::DIAGNOSIS } else { kind::FINDING };
            self.event(&path, &row, kind, 0)?;
        }
        Ok(())
    }

    fn procedures(&mut self) -> Result<(), PracticeError> {
        let path = self.csv.join("procedures.csv");
        for row in rows::<EventCsv>(&path)? {
            let row = row?;
            let referral = row.display.to_lowercase().contains("referral");
            self.event(&path, &row, if referral { kind::REFERRAL } else { kind::PROCEDURE }, 1)?;
        }
        Ok(())
    }

    /// A condition (role 0) or a procedure (role 1), at the hospital or at the practice.
    fn event(
        &mut self,
        path: &Path,
        row: &EventCsv,
        kind: &'static str,
        role: usize,
    ) -> Result<(), PracticeError> {
        if let Some(Encounter::Hospital(positions)) = self.encounters.get_mut(&row.encounter) {
            self.bar.inc(1);
            positions[role] += 1;
            self.imported.codes += 1;
            let name = ["D", "P"][role];
            return self.hospital.coding(
                &row.encounter,
                positions[role],
                name,
                system::SNOMED,
                &row.code,
                false,
            );
        }
        self.entry(
            path,
            &Entry {
                patient: &row.patient,
                date: &row.start,
                system: system::SNOMED,
                code: &row.code,
                term: &row.display,
                kind,
                value: "",
                unit: "",
            },
        )
    }

    fn observations(&mut self) -> Result<(), PracticeError> {
        let path = self.csv.join("observations.csv");
        for row in rows::<ObservationCsv>(&path)? {
            let row = row?;
            if self.is_in_hospital(&row.encounter) {
                continue;
            }
            let system = match row.system.as_str() {
                "http://loinc.org" => system::LOINC,
                "http://snomed.info/sct" => system::SNOMED,
                other => {
                    return Err(PracticeError::csv(&path, format!("code system `{other}` is not known")));
                }
            };
            let kind = match row.category.as_str() {
                "vital-signs" => kind::MEASUREMENT,
                "laboratory" | "imaging" | "therapy" => kind::RESULT,
                "social-history" | "survey" | "exam" => kind::FINDING,
                "procedure" => kind::PROCEDURE,
                other => return Err(PracticeError::csv(&path, format!("category `{other}` is not known"))),
            };
            let ObservationCsv { patient, date, code, display, value, units, .. } = &row;
            self.entry(
                &path,
                &Entry { patient, date, system, code, term: display, kind, value, unit: units },
            )?;
        }
        Ok(())
    }

    fn immunisations(&mut self) -> Result<(), PracticeError> {
        let path = self.csv.join("immunizations.csv");
        for row in rows::<ImmunisationCsv>(&path)? {
            let row = row?;
            if self.is_in_hospital(&row.encounter) {
                continue;
            }
            let (system, kind) = (system::CVX, kind::IMMUNISATION);
            let ImmunisationCsv { patient, date, code, display, .. } = &row;
            self.entry(
                &path,
                &Entry { patient, date, system, code, term: display, kind, value: "", unit: "" },
            )?;
        }
        Ok(())
    }

    fn medications(&mut self) -> Result<(), PracticeError> {
        let path = self.csv.join("medications.csv");
        for row in rows::<EventCsv>(&path)? {
            let row = row?;
            if self.is_in_hospital(&row.encounter) {
                continue;
            }
            let place = self.place(&path, &row.patient)?;
            self.bar.inc(1);
            let patient = &self.patients[place];
            let side = &mut self.practices[patient.practice];
            if side.medicines.insert(row.code.clone(), ()).is_none() {
                let (code, term) = (row.code.clone(), row.display.clone());
                side.write.medicine(
                    system::RXNORM,
                    &Medicine { code, term, quantity_unit: "", quantity: 0.0, days: 0 },
                )?;
            }
            let dosage = "As Directed";
            let drug_record =
                side.write.drug_record(&patient.id, system::RXNORM, &row.code, &row.start, dosage)?;
            side.write.issue(&IssueRow {
                patient: &patient.id,
                entered: &row.start,
                effective: &row.start,
                system: system::RXNORM,
                code: &row.code,
                quantity: None,
                days: None,
                deleted: false,
                confidential: false,
                drug_record,
                user: 1,
                quantity_unit: "",
                dosage,
            })?;
            self.imported.issues[patient.practice] += 1;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, entry: &Entry<'_>) -> Result<(), PracticeError> {
        self.bar.inc(1);
        let place = self.place(path, entry.patient)?;
        let patient = &self.patients[place];
        let side = &mut self.practices[patient.practice];
        let code_id = side.code(entry.system, entry.code, entry.term, entry.kind)?;
        let value: Option<f64> = entry.value.parse().ok().filter(|value: &f64| value.is_finite());
        self.imported.observations[patient.practice] += 1;
        side.write.observation(&ObservationRow {
            patient: &patient.id,
            entered: entry.date,
            effective: entry.date,
            system: entry.system,
            code: entry.code,
            value,
            unit: Some(entry.unit).filter(|unit| !unit.is_empty()),
            kind: entry.kind,
            deleted: false,
            confidential: false,
            code_id,
            consultation: None,
            user: 1,
            value_text: Some(entry.value).filter(|text| value.is_none() && !text.is_empty()),
            note: None,
        })
    }

    /// Objections, at the practice; the hospital knows of some of them.
    fn objections(&mut self) -> Result<(), PracticeError> {
        let as_of = self.request.as_of;
        let consent = consent_codes();
        let mut hospital_has_evidence = false;
        for (place, patient) in self.patients.iter().enumerate() {
            for entry in patient.objection.iter().flat_map(|case| case.entries) {
                let known = consent
                    .iter()
                    .find(|code| (code.system, code.text.as_str()) == (entry.system, entry.code));
                let (effective, entered) = (entry.effective(as_of), entry.entered(as_of));
                self.practices[patient.practice].write.observation(&ObservationRow {
                    patient: &patient.id,
                    entered: &entered,
                    effective: &effective,
                    system: entry.system,
                    code: entry.code,
                    value: None,
                    unit: None,
                    kind: kind::CONSENT,
                    deleted: entry.deleted,
                    confidential: false,
                    code_id: known.map_or(0, |code| code.id),
                    consultation: None,
                    user: 1,
                    value_text: None,
                    note: Some("Patient rang, does not want data shared"),
                })?;
                self.imported.observations[patient.practice] += 1;
                if patient.in_hospital && place % 2 == 0 {
                    let id = &patient.hospital_id;
                    self.hospital.consent(
                        id,
                        entry.system,
                        entry.code,
                        &effective,
                        &entered,
                        entry.deleted,
                    )?;
                    hospital_has_evidence = true;
                }
            }
        }
        // A hospital without any evidence would be one whose evidence cannot be read: this is no objection, but a row.
        if let Some(patient) =
            self.patients.iter().find(|patient| patient.in_hospital && !hospital_has_evidence)
        {
            let summary_care_record = "777441000000102";
            let id = &patient.hospital_id;
            self.hospital.consent(
                id,
                system::SNOMED,
                summary_care_record,
                "2018-06-01",
                "2018-06-01",
                false,
            )?;
        }
        Ok(())
    }

    fn is_in_hospital(&mut self, encounter: &str) -> bool {
        let there = matches!(self.encounters.get(encounter), Some(Encounter::Hospital(_)));
        self.imported.left_out += u64::from(there);
        there
    }

    fn place(&self, path: &Path, patient: &str) -> Result<usize, PracticeError> {
        let unknown = || PracticeError::csv(path, format!("patient `{patient}` is not in patients.csv"));
        self.places.get(patient).copied().ok_or_else(unknown)
    }
}

/// The patients, in the order of their ids, with what Synthea does not say of them.
fn patients(request: &ImportRequest, csv: &Path) -> Result<Vec<Patient>, PracticeError> {
    let path = csv.join("patients.csv");
    let mut found: Vec<PatientCsv> = rows(&path)?.collect::<Result<_, _>>()?;
    found.sort_by(|one, other| one.id.cmp(&other.id));
    let numbers = NhsNumbers::new(0);
    let mut taken = std::collections::HashSet::new();
    // Each practice has its own part of the cases: together they have twice as many kinds.
    let mut objectors = [0, CASES.len() / 2];
    let mut patients = Vec::with_capacity(found.len());
    for (position, csv) in (0_u64..).zip(found) {
        let hash = hash(&csv.id);
        // Two ids may fall on one number; the second takes the next one that is free.
        let mut place = hash % 900_000;
        while !taken.insert(place) {
            place = (place + 1) % 900_000;
        }
        let (town, area) = words::TOWNS[(hash >> 20) as usize % words::TOWNS.len()];
        let letter = |shift: u32| char::from(b"ABDEFGHJLNPQRSTUWXYZ"[(hash >> shift) as usize % 20]);
        let practice = (hash >> 63) as usize;
        let objects = mix(request.seed ^ 0x5e7, hash) % 1_000 < u64::from(request.objections_per_mille);
        patients.push(Patient {
            born: day(&path, &csv.birthdate)?,
            nhs_number: numbers.at(place)?,
            postcode: format!("{area}{} {}{}{}", hash % 19 + 1, hash % 9 + 1, letter(30), letter(36)),
            town,
            phone: format!("07700 900{:03}", (hash >> 12) % 1_000),
            lsoa: format!("E0199{:04}", (hash >> 40) % 400),
            practice,
            id: format!("{}", 4_611_686_018_427_000_000_u64 + position * 3),
            hospital_id: format!("{}", 7_000_001 + position),
            in_hospital: false,
            objection: objects.then(|| objections::case(objectors[practice], mix(request.seed, hash))),
            csv,
        });
        objectors[practice] += usize::from(objects);
    }
    Ok(patients)
}

fn hash(id: &str) -> u64 {
    Sha256::digest(id.as_bytes()).iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn sex(path: &Path, gender: &str) -> Result<&'static str, PracticeError> {
    match gender {
        "female" => Ok("F"),
        "male" => Ok("M"),
        other => Err(PracticeError::csv(path, format!("gender `{other}` is not known"))),
    }
}

/// The day of an ISO date or date-time.
fn day(path: &Path, text: &str) -> Result<Date, PracticeError> {
    let wrong = || PracticeError::csv(path, format!("`{text}` is not an ISO date"));
    text.get(..10).and_then(|day| day.parse().ok()).ok_or_else(wrong)
}

/// The rows of a CSV file; columns that a row type does not name are passed over.
fn rows<T: DeserializeOwned>(
    path: &Path,
) -> Result<impl Iterator<Item = Result<T, PracticeError>>, PracticeError> {
    let file = fs::File::open(path).map_err(PracticeError::file(path))?;
    let path = path.to_owned();
    let reader = csv::Reader::from_reader(std::io::BufReader::new(file));
    Ok(reader.into_deserialize().map(move |row| row.map_err(|error| PracticeError::csv(&path, error))))
}
