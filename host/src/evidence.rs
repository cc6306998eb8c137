//! Reads the objection evidence of a snapshot, in two steps: first the codes alone, then the whole rows of those codes that
//! the policy knows.
//!
//! Which codes those are is decided here and not in SQL, because one code can be written in several ways; the second statement
//! asks for exactly the ways that the first one found. Few entries are about consent, so what is asked for is a thousandth of
//! what an index by code leads to: 283,127 entries of a practice took 1.1 s as whole rows, their codes alone take 0.05 s.

use std::sync::Arc;

use jiff::civil::Date;
use lockgate_signing::canonical;
use lockgate_signing::mapping::{ColumnMapping, Mapping};
use lockgate_signing::policy::ObjectionPolicy;
use rusqlite::types::{Value, ValueRef};

use crate::dictionary::{CodeBook, Dictionary, MALFORMED};
use crate::objections::{EntryDate, EvidenceBook, ObjectionRegister};
use crate::run::RunError;
use crate::source::{
    CellError, CodeReader, DateReader, FlagReader, Place, Select, Snapshot, SourceError, text,
};

const COLUMNS: [&str; 4] = ["patient", "code", "effective", "deleted"];

/// Decides who objects, as of a day.
pub(crate) fn read(
    snapshot: &Snapshot,
    mapping: &Mapping,
    policy: &ObjectionPolicy,
    today: Date,
) -> Result<ObjectionRegister, RunError> {
    let absent = |column: &str| SourceError::AbsentColumn {
        mapping: mapping.id.to_string(),
        table: "objection-evidence",
        column: column.to_owned(),
    };
    let table = canonical::table("objection-evidence").ok_or_else(|| absent("patient"))?;
    let place = |row| Place { mapping, table: table.name, row };
    let mut book = EvidenceBook::new(policy, today);

    // 1. The codes: how those that the policy knows are written, and how many rows have them.
    let select = Select::of(mapping, table, &["code"], None)?;
    let (code_column, code_at) = select.columns[0].ok_or_else(|| absent("code"))?;
    let mut codes = Codes::of(code_column, mapping);
    let mut written = Written::default();
    snapshot.read(&select, |number, row| {
        match codes.known(row, code_at, &book).map_err(place(number).column("code"))? {
            // A row without a code, or with a local one, is evidence of nothing.
            None => book.add_other(),
            Some((_, value)) => written.add(value),
        }
        Ok(())
    })?;

    // 2. Their rows.
    let mut select = Select::of(mapping, table, &COLUMNS, None)?;
    let [patient, code, date, deleted] = [0, 1, 2, 3].map(|at| select.columns[at]);
    let patient_at = patient.ok_or_else(|| absent("patient"))?.1;
    let (_, code_at) = code.ok_or_else(|| absent("code"))?;
    let (deleted_column, deleted_at) = deleted.ok_or_else(|| absent("deleted"))?;
    let deleted_flag = FlagReader::of(deleted_column);
    let dates = date.map(|(column, at)| (DateReader::of(column), at));
    if let Some(values) = written.values {
        select = select.only(1, values);
    }
    let mut found = 0;
    snapshot.read(&select, |number, row| {
        let at = |column| place(number).column(column);
        let get = |place: usize| row.get_ref(place).map_err(|_| CellError::Missing);
        // The same text may be a code of another system.
        let Some((code, _)) = codes.known(row, code_at, &book).map_err(at("code"))? else { return Ok(()) };
        let mut buffer = itoa::Buffer::new();
        let local_id = get(patient_at)
            .and_then(|value| text(value, &mut buffer, "a local id"))
            .and_then(|text| text.ok_or(CellError::Missing))
            .map_err(at("patient"))?;
        let deleted = get(deleted_at).and_then(|value| deleted_flag.flag(value)).map_err(at("deleted"))?;
        let date = match &dates {
            None => EntryDate::None,
            // A date that cannot be read counts against disclosure; another type is a wrong mapping.
            Some((reader, place)) => match get(*place).and_then(|value| reader.interval(value)) {
                Ok(None) => EntryDate::None,
                Ok(Some(date)) => EntryDate::Within(date),
                Err(CellError::Date) => EntryDate::Unreadable,
                Err(error) => return Err(at("effective")(error)),
            },
        };
        let (system, normal) = codes.name(code);
        book.add(local_id, system, &normal, date, deleted);
        found += 1;
        Ok(())
    })?;
    // An objection that the first statement saw and the second did not must not be lost.
    if found != written.rows {
        return Err(SourceError::Inconstant { mapping: mapping.id.to_string(), table: table.name }.into());
    }
    Ok(book.close()?)
}

/// The codes of the evidence.
struct Codes<'a> {
    reader: CodeReader<'a>,
    dictionary: Dictionary,
    /// Whether the policy knows a code, by its number: asked once for each distinct code.
    known: Vec<Option<bool>>,
}

impl<'a> Codes<'a> {
    fn of(column: &'a ColumnMapping, mapping: &Mapping) -> Self {
        let book = CodeBook::bare(mapping);
        let reader = CodeReader::of(column, |system| book.system(system));
        Self { reader, dictionary: Dictionary::new(Arc::new(book)), known: Vec::new() }
    }

    /// The code of a row, by number and as it is written; `None`: the policy does not know it.
    fn known<'r>(
        &mut self,
        row: &'r rusqlite::Row<'_>,
        at: usize,
        book: &EvidenceBook<'_>,
    ) -> Result<Option<(u32, ValueRef<'r>)>, CellError> {
        let get = |place: usize| row.get_ref(place).map_err(|_| CellError::Missing);
        let mut buffer = itoa::Buffer::new();
        let value = get(at)?;
        let raw = text(value, &mut buffer, "a code")?.filter(|raw| !self.reader.is_missing(raw));
        let Some(raw) = raw else { return Ok(None) };
        let system = self.reader.system(|| row.get_ref(at + 1))?;
        let code = self.dictionary.number(system, raw)?;
        if code as usize >= self.known.len() {
            self.known.resize(code as usize + 1, None);
        }
        let is_known = self.known[code as usize].unwrap_or_else(|| {
            let (system, normal) = self.name(code);
            code != MALFORMED && book.knows(system, &normal)
        });
        self.known[code as usize] = Some(is_known);
        Ok(is_known.then_some((code, value)))
    }

    /// System and normalised text of a code.
    fn name(&self, code: u32) -> (&str, Arc<str>) {
        self.dictionary.book().name(code)
    }
}

/// How the codes that the policy knows are written in the database.
struct Written {
    /// `None`: in so many ways that it is better to read every row.
    values: Option<Vec<Value>>,
    rows: u64,
}

/// Far more ways than a policy has codes; SQLite takes 32,766 parameters.
const WAYS_MAX: usize = 256;

impl Default for Written {
    fn default() -> Self {
        Self { values: Some(Vec::new()), rows: 0 }
    }
}

impl Written {
    fn add(&mut self, value: ValueRef<'_>) {
        self.rows += 1;
        let Some(values) = &mut self.values else { return };
        if values.iter().any(|known| ValueRef::from(known) == value) {
            return;
        }
        // With its type, because a comparison in SQL tells 1 from '1'. A code that the policy knows is UTF-8.
        match Value::try_from(value) {
            Ok(value) if values.len() < WAYS_MAX => values.push(value),
            _ => self.values = None,
        }
    }
}
