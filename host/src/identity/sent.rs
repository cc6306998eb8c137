//! The record of what was sent about whom, one file a module: which tokens each registration had, and which registrations are
//! withheld and need no further word. Without it nobody could be retracted, because a token cannot be read back from a bundle.
//!
//! Encrypted, under names of registrations that only this site can make (see [`super::kept_file`]). A registration is known by
//! its local id: whoever is given an NHS number, or another one, is still found, with every token that was ever sent.
//!
//! **Beginning.** Where a module runs for the first time, whoever is withheld is noted and not retracted: nothing of them
//! was sent from here, and the centre is not to be given a list of all who object. From then on, whoever is withheld and not
//! noted is retracted once, also where nothing was ever sent: a patient who moved here and objects here may be in what
//! the practice before has sent. **Lost.** A record that is gone or damaged after something was sent makes everybody who is withheld
//! be retracted, by the token of today.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use hashbrown::DefaultHashBuilder;
use hmac::{Hmac, Mac as _};
use lockgate_durable::FileError;
use lockgate_signing::block::Token;
use lockgate_signing::bundle::{ModuleRef, TokenScheme};
use lockgate_signing::cbor::{CborError, Reader, Writer};
use lockgate_signing::digest::Digest;
use lockgate_signing::ids::Name;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::kept_file::{KeptContent, KeptFile, SaveError, SealedFile};
use super::local_key::LocalKey;
use super::sealed_key::keyed;

/// What stands for a registration at this site.
pub(super) type Registration = [u8; 16];

/// The most entries of a record, those of withheld registrations not counted: 82 MiB. Those that were not seen for longest go
/// first; whoever they are of is retracted by the token of that day.
const SENT_MAX: usize = if cfg!(test) { 100 } else { 2_000_000 };
const WITHHELD_MAX: usize = 2_000_000;
const SENT_BYTES: usize = 16 + 1 + 4 + 16 + 4;
const WITHHELD_BYTES: usize = 16;
/// Days after which it is written down that a registration was seen; not every run changes the file.
const SEEN_DAYS_STEP: i32 = 30;
const FORMAT: u64 = 1;
const PLACE: &str = "record of what was sent";

/// A token that was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SentToken {
    pub(super) scheme: TokenScheme,
    pub(super) epoch: u32,
    pub(super) token: Token,
    /// The day on which a run last saw its registration, days since 1970-01-01.
    seen_day: i32,
}

/// What a retraction says of the module, where the module is no longer at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentModule {
    /// The module that sent last.
    pub(crate) module: ModuleRef,
    /// Its purpose: the domain of its tokens.
    pub(crate) purpose: Name,
}

/// How a record was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Whole,
    /// Nothing was sent yet.
    Beginning,
    /// Something was sent, and the record of it is gone.
    Lost,
}

/// The record of one module. Cannot be printed or serialised.
pub(crate) struct SentRecord {
    file: KeptFile,
    names: Hmac<Sha256>,
    today: i32,
    found: Found,
    about: Option<SentModule>,
    sent: HashMap<Registration, Vec<SentToken>, DefaultHashBuilder>,
    withheld: HashSet<Registration, DefaultHashBuilder>,
    changed: bool,
}

impl SentRecord {
    /// Reads the record; `context`: the module and purpose that it is of; `sent_before`: whether the ledger says that anything was sent.
    pub(super) fn open(
        path: PathBuf,
        local: &LocalKey,
        context: Vec<u8>,
        today: i32,
        sent_before: bool,
    ) -> Result<Self, FileError> {
        // The head is small.
        let bytes_max = SENT_MAX * SENT_BYTES + WITHHELD_MAX * WITHHELD_BYTES + 4_096;
        let file = KeptFile::new(path, local.derive("lockgate sent record v1"), context, bytes_max);
        let content = file.read()?;
        let mut record = Self {
            file,
            names: keyed(&local.derive("lockgate registrations v1")),
            today,
            found: if sent_before { Found::Lost } else { Found::Beginning },
            about: None,
            sent: HashMap::default(),
            withheld: HashSet::default(),
            changed: false,
        };
        let read = match &content {
            KeptContent::Absent => None,
            KeptContent::Damaged => Some(Err(CborError::value(PLACE, "not of this site, or changed"))),
            KeptContent::Plain(plain) => Some(record.fill(plain)),
        };
        match read {
            Some(Ok(())) => record.found = Found::Whole,
            // Whatever a damaged file was about, it was not the beginning.
            Some(Err(_)) => {
                record.found = Found::Lost;
                record.sent.clear();
                record.withheld.clear();
            }
            None => {}
        }
        if record.found == Found::Lost {
            tracing::warn!(
                file = %record.file.path().display(),
                "the record of what was sent is gone or damaged; everybody who is withheld is retracted"
            );
        }
        Ok(record)
    }

    /// What stands for a registration.
    pub(super) fn registration(&self, local_id: &[u8]) -> Registration {
        let mut mac = self.names.clone();
        mac.update(local_id);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut registration = Registration::default();
        registration.copy_from_slice(&full[..16]);
        registration
    }

    /// Every token that was sent of a registration.
    pub(super) fn tokens(&self, registration: &Registration) -> &[SentToken] {
        self.sent.get(registration).map_or(&[], Vec::as_slice)
    }

    /// Whether a withheld registration needs a word: it was not noted before, and this is not the beginning.
    pub(super) fn is_news(&self, registration: &Registration) -> bool {
        self.found != Found::Beginning && !self.withheld.contains(registration)
    }

    /// What a retraction says of the module; `None` before anything was sent, or where the record is lost.
    pub(crate) fn about(&self) -> Option<&SentModule> {
        self.about.as_ref()
    }

    /// Notes who is withheld: their tokens are retracted, and are of no more use.
    pub(super) fn withhold(&mut self, registrations: &[Registration]) {
        for registration in registrations {
            self.changed |= self.withheld.insert(*registration);
            self.changed |= self.sent.remove(registration).is_some();
        }
        self.changed |= self.found != Found::Whole;
    }

    /// Notes whose tokens are about to be sent.
    pub(super) fn admit(
        &mut self,
        about: SentModule,
        admitted: impl Iterator<Item = (Registration, Token)>,
        (scheme, epoch): (TokenScheme, u32),
    ) {
        let today = self.today;
        for (registration, token) in admitted {
            self.changed |= self.withheld.remove(&registration);
            let tokens = self.sent.entry(registration).or_default();
            let same = |it: &&mut SentToken| (it.scheme, it.epoch, it.token) == (scheme, epoch, token);
            match tokens.iter_mut().find(same) {
                Some(known) if today - known.seen_day < SEEN_DAYS_STEP => {}
                Some(known) => {
                    known.seen_day = today;
                    self.changed = true;
                }
                None => {
                    tokens.push(SentToken { scheme, epoch, token, seen_day: today });
                    self.changed = true;
                }
            }
        }
        self.changed |= self.found != Found::Whole || self.about.as_ref() != Some(&about);
        self.about = Some(about);
    }

    /// The record as it is to be written; `None`: nothing changed. Far less memory than the record itself.
    pub(crate) fn sealed(mut self) -> Result<Option<SealedFile>, SaveError> {
        if !self.changed {
            return Ok(None);
        }
        self.forget_the_oldest();
        self.file.seal(self.encode()).map(Some)
    }

    fn forget_the_oldest(&mut self) {
        let entries = self.sent.values().map(Vec::len).sum::<usize>();
        if entries <= SENT_MAX {
            return;
        }
        let mut days: Vec<i32> = self.sent.values().flatten().map(|it| it.seen_day).collect();
        days.sort_unstable_by(|one, other| other.cmp(one));
        let oldest = days[SENT_MAX - 1];
        let mut room = SENT_MAX - days.iter().take_while(|day| **day > oldest).count();
        for tokens in self.sent.values_mut() {
            tokens.retain(|it| {
                let stays = it.seen_day > oldest || it.seen_day == oldest && room > 0;
                room -= usize::from(stays && it.seen_day == oldest);
                stays
            });
        }
        self.sent.retain(|_, tokens| !tokens.is_empty());
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut sent = Zeroizing::new(Vec::with_capacity(self.sent.len() * SENT_BYTES));
        for (registration, tokens) in &self.sent {
            for it in tokens {
                sent.extend_from_slice(registration);
                sent.push(u8::from(it.scheme == TokenScheme::Oprf));
                sent.extend_from_slice(&it.epoch.to_le_bytes());
                sent.extend_from_slice(&it.token);
                sent.extend_from_slice(&it.seen_day.to_le_bytes());
            }
        }
        let withheld = Zeroizing::new(self.withheld.iter().flatten().copied().collect::<Vec<u8>>());
        let mut writer = Writer::new();
        let w = &mut writer;
        w.versioned_record(4, FORMAT);
        w.unsigned(2);
        match &self.about {
            Some(SentModule { module, purpose }) => {
                w.array(5);
                w.text(module.id.as_str());
                w.text(&module.version.to_string());
                w.bytes(module.manifest.as_bytes());
                w.bytes(module.component.as_bytes());
                w.text(purpose.as_str());
            }
            None => w.null(),
        }
        w.unsigned(3);
        w.bytes(&sent);
        w.unsigned(4);
        w.bytes(&withheld);
        Zeroizing::new(writer.into_bytes())
    }

    fn fill(&mut self, plain: &[u8]) -> Result<(), CborError> {
        let mut reader = Reader::new(plain);
        let r = &mut reader;
        let wrong = || CborError::value(PLACE, "a part has another length");
        r.versioned_record(4, FORMAT, PLACE)?;
        r.field(2, PLACE)?;
        self.about = if r.is_null() { None } else { Some(read_module(r)?) };
        r.field(3, PLACE)?;
        let sent = r.bytes(PLACE)?;
        r.field(4, PLACE)?;
        let withheld = r.bytes(PLACE)?;
        reader.finish()?;
        if !sent.len().is_multiple_of(SENT_BYTES) || !withheld.len().is_multiple_of(WITHHELD_BYTES) {
            return Err(wrong());
        }
        self.sent.reserve(sent.len() / SENT_BYTES);
        for entry in sent.chunks_exact(SENT_BYTES) {
            let (mut registration, mut token) = (Registration::default(), Token::default());
            let (mut epoch, mut day) = ([0; 4], [0; 4]);
            registration.copy_from_slice(&entry[..16]);
            epoch.copy_from_slice(&entry[17..21]);
            token.copy_from_slice(&entry[21..37]);
            day.copy_from_slice(&entry[37..]);
            let scheme = if entry[16] == 1 { TokenScheme::Oprf } else { TokenScheme::SealedKey };
            self.sent.entry(registration).or_default().push(SentToken {
                scheme,
                epoch: u32::from_le_bytes(epoch),
                token,
                // A day after today was written by a clock that was wrong.
                seen_day: i32::from_le_bytes(day).min(self.today),
            });
        }
        for entry in withheld.chunks_exact(WITHHELD_BYTES) {
            let mut registration = Registration::default();
            registration.copy_from_slice(entry);
            self.withheld.insert(registration);
        }
        Ok(())
    }
}

fn read_module(r: &mut Reader<'_>) -> Result<SentModule, CborError> {
    if r.array(PLACE)? != 5 {
        return Err(CborError::value(PLACE, "a module has five parts"));
    }
    let wrong = |error: &dyn std::fmt::Display| CborError::value(PLACE, error);
    let id = r.text(PLACE)?.parse().map_err(|error: lockgate_signing::ids::IdError| wrong(&error))?;
    let version = r.text(PLACE)?.parse().map_err(|error: semver::Error| wrong(&error))?;
    let manifest = Digest::from_bytes(r.fixed(PLACE)?);
    let component = Digest::from_bytes(r.fixed(PLACE)?);
    let purpose = r.text(PLACE)?.parse().map_err(|error: lockgate_signing::ids::IdError| wrong(&error))?;
    Ok(SentModule { module: ModuleRef { id, version, manifest, component }, purpose })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const EPOCH: (TokenScheme, u32) = (TokenScheme::SealedKey, 1);

    fn about() -> SentModule {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let (id, version) = ("m".parse().unwrap(), semver::Version::new(1, 0, 0));
        let module = ModuleRef { id, version, manifest: digest("manifest"), component: digest("component") };
        SentModule { module, purpose: "care".parse().unwrap() }
    }

    fn open(folder: &Path, today: i32, sent_before: bool) -> SentRecord {
        let local = LocalKey::open(&folder.join("local.key")).unwrap();
        SentRecord::open(folder.join("m.record"), &local, b"m".to_vec(), today, sent_before).unwrap()
    }

    #[test]
    fn what_was_sent_is_known_again_here_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = open(dir.path(), 100, false);
        let (one, two) = (record.registration(b"1"), record.registration(b"2"));
        assert!(!record.is_news(&one), "nobody is retracted in the beginning");
        record.withhold(&[two]);
        record.admit(about(), [(one, [7; 16])].into_iter(), EPOCH);
        record.sealed().unwrap().unwrap().write().unwrap();
        let mut record = open(dir.path(), 101, true);
        assert_eq!(record.about(), Some(&about()));
        assert!(record.is_news(&one) && !record.is_news(&two));
        assert!(record.tokens(&one).iter().map(|it| it.token).eq([[7; 16]]));
        // The same again changes nothing; another epoch adds to it.
        record.admit(about(), [(one, [7; 16])].into_iter(), EPOCH);
        assert!(!record.changed);
        record.admit(about(), [(one, [8; 16])].into_iter(), (TokenScheme::Oprf, 2));
        record.sealed().unwrap().unwrap().write().unwrap();
        let mut record = open(dir.path(), 101, true);
        assert_eq!(record.tokens(&one).len(), 2);
        // Withheld, and back again.
        record.withhold(&[one]);
        assert!(record.tokens(&one).is_empty() && !record.is_news(&one));
        record.admit(about(), [(one, [7; 16])].into_iter(), EPOCH);
        assert!(record.is_news(&one));

        let file = dir.path().join("m.record");
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(16).any(|window| window == [7; 16]), "in the open");
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            std::fs::write(&file, changed).unwrap();
            let record = open(dir.path(), 101, false);
            assert!(record.found == Found::Lost && record.is_news(&two), "byte {position}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(open(dir.path(), 101, true).is_news(&two), "a record that is lost is not a beginning");
        assert!(!open(dir.path(), 101, false).is_news(&two));
    }

    #[test]
    fn it_is_bounded_and_forgets_who_was_not_seen_for_longest() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = open(dir.path(), 0, false);
        let name = |number: usize| [u8::try_from(number).unwrap(); 16];
        record.admit(about(), [(name(0), name(0)), (name(1), name(1))].into_iter(), EPOCH);
        record.sealed().unwrap().unwrap().write().unwrap();
        let mut record = open(dir.path(), 40, true);
        record.admit(about(), (1..=SENT_MAX).map(|number| (name(number), name(number))), EPOCH);
        record.sealed().unwrap().unwrap().write().unwrap();
        let record = open(dir.path(), 40, true);
        assert_eq!(record.sent.len(), SENT_MAX);
        assert!(record.tokens(&name(0)).is_empty() && record.tokens(&name(1)).len() == 1);
    }
}
