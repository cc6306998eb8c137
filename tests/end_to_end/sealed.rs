//! What the linker holds opens for nobody but the warehouse.

use std::collections::BTreeSet;
use std::io::{Read as _, Seek as _, SeekFrom};

use aho_corasick::AhoCorasick;
use anyhow::{Context as _, ensure};
use data_encoding::{BASE64, HEXLOWER};
use lockgate_signing::sealed::OpeningKey;
use lockgate_tests::opened::{OpenedBundle, files, frames, site_key};
use lockgate_tests::warehouse::write_recipients;
use lockgate_tests::{Linker, Site, SiteOptions, Stage, WarehouseKeys};

use crate::TestResult;

/// Bytes of a piece of plaintext that is looked for: too many to be met by chance.
const PIECE_BYTES: usize = 24;

/// What is secret: tokens, codes, pieces of every block before and after its compression, and the warehouse's keys.
fn secrets(stage: &Stage, site: &Site) -> anyhow::Result<AhoCorasick> {
    let mut secrets = BTreeSet::new();
    for bundle in OpenedBundle::stored(&stage.linker, site)? {
        let tokens = bundle.patients.iter().flat_map(|row| row.links.iter().flatten().chain([&row.token]));
        for token in tokens {
            secrets.insert(token.to_vec());
            secrets.insert(HEXLOWER.encode(token).into_bytes());
            secrets.insert(BASE64.encode(token).into_bytes());
        }
        secrets.extend(bundle.codes.into_iter().map(|(_, code)| code.into_bytes()).filter(|it| it.len() > 7));
    }
    ensure!(secrets.len() > 500, "only {} tokens and codes", secrets.len());
    for frame in OpenedBundle::stored_frames(&stage.linker, site)? {
        let plain = zstd::bulk::decompress(&frame.bytes, 36 << 20)?;
        let pieces = frame.bytes.chunks_exact(PIECE_BYTES).chain(plain.chunks_exact(PIECE_BYTES));
        // Stretches of one value are everywhere.
        let telling = |piece: &&[u8]| piece.iter().collect::<BTreeSet<_>>().len() > PIECE_BYTES / 2;
        secrets.extend(pieces.filter(telling).map(<[u8]>::to_vec));
    }
    let warehouse = WarehouseKeys::in_folder(stage.folder())?;
    for file in [warehouse.opening_path(), warehouse.signing_path()] {
        let pem = std::fs::read_to_string(file)?;
        let line = pem.lines().nth(1).context("a key file has no key")?;
        let der = BASE64.decode(line.as_bytes())?;
        let key = der.last_chunk::<32>().context("a key is short")?;
        secrets.extend([line.as_bytes().to_vec(), key.to_vec(), HEXLOWER.encode(key).into_bytes()]);
    }
    Ok(AhoCorasick::new(secrets)?)
}

/// Every file of the registry, which everybody can read.
fn published(stage: &Stage) -> anyhow::Result<BTreeSet<Vec<u8>>> {
    files(&stage.registry.location())?.into_iter().map(|file| Ok(std::fs::read(file)?)).collect()
}

/// The memory of a process, in pieces.
fn memory(process: u32) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut file = std::fs::File::open(format!("/proc/{process}/mem"))?;
    let mut pieces = Vec::new();
    for line in std::fs::read_to_string(format!("/proc/{process}/maps"))?.lines() {
        let (range, rest) = line.split_once(' ').context("a line of maps")?;
        let (start, end) = range.split_once('-').context("a range of maps")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        // What was written by the program: its heap, stacks and data.
        if !rest.starts_with("rw") {
            continue;
        }
        let mut piece = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        // Guard pages cannot be read; what comes before them is.
        let _ = file.by_ref().take(end - start).read_to_end(&mut piece);
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Everything that somebody sees who has taken over the linker: files, database, log, and the process.
fn everything_of(linker: &Linker) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut all = vec![("log".to_owned(), linker.log().into_bytes())];
    for file in files(linker.folder())? {
        all.push((file.display().to_string(), std::fs::read(&file)?));
    }
    let process = linker.process().context("the linker does not run")?;
    all.extend(memory(process)?.into_iter().map(|piece| ("memory".to_owned(), piece)));
    Ok(all)
}

#[test]
fn a_linker_that_is_taken_over_gives_no_token_and_no_value() -> TestResult {
    let stage = Stage::new(&["gp-monthly", "diabetes-register"])?;
    let database = stage.practice_database("practice", 300)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    let secrets = secrets(&stage, &site)?;
    let all = everything_of(&stage.linker)?;
    for (what, bytes) in &all {
        if let Some(found) = secrets.find(bytes) {
            let secret = String::from_utf8_lossy(&bytes[found.range()]).into_owned();
            anyhow::bail!("{what} holds a secret at {}: {secret:?}", found.start());
        }
    }

    // The search would have found it: the files and the process are the linker's, and the secrets are those of the site.
    for place in ["log", "linker.db", "memory"] {
        let holds = |(what, bytes): &(String, Vec<u8>)| {
            what.contains(place) && bytes.windows(6).any(|window| window == b"A81001")
        };
        ensure!(all.iter().any(holds), "the linker's {place} does not name the site");
    }
    let state = files(&site.state())?;
    let preview = site.command(&["--json", "preview", "gp-monthly", "--rows", "100000"])?.ok()?;
    ensure!(secrets.is_match(&preview.stdout), "no secret in what a practice sees of itself");
    // The site keeps none of it either, once it is encrypted: neither before nor after it was sent. What it has from the
    // registry, byte for byte, is no secret: a manifest names the codes that its module asks for.
    let published = published(&stage)?;
    let mut public = 0;
    for file in state {
        let bytes = std::fs::read(&file)?;
        if published.contains(&bytes) {
            public += 1;
            continue;
        }
        ensure!(!secrets.is_match(&bytes), "{} holds a secret", file.display());
    }
    ensure!(public > 0, "the site holds nothing of the registry");
    Ok(())
}

#[test]
fn the_keys_of_the_warehouse_are_rotated_with_an_overlap() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.practice_database("practice", 100)?;
    let mut site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    let old = WarehouseKeys::named(stage.folder(), "warehouse-2026")?;
    let new = WarehouseKeys::named(stage.folder(), "warehouse-2027")?;
    let recipients =
        vec![old.recipient("2026-01-01", "2026-12-31")?, new.recipient("2026-12-01", "2027-01-31")?];
    let file = stage.folder().join("rotation.toml");
    stage
        .registry
        .add_text("recipients", &write_recipients(file, semver::Version::new(1, 1, 0), recipients)?)?;
    stage.registry.publish()?;

    // Which of the two opens what was sent, as of a day.
    let mut readers = |day: &str| {
        site.options.as_of = day.to_owned();
        site.run()?;
        let objects = stage.linker.folder().join("objects");
        let key = site_key(&site)?;
        let place = |block: &lockgate_signing::bundle::BlockRef| {
            let name = block.digest.to_hex();
            objects.join("blocks").join(&name[..2]).join(name)
        };
        let last = stage.linker.command(&["--json", "bundles"])?.ok()?.json()?;
        let last = last["bundles"].as_array().and_then(|all| all.last()).context("no bundle")?["id"].clone();
        let id = last.as_str().context("a bundle has no id")?.to_owned();
        let header =
            files(&objects.join("headers"))?.into_iter().find(|file| file.to_string_lossy().contains(&id));
        let header = std::fs::read(header.context("the header is not there")?)?;
        let opens = |keys: &WarehouseKeys| -> anyhow::Result<bool> {
            let opening: OpeningKey = keys.opening()?;
            Ok(frames(&header, &key, &opening, place).is_ok())
        };
        anyhow::Ok((opens(&old)?, opens(&new)?))
    };
    ensure!(readers("2026-11-01")? == (true, false), "before the overlap");
    ensure!(readers("2026-12-15")? == (true, true), "in the overlap");
    ensure!(readers("2027-01-15")? == (false, true), "after the overlap");
    // Nobody is left: nothing leaves, and the message says what is to be done.
    site.options.as_of = "2027-02-15".to_owned();
    let before = OpenedBundle::queued(&site)?.len();
    let run = site.command(&["run"])?;
    ensure!(run.code == Some(3), "{:?}: {}", run.code, run.stdout);
    ensure!(run.stdout.contains("`warehouse-england` names nobody for 2027-02-15"), "{}", run.stdout);
    ensure!(OpenedBundle::queued(&site)?.len() == before, "something was queued");
    let preview = site.command(&["preview", "gp-monthly"])?.expect(1)?;
    ensure!(preview.stderr.contains("names nobody"), "{}", preview.stderr);
    Ok(())
}
