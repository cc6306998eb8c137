//! One row a person of a table that has one row a registration.
//!
//! Who left a practice and came back is registered there twice: one patient, two rows of the table `patient`. A module that
//! counts or lists persons takes one of them, by the same rule in every module: the registration that is current at the end of
//! the window, else the one that ended last before it, else one that only begins after it. Of several such the one that began last,
//! and of several that began on one day the last in the order of the rows, which is the same in every run.

use crate::{Batch, Bitmap, Host, Input, Result, Scan as _};

/// A pass over registrations, one row a person. See [`Input::one_row_a_person`].
pub struct Persons<'h, H: Host> {
    input: Input<'h, H>,
    columns: Columns,
    last_day: i32,
    /// The next batch: its first rows may be further registrations of the last person of the one before it.
    ahead: Option<Batch>,
}

/// Where a registration says from when and until when it is.
#[derive(Debug, Clone, Copy)]
struct Columns {
    from: usize,
    until: usize,
}

impl<'h, H: Host> Input<'h, H> {
    /// Of every person the registration that is current at the end of the window, else the one that ended last: for an
    /// input of the table `patient`, whose rows are registrations. `from` and `until` are the columns `registered-from`
    /// and `registered-until`.
    pub fn one_row_a_person(self, from: usize, until: usize) -> Persons<'h, H> {
        let last_day = self.host.window().last_day;
        Persons { input: self, columns: Columns { from, until }, last_day, ahead: None }
    }
}

impl<H: Host> Persons<'_, H> {
    /// The next batch, ordered by patient; `None` at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator of results would need `?` twice in every loop"
    )]
    pub fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            let batch = match self.ahead.take() {
                Some(ahead) => Some(ahead),
                None => self.input.scan.next()?,
            };
            let Some(mut batch) = batch else { return Ok(None) };
            self.columns.choose(&mut batch, self.last_day)?;
            if let Some(next) = self.input.scan.next()? {
                self.ahead = Some(joined(&mut batch, next)?);
            }
            if batch.row_count() > 0 {
                return Ok(Some(batch));
            }
        }
    }
}

/// The batch after this one; where its first person is the last of this one, the row that was chosen there goes over to it.
fn joined(batch: &mut Batch, next: Batch) -> Result<Batch> {
    let last = batch.patients(0)?.last();
    if last.is_none() || last != next.patients(0)?.first() {
        return Ok(next);
    }
    match batch.split_off_last() {
        // One row more than the host gives and takes; but of the first two, one will be chosen.
        Some(mut last) => last.append(next).map(|()| last),
        None => Ok(next),
    }
}

impl Columns {
    /// Keeps one row of each person.
    fn choose(self, batch: &mut Batch, last_day: i32) -> Result<()> {
        let ids = batch.patients(0)?;
        // Nearly always everybody has one row. All rows are compared, so that the loop becomes SIMD.
        let ascends = |all, (one, next): (&u32, &u32)| all & (one < next);
        if ids.iter().zip(ids.iter().skip(1)).fold(true, ascends) {
            return Ok(());
        }
        let (from, until) = (batch.days(self.from)?, batch.days(self.until)?);
        // A registration without a first day began before all others, one without a last day has none.
        let rank = |row: usize| {
            let begins = from.at(row).unwrap_or(i32::MIN);
            (begins <= last_day, until.at(row).unwrap_or(i32::MAX).min(last_day), begins)
        };
        let mut chosen = Bitmap::default();
        let mut row = 0;
        for registrations in ids.chunk_by(|one, next| one == next) {
            let rows = row..row + registrations.len();
            row = rows.end;
            // The last of equals.
            chosen.extend(rows.max_by_key(|&row| rank(row)).map(|row| row as u32));
        }
        batch.retain(|row| chosen.contains(row as u32));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::TestHost;
    use crate::{Category, Day, Host, Patient};

    type Registration = (Patient, Category, Option<Day>, Option<Day>);

    /// A registration, told from others by its category. The window ends on day 100.
    fn registration(patient: u32, mark: u8, from: Option<i32>, until: Option<i32>) -> Registration {
        (Patient(patient), Category(mark), from.map(Day), until.map(Day))
    }

    /// (patient, mark) of what a pass over these batches gives; no batch may be empty or longer than it came.
    fn persons(batches: Vec<Vec<Registration>>) -> Vec<(u32, u8)> {
        let mut host = TestHost::new("1970-01-02", "1970-04-11");
        assert_eq!(host.window().last_day, 100);
        let longest = batches.iter().map(Vec::len).max().unwrap_or(0);
        batches.into_iter().for_each(|batch| host.input("patients", batch));
        let mut persons = host.open("patients").unwrap().one_row_a_person(2, 3);
        let mut found = Vec::new();
        while let Some(batch) = persons.next().unwrap() {
            batch.check().unwrap();
            assert!((1..=longest).contains(&batch.row_count()), "{} rows", batch.row_count());
            let rows = (0..batch.row_count()).map(|row| crate::Row::read(&batch, row).unwrap());
            found.extend(rows.map(|(patient, mark, _, _): Registration| (patient.0, mark.0)));
        }
        found
    }

    #[test]
    fn the_registration_that_is_current_at_the_end_of_the_window_is_taken() {
        let of = |patient, registrations: [(Option<i32>, Option<i32>); 3]| {
            let marked = (0_u8..).zip(registrations);
            marked.map(move |(mark, (from, until))| registration(patient, mark, from, until))
        };
        let batch = of(1, [(None, Some(99)), (Some(5), Some(100)), (Some(101), None)])
            // Nothing is current: the one that ended last, though another began later.
            .chain(of(2, [(Some(1), Some(90)), (Some(50), Some(60)), (Some(200), None)]))
            // Two are current, whenever they end: the one that began last.
            .chain(of(3, [(None, None), (Some(90), Some(120)), (Some(20), None)]))
            // Equals: the last of them.
            .chain(of(4, [(None, None), (None, None), (Some(101), Some(102))]));
        assert_eq!(persons(vec![batch.collect()]), [(1, 1), (2, 0), (3, 1), (4, 1)]);
    }

    #[test]
    fn a_person_whose_registrations_lie_in_two_batches_is_one_person() {
        let current = |patient, mark| registration(patient, mark, Some(mark.into()), None);
        let ended = |patient, mark| registration(patient, mark, Some(1), Some(50));
        let batches = vec![
            vec![current(1, 0), current(2, 0), current(2, 1)],
            vec![ended(2, 2), ended(2, 3), ended(2, 4)],
            vec![current(2, 5), current(3, 0), current(4, 0)],
            vec![current(5, 0)],
            vec![current(6, 0), current(7, 0), current(8, 0)],
            vec![current(9, 0), current(10, 0), current(11, 0)],
        ];
        let found = persons(batches);
        assert_eq!(found[..3], [(1, 0), (2, 5), (3, 0)]);
        assert!(found.iter().map(|(patient, _)| *patient).eq(1..=11));
        assert_eq!(persons(vec![vec![]]), []);
    }
}
