//! A small practice, written row by row into the tables that the example mapping reads.

use std::cell::Cell;
use std::path::Path;

use practice::gp_tables::{INDEXES, TABLES};
use practice::nhs_number::NhsNumbers;
use rusqlite::{Connection, params};

/// A practice's database while it is written.
pub(crate) struct Record {
    pub(crate) connection: Connection,
    numbers: NhsNumbers,
    rows: Cell<i64>,
}

/// A coded entry.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) patient: &'a str,
    pub(crate) entered: &'a str,
    /// `None`: NULL.
    pub(crate) effective: Option<&'a str>,
    /// The supplier's name of the system.
    pub(crate) system: &'a str,
    pub(crate) code: &'a str,
    /// The supplier's kind of the entry, and of its code; `None`: the code's is NULL.
    pub(crate) kind: &'a str,
    pub(crate) code_kind: Option<&'a str>,
    pub(crate) value: Option<f64>,
    pub(crate) unit: Option<&'a str>,
    pub(crate) deleted: bool,
    pub(crate) confidential: bool,
}

/// A body mass index of 10 October 2026: an entry that leaves.
pub(crate) const PLAIN: Entry<'static> = Entry {
    patient: "",
    entered: "2026-10-10",
    effective: Some("2026-10-10"),
    system: "SCT",
    code: "60621009",
    kind: "MEAS",
    code_kind: Some("MEAS"),
    value: Some(25.5),
    unit: Some("kg/m2"),
    deleted: false,
    confidential: false,
};

/// A Type 1 objection of 3 February 2019.
pub(crate) const DISSENT: Entry<'static> =
    Entry { entered: "2019-02-03", effective: Some("2019-02-03"), code: "827241000000103", ..CONSENT };

/// A withdrawal of a Type 1 objection, on the day of [`PLAIN`].
pub(crate) const WITHDRAWN: Entry<'static> = Entry { code: "827261000000102", ..CONSENT };

/// What entries about consent have in common.
const CONSENT: Entry<'static> =
    Entry { kind: "CONS", code_kind: Some("CONS"), value: None, unit: None, ..PLAIN };

impl Record {
    /// An empty practice.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
        connection.execute_batch(TABLES)?;
        connection.execute_batch(INDEXES)?;
        Ok(Self { connection, numbers: NhsNumbers::new(1), rows: Cell::new(0) })
    }

    /// A registration of a person, who is a number: two registrations of one person share the NHS number.
    pub(crate) fn patient(&self, id: &str, person: u64, area: &str) -> anyhow::Result<String> {
        let number = self.numbers.at(person)?;
        self.connection.execute(
            "INSERT INTO Admin_Patient (PatientId, NhsNumber, DateOfBirth, Sex, Postcode, LsoaCode, EthnicCategory,
                 RegistrationDate, PatientKind, IsSensitive, IsDeleted, GivenName, Surname)
             VALUES (?1, ?2, '17/05/1970', 'F', 'EM1 2AB', ?3, 'A', '01/02/2003', 'regular', 'false', 0, 'Ann', 'Other')",
            params![id, number, area],
        )?;
        Ok(number)
    }

    /// A registration goes, and leaves its entries behind.
    pub(crate) fn remove(&self, id: &str) -> anyhow::Result<()> {
        self.connection.execute("DELETE FROM Admin_Patient WHERE PatientId = ?1", [id])?;
        Ok(())
    }

    /// A coded entry, with a code of its own in the code table.
    pub(crate) fn entry(&self, entry: &Entry<'_>) -> anyhow::Result<()> {
        let id = self.rows.get() + 1;
        self.rows.set(id);
        self.connection.execute(
            "INSERT INTO Coding_ClinicalCode VALUES (?1, ?2, ?3, 'term', ?4)",
            params![id, entry.system, entry.code, entry.code_kind],
        )?;
        self.connection.execute(
            "INSERT INTO CareRecord_Observation (PatientId, EnteredDate, EffectiveDate, CodeSystem, Code, NumericValue,
                 NumericUnit, EntryKind, IsDeleted, IsConfidential, CodeId, ObservationId)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)",
            params![
                entry.patient,
                entry.entered,
                entry.effective,
                entry.system,
                entry.code,
                entry.value,
                entry.unit,
                entry.kind,
                entry.deleted,
                entry.confidential,
                id,
            ],
        )?;
        Ok(())
    }

    /// An issue of a medicine on 10 October 2026.
    pub(crate) fn issue(&self, patient: &str, code: &str, quantity: f64) -> anyhow::Result<()> {
        self.connection.execute(
            "INSERT INTO Prescribing_IssueRecord (PatientId, EnteredDate, EffectiveDate, CodeSystem, Code, Quantity,
                 CourseDurationInDays, IsDeleted, IsConfidential, IssueRecordId)
             VALUES (?1, '2026-10-10', '2026-10-10', 'DMD', ?2, ?3, 28, 0, 0, 1)",
            params![patient, code, quantity],
        )?;
        Ok(())
    }
}
