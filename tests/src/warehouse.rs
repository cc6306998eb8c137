//! The warehouse: the program, and its keys, which are the only ones that open a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use lockgate_signing::keys::SigningKey;
use lockgate_signing::recipients::{Recipient, RecipientSigningKey, Recipients};
use lockgate_signing::sealed::OpeningKey;
use lockgate_signing::text_format::TextFormat as _;
use semver::Version;
use serde_json::Value;

use crate::binaries::Binaries;
use crate::command::{Finished, finish};
use crate::{Linker, Stage};

/// The name of the list that sites are configured with.
pub const RECIPIENTS: &str = "warehouse-england";

/// A warehouse's keys, in its data folder.
#[derive(Debug, Clone)]
pub struct WarehouseKeys {
    data: PathBuf,
    name: String,
}

impl WarehouseKeys {
    /// The keys of the warehouse in `folder/warehouse`; both are made where there are none.
    pub fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        Self::named(folder, "warehouse")
    }

    /// Other keys, of a warehouse in `folder/<name>`, for example those of the next year.
    pub fn named(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let keys = Self { data: folder.join(name), name: name.to_owned() };
        if !keys.data.exists() {
            let program = Binaries::locate()?.program("lockgate-warehouse")?;
            let warehouse = Warehouse { program, data: keys.data.clone() };
            warehouse.command(&["init"])?.ok()?;
            warehouse.command(&["key", "new", name])?.ok()?;
        }
        Ok(keys)
    }

    /// The file of the key that opens.
    pub fn opening_path(&self) -> PathBuf {
        self.data.join("keys").join(&self.name).join("opening-key.pem")
    }

    /// The file of the key that signs.
    pub fn signing_path(&self) -> PathBuf {
        self.data.join("keys").join(&self.name).join("signing-key.pem")
    }

    /// The key that opens.
    pub fn opening(&self) -> anyhow::Result<OpeningKey> {
        let pem = std::fs::read_to_string(self.opening_path()).context("the warehouse has no key")?;
        Ok(OpeningKey::from_pem(&pem)?)
    }

    /// The key that signs.
    pub fn signing(&self) -> anyhow::Result<SigningKey> {
        Ok(SigningKey::from_pem(&std::fs::read_to_string(self.signing_path())?)?)
    }

    /// The recipient that these keys are, for these days.
    pub fn recipient(&self, not_before: &str, not_after: &str) -> anyhow::Result<Recipient> {
        let public_key = self.opening()?.public();
        Ok(Recipient {
            name: self.name.parse()?,
            public_key,
            key_id: public_key.id(),
            signing_key: RecipientSigningKey(self.signing()?.public()),
            not_before: not_before.parse()?,
            not_after: not_after.parse()?,
        })
    }
}

/// Writes a list of recipients to a file and returns its path.
pub fn write_recipients(
    file: PathBuf,
    version: Version,
    recipients: Vec<Recipient>,
) -> anyhow::Result<PathBuf> {
    let list = Recipients { format: 1, id: RECIPIENTS.parse()?, version, recipients };
    std::fs::write(&file, list.encode()?)?;
    Ok(file)
}

/// A warehouse: its folder, and the program.
#[derive(Debug, Clone)]
pub struct Warehouse {
    program: PathBuf,
    data: PathBuf,
}

impl Warehouse {
    /// The warehouse to which the sites of a stage encrypt. The linker hands out to it, and the keys of the sites that are
    /// enrolled are pinned.
    pub fn of(stage: &Stage) -> anyhow::Result<Self> {
        let keys = WarehouseKeys::in_folder(stage.folder())?;
        let signing_key = RecipientSigningKey(keys.signing()?.public()).to_string();
        stage.linker.command(&["recipient", "add", "warehouse", &signing_key])?.ok()?;
        let warehouse = Self { program: stage.binaries.program("lockgate-warehouse")?, data: keys.data };
        warehouse.pin_sites(&stage.linker)?;
        Ok(warehouse)
    }

    /// The folder that holds everything.
    pub fn folder(&self) -> &Path {
        &self.data
    }

    /// Pins the keys of every site that is enrolled.
    pub fn pin_sites(&self, linker: &Linker) -> anyhow::Result<()> {
        let file = self.data.with_extension("sites.json");
        std::fs::write(&file, linker.command(&["--json", "sites"])?.ok()?.stdout)?;
        self.command(&["site", "import", &file.display().to_string()])?.ok().map(drop)
    }

    /// Uses another build of the program from now on.
    pub fn use_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// The program, ready to be given a command.
    pub fn program(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--data").arg(&self.data);
        command
    }

    /// Runs a command.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        finish(self.program().args(arguments))
    }

    /// Collects everything; what came of it, as JSON.
    pub fn collect(&self, url: &str) -> anyhow::Result<Value> {
        self.command(&["--json", "collect", "--linker", url])?.ok()?.json()
    }

    /// Rows of a table, each with the names of its columns.
    pub fn rows(&self, table: &str) -> anyhow::Result<Vec<BTreeMap<String, Value>>> {
        let shown = self.command(&["--json", "rows", table, "--limit", "1000000"])?.ok()?.json()?;
        let list = |value: &Value| value.as_array().cloned().context("no list");
        let columns = list(&shown["columns"])?;
        let names = || columns.iter().map(|name| name.as_str().unwrap_or_default().to_owned());
        let row = |row: &Value| Ok(names().zip(list(row)?).collect());
        list(&shown["rows"])?.iter().map(row).collect()
    }

    /// What `status` says.
    pub fn status(&self) -> anyhow::Result<Value> {
        self.command(&["--json", "status"])?.ok()?.json()
    }
}
