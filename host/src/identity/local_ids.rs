//! Local ids, and what each one stands for. The lookup is made for every row that is read.
//!
//! Most systems number their patients. Ids that are plain decimal numbers are kept as numbers, which takes a third of the
//! memory and of the time of looking up text; all others are kept as they are. Both are exact: no two ids are ever taken for
//! one.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::decimal::decimal;

/// Local ids with a number each. Cannot be printed or serialised.
#[derive(Default)]
pub(super) struct LocalIds {
    numbers: HashMap<u64, u32, DefaultHashBuilder>,
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
            return self.numbers.get(&number).copied();
        }
        let same = |&entry: &u32| text_of(&self.texts, &self.entries, entry) == local_id;
        self.index.find(self.hasher.hash_one(local_id), same).map(|&entry| self.entries[entry as usize].1)
    }

    /// Changes what every local id stands for.
    pub(super) fn map(&mut self, change: impl Fn(u32) -> u32) {
        self.numbers.values_mut().for_each(|stands_for| *stands_for = change(*stands_for));
        self.entries.iter_mut().for_each(|(_, stands_for)| *stands_for = change(*stands_for));
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
}
