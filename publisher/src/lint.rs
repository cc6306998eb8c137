//! What is allowed in a manifest and still worth a second look before it is signed.

use jiff::civil::Date;
use lockgate_signing::code::CodeShape;
use lockgate_signing::manifest::{Manifest, OutputType, Span};

/// A remark on a manifest, or on what is offered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Warning {
    /// The manifest's key, or the module and version.
    pub place: String,
    /// What stands out, and what would be better.
    pub why: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: {}", self.place, self.why)
    }
}

/// The widest limits that draw no remark.
const MEMORY_MIB_USUAL: u32 = 128;
const WALL_CLOCK_S_USUAL: u32 = 1_800;
const FUEL_USUAL: u64 = 1_000_000_000_000;
const OUTPUT_ROWS_USUAL: u64 = 50_000_000;
/// Different values of one number column that draw no remark: fewer than the ten digits of an NHS number make.
const NUMBER_VALUES_USUAL: f64 = 1e10;
/// Categories of one column that draw no remark.
const CATEGORIES_USUAL: usize = 64;

/// How the legal basis of a module begins that was laid out and not finished.
const NO_LEGAL_BASIS: &str = "None yet: write here";

/// Reads a manifest as a sceptical reviewer would.
pub fn warnings(manifest: &Manifest, today: Date) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |place: String, why: &str| warnings.push(Warning { place, why: why.to_owned() });

    if manifest.legal_basis.starts_with(NO_LEGAL_BASIS) {
        warn(
            "legal-basis".into(),
            "is still what `module new` wrote; name the law or direction, in a sentence",
        );
    } else if manifest.legal_basis.split_whitespace().count() < 4 {
        warn("legal-basis".into(), "a practice reads this; name the law or direction, in a sentence");
    }
    if manifest.title.split_whitespace().count() < 2 {
        warn("title".into(), "a practice reads this; say in a few words what is collected");
    }
    if manifest.not_after > today.saturating_add(jiff::Span::new().years(2)) {
        warn(
            "not-after".into(),
            "more than two years ahead; a module that is needed longer is published again",
        );
    }

    let limits = &manifest.limits;
    for (place, is_wide) in [
        ("limits.memory-mib", limits.memory_mib > MEMORY_MIB_USUAL),
        ("limits.wall-clock-s", limits.wall_clock_s > WALL_CLOCK_S_USUAL),
        ("limits.fuel", limits.fuel > FUEL_USUAL),
        ("limits.output-rows", limits.output_rows > OUTPUT_ROWS_USUAL),
    ] {
        if is_wide {
            warn(place.into(), "unusually wide; a limit is what stops a module that goes wrong");
        }
    }

    for (name, codes) in &manifest.codelists {
        for system in codes.keys().filter(|system| CodeShape::of_known_system(system.as_str()).is_none()) {
            let known = CodeShape::KNOWN_SYSTEMS.map(|(name, _)| name).join(", ");
            warn(
                format!("codelist.{name}.{system}"),
                &format!(
                    "only sites whose mapping declares `{system}` find these codes; every site knows {known}"
                ),
            );
        }
        if !manifest.inputs.values().any(|input| input.codelists.contains(name)) {
            warn(
                format!("codelist.{name}"),
                "no input is filtered by it: the module must ask for it itself, or it can go",
            );
        }
    }
    for (name, input) in &manifest.inputs {
        if input.span == Some(Span::All) && input.codelists.is_empty() {
            warn(
                format!("input.{name}"),
                "reads the whole history of every code; a codelist or a span narrows it",
            );
        }
    }
    for (name, output) in &manifest.outputs {
        for column in &output.columns {
            let place = format!("output.{name}.columns.{}", column.name);
            if let Some(why) = column_remark(column.name.as_str(), &column.kind) {
                warn(place, why);
            }
        }
    }
    warnings
}

/// Identifiers can leave in the shape of numbers, dates and categories: a column says how much it can hold.
fn column_remark(name: &str, kind: &OutputType) -> Option<&'static str> {
    match kind {
        OutputType::Number { min, max, decimals }
            if (max - min) * 10_f64.powi(i32::from(*decimals)) >= NUMBER_VALUES_USUAL =>
        {
            Some("wide enough to hold a ten-digit number such as an NHS number; narrow min, max or decimals")
        }
        OutputType::Category { categories } if categories.len() > CATEGORIES_USUAL => {
            Some("very many categories; a code system may be meant")
        }
        OutputType::Date { month: false, .. } if name.contains("birth") => {
            Some("a full date of birth never reaches a module; set `month = true`")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lockgate_signing::text_format::TextFormat as _;

    use super::*;

    #[test]
    fn what_the_scaffold_leaves_open_is_remarked() {
        let day = jiff::civil::date(2026, 11, 1);
        let text = include_str!("workshop/template/module.toml");
        let text = text.replace("{{name}}", "wheeze").replace("{{not-after}}", "2027-10-31");
        let remarks = |text: &str| warnings(&Manifest::decode(text.as_bytes()).unwrap(), day);
        let places: Vec<_> = remarks(&text).into_iter().map(|warning| warning.place).collect();
        assert_eq!(places, ["legal-basis"]);
        let finished =
            text.replace("None yet: write here, in a sentence", "Regulations 7 of 2026, a sentence");
        assert_eq!(remarks(&finished), []);
    }
}
