//! Identity: the only place that sees an NHS number, a date of birth or a postcode.
//!
//! Local ids go in, run-local handles come out. Whoever objects (Type 1, unless a direction overrides it), is marked as sensitive,
//! or is a test patient gets no handle at all, so no later stage could let their rows through. Persons are one by NHS number: who is registered twice
//! has one handle, and is withheld if any of the registrations is.
//!
//! Who was seen before and is not any more is retracted: see `sent.rs` for the record of what was sent, `news.rs` for who.
//!
//! Handles are numbered in the order of the tokens, which carries nothing of the local order.

mod cache;
mod candidates;
mod delivered;
mod inputs;
mod kept_file;
mod keyholder;
mod local_ids;
mod local_key;
mod news;
mod nhs_number;
mod oprf;
mod scheme;
mod sealed_key;
mod sent;
#[cfg(test)]
mod vectors;

use lockgate_signing::block::{Bitmap, FormerTable, LinkTokens, PatientTable, Token};
use lockgate_signing::bundle::TokenScheme;
use lockgate_signing::manifest::LinkKind;
use lockgate_signing::mapping::Mapping;

use crate::config::Mode;
use crate::objections::{Objection, ObjectionRegister};
use crate::source::{Snapshot, SourceError};
use candidates::{Candidate, Candidates};
pub use delivered::{DeliveredKeyError, DeliveredKeys, PublishedKeys};
pub use kept_file::SaveError;
pub(crate) use kept_file::SealedFile;
use local_ids::LocalIds;
use news::News;
pub(crate) use news::{Retracted, SentChanges};
use oprf::PatientSecret;
use scheme::Made;
pub(crate) use scheme::{Recorded, TokenRules};
pub use scheme::{Tokens, TokensError};
pub use sealed_key::TokenKey;
pub(crate) use sent::{SentModule, SentRecord};

/// The identity table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The database.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Two rows for one local id: whose objection would count?
    #[error(
        "mapping `{mapping}`: the identity table has the same patient twice (row {row}); a patient has one row, check the mapping"
    )]
    Twice {
        /// The mapping.
        mapping: String,
        /// The second row.
        row: u64,
    },
    /// Tokens cannot be made, or not now.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// Nobody at all.
    #[error("the identity table is empty; check the mapping and that the copy of the database is whole")]
    Empty,
    /// A demonstration on real people.
    #[error(
        "the database holds NHS numbers that are issued to people, and `mode` is \"demo\"; set \
         mode = \"production\", or give invented people numbers that are never issued, 999 000 0000 to 999 999 9999"
    )]
    LiveNumberInDemo,
}

/// What a local id is to the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// A patient that modules may see.
    Handle(u32),
    /// Objection, sensitive mark or test patient.
    Withheld,
    /// No patient of this snapshot.
    Unknown,
}

/// How many people are what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PatientCounts {
    pub(crate) patients: u64,
    pub(crate) withheld_type_1: u64,
    pub(crate) flagged_type_2: u64,
    pub(crate) withheld_sensitive: u64,
    pub(crate) test_patients: u64,
    pub(crate) invalid_nhs_numbers: u64,
    pub(crate) let_in: u64,
}

impl PatientCounts {
    /// Counts everybody, and says of each whether modules may see them.
    fn of(&mut self, candidates: &Candidates<'_>, overrides_type_1: bool) -> Vec<bool> {
        candidates.persons.iter().map(|person| self.admits(person, overrides_type_1)).collect()
    }

    /// Counts somebody, and says whether modules may see them.
    fn admits(&mut self, person: &Candidate, overrides_type_1: bool) -> bool {
        if person.test {
            self.test_patients += 1;
            return false;
        }
        self.patients += 1;
        self.invalid_nhs_numbers += u64::from(!person.valid_number);
        if person.objection.type_1 && !overrides_type_1 {
            self.withheld_type_1 += 1;
            return false;
        }
        if person.sensitive {
            self.withheld_sensitive += 1;
            return false;
        }
        self.let_in += u64::from(person.objection.type_1);
        self.flagged_type_2 += u64::from(person.objection.type_2);
        true
    }
}

/// Run-local handles and the tokens behind them. Holds local ids, so it can be neither printed nor serialised.
pub(crate) struct Patients {
    /// Each local id's handle or [`WITHHELD`].
    local_ids: LocalIds,
    persons: Vec<Person>,
    /// The link tokens of each person, one of each kind.
    links: Vec<Option<Token>>,
    kinds: usize,
    made: Made,
    pub(crate) counts: PatientCounts,
}

const WITHHELD: u32 = u32::MAX;

/// Somebody that modules may see: tokens and no identity.
struct Person {
    token: Token,
    /// What it was in the epoch before.
    former: Option<Token>,
    secret: PatientSecret,
    type_2: bool,
    /// Which dissents the objection evidence held.
    dissents_seen: Objection,
}

/// Who is asking, and how tokens are made.
pub(crate) struct IdentityRules<'a> {
    pub(crate) mode: Mode,
    pub(crate) tokens: &'a Tokens,
    pub(crate) making: TokenRules<'a>,
    pub(crate) links: &'a [LinkKind],
    /// Whether a direction lets in who objects by Type 1.
    pub(crate) overrides_type_1: bool,
}

impl IdentityRules<'_> {
    /// Whom the evidence withholds, whether or not they are registered.
    fn objecting<'r>(&self, register: &'r ObjectionRegister) -> impl Iterator<Item = &'r [u8]> {
        let is_withheld = !self.overrides_type_1;
        register.local_ids().filter(move |local_id| is_withheld && register.of(local_id).type_1)
    }
}

impl Patients {
    /// Reads the identity table; with the record of what was sent, also what changes in it.
    pub(crate) fn read(
        snapshot: &Snapshot,
        mapping: &Mapping,
        register: &ObjectionRegister,
        rules: &IdentityRules<'_>,
        record: Option<&SentRecord>,
    ) -> Result<(Self, Option<SentChanges>), IdentityError> {
        let candidates = Candidates::read(snapshot, mapping, register, rules, record)?;
        let mut counts = PatientCounts::default();
        let admits = counts.of(&candidates, rules.overrides_type_1);
        let news = record.map(|record| News::of(&candidates, &admits, rules.objecting(register), record));
        let Candidates {
            mut maker,
            mut local_ids,
            persons: candidates,
            links,
            mut more_links,
            registrations,
        } = candidates;
        let kinds = rules.links.len();
        more_links.retain(|(place, _)| admits[place / kinds]);
        // Tokens are made for those who may be seen, and for those who have to be retracted.
        let admitted = || (0..candidates.len()).filter(|&candidate| admits[candidate]);
        let patient_names = admitted().map(|candidate| candidates[candidate].name);
        let link_names =
            admitted().flat_map(|candidate| links[candidate * kinds..][..kinds].iter().flatten());
        let further = more_links.iter().map(|(_, name)| name);
        let retracted = news.iter().flat_map(News::names);
        maker.make(patient_names.chain(link_names.chain(further).copied()).chain(retracted))?;
        let mut changes = news.map(|news| news.made(&mut maker)).transpose()?;

        // Handles are given in the order of the tokens.
        let mut persons: Vec<(Person, usize)> = admitted()
            .map(|candidate| {
                let person = &candidates[candidate];
                let (token, secret) = maker.token(&person.name)?;
                let former = maker.former(&person.name);
                let (type_2, dissents_seen) = (person.objection.type_2, person.dissents_seen);
                Ok((Person { token, former, secret, type_2, dissents_seen }, candidate))
            })
            .collect::<Result<_, TokensError>>()?;
        persons.sort_unstable_by_key(|(person, _)| person.token);
        let mut handles = vec![WITHHELD; candidates.len()];
        let mut person_links = Vec::with_capacity(persons.len() * kinds);
        for (handle, (_, candidate)) in (0..).zip(&persons) {
            handles[*candidate] = handle;
            for name in &links[candidate * kinds..][..kinds] {
                let made = name.as_ref().map(|name| maker.token(name)).transpose()?;
                person_links.push(made.map(|(token, _)| token));
            }
        }
        for (place, name) in &more_links {
            // The largest of a person's link tokens: which registration is read first does not matter.
            let (token, _) = maker.token(name)?;
            let link = &mut person_links[handles[place / kinds] as usize * kinds + place % kinds];
            *link = (*link).max(Some(token));
        }
        if let Some(changes) = &mut changes {
            let seen =
                registrations.iter().map(|(registration, person)| (registration, handles[*person as usize]));
            let seen = seen.filter(|(_, handle)| *handle != WITHHELD);
            changes
                .admit(seen.map(|(registration, handle)| (*registration, persons[handle as usize].0.token)));
        }
        local_ids.map(|candidate| handles[candidate as usize]);
        let persons = persons.into_iter().map(|(person, _)| person).collect();
        let made = maker.finish();
        Ok((Self { local_ids, persons, links: person_links, kinds, made, counts }, changes))
    }

    /// How the tokens were made, and the epoch of their key.
    pub(crate) fn tokens(&self) -> (TokenScheme, u32) {
        (self.made.scheme, self.made.epoch)
    }

    /// The epoch before, while its key is in use: the warehouse is told what tokens were in it.
    pub(crate) fn former_epoch(&self) -> Option<u32> {
        self.made.former_epoch
    }

    /// What a local id is to the boundary.
    pub(crate) fn lookup(&self, local_id: &[u8]) -> Lookup {
        match self.local_ids.find(local_id) {
            None => Lookup::Unknown,
            Some(WITHHELD) => Lookup::Withheld,
            Some(handle) => Lookup::Handle(handle),
        }
    }

    /// Which dissents the objection evidence held for a patient, whether they count or not.
    pub(crate) fn dissents_seen(&self, handle: u32) -> Objection {
        self.persons[handle as usize].dissents_seen
    }

    /// How many handles there are.
    pub(crate) fn handles(&self) -> u32 {
        self.persons.len() as u32
    }

    /// The number of an episode of a patient.
    pub(crate) fn episode(&self, handle: u32, local_id: &[u8]) -> f64 {
        let person = &self.persons[handle as usize];
        self.made.episode(&person.token, &person.secret, local_id)
    }

    /// What the tokens of these handles were in the epoch before.
    pub(crate) fn former(&self, handles: &[u32]) -> FormerTable {
        let mut missing = Bitmap::none(handles.len());
        let tokens = handles.iter().enumerate().map(|(row, &handle)| {
            self.persons[handle as usize].former.unwrap_or_else(|| {
                missing.set(row);
                Token::default()
            })
        });
        FormerTable { tokens: tokens.collect(), missing }
    }

    /// The token table's rows for these handles.
    pub(crate) fn table(&self, handles: &[u32]) -> PatientTable {
        let links = (0..self.kinds).map(|kind| {
            let mut missing = Bitmap::none(handles.len());
            let tokens = handles.iter().enumerate().map(|(row, &handle)| {
                self.links[handle as usize * self.kinds + kind].unwrap_or_else(|| {
                    missing.set(row);
                    Token::default()
                })
            });
            LinkTokens { tokens: tokens.collect(), missing }
        });
        self.table_with(handles, links.collect())
    }

    /// The same without link tokens: of whom no rows are sent, nobody needs any.
    pub(crate) fn table_without_links(&self, handles: &[u32]) -> PatientTable {
        let mut missing = Bitmap::none(handles.len());
        (0..handles.len()).for_each(|row| missing.set(row));
        let none = LinkTokens { tokens: vec![Token::default(); handles.len()], missing };
        self.table_with(handles, vec![none; self.kinds])
    }

    fn table_with(&self, handles: &[u32], links: Vec<LinkTokens>) -> PatientTable {
        let persons = || handles.iter().map(|&handle| &self.persons[handle as usize]);
        let mut type_2 = Bitmap::none(handles.len());
        persons().enumerate().filter(|(_, person)| person.type_2).for_each(|(row, _)| type_2.set(row));
        PatientTable { tokens: persons().map(|person| person.token).collect(), type_2, links }
    }
}

/// Who has to be retracted of a module that does not run: nobody's token is made but theirs.
pub(crate) fn retracted(
    snapshot: &Snapshot,
    mapping: &Mapping,
    register: &ObjectionRegister,
    rules: &IdentityRules<'_>,
    record: &SentRecord,
) -> Result<SentChanges, IdentityError> {
    let mut candidates = Candidates::read(snapshot, mapping, register, rules, Some(record))?;
    let admits = PatientCounts::default().of(&candidates, rules.overrides_type_1);
    let news = News::of(&candidates, &admits, rules.objecting(register), record);
    candidates.maker.make(news.names())?;
    Ok(news.made(&mut candidates.maker)?)
}
