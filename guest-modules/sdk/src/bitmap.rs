//! A set of small numbers, one bit each: patients of a run, positions in its dictionary, rows of a batch.

/// How many places a [`Bitmap::sieve`] has: more than most runs have codes, and few enough for a processor's first cache.
pub(crate) const SIEVE: usize = 1 << 15;

/// A set of small numbers, one bit each, least significant first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bitmap {
    bytes: Vec<u8>,
}

impl Bitmap {
    /// A set from its bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Its bytes; trailing zeroes may be absent.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether it holds this number.
    #[inline]
    pub fn contains(&self, number: u32) -> bool {
        self.bytes.get((number / 8) as usize).is_some_and(|byte| byte >> (number % 8) & 1 == 1)
    }

    /// Adds a number.
    #[inline]
    pub fn insert(&mut self, number: u32) {
        self.reach(number);
        set(&mut self.bytes, number);
    }

    /// Adds all of a patient column, which must ascend, as the host orders it: where the last row of a stretch is of the
    /// same patient, so are the rows before it.
    pub fn insert_runs(&mut self, numbers: &[u32]) {
        debug_assert!(numbers.is_sorted(), "the host orders a patient column, and a fixture has to");
        let (Some(&(mut last)), Some(&greatest)) = (numbers.first(), numbers.last()) else { return };
        self.reach(greatest);
        let bytes = self.bytes.as_mut_slice();
        set(bytes, last);
        let (stretches, rest) = numbers.as_chunks::<32>();
        for stretch in stretches {
            while last < stretch[31] {
                last = first_after(stretch, last);
                set(bytes, last);
            }
        }
        for &number in rest {
            set(bytes, number);
        }
    }

    /// Makes room for a number.
    #[inline]
    fn reach(&mut self, number: u32) {
        let bytes = (number / 8) as usize + 1;
        if bytes > self.bytes.len() {
            self.bytes.resize(bytes, 0);
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (longer, shorter) =
            if self.bytes.len() >= other.bytes.len() { (self, other) } else { (other, self) };
        let mut bytes = longer.bytes.clone();
        bytes.iter_mut().zip(&shorter.bytes).for_each(|(byte, other)| *byte |= other);
        Self { bytes }
    }

    /// A byte for each number up to [`SIEVE`], 1 where the set holds it or one that differs from it by a multiple of that: what
    /// a number does not hit, the set does not hold.
    pub(crate) fn sieve(&self) -> [u8; SIEVE] {
        let mut sieve = [0; SIEVE];
        for (at, &byte) in self.bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            for bit in 0..8 {
                sieve[(at * 8 + bit) % SIEVE] |= byte >> bit & 1;
            }
        }
        sieve
    }

    /// Whether it holds no number.
    pub fn is_empty(&self) -> bool {
        self.bytes.iter().all(|&byte| byte == 0)
    }

    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.bytes.iter().map(|byte| byte.count_ones() as usize).sum()
    }
}

impl Extend<u32> for Bitmap {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, numbers: I) {
        numbers.into_iter().for_each(|number| self.insert(number));
    }
}

impl FromIterator<u32> for Bitmap {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut bitmap = Self::default();
        bitmap.extend(numbers);
        bitmap
    }
}

/// Sets the bit of a number for which there is room.
#[inline]
fn set(bytes: &mut [u8], number: u32) {
    if let Some(byte) = bytes.get_mut((number / 8) as usize) {
        *byte |= 1 << (number % 8);
    }
}

/// The first number of an ascending stretch that is greater than this one; its last is. Without a branch: where a run of
/// rows ends, no processor foresees.
#[inline]
fn first_after(stretch: &[u32; 32], number: u32) -> u32 {
    let mut at = 0;
    for half in [16, 8, 4, 2, 1] {
        at += half * usize::from(stretch[at + half - 1] <= number);
    }
    stretch[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_is_a_set() {
        let mut bitmap: Bitmap = [3, 8, 9].into_iter().collect();
        bitmap.insert_runs(&[9, 9, 70, 70]);
        let held: Vec<u32> = (0..100).filter(|&number| bitmap.contains(number)).collect();
        assert_eq!(held, [3, 8, 9, 70]);
        assert_eq!(bitmap.len(), 4);
        assert!(!bitmap.contains(u32::MAX));
        assert_eq!(bitmap.into_bytes()[..2], [0b1000, 0b11]);
        assert!(Bitmap::default().is_empty());
    }

    #[test]
    fn every_patient_of_a_column_is_found_whatever_the_length_of_the_runs() {
        let lengths = [1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 1, 64, 1];
        let column: Vec<u32> =
            (0..).zip(lengths).flat_map(|(patient, rows)| std::iter::repeat_n(patient * 3, rows)).collect();
        for end in 0..=column.len() {
            let mut bitmap = Bitmap::default();
            bitmap.insert_runs(&column[..end]);
            assert_eq!(bitmap, column[..end].iter().copied().collect());
        }
    }

    #[test]
    fn a_union_holds_what_is_in_either() {
        let (small, large) =
            ([1, 9].into_iter().collect::<Bitmap>(), [2, 900].into_iter().collect::<Bitmap>());
        let both: Bitmap = [1, 2, 9, 900].into_iter().collect();
        assert_eq!((small.union(&large), large.union(&small)), (both.clone(), both));
    }
}
