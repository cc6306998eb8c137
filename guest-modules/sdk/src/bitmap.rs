//! A set of small numbers, one bit each: patients of a run, positions in its dictionary, rows of a batch.

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
        let at = (number / 8) as usize;
        if at >= self.bytes.len() {
            self.bytes.resize(at + 1, 0);
        }
        self.bytes[at] |= 1 << (number % 8);
    }

    /// Adds all of a patient column, which ascends as the host orders it: where the last row of a stretch is of the same
    /// patient, so are the rows before it.
    pub fn insert_runs(&mut self, numbers: &[u32]) {
        let Some(&(mut last)) = numbers.first() else { return };
        self.insert(last);
        let (long, rest) = numbers.as_chunks::<32>();
        for stretch in long {
            if stretch[31] == last {
                continue;
            }
            for short in stretch.as_chunks::<8>().0 {
                if short[7] != last {
                    last = self.insert_changes(last, short);
                }
            }
        }
        self.insert_changes(last, rest);
    }

    #[inline]
    fn insert_changes(&mut self, mut last: u32, numbers: &[u32]) -> u32 {
        for &number in numbers {
            if number != last {
                self.insert(number);
                last = number;
            }
        }
        last
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

    /// Its bytes and one more, which is zero: a test that is to have no branch asks that one for all greater numbers.
    pub(crate) fn bytes_and_zero(&self) -> Vec<u8> {
        [&self.bytes[..], &[0]].concat()
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
