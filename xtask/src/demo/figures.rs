//! Figures: numbers by module, month and name, as an agent reports them and as SQL finds them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What a number counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) module: String,
    /// For example `2026-10`.
    pub(super) period: String,
    /// A count of the bundle's header, `sent OUTPUT`, `tokens` or `evidence SYSTEM CODE YEAR`.
    pub(super) name: String,
}

/// Numbers that are not zero.
pub(super) type Figures = BTreeMap<Place, i64>;

/// Two numbers that should be one.
#[derive(Debug, Clone)]
pub(super) struct Difference {
    /// Where: site, module, month and name.
    pub(super) what: String,
    /// What the agent or the linker says.
    pub(super) reported: String,
    /// What SQL, or the other side, says.
    pub(super) expected: String,
}

/// The bundles that an agent printed, each with its module's name.
pub(super) fn bundles(printed: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let modules = printed["modules"].as_array().into_iter().flatten();
    modules.flat_map(|module| {
        let name = module["module"].as_str().unwrap_or_default();
        module["bundles"].as_array().into_iter().flatten().map(move |bundle| (name, bundle))
    })
}

/// The figures that an agent printed. A module that failed is an error.
pub(super) fn reported(printed: &Value) -> Result<Figures> {
    if let Some(failed) =
        printed["modules"].as_array().into_iter().flatten().find(|it| it["error"].is_string())
    {
        bail!("{}: {}", failed["module"], failed["error"]);
    }
    let mut figures = Figures::new();
    for (module, bundle) in bundles(printed) {
        let period = bundle["period"].as_str().context("a bundle has no period")?;
        let mut put = |name: String, value: &Value| -> Result<()> {
            let value = value.as_i64().with_context(|| format!("{module} {period} {name} is no number"))?;
            let place = Place { module: module.to_owned(), period: period.to_owned(), name };
            if value != 0 {
                figures.insert(place, value);
            }
            Ok(())
        };
        for (name, value) in bundle["counts"].as_object().context("a bundle has no counts")? {
            // Which units are UCUM is a grammar, and not one for SQL.
            if name == "values-malformed" {
                continue;
            }
            match value.as_object() {
                Some(evidence) => {
                    // How many rows were read depends on how a supplier files its codes, and is the mapping's affair.
                    for (name, value) in evidence.iter().filter(|(_, value)| value.is_number()) {
                        if name == "rows" {
                            continue;
                        }
                        put(format!("evidence {name}"), value)?;
                    }
                    for entry in evidence["by-code"].as_array().into_iter().flatten() {
                        let (system, code) = (entry["system"].as_str(), entry["code"].as_str());
                        let code = system.zip(code).map(|(system, code)| format!("{system} {code}"));
                        let year = entry["year"].as_i64().map_or("-".to_owned(), |year| year.to_string());
                        let name = code.map(|code| format!("evidence {code} {year}"));
                        put(name.context("evidence without a code")?, &entry["entries"])?;
                    }
                }
                None => put(name.clone(), value)?,
            }
        }
        for output in bundle["outputs"].as_array().into_iter().flatten() {
            put(format!("sent {}", output["name"].as_str().unwrap_or_default()), &output["rows"])?;
        }
        put("tokens".to_owned(), &bundle["patients-sent"])?;
    }
    Ok(figures)
}

/// Where the two differ.
pub(super) fn differences(site: &str, reported: &Figures, truth: &Figures) -> Vec<Difference> {
    let places: BTreeSet<&Place> = reported.keys().chain(truth.keys()).collect();
    let of = |figures: &Figures, place: &Place| figures.get(place).copied().unwrap_or_default();
    let different = places.into_iter().filter(|place| of(reported, place) != of(truth, place));
    let difference = |place: &Place| Difference {
        what: format!("{site} {} {} {}", place.module, place.period, place.name),
        reported: of(reported, place).to_string(),
        expected: format!("{} by SQL", of(truth, place)),
    };
    different.map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_one_side_lacks_differs_unless_it_is_zero() {
        let place =
            |name: &str| Place { module: "m".into(), period: "2026-10".into(), name: name.to_owned() };
        let reported = Figures::from([(place("a"), 1), (place("b"), 2)]);
        let truth = Figures::from([(place("a"), 1), (place("c"), 0), (place("d"), 3)]);
        let found = differences("A81001", &reported, &truth);
        let what: Vec<&str> = found.iter().map(|it| it.what.as_str()).collect();
        assert_eq!(what, ["A81001 m 2026-10 b", "A81001 m 2026-10 d"]);
    }
}
