//! The months that are made, and days as the texts that a database holds.

use jiff::civil::{Date, date};
use jiff::{Span, ToSpan};

use crate::error::PracticeError;

/// Days before and after the months that a row may refer to (late entries, future appointments).
const MARGIN_DAYS: i32 = 400;

/// The months that events fall in, with every day's ISO text made once.
#[derive(Debug)]
pub struct Calendar {
    /// The first day.
    pub first: Date,
    /// The day after the last.
    pub end: Date,
    margin_start: Date,
    texts: Vec<String>,
    days: usize,
}

impl Calendar {
    /// The complete months before a day.
    pub fn before(as_of: Date, months: u32) -> Result<Self, PracticeError> {
        if !(date(1990, 1, 1)..=date(2200, 1, 1)).contains(&as_of) {
            return Err(PracticeError::argument("--as-of", "a day between 1990-01-01 and 2200-01-01"));
        }
        if !(1..=600).contains(&months) {
            return Err(PracticeError::argument("--months", "1 to 600"));
        }
        let end = as_of.first_of_month();
        let first = end.saturating_sub(i64::from(months).months());
        let margin_start = add_days(first, -MARGIN_DAYS);
        let last = add_days(end, MARGIN_DAYS);
        let texts = margin_start.series(1.day()).take_while(|day| *day <= last).map(|day| day.to_string());
        Ok(Self { first, end, margin_start, texts: texts.collect(), days: days_between(first, end) as usize })
    }

    /// How many days the months have.
    pub fn days(&self) -> usize {
        self.days
    }

    /// The ISO text of a day, counted from the first; up to 400 days outside the months.
    pub fn iso(&self, day: i32) -> &str {
        let last = self.texts.len() as i32 - 1;
        &self.texts[(day + MARGIN_DAYS).clamp(0, last) as usize]
    }

    /// 0 for Monday to 6 for Sunday.
    pub fn weekday(&self, day: i32) -> i32 {
        let monday_based = i32::from(self.margin_start.weekday().to_monday_zero_offset());
        (monday_based + day + MARGIN_DAYS).rem_euclid(7)
    }
}

/// A day some days later or, if negative, earlier.
pub fn add_days(day: Date, days: i32) -> Date {
    day.saturating_add(Span::new().days(days))
}

/// Days from the first to the second.
pub fn days_between(first: Date, second: Date) -> i32 {
    (second - first).get_days()
}

/// `31/10/2026`, as an English system exports the dates of a patient's registration.
pub fn day_month_year(day: Date) -> String {
    format!("{:02}/{:02}/{:04}", day.day(), day.month(), day.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_month_is_the_last_complete_one() {
        for (as_of, end) in [(date(2026, 11, 1), "2026-10-31"), (date(2026, 11, 30), "2026-10-31")] {
            let calendar = Calendar::before(as_of, 4).unwrap();
            assert_eq!(calendar.iso(0), "2026-07-01");
            assert_eq!(calendar.iso(calendar.days() as i32 - 1), end);
            assert_eq!(calendar.weekday(0), 2, "1 July 2026 is a Wednesday");
        }
        assert!(Calendar::before(date(2026, 11, 1), 0).is_err());
    }
}
