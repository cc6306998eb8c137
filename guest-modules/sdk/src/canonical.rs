//! The categories of the canonical tables, as positions: a batch holds the number.

/// `patient.sex` (NHS Data Dictionary, PERSON STATED GENDER CODE 2, 1, 9, X in this order).
pub mod sex {
    /// Female.
    pub const FEMALE: u8 = 0;
    /// Male.
    pub const MALE: u8 = 1;
    /// Indeterminate.
    pub const INDETERMINATE: u8 = 2;
    /// Not known.
    pub const UNKNOWN: u8 = 3;
}

/// `observation.kind`.
pub mod kind {
    /// A diagnosis.
    pub const DIAGNOSIS: u8 = 0;
    /// A finding.
    pub const FINDING: u8 = 1;
    /// A measurement.
    pub const MEASUREMENT: u8 = 2;
    /// A laboratory result.
    pub const RESULT: u8 = 3;
    /// A procedure.
    pub const PROCEDURE: u8 = 4;
    /// A referral.
    pub const REFERRAL: u8 = 5;
    /// An immunisation.
    pub const IMMUNISATION: u8 = 6;
    /// Family history.
    pub const FAMILY_HISTORY: u8 = 7;
    /// Administration.
    pub const ADMINISTRATIVE: u8 = 8;
}

/// `episode.method`: how the patient was admitted.
pub mod method {
    /// Elective.
    pub const ELECTIVE: u8 = 0;
    /// Emergency.
    pub const EMERGENCY: u8 = 1;
    /// Maternity.
    pub const MATERNITY: u8 = 2;
    /// Transfer.
    pub const TRANSFER: u8 = 3;
    /// Other.
    pub const OTHER: u8 = 4;
}

/// `episode-code.role`.
pub mod role {
    /// A diagnosis.
    pub const DIAGNOSIS: u8 = 0;
    /// A procedure.
    pub const PROCEDURE: u8 = 1;
}
