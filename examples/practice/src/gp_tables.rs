//! The tables of a practice, in the shapes of an English GP supplier's extract, and how their rows are written.

use rusqlite::{Connection, Statement, params};

use crate::codes::{Code, Medicine};
use crate::error::PracticeError;

/// The tables. A mirror of a supplier's extract has no keys but the patient's and the code's. Columns that an extraction
/// reads come first in their row: SQLite decodes a row from its beginning.
pub const TABLES: &str = "
CREATE TABLE Admin_Organisation (
    OdsCode TEXT NOT NULL, OrganisationName TEXT NOT NULL, Street TEXT, Postcode TEXT, Telephone TEXT);
CREATE TABLE Admin_UserInRole (
    UserId INTEGER NOT NULL, Title TEXT, GivenName TEXT, Surname TEXT, JobCategory TEXT);
CREATE TABLE Admin_Patient (
    PatientId TEXT PRIMARY KEY, NhsNumber TEXT, DateOfBirth TEXT NOT NULL, DateOfDeath TEXT, Sex TEXT NOT NULL,
    Postcode TEXT, LsoaCode TEXT, EthnicCategory TEXT, RegistrationDate TEXT, DeductionDate TEXT,
    PatientKind TEXT NOT NULL, IsSensitive TEXT NOT NULL, IsDeleted INTEGER NOT NULL,
    Title TEXT, GivenName TEXT, Surname TEXT, HouseAndStreet TEXT, Town TEXT, HomePhone TEXT, EmailAddress TEXT,
    UsualGpUserId INTEGER, AdminNote TEXT);
CREATE TABLE Coding_ClinicalCode (
    CodeId INTEGER PRIMARY KEY, CodeSystem TEXT NOT NULL, Code TEXT NOT NULL, Term TEXT, EntryKind TEXT);
CREATE TABLE Coding_DrugCode (
    CodeSystem TEXT NOT NULL, Code TEXT NOT NULL, Term TEXT);
CREATE TABLE CareRecord_Consultation (
    ConsultationId INTEGER NOT NULL, PatientId TEXT NOT NULL, EnteredDate TEXT NOT NULL, UserId INTEGER,
    PlaceOfContact TEXT, IsDeleted INTEGER NOT NULL);
CREATE TABLE CareRecord_Observation (
    PatientId TEXT NOT NULL, EnteredDate TEXT NOT NULL, EffectiveDate TEXT, CodeSystem TEXT NOT NULL,
    Code TEXT NOT NULL, NumericValue REAL, NumericUnit TEXT, EntryKind TEXT NOT NULL, IsDeleted INTEGER NOT NULL,
    IsConfidential INTEGER NOT NULL, CodeId INTEGER NOT NULL, ObservationId INTEGER NOT NULL, ConsultationId INTEGER,
    UserId INTEGER, ValueText TEXT, AssociatedText TEXT);
CREATE TABLE Prescribing_DrugRecord (
    DrugRecordId INTEGER NOT NULL, PatientId TEXT NOT NULL, CodeSystem TEXT NOT NULL, Code TEXT NOT NULL,
    EnteredDate TEXT NOT NULL, PrescriptionType TEXT, Dosage TEXT, IsActive INTEGER, IsDeleted INTEGER NOT NULL);
CREATE TABLE Prescribing_IssueRecord (
    PatientId TEXT NOT NULL, EnteredDate TEXT NOT NULL, EffectiveDate TEXT, CodeSystem TEXT NOT NULL,
    Code TEXT NOT NULL, Quantity REAL, CourseDurationInDays INTEGER, IsDeleted INTEGER NOT NULL,
    IsConfidential INTEGER NOT NULL, IssueRecordId INTEGER NOT NULL, DrugRecordId INTEGER, UserId INTEGER,
    QuantityUnit TEXT, Dosage TEXT);
";

/// The indexes that a real system has: entries by day, entries by code.
pub const INDEXES: &str = "
CREATE INDEX CareRecord_Observation_EnteredDate ON CareRecord_Observation (EnteredDate);
CREATE INDEX CareRecord_Observation_CodeId ON CareRecord_Observation (CodeId);
CREATE INDEX Prescribing_IssueRecord_EnteredDate ON Prescribing_IssueRecord (EnteredDate);
";

/// A row of `Admin_Patient`.
#[derive(Debug)]
pub struct PatientRow<'a> {
    /// Local id.
    pub id: &'a str,
    /// As it stands in the record, valid or not.
    pub nhs_number: Option<&'a str>,
    /// `DD/MM/YYYY`, as all dates of this table.
    pub born: &'a str,
    /// Empty for the living.
    pub died: &'a str,
    /// `F`, `M`, `I` or `U`.
    pub sex: &'a str,
    /// Postcode.
    pub postcode: &'a str,
    /// Statistical area.
    pub lsoa: &'a str,
    /// Ethnic category.
    pub ethnicity: &'a str,
    /// Registered on.
    pub registered: &'a str,
    /// Left on: a date, empty, the supplier's text for no date, or NULL.
    pub deducted: Option<&'a str>,
    /// `regular`, `temporary`, `test` or `dummy`.
    pub kind: &'a str,
    /// Whether the whole record is restricted.
    pub sensitive: bool,
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
    /// Usual GP.
    pub gp: i64,
    /// Free text.
    pub note: &'a str,
}

/// A row of `CareRecord_Observation`.
#[derive(Debug)]
pub struct ObservationRow<'a> {
    /// Local patient id.
    pub patient: &'a str,
    /// Day or time of entry, ISO.
    pub entered: &'a str,
    /// When it holds: ISO, partial, empty, or the supplier's text for no date.
    pub effective: &'a str,
    /// The supplier's name of the code system.
    pub system: &'a str,
    /// The code as it stands in the record.
    pub code: &'a str,
    /// Value.
    pub value: Option<f64>,
    /// UCUM.
    pub unit: Option<&'a str>,
    /// The supplier's name of the kind of entry.
    pub kind: &'a str,
    /// Deleted rows stay.
    pub deleted: bool,
    /// Confidential rows are not for others.
    pub confidential: bool,
    /// Of the code table.
    pub code_id: i64,
    /// The consultation, and who typed it.
    pub consultation: Option<i64>,
    /// Who typed it.
    pub user: i64,
    /// A value that is not a number.
    pub value_text: Option<&'a str>,
    /// Free text.
    pub note: Option<&'a str>,
}

/// A row of `Prescribing_IssueRecord`.
#[derive(Debug)]
pub struct IssueRow<'a> {
    /// Local patient id.
    pub patient: &'a str,
    /// Time of entry, ISO.
    pub entered: &'a str,
    /// Day of issue, ISO.
    pub effective: &'a str,
    /// The supplier's name of the code system.
    pub system: &'a str,
    /// The medicine.
    pub code: &'a str,
    /// How many.
    pub quantity: Option<f64>,
    /// For how long.
    pub days: Option<i64>,
    /// Deleted rows stay.
    pub deleted: bool,
    /// Confidential rows are not for others.
    pub confidential: bool,
    /// The prescription that this is an issue of.
    pub drug_record: i64,
    /// Who signed it.
    pub user: i64,
    /// `tablet`, `ml` and so on.
    pub quantity_unit: &'a str,
    /// Free text.
    pub dosage: &'a str,
}

/// Writes rows into the tables.
#[derive(Debug)]
pub struct GpWriter<'c> {
    connection: &'c Connection,
    observation: Statement<'c>,
    issue: Statement<'c>,
    patient: Statement<'c>,
    consultation: Statement<'c>,
    drug_record: Statement<'c>,
    code: Statement<'c>,
    observations: i64,
    issues: i64,
    consultations: i64,
    drug_records: i64,
}

impl<'c> GpWriter<'c> {
    /// A writer into tables that exist.
    pub fn new(connection: &'c Connection) -> Result<Self, PracticeError> {
        let insert = |table: &str, columns: usize| {
            let marks = vec!["?"; columns].join(", ");
            connection.prepare(&format!("INSERT INTO {table} VALUES ({marks})"))
        };
        Ok(Self {
            connection,
            observation: insert("CareRecord_Observation", 16)?,
            issue: insert("Prescribing_IssueRecord", 14)?,
            patient: insert("Admin_Patient", 22)?,
            consultation: insert("CareRecord_Consultation", 6)?,
            drug_record: insert("Prescribing_DrugRecord", 9)?,
            code: insert("Coding_ClinicalCode", 5)?,
            observations: 0,
            issues: 0,
            consultations: 0,
            drug_records: 0,
        })
    }

    /// The practice itself.
    pub fn organisation(&self, ods: &str, name: &str) -> Result<(), PracticeError> {
        self.connection.execute(
            "INSERT INTO Admin_Organisation VALUES (?1, ?2, '1 Surgery Lane', 'EM1 1AA', '01632 960000')",
            params![ods, name],
        )?;
        Ok(())
    }

    /// Somebody who works there.
    pub fn user(&self, id: i64, forename: &str, surname: &str, job: &str) -> Result<(), PracticeError> {
        self.connection.execute(
            "INSERT INTO Admin_UserInRole VALUES (?1, 'Dr', ?2, ?3, ?4)",
            params![id, forename, surname, job],
        )?;
        Ok(())
    }

    /// A code of the code table.
    pub fn code(&mut self, code: &Code) -> Result<(), PracticeError> {
        self.code.execute(params![code.id, code.system, code.text, code.term, code.kind])?;
        Ok(())
    }

    /// A medicine of the drug table.
    pub fn medicine(&self, system: &str, medicine: &Medicine) -> Result<(), PracticeError> {
        self.connection
            .prepare_cached("INSERT INTO Coding_DrugCode VALUES (?1, ?2, ?3)")?
            .execute(params![system, medicine.code, medicine.term])?;
        Ok(())
    }

    /// A patient.
    pub fn patient(&mut self, row: &PatientRow<'_>) -> Result<(), PracticeError> {
        let email = format!("{}@example.org", row.surname.to_lowercase());
        let title = if row.sex == "M" { "Mr" } else { "Ms" };
        self.patient.execute(params![
            row.id,
            row.nhs_number,
            row.born,
            row.died,
            row.sex,
            row.postcode,
            row.lsoa,
            row.ethnicity,
            row.registered,
            row.deducted,
            row.kind,
            if row.sensitive { "true" } else { "false" },
            row.deleted,
            title,
            row.forename,
            row.surname,
            row.street,
            row.town,
            row.phone,
            email,
            row.gp,
            row.note,
        ])?;
        Ok(())
    }

    /// A consultation; its number is for the rows of it.
    pub fn consultation(
        &mut self,
        patient: &str,
        entered: &str,
        user: i64,
        place: &str,
    ) -> Result<i64, PracticeError> {
        self.consultations += 1;
        self.consultation.execute(params![self.consultations, patient, entered, user, place, false])?;
        Ok(self.consultations)
    }

    /// A coded entry.
    pub fn observation(&mut self, row: &ObservationRow<'_>) -> Result<(), PracticeError> {
        self.observations += 1;
        self.observation.execute(params![
            row.patient,
            row.entered,
            row.effective,
            row.system,
            row.code,
            row.value,
            row.unit,
            row.kind,
            row.deleted,
            row.confidential,
            row.code_id,
            self.observations,
            row.consultation,
            row.user,
            row.value_text,
            row.note,
        ])?;
        Ok(())
    }

    /// A prescription; its number is for the issues of it.
    pub fn drug_record(
        &mut self,
        patient: &str,
        system: &str,
        code: &str,
        entered: &str,
        dosage: &str,
    ) -> Result<i64, PracticeError> {
        self.drug_records += 1;
        self.drug_record.execute(params![
            self.drug_records,
            patient,
            system,
            code,
            entered,
            "Repeat",
            dosage,
            true,
            false,
        ])?;
        Ok(self.drug_records)
    }

    /// An issue of a prescription.
    pub fn issue(&mut self, row: &IssueRow<'_>) -> Result<(), PracticeError> {
        self.issues += 1;
        self.issue.execute(params![
            row.patient,
            row.entered,
            row.effective,
            row.system,
            row.code,
            row.quantity,
            row.days,
            row.deleted,
            row.confidential,
            self.issues,
            row.drug_record,
            row.user,
            row.quantity_unit,
            row.dosage,
        ])?;
        Ok(())
    }
}
