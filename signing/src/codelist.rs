//! A codelist as a published document: reviewed once, used by several modules.
//!
//! A site never resolves one: the publisher writes its codes into the manifest that is signed, so that a practice sees
//! in one file everything that a module selects by.

use std::collections::BTreeSet;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::code::{CodeShape, CodesBySystem, normalise_code};
use crate::ids::Name;
use crate::text_format::{self, Named, TextFormat, TextFormatError};

/// Codes with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Codelist {
    /// Always 1.
    pub format: u32,
    /// The codelist's id.
    pub id: Name,
    /// The codelist's version.
    pub version: Version,
    /// One line for people.
    pub title: String,
    /// The codes by system.
    pub codes: CodesBySystem,
}

impl TextFormat for Codelist {
    const WHAT: &'static str = "codelist";

    fn named(&self) -> Named<'_> {
        Named { format: self.format, id: &self.id, version: &self.version }
    }

    fn check(&self) -> Result<(), TextFormatError> {
        text_format::check_line(Self::WHAT, "title", &self.title)?;
        text_format::check_codes(Self::WHAT, "codes", &self.codes)?;
        for (system, texts) in &self.codes {
            let shape = CodeShape::of_known_system(system.as_str());
            let mut seen = BTreeSet::new();
            for text in texts {
                // Compared as a site compares them: `9Nu0` and `9Nu0.` are one Read code.
                let code = shape.map_or_else(|| text.clone(), |shape| normalise_code(shape, text));
                if !seen.insert(code) {
                    let place = format!("codes.{system}");
                    return Err(TextFormatError::at(Self::WHAT, &place, &format!("`{text}` is named twice")));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "format = 1\nid = \"diabetes\"\nversion = \"1.0.0\"\ntitle = \"Diabetes\"\n[codes]\n";

    #[test]
    fn a_codelist_is_read_and_written() {
        let text = format!("{HEAD}snomed = [\"44054006\"]\nread2 = [\"C10F.\", \"C10E\"]\n");
        let list = Codelist::decode(text.as_bytes()).unwrap();
        assert_eq!(Codelist::decode(list.encode().unwrap().as_bytes()).unwrap(), list);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error =
            |codes: &str| Codelist::decode(format!("{HEAD}{codes}").as_bytes()).unwrap_err().to_string();
        assert!(error("").contains("holds no code"));
        assert!(error("snomed = [\"44054007\"]").contains("`44054007` is not a snomed code"));
        assert!(error("read2 = [\"C10F.\", \"C10F\"]").contains("`C10F` is named twice"));
    }
}
