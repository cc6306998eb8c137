//! What manifests, mappings, policies and sensitive lists have in common: TOML, one format version, a name and a
//! semantic version, unknown keys refused, and checks that name the place and the remedy.

use jiff::civil::Date;
use semver::Version;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::code::{CodeShape, CodesBySystem, normalise_code};
use crate::ids::Name;

/// The largest file of this kind, bytes.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// What every such file says of itself.
#[derive(Debug)]
pub struct Named<'a> {
    /// The format version.
    pub format: u32,
    /// The id.
    pub id: &'a Name,
    /// The version.
    pub version: &'a Version,
}

/// A signed text file.
pub trait TextFormat: DeserializeOwned + Serialize {
    /// What to call it in messages.
    const WHAT: &'static str;

    /// What it says of itself.
    fn named(&self) -> Named<'_>;

    /// What the types do not say.
    fn check(&self) -> Result<(), TextFormatError>;

    /// Decodes and checks the bytes of a file.
    fn decode(bytes: &[u8]) -> Result<Self, TextFormatError> {
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(TextFormatError::at(
                Self::WHAT,
                "size",
                &format!("more than {TEXT_BYTES_MAX} bytes"),
            ));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|_| TextFormatError::at(Self::WHAT, "bytes", "the file is not UTF-8 text"))?;
        let decoded: Self = toml::from_str(text).map_err(|cause| TextFormatError::Syntax {
            what: Self::WHAT,
            // The parser of versions says what it stumbled over, not what it wants.
            hint: if cause.message().contains("version number") {
                "; a version has three numbers: 1.0.0"
            } else {
                ""
            },
            cause: Box::new(cause),
        })?;
        if decoded.named().format != 1 {
            return Err(TextFormatError::at(
                Self::WHAT,
                "format",
                "this version knows only format 1; update the program",
            ));
        }
        decoded.check()?;
        Ok(decoded)
    }

    /// Encodes it. Only what the publisher writes goes this way; what is verified is always the received bytes.
    fn encode(&self) -> Result<String, TextFormatError> {
        toml::to_string(self)
            .map_err(|source| TextFormatError::at(Self::WHAT, "encoding", &source.to_string()))
    }
}

/// A signed text file is wrong.
#[derive(Debug, thiserror::Error)]
pub enum TextFormatError {
    /// Not TOML, or not of this shape.
    #[error("the {what} cannot be read: {cause}{hint}")]
    Syntax {
        /// Which kind of file.
        what: &'static str,
        /// What would be right, where the cause does not say it.
        hint: &'static str,
        /// Where and why.
        cause: Box<toml::de::Error>,
    },
    /// A value that does not fit.
    #[error("{what}: `{place}`: {why}")]
    Value {
        /// Which kind of file.
        what: &'static str,
        /// The key.
        place: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl TextFormatError {
    /// An error at one key.
    pub fn at(what: &'static str, place: &str, why: &str) -> Self {
        Self::Value { what, place: place.to_owned(), why: why.to_owned() }
    }
}

/// A line for people: 1 to 300 printable characters.
pub(crate) fn check_line(what: &'static str, place: &str, text: &str) -> Result<(), TextFormatError> {
    if text.trim().is_empty() || text.len() > 300 || text.chars().any(char::is_control) {
        return Err(TextFormatError::at(what, place, "one line of 1 to 300 characters"));
    }
    Ok(())
}

/// Two days in their order; either may be open.
pub(crate) fn check_days(
    what: &'static str,
    place: &str,
    not_before: Option<Date>,
    not_after: Option<Date>,
) -> Result<(), TextFormatError> {
    if let (Some(first), Some(last)) = (not_before, not_after)
        && first > last
    {
        let why = format!("`not-before` {first} lies after `not-after` {last}");
        return Err(TextFormatError::at(what, place, &why));
    }
    Ok(())
}

/// Codes of the systems that every site knows have the shape of their system, so that a typing error is found before
/// it is signed.
pub(crate) fn check_codes(
    what: &'static str,
    place: &str,
    codes: &CodesBySystem,
) -> Result<(), TextFormatError> {
    if codes.values().all(Vec::is_empty) {
        return Err(TextFormatError::at(what, place, "holds no code"));
    }
    for (system, texts) in codes {
        let Some(shape) = CodeShape::of_known_system(system.as_str()) else { continue };
        if let Some(text) = texts.iter().find(|text| !shape.fits(&normalise_code(shape, text))) {
            let why = format!("`{text}` is not a {system} code: {}", shape.in_words());
            return Err(TextFormatError::at(what, place, &why));
        }
    }
    Ok(())
}
