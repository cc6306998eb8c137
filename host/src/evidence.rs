//! Reads the objection evidence of a snapshot.

use jiff::civil::Date;
use lockgate_signing::canonical;
use lockgate_signing::mapping::Mapping;
use lockgate_signing::policy::ObjectionPolicy;

use crate::dictionary::{Dictionary, MALFORMED};
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
    let select = Select::of(mapping, table, &COLUMNS, None)?;
    let [patient, code, date, deleted] = [0, 1, 2, 3].map(|at| select.columns[at]);
    let patient_at = patient.ok_or_else(|| absent("patient"))?.1;
    let (code_column, code_at) = code.ok_or_else(|| absent("code"))?;
    let (deleted_column, deleted_at) = deleted.ok_or_else(|| absent("deleted"))?;
    let mut dictionary = Dictionary::bare();
    let codes = CodeReader::of(code_column, |system| dictionary.system(mapping, system));
    let deleted_flag = FlagReader::of(deleted_column);
    let dates = date.map(|(column, at)| (DateReader::of(column), at));

    let mut book = EvidenceBook::new(policy, today);
    // Whether the policy knows a code, by its number: asked once for each distinct code.
    let mut known: Vec<Option<bool>> = Vec::new();
    snapshot.read(&select, |number, row| {
        let place = Place { mapping, table: table.name, row: number };
        let at = |column| place.column(column);
        let get = |place: usize| row.get_ref(place).map_err(|_| CellError::Missing);
        let (mut id_buffer, mut code_buffer) = (itoa::Buffer::new(), itoa::Buffer::new());
        let raw =
            get(code_at).and_then(|value| text(value, &mut code_buffer, "a code")).map_err(at("code"))?;
        // A row without a code, or with a local one, is evidence of nothing.
        let Some(raw) = raw.filter(|raw| !codes.is_missing(raw)) else {
            book.add_other();
            return Ok(());
        };
        let system = codes.system(|| row.get_ref(code_at + 1)).map_err(at("code"))?;
        let code = dictionary.number(system, raw).map_err(at("code"))?;
        if code as usize >= known.len() {
            known.resize(code as usize + 1, None);
        }
        let (system, normal) = (usize::from(dictionary.code(code).system), &dictionary.code(code).text);
        let system = &dictionary.systems()[system];
        let is_known =
            *known[code as usize].get_or_insert_with(|| code != MALFORMED && book.knows(system, normal));
        if !is_known {
            book.add_other();
            return Ok(());
        }
        let local_id = get(patient_at)
            .and_then(|value| text(value, &mut id_buffer, "a local id"))
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
        book.add(local_id, system, normal, date, deleted);
        Ok(())
    })?;
    Ok(book.close()?)
}
