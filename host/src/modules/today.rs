//! The day, as this computer's clock says it and as the registry's signers vouch for it.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use lockgate_trust::Registry;

/// The day, twice.
///
/// Something that has a first and a last day stands only where both days lie within: a clock that is ahead must not begin
/// early what thousands of sites begin together, or let objectors in before a direction is in force; and a day that the
/// signers say is over is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Today {
    /// What this computer's clock says.
    pub clock: Date,
    /// The day on which the registry was signed last; absent where its timestamp does not say.
    pub signed: Option<Date>,
}

impl Today {
    /// The day on this clock, for what this registry says.
    pub fn new(clock: Date, registry: &Registry) -> Self {
        let signed = registry.signed_at().map(|at| at.to_zoned(TimeZone::UTC).date());
        Self { clock, signed }
    }

    /// Whether something stands: on both days.
    pub fn is_within(self, stands_on: impl Fn(Date) -> bool) -> bool {
        stands_on(self.clock) && self.signed.is_none_or(stands_on)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn something_begins_when_both_say_so_and_ends_when_either_does() {
        let november = |day: Date| (date(2026, 11, 1)..=date(2026, 11, 30)).contains(&day);
        let stands = |clock, signed| Today { clock, signed }.is_within(november);
        let (before, first, last, after) =
            (date(2026, 10, 31), date(2026, 11, 1), date(2026, 11, 30), date(2026, 12, 1));
        assert!(stands(first, Some(first)) && stands(last, Some(first)) && stands(first, None));
        assert!(!stands(first, Some(before)), "the clock is ahead");
        assert!(!stands(before, Some(first)), "the clock is behind");
        assert!(!stands(after, Some(last)) && !stands(last, Some(after)));
        assert!(!stands(before, None) && !stands(after, None));
    }
}
