//! From an author's manifest and WebAssembly file to the two files that are published.

use std::collections::BTreeMap;

use jiff::civil::Date;
use lockgate_signing::code::CodeSystem;
use lockgate_signing::codelist::Codelist;
use lockgate_signing::digest::Digest;
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::{Component, Manifest};
use lockgate_signing::text_format::{TextFormat as _, TextFormatError};
use semver::Version;
use toml::{Table, Value};

use crate::contract::{self, ContractError};
use crate::lint::{self, Warning};

/// Codes to put into a manifest: one codelist, one system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedCodelist {
    /// The codelist's name in the manifest.
    pub name: Name,
    /// The system of the codes.
    pub system: CodeSystem,
    /// The codes.
    pub codes: Vec<String>,
}

/// A module that can be staged.
#[derive(Debug)]
pub struct PreparedModule {
    /// What it declares, its component included.
    pub manifest: Manifest,
    /// The manifest's bytes as they will be signed.
    pub manifest_toml: Vec<u8>,
    /// The component's bytes.
    pub component: Vec<u8>,
    /// What a reviewer should look at.
    pub warnings: Vec<Warning>,
}

/// A module cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The manifest is not TOML.
    #[error("the manifest cannot be read: {0}")]
    Toml(String),
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] TextFormatError),
    /// A published codelist cannot be taken.
    #[error("`codelist.{name}`: {why}")]
    Codelist {
        /// Its name in the manifest.
        name: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The component is wrong.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// Its last day is over.
    #[error(
        "the manifest's `not-after` is {not_after}, and it is {today}; no site would run it: set a later day"
    )]
    Expired {
        /// The last day.
        not_after: Date,
        /// Today.
        today: Date,
    },
    /// The manifest names another component.
    #[error("the manifest's [component] names another file; leave the table out: `module add` writes it")]
    OtherComponent,
}

/// Checks what a module declares: before it is built, which takes minutes.
pub fn declared(text: &str, codelists: &[LoadedCodelist], today: Date) -> Result<Manifest, ModuleError> {
    let manifest = read_manifest(text, codelists)?;
    if manifest.not_after < today {
        return Err(ModuleError::Expired { not_after: manifest.not_after, today });
    }
    Ok(manifest)
}

/// Checks a module and makes its published form.
pub fn prepare(mut manifest: Manifest, wasm: Vec<u8>, today: Date) -> Result<PreparedModule, ModuleError> {
    let component = contract::componentise(wasm)?;
    contract::check(&component)?;
    let names = Component { digest: Digest::of(&component), bytes: component.len() as u64 };
    if manifest.component.as_ref().is_some_and(|named| *named != names) {
        return Err(ModuleError::OtherComponent);
    }
    manifest.component = Some(names);
    // What is signed is what a site will decode.
    let manifest_toml = manifest.encode()?.into_bytes();
    let manifest = Manifest::decode(&manifest_toml)?;
    let warnings = lint::warnings(&manifest, today);
    Ok(PreparedModule { manifest, manifest_toml, component, warnings })
}

/// The author's manifest with the codes of the published codelists that it names in place of their names:
/// `diabetes = { published = "diabetes", version = "1.0.0" }`. A site never resolves a name: it sees the codes.
pub fn resolve_codelists(
    text: &str,
    published: impl Fn(&Name, &Version) -> Option<Codelist>,
) -> Result<String, ModuleError> {
    let mut manifest: Table = toml::from_str(text).map_err(|error| ModuleError::Toml(error.to_string()))?;
    let mut resolved = false;
    let lists = manifest.get_mut("codelist").and_then(Value::as_table_mut);
    for (name, list) in lists.into_iter().flatten() {
        let Some(id) = list.get("published") else { continue };
        let wrong = |why: &str| ModuleError::Codelist { name: name.to_string(), why: why.to_owned() };
        let version =
            list.get("version").and_then(Value::as_str).ok_or_else(|| wrong("it has no `version`"))?;
        if list.as_table().is_some_and(|list| list.len() != 2) {
            return Err(wrong("with `published` it has `version` and nothing else"));
        }
        let id: Name =
            id.as_str().and_then(|id| id.parse().ok()).ok_or_else(|| wrong("`published` is not a name"))?;
        let version = Version::parse(version)
            .map_err(|_| wrong("`version` is not a semantic version, such as 1.0.0"))?;
        let codelist = published(&id, &version).ok_or_else(|| {
            wrong(&format!(
                "codelist {id} {version} is neither published nor staged; add it with `codelist add`"
            ))
        })?;
        *list = Value::try_from(&codelist.codes).map_err(|error| ModuleError::Toml(error.to_string()))?;
        resolved = true;
    }
    if !resolved {
        return Ok(text.to_owned());
    }
    toml::to_string(&manifest).map_err(|error| ModuleError::Toml(error.to_string()))
}

/// The author's manifest, with the loaded codes in place of its own of the same codelist and system.
fn read_manifest(text: &str, loaded: &[LoadedCodelist]) -> Result<Manifest, ModuleError> {
    if loaded.is_empty() {
        return Ok(Manifest::decode(text.as_bytes())?);
    }
    // As a table, because a manifest whose codelist is still empty does not decode.
    let mut manifest: Table = toml::from_str(text).map_err(|error| ModuleError::Toml(error.to_string()))?;
    let mut by_list: BTreeMap<(&Name, &CodeSystem), Vec<&String>> = BTreeMap::new();
    for list in loaded {
        by_list.entry((&list.name, &list.system)).or_default().extend(&list.codes);
    }
    let codelists = manifest.entry("codelist").or_insert_with(|| Value::Table(Table::new()));
    for ((name, system), mut codes) in by_list {
        codes.sort_unstable();
        codes.dedup();
        let list = codelists
            .as_table_mut()
            .map(|lists| lists.entry(name.as_str()).or_insert_with(|| Value::Table(Table::new())))
            .and_then(Value::as_table_mut)
            .ok_or_else(|| ModuleError::Toml(format!("`codelist.{name}` is not a table")))?;
        let codes = codes.into_iter().map(|code| Value::String(code.clone())).collect();
        list.insert(system.as_str().to_owned(), Value::Array(codes));
    }
    let text = toml::to_string(&manifest).map_err(|error| ModuleError::Toml(error.to_string()))?;
    Ok(Manifest::decode(text.as_bytes())?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::contract::tests::component;

    /// A manifest as an author writes it.
    pub(crate) const MANIFEST: &str = r#"
format = 1
id = "example"
version = "1.0.0"
title = "An example for tests"
purpose = "example"
legal-basis = "None: this module is for tests only."
interface = "lockgate:extract@1.0.0"
sites = "practice"
not-after = "2027-12-31"

[window]
initial = "4 months"

[limits]
memory-mib = 64
fuel = 1000000
wall-clock-s = 60
output-rows = 1000

[tokens]
link = ["nhs-number"]

[codelist.diabetes]
snomed = ["44054006"]
read2 = ["C10F."]

[input.events]
table = "observation"
columns = ["patient", "code"]
span = "period"
codelists = ["diabetes"]

[output.events]
columns = [{ name = "patient", type = "patient" }, { name = "code", type = "code", systems = ["snomed", "read2"] }]
"#;

    pub(crate) fn today() -> Date {
        jiff::civil::date(2026, 11, 1)
    }

    /// A module of this manifest.
    pub(crate) fn prepared(
        manifest: &str,
        codelists: &[LoadedCodelist],
        today: Date,
    ) -> Result<PreparedModule, ModuleError> {
        prepare(declared(manifest, codelists, today)?, component(), today)
    }

    #[test]
    fn the_published_manifest_names_its_component() {
        let prepared = prepared(MANIFEST, &[], today()).unwrap();
        let decoded = Manifest::decode(&prepared.manifest_toml).unwrap();
        assert_eq!(decoded.component.unwrap().digest, Digest::of(&prepared.component));
        assert_eq!(prepared.warnings, []);
    }

    #[test]
    fn loaded_codes_replace_those_of_their_system_only() {
        let codes = vec!["73211009".to_owned(), "46635009".to_owned()];
        let system = CodeSystem::try_from("snomed".to_owned()).unwrap();
        let loaded = LoadedCodelist { name: "diabetes".parse().unwrap(), system: system.clone(), codes };
        let manifest = prepared(MANIFEST, &[loaded], today()).unwrap().manifest;
        let list = &manifest.codelists[&"diabetes".parse::<Name>().unwrap()];
        assert_eq!(list[&system], ["46635009", "73211009"]);
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn a_published_codelist_is_written_into_the_manifest() {
        let named = MANIFEST.replace(
            "[codelist.diabetes]\nsnomed = [\"44054006\"]\nread2 = [\"C10F.\"]",
            "[codelist]\ndiabetes = { published = \"dm\", version = \"1.0.0\" }",
        );
        assert_ne!(named, MANIFEST);
        let codelist = "format = 1\nid = \"dm\"\nversion = \"1.0.0\"\ntitle = \"Diabetes\"\n[codes]\nsnomed = [\"73211009\"]\n";
        let codelist = Codelist::decode(codelist.as_bytes()).unwrap();
        let published = |id: &Name, version: &Version| {
            (id.as_str() == "dm" && *version == Version::new(1, 0, 0)).then(|| codelist.clone())
        };
        let resolved = resolve_codelists(&named, published).unwrap();
        let manifest = prepared(&resolved, &[], today()).unwrap().manifest;
        let list = &manifest.codelists[&"diabetes".parse::<Name>().unwrap()];
        assert_eq!(list, &codelist.codes);
        assert_eq!(resolve_codelists(MANIFEST, published).unwrap(), MANIFEST);
        let other = named.replace("\"1.0.0\" }", "\"1.0.1\" }");
        let refused = resolve_codelists(&other, published).unwrap_err().to_string();
        assert!(refused.contains("codelist dm 1.0.1 is neither published nor staged"), "{refused}");
    }

    #[test]
    fn what_no_site_would_run_is_refused() {
        let late = jiff::civil::date(2028, 1, 1);
        assert!(matches!(prepared(MANIFEST, &[], late), Err(ModuleError::Expired { .. })));
        let other = format!("{MANIFEST}\n[component]\ndigest = \"{}\"\nbytes = 3\n", Digest::of(b"abc"));
        assert!(matches!(prepared(&other, &[], today()), Err(ModuleError::OtherComponent)));
    }

    #[test]
    fn a_number_that_could_hold_an_nhs_number_is_remarked() {
        let wide = MANIFEST.replace(
            "{ name = \"patient\", type = \"patient\" }",
            "{ name = \"patient\", type = \"patient\" }, { name = \"value\", type = \"number\", min = 0.0, max = 1e10, decimals = 0 }",
        );
        let warnings = prepared(&wide, &[], today()).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].place.ends_with("columns.value"));
    }
}
