//! The promise of docs/DATA_FLOW.md, checked from outside: what a site made is at the linker exactly once, on disk, and both
//! sides know it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::verify;
use lockgate_signing::ids::BundleId;
use lockgate_signing::keys::{PublicKey, SigningKey};
use lockgate_signing::receipt::Receipt;
use serde_json::Value;

use crate::linker::Linker;
use crate::site::Site;

/// A site, a linker, and where their files are seen.
#[derive(Debug)]
pub struct ExactlyOnce<'a> {
    /// The linker.
    pub linker: &'a Linker,
    /// The site.
    pub site: &'a Site,
    /// The agent's state folder, as it is seen from here.
    pub state: PathBuf,
    /// The linker's blocks and headers, as they are seen from here.
    pub objects: PathBuf,
}

impl<'a> ExactlyOnce<'a> {
    /// A site and a linker whose folders are where they say.
    pub fn new(linker: &'a Linker, site: &'a Site) -> Self {
        Self { linker, site, state: site.state(), objects: linker.folder().join("objects") }
    }

    /// Checks that this many bundles were made, that all of them were sent, and that a further run changes nothing.
    pub fn check(&self, bundles: u64) -> anyhow::Result<()> {
        self.check_outbox()?;
        let stored = self.stored()?;
        self.check_linker(&stored, bundles)?;
        self.check_ledger(bundles)?;
        let again = self.site.run()?;
        ensure!(again["acknowledged"] == Value::Array(Vec::new()), "a further run sent something: {again}");
        ensure!(self.stored()? == stored, "a further run changed something at the linker");
        Ok(())
    }

    /// Nothing waits, and nothing half-made lies about.
    fn check_outbox(&self) -> anyhow::Result<()> {
        let left = files_below(&self.state.join("outbox"))?;
        ensure!(left.is_empty(), "left in the outbox: {left:?}");
        for part in ["outbox/sealing", "outbox/queued", "outbox/removing"] {
            ensure!(std::fs::read_dir(self.state.join(part))?.count() == 0, "a folder is left in {part}");
        }
        let unfinished = |file: &&PathBuf| file.to_string_lossy().ends_with(".part");
        let files = files_below(&self.state)?;
        let left: Vec<_> = files.iter().filter(unfinished).collect();
        ensure!(left.is_empty(), "left by the agent: {left:?}");
        // Every file of the store has the name of its digest, and nothing else: no `.part`, no `#1`.
        for file in files_below(&self.objects)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            ensure!(name == digest_of(&file)?.to_hex(), "{} is not what it is called", file.display());
        }
        Ok(())
    }

    fn stored(&self) -> anyhow::Result<Vec<Value>> {
        let site = self.site.options.id.as_str();
        let listed = self.linker.command(&["--json", "bundles", "--site", site])?.ok()?.json()?;
        listed["bundles"].as_array().cloned().context("no list of bundles")
    }

    /// One bundle for each module and month, each accepted and with all its blocks on disk; a chain without gap or fork.
    fn check_linker(&self, stored: &[Value], bundles: u64) -> anyhow::Result<()> {
        let key = SigningKey::from_pem(&std::fs::read_to_string(self.state.join("site-key.pem"))?)?.public();
        let mut made = BTreeSet::new();
        let (mut previous, mut sequence) = (None, 0);
        let mut in_order: Vec<_> = stored.iter().collect();
        in_order.sort_by_key(|bundle| bundle["sequence"].as_u64());
        for bundle in in_order {
            ensure!(bundle["accepted-at-s"].is_i64(), "a bundle waits for blocks: {bundle}");
            ensure!(bundle["superseded-by"].is_null(), "a bundle was made twice: {bundle}");
            ensure!(made.insert((bundle["module"].as_str(), bundle["period"].as_str())), "twice: {bundle}");
            let id: BundleId = bundle["id"].as_str().unwrap_or_default().parse()?;
            let name = id.0.to_hex();
            let header = std::fs::read(self.objects.join("headers").join(&name[..2]).join(&name))?;
            let header = verify::<BundleHeader>(&header, &key)?;
            ensure!(header.id() == id, "another header is stored as {id}");
            let header = header.into_message();
            ensure!(header.previous == previous && header.sequence == sequence + 1, "no chain: {header:?}");
            (previous, sequence) = (Some(id), header.sequence);
            for block in header.blocks() {
                let name = block.digest.to_hex();
                let path = self.objects.join("blocks").join(&name[..2]).join(&name);
                ensure!(digest_of(&path)? == block.digest, "block {name} is not what was acknowledged");
            }
        }
        ensure!(made.len() as u64 == bundles, "{} bundles in place of {bundles}", made.len());
        let sites = self.linker.command(&["--json", "sites"])?.ok()?.json()?;
        let site = sites["sites"].as_array().into_iter().flatten();
        let site = site.into_iter().find(|site| site["site"] == self.site.options.id.as_str());
        let site = site.context("the linker does not know the site")?;
        let whole = site["expected"] == bundles + 1 && site["pending"] == 0;
        let nothing = Value::Array(Vec::new());
        ensure!(whole && site["missing"] == nothing && site["incidents"] == nothing, "not whole: {site}");
        Ok(())
    }

    /// The ledger's chain verifies (the agent refuses to start otherwise) and tells of each bundle once, with its receipt.
    fn check_ledger(&self, bundles: u64) -> anyhow::Result<()> {
        let linker_key = PublicKey::from_pem(&std::fs::read_to_string(self.state.join("linker-key.pem"))?)?;
        let history = self.site.command(&["--json", "history"])?.ok()?.json()?;
        let entries = history["entries"].as_array().cloned().unwrap_or_default();
        for event in ["sealed", "acknowledged"] {
            let told: Vec<_> = entries.iter().filter(|entry| entry["event"] == event).collect();
            let sequences: Vec<_> = told.iter().filter_map(|entry| entry["sequence"].as_u64()).collect();
            ensure!(sequences == Vec::from_iter(1..=bundles), "the ledger has {event} {sequences:?}");
        }
        let files = files_below(&self.state.join("receipts"))?;
        ensure!(files.len() as u64 == bundles, "{} receipts", files.len());
        for file in files {
            let receipt = verify::<Receipt>(&std::fs::read(&file)?, &linker_key)?;
            let told = entries.iter().any(|entry| {
                entry["event"] == "acknowledged"
                    && entry["bundle"] == receipt.message().bundle.to_string()
                    && entry["receipt"] == digest_text(receipt.digest())
            });
            ensure!(told, "the ledger does not know the receipt {}", file.display());
        }
        Ok(())
    }
}

/// As the ledger writes it.
fn digest_text(digest: Digest) -> String {
    digest.to_string()
}

fn digest_of(file: &Path) -> anyhow::Result<Digest> {
    Ok(Digest::of(&std::fs::read(file).with_context(|| file.display().to_string())?))
}

/// Every file below a folder.
pub fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
