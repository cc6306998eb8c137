//! Days since 1970-01-01 and the Gregorian calendar, without a clock and without a library.
//!
//! `civil` and `days` are Howard Hinnant's `civil_from_days` and `days_from_civil` ("chrono-Compatible Low-Level Date
//! Algorithms").

/// Year, month (1 to 12) and day (1 to 31) of a day.
pub fn civil(day: i32) -> (i32, u32, u32) {
    let shifted = i64::from(day) + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as u32, day as u32)
}

/// The day of a year, month (1 to 12) and day (1 to 31).
pub const fn days(year: i32, month: u32, day: u32) -> i32 {
    let year = year as i64 - (month <= 2) as i64;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month as i64 + 9) % 12;
    let of_year = (153 * month_from_march + 2) / 5 + day as i64 - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    (era * 146_097 + of_era - 719_468) as i32
}

/// The first day of a day's month.
pub fn month_first(day: i32) -> i32 {
    let (year, month, _) = civil(day);
    days(year, month, 1)
}

/// The same day this many months later (earlier when negative), or the last day of that month where it is shorter.
pub fn add_months(day: i32, months: i32) -> i32 {
    let (year, month, of_month) = civil(day);
    let first_of = |count: i32| days(count.div_euclid(12), count.rem_euclid(12) as u32 + 1, 1);
    let count = year * 12 + month as i32 - 1 + months;
    let last = first_of(count + 1) - 1;
    last.min(first_of(count) + of_month as i32 - 1)
}

/// Whole years from one day to a later one: an age. Negative when the second is earlier.
pub fn years_between(from: i32, to: i32) -> i32 {
    let (from_year, from_month, from_day) = civil(from);
    let (to_year, to_month, to_day) = civil(to);
    to_year - from_year - i32::from((to_month, to_day) < (from_month, from_day))
}

/// The day of an ISO text, `2026-01-31`; `None` when it is none.
pub fn parse(text: &str) -> Option<i32> {
    let mut parts = text.split('-');
    let year: i32 = parts.next()?.parse().ok()?;
    let month: u32 = parts.next()?.parse().ok()?;
    let day: u32 = parts.next()?.parse().ok()?;
    let parsed = days(year, month, day);
    ((1..=12).contains(&month) && parts.next().is_none() && civil(parsed) == (year, month, day))
        .then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        for (day, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (20_454, (2026, 1, 1)),
            (-27_393, (1895, 1, 1)),
        ] {
            assert_eq!(civil(day), date);
            assert_eq!(days(date.0, date.1, date.2), day);
        }
    }

    #[test]
    fn every_day_of_five_centuries_goes_there_and_back() {
        let mut before = civil(-100_001);
        for day in -100_000..100_000 {
            let date = civil(day);
            assert!(date > before);
            assert_eq!(days(date.0, date.1, date.2), day);
            before = date;
        }
    }

    #[test]
    fn months_end_where_the_calendar_says() {
        let day = |text| parse(text).unwrap();
        assert_eq!(add_months(day("2026-01-31"), 1), day("2026-02-28"));
        assert_eq!(add_months(day("2024-01-31"), 1), day("2024-02-29"));
        assert_eq!(add_months(day("2026-01-15"), -15), day("2024-10-15"));
        assert_eq!(add_months(day("2026-12-31"), 12), day("2027-12-31"));
        assert_eq!(month_first(day("2026-03-31")), day("2026-03-01"));
        assert_eq!(years_between(day("1980-02-01"), day("2026-01-31")), 45);
        assert_eq!(years_between(day("1980-02-01"), day("2026-02-01")), 46);
        assert_eq!(parse("2026-02-29"), None);
        assert_eq!(parse("2026-1"), None);
    }
}
