//! The linker against `sha256sum`.
//!
//! Ours: a signed header, then its blocks over loopback HTTP, one after the other as an agent sends them, from the first
//! request to the signed receipt: every byte received, hashed, written, synchronised. Blocks are of the size that a large
//! practice makes, and as incompressible. The peer: `sha256sum` of the same bytes, from the files that the linker stored.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use jiff::civil::date;
use lockgate_agent::linker_client::{HeaderAnswer, LinkerClient};
use lockgate_durable::key_file;
use lockgate_signing::bundle::{
    BlockRef, BundleHeader, BundleKind, ColumnInfo, ColumnKind, Counts, ModuleRef, OutputInfo, TokenInfo,
    TokenScheme,
};
use lockgate_signing::digest::Digest;
use lockgate_signing::encryption::{Encryption, WrappedKey};
use lockgate_signing::envelope::{sign, verify};
use lockgate_signing::ids::{BundleId, Name, Period, SiteId};
use lockgate_signing::keys::{PublicKey, SigningKey};
use lockgate_signing::sealed::SealingKeyId;
use lockgate_tests::{AS_OF, SiteOptions, Stage};

use crate::process::{self, Usage, medians};

const TURNS: usize = 5;
/// A block of a large practice's events is some 500 kB.
const BLOCK_BYTES: usize = 512 << 10;
const BLOCKS: usize = 512;

pub(crate) fn over_sha256sum() -> anyhow::Result<(f64, String)> {
    let stage = Stage::unpublished(AS_OF)?;
    let site = stage.site("site", SiteOptions::practice("A81001", Path::new("none.sqlite")))?;
    let mut sender = Sender {
        client: LinkerClient::new(&stage.linker.url())?,
        key: key_file::load(&site.state().join("site-key.pem"))?,
        linker_key: PublicKey::from_pem(&std::fs::read_to_string(site.state().join("linker-key.pem"))?)?,
        site: "A81001".parse()?,
        last: None,
    };
    let server = stage.linker.process().context("the linker does not run")?;
    let (mut seconds, mut sums) = (Vec::new(), Vec::new());
    for _ in 0..=TURNS {
        let blocks = random_blocks()?;
        let cpu_before = cpu_s(server)?;
        let started = Instant::now();
        let digests = sender.send(&blocks)?;
        let wall_s = started.elapsed().as_secs_f64();
        seconds.push(Usage { wall_s, cpu_s: cpu_s(server)? - cpu_before, peak_mib: 0.0 });
        let files = digests.iter().map(|digest| stored(stage.linker.folder(), *digest));
        let files: Vec<PathBuf> = files.collect::<Result<_, _>>()?;
        sums.push(process::run(Command::new("sha256sum").args(&files), None)?);
    }
    let (ours, theirs) = (medians(&seconds[1..]), medians(&sums[1..]));
    let megabytes = (BLOCKS * BLOCK_BYTES) as f64 / 1e6;
    let detail = format!(
        "{:.0} ÷ {:.0} MB/s; {megabytes:.0} MB in {BLOCKS} blocks, synchronised; the linker's CPU time {:.2} s ÷ {:.2} s",
        megabytes / ours.wall_s,
        megabytes / theirs.wall_s,
        ours.cpu_s,
        theirs.cpu_s
    );
    Ok((theirs.wall_s / ours.wall_s, detail))
}

fn random_blocks() -> anyhow::Result<Vec<(Digest, Vec<u8>)>> {
    let block = |_| {
        let mut bytes = vec![0; BLOCK_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok((Digest::of(&bytes), bytes))
    };
    (0..BLOCKS).map(block).collect()
}

/// The file of a block in the linker's store.
fn stored(linker: &Path, digest: Digest) -> anyhow::Result<PathBuf> {
    let name = digest.to_hex();
    let path = linker.join("objects/blocks").join(&name[..2]).join(&name);
    ensure!(path.exists(), "the linker has not stored {name}");
    Ok(path)
}

/// What a process has used so far, user and kernel (proc(5), `stat`, fields 14 and 15, in ticks of 10 ms).
fn cpu_s(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit_once(')').context("no name in stat")?.1;
    let ticks: f64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

struct Sender {
    client: LinkerClient,
    key: SigningKey,
    linker_key: PublicKey,
    site: SiteId,
    last: Option<(u64, BundleId)>,
}

/// How long a request may take.
const LEFT: std::time::Duration = std::time::Duration::from_secs(120);

impl Sender {
    /// Sends a bundle of these blocks until there is a receipt; returns the blocks' digests.
    fn send(&mut self, blocks: &[(Digest, Vec<u8>)]) -> anyhow::Result<Vec<Digest>> {
        let header = self.header(blocks)?;
        let signed = sign(&header, &self.key);
        let id = verify::<BundleHeader>(&signed, &self.key.public())?.id();
        let HeaderAnswer::Missing(missing) =
            self.client.post_header(signed.clone(), &self.linker_key, LEFT)?
        else {
            bail!("the linker had the blocks already");
        };
        ensure!(missing.len() == blocks.len(), "the linker wants other blocks");
        for (digest, bytes) in blocks {
            self.client.put_block(*digest, bytes.clone(), LEFT)?;
        }
        let HeaderAnswer::Receipt(..) = self.client.post_header(signed, &self.linker_key, LEFT)? else {
            bail!("the linker still lacks blocks");
        };
        self.last = Some((header.sequence, id));
        Ok(blocks.iter().map(|(digest, _)| *digest).collect())
    }

    fn header(&self, blocks: &[(Digest, Vec<u8>)]) -> anyhow::Result<BundleHeader> {
        let name = |text: &str| Name::try_from(text.to_owned());
        let block = |(digest, bytes): &(Digest, Vec<u8>)| BlockRef {
            digest: *digest,
            bytes: bytes.len() as u64,
            rows: lockgate_signing::block::ROWS_MAX,
        };
        let nothing = Digest::of(b"");
        Ok(BundleHeader {
            site: self.site.clone(),
            sequence: self.last.map_or(1, |(sequence, _)| sequence + 1),
            previous: self.last.map(|(_, id)| id),
            module: ModuleRef {
                id: name("bench")?,
                version: semver::Version::new(1, 0, 0),
                manifest: nothing,
                component: nothing,
            },
            policy: nothing,
            sensitive: nothing,
            mapping: nothing,
            rollout: None,
            purpose: name("bench")?,
            tokens: TokenInfo { scheme: TokenScheme::SealedKey, epoch: 1, links: Vec::new(), former: None },
            period: Period::of(date(2026, 10, 1)),
            snapshot_at_s: 1_793_534_400,
            agent_version: "0.0.0".to_owned(),
            fuel: 0,
            counts: Counts::default(),
            outputs: vec![OutputInfo {
                name: name("rows")?,
                aggregate: false,
                columns: vec![ColumnInfo { name: name("day")?, kind: ColumnKind::Date }],
                blocks: blocks.iter().map(block).collect(),
            }],
            patients: Vec::new(),
            codes: Vec::new(),
            encryption: Encryption::new(vec![WrappedKey {
                key: SealingKeyId(nothing),
                encapsulated: [1; 32],
                wrapped: [2; 48],
            }]),
            supersedes: None,
            directions: Vec::new(),
            kind: BundleKind::Extract,
        })
    }
}
