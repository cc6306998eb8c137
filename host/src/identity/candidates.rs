//! Everybody in the identity table, person by person, before it is known who may be seen. No token is made yet: a person is
//! known by a name that only this site can make.

use std::collections::HashMap;

use hashbrown::DefaultHashBuilder;
use lockgate_signing::canonical;
use lockgate_signing::mapping::Mapping;

use super::cache::InputName;
use super::inputs::{Input, LinkParts};
use super::local_ids::LocalIds;
use super::nhs_number::NhsNumber;
use super::scheme::TokenMaker;
use super::sent::{Registration, SentRecord};
use super::{IdentityError, IdentityRules};
use crate::config::Mode;
use crate::objections::{Interval, Objection, ObjectionRegister};
use crate::source::{CategoryReader, CellError, DateReader, FlagReader, Place, Select, Snapshot, text};

/// Somebody while the identity table is read.
pub(super) struct Candidate {
    /// What stands for the token until it is made.
    pub(super) name: InputName,
    pub(super) objection: Objection,
    pub(super) dissents_seen: Objection,
    pub(super) sensitive: bool,
    pub(super) test: bool,
    pub(super) valid_number: bool,
}

/// Everybody. Holds local ids, so it can be neither printed nor serialised.
pub(super) struct Candidates<'a> {
    pub(super) maker: TokenMaker<'a>,
    /// Each local id's person.
    pub(super) local_ids: LocalIds,
    pub(super) persons: Vec<Candidate>,
    /// The names of the link tokens of each person, one of each kind.
    pub(super) links: Vec<Option<InputName>>,
    /// Registrations of one person may differ in postcode: the further link tokens, by their place in `links`.
    pub(super) more_links: Vec<(usize, InputName)>,
    /// What stands for each registration in the record of what was sent, and its person; empty where there is no record.
    pub(super) registrations: Vec<(Registration, u32)>,
}

const COLUMNS: [&str; 7] = ["patient", "nhs-number", "birth-date", "sex", "postcode", "test", "sensitive"];

impl<'a> Candidates<'a> {
    /// Reads the identity table.
    pub(super) fn read(
        snapshot: &Snapshot,
        mapping: &Mapping,
        register: &ObjectionRegister,
        rules: &IdentityRules<'a>,
        record: Option<&SentRecord>,
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
        let mut more_links: Vec<(usize, InputName)> = Vec::new();
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut registrations = Vec::new();
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
            if let Some(record) = record {
                registrations.push((record.registration(local_id), candidate));
            }
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
        Ok(Self { maker, local_ids, persons: candidates, links, more_links, registrations })
    }
}
