//! What encryption and signing take of a whole run.
//!
//! The run is the agent's first one at a typical practice, `lockgate-agent run --no-push`, in CPU time on all cores. Then the
//! bundles that it made are opened with the warehouse's key, and what the agent did to their blocks is done again here by the
//! same functions: a content key drawn and sealed to the recipient, each block encrypted and its digest taken, the header signed.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use lockgate_durable::key_file;
use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::digest::Digest;
use lockgate_signing::encryption::{BlockPlace, ContentKey};
use lockgate_signing::envelope::{sign, verify};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::recipients::Recipient;
use lockgate_tests::opened;
use lockgate_tests::{Site, WarehouseKeys};
use zeroize::Zeroizing;

use crate::data::{Data, FreshSite, TYPICAL};
use crate::process::{self, medians};
use crate::report::median;

/// Turns whose median counts.
const TURNS: usize = 5;

pub(crate) fn share(data: &Data) -> anyhow::Result<(f64, String)> {
    let fresh = FreshSite::new(&data.practice(TYPICAL)?, &[])?;
    let mut runs = Vec::new();
    // One turn first that does not count, so that the file cache is as warm for the first as for the last.
    for turn in 0..=TURNS {
        fresh.reset()?;
        let run = process::run(&fresh.run_without_push(), None)?;
        if turn > 0 {
            runs.push(run);
        }
    }
    let run_s = medians(&runs).cpu_s;
    let made = made(&fresh)?;
    let key = key_file::load(&fresh.site.state().join("site-key.pem"))?;
    let warehouse = WarehouseKeys::in_folder(fresh.site.folder.parent().context("the site is in no stage")?)?;
    let recipient = warehouse.recipient("2020-01-01", "2039-12-31")?;
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        turns.push(
            made.iter().map(|bundle| bundle.seal_again(&recipient, &key)).sum::<anyhow::Result<f64>>()?,
        );
    }
    let sealing_s = median(turns);
    let blocks: usize = made.iter().map(|bundle| bundle.frames.len()).sum();
    let bytes: usize = made.iter().flat_map(|bundle| &bundle.frames).map(|(_, frame)| frame.len()).sum();
    ensure!(bytes > 1_000_000, "the run made {bytes} bytes, which is not a practice's first run");
    let detail = format!(
        "{:.1} ms for {} bundles, {blocks} blocks, {:.1} MB, done again in this process by the agent's functions, one core ÷ \
         {:.2} s of CPU of a real first run without its push",
        sealing_s * 1e3,
        made.len(),
        bytes as f64 / 1e6,
        run_s
    );
    Ok((sealing_s / run_s * 100.0, detail))
}

/// A bundle before it was encrypted and signed.
struct Made {
    header: BundleHeader,
    frames: Vec<(BlockPlace, Vec<u8>)>,
}

impl Made {
    /// Encrypts and signs it; the seconds that this takes.
    fn seal_again(&self, recipient: &Recipient, key: &SigningKey) -> anyhow::Result<f64> {
        let frames = self.frames.clone();
        let started = Instant::now();
        let content = ContentKey::new(random()?, &self.header.context());
        let wrapped = content.wrap(recipient, &random()?)?;
        for (place, frame) in frames {
            std::hint::black_box(Digest::of(&content.encrypt(place, frame)?));
        }
        let signed = sign(&self.header, key);
        let elapsed = started.elapsed().as_secs_f64();
        std::hint::black_box((wrapped, signed));
        Ok(elapsed)
    }
}

/// The bundles in the outbox, opened.
fn made(fresh: &FreshSite) -> anyhow::Result<Vec<Made>> {
    let site: &Site = &fresh.site;
    let (key, warehouse) = (opened::site_key(site)?, opened::warehouse_key(site)?);
    let open = |folder: std::path::PathBuf| {
        let signed = std::fs::read(folder.join("header.cbor"))?;
        let header = verify::<BundleHeader>(&signed, &key)?.into_message();
        let file = |block: &lockgate_signing::bundle::BlockRef| {
            folder.join(format!("{}.block", block.digest.to_hex()))
        };
        let frames = opened::frames(&signed, &key, &warehouse, file)?;
        let frames = frames.into_iter().map(|frame| (frame.place, frame.bytes)).collect();
        Ok(Made { header, frames })
    };
    fresh.bundles()?.into_iter().map(open).collect()
}

fn random() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(bytes)
}
