//! Which periods a module is due for. Deciding is separate from doing, so that a plan can be shown.

use jiff::civil::Date;
use lockgate_signing::ids::Period;
use lockgate_signing::manifest::{Input, Manifest, Span};

use crate::ledger::Ledger;
use crate::source::Window;

/// One period of a module that is to be extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanStep {
    /// The month.
    pub period: Period,
    /// Whether it was sent before: then it is sent again only if it changed.
    pub again: bool,
}

/// The periods that are due, oldest first.
///
/// A first run covers the manifest's initial months up to the last complete one (`earliest` gives where "all" begins); later
/// runs go on after the last period that was sealed, and look back as far as the manifest says.
pub fn due(manifest: &Manifest, ledger: &Ledger, today: Date, earliest: Option<Period>) -> Vec<PlanStep> {
    let last = Period::of(today).previous();
    let sealed = |period: Period| ledger.latest(&manifest.id, period).is_some();
    let newest = ledger.sealed().filter(|entry| *entry.module == manifest.id).map(|entry| entry.period).max();
    let first = match (newest, manifest.window.initial) {
        (Some(newest), _) => back(newest.next().min(last.next()), manifest.window.look_back),
        (None, Span::Months(months)) => back(last.next(), months),
        (None, Span::All) => earliest.unwrap_or(last),
        (None, Span::Period) => last,
    };
    let periods = std::iter::successors(Some(first), |period| Some(period.next()));
    let periods = periods.take_while(|period| *period <= last);
    let steps = periods.map(|period| PlanStep { period, again: sealed(period) });
    // A module that starts later than its look-back reaches is not asked for months before its first.
    let oldest = ledger.sealed().filter(|entry| *entry.module == manifest.id).map(|entry| entry.period).min();
    steps.filter(|step| oldest.is_none_or(|oldest| step.period >= oldest)).collect()
}

fn back(from: Period, months: u32) -> Period {
    (0..months).fold(from, |period, _| period.previous())
}

/// The window of an input in a period; `None` for a table without dates.
pub(crate) fn window<'a>(input: &'a Input, period: Period) -> Option<Window<'a>> {
    let column = input.window_column()?;
    let last = period.last_day();
    let first = match input.span? {
        Span::Period => Some(period.first_day()),
        Span::Months(months) => Some(back(period.next(), months).first_day()),
        Span::All => None,
    };
    Some(Window { column, first, last })
}

#[cfg(test)]
mod tests {
    use lockgate_signing::text_format::TextFormat as _;

    use super::*;
    use crate::ledger::Event;

    const MANIFEST: &str = r#"
        format = 1
        id = "m"
        version = "1.0.0"
        title = "A module"
        purpose = "p"
        legal-basis = "None"
        interface = "lockgate:extract@1.0.0"
        sites = "practice"
        not-after = "2030-01-01"
        window = { initial = "4 months", look-back = 1 }
        limits = { memory-mib = 1, fuel = 1, wall-clock-s = 1, output-rows = 1 }
        tokens = { link = [] }
        input.o = { table = "observation", columns = ["patient"], span = "3 months" }
        output.o = { columns = [{ name = "patient", type = "patient" }] }
    "#;

    fn steps(sealed: &[&str], today: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&folder.path().join("ledger.jsonl")).unwrap();
        for (sequence, period) in (1..).zip(sealed) {
            let event = Event::Sealed {
                bundle: "0".repeat(64),
                sequence,
                module: "m".parse().unwrap(),
                version: semver::Version::new(1, 0, 0),
                period: period.parse().unwrap(),
                epoch: 1,
                rows: 0,
                bytes: 0,
                dissents: 0,
                directions: Vec::new(),
                content: String::new(),
            };
            ledger.append(jiff::Timestamp::UNIX_EPOCH, event).unwrap();
        }
        let manifest = Manifest::decode(MANIFEST.as_bytes()).unwrap();
        let due = due(&manifest, &ledger, today.parse().unwrap(), None);
        due.iter().map(|step| format!("{}{}", step.period, if step.again { " again" } else { "" })).collect()
    }

    #[test]
    fn a_first_run_covers_the_initial_months_and_a_later_one_goes_on() {
        assert_eq!(steps(&[], "2026-03-15"), ["2025-11", "2025-12", "2026-01", "2026-02"]);
        assert_eq!(steps(&["2026-01"], "2026-02-28"), ["2026-01 again"]);
        assert_eq!(steps(&["2026-01"], "2026-03-01"), ["2026-01 again", "2026-02"]);
        // An agent that was away for months makes up for all of them.
        assert_eq!(steps(&["2026-01"], "2026-05-01"), ["2026-01 again", "2026-02", "2026-03", "2026-04"]);
        // A clock that went back asks for nothing that was not complete then.
        assert_eq!(steps(&["2026-04"], "2026-03-01"), Vec::<String>::new());
    }

    #[test]
    fn an_input_reaches_back_as_far_as_it_says() {
        let manifest = Manifest::decode(MANIFEST.as_bytes()).unwrap();
        let input = manifest.inputs.values().next().unwrap();
        let window = window(input, "2026-02".parse().unwrap()).unwrap();
        assert_eq!(window.column, "recorded");
        assert_eq!(window.first.unwrap().to_string(), "2025-12-01");
        assert_eq!(window.last.to_string(), "2026-02-28");
    }
}
