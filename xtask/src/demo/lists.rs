//! The published lists, read as data: which codes are sensitive, and which are on a module's codelists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::sources::CodelistFile;

/// A set of codes, as (system, code in its one form).
pub(super) type Codes = BTreeSet<(String, String)>;

/// The lists.
#[derive(Debug)]
pub(super) struct Lists {
    /// Codes whose rows no module sees.
    pub(super) sensitive: Codes,
    /// The codelists of the diabetes register, by name.
    pub(super) codelists: BTreeMap<String, Codes>,
}

impl Lists {
    /// Those of the examples, with published codelists in their places.
    pub(super) fn read(root: &Path, published: &[CodelistFile]) -> Result<Self> {
        let sensitive = table(&root.join("examples/registry/sensitive/england.toml"))?;
        let manifest = table(&root.join("guest-modules/diabetes-register/module.toml"))?;
        let groups = tables(&sensitive, "group").flat_map(|(_, group)| codes(group));
        let mut codelists: BTreeMap<String, Codes> =
            tables(&manifest, "codelist").map(|(name, list)| (name.clone(), codes(list).collect())).collect();
        for list in published {
            let codes = codelists.entry(list.name.to_owned()).or_default();
            codes.retain(|(system, _)| system != list.system);
            let text = std::fs::read_to_string(&list.file)
                .with_context(|| format!("cannot read {}", list.file.display()))?;
            let first_column = text.lines().skip(1).filter_map(|line| line.split(',').next());
            codes.extend(first_column.map(|code| (list.system.to_owned(), code.trim().to_owned())));
        }
        Ok(Self { sensitive: groups.collect(), codelists })
    }
}

fn table(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not TOML", path.display()))
}

/// The tables within a table of a document.
fn tables<'t>(document: &'t Table, name: &str) -> impl Iterator<Item = (&'t String, &'t Table)> {
    let of_name = document.get(name).and_then(Value::as_table).into_iter().flatten();
    of_name.filter_map(|(name, value)| Some((name, value.as_table()?)))
}

/// `{ snomed = ["44054006"] }` as codes.
fn codes(by_system: &Table) -> impl Iterator<Item = (String, String)> {
    by_system.iter().flat_map(|(system, texts)| {
        let texts = texts.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(|text| (system.clone(), text.to_owned()))
    })
}
