//! The linker's side: every bundle that an agent made is there once, was acknowledged, has its blocks on disk, and opens with
//! the warehouse's key to what the agent said.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::verify;
use lockgate_signing::opened::open_bundle;
use lockgate_tests::Stage;
use lockgate_tests::opened::{files, site_key, warehouse_key};
use serde_json::Value;

use super::Ran;
use super::figures::{Difference, bundles};

/// What the linker holds.
#[derive(Debug, Default)]
pub(super) struct LinkerSide {
    /// Accepted bundles.
    pub(super) bundles: u64,
    /// Blocks of them on disk, each hashed.
    pub(super) blocks: u64,
    /// Bytes of the blocks.
    pub(super) bytes: u64,
    /// Rows that the warehouse reads.
    pub(super) rows: u64,
    /// Where it differs from what the agents say.
    pub(super) differences: Vec<Difference>,
}

/// Compares the linker with the agents.
pub(super) fn check(stage: &Stage, ran: &[Ran]) -> Result<LinkerSide> {
    let mut side = LinkerSide::default();
    let stored = stage.linker.command(&["--json", "bundles"])?.ok()?.json()?;
    let stored = stored["bundles"].as_array().context("the linker lists no bundles")?;
    let mut made = BTreeSet::new();
    for ran in ran {
        let site = &ran.source.id;
        let acknowledged = by_id(&ran.printed["acknowledged"])?;
        for (module, bundle) in bundles(&ran.printed) {
            let what = format!("{site} {module} {}", bundle["period"].as_str().unwrap_or_default());
            let id = bundle["id"].as_str().with_context(|| format!("{what}: nothing was sent"))?;
            made.insert(id);
            let bytes = &bundle["bytes"];
            side.expect(&what, "bytes acknowledged", acknowledged.get(id).map(|it| &it["bytes"]), bytes);
            let at_linker: Vec<&Value> = stored.iter().filter(|it| it["id"] == id).collect();
            side.expect(&what, "copies at the linker", Some(&at_linker.len().into()), &1.into());
            for found in at_linker {
                side.expect(&what, "site", Some(&found["site"]), &site.as_str().into());
                side.expect(&what, "bytes at the linker", Some(&found["bytes"]), bytes);
                side.expect(&what, "rows at the linker", Some(&found["rows"]), &bundle["rows"]);
                side.expect(&what, "superseded by", Some(&found["superseded-by"]), &Value::Null);
                side.expect(&what, "accepted", Some(&found["accepted-at-s"].is_i64().into()), &true.into());
                side.bundles += 1;
            }
            side.blocks_of(stage, &what, id)?;
        }
        side.opened(stage, ran)?;
        let nothing = Value::Array(Vec::new());
        side.expect(site, "sent by a second run", Some(&ran.again["acknowledged"]), &nothing);
        let waiting = ran.site.command(&["--json", "outbox"])?.ok()?.json()?;
        side.expect(site, "bundles left in the outbox", Some(&waiting["queued"]), &nothing);
    }
    let strangers = stored.iter().filter(|it| it["id"].as_str().is_none_or(|id| !made.contains(id))).count();
    side.expect("linker", "bundles that no agent made", Some(&strangers.into()), &0.into());
    Ok(side)
}

fn by_id(list: &Value) -> Result<BTreeMap<&str, &Value>> {
    let list = list.as_array().context("the agent lists no receipts")?;
    list.iter().map(|it| Ok((it["id"].as_str().context("a receipt names no bundle")?, it))).collect()
}

impl LinkerSide {
    fn expect(&mut self, site: &str, what: &str, found: Option<&Value>, expected: &Value) {
        if found != Some(expected) {
            self.differences.push(Difference {
                what: format!("{site} {what}"),
                reported: found.map_or_else(|| "nothing".to_owned(), Value::to_string),
                expected: expected.to_string(),
            });
        }
    }

    /// Opens a site's bundles as the warehouse does, and counts the rows of each.
    fn opened(&mut self, stage: &Stage, ran: &Ran) -> Result<()> {
        let (key, warehouse) = (site_key(&ran.site)?, warehouse_key(&ran.site)?);
        let objects = stage.linker.folder().join("objects");
        for (module, bundle) in bundles(&ran.printed) {
            let what =
                format!("{} {module} {}", ran.source.id, bundle["period"].as_str().unwrap_or_default());
            let id = bundle["id"].as_str().with_context(|| format!("{what}: nothing was sent"))?;
            let header = files(&objects.join("headers"))?.into_iter().find(|file| file.ends_with(id));
            let header = std::fs::read(header.with_context(|| format!("{what}: no header"))?)?;
            let header = verify::<BundleHeader>(&header, &key)?;
            let opened = open_bundle(&header, &warehouse, |block| {
                let hex = block.digest.to_hex();
                std::fs::read(objects.join("blocks").join(&hex[..2]).join(hex))
            })
            .with_context(|| what.clone())?;
            let rows: usize = opened.outputs.iter().flatten().map(|block| block.rows).sum();
            self.expect(&what, "rows at the warehouse", Some(&rows.into()), &bundle["rows"]);
            self.rows += rows as u64;
        }
        Ok(())
    }

    /// Hashes the blocks that a stored header names.
    fn blocks_of(&mut self, stage: &Stage, what: &str, id: &str) -> Result<()> {
        let shown = stage.linker.command(&["--json", "bundle", "show", id])?.ok()?.json()?;
        let header = &shown["header"];
        let outputs = header["outputs"].as_array().into_iter().flatten().map(|output| &output["blocks"]);
        let lists = outputs.chain([&header["patients"], &header["codes"]]);
        for block in lists.flat_map(|list| list.as_array().into_iter().flatten()) {
            let digest: Digest = block["digest"].as_str().context("a block has no digest")?.parse()?;
            let hex = digest.to_hex();
            let (folder, _) = hex.split_at(2);
            let path = stage.linker.folder().join("objects/blocks").join(folder).join(&hex);
            let found = std::fs::read(&path).ok().map(|bytes| (Digest::of(&bytes), bytes.len() as u64));
            let Some((found, bytes)) = found else {
                self.expect(what, &format!("block {hex}"), None, &"a file".into());
                continue;
            };
            self.expect(what, "block on disk", Some(&found.to_hex().into()), &hex.into());
            self.expect(what, "bytes on disk", Some(&bytes.into()), &block["bytes"]);
            self.blocks += 1;
            self.bytes += bytes;
        }
        Ok(())
    }
}
