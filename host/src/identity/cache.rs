//! Evaluations that this site has had, so that a patient is asked for once: in memory while a run lasts, encrypted at rest.
//!
//! One file a domain and epoch, encrypted (see [`super::kept_file`]). An entry is 52 bytes: the input's name (a keyed hash that only this site can make), the evaluation, and the day of its last use. The domain, the epoch
//! and the published key are bound to it, so that a file cannot pass for another's. Nothing of it is needed: a file that is lost
//! or damaged costs evaluations.

use std::collections::HashMap;
use std::path::PathBuf;

use hashbrown::DefaultHashBuilder;
use lockgate_durable::FileError;
use zeroize::Zeroizing;

use super::kept_file::{KeptContent, KeptFile, SaveError};

/// What stands for an input at this site.
pub(super) type InputName = [u8; 16];

/// The first half is the token; the second is a secret of the patient at this site, for what is numbered within a patient.
pub(super) type Evaluation = [u8; 32];

/// The most entries of a file: 100 MiB. Those that were not used for longest go first.
const ENTRIES_MAX: usize = if cfg!(test) { 100 } else { 2_000_000 };
const ENTRY_BYTES: usize = 16 + 32 + 4;
/// Days after which an entry that no run used is forgotten: its patient is gone.
const UNUSED_DAYS_MAX: i32 = 400;
/// Days after which a use is written down; not every run changes the file.
const USED_DAYS_STEP: i32 = 30;

struct Entry {
    evaluation: Evaluation,
    used_day: i32,
}

/// The evaluations of one domain and epoch. Cannot be printed or serialised.
pub(super) struct Cache {
    file: KeptFile,
    /// The day of the run, days since 1970-01-01.
    today: i32,
    entries: HashMap<InputName, Entry, DefaultHashBuilder>,
    changed: bool,
}

impl Cache {
    /// Reads the file; without one, or with one that is not this site's, the cache is empty.
    pub(super) fn open(
        path: PathBuf,
        key: Zeroizing<[u8; 32]>,
        context: Vec<u8>,
        today: i32,
    ) -> Result<Self, FileError> {
        let file = KeptFile::new(path, key, context, ENTRIES_MAX * ENTRY_BYTES);
        let mut cache = Self { file, today, entries: HashMap::default(), changed: false };
        match cache.file.read()? {
            KeptContent::Plain(plain) if plain.len().is_multiple_of(ENTRY_BYTES) => cache.fill(&plain),
            KeptContent::Absent => {}
            KeptContent::Plain(_) | KeptContent::Damaged => tracing::warn!(
                file = %cache.file.path().display(),
                "the kept tokens are damaged or not of this site; they are asked for again"
            ),
        }
        Ok(cache)
    }

    /// The evaluation of an input.
    pub(super) fn get(&mut self, name: &InputName) -> Option<&Evaluation> {
        let today = self.today;
        let entry = self.entries.get_mut(name)?;
        if today - entry.used_day >= USED_DAYS_STEP {
            entry.used_day = today;
            self.changed = true;
        }
        Some(&entry.evaluation)
    }

    /// Keeps an evaluation.
    pub(super) fn insert(&mut self, name: InputName, evaluation: Evaluation) {
        self.entries.insert(name, Entry { evaluation, used_day: self.today });
        self.changed = true;
    }

    /// Writes the file, if anything changed.
    pub(super) fn save(&mut self) -> Result<(), SaveError> {
        if !self.changed {
            return Ok(());
        }
        let today = self.today;
        // A clock that is set forward for a moment must not forget everybody: `UNUSED_DAYS_MAX` is more than a year.
        self.entries.retain(|_, entry| today - entry.used_day <= UNUSED_DAYS_MAX);
        if self.entries.len() > ENTRIES_MAX {
            let mut days: Vec<i32> = self.entries.values().map(|entry| entry.used_day).collect();
            days.sort_unstable_by(|one, other| other.cmp(one));
            let (oldest, mut room) = (days[ENTRIES_MAX - 1], ENTRIES_MAX);
            room -= days.iter().take_while(|day| **day > oldest).count();
            self.entries.retain(|_, entry| {
                let stays = entry.used_day > oldest || entry.used_day == oldest && room > 0;
                room -= usize::from(stays && entry.used_day == oldest);
                stays
            });
        }
        let mut plain = Zeroizing::new(Vec::with_capacity(self.entries.len() * ENTRY_BYTES + 16));
        for (name, entry) in &self.entries {
            plain.extend_from_slice(name);
            plain.extend_from_slice(&entry.evaluation);
            plain.extend_from_slice(&entry.used_day.to_le_bytes());
        }
        self.file.write(plain)?;
        self.changed = false;
        Ok(())
    }

    fn fill(&mut self, plain: &[u8]) {
        self.entries.reserve(plain.len() / ENTRY_BYTES);
        for entry in plain.chunks_exact(ENTRY_BYTES) {
            let (mut name, mut evaluation, mut day) = ([0; 16], [0; 32], [0; 4]);
            name.copy_from_slice(&entry[..16]);
            evaluation.copy_from_slice(&entry[16..48]);
            day.copy_from_slice(&entry[48..]);
            // A day after today was written by a clock that was wrong.
            let used_day = i32::from_le_bytes(day).min(self.today);
            self.entries.insert(name, Entry { evaluation, used_day });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn open(path: &Path, context: &[u8], today: i32) -> Cache {
        Cache::open(path.to_owned(), Zeroizing::new([1; 32]), context.to_vec(), today).unwrap()
    }

    #[test]
    fn what_is_kept_comes_back_here_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let mut cache = open(&path, b"a", 100);
        assert!(cache.get(&[1; 16]).is_none());
        cache.insert([1; 16], [2; 32]);
        cache.save().unwrap();
        assert_eq!(open(&path, b"a", 100).get(&[1; 16]), Some(&[2; 32]));
        assert!(open(&path, b"b", 100).get(&[1; 16]).is_none(), "of another domain");
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(16).any(|window| window == [2; 16]), "in the open");
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            std::fs::write(&path, changed).unwrap();
            assert!(open(&path, b"a", 100).get(&[1; 16]).is_none(), "byte {position}");
        }
    }

    #[test]
    fn it_forgets_who_is_gone_and_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let mut cache = open(&path, b"a", 0);
        cache.insert([1; 16], [1; 32]);
        cache.insert([2; 16], [2; 32]);
        cache.save().unwrap();
        let mut cache = open(&path, b"a", 300);
        assert!(cache.get(&[1; 16]).is_some());
        cache.save().unwrap();
        let mut cache = open(&path, b"a", 401);
        assert!(cache.get(&[1; 16]).is_some());
        cache.save().unwrap();
        let mut cache = open(&path, b"a", 401);
        assert!(cache.get(&[1; 16]).is_some() && cache.get(&[2; 16]).is_none());
        for name in 0..=u8::try_from(ENTRIES_MAX).unwrap() {
            cache.insert([name.wrapping_add(100); 16], [3; 32]);
        }
        cache.save().unwrap();
        assert_eq!(open(&path, b"a", 401).entries.len(), ENTRIES_MAX);
    }
}
