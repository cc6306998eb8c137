//! Codes as numbers: each distinct code of the source is normalised, held to its system's shape, and looked up in the
//! sensitive lists and the module's codelists once, however many rows carry it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher as _;

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

/// A code of the source, by the number that the source gave it on first sight.
pub(crate) struct Code {
    /// Position in [`Dictionary::systems`].
    pub(crate) system: u8,
    /// The normalised text.
    pub(crate) text: Box<str>,
    /// One bit a codelist of the manifest, in their order.
    pub(crate) codelists: u64,
    pub(crate) standing: Standing,
    /// Whether the objection policy has it as a dissent.
    pub(crate) dissent: Option<DissentType>,
}

/// Which objection a code makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DissentType {
    Type1,
    Type2,
}

/// All codes seen so far.
pub(crate) struct Dictionary {
    systems: Vec<String>,
    shapes: Vec<CodeShape>,
    codes: Vec<Code>,
    /// Raw texts: (system, text as in the database) to a code. Those that are decimal numbers are kept as numbers, which
    /// are found faster.
    raw: HashTable<(u8, Box<[u8]>, u32)>,
    raw_numbers: HashMap<(u8, u64), u32, DefaultHashBuilder>,
    /// Normalised texts to the same.
    normal: HashTable<u32>,
    hasher: DefaultHashBuilder,
    sensitive: HashSet<(String, String)>,
    dissents: HashMap<(String, String), DissentType>,
    codelists: Vec<HashSet<(String, String)>>,
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

impl Dictionary {
    /// An empty dictionary with the systems that a mapping may name.
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
            ..Self::bare()
        }
    }

    /// A dictionary without lists, for objection evidence.
    pub(crate) fn bare() -> Self {
        // Every malformed code is this one, so that free text in a code column is not kept.
        let malformed = Code {
            system: 0,
            text: Box::default(),
            codelists: 0,
            standing: Standing::Malformed,
            dissent: None,
        };
        Self {
            systems: Vec::new(),
            shapes: Vec::new(),
            codes: vec![malformed],
            raw: HashTable::new(),
            raw_numbers: HashMap::default(),
            normal: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            sensitive: HashSet::new(),
            dissents: HashMap::new(),
            codelists: Vec::new(),
        }
    }

    /// The codes from a number on, in the order of their numbers.
    pub(crate) fn codes_from(&self, first: usize) -> impl Iterator<Item = &Code> {
        self.codes[first.min(self.codes.len())..].iter()
    }

    /// The position of a system, which the mapping declares.
    pub(crate) fn system(&mut self, mapping: &Mapping, name: &str) -> u8 {
        if let Some(position) = self.systems.iter().position(|known| known == name) {
            return position as u8;
        }
        let system = lockgate_signing::code::CodeSystem::try_from(name.to_owned()).ok();
        let shape = system.and_then(|system| mapping.code_shape(&system));
        self.systems.push(name.to_owned());
        // The mapping was checked: every system that it names has a shape. `Category` takes the least.
        self.shapes.push(shape.unwrap_or(CodeShape::Category));
        // At most as many systems as a mapping has columns and names for them, far below 256 in a checked mapping.
        (self.systems.len() - 1).min(255) as u8
    }

    /// The names of the systems.
    pub(crate) fn systems(&self) -> &[String] {
        &self.systems
    }

    /// A code by its number.
    pub(crate) fn code(&self, number: u32) -> &Code {
        &self.codes[number as usize]
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
        let shape = self.shapes[usize::from(system)];
        let normal = std::str::from_utf8(raw).ok().map(|text| normalise_code(shape, text));
        let Some(normal) = normal.filter(|text| shape.fits(text)) else { return Ok(None) };
        let number = self.normal_number(system, normal)?;
        if self.raw.len() + self.raw_numbers.len() >= CODES_MAX {
            return Err(CellError::TooManyCodes);
        }
        Ok(Some(number))
    }

    fn normal_number(&mut self, system: u8, text: String) -> Result<u32, CellError> {
        let Self { codes, normal, hasher, .. } = self;
        let hash_of = |system: u8, text: &str| hasher.hash_one((system, text));
        let hash = hash_of(system, &text);
        let same = |&number: &u32| {
            let code: &Code = &codes[number as usize];
            code.system == system && *code.text == *text
        };
        if let Some(&number) = normal.find(hash, same) {
            return Ok(number);
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
        let number = codes.len() as u32;
        codes.push(Code { system, text: key.1.into_boxed_str(), codelists, standing, dissent });
        normal.insert_unique(hash, number, |&number| {
            let code = &codes[number as usize];
            hash_of(code.system, &code.text)
        });
        Ok(number)
    }
}
