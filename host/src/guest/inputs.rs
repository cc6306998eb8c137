//! The inputs of a run as its module sees them: declared names, canonical order, and a dictionary of the codes.
//!
//! Rows are read ahead by other threads, in the order of the manifest; an input that the module opens early waits for its
//! turn. The dictionary grows when an input is opened, by that input's codes in the order of system and text, so a position
//! depends on what the module does and on what is in the rows, and on nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockgate_signing::ids::Name;
use lockgate_signing::manifest::Manifest;

use super::GuestError;
use crate::crossing::{CrossedInput, CrossingError, RowCounts};
use crate::dictionary::{Code, CodeBook};
use crate::order::{Merge, Sorted};
use crate::read_ahead::ReadAhead;

/// All inputs of the run of one period.
pub(crate) struct Inputs {
    manifest: Arc<Manifest>,
    ahead: Arc<ReadAhead>,
    book: Arc<CodeBook>,
    /// The book's codes by source number, as far as they are needed.
    source: Vec<Code>,
    unopened: BTreeMap<Name, CrossedInput>,
    opened: BTreeMap<Name, Arc<Sorted>>,
    received: usize,
    counts: Vec<RowCounts>,
    /// The run's dictionary: source numbers by position, and positions by source number.
    dictionary: Vec<u32>,
    positions: Vec<u32>,
}

/// A source number that is not in the dictionary.
const NO_POSITION: u32 = u32::MAX;

impl Inputs {
    /// The inputs of the first period.
    pub(crate) fn new(manifest: Arc<Manifest>, ahead: Arc<ReadAhead>, book: Arc<CodeBook>) -> Self {
        Self {
            manifest,
            ahead,
            book,
            source: Vec::new(),
            unopened: BTreeMap::new(),
            opened: BTreeMap::new(),
            received: 0,
            counts: Vec::new(),
            dictionary: Vec::new(),
            positions: Vec::new(),
        }
    }

    /// The inputs of the next period: nothing of this one is left but the codes' numbers, which no module sees.
    pub(crate) fn next_period(self) -> Self {
        Self { source: self.source, ..Self::new(self.manifest, self.ahead, self.book) }
    }

    /// Receives what the module did not open, so that the counts are those of the manifest and not of the module.
    pub(crate) fn finish(&mut self) -> Result<&[RowCounts], GuestError> {
        while self.received < self.manifest.inputs.len() {
            self.receive()?;
            self.unopened.clear();
        }
        Ok(&self.counts)
    }

    fn receive(&mut self) -> Result<(), GuestError> {
        let stopped = || GuestError::Engine("the reading of the database was stopped".to_owned());
        let name = self.manifest.inputs.keys().nth(self.received).cloned().ok_or_else(stopped)?;
        // The readers read every input or end with an error; without either, a thread of theirs was stopped.
        let crossed = self.ahead.take().ok_or_else(stopped)??;
        self.received += 1;
        self.counts.push(crossed.counts);
        self.source.extend(self.book.codes_from(self.source.len()));
        self.unopened.insert(name, crossed);
        Ok(())
    }

    /// Starts a pass over an input.
    pub(crate) fn open(&mut self, name: &str) -> Result<(Name, Merge), GuestError> {
        let declared = self.manifest.inputs.keys().find(|known| known.as_str() == name).cloned();
        let name = declared.ok_or_else(|| GuestError::Undeclared(super::printable(name)))?;
        if !self.opened.contains_key(&name) {
            while !self.unopened.contains_key(&name) {
                self.receive()?;
            }
            if let Some(crossed) = self.unopened.remove(&name) {
                self.admit_codes(&crossed.codes);
                self.opened.insert(name.clone(), Arc::new(crossed.rows.sort()));
            }
        }
        let sorted =
            self.opened.get(&name).cloned().ok_or_else(|| GuestError::Undeclared(name.to_string()))?;
        let merge = Merge::new(sorted).map_err(CrossingError::from)?;
        Ok((name, merge))
    }

    fn admit_codes(&mut self, used: &[u32]) {
        self.positions.resize(self.source.len(), NO_POSITION);
        let known = &self.positions;
        let mut new: Vec<u32> =
            used.iter().copied().filter(|&code| known[code as usize] == NO_POSITION).collect();
        let key = |code: u32| {
            let code = &self.source[code as usize];
            (&self.book.systems()[usize::from(code.system)], &code.text)
        };
        new.sort_unstable_by(|&a, &b| key(a).cmp(&key(b)));
        for code in new {
            self.positions[code as usize] = self.dictionary.len() as u32;
            self.dictionary.push(code);
        }
    }

    /// Positions in the run's dictionary by source number.
    pub(crate) fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// How many codes the dictionary holds.
    pub(crate) fn code_count(&self) -> u32 {
        self.dictionary.len() as u32
    }

    /// The systems' names, in the order in which [`Inputs::code`] numbers them.
    pub(crate) fn systems(&self) -> &[String] {
        self.book.systems()
    }

    /// System (position in [`Inputs::systems`]) and text of a code of the dictionary.
    pub(crate) fn code(&self, position: u32) -> Option<(u8, &str)> {
        let code = &self.source[*self.dictionary.get(position as usize)? as usize];
        Some((code.system, &code.text))
    }

    /// Which codes of the dictionary are in a codelist: one bit a position, least significant first.
    pub(crate) fn codelist(&self, name: &str) -> Option<Vec<u8>> {
        let list = self.manifest.codelists.keys().position(|known| known.as_str() == name)?;
        let mut bits = vec![0; self.dictionary.len().div_ceil(8)];
        for (position, &code) in self.dictionary.iter().enumerate() {
            if self.source[code as usize].facts.codelists >> list & 1 == 1 {
                bits[position / 8] |= 1 << (position % 8);
            }
        }
        Some(bits)
    }
}
