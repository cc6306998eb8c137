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
