//! The module manifest: what a module declares that it reads, writes and needs. TOML, so that a practice can read it.
//!
//! The manifest is a target of the trust repository; its digest is in every bundle that the module makes.

use std::collections::BTreeMap;

use jiff::civil::Date;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalTable, ColumnType};
use crate::code::{CodeSystem, CodesBySystem};
use crate::digest::Digest;
use crate::ids::Name;
use crate::text_format::{self, Named, TextFormat, TextFormatError};

/// The interface that this version of the host offers.
pub const INTERFACE: &str = "lockgate:extract@1.0.0";

/// What a module declares. See `docs/FORMAT.md` for an example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// Always 1.
    pub format: u32,
    /// The module's id.
    pub id: Name,
    /// The module's version.
    pub version: Version,
    /// One line for people.
    pub title: String,
    /// Why the data is collected; also the token domain: tokens of two purposes cannot be joined.
    pub purpose: Name,
    /// The legal basis, in a sentence for people.
    pub legal_basis: String,
    /// The host interface that the component imports.
    pub interface: String,
    /// Where the module runs.
    pub sites: SiteKind,
    /// The last day on which the module may run.
    pub not_after: Date,
    /// Which dates the periods run over.
    pub window: Window,
    /// What the run may use.
    pub limits: Limits,
    /// Which tokens are sent for each patient.
    pub tokens: Tokens,
    /// Codelists by name.
    #[serde(default, rename = "codelist", skip_serializing_if = "BTreeMap::is_empty")]
    pub codelists: BTreeMap<Name, CodesBySystem>,
    /// What the module reads, by name.
    #[serde(rename = "input")]
    pub inputs: BTreeMap<Name, Input>,
    /// What the module writes, by name.
    #[serde(rename = "output")]
    pub outputs: BTreeMap<Name, Output>,
    /// The component, written by the publisher; absent in the manifest that an author writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Component>,
}

/// The kind of place that a module or a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteKind {
    /// A GP practice.
    Practice,
    /// A hospital.
    Hospital,
}

/// Which dates the periods run over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Window {
    /// Earlier periods that are extracted again each month, and sent again if they changed.
    #[serde(default)]
    pub look_back: u32,
    /// What the first run covers: `"4 months"` or `"all"`.
    pub initial: Span,
}

/// A length of time before the end of a period: `"period"`, `"15 months"` or `"all"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Span {
    /// The period itself.
    Period,
    /// This many calendar months, the period being the last of them.
    Months(u32),
    /// Everything up to the period's last day.
    All,
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "period" => Ok(Self::Period),
            "all" => Ok(Self::All),
            _ => text
                .strip_suffix(" months")
                .and_then(|number| number.parse().ok())
                .filter(|months| (1..=1200).contains(months))
                .map(Self::Months)
                .ok_or_else(|| format!("`{text}` is not a span: use \"period\", \"15 months\" or \"all\"")),
        }
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        match span {
            Span::Period => "period".to_owned(),
            Span::Months(months) => format!("{months} months"),
            Span::All => "all".to_owned(),
        }
    }
}

/// What one run may use. None has a default: an author says what the module needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Linear memory, mebibytes; at most 512.
    pub memory_mib: u32,
    /// wasmtime fuel: about one unit an instruction; deterministic.
    pub fuel: u64,
    /// Wall clock, seconds; at most 3,600.
    pub wall_clock_s: u32,
    /// Rows written, all outputs together.
    pub output_rows: u64,
}

/// Which tokens are sent for each patient, beside the patient token of the purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tokens {
    /// The link tokens, best match first.
    pub link: Vec<LinkKind>,
}

/// What a link token is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LinkKind {
    /// NHS number.
    #[serde(rename = "nhs-number")]
    NhsNumber,
    /// NHS number, date of birth and sex.
    #[serde(rename = "nhs-number+birth-date+sex")]
    NhsNumberBirthDateSex,
    /// Date of birth, sex and postcode.
    #[serde(rename = "birth-date+sex+postcode")]
    BirthDateSexPostcode,
}

impl LinkKind {
    /// Its name in manifests and headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::NhsNumber => "nhs-number",
            Self::NhsNumberBirthDateSex => "nhs-number+birth-date+sex",
            Self::BirthDateSexPostcode => "birth-date+sex+postcode",
        }
    }

    /// The kind of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::NhsNumber, Self::NhsNumberBirthDateSex, Self::BirthDateSexPostcode]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// One thing that a module reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Input {
    /// A canonical table.
    pub table: Name,
    /// Its columns, in the order in which the module gets them.
    pub columns: Vec<Name>,
    /// How far back the rows go. Must be absent for a table without dates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// The date column that the span runs over; the table's default (`recorded`, so that late entries are not lost) when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Name>,
    /// Only rows whose `code` is in one of these codelists; empty: all rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codelists: Vec<Name>,
}

/// One thing that a module writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Output {
    /// Its columns, in the order in which the module writes them.
    pub columns: Vec<OutputColumn>,
    /// Set where counts of patients are sent rather than patients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
}

/// One column of an output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "OutputColumnText", into = "OutputColumnText")]
pub struct OutputColumn {
    /// Its name.
    pub name: Name,
    /// What it may hold.
    pub kind: OutputType,
    /// Whether a row may have no value.
    pub optional: bool,
}

/// What an output column may hold. There is no text.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputType {
    /// The patient.
    Patient,
    /// A code of one of these systems.
    Code {
        /// The systems.
        systems: Vec<CodeSystem>,
    },
    /// A day between these.
    Date {
        /// The earliest day.
        min: Date,
        /// The latest day; the period's last day when absent.
        max: Option<Date>,
        /// Whether every day must be the first of its month.
        month: bool,
    },
    /// A finite number between these.
    Number {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
        /// Decimal places that are kept; the host rounds to them, so that a number cannot carry more than it says. At most 6.
        decimals: u8,
    },
    /// One of these, at most 256.
    Category {
        /// The names; a batch holds positions.
        categories: Vec<Name>,
    },
}

/// An output column as it is written in TOML: one flat table, so that an unknown key is an error.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct OutputColumnText {
    name: Name,
    r#type: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    systems: Option<Vec<CodeSystem>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    month: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decimals: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    categories: Option<Vec<Name>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(untagged)]
enum Bound {
    Number(f64),
    Date(Date),
}

impl TryFrom<OutputColumnText> for OutputColumn {
    type Error = String;

    fn try_from(text: OutputColumnText) -> Result<Self, String> {
        let OutputColumnText { name, r#type, optional, systems, min, max, month, decimals, categories } =
            text;
        let wrong =
            |fields: &str| Err(format!("column `{name}` of type {type} takes {fields}", type = r#type));
        let kind = match (r#type.as_str(), systems, min, max, month, decimals, categories) {
            ("patient", None, None, None, None, None, None) => OutputType::Patient,
            ("patient", ..) => return wrong("no further keys"),
            ("code", Some(systems), None, None, None, None, None) => OutputType::Code { systems },
            ("code", ..) => return wrong("`systems`"),
            ("date", None, Some(Bound::Date(min)), None, month, None, None) => {
                OutputType::Date { min, max: None, month: month.unwrap_or(false) }
            }
            ("date", None, Some(Bound::Date(min)), Some(Bound::Date(max)), month, None, None) => {
                OutputType::Date { min, max: Some(max), month: month.unwrap_or(false) }
            }
            ("date", ..) => return wrong("`min` (\"1895-01-01\"), and if needed `max` and `month = true`"),
            (
                "number",
                None,
                Some(Bound::Number(min)),
                Some(Bound::Number(max)),
                None,
                Some(decimals),
                None,
            ) => OutputType::Number { min, max, decimals },
            ("number", ..) => return wrong("`min`, `max` and `decimals`"),
            ("category", None, None, None, None, None, Some(categories)) => {
                OutputType::Category { categories }
            }
            ("category", ..) => return wrong("`categories`"),
            _ => {
                return Err(
                    format!("`{type}` is not a type: use patient, code, date, number or category", type = r#type),
                );
            }
        };
        Ok(Self { name, kind, optional })
    }
}

impl From<OutputColumn> for OutputColumnText {
    fn from(column: OutputColumn) -> Self {
        let mut text = Self {
            name: column.name,
            r#type: column.kind.type_name().to_owned(),
            optional: column.optional,
            systems: None,
            min: None,
            max: None,
            month: None,
            decimals: None,
            categories: None,
        };
        match column.kind {
            OutputType::Patient => {}
            OutputType::Code { systems } => text.systems = Some(systems),
            OutputType::Date { min, max, month } => {
                text.min = Some(Bound::Date(min));
                text.max = max.map(Bound::Date);
                text.month = month.then_some(true);
            }
            OutputType::Number { min, max, decimals } => {
                text.min = Some(Bound::Number(min));
                text.max = Some(Bound::Number(max));
                text.decimals = Some(decimals);
            }
            OutputType::Category { categories } => text.categories = Some(categories),
        }
        text
    }
}

impl OutputType {
    /// The type's name in manifests and headers.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::Code { .. } => "code",
            Self::Date { .. } => "date",
            Self::Number { .. } => "number",
            Self::Category { .. } => "category",
        }
    }
}

/// An aggregate: the module writes a row for each patient and the cell that the patient is in, the host counts the patients of
/// each cell, and only counts leave. None of the numbers has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Aggregate {
    /// What the count of patients is called, which is sent after the dimensions.
    pub count: Name,
    /// A cell of fewer patients is not sent; at least 5.
    pub smallest_cell: u32,
    /// Counts are rounded to multiples of this; from 5 to `smallest-cell`.
    pub round_to: u32,
    /// The dimension whose totals are sent too, and the total of them all; then every column is a category, and nobody is in
    /// two cells. Absent: no totals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals_by: Option<Name>,
}

/// The component that belongs to a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Component {
    /// SHA-256 of the component's bytes.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// The most columns that an input or an output has.
const COLUMNS_MAX: usize = 64;
/// The most inputs, outputs or codelists that a manifest has.
const PARTS_MAX: usize = 64;

impl Manifest {
    /// An input's canonical table. The manifest was checked, so it exists.
    pub fn table_of(&self, input: &Input) -> Option<&'static CanonicalTable> {
        canonical::table(input.table.as_str())
    }
}

impl Input {
    /// The date column that the span runs over; `None` for a table without dates.
    pub fn window_column(&self) -> Option<&str> {
        let table = canonical::table(self.table.as_str())?;
        match &self.over {
            Some(column) => Some(column.as_str()),
            None => table.windows.first().copied(),
        }
    }
}

impl TextFormat for Manifest {
    const WHAT: &'static str = "manifest";

    fn named(&self) -> Named<'_> {
        Named { format: self.format, id: &self.id, version: &self.version }
    }

    fn check(&self) -> Result<(), TextFormatError> {
        let wrong = |place: String, why: String| Err(TextFormatError::at(Self::WHAT, &place, &why));
        if self.interface != INTERFACE {
            return wrong("interface".into(), format!("this version knows only `{INTERFACE}`"));
        }
        for (place, text) in [("title", &self.title), ("legal-basis", &self.legal_basis)] {
            text_format::check_line(Self::WHAT, place, text)?;
        }
        let limits = &self.limits;
        if !(1..=512).contains(&limits.memory_mib) {
            return wrong("limits.memory-mib".into(), "from 1 to 512".into());
        }
        if !(1..=3_600).contains(&limits.wall_clock_s) || limits.fuel == 0 || limits.output_rows == 0 {
            return wrong(
                "limits".into(),
                "wall-clock-s is 1 to 3600, fuel and output-rows at least 1".into(),
            );
        }
        if self.window.initial == Span::Period {
            return wrong("window.initial".into(), "use \"4 months\" or \"all\"".into());
        }
        if self.window.look_back > 24 {
            return wrong("window.look-back".into(), "at most 24 periods".into());
        }
        let mut links = self.tokens.link.clone();
        links.sort_unstable();
        links.dedup();
        if links.len() != self.tokens.link.len() {
            return wrong("tokens.link".into(), "a kind is named twice".into());
        }
        if self.inputs.is_empty() || self.outputs.is_empty() {
            return wrong("input, output".into(), "a module reads and writes at least one thing".into());
        }
        if self.inputs.len().max(self.outputs.len()).max(self.codelists.len()) > PARTS_MAX {
            return wrong("input, output, codelist".into(), format!("at most {PARTS_MAX} of each"));
        }
        for (name, codes) in &self.codelists {
            text_format::check_codes(Self::WHAT, &format!("codelist.{name}"), codes)?;
        }
        for (name, input) in &self.inputs {
            self.check_input(&format!("input.{name}"), input)?;
        }
        for (name, output) in &self.outputs {
            check_output(&format!("output.{name}"), output)?;
        }
        Ok(())
    }
}

/// What there is in place of what was named.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "there is none".to_owned() } else { format!("there is {}", names.join(", ")) }
}

impl Manifest {
    fn check_input(&self, place: &str, input: &Input) -> Result<(), TextFormatError> {
        let wrong =
            |part: &str, why: String| Err(TextFormatError::at(Self::WHAT, &format!("{place}.{part}"), &why));
        let Some(table) = canonical::table(input.table.as_str()).filter(|table| !table.host_only) else {
            let tables = canonical::TABLES.iter().filter(|table| !table.host_only).map(|table| table.name);
            let why = format!("`{}` is not a table that a module may read: {}", input.table, listed(tables));
            return wrong("table", why);
        };
        check_columns(&format!("{place}.columns"), input.columns.iter())?;
        for column in &input.columns {
            match table.column(column.as_str()).map(|column| column.kind) {
                None => {
                    let for_modules = |kind| !matches!(kind, ColumnType::Text | ColumnType::Flag);
                    let columns = table.columns.iter().filter(|column| for_modules(column.kind));
                    let columns = listed(columns.map(|column| column.name));
                    return wrong(
                        "columns",
                        format!("table `{}` has no column `{column}`: {columns}", table.name),
                    );
                }
                Some(ColumnType::Text | ColumnType::Flag) => {
                    return wrong(
                        "columns",
                        format!("`{column}` of table `{}` is for the host alone", table.name),
                    );
                }
                Some(_) => {}
            }
        }
        match (&input.span, table.windows.is_empty()) {
            (None, false) => return wrong("span", "say \"period\", \"15 months\" or \"all\"".into()),
            (Some(_), true) => return wrong("span", format!("table `{}` has no dates", table.name)),
            _ => {}
        }
        if let Some(over) = &input.over
            && !table.windows.contains(&over.as_str())
        {
            return wrong("over", format!("`{over}` is not one of {:?}", table.windows));
        }
        if !input.codelists.is_empty() && table.column("code").is_none() {
            return wrong("codelists", format!("table `{}` has no codes", table.name));
        }
        match input.codelists.iter().find(|name| !self.codelists.contains_key(name)) {
            Some(name) => {
                let lists = listed(self.codelists.keys().map(Name::as_str));
                wrong("codelists", format!("the manifest has no codelist `{name}`: {lists}"))
            }
            None => Ok(()),
        }
    }
}

fn check_columns<'a>(
    place: &str,
    names: impl ExactSizeIterator<Item = &'a Name>,
) -> Result<(), TextFormatError> {
    let wrong = |why: &str| Err(TextFormatError::at(Manifest::WHAT, place, why));
    let count = names.len();
    if !(1..=COLUMNS_MAX).contains(&count) {
        return wrong("from 1 to 64 columns");
    }
    if names.collect::<std::collections::BTreeSet<_>>().len() != count {
        return wrong("a column is named twice");
    }
    Ok(())
}

fn check_output(place: &str, output: &Output) -> Result<(), TextFormatError> {
    let wrong =
        |part: &str, why: &str| Err(TextFormatError::at(Manifest::WHAT, &format!("{place}.{part}"), why));
    check_columns(&format!("{place}.columns"), output.columns.iter().map(|column| &column.name))?;
    for column in &output.columns {
        let part = format!("columns.{}", column.name);
        match &column.kind {
            OutputType::Patient if column.optional => return wrong(&part, "a patient is never optional"),
            OutputType::Code { systems } if systems.is_empty() => {
                return wrong(&part, "name the code systems");
            }
            OutputType::Number { min, max, decimals } => {
                if !(min.is_finite() && max.is_finite() && min <= max) {
                    return wrong(&part, "min and max are finite and in order");
                }
                if *decimals > 6 {
                    return wrong(&part, "at most 6 decimals");
                }
            }
            OutputType::Category { categories } if categories.is_empty() || categories.len() > 256 => {
                return wrong(&part, "from 1 to 256 categories");
            }
            OutputType::Date { min, max: Some(max), .. } if min > max => {
                return wrong(&part, "min is after max");
            }
            _ => {}
        }
    }
    let patients = output.columns.iter().filter(|column| column.kind == OutputType::Patient).count();
    if patients != 1 {
        return wrong("columns", "exactly one column is the patient: whose row it is, or who is counted");
    }
    match &output.aggregate {
        Some(aggregate) => check_aggregate(place, output, aggregate),
        None => Ok(()),
    }
}

/// The most cells of a table with totals.
const CELLS_MAX: usize = 65_536;

fn check_aggregate(place: &str, output: &Output, aggregate: &Aggregate) -> Result<(), TextFormatError> {
    let wrong =
        |part: &str, why: &str| Err(TextFormatError::at(Manifest::WHAT, &format!("{place}.{part}"), why));
    if aggregate.smallest_cell < 5 {
        return wrong("aggregate.smallest-cell", "at least 5");
    }
    if !(5..=aggregate.smallest_cell).contains(&aggregate.round_to) {
        return wrong("aggregate.round-to", "from 5 to `smallest-cell`");
    }
    if output.columns.iter().any(|column| column.name == aggregate.count) {
        return wrong("aggregate.count", "is the name of a column; the host adds the count");
    }
    if output.columns.len() < 2 {
        return wrong("columns", "an aggregate has a column beside the patient, to count by");
    }
    for column in &output.columns {
        let part = format!("columns.{}", column.name);
        match &column.kind {
            _ if column.optional => return wrong(&part, "a column of an aggregate is never optional"),
            OutputType::Number { .. } => {
                return wrong(&part, "an aggregate is by categories, codes and months");
            }
            OutputType::Date { month: false, .. } => {
                return wrong(&part, "a date of an aggregate has `month = true`");
            }
            _ => {}
        }
    }
    let Some(by) = &aggregate.totals_by else { return Ok(()) };
    let by = output.columns.iter().find(|column| column.name == *by);
    if !by.is_some_and(|column| matches!(column.kind, OutputType::Category { .. })) {
        return wrong("aggregate.totals-by", "names a category column");
    }
    let cells = output.columns.iter().filter(|column| column.kind != OutputType::Patient).try_fold(
        1_usize,
        |cells, column| match &column.kind {
            OutputType::Category { categories } => cells.checked_mul(categories.len()),
            _ => None,
        },
    );
    match cells {
        Some(1..=CELLS_MAX) => Ok(()),
        _ => wrong("aggregate.totals-by", "needs categories only, and at most 65,536 cells"),
    }
}
