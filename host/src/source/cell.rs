//! Values by their declared type.

use std::cell::Cell;

use jiff::civil::Date;
use lockgate_signing::mapping::{ColumnMapping, DateFormat};
use rusqlite::types::ValueRef;

use crate::objections::Interval;

/// Why a value is not of its declared type. Never holds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CellError {
    /// A value where none may be missing.
    #[error("has no value, and the column needs one")]
    Missing,
    /// A type that does not fit.
    #[error("is {found} where {expected} is declared")]
    Type {
        /// The database's type.
        found: &'static str,
        /// What the mapping declares.
        expected: &'static str,
    },
    /// A text that is not a date.
    #[error("is not a date in the declared form")]
    Date,
    /// A text that is not a number.
    #[error("is not a finite number")]
    Number,
    /// A text that the mapping does not name.
    #[error("is a text that the mapping does not name")]
    NotNamed,
    /// Too many different codes to be codes.
    #[error("holds more different codes than there are codes; it is not a code column")]
    TooManyCodes,
}

fn type_error(value: ValueRef<'_>, expected: &'static str) -> CellError {
    let found = match value {
        ValueRef::Null => "NULL",
        ValueRef::Integer(_) => "an integer",
        ValueRef::Real(_) => "a floating-point number",
        ValueRef::Text(_) => "text",
        ValueRef::Blob(_) => "a BLOB",
    };
    CellError::Type { found, expected }
}

/// The text of a value: text as it is, an integer in digits (in `buffer`), `None` where there is nothing.
pub(crate) fn text<'v>(
    value: ValueRef<'v>,
    buffer: &'v mut itoa::Buffer,
    expected: &'static str,
) -> Result<Option<&'v [u8]>, CellError> {
    match value {
        ValueRef::Null | ValueRef::Text(b"") => Ok(None),
        ValueRef::Text(text) => Ok(Some(text)),
        ValueRef::Integer(integer) => Ok(Some(buffer.format(integer).as_bytes())),
        _ => Err(type_error(value, expected)),
    }
}

/// A finite number; `None` where there is nothing.
pub(crate) fn number(value: ValueRef<'_>, missing: &[String]) -> Result<Option<f64>, CellError> {
    let number = match value {
        ValueRef::Null | ValueRef::Text(b"") => return Ok(None),
        ValueRef::Real(number) => number,
        // Integers beyond 2^53 are ids, not measurements; the nearest number is as good as any.
        ValueRef::Integer(integer) => integer as f64,
        ValueRef::Text(text) => {
            if is_missing(text, missing) {
                return Ok(None);
            }
            let text = std::str::from_utf8(text).map_err(|_| CellError::Number)?;
            text.trim().parse().map_err(|_| CellError::Number)?
        }
        ValueRef::Blob(_) => return Err(type_error(value, "a number")),
    };
    if number.is_finite() { Ok(Some(number)) } else { Err(CellError::Number) }
}

fn is_missing(text: &[u8], missing: &[String]) -> bool {
    missing.iter().any(|sentinel| sentinel.as_bytes() == text)
}

/// Reads dates of one column.
pub(crate) struct DateReader<'a> {
    format: DateFormat,
    missing: &'a [String],
    /// The last text of ten bytes, and its day: rows that follow each other are often of one day.
    last: Cell<Option<([u8; 10], i32)>>,
}

impl<'a> DateReader<'a> {
    pub(crate) fn of(column: &'a ColumnMapping) -> Self {
        Self::new(column.date.unwrap_or(DateFormat::Iso), &column.missing)
    }

    fn new(format: DateFormat, missing: &'a [String]) -> Self {
        Self { format, missing, last: Cell::new(None) }
    }

    /// A day since 1970-01-01; a partial date is its first day.
    pub(crate) fn day(&self, value: ValueRef<'_>) -> Result<Option<i32>, CellError> {
        let ValueRef::Text(text) = value else {
            return match value {
                ValueRef::Null => Ok(None),
                _ => Err(type_error(value, "a date as text")),
            };
        };
        if let Some((last, day)) = self.last.get()
            && *text == last
        {
            return Ok(Some(day));
        }
        if text.is_empty() || is_missing(text, self.missing) {
            return Ok(None);
        }
        let day = match (self.format, iso(text)) {
            // The common case, without building a date.
            (DateFormat::Iso | DateFormat::PartialIso | DateFormat::Mixed, Some(day)) => day,
            (DateFormat::Iso, None) => return Err(CellError::Date),
            _ => days(self.interval_of(text)?.first),
        };
        if let Ok(text) = text.try_into() {
            self.last.set(Some((text, day)));
        }
        Ok(Some(day))
    }

    /// The days that a value may mean; `None` where there is nothing or it cannot be read.
    pub(crate) fn interval(&self, value: ValueRef<'_>) -> Result<Option<Interval>, CellError> {
        match value {
            ValueRef::Null => Ok(None),
            ValueRef::Text(text) if text.is_empty() || is_missing(text, self.missing) => Ok(None),
            ValueRef::Text(text) => self.interval_of(text).map(Some),
            _ => Err(type_error(value, "a date as text")),
        }
    }

    fn interval_of(&self, text: &[u8]) -> Result<Interval, CellError> {
        let whole = |date: Option<Date>| date.map(|date| Interval { first: date, last: date });
        let read = match self.format {
            DateFormat::Iso => whole(iso_date(text)),
            DateFormat::DayMonthYear => whole(day_month_year(text)),
            DateFormat::Mixed => whole(iso_date(text).or_else(|| day_month_year(text))),
            DateFormat::PartialIso => whole(iso_date(text)).or_else(|| partial(text)),
        };
        read.ok_or(CellError::Date)
    }
}

fn days(date: Date) -> i32 {
    days_from_civil(date.year().into(), date.month().unsigned_abs().into(), date.day().unsigned_abs().into())
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400).cast_unsigned();
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era.cast_signed() - 719_468
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter()
        .try_fold(0_u32, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Year, month and day of `YYYY-MM-DD` with an optional time after ` ` or `T`.
fn iso_parts(text: &[u8]) -> Option<(u32, u32, u32)> {
    if text.len() < 10 || text[4] != b'-' || text[7] != b'-' || !is_time(&text[10..]) {
        return None;
    }
    valid(digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..10])?)
}

fn valid(year: u32, month: u32, day: u32) -> Option<(u32, u32, u32)> {
    let fits = (1_800..=2_200).contains(&year)
        && (1..=12).contains(&month)
        && day >= 1
        && day <= days_in(year, month);
    fits.then_some((year, month, day))
}

fn is_time(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b' ' | b'T', time @ ..] => {
            time.iter().all(|byte| matches!(byte, b'0'..=b'9' | b':' | b'.' | b'+' | b'-' | b'Z'))
        }
        _ => false,
    }
}

fn iso(text: &[u8]) -> Option<i32> {
    let (year, month, day) = iso_parts(text)?;
    Some(days_from_civil(year.cast_signed(), month, day))
}

fn date_of((year, month, day): (u32, u32, u32)) -> Option<Date> {
    Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

fn iso_date(text: &[u8]) -> Option<Date> {
    date_of(iso_parts(text)?)
}

fn day_month_year(text: &[u8]) -> Option<Date> {
    if text.len() < 10 || text[2] != b'/' || text[5] != b'/' || !is_time(&text[10..]) {
        return None;
    }
    date_of(valid(digits(&text[6..10])?, digits(&text[3..5])?, digits(&text[..2])?)?)
}

/// `YYYY` or `YYYY-MM`.
fn partial(text: &[u8]) -> Option<Interval> {
    let first = match text.len() {
        4 => date_of(valid(digits(text)?, 1, 1)?)?,
        7 if text[4] == b'-' => date_of(valid(digits(&text[..4])?, digits(&text[5..])?, 1)?)?,
        _ => return None,
    };
    let last = if text.len() == 4 { first.last_of_year() } else { first.last_of_month() };
    Some(Interval { first, last })
}

/// A few texts with a number each, to be found in every row. Up to seven bytes are compared as one integer.
struct Names<'a> {
    short: Vec<(u64, u8)>,
    long: Vec<(&'a [u8], u8)>,
}

impl<'a> Names<'a> {
    fn of(names: impl Iterator<Item = (&'a [u8], u8)>) -> Self {
        let mut all = Self { short: Vec::new(), long: Vec::new() };
        for (name, number) in names {
            match short(name) {
                Some(name) => all.short.push((name, number)),
                None => all.long.push((name, number)),
            }
        }
        all
    }

    fn find(&self, text: &[u8]) -> Option<u8> {
        match short(text) {
            Some(text) => self.short.iter().find(|(name, _)| *name == text).map(|(_, number)| *number),
            None => self.long.iter().find(|(name, _)| *name == text).map(|(_, number)| *number),
        }
    }
}

/// A text of up to seven bytes as an integer that no other text has: its length stands before its bytes.
fn short(text: &[u8]) -> Option<u64> {
    let bytes = || text.iter().fold(text.len() as u64, |sum, &byte| sum << 8 | u64::from(byte));
    (text.len() <= 7).then(bytes)
}

/// Reads categories of one column: positions in the canonical table's categories.
pub(crate) struct CategoryReader<'a> {
    values: Names<'a>,
    missing: &'a [String],
}

impl<'a> CategoryReader<'a> {
    pub(crate) fn of(column: &'a ColumnMapping, categories: &[&str]) -> Self {
        let position = |name: &str| categories.iter().position(|category| *category == name);
        // The mapping was checked: every value is a category, of which there are fewer than 256.
        let values = column
            .values
            .iter()
            .filter_map(|(text, name)| Some((text.as_bytes(), u8::try_from(position(name.as_str())?).ok()?)));
        Self { values: Names::of(values), missing: &column.missing }
    }

    pub(crate) fn category(&self, value: ValueRef<'_>) -> Result<Option<u8>, CellError> {
        let mut buffer = itoa::Buffer::new();
        let Some(text) = text(value, &mut buffer, "a category as text")? else { return Ok(None) };
        if is_missing(text, self.missing) {
            return Ok(None);
        }
        self.values.find(text).map(Some).ok_or(CellError::NotNamed)
    }
}

/// Reads flags of one column.
#[derive(Clone, Copy)]
pub(crate) struct FlagReader<'a> {
    column: &'a ColumnMapping,
    /// What the integers 0 and 1 mean, which most flags are.
    bits: [Option<bool>; 2],
}

impl<'a> FlagReader<'a> {
    pub(crate) fn of(column: &'a ColumnMapping) -> Self {
        let bits = [b"0", b"1"].map(|text| {
            let is_in = |texts: &[String]| is_missing(text, texts);
            if is_in(&column.yes) { Some(true) } else { is_in(&column.no).then_some(false) }
        });
        Self { column, bits }
    }

    pub(crate) fn flag(&self, value: ValueRef<'_>) -> Result<bool, CellError> {
        if let ValueRef::Integer(bit @ (0 | 1)) = value
            && let Some(flag) = self.bits[bit as usize]
        {
            return Ok(flag);
        }
        let mut buffer = itoa::Buffer::new();
        // A flag without a value is neither yes nor no, unless the mapping's lists name the empty text.
        let text = text(value, &mut buffer, "a flag as text or integer")?.unwrap_or_default();
        if is_missing(text, &self.column.yes) {
            Ok(true)
        } else if is_missing(text, &self.column.no) {
            Ok(false)
        } else {
            Err(CellError::NotNamed)
        }
    }
}

/// Reads codes of one column: which system, and the text as it is in the database.
pub(crate) struct CodeReader<'a> {
    /// By local name; none where the system is the same for every row.
    systems: Names<'a>,
    fixed: Option<u8>,
    missing: &'a [String],
}

impl<'a> CodeReader<'a> {
    /// `position` gives a system's position in the run's list of systems.
    pub(crate) fn of(column: &'a ColumnMapping, mut position: impl FnMut(&str) -> u8) -> Self {
        let fixed = column.system.as_ref().map(|system| position(system.as_str()));
        let systems =
            column.systems.iter().map(|(local, system)| (local.as_bytes(), position(system.as_str())));
        Self { systems: Names::of(systems), fixed, missing: &column.missing }
    }

    /// The system of a row; `value` is the column after the code where the mapping has `system-sql`.
    pub(crate) fn system(
        &self,
        value: impl FnOnce() -> rusqlite::Result<ValueRef<'a>>,
    ) -> Result<u8, CellError> {
        if let Some(fixed) = self.fixed {
            return Ok(fixed);
        }
        let value = value().map_err(|_| CellError::Missing)?;
        let ValueRef::Text(name) = value else {
            return Err(type_error(value, "a code system's name as text"));
        };
        self.systems.find(name).ok_or(CellError::NotNamed)
    }

    /// Whether a text stands for no code.
    pub(crate) fn is_missing(&self, text: &[u8]) -> bool {
        is_missing(text, self.missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(format: DateFormat) -> DateReader<'static> {
        DateReader::new(format, &[])
    }

    #[test]
    fn days_agree_with_a_calendar_library() {
        let mut date = jiff::civil::date(1800, 1, 1);
        while date.year() < 2200 {
            let expected = (date - jiff::civil::date(1970, 1, 1)).get_days();
            assert_eq!(iso(date.to_string().as_bytes()), Some(expected), "{date}");
            assert_eq!(days(date), expected, "{date}");
            date = date.checked_add(jiff::Span::new().days(17)).unwrap();
        }
    }

    #[test]
    fn dates_are_read_in_their_declared_form_only() {
        let day = |format, text: &str| reader(format).day(ValueRef::Text(text.as_bytes()));
        let expected = Ok(Some(20_392));
        for text in ["2025-10-31", "2025-10-31 23:59:59", "2025-10-31T23:59:59.123+00:00"] {
            assert_eq!(day(DateFormat::Iso, text), expected, "{text}");
        }
        assert_eq!(day(DateFormat::DayMonthYear, "31/10/2025"), expected);
        assert_eq!(day(DateFormat::Mixed, "31/10/2025 10:11"), expected);
        assert_eq!(day(DateFormat::Mixed, "2025-10-31"), expected);
        assert_eq!(day(DateFormat::Iso, ""), Ok(None));
        for text in [
            "31/10/2025",
            "2025-13-01",
            "2025-02-29",
            "2025-1-1",
            "2025-10-31 John",
            "20251031",
            "1799-12-31",
        ] {
            assert_eq!(day(DateFormat::Iso, text), Err(CellError::Date), "{text}");
        }
        assert_eq!(day(DateFormat::DayMonthYear, "2025-10-31"), Err(CellError::Date));
        assert!(matches!(reader(DateFormat::Iso).day(ValueRef::Integer(1)), Err(CellError::Type { .. })));
    }

    #[test]
    fn a_name_is_found_by_all_its_bytes() {
        let texts: [&[u8]; 9] =
            [b"", b"\0", b"\0\0", b"A", b"\x01A", b"A\0", b"SEVEN77", b"EIGHT888", b"EIGHT889"];
        let names = Names::of(texts.into_iter().zip(0..));
        for (text, number) in texts.into_iter().zip(0..) {
            assert_eq!(names.find(text), Some(number));
        }
        for text in [&b"B"[..], b"\x02", b"SEVEN78", b"EIGHT880"] {
            assert_eq!(names.find(text), None);
        }
    }

    #[test]
    fn a_partial_date_is_an_interval() {
        let interval = |text: &str| {
            let read = reader(DateFormat::PartialIso).interval(ValueRef::Text(text.as_bytes()));
            read.map(|interval| interval.map(|interval| format!("{} {}", interval.first, interval.last)))
        };
        assert_eq!(interval("2024-02").unwrap().unwrap(), "2024-02-01 2024-02-29");
        assert_eq!(interval("2024").unwrap().unwrap(), "2024-01-01 2024-12-31");
        assert_eq!(interval("2024-02-03").unwrap().unwrap(), "2024-02-03 2024-02-03");
        assert_eq!(interval("Feb 2024"), Err(CellError::Date));
    }
}
