//! Published codelists (CSV) as codes of a manifest.
//!
//! Codelists are published as CSV with a header, and the column of the codes has a different name from list to list.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use lockgate_signing::code::{CODE_BYTES_MAX, CodeShape, CodeSystem, normalise_code};
use lockgate_signing::ids::Name;

/// The largest codelist file, bytes.
pub const CSV_BYTES_MAX: u64 = 64 << 20;

/// A codelist to load: `NAME=SYSTEM:FILE.csv[:COLUMN]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodelistFile {
    /// The codelist of the manifest that gets the codes.
    pub name: Name,
    /// Their code system.
    pub system: CodeSystem,
    /// The CSV file.
    pub file: PathBuf,
    /// The column of the codes; guessed when absent.
    pub column: Option<String>,
}

impl FromStr for CodelistFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write NAME=SYSTEM:FILE.csv or NAME=SYSTEM:FILE.csv:COLUMN";
        let (name, rest) = text.split_once('=').ok_or(FORM)?;
        let (system, rest) = rest.split_once(':').ok_or(FORM)?;
        let (file, column) = match rest.rsplit_once(':') {
            Some((file, column)) if file.to_ascii_lowercase().ends_with(".csv") => (file, Some(column)),
            _ => (rest, None),
        };
        if file.is_empty() || column.is_some_and(str::is_empty) {
            return Err(FORM.to_owned());
        }
        Ok(Self {
            name: name.parse().map_err(|error| format!("{error}"))?,
            system: CodeSystem::try_from(system.to_owned()).map_err(|error| error.to_string())?,
            file: file.into(),
            column: column.map(str::to_owned),
        })
    }
}

/// A codelist cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CodelistError {
    /// Not CSV.
    #[error("the codelist is not CSV: {0}")]
    Csv(#[from] csv::Error),
    /// The column is not there, or cannot be guessed.
    #[error(
        "{why}; the file has the columns {}; name the one that holds the codes: NAME=SYSTEM:FILE.csv:COLUMN",
        columns.join(", ")
    )]
    Column {
        /// What was looked for.
        why: String,
        /// What there is.
        columns: Vec<String>,
    },
    /// A text that is no code of the system.
    #[error(
        "line {line}: `{text}` is not a {system} code; correct the file (a spreadsheet may have rounded long codes), or \
         name another column"
    )]
    NotACode {
        /// Where.
        line: u64,
        /// What is there, cut.
        text: String,
        /// The system.
        system: String,
    },
    /// No code at all.
    #[error("the codelist holds no code")]
    Empty,
}

/// Reads the codes of a CSV codelist: without repeats, normalised, of the shape of their system, sorted.
pub fn read(
    csv_bytes: &[u8],
    system: &CodeSystem,
    column: Option<&str>,
) -> Result<Vec<String>, CodelistError> {
    // Spreadsheets put a byte order mark before the first column's name.
    let csv_bytes = csv_bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(csv_bytes);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(csv_bytes);
    let columns: Vec<String> = reader.headers()?.iter().map(|name| name.trim().to_owned()).collect();
    let position = code_column(&columns, system, column)?;
    let shape = CodeShape::of_known_system(system.as_str());
    let mut codes = BTreeSet::new();
    for record in reader.records() {
        let record = record?;
        let text = record.get(position).unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let code = match shape {
            Some(shape) => normalise_code(shape, text),
            None => text.to_owned(),
        };
        let fits = match shape {
            Some(shape) => shape.fits(&code),
            // Only a mapping knows the shape; the site checks it.
            None => code.len() <= CODE_BYTES_MAX && code.bytes().all(|byte| byte.is_ascii_graphic()),
        };
        if !fits {
            return Err(CodelistError::NotACode {
                line: record.position().map_or(0, csv::Position::line),
                text: text.chars().take(40).collect(),
                system: system.to_string(),
            });
        }
        codes.insert(code);
    }
    if codes.is_empty() { Err(CodelistError::Empty) } else { Ok(codes.into_iter().collect()) }
}

/// The position of the codes' column: the one that was named, or the first of the usual names that is there.
fn code_column(
    columns: &[String],
    system: &CodeSystem,
    wanted: Option<&str>,
) -> Result<usize, CodelistError> {
    let find = |name: &str| columns.iter().position(|column| column.eq_ignore_ascii_case(name));
    let error = |why: String| CodelistError::Column { why, columns: columns.to_vec() };
    if let Some(wanted) = wanted {
        return find(wanted).ok_or_else(|| error(format!("there is no column `{wanted}`")));
    }
    // The system's own names first: a list of medicines may have `code` and `dmd_id`, and another a BNF code in `code`.
    let own: &[&str] = match system.as_str() {
        "snomed" => &["snomedcode", "snomed_code", "snomed_id", "snomedctcode", "conceptid", "concept_id"],
        "dmd" => &["dmd_id", "dmd_code", "dmdcode", "vpid", "apid", "snomedcode"],
        "icd10" => &["icd10", "icd10_code", "icd", "icd_code"],
        "opcs4" => &["opcs4", "opcs4_code", "opcs"],
        "read2" => &["read2", "read_code", "readcode", "readv2"],
        "ctv3" => &["ctv3", "ctv3id", "ctv3_code", "read_code"],
        "loinc" => &["loinc", "loinc_num", "loinc_code"],
        _ => &[],
    };
    own.iter()
        .chain(&["code", "id"])
        .find_map(|name| find(name))
        .ok_or_else(|| error("no column has a name that says that it holds the codes".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(name: &str) -> CodeSystem {
        CodeSystem::try_from(name.to_owned()).unwrap()
    }

    #[test]
    fn the_column_is_guessed_from_the_names_that_lists_use() {
        for (name, csv) in [
            ("snomed", "code,term\n44054006,Type 2\n"),
            ("snomed", "\u{feff}Code,term\n44054006,Type 2\n"),
            ("snomed", "snomedcode,Ethnicity\n44054006,x\n"),
            ("snomed", "id,name,active,notes\n44054006,\"a, b\",y,\n"),
            ("dmd", "code,term,dmd_id,dmd_type\n1.1E+14,x,44054006,VMP\n"),
        ] {
            assert_eq!(read(csv.as_bytes(), &system(name), None).unwrap(), ["44054006"], "{csv}");
        }
    }

    #[test]
    fn codes_are_sorted_once_each_and_normalised() {
        let csv = "code\nC10F\nC10E.00\nC10F.\n\n";
        assert_eq!(read(csv.as_bytes(), &system("read2"), None).unwrap(), ["C10E.", "C10F."]);
    }

    #[test]
    fn an_unknown_column_lists_what_there_is() {
        let error = read(b"concept,description\n1,x\n", &system("snomed"), None).unwrap_err().to_string();
        assert!(error.contains("concept, description"), "{error}");
        assert!(read(b"code\n44054006\n", &system("snomed"), Some("nhs")).is_err());
    }

    #[test]
    fn a_code_that_a_spreadsheet_rounded_is_refused_with_its_line() {
        let error = read(b"code\n44054006\n1.1E+14\n", &system("snomed"), None).unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
    }

    #[test]
    fn the_argument_has_three_or_four_parts() {
        let parsed: CodelistFile = "dm=snomed:lists/dm_cod.csv".parse().unwrap();
        assert_eq!((parsed.file, parsed.column), ("lists/dm_cod.csv".into(), None));
        let parsed: CodelistFile = "dm=snomed:lists/dm.csv:Concept Id".parse().unwrap();
        assert_eq!((parsed.file, parsed.column), ("lists/dm.csv".into(), Some("Concept Id".into())));
        for wrong in ["dm", "dm=snomed", "dm=snomed:", "DM=snomed:a.csv", "dm=snomed:a.csv:"] {
            assert!(wrong.parse::<CodelistFile>().is_err(), "{wrong}");
        }
    }
}
