//! Codes as numbers: each distinct code of the source is normalised, held to its system's shape, and looked up in the
//! sensitive lists and the module's codelists once, however many rows carry it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};
use lockgate_signing::code::{CodeShape, CodesBySystem, normalise_code};
use lockgate_signing::ids::Name;
use lockgate_signing::mapping::Mapping;
use lockgate_signing::policy::{ObjectionPolicy, ObjectionRule, SensitiveCodes};

use crate::decimal::decimal;
use crate::source::CellError;

/// More distinct codes than this are not codes: about ten times what is in use in the whole country.
const CODES_MAX: usize = 1 << 20;

/// What a code is to the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may cross.
    Plain,
    /// On a sensitive list: its row does not cross.
    Sensitive,
    /// Not a code of its system: its row does not cross.
    Malformed,
}

/// What is known of a code, whichever row carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeFacts {
    /// One bit a codelist of the manifest, in their order.
    pub(crate) codelists: u64,
    pub(crate) standing: Standing,
    /// Whether the objection policy has it as a dissent.
    pub(crate) dissent: Option<DissentType>,
}

/// Every malformed code is this one, so that free text in a code column is not kept.
const MALFORMED_CODE: CodeFacts = CodeFacts { codelists: 0, standing: Standing::Malformed, dissent: None };

/// A code of the source.
#[derive(Clone)]
pub(crate) struct Code {
    /// Position in [`CodeBook::systems`].
    pub(crate) system: u8,
    /// The normalised text.
    pub(crate) text: Arc<str>,
    pub(crate) facts: CodeFacts,
}

/// Which objection a code makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DissentType {
    Type1,
    Type2,
}

/// All codes of a run, by the number that each got on first sight. Its readers share it, and ask it once for each way in which
/// a code is written.
pub(crate) struct CodeBook {
    /// Those that the mapping names, in their order, so that their numbers do not depend on what is read first.
    systems: Vec<String>,
    shapes: Vec<CodeShape>,
    sensitive: HashSet<(String, String)>,
    dissents: HashMap<(String, String), DissentType>,
    codelists: Vec<HashSet<(String, String)>>,
    numbered: Mutex<Numbered>,
}

struct Numbered {
    codes: Vec<Code>,
    /// Normalised texts to numbers.
    by_text: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// The number of every malformed code.
pub(crate) const MALFORMED: u32 = 0;

fn normal_set(mapping: &Mapping, codes: &CodesBySystem) -> HashSet<(String, String)> {
    let each = codes.iter().flat_map(|(system, texts)| {
        let shape = mapping.code_shape(system);
        texts.iter().map(move |text| {
            let text = shape.map_or_else(|| text.clone(), |shape| normalise_code(shape, text));
            (system.to_string(), text)
        })
    });
    each.collect()
}

impl CodeBook {
    /// An empty book, with the lists that each code is looked up in.
    pub(crate) fn new(
        mapping: &Mapping,
        sensitive: Option<&SensitiveCodes>,
        policy: &ObjectionPolicy,
        codelists: &BTreeMap<Name, CodesBySystem>,
    ) -> Self {
        let of_type = |rule: &ObjectionRule, kind: DissentType| {
            let codes = rule.dissent.iter().map(|code| (code.system.clone(), vec![code.code.clone()]));
            let each = codes.flat_map(|(system, codes)| normal_set(mapping, &[(system, codes)].into()));
            each.map(|code| (code, kind)).collect::<Vec<_>>()
        };
        let type_1 = of_type(&policy.type_1, DissentType::Type1);
        let type_2 = of_type(&policy.type_2, DissentType::Type2);
        Self {
            dissents: type_1.into_iter().chain(type_2).collect(),
            sensitive: sensitive
                .iter()
                .flat_map(|list| list.group.values())
                .flat_map(|codes| normal_set(mapping, codes))
                .collect(),
            codelists: codelists.values().map(|codes| normal_set(mapping, codes)).collect(),
            ..Self::bare(mapping)
        }
    }

    /// A book without lists, for objection evidence.
    pub(crate) fn bare(mapping: &Mapping) -> Self {
        let malformed = Code { system: 0, text: Arc::from(""), facts: MALFORMED_CODE };
        let systems = mapping.systems();
        Self {
            // The mapping was checked: every system that it names has a shape. `Category` takes the least.
            shapes: systems
                .iter()
                .map(|system| mapping.code_shape(system).unwrap_or(CodeShape::Category))
                .collect(),
            systems: systems.iter().map(ToString::to_string).collect(),
            sensitive: HashSet::new(),
            dissents: HashMap::new(),
            codelists: Vec::new(),
            numbered: Mutex::new(Numbered {
                codes: vec![malformed],
                by_text: HashTable::new(),
                hasher: DefaultHashBuilder::default(),
            }),
        }
    }

    /// The names of the systems.
    pub(crate) fn systems(&self) -> &[String] {
        &self.systems
    }

    /// The position of a system that the mapping names; a checked mapping names at most 255.
    pub(crate) fn system(&self, name: &str) -> u8 {
        self.systems.iter().position(|known| known == name).unwrap_or_default() as u8
    }

    /// The codes from a number on, in the order of their numbers.
    pub(crate) fn codes_from(&self, first: usize) -> Vec<Code> {
        let codes = &self.numbered().codes;
        codes[first.min(codes.len())..].to_vec()
    }

    /// System and normalised text of a code.
    pub(crate) fn name(&self, number: u32) -> (&str, Arc<str>) {
        let code = &self.numbered().codes[number as usize];
        (&self.systems[usize::from(code.system)], Arc::clone(&code.text))
    }

    fn numbered(&self) -> MutexGuard<'_, Numbered> {
        // A code is numbered wholly or not at all, whatever its thread did then.
        self.numbered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a normalised code, and what is known of it.
    fn number(&self, system: u8, text: String) -> Result<(u32, CodeFacts), CellError> {
        let Numbered { codes, by_text, hasher } = &mut *self.numbered();
        let hash_of = |system: u8, text: &str| hasher.hash_one((system, text));
        let hash = hash_of(system, &text);
        let same = |&number: &u32| {
            let code: &Code = &codes[number as usize];
            code.system == system && *code.text == *text
        };
        if let Some(&number) = by_text.find(hash, same) {
            return Ok((number, codes[number as usize].facts));
        }
        if codes.len() >= CODES_MAX {
            return Err(CellError::TooManyCodes);
        }
        let key = (self.systems[usize::from(system)].clone(), text);
        let standing = if self.sensitive.contains(&key) { Standing::Sensitive } else { Standing::Plain };
        let dissent = self.dissents.get(&key).copied();
        let codelists = self.codelists.iter().enumerate();
        let codelists = codelists
            .filter(|(_, list)| list.contains(&key))
            .fold(0, |bits, (position, _)| bits | 1 << position);
        let facts = CodeFacts { codelists, standing, dissent };
        let number = codes.len() as u32;
        codes.push(Code { system, text: key.1.into(), facts });
        by_text.insert_unique(hash, number, |&number| {
            let code = &codes[number as usize];
            hash_of(code.system, &code.text)
        });
        Ok((number, facts))
    }
}

/// What one reader has seen of the codes: how they are written in the database.
pub(crate) struct Dictionary {
    book: Arc<CodeBook>,
    /// By number, where this reader has seen the code.
    facts: Vec<CodeFacts>,
    /// Raw texts: (system, text as in the database) to a code. Those that are decimal numbers are kept as numbers, which
    /// are found faster.
    raw: HashTable<(u8, Box<[u8]>, u32)>,
    raw_numbers: HashMap<(u8, u64), u32, DefaultHashBuilder>,
    hasher: DefaultHashBuilder,
}

impl Dictionary {
    /// A reader that has seen nothing.
    pub(crate) fn new(book: Arc<CodeBook>) -> Self {
        Self {
            book,
            facts: vec![MALFORMED_CODE],
            raw: HashTable::new(),
            raw_numbers: HashMap::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// The run's codes.
    pub(crate) fn book(&self) -> &CodeBook {
        &self.book
    }

    /// What is known of a code, by a number that this reader got.
    pub(crate) fn facts(&self, number: u32) -> CodeFacts {
        self.facts[number as usize]
    }

    /// The number of a code as it is in the database.
    pub(crate) fn number(&mut self, system: u8, raw: &[u8]) -> Result<u32, CellError> {
        if let Some(decimal) = decimal(raw) {
            if let Some(&number) = self.raw_numbers.get(&(system, decimal)) {
                return Ok(number);
            }
            let Some(number) = self.new_number(system, raw)? else { return Ok(MALFORMED) };
            self.raw_numbers.insert((system, decimal), number);
            return Ok(number);
        }
        let hash = self.hasher.hash_one((system, raw));
        if let Some((_, _, number)) =
            self.raw.find(hash, |(known, text, _)| *known == system && text.as_ref() == raw)
        {
            return Ok(*number);
        }
        let Some(number) = self.new_number(system, raw)? else { return Ok(MALFORMED) };
        let Self { raw: table, hasher, .. } = self;
        table.insert_unique(hash, (system, raw.into(), number), |(system, text, _)| {
            hasher.hash_one((*system, text.as_ref()))
        });
        Ok(number)
    }

    /// The number of a code that is seen for the first time in this form; `None`: it is malformed.
    fn new_number(&mut self, system: u8, raw: &[u8]) -> Result<Option<u32>, CellError> {
        let shape = self.book.shapes[usize::from(system)];
        let normal = std::str::from_utf8(raw).ok().map(|text| normalise_code(shape, text));
        let Some(normal) = normal.filter(|text| shape.fits(text)) else { return Ok(None) };
        let (number, facts) = self.book.number(system, normal)?;
        if self.raw.len() + self.raw_numbers.len() >= CODES_MAX {
            return Err(CellError::TooManyCodes);
        }
        let place = number as usize;
        if place >= self.facts.len() {
            self.facts.resize(place + 1, MALFORMED_CODE);
        }
        self.facts[place] = facts;
        Ok(Some(number))
    }
}
