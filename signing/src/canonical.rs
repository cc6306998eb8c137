//! The canonical tables: what every mapping presents and every manifest asks for, by name and type.

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// The patient, crossing as a run-local number.
    Patient,
    /// A code (system and text).
    Code,
    /// A day.
    Date,
    /// A finite number.
    Number,
    /// A local episode id, crossing as a number that is a keyed hash of it: the same in every table of a run.
    Episode,
    /// One of these names; a batch holds the position.
    Category(&'static [&'static str]),
    /// Host only: text that never crosses.
    Text,
    /// Host only: yes or no. In a clinical table, a row with a yes does not cross.
    Flag,
}

/// One column of a canonical table.
#[derive(Debug)]
pub struct CanonicalColumn {
    /// Its name in mappings and manifests.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnType,
    /// Whether a row must have a value.
    pub required: bool,
}

/// One canonical table.
#[derive(Debug)]
pub struct CanonicalTable {
    /// Its name in mappings and manifests.
    pub name: &'static str,
    /// Its columns, in their fixed order.
    pub columns: &'static [CanonicalColumn],
    /// Whether only the host may read it.
    pub host_only: bool,
    /// The date columns that a window may run over, the default one first.
    pub windows: &'static [&'static str],
}

impl CanonicalTable {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&'static CanonicalColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

const fn required(name: &'static str, kind: ColumnType) -> CanonicalColumn {
    CanonicalColumn { name, kind, required: true }
}

const fn optional(name: &'static str, kind: ColumnType) -> CanonicalColumn {
    CanonicalColumn { name, kind, required: false }
}

/// Categories of `sex` (NHS Data Dictionary, PERSON STATED GENDER CODE 2, 1, 9, X in this order).
pub const SEX: &[&str] = &["female", "male", "indeterminate", "unknown"];

/// Categories of `observation.kind`.
pub const KIND: &[&str] = &[
    "diagnosis",
    "finding",
    "measurement",
    "result",
    "procedure",
    "referral",
    "immunisation",
    "family-history",
    "administrative",
];

/// Categories of `episode.method`: how the patient was admitted.
pub const METHOD: &[&str] = &["elective", "emergency", "maternity", "transfer", "other"];

/// Categories of `episode-code.role`.
pub const ROLE: &[&str] = &["diagnosis", "procedure"];

use ColumnType::{Category, Code, Date, Episode, Flag, Number, Patient, Text};

/// Every canonical table.
pub const TABLES: &[CanonicalTable] = &[
    CanonicalTable {
        name: "patient",
        columns: &[
            required("patient", Patient),
            required("sex", Category(SEX)),
            required("birth-month", Date),
            optional("death-month", Date),
            optional("ethnicity", Code),
            optional("area", Code),
            optional("registered-from", Date),
            optional("registered-until", Date),
        ],
        host_only: false,
        windows: &[],
    },
    CanonicalTable {
        name: "observation",
        columns: &[
            required("patient", Patient),
            optional("effective", Date),
            required("recorded", Date),
            required("code", Code),
            optional("value", Number),
            optional("unit", Code),
            required("kind", Category(KIND)),
            optional("deleted", Flag),
            optional("confidential", Flag),
        ],
        host_only: false,
        windows: &["recorded", "effective"],
    },
    CanonicalTable {
        name: "medication",
        columns: &[
            required("patient", Patient),
            optional("issued", Date),
            required("recorded", Date),
            required("code", Code),
            optional("quantity", Number),
            optional("days", Number),
            optional("deleted", Flag),
            optional("confidential", Flag),
        ],
        host_only: false,
        windows: &["recorded", "issued"],
    },
    CanonicalTable {
        name: "episode",
        columns: &[
            required("patient", Patient),
            required("episode", Episode),
            required("admitted", Date),
            optional("discharged", Date),
            required("method", Category(METHOD)),
            optional("specialty", Code),
            optional("provider", Code),
            optional("deleted", Flag),
            optional("confidential", Flag),
        ],
        host_only: false,
        windows: &["discharged", "admitted"],
    },
    CanonicalTable {
        name: "episode-code",
        columns: &[
            required("patient", Patient),
            required("episode", Episode),
            required("discharged", Date),
            required("position", Number),
            required("code", Code),
            required("role", Category(ROLE)),
            optional("deleted", Flag),
            optional("confidential", Flag),
        ],
        host_only: false,
        windows: &["discharged"],
    },
    CanonicalTable {
        name: "identity",
        columns: &[
            required("patient", Text),
            optional("nhs-number", Text),
            required("birth-date", Date),
            required("sex", Category(SEX)),
            optional("postcode", Text),
            required("test", Flag),
            required("sensitive", Flag),
        ],
        host_only: true,
        windows: &[],
    },
    CanonicalTable {
        name: "objection-evidence",
        columns: &[
            required("patient", Text),
            required("code", Code),
            optional("effective", Date),
            optional("recorded", Date),
            required("deleted", Flag),
        ],
        host_only: true,
        windows: &[],
    },
];

/// The canonical table of this name.
pub fn table(name: &str) -> Option<&'static CanonicalTable> {
    TABLES.iter().find(|table| table.name == name)
}
