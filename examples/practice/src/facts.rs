//! What is in a database, said by plain SQL: written from the tables alone, without the generator's memory and without
//! the agent's mapping, so that each of the three can be held against the others.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::civil::Date;
use rusqlite::{Connection, OpenFlags, params};
use serde::Serialize;

use crate::calendar::Calendar;
use crate::error::PracticeError;

/// What is in a database.
#[derive(Debug, Serialize)]
pub struct Facts {
    /// `practice` or `hospital`.
    pub kind: &'static str,
    /// Registrations that are not deleted.
    pub patients: i64,
    /// Deleted registrations.
    pub patients_deleted: i64,
    /// Test and dummy patients.
    pub patients_test: i64,
    /// Patients whose whole record is restricted.
    pub patients_sensitive: i64,
    /// Patients without any NHS number.
    pub nhs_numbers_missing: i64,
    /// NHS numbers that more than one registration has.
    pub nhs_numbers_shared: i64,
    /// Patients that a Type 1 objection withholds, on the day of the run.
    pub type_1: i64,
    /// Patients that a Type 2 objection flags, on the day of the run.
    pub type_2: i64,
    /// Rows by table and month (of entry; of discharge in a hospital) that are neither deleted nor confidential.
    pub rows: BTreeMap<&'static str, BTreeMap<String, i64>>,
    /// The same, of patients that a Type 1 objection withholds.
    pub rows_type_1: BTreeMap<&'static str, BTreeMap<String, i64>>,
}

/// Counts what is in a database, for a run on a day over the months before it.
pub fn facts(path: &Path, as_of: Date, months: u32) -> Result<Facts, PracticeError> {
    let calendar = Calendar::before(as_of, months)?;
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // One moment of the database, whoever writes to it.
    database.execute_batch("BEGIN")?;
    let shape = if has_table(&database, "Admin_Patient")? {
        &PRACTICE
    } else if has_table(&database, "Pas_Patient")? {
        &HOSPITAL
    } else {
        return Err(PracticeError::UnknownShape(path.to_owned()));
    };
    let count = |condition: &str| -> Result<i64, PracticeError> {
        let sql = format!("SELECT count(*) FROM {} WHERE {condition}", shape.patient);
        Ok(database.query_row(&sql, [], |row| row.get(0))?)
    };
    let type_1 = objectors(&database, shape, as_of, &TYPE_1)?;
    let type_2 = objectors(&database, shape, as_of, &TYPE_2)?;
    database.execute_batch("CREATE TEMP TABLE withheld (id TEXT PRIMARY KEY)")?;
    for id in &type_1 {
        database.execute("INSERT INTO withheld VALUES (?1)", [id])?;
    }
    let mut rows = BTreeMap::new();
    let mut rows_type_1 = BTreeMap::new();
    for table in shape.tables {
        rows.insert(table.name, by_month(&database, table, &calendar, "")?);
        let of = format!("AND {} IN (SELECT id FROM withheld)", table.patient);
        rows_type_1.insert(table.name, by_month(&database, table, &calendar, &of)?);
    }
    let shared = format!(
        "SELECT count(*) FROM (SELECT 1 FROM {} WHERE IsDeleted = 0 AND NhsNumber <> ''
         GROUP BY replace(NhsNumber, ' ', '') HAVING count(*) > 1)",
        shape.patient
    );
    Ok(Facts {
        kind: shape.kind,
        patients: count("IsDeleted = 0")?,
        patients_deleted: count("IsDeleted <> 0")?,
        patients_test: count(&format!("IsDeleted = 0 AND {}", shape.is_test))?,
        patients_sensitive: count(&format!("IsDeleted = 0 AND {}", shape.is_sensitive))?,
        nhs_numbers_missing: count("IsDeleted = 0 AND coalesce(NhsNumber, '') = ''")?,
        nhs_numbers_shared: database.query_row(&shared, [], |row| row.get(0))?,
        type_1: type_1.len() as i64,
        type_2: type_2.len() as i64,
        rows,
        rows_type_1,
    })
}

struct Shape {
    kind: &'static str,
    patient: &'static str,
    is_test: &'static str,
    is_sensitive: &'static str,
    /// The entries about consent, as patient, system, code, effective, deleted.
    consent: &'static str,
    tables: &'static [Table],
}

struct Table {
    name: &'static str,
    from: &'static str,
    patient: &'static str,
    date: &'static str,
    kept: &'static str,
}

const PRACTICE: Shape = Shape {
    kind: "practice",
    patient: "Admin_Patient",
    is_test: "PatientKind IN ('test', 'dummy')",
    is_sensitive: "IsSensitive = 'true'",
    // Every row with such a code, whatever kind of entry the supplier says it is.
    consent: "SELECT PatientId, CodeSystem, Code, EffectiveDate, IsDeleted FROM CareRecord_Observation",
    tables: &[
        Table {
            name: "observation",
            from: "CareRecord_Observation",
            patient: "PatientId",
            date: "EnteredDate",
            kept: "IsDeleted = 0 AND IsConfidential = 0",
        },
        Table {
            name: "medication",
            from: "Prescribing_IssueRecord",
            patient: "PatientId",
            date: "EnteredDate",
            kept: "IsDeleted = 0 AND IsConfidential = 0",
        },
    ],
};

const HOSPITAL: Shape = Shape {
    kind: "hospital",
    patient: "Pas_Patient",
    is_test: "TestPatient = 'Y'",
    is_sensitive: "Restricted = 'Y'",
    consent: "SELECT HospitalId, CodeSystem, Code, EffectiveDate, IsDeleted FROM Pas_Consent",
    tables: &[
        Table {
            name: "episode",
            from: "Apc_Spell",
            patient: "HospitalId",
            date: "DischargedAt",
            kept: "IsDeleted = 0",
        },
        Table {
            name: "episode-code",
            from: "Apc_Coding AS c JOIN Apc_Spell AS s USING (SpellId)",
            patient: "HospitalId",
            date: "DischargedAt",
            kept: "s.IsDeleted = 0 AND c.IsDeleted = 0",
        },
    ],
};

/// Dissents and withdrawals that count, as `system code`.
struct Objection {
    dissent: &'static str,
    withdrawal: &'static str,
}

const TYPE_1: Objection = Objection {
    dissent: "'SCT 827241000000103', 'RCT2 9Nu0.', 'CTV3 XaZ89'",
    withdrawal: "'SCT 827261000000102', 'RCT2 9Nu1.'",
};

const TYPE_2: Objection = Objection {
    dissent: "'SCT 881561000000100', 'RCT2 9Nu4.', 'CTV3 XaaVL'",
    withdrawal: "'RCT2 9Nu5.', 'CTV3 XaaVM'",
};

fn has_table(database: &Connection, name: &str) -> Result<bool, PracticeError> {
    let found = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    Ok(database.query_row(found, [name], |row| row.get::<_, i64>(0))? > 0)
}

/// Who objects: the last dissent is not before the last withdrawal. A dissent without a date, or with one that has not
/// come yet, is later than everything; such a withdrawal is none. Of a year or a month the day that is worse for
/// disclosure counts: the last for a dissent, the first for a withdrawal.
fn objectors(
    database: &Connection,
    shape: &Shape,
    as_of: Date,
    objection: &Objection,
) -> Result<Vec<String>, PracticeError> {
    let sql = format!(
        "WITH entry (id, system, code, effective, deleted) AS ({consent}),
         named AS (
             SELECT id, CASE effective WHEN '1800-01-01' THEN '' ELSE substr(coalesce(effective, ''), 1, 10) END AS day,
                    system || ' ' || CASE WHEN system IN ('RCT2', 'CTV3') THEN substr(code || '.....', 1, 5) ELSE code END
                        AS name
             FROM entry WHERE deleted = 0),
         dated AS (
             SELECT id, name,
                    CASE WHEN day = '' OR day > ?1 THEN '9999' ELSE day || substr('-12-31', length(day) - 3) END AS worst,
                    CASE WHEN day = '' OR day > ?1 THEN NULL ELSE day || substr('-01-01', length(day) - 3) END AS best
             FROM named WHERE name IN ({dissent}, {withdrawal}))
         SELECT id FROM dated GROUP BY id
         HAVING max(worst) FILTER (WHERE name IN ({dissent}))
             >= coalesce(max(best) FILTER (WHERE name IN ({withdrawal})), '')
         ORDER BY id",
        consent = shape.consent,
        dissent = objection.dissent,
        withdrawal = objection.withdrawal,
    );
    let mut statement = database.prepare(&sql)?;
    let ids = statement.query_map([as_of.to_string()], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

fn by_month(
    database: &Connection,
    table: &Table,
    calendar: &Calendar,
    condition: &str,
) -> Result<BTreeMap<String, i64>, PracticeError> {
    let Table { from, date, kept, .. } = table;
    let sql = format!(
        "SELECT substr({date}, 1, 7), count(*) FROM {from}
         WHERE {date} >= ?1 AND {date} < ?2 AND {kept} {condition} GROUP BY 1"
    );
    let mut statement = database.prepare(&sql)?;
    let months = statement
        .query_map(params![calendar.first.to_string(), calendar.end.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    Ok(months.collect::<Result<_, _>>()?)
}
