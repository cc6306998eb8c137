//! Units: the part of UCUM (Unified Code for Units of Measure, version 2.2) that clinical results are written in.
//!
//! UCUM lets a unit carry any text in braces, and a unit column is where a supplier may put a word. So a unit is taken
//! only if it is made of atoms that are listed here, with prefixes where the atom is metric, and of the listed annotations.

/// Atoms that take a prefix (UCUM tables 4 to 20, "metric: yes").
const METRIC: &[&str] = &[
    "m", "s", "g", "rad", "K", "C", "cd", "mol", "sr", "Hz", "N", "Pa", "J", "W", "A", "V", "F", "Ohm", "S",
    "Wb", "Cel", "T", "H", "lm", "lx", "Bq", "Gy", "Sv", "l", "L", "bar", "eq", "osm", "kat", "U", "[iU]",
    "[IU]", "m[Hg]", "m[H2O]", "cal", "t", "u", "eV", "B",
];

/// Atoms that take none.
const PLAIN: &[&str] = &[
    "%", "deg", "min", "h", "d", "a", "wk", "mo", "[pH]", "pH", "[degF]", "[in_i]", "[ft_i]", "[lb_av]",
    "[oz_av]", "[st_av]", "[arb'U]", "[CFU]", "[drp]", "[ppm]", "[ppb]", "[HPF]", "[LPF]", "10*", "10^",
];

const PREFIXES: &[&str] =
    &["Y", "Z", "E", "P", "T", "G", "M", "k", "h", "da", "d", "c", "m", "u", "n", "p", "f", "a", "z", "y"];

/// Annotations in common laboratory use. Any other text in braces is text.
const ANNOTATIONS: &[&str] = &[
    "{score}",
    "{nominal}",
    "{count}",
    "{ratio}",
    "{#}",
    "{INR}",
    "{presence}",
    "{logmar}",
    "{SG}",
    "{T-score}",
    "{Z-score}",
    "{1.73_m2}",
    "{cells}",
    "{copies}",
    "{titer}",
    "{beats}",
    "{breaths}",
    "{index}",
    "{pH}",
];

/// The longest unit, bytes.
const BYTES_MAX: usize = 24;

/// Whether a text is a unit.
pub(crate) fn is_unit(text: &str) -> bool {
    let body = text.strip_prefix('/').unwrap_or(text);
    !body.is_empty() && text.len() <= BYTES_MAX && split_terms(body).all(is_component)
}

/// The parts between `/` and `.`, those within brackets and braces aside.
fn split_terms(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |letter| {
        match letter {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        depth == 0 && matches!(letter, '/' | '.')
    })
}

/// An atom with prefix, exponent and annotation, a small number, or an annotation alone.
fn is_component(text: &str) -> bool {
    let (unit, annotation) = text.find('{').map_or((text, ""), |at| text.split_at(at));
    if !annotation.is_empty() && !ANNOTATIONS.contains(&annotation) {
        return false;
    }
    if unit.is_empty() {
        return !annotation.is_empty();
    }
    // A factor, as in `mL/min/1.73.m2` or `/100.{cells}`: at most three digits, so that it is no number of anybody.
    if unit.len() <= 3 && unit.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    let stem = unit.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let exponent = &unit[stem.len()..];
    let stem = stem.strip_suffix(['-', '+']).filter(|_| !exponent.is_empty()).unwrap_or(stem);
    exponent.len() <= 2 && is_simple(stem)
}

fn is_simple(stem: &str) -> bool {
    PLAIN.contains(&stem)
        || METRIC.contains(&stem)
        || PREFIXES.iter().any(|prefix| stem.strip_prefix(prefix).is_some_and(|atom| METRIC.contains(&atom)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_real_results_are_units_and_words_are_not() {
        for unit in [
            "mm[Hg]",
            "/min",
            "{score}",
            "kg",
            "mg/dL",
            "cm",
            "kg/m2",
            "%",
            "mmol/L",
            "fL",
            "g/dL",
            "10*3/uL",
            "U/L",
            "{#}",
            "pg",
            "kU/L",
            "mL/min",
            "Cel",
            "pH",
            "[pH]",
            "mL/min/{1.73_m2}",
            "s",
            "ug/L",
            "[iU]/L",
            "m[IU]/L",
            "K/uL",
            "10*9/L",
            "mmol/mol",
            "ng/mL",
            "umol/L",
            "10*-3",
            "meq/L",
            "[degF]",
            "mL/min/1.73.m2",
            "/100.{cells}",
            "kcal/d",
            "wk",
        ] {
            assert!(is_unit(unit), "{unit}");
        }
        for text in [
            "Smith",
            "John",
            "see",
            "notes",
            "{john}",
            "kg{Smith}",
            "9434765919",
            "943/476/5919",
            "SW1A2AA",
            "",
            "/",
            "kg//m",
            "kg m",
            "[Smith]",
            "m123",
            "tablet",
            "x",
            "a.b.c",
            "Ann/Mary",
            "{",
            "}",
            "mg{",
            "É",
        ] {
            assert!(!is_unit(text), "{text}");
        }
    }
}
