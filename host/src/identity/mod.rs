//! Identity: the only place that sees an NHS number, a date of birth or a postcode.
//!
//! Local ids go in, run-local handles come out. Whoever objects (Type 1, unless a direction overrides it), is marked as sensitive,
//! or is a test patient gets no handle at all, so no later stage could let their rows through. Persons are one by NHS number: who is registered twice
//! has one handle, and is withheld if any of the registrations is.
//!
//! Handles are numbered in the order of the tokens, which carries nothing of the local order.

mod cache;
mod delivered;
mod inputs;
mod keyholder;
mod local_ids;
mod local_key;
mod nhs_number;
mod oprf;
mod scheme;
mod sealed_key;
#[cfg(test)]
mod vectors;

use std::collections::HashMap;

use hashbrown::DefaultHashBuilder;
use lockgate_signing::block::{Bitmap, FormerTable, LinkTokens, PatientTable, Token};
use lockgate_signing::bundle::TokenScheme;
use lockgate_signing::canonical;
use lockgate_signing::manifest::LinkKind;
use lockgate_signing::mapping::Mapping;

use crate::config::Mode;
use crate::objections::{Interval, Objection, ObjectionRegister};
use crate::source::{
    CategoryReader, CellError, DateReader, FlagReader, Place, Select, Snapshot, SourceError, text,
};
use cache::InputName;
pub use delivered::{DeliveredKeyError, DeliveredKeys, PublishedKeys};
use inputs::{Input, LinkParts};
use local_ids::LocalIds;
use nhs_number::NhsNumber;
use oprf::PatientSecret;
use scheme::Made;
pub(crate) use scheme::TokenRules;
pub use scheme::{Tokens, TokensError};
pub use sealed_key::TokenKey;

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
        "the database holds NHS numbers that are issued to people, and `mode` is \"demo\"; set mode = \"production\", or use a synthetic database"
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

/// Somebody while the identity table is read.
struct Candidate {
    /// What stands for the token until it is made.
    name: InputName,
    objection: Objection,
    dissents_seen: Objection,
    sensitive: bool,
    test: bool,
    valid_number: bool,
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

const COLUMNS: [&str; 7] = ["patient", "nhs-number", "birth-date", "sex", "postcode", "test", "sensitive"];

impl Patients {
    /// Reads the identity table.
    pub(crate) fn read(
        snapshot: &Snapshot,
        mapping: &Mapping,
        register: &ObjectionRegister,
        rules: &IdentityRules<'_>,
    ) -> Result<Self, IdentityError> {
        let Some(table) = canonical::table("identity") else { return Err(IdentityError::Empty) };
        let select = Select::of(mapping, table, &COLUMNS, None)?;
        let dates = select.columns[2].map(|(column, at)| (DateReader::of(column), at));
        let sexes = select.columns[3].map(|(column, at)| (CategoryReader::of(column, canonical::SEX), at));
        let flags = [5, 6].map(|at| select.columns[at].map(|(column, at)| (FlagReader::of(column), at)));
        let text_at = |column: usize| select.columns[column].map(|(_, at)| at);

        let mut maker = rules.tokens.maker(&rules.making)?;
        let mut local_ids = LocalIds::default();
        let mut links: Vec<Option<InputName>> = Vec::new();
        // Registrations of one person may differ in postcode: the further link tokens, by their place in `links`.
        let mut more_links: Vec<(usize, InputName)> = Vec::new();
        let mut candidates: Vec<Candidate> = Vec::new();
        // Keyed hashes: nobody outside can choose them so that they collide.
        let mut by_name: HashMap<InputName, u32, DefaultHashBuilder> = HashMap::default();
        let mut live_number = false;
        let mut twice = None;
        snapshot.read(&select, |row_number, row| {
            let place = Place { mapping, table: table.name, row: row_number };
            let at = |column| place.column(column);
            let cell = |place: Option<usize>| {
                place.map_or(Ok(rusqlite::types::ValueRef::Null), |place| row.get_ref(place))
            };
            let fetch =
                |column: &'static str, place| cell(place).map_err(|_| CellError::Missing).map_err(at(column));
            let mut buffers = [itoa::Buffer::new(), itoa::Buffer::new(), itoa::Buffer::new()];
            let [local_buffer, number_buffer, postcode_buffer] = &mut buffers;
            let local_id = text(fetch("patient", text_at(0))?, local_buffer, "a local id")
                .and_then(|text| text.ok_or(CellError::Missing))
                .map_err(at("patient"))?;
            let number = text(fetch("nhs-number", text_at(1))?, number_buffer, "an NHS number")
                .map_err(at("nhs-number"))?
                .and_then(NhsNumber::parse);
            let birth_date: Option<Interval> = match &dates {
                Some((reader, place)) => {
                    reader.interval(fetch("birth-date", Some(*place))?).map_err(at("birth-date"))?
                }
                None => None,
            };
            let sex = match &sexes {
                Some((reader, place)) => reader.category(fetch("sex", Some(*place))?).map_err(at("sex"))?,
                None => None,
            };
            let postcode = text(fetch("postcode", text_at(4))?, postcode_buffer, "a postcode")
                .map_err(at("postcode"))?;
            let [test, sensitive] =
                [("test", &flags[0]), ("sensitive", &flags[1])].map(|(column, flag)| match flag {
                    Some((reader, place)) => reader.flag(fetch(column, Some(*place))?).map_err(at(column)),
                    None => Ok(false),
                });
            let (test, sensitive) = (test?, sensitive?);
            live_number |= number.is_some_and(|number| !number.is_test());

            let sex = sex.map(|position| canonical::SEX[usize::from(position)]);
            let birth_date = birth_date.filter(|date| date.first == date.last).map(|date| date.first);
            let parts = LinkParts::new(number, birth_date, sex, postcode);
            let name = maker.name(&match &number {
                Some(number) => Input::of_nhs_number(number),
                None => Input::of_local_id(rules.making.site.as_str(), local_id),
            });
            let candidate = *by_name.entry(name).or_insert_with(|| {
                links.extend(rules.links.iter().map(|_| None));
                candidates.push(Candidate {
                    name,
                    objection: Objection::default(),
                    dissents_seen: Objection::default(),
                    sensitive: false,
                    test: false,
                    valid_number: number.is_some(),
                });
                candidates.len() as u32 - 1
            });
            let person = &mut candidates[candidate as usize];
            for (kind, place) in rules.links.iter().zip(candidate as usize * rules.links.len()..) {
                let Some(name) = parts.input(*kind).map(|input| maker.name(&input)) else { continue };
                match links[place] {
                    Some(before) if before != name => more_links.push((place, name)),
                    _ => links[place] = Some(name),
                }
            }
            let objection = register.of(local_id);
            person.objection.type_1 |= objection.type_1;
            person.objection.type_2 |= objection.type_2;
            let seen = register.dissents_seen(local_id);
            person.dissents_seen.type_1 |= seen.type_1;
            person.dissents_seen.type_2 |= seen.type_2;
            person.sensitive |= sensitive;
            // A number that is never issued belongs to a test patient, except where everybody is one.
            person.test |=
                test || rules.mode == Mode::Production && number.is_some_and(|number| number.is_test());
            if !local_ids.insert(local_id, candidate) && twice.is_none() {
                twice = Some(row_number);
            }
            Ok(())
        })?;
        if let Some(row) = twice {
            return Err(IdentityError::Twice { mapping: mapping.id.to_string(), row });
        }
        if candidates.is_empty() {
            return Err(IdentityError::Empty);
        }
        if live_number && rules.mode == Mode::Demo {
            return Err(IdentityError::LiveNumberInDemo);
        }
        let kinds = rules.links.len();
        let mut counts = PatientCounts::default();
        let admits: Vec<bool> =
            candidates.iter().map(|person| counts.admits(person, rules.overrides_type_1)).collect();
        more_links.retain(|(place, _)| admits[place / kinds]);
        // Tokens are made for those who may be seen, and for nobody else.
        let admitted = || (0..candidates.len()).filter(|&candidate| admits[candidate]);
        let patient_names = admitted().map(|candidate| candidates[candidate].name);
        let link_names =
            admitted().flat_map(|candidate| links[candidate * kinds..][..kinds].iter().flatten());
        let further = more_links.iter().map(|(_, name)| name);
        maker.make(patient_names.chain(link_names.chain(further).copied()))?;

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
        local_ids.map(|candidate| handles[candidate as usize]);
        let persons = persons.into_iter().map(|(person, _)| person).collect();
        Ok(Self { local_ids, persons, links: person_links, kinds, made: maker.finish(), counts })
    }

    /// How the tokens were made, and the epoch of their key.
    pub(crate) fn tokens(&self) -> (TokenScheme, u32) {
        (self.made.scheme, self.made.epoch)
    }

    /// The epoch before, where the warehouse is to be told what tokens were in it.
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

    /// What the tokens of these handles were in the epoch before; who has none sent none.
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
        let persons = || handles.iter().map(|&handle| &self.persons[handle as usize]);
        let mut type_2 = Bitmap::none(handles.len());
        persons().enumerate().filter(|(_, person)| person.type_2).for_each(|(row, _)| type_2.set(row));
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
        PatientTable {
            tokens: persons().map(|person| person.token).collect(),
            type_2,
            links: links.collect(),
        }
    }
}
