//! Read and cross: rows of the clinical database become rows that a module may see.
//!
//! The two are one step, so that an identified row exists only as long as the database's row buffer holds it: the local id
//! is looked up, the codes become numbers, and what may not cross is counted and dropped before the next row is fetched.
//! What leaves this file has handles in place of identities, days in place of times, and months in place of birth dates.

use lockgate_signing::bundle::Counts;
use lockgate_signing::canonical::{CanonicalTable, ColumnType};
use lockgate_signing::manifest::{Input, Manifest};
use lockgate_signing::mapping::Mapping;
use rusqlite::types::ValueRef;

use crate::dictionary::{CodeBook, Dictionary, DissentType, Standing};
use crate::identity::{Lookup, Patients};
use crate::order::{
    Cells, Chunk, Collected, Collector, MISSING_CATEGORY, MISSING_CODE, MISSING_DATE, OrderError, RowMemory,
};
use crate::source::{
    CategoryReader, CellError, CodeReader, DateReader, FlagReader, Place, Select, Snapshot, SourceError,
    Window, number, text,
};

/// An input cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CrossingError {
    /// The database or its mapping.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The rows.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A manifest that was not checked.
    #[error("the manifest asks for table `{0}`, which does not exist")]
    Table(String),
}

/// The rows of an input that may cross, and what was left behind.
pub(crate) struct CrossedInput {
    pub(crate) rows: Collected,
    /// The codes that these rows carry, by number.
    pub(crate) codes: Vec<u32>,
    pub(crate) counts: RowCounts,
}

/// Rows of one input by what became of them. Every row read is either handed on or counted once below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RowCounts {
    pub(crate) read: u64,
    withheld: u64,
    without_patient: u64,
    sensitive: u64,
    malformed: u64,
    deleted: u64,
    confidential: u64,
    /// Not rows: optional codes that were left out of rows that crossed, or of rows that were dropped after them.
    values_malformed: u64,
}

impl RowCounts {
    /// Adds these to a bundle's counts.
    pub(crate) fn add_to(&self, counts: &mut Counts) {
        counts.rows_read += self.read;
        counts.rows_withheld += self.withheld;
        counts.rows_without_patient += self.without_patient;
        counts.rows_sensitive += self.sensitive;
        counts.rows_malformed += self.malformed;
        counts.rows_deleted += self.deleted;
        counts.rows_confidential += self.confidential;
        counts.values_malformed += self.values_malformed;
    }
}

/// How one column is read.
enum Reader<'a> {
    Patient,
    Code {
        reader: CodeReader<'a>,
        filter: u64,
    },
    Date {
        reader: DateReader<'a>,
        month: bool,
    },
    Number {
        missing: &'a [String],
    },
    Category(CategoryReader<'a>),
    Episode,
    /// Deleted or confidential: looked at before the columns.
    Mark(FlagReader<'a>),
    Absent,
}

/// One column: how it is read, where it is in the result, and whether a row must have a value.
struct ColumnPlan<'a> {
    name: &'a str,
    reader: Reader<'a>,
    at: usize,
    required: bool,
}

/// Everything that reading an input needs.
pub(crate) struct Crossing<'a> {
    pub(crate) mapping: &'a Mapping,
    pub(crate) manifest: &'a Manifest,
    pub(crate) patients: &'a Patients,
    pub(crate) memory: &'a RowMemory,
    pub(crate) scratch: &'a std::path::Path,
}

/// A row does not cross.
enum Outcome {
    Crossed,
    Dropped,
}

impl Crossing<'_> {
    /// Reads one input within a window.
    pub(crate) fn read(
        &self,
        snapshot: &Snapshot,
        dictionary: &mut Dictionary,
        input: &Input,
        window: Option<Window<'_>>,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<CrossedInput, CrossingError> {
        let table =
            self.manifest.table_of(input).ok_or_else(|| CrossingError::Table(input.table.to_string()))?;
        let mut names: Vec<&str> = input.columns.iter().map(|name| name.as_str()).collect();
        let declared = names.len();
        // What the host needs for itself goes after the declared columns: who it is, when, and which code.
        let mut own = |name: &'static str, wanted: bool| {
            let known = table.column(name).filter(|_| wanted)?;
            Some(names.iter().position(|name| *name == known.name).unwrap_or_else(|| {
                names.push(known.name);
                names.len() - 1
            }))
        };
        let patient_at = own("patient", true);
        own("code", true);
        let marks = [own("deleted", true), own("confidential", true)];
        let window_at = window.as_ref().map(|window| {
            names.iter().position(|name| *name == window.column).unwrap_or_else(|| {
                names.push(window.column);
                names.len() - 1
            })
        });
        let select = Select::of(self.mapping, table, &names, window)?;
        let plans = self.plans(&select, table, &names, input, dictionary.book());
        let days = window.map(|window| (window.first.map_or(i32::MIN, day), day(window.last)));
        let empty = empty_chunk(table, &names[..declared]);
        let mut collector = Collector::new(empty, self.memory.clone(), self.scratch);
        let mut used = Vec::new();
        let mut failed = None;
        let mut reading = Reading { dictionary, last: LastPatient::default(), counts: RowCounts::default() };
        let marks = marks.map(|at| match &plans[at?].reader {
            Reader::Mark(reader) => Some((*reader, plans[at?].at)),
            _ => None,
        });
        let plan = RowPlan { table, plans: &plans, patient_at, window_at, marks, days };
        snapshot.read(&select, |row_number, row| {
            if row_number.is_multiple_of(PROGRESS_ROWS) && !progress(PROGRESS_ROWS) {
                return Err(SourceError::Cancelled);
            }
            let chunk = collector.filling();
            let before = chunk.rows();
            let outcome = self.cross_row(&plan, row, row_number, &mut reading, chunk)?;
            if matches!(outcome, Outcome::Dropped) || failed.is_some() {
                chunk.truncate(before);
                return Ok(());
            }
            for cells in &chunk.columns {
                if let Cells::Codes(codes) = cells
                    && let Some(&code) = codes.last()
                    && code != MISSING_CODE
                {
                    mark(&mut used, code);
                }
            }
            failed = collector.row_added().err();
            Ok(())
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let codes = (0..).zip(used).filter_map(|(code, used): (u32, bool)| used.then_some(code)).collect();
        Ok(CrossedInput { rows: collector.finish()?, codes, counts: reading.counts })
    }

    fn plans<'p>(
        &self,
        select: &'p Select<'_>,
        table: &'static CanonicalTable,
        names: &[&'p str],
        input: &Input,
        book: &CodeBook,
    ) -> Vec<ColumnPlan<'p>> {
        let filter = self
            .manifest
            .codelists
            .keys()
            .enumerate()
            .filter(|(_, name)| input.codelists.contains(name))
            .fold(0_u64, |bits, (position, _)| bits | 1 << position);
        let plan = |(&name, place): (&&'p str, &Option<(&'p _, usize)>)| {
            let canonical = table.column(name);
            let required = canonical.is_some_and(|column| column.required);
            let (Some((column, at)), Some(canonical)) = (*place, canonical) else {
                return ColumnPlan { name, reader: Reader::Absent, at: 0, required };
            };
            let reader = match canonical.kind {
                ColumnType::Patient => Reader::Patient,
                ColumnType::Code => Reader::Code {
                    reader: CodeReader::of(column, |system| book.system(system)),
                    filter: if name == "code" { filter } else { 0 },
                },
                ColumnType::Date => {
                    Reader::Date { reader: DateReader::of(column), month: name.ends_with("-month") }
                }
                ColumnType::Number => Reader::Number { missing: &column.missing },
                ColumnType::Category(categories) => Reader::Category(CategoryReader::of(column, categories)),
                ColumnType::Episode => Reader::Episode,
                ColumnType::Flag => Reader::Mark(FlagReader::of(column)),
                // In no table that a module may read.
                ColumnType::Text => Reader::Absent,
            };
            ColumnPlan { name, reader, at, required }
        };
        names.iter().zip(&select.columns).map(plan).collect()
    }

    fn cross_row(
        &self,
        plan: &RowPlan<'_>,
        row: &rusqlite::Row<'_>,
        row_number: u64,
        reading: &mut Reading<'_>,
        chunk: &mut Chunk,
    ) -> Result<Outcome, SourceError> {
        let Reading { dictionary, last, counts } = reading;
        let place = Place { mapping: self.mapping, table: plan.table.name, row: row_number };
        let at = |name| place.column(name);
        let get = |place: usize| row.get_ref(place).map_err(|_| CellError::Missing);
        // 1. The window first: rows outside of it are not even counted.
        let mut marked = [false; 2];
        for (marked, mark) in marked.iter_mut().zip(&plan.marks) {
            if let Some((reader, place)) = mark {
                *marked =
                    get(*place).and_then(|value| reader.flag(value)).map_err(at("deleted, confidential"))?;
            }
        }
        let is_marked = marked != [false; 2];
        let mut window_day = 0;
        if let (Some((first, last)), Some(column)) = (plan.days, plan.window_at) {
            let column = &plan.plans[column];
            if let Reader::Date { reader, .. } = &column.reader {
                match get(column.at).and_then(|value| reader.day(value)) {
                    Ok(Some(day)) if (first..=last).contains(&day) => window_day = day,
                    // Of a row that does not cross, the date may be anything.
                    Err(error) if !is_marked => return Err(at(column.name)(error)),
                    _ => return Ok(Outcome::Dropped),
                }
            }
        }
        counts.read += 1;
        // 2. Whose row it is. An objector's row is dropped before anything else of it is looked at.
        let mut handle = 0;
        let mut buffer = itoa::Buffer::new();
        if let Some(column) = plan.patient_at {
            let column = &plan.plans[column];
            let local_id = get(column.at)
                .and_then(|value| text(value, &mut buffer, "a local id"))
                .and_then(|text| text.ok_or(CellError::Missing))
                .map_err(at(column.name))?;
            match last.lookup(self.patients, local_id) {
                Lookup::Handle(found) => handle = found,
                Lookup::Withheld => {
                    counts.withheld += 1;
                    return Ok(Outcome::Dropped);
                }
                Lookup::Unknown => {
                    counts.without_patient += 1;
                    return Ok(Outcome::Dropped);
                }
            }
        }
        if is_marked {
            let [deleted, _] = marked;
            counts.deleted += u64::from(deleted);
            counts.confidential += u64::from(!deleted);
            return Ok(Outcome::Dropped);
        }
        // 3. The columns. What a row that is dropped half-way left in the chunk, the caller takes back.
        let mut columns = chunk.columns.iter_mut();
        for (position, column) in plan.plans.iter().enumerate() {
            let wrong = at(column.name);
            let cell = match &column.reader {
                Reader::Absent | Reader::Mark(_) => None,
                // Read in the first step.
                Reader::Date { month: false, .. }
                    if plan.days.is_some() && plan.window_at == Some(position) =>
                {
                    Some(Cell::Date(window_day))
                }
                Reader::Patient => Some(Cell::Patient(handle)),
                Reader::Date { reader, month } => {
                    let day = get(column.at).and_then(|value| reader.day(value)).map_err(wrong)?;
                    day.map(|day| Cell::Date(if *month { first_of_month(day) } else { day }))
                }
                Reader::Number { missing } => {
                    get(column.at).and_then(|value| number(value, missing)).map_err(wrong)?.map(Cell::Number)
                }
                Reader::Category(reader) => get(column.at)
                    .and_then(|value| reader.category(value))
                    .map_err(wrong)?
                    .map(Cell::Category),
                Reader::Episode => {
                    let value = get(column.at).and_then(|value| text(value, &mut buffer, "an episode's id"));
                    value.map_err(wrong)?.map(|id| Cell::Number(self.patients.episode(handle, id)))
                }
                Reader::Code { reader, filter } => {
                    match code(reader, column.at, row, dictionary).map_err(wrong)? {
                        None => None,
                        Some(number) => {
                            let code = dictionary.facts(number);
                            if code.dissent.is_some() && column.name == "code" {
                                self.check_evidence(plan.table, row_number, handle, code.dissent)?;
                            }
                            match code.standing {
                                // An odd unit or area says nothing about the patient that its absence would not.
                                Standing::Malformed if !column.required => {
                                    counts.values_malformed += 1;
                                    None
                                }
                                Standing::Malformed => {
                                    counts.malformed += 1;
                                    return Ok(Outcome::Dropped);
                                }
                                Standing::Sensitive => {
                                    counts.sensitive += 1;
                                    return Ok(Outcome::Dropped);
                                }
                                Standing::Plain if *filter != 0 && code.codelists & filter == 0 => {
                                    return Ok(Outcome::Dropped);
                                }
                                Standing::Plain => Some(Cell::Code(number)),
                            }
                        }
                    }
                }
            };
            if cell.is_none() && column.required {
                counts.malformed += 1;
                return Ok(Outcome::Dropped);
            }
            // What the host needs for itself comes after the declared columns and is not kept.
            if let Some(kept) = columns.next() {
                cell.unwrap_or(Cell::Missing).push_to(kept);
            }
        }
        Ok(Outcome::Crossed)
    }
}

impl Crossing<'_> {
    /// The tripwire: a dissent in a clinical row whose patient has none in the objection evidence. The mapping reads them from two
    /// places, so one of them is wrong, and an objector may be about to be seen. The run stops: a count would be read when the
    /// rows have left.
    fn check_evidence(
        &self,
        table: &CanonicalTable,
        row: u64,
        handle: u32,
        dissent: Option<DissentType>,
    ) -> Result<(), SourceError> {
        let seen = self.patients.dissents_seen(handle);
        let is_seen = match dissent {
            Some(DissentType::Type1) => seen.type_1,
            Some(DissentType::Type2) => seen.type_2,
            None => true,
        };
        if is_seen {
            return Ok(());
        }
        Err(SourceError::EvidenceMissed { mapping: self.mapping.id.to_string(), table: table.name, row })
    }
}

/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 65_536;

struct RowPlan<'a> {
    table: &'static CanonicalTable,
    plans: &'a [ColumnPlan<'a>],
    patient_at: Option<usize>,
    window_at: Option<usize>,
    /// Deleted and confidential: how the mark is read, and where it is.
    marks: [Option<(FlagReader<'a>, usize)>; 2],
    days: Option<(i32, i32)>,
}

/// What changes from row to row.
struct Reading<'a> {
    dictionary: &'a mut Dictionary,
    last: LastPatient,
    counts: RowCounts,
}

/// The patient of the row before: rows that follow each other are often of one patient. Gone with the input.
#[derive(Default)]
struct LastPatient {
    local_id: Vec<u8>,
    found: Option<Lookup>,
}

impl LastPatient {
    fn lookup(&mut self, patients: &Patients, local_id: &[u8]) -> Lookup {
        if let Some(found) = self.found
            && self.local_id == local_id
        {
            return found;
        }
        let found = patients.lookup(local_id);
        self.local_id.clear();
        self.local_id.extend_from_slice(local_id);
        self.found = Some(found);
        found
    }
}

fn code<'r>(
    reader: &CodeReader<'_>,
    at: usize,
    row: &'r rusqlite::Row<'_>,
    dictionary: &mut Dictionary,
) -> Result<Option<u32>, CellError> {
    let mut buffer = itoa::Buffer::new();
    let value: ValueRef<'r> = row.get_ref(at).map_err(|_| CellError::Missing)?;
    let Some(text) = text(value, &mut buffer, "a code")?.filter(|text| !reader.is_missing(text)) else {
        return Ok(None);
    };
    let system = reader.system(|| row.get_ref(at + 1))?;
    dictionary.number(system, text).map(Some)
}

/// One cell of a row that crosses.
#[derive(Clone, Copy)]
enum Cell {
    Patient(u32),
    Code(u32),
    Date(i32),
    Number(f64),
    Category(u8),
    Missing,
}

impl Cell {
    fn push_to(self, column: &mut Cells) {
        match (self, column) {
            (Self::Patient(value), Cells::Patients(values)) | (Self::Code(value), Cells::Codes(values)) => {
                values.push(value);
            }
            (Self::Date(value), Cells::Dates(values)) => values.push(value),
            (Self::Number(value), Cells::Numbers(values)) => values.push(value),
            (Self::Category(value), Cells::Categories(values)) => values.push(value),
            (_, Cells::Patients(values)) => values.push(u32::MAX),
            (_, Cells::Codes(values)) => values.push(MISSING_CODE),
            (_, Cells::Dates(values)) => values.push(MISSING_DATE),
            (_, Cells::Numbers(values)) => values.push(f64::NAN),
            (_, Cells::Categories(values)) => values.push(MISSING_CATEGORY),
        }
    }
}

fn empty_chunk(table: &CanonicalTable, names: &[&str]) -> Chunk {
    let cells = |name: &&str| match table.column(name).map(|column| column.kind) {
        Some(ColumnType::Patient) => Cells::Patients(Vec::new()),
        Some(ColumnType::Code) => Cells::Codes(Vec::new()),
        Some(ColumnType::Date) => Cells::Dates(Vec::new()),
        Some(ColumnType::Category(_)) => Cells::Categories(Vec::new()),
        _ => Cells::Numbers(Vec::new()),
    };
    Chunk { columns: names.iter().map(cells).collect() }
}

fn mark(used: &mut Vec<bool>, code: u32) {
    let place = code as usize;
    if place >= used.len() {
        used.resize(place + 1, false);
    }
    used[place] = true;
}

/// Days since 1970-01-01.
pub(crate) fn day(date: jiff::civil::Date) -> i32 {
    (date - jiff::civil::date(1970, 1, 1)).get_days()
}

fn first_of_month(day: i32) -> i32 {
    let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(day));
    // Days come from dates between 1800 and 2200.
    date.map_or(day, |date| day - i32::from(date.day()) + 1)
}
