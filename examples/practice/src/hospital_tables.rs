//! The tables of a hospital: a patient index, admitted patient care, its coding, and consent.

use rusqlite::{Connection, Statement, params};

use crate::error::PracticeError;

/// The tables. Dates here are ISO, and sex is the code of the NHS Data Dictionary: not as in a practice.
pub const TABLES: &str = "
CREATE TABLE Pas_Provider (SiteCode TEXT NOT NULL, Name TEXT);
CREATE TABLE Pas_Staff (StaffId INTEGER NOT NULL, Name TEXT, Grade TEXT);
CREATE TABLE Pas_Patient (
    HospitalId TEXT PRIMARY KEY, NhsNumber TEXT, NhsNumberStatus TEXT, BirthDate TEXT NOT NULL, DeathDate TEXT,
    SexCode TEXT NOT NULL, Postcode TEXT, LsoaCode TEXT, EthnicCategory TEXT, TestPatient TEXT NOT NULL,
    Restricted TEXT NOT NULL, IsDeleted INTEGER NOT NULL, Forename TEXT, Surname TEXT, AddressLine1 TEXT,
    AddressLine2 TEXT, Telephone TEXT, GpPracticeCode TEXT);
CREATE TABLE Apc_Spell (
    SpellId TEXT PRIMARY KEY, HospitalId TEXT NOT NULL, AdmittedAt TEXT NOT NULL, DischargedAt TEXT,
    MethodCode TEXT NOT NULL, SpecialtyCode TEXT, SiteCode TEXT, IsDeleted INTEGER NOT NULL, Ward TEXT,
    ConsultantId INTEGER, DischargeSummary TEXT);
CREATE TABLE Apc_Coding (
    SpellId TEXT NOT NULL, Position INTEGER NOT NULL, Role TEXT NOT NULL, CodeSystem TEXT NOT NULL,
    Code TEXT NOT NULL, IsDeleted INTEGER NOT NULL);
CREATE TABLE Pas_Consent (
    HospitalId TEXT NOT NULL, CodeSystem TEXT NOT NULL, Code TEXT NOT NULL, EffectiveDate TEXT,
    RecordedDate TEXT, IsDeleted INTEGER NOT NULL, Remark TEXT);
";

/// Spells by discharge and by admission, codes by spell.
pub const INDEXES: &str = "
CREATE INDEX Apc_Spell_DischargedAt ON Apc_Spell (DischargedAt);
CREATE INDEX Apc_Spell_AdmittedAt ON Apc_Spell (AdmittedAt);
CREATE INDEX Apc_Coding_SpellId ON Apc_Coding (SpellId);
";

/// A row of `Pas_Patient`.
#[derive(Debug)]
pub struct HospitalPatientRow<'a> {
    /// Local id.
    pub id: &'a str,
    /// As it stands in the index.
    pub nhs_number: Option<&'a str>,
    /// ISO, as all dates of this hospital.
    pub born: &'a str,
    /// Empty for the living.
    pub died: &'a str,
    /// `F`, `M`, `I` or `U`; written as 2, 1, 9 or X.
    pub sex: &'a str,
    /// Postcode.
    pub postcode: &'a str,
    /// Statistical area.
    pub lsoa: &'a str,
    /// Ethnic category.
    pub ethnicity: &'a str,
    /// Test patients are no people.
    pub test: bool,
    /// Whether the record is restricted.
    pub restricted: bool,
    /// Whether the record is deleted.
    pub deleted: bool,
    /// Forename.
    pub forename: &'a str,
    /// Surname.
    pub surname: &'a str,
    /// House and street.
    pub street: &'a str,
    /// Town.
    pub town: &'a str,
    /// Telephone.
    pub phone: &'a str,
    /// The practice that the patient names.
    pub practice: &'a str,
}

/// A row of `Apc_Spell`.
#[derive(Debug)]
pub struct SpellRow<'a> {
    /// Local id of the spell.
    pub id: &'a str,
    /// Local id of the patient.
    pub patient: &'a str,
    /// ISO, with the time.
    pub admitted: &'a str,
    /// ISO, with the time; empty for a patient who is still there.
    pub discharged: &'a str,
    /// NHS Data Dictionary, ADMISSION METHOD CODE.
    pub method: &'a str,
    /// NHS Data Dictionary, treatment function.
    pub specialty: &'a str,
    /// The site's ODS code.
    pub site: &'a str,
    /// Deleted spells stay.
    pub deleted: bool,
    /// Ward.
    pub ward: &'a str,
    /// Consultant.
    pub consultant: i64,
    /// Free text.
    pub summary: &'a str,
}

/// Writes rows into the tables.
#[derive(Debug)]
pub struct HospitalWriter<'c> {
    connection: &'c Connection,
    patient: Statement<'c>,
    spell: Statement<'c>,
    coding: Statement<'c>,
    consent: Statement<'c>,
}

impl<'c> HospitalWriter<'c> {
    /// A writer into tables that exist.
    pub fn new(connection: &'c Connection) -> Result<Self, PracticeError> {
        let insert = |table: &str, columns: usize| {
            let marks = vec!["?"; columns].join(", ");
            connection.prepare(&format!("INSERT INTO {table} VALUES ({marks})"))
        };
        Ok(Self {
            connection,
            patient: insert("Pas_Patient", 18)?,
            spell: insert("Apc_Spell", 11)?,
            coding: insert("Apc_Coding", 6)?,
            consent: insert("Pas_Consent", 7)?,
        })
    }

    /// The hospital itself.
    pub fn provider(&self, site: &str, name: &str) -> Result<(), PracticeError> {
        self.connection.execute("INSERT INTO Pas_Provider VALUES (?1, ?2)", params![site, name])?;
        Ok(())
    }

    /// Somebody who works there.
    pub fn staff(&self, id: i64, name: &str, grade: &str) -> Result<(), PracticeError> {
        self.connection.execute("INSERT INTO Pas_Staff VALUES (?1, ?2, ?3)", params![id, name, grade])?;
        Ok(())
    }

    /// A patient.
    pub fn patient(&mut self, row: &HospitalPatientRow<'_>) -> Result<(), PracticeError> {
        let sex = match row.sex {
            "F" => "2",
            "M" => "1",
            "I" => "9",
            _ => "X",
        };
        let yes_no = |flag: bool| if flag { "Y" } else { "N" };
        // NHS Data Dictionary, NHS NUMBER STATUS INDICATOR CODE: verified, or not present.
        let status = if row.nhs_number.is_some_and(|number| !number.is_empty()) { "01" } else { "07" };
        self.patient.execute(params![
            row.id,
            row.nhs_number,
            status,
            row.born,
            row.died,
            sex,
            row.postcode,
            row.lsoa,
            row.ethnicity,
            yes_no(row.test),
            yes_no(row.restricted),
            row.deleted,
            row.forename,
            row.surname,
            row.street,
            row.town,
            row.phone,
            row.practice,
        ])?;
        Ok(())
    }

    /// A spell.
    pub fn spell(&mut self, row: &SpellRow<'_>) -> Result<(), PracticeError> {
        self.spell.execute(params![
            row.id,
            row.patient,
            row.admitted,
            row.discharged,
            row.method,
            row.specialty,
            row.site,
            row.deleted,
            row.ward,
            row.consultant,
            row.summary,
        ])?;
        Ok(())
    }

    /// A code of a spell: `D` a diagnosis, `P` a procedure.
    pub fn coding(
        &mut self,
        spell: &str,
        position: i64,
        role: &str,
        system: &str,
        code: &str,
        deleted: bool,
    ) -> Result<(), PracticeError> {
        self.coding.execute(params![spell, position, role, system, code, deleted])?;
        Ok(())
    }

    /// An entry about consent.
    pub fn consent(
        &mut self,
        patient: &str,
        system: &str,
        code: &str,
        effective: &str,
        recorded: &str,
        deleted: bool,
    ) -> Result<(), PracticeError> {
        self.consent.execute(params![
            patient,
            system,
            code,
            effective,
            recorded,
            deleted,
            "Told the ward clerk, see letter",
        ])?;
        Ok(())
    }
}
