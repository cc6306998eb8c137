//! Objections of every kind: what real records hold, and what they must not be confused with.
//!
//! Each case also says what has to come of it under the published policy (`examples/registry/policies/objections.toml`),
//! so that tests can count.

use jiff::ToSpan;
use jiff::civil::Date;

use crate::calendar::add_days;
use crate::codes::system::{CTV3, READ2, SNOMED};

/// When an entry says that it holds.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// On a day.
    On(&'static str),
    /// In a month or a year only.
    In(&'static str),
    /// No date.
    Undated,
    /// The supplier's text for no date.
    Sentinel,
    /// Some days from the day of the run; negative: before it.
    Days(i32),
}

/// One coded entry of a case.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// A supplier's name of the code system.
    pub system: &'static str,
    /// The code as it stands in the row.
    pub code: &'static str,
    /// Its effective date.
    pub when: When,
    /// Whether somebody deleted it.
    pub deleted: bool,
}

/// What one patient's record says about objections.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What it is about.
    pub name: &'static str,
    /// Whether it is a Type 1 objection.
    pub type_1: bool,
    /// Whether it is a Type 2 objection.
    pub type_2: bool,
    /// How common it is among those that object.
    pub weight: u64,
    /// The entries.
    pub entries: &'static [Entry],
}

impl Entry {
    /// The effective date as it stands in the row.
    pub fn effective(&self, as_of: Date) -> String {
        match self.when {
            When::On(text) | When::In(text) => text.to_owned(),
            When::Undated => String::new(),
            When::Sentinel => "1800-01-01".to_owned(),
            When::Days(days) => add_days(as_of, days).to_string(),
        }
    }

    /// When it was typed in: never after the day of the run.
    pub fn entered(&self, as_of: Date) -> String {
        let long_ago = || as_of.saturating_sub(7.years()).to_string();
        match self.when {
            When::On(text) => text.to_owned(),
            When::Days(days) => add_days(as_of, days.min(-2)).to_string(),
            When::In(_) | When::Undated | When::Sentinel => long_ago(),
        }
    }
}

/// The case of the next person that objects: first each case once, then by how common it is.
pub fn case(number: usize, random: u64) -> &'static Case {
    // Steps of seven, so that a few people already differ in type. 7 does not divide the number of cases, so that each
    // comes.
    if number < CASES.len() {
        return &CASES[number * 7 % CASES.len()];
    }
    let mut draw = random % CASES.iter().map(|case| case.weight).sum::<u64>();
    for case in CASES {
        if draw < case.weight {
            return case;
        }
        draw -= case.weight;
    }
    &CASES[0]
}

const fn entry(system: &'static str, code: &'static str, when: When) -> Entry {
    Entry { system, code, when, deleted: false }
}

const fn deleted(system: &'static str, code: &'static str, when: When) -> Entry {
    Entry { system, code, when, deleted: true }
}

const T1: &str = "827241000000103";
const T1_WITHDRAWN: &str = "827261000000102";
const T2: &str = "881561000000100";
const T2_WITHDRAWN: &str = "881581000000109";

use When::{Days, In, On, Sentinel, Undated};

macro_rules! cases {
    ($($name:literal, $type_1:literal, $type_2:literal, $weight:literal: [$($entry:expr),+ $(,)?];)+) => {
        &[$(Case { name: $name, type_1: $type_1, type_2: $type_2, weight: $weight, entries: &[$($entry),+] }),+]
    };
}

/// Every kind. The flags say: a Type 1 objection, a Type 2 objection, how common.
pub const CASES: &[Case] = cases![
    "type 1, SNOMED CT", true, false, 200: [entry(SNOMED, T1, On("2021-06-01"))];
    "type 1, Read v2 with the dot", true, false, 30: [entry(READ2, "9Nu0.", On("2014-02-11"))];
    "type 1, Read v2 without the dot", true, false, 30: [entry(READ2, "9Nu0", On("2014-03-02"))];
    "type 1, Read v2 with a term code", true, false, 10: [entry(READ2, "9Nu0.00", On("2014-03-02"))];
    "type 1, CTV3", true, false, 20: [entry(CTV3, "XaZ89", On("2015-09-14"))];
    "type 1 withdrawn, SNOMED CT", false, false, 40: [
        entry(SNOMED, T1, On("2019-01-10")), entry(SNOMED, T1_WITHDRAWN, On("2021-05-04"))];
    "type 1 withdrawn, Read v2", false, false, 10: [
        entry(READ2, "9Nu0.", On("2014-01-10")), entry(READ2, "9Nu1.", On("2016-05-04"))];
    "type 1 withdrawn, Read v2 without the dot", false, false, 10: [
        entry(READ2, "9Nu0", On("2014-01-10")), entry(READ2, "9Nu1", On("2016-05-04"))];
    "type 1 in Read v2 withdrawn in SNOMED CT", false, false, 10: [
        entry(READ2, "9Nu0", On("2014-01-10")), entry(SNOMED, T1_WITHDRAWN, On("2020-05-04"))];
    "type 1 withdrawn in CTV3, a spelling that is not confirmed", true, false, 2: [
        entry(CTV3, "XaZ89", On("2014-01-10")), entry(CTV3, "XaZ8a", On("2016-05-04"))];
    "type 1 withdrawn in CTV3, the other spelling", true, false, 2: [
        entry(CTV3, "XaZ89", On("2014-01-10")), entry(CTV3, "XaZ8A", On("2016-05-04"))];
    "type 1 again after a withdrawal", true, false, 5: [
        entry(SNOMED, T1, On("2018-01-10")), entry(SNOMED, T1_WITHDRAWN, On("2019-05-04")),
        entry(SNOMED, T1, On("2022-07-19"))];
    "type 1 and its withdrawal on the same day", true, false, 5: [
        entry(SNOMED, T1, On("2020-05-04")), entry(SNOMED, T1_WITHDRAWN, On("2020-05-04"))];
    "type 1 withdrawn before it was made", true, false, 2: [
        entry(SNOMED, T1_WITHDRAWN, On("2018-05-04")), entry(SNOMED, T1, On("2020-05-04"))];
    "a withdrawal of nothing", false, false, 2: [entry(SNOMED, T1_WITHDRAWN, On("2018-05-04"))];
    "type 1 without a date", true, false, 5: [entry(SNOMED, T1, Undated)];
    "type 1 without a date, and a dated withdrawal", true, false, 2: [
        entry(SNOMED, T1, Sentinel), entry(SNOMED, T1_WITHDRAWN, On("2021-05-04"))];
    "type 1 with the supplier's text for no date", true, false, 5: [entry(READ2, "9Nu0.", Sentinel)];
    "type 1 with an undated withdrawal", true, false, 2: [
        entry(SNOMED, T1, On("2019-02-03")), entry(SNOMED, T1_WITHDRAWN, Undated)];
    "type 1 in the future", true, false, 2: [entry(SNOMED, T1, Days(120))];
    "type 1 with a withdrawal in the future", true, false, 2: [
        entry(SNOMED, T1, On("2019-02-03")), entry(SNOMED, T1_WITHDRAWN, Days(90))];
    "type 1 in the window", true, false, 20: [entry(SNOMED, T1, Days(-20))];
    "type 1 withdrawn in the window", false, false, 5: [
        entry(SNOMED, T1, On("2019-02-03")), entry(SNOMED, T1_WITHDRAWN, Days(-12))];
    "type 1 on the day before the run", true, false, 2: [entry(SNOMED, T1, Days(-1))];
    "type 1 deleted", false, false, 10: [deleted(SNOMED, T1, On("2019-02-03"))];
    "type 1 with a deleted withdrawal", true, false, 5: [
        entry(SNOMED, T1, On("2019-02-03")), deleted(SNOMED, T1_WITHDRAWN, On("2020-02-03"))];
    "type 1 in a year only", true, false, 5: [entry(SNOMED, T1, In("2014"))];
    "type 1 withdrawn in the same year only", true, false, 2: [
        entry(SNOMED, T1, On("2014-03-03")), entry(SNOMED, T1_WITHDRAWN, In("2014"))];
    "type 1 in a month only, withdrawn the year after", false, false, 2: [
        entry(SNOMED, T1, In("2014-03")), entry(SNOMED, T1_WITHDRAWN, In("2015"))];
    "type 2, SNOMED CT", false, true, 60: [entry(SNOMED, T2, On("2017-06-01"))];
    "type 2, Read v2 with the dot", false, true, 10: [entry(READ2, "9Nu4.", On("2015-06-01"))];
    "type 2, Read v2 without the dot", false, true, 10: [entry(READ2, "9Nu4", On("2015-06-01"))];
    "type 2, CTV3", false, true, 10: [entry(CTV3, "XaaVL", On("2015-06-01"))];
    "type 2 withdrawn, Read v2", false, false, 5: [
        entry(READ2, "9Nu4.", On("2015-06-01")), entry(READ2, "9Nu5.", On("2017-06-01"))];
    "type 2 withdrawn, CTV3", false, false, 5: [
        entry(CTV3, "XaaVL", On("2015-06-01")), entry(CTV3, "XaaVM", On("2017-06-01"))];
    "type 2 withdrawn in SNOMED CT, a code that is not confirmed", false, true, 5: [
        entry(SNOMED, T2, On("2015-06-01")), entry(SNOMED, T2_WITHDRAWN, On("2017-06-01"))];
    "type 2 after the National Data Opt-out replaced it", false, true, 5: [
        entry(SNOMED, T2, On("2019-06-01"))];
    "type 2 deleted", false, false, 5: [deleted(READ2, "9Nu4.", On("2015-06-01"))];
    "type 1 and type 2", true, true, 40: [
        entry(SNOMED, T1, On("2016-06-01")), entry(SNOMED, T2, On("2016-06-01"))];
    "type 1 withdrawn, type 2 not", false, true, 10: [
        entry(SNOMED, T1, On("2016-06-01")), entry(SNOMED, T2, On("2016-06-01")),
        entry(SNOMED, T1_WITHDRAWN, On("2020-06-01"))];
    "another country's programme", false, false, 20: [
        entry(SNOMED, "960081000000104", On("2018-06-01")), entry(SNOMED, "960101000000105", On("2019-06-01"))];
    "the summary care record", false, false, 20: [entry(SNOMED, "777441000000102", On("2018-06-01"))];
    "dissent to an audit", false, false, 20: [
        entry(SNOMED, "113121000000105", On("2018-06-01")), entry(SNOMED, "979171000000104", On("2018-06-01")),
        entry(SNOMED, "113141000000103", On("2018-06-01"))];
    "Read v2 in the wrong letter case", false, false, 5: [entry(READ2, "9nu0.", On("2018-06-01"))];
    "Read v2 codes that begin alike", false, false, 5: [
        entry(READ2, "9Nu..", On("2018-06-01")), entry(READ2, "9Nu2.", On("2018-06-01")),
        entry(READ2, "9Nu", On("2018-06-01"))];
    "a type 1 code of another system", false, false, 2: [entry(READ2, "XaZ89", On("2018-06-01"))];
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_comes_once_before_any_comes_twice() {
        assert!(CASES.len() >= 40);
        let names: std::collections::BTreeSet<&str> =
            (0..CASES.len()).map(|number| case(number, 0).name).collect();
        assert_eq!(names.len(), CASES.len());
        assert!(CASES.iter().all(|case| case.weight > 0));
        assert_eq!(case(CASES.len(), 0).name, CASES[0].name);
        assert_eq!(case(CASES.len(), 205).name, CASES[1].name);
    }

    #[test]
    fn nothing_was_typed_in_after_the_day_of_the_run() {
        let as_of = jiff::civil::date(2026, 11, 1);
        for entry in CASES.iter().flat_map(|case| case.entries) {
            assert!(entry.entered(as_of) < as_of.to_string(), "{entry:?}");
        }
    }
}
