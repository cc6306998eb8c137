//! The mapping: SQL that presents one clinical system's database as the canonical tables.
//!
//! A mapping gives an expression for each canonical column and says what is in it. The host builds the statement, adds
//! the window, and reads each value by its declared type: a mapping cannot widen what is read.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalColumn, ColumnType};
use crate::code::{CodeShape, CodeSystem};
use crate::ids::Name;
use crate::manifest::SiteKind;
use crate::text_format::{self, Named, TextFormat, TextFormatError};

/// One clinical system's database as canonical tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mapping {
    /// Always 1.
    pub format: u32,
    /// The mapping's id.
    pub id: Name,
    /// The mapping's version.
    pub version: Version,
    /// The clinical system, for people.
    pub system: String,
    /// Which SQL the expressions are written in.
    pub database: Database,
    /// Where it is used.
    pub sites: SiteKind,
    /// Code systems that are not known everywhere, and the shape of their codes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub code_systems: BTreeMap<CodeSystem, CodeShape>,
    /// Every canonical table.
    pub table: BTreeMap<Name, TableMapping>,
}

/// The database's SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Database {
    /// SQLite 3.
    Sqlite,
}

/// One canonical table: there, or declared absent with a reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TableMapping {
    /// Why this system has no such table. Excludes the other keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// The FROM clause: a table or a join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The WHERE clause, for example to leave deleted rows out.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Every canonical column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub column: BTreeMap<Name, ColumnMapping>,
}

/// One canonical column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ColumnMapping {
    /// Why this system has no such column. Excludes the other keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// The SQL expression of the value. `''` and NULL mean that there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Texts that also mean that there is no value, for example `1800-01-01`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// For a date: how it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<DateFormat>,
    /// For a code: the system of every value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<CodeSystem>,
    /// For a code: the SQL expression of the system's local name, and what the names mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_sql: Option<String>,
    /// For a code with `system-sql`: local name to system. A name that is not here is an error.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub systems: BTreeMap<String, CodeSystem>,
    /// For a category: local text to category. A text that is not here is an error.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Name>,
    /// For a flag: the texts that mean yes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub yes: Vec<String>,
    /// For a flag: the texts that mean no. Any other text is an error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no: Vec<String>,
}

/// How a date column is written. A time of day after it is allowed and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DateFormat {
    /// `2026-10-31`, optionally followed by ` ` or `T` and a time: sorts as text, so the window becomes part of the SQL.
    Iso,
    /// `31/10/2026`.
    DayMonthYear,
    /// Each row is one or the other.
    Mixed,
    /// `2026`, `2026-10` or `2026-10-31`: a partial date is its first day in clinical rows, and an interval in objection evidence.
    PartialIso,
}

impl Mapping {
    /// The shape of a code system's codes at this site.
    pub fn code_shape(&self, system: &CodeSystem) -> Option<CodeShape> {
        CodeShape::of_known_system(system.as_str()).or_else(|| self.code_systems.get(system).copied())
    }

    /// The code systems of all columns, in their order.
    pub fn systems(&self) -> Vec<&CodeSystem> {
        let columns = self.table.values().flat_map(|table| table.column.values());
        let systems = columns.flat_map(|column| column.system.iter().chain(column.systems.values()));
        let systems: BTreeSet<&CodeSystem> = systems.collect();
        systems.into_iter().collect()
    }

    fn check_column(
        &self,
        place: &str,
        canonical: &CanonicalColumn,
        column: &ColumnMapping,
    ) -> Result<(), TextFormatError> {
        let wrong = |why: &str| Err(TextFormatError::at(Self::WHAT, place, why));
        if let Some(reason) = &column.absent {
            text_format::check_line(Self::WHAT, place, reason)?;
            if canonical.required {
                return wrong("the column is required and cannot be absent");
            }
            let bare = ColumnMapping { absent: Some(reason.clone()), ..ColumnMapping::default() };
            return if *column == bare { Ok(()) } else { wrong("`absent` excludes the other keys") };
        }
        let Some(sql) = &column.sql else { return wrong("needs `sql`, or `absent` with a reason") };
        check_sql(place, sql)?;
        let is = |kind: fn(&ColumnType) -> bool| kind(&canonical.kind);
        if column.date.is_some() != is(|kind| matches!(kind, ColumnType::Date)) {
            return wrong("`date` belongs to every date column and to no other");
        }
        let code = is(|kind| matches!(kind, ColumnType::Code));
        match (&column.system, &column.system_sql, column.systems.is_empty()) {
            (None, None, true) if !code => {}
            (Some(_), None, true) if code => {}
            (None, Some(sql), false) if code => check_sql(place, sql)?,
            _ if code => return wrong("a code column has `system`, or `system-sql` with `systems`"),
            _ => return wrong("`system` belongs to code columns"),
        }
        for system in column.system.iter().chain(column.systems.values()) {
            if self.code_shape(system).is_none() {
                return wrong(&format!(
                    "code system `{system}` is not known; declare it under [code-systems]"
                ));
            }
        }
        match canonical.kind {
            ColumnType::Category(categories) => {
                if column.values.is_empty() {
                    return wrong("a category column needs `values`");
                }
                if let Some(name) = column.values.values().find(|name| !categories.contains(&name.as_str())) {
                    return wrong(&format!("`{name}` is not one of {categories:?}"));
                }
            }
            _ if !column.values.is_empty() => return wrong("`values` belongs to category columns"),
            _ => {}
        }
        let flag = is(|kind| matches!(kind, ColumnType::Flag));
        if flag == column.yes.is_empty() || flag == column.no.is_empty() {
            return wrong("`yes` and `no` belong to every flag column and to no other");
        }
        Ok(())
    }
}

/// The agent numbers the systems of a run in a byte.
const SYSTEMS_MAX: usize = 255;

/// An expression is one expression: nothing that would end the statement or hide its rest.
fn check_sql(place: &str, sql: &str) -> Result<(), TextFormatError> {
    let wrong = |why: &str| Err(TextFormatError::at(Mapping::WHAT, place, why));
    if sql.trim().is_empty() || sql.len() > 4_000 {
        return wrong("an SQL expression of 1 to 4,000 bytes");
    }
    if sql.contains(';') || sql.contains("--") || sql.contains("/*") {
        return wrong("an SQL expression holds no `;` and no comment");
    }
    Ok(())
}

impl TextFormat for Mapping {
    const WHAT: &'static str = "mapping";

    fn named(&self) -> Named<'_> {
        Named { format: self.format, id: &self.id, version: &self.version }
    }

    fn check(&self) -> Result<(), TextFormatError> {
        text_format::check_line(Self::WHAT, "system", &self.system)?;
        for system in self.code_systems.keys() {
            if CodeShape::of_known_system(system.as_str()).is_some() {
                let place = format!("code-systems.{system}");
                return Err(TextFormatError::at(
                    Self::WHAT,
                    &place,
                    "is known everywhere; do not declare it",
                ));
            }
        }
        if self.systems().len() > SYSTEMS_MAX {
            let why = "names more than 255 code systems";
            return Err(TextFormatError::at(Self::WHAT, "table", why));
        }
        let known: BTreeSet<&str> = canonical::TABLES.iter().map(|table| table.name).collect();
        if let Some(name) = self.table.keys().find(|name| !known.contains(name.as_str())) {
            return Err(TextFormatError::at(
                Self::WHAT,
                &format!("table.{name}"),
                "is not a canonical table",
            ));
        }
        for table in canonical::TABLES {
            let place = format!("table.{}", table.name);
            let wrong = |why: &str| Err(TextFormatError::at(Self::WHAT, &place, why));
            let Some(mapped) = self.table.iter().find(|(name, _)| name.as_str() == table.name) else {
                return wrong("is missing; map it, or declare it `absent` with a reason");
            };
            let mapped = mapped.1;
            if let Some(reason) = &mapped.absent {
                text_format::check_line(Self::WHAT, &place, reason)?;
                if table.host_only {
                    return wrong("is needed to apply objections and cannot be absent");
                }
                if mapped.from.is_some() || mapped.filter.is_some() || !mapped.column.is_empty() {
                    return wrong("`absent` excludes the other keys");
                }
                continue;
            }
            let Some(from) = &mapped.from else { return wrong("needs `from`") };
            check_sql(&format!("{place}.from"), from)?;
            if let Some(filter) = &mapped.filter {
                check_sql(&format!("{place}.where"), filter)?;
            }
            if let Some(name) = mapped.column.keys().find(|name| table.column(name.as_str()).is_none()) {
                return wrong(&format!("has no column `{name}`"));
            }
            for column in table.columns {
                let place = format!("{place}.column.{}", column.name);
                match mapped.column.iter().find(|(name, _)| name.as_str() == column.name) {
                    Some((_, mapped)) => self.check_column(&place, column, mapped)?,
                    None => {
                        return Err(TextFormatError::at(
                            Self::WHAT,
                            &place,
                            "is missing; map it, or declare it `absent` with a reason",
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
