//! What a module knows of some of the patients.

/// A value for some of the run's patients. A patient's number is a rank among the run's patients, so that a list finds the
/// value at once, where a search tree would compare at every row.
#[derive(Debug, Clone)]
pub struct PatientMap<T> {
    /// By patient: where the value is, or [`NONE`].
    places: Vec<u32>,
    values: Vec<T>,
}

const NONE: u32 = u32::MAX;

impl<T> Default for PatientMap<T> {
    fn default() -> Self {
        Self { places: Vec::new(), values: Vec::new() }
    }
}

impl<T> PatientMap<T> {
    /// The value of a patient, if there is one.
    #[inline]
    pub fn get(&self, patient: u32) -> Option<&T> {
        self.values.get(*self.places.get(patient as usize)? as usize)
    }

    /// The value of a patient, if there is one, to change it.
    #[inline]
    pub fn get_mut(&mut self, patient: u32) -> Option<&mut T> {
        self.values.get_mut(*self.places.get(patient as usize)? as usize)
    }

    /// The value of a patient, which is the type's default if there was none.
    #[inline]
    pub fn entry(&mut self, patient: u32) -> &mut T
    where
        T: Default,
    {
        let patient = patient as usize;
        if patient >= self.places.len() {
            self.places.resize(patient + 1, NONE);
        }
        if self.places[patient] == NONE {
            self.places[patient] = self.values.len() as u32;
            self.values.push(T::default());
        }
        &mut self.values[self.places[patient] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_its_patients() {
        let mut map = PatientMap::<u8>::default();
        *map.entry(7) = 1;
        *map.entry(2) = 2;
        *map.entry(7) += 10;
        *map.get_mut(2).unwrap() += 20;
        assert_eq!([map.get(7), map.get(2), map.get(3), map.get(9)], [Some(&11), Some(&22), None, None]);
        assert_eq!(map.get_mut(0), None);
    }
}
