//! The run's dictionary of codes.

use crate::{Bitmap, CodePage};

/// The run's dictionary: every code that a column may hold, by position.
#[derive(Debug, Clone)]
pub struct Dictionary {
    page: CodePage,
}

impl Dictionary {
    pub(crate) fn new(page: CodePage) -> Self {
        Self { page }
    }

    /// How many codes it holds.
    pub fn len(&self) -> usize {
        self.page.ends.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.page.ends.is_empty()
    }

    /// The system and the text of a code.
    pub fn code(&self, position: u32) -> Option<(&str, &str)> {
        let position = position as usize;
        let end = *self.page.ends.get(position)? as usize;
        let start = if position == 0 { 0 } else { self.page.ends[position - 1] as usize };
        let system = self.page.system_names.get(usize::from(*self.page.systems.get(position)?))?;
        Some((system, core::str::from_utf8(self.page.text.get(start..end)?).ok()?))
    }

    /// The codes for which `test` holds, given system and text.
    pub fn matching(&self, test: impl Fn(&str, &str) -> bool) -> Bitmap {
        (0..self.len() as u32)
            .filter(|&position| self.code(position).is_some_and(|(system, text)| test(system, text)))
            .collect()
    }

    /// The codes of none of these systems.
    pub fn outside(&self, systems: &[&str]) -> Bitmap {
        let known: Vec<bool> =
            self.page.system_names.iter().map(|name| systems.contains(&name.as_str())).collect();
        let outside = |system: u8| !known.get(usize::from(system)).is_some_and(|&known| known);
        let positions = self.page.systems.iter().enumerate();
        positions.filter(|(_, system)| outside(**system)).map(|(position, _)| position as u32).collect()
    }
}
