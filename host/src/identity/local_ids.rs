//! Local ids, and what each one stands for. The lookup is made for every row that is read.
//!
//! Most systems number their patients. Ids that are plain decimal numbers are kept as numbers, which takes a third of the
//! memory and of the time of looking up text; and where they lie close together, as those of a system that counts do, by
//! their place in a list, which is a sixth of that again and needs no hash. All others are kept as they are. All are exact:
//! no two ids are ever taken for one.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::decimal::decimal;

/// Local ids with a number each. Cannot be printed or serialised.
#[derive(Default)]
pub(super) struct LocalIds {
    numbers: HashMap<u64, u32, DefaultHashBuilder>,
    /// Those of `numbers` that lie close together, once all are known.
    close: Close,
    texts: Vec<u8>,
    /// Where each text ends in `texts`, and what it stands for.
    entries: Vec<(u32, u32)>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl LocalIds {
    /// Adds a local id; `false` if it was there.
    pub(super) fn insert(&mut self, local_id: &[u8], stands_for: u32) -> bool {
        if self.find(local_id).is_some() {
            return false;
        }
        if let Some(number) = decimal(local_id) {
            self.numbers.insert(number, stands_for);
            return true;
        }
        self.texts.extend_from_slice(local_id);
        self.entries.push((self.texts.len() as u32, stands_for));
        let Self { index, hasher, entries, texts, .. } = self;
        index.insert_unique(hasher.hash_one(local_id), entries.len() as u32 - 1, |&entry| {
            hasher.hash_one(text_of(texts, entries, entry))
        });
        true
    }

    /// What a local id stands for.
    pub(super) fn find(&self, local_id: &[u8]) -> Option<u32> {
        if let Some(number) = decimal(local_id) {
            return self.close.find(number).or_else(|| self.numbers.get(&number).copied());
        }
        let same = |&entry: &u32| text_of(&self.texts, &self.entries, entry) == local_id;
        self.index.find(self.hasher.hash_one(local_id), same).map(|&entry| self.entries[entry as usize].1)
    }

    /// Changes what every local id stands for, once all are known.
    pub(super) fn map(&mut self, change: impl Fn(u32) -> u32) {
        self.numbers.values_mut().for_each(|stands_for| *stands_for = change(*stands_for));
        self.entries.iter_mut().for_each(|(_, stands_for)| *stands_for = change(*stands_for));
        self.close = Close::take(&mut self.numbers);
    }
}

/// What numbers stand for, by their distance from the first.
#[derive(Default)]
struct Close {
    first: u64,
    stand_for: Vec<u32>,
}

/// How far apart numbers may lie for a list, on average: then it is smaller than a table of them.
const DISTANCE_MAX: u64 = 4;
/// Stands at a number that is nobody's. Persons take far more memory than would leave place for as many.
const NOBODY: u32 = u32::MAX - 1;

impl Close {
    /// Takes over the numbers that lie close together, if they are most of them. Others may lie apart: those of an older
    /// system, or of visitors.
    fn take(numbers: &mut HashMap<u64, u32, DefaultHashBuilder>) -> Self {
        let mut sorted: Vec<u64> = numbers.keys().copied().collect();
        sorted.sort_unstable();
        // The stretch of the list's length that holds the most numbers.
        let reach = (DISTANCE_MAX * sorted.len() as u64).saturating_sub(1);
        let (mut start, mut best) = (0, 0..0);
        for (end, number) in (1..).zip(&sorted) {
            while number - sorted[start] > reach {
                start += 1;
            }
            if end - start > best.len() {
                best = start..end;
            }
        }
        if 2 * best.len() <= sorted.len() || numbers.values().any(|&stands_for| stands_for == NOBODY) {
            return Self::default();
        }
        let (first, last) = (sorted[best.start], sorted[best.end - 1]);
        let mut stand_for = vec![NOBODY; (last - first) as usize + 1];
        numbers.retain(|number, stands_for| match number.checked_sub(first) {
            Some(place) if *number <= last => {
                stand_for[place as usize] = *stands_for;
                false
            }
            _ => true,
        });
        numbers.shrink_to_fit();
        Self { first, stand_for }
    }

    fn find(&self, number: u64) -> Option<u32> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.stand_for.get(place).copied().filter(|&stands_for| stands_for != NOBODY)
    }
}

fn text_of<'a>(texts: &'a [u8], entries: &[(u32, u32)], entry: u32) -> &'a [u8] {
    let start = entry.checked_sub(1).map_or(0, |before| entries[before as usize].0);
    &texts[start as usize..entries[entry as usize].0 as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_look_alike_are_different_ids() {
        let ids: [&[u8]; 9] =
            [b"7", b"07", b" 7", b"7 ", b"-7", b"7a", b"", b"4611686018427000000", b"18446744073709551623"];
        let mut known = LocalIds::default();
        for (number, id) in (0..).zip(ids) {
            assert_eq!(known.find(id), None);
            assert!(known.insert(id, number));
            assert!(!known.insert(id, 99));
        }
        known.map(|number| number + 10);
        for (number, id) in (10..).zip(ids) {
            assert_eq!(known.find(id), Some(number));
        }
        // 18446744073709551623 is 2^64 + 7.
        assert_eq!(known.find(b"7"), Some(10));
    }

    #[test]
    fn numbers_are_found_whether_they_lie_close_together_or_not() {
        for (step, apart) in [(1, 2), (3, 2), (5, 199), (1_000_000_007, 1_003)] {
            let number = |n: u64| 4_611_686_018_427_000_000 + n * step;
            let mut known = LocalIds::default();
            for n in (0..1_000).rev() {
                assert!(known.insert(number(n).to_string().as_bytes(), n as u32));
            }
            // A few that lie far away, and one just beyond.
            for (id, n) in [("17", 1_000), ("9999999999999999999", 1_001), ("4611686018426999999", 1_002)] {
                assert!(known.insert(id.as_bytes(), n));
            }
            // The greatest number stands for whoever is withheld.
            known.map(|n| if n == 5 { u32::MAX } else { 2 * n });
            assert_eq!(known.numbers.len(), apart, "{step}");
            assert_eq!(known.find(b"17"), Some(2_000));
            assert_eq!(known.find(b"9999999999999999999"), Some(2_002));
            assert_eq!(known.find(b"4611686018426999999"), Some(2_004));
            let find = |number: u64| known.find(number.to_string().as_bytes());
            for n in 0..1_000 {
                assert_eq!(find(number(n)), Some(if n == 5 { u32::MAX } else { 2 * n as u32 }));
                assert!(step == 1 || find(number(n) + 1).is_none());
            }
            assert_eq!([find(1), find(number(0) - 2), find(number(1_000)), find(u64::MAX / 3)], [None; 4]);
            assert_eq!(known.find(b"04611686018427000000"), None);
        }
    }
}
