//! Tokens: by the keyholder, against the curve operations that they cannot do without; and with a key at the site.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use lockgate_agent::identity::TokenKey;
use lockgate_oprf::{Blinded, NoRandomness, SecretKey};
use lockgate_tests::{AS_OF, Keyholder, SiteOptions, Stage};
use zeroize::Zeroizing;

use crate::data::{Data, TYPICAL};
use crate::process;
use crate::report::median;

/// The purpose of `gp-monthly`.
const DOMAIN: &str = "care-data";
/// Turns whose median counts.
const TURNS: usize = 5;
/// Tokens of a turn.
const BATCH: usize = 4_096;

/// Tokens a second and core of the agent, from the identity table to tokens that are kept: what its first preview takes beyond
/// a second one, whose tokens are there. A typical practice, one token and three link tokens a patient; keyholder and agent on
/// loopback.
pub(crate) fn by_keyholder(data: &Data) -> anyhow::Result<(f64, String)> {
    let database = data.practice(TYPICAL)?;
    let stage = Stage::new(&["gp-monthly"])?;
    let mut keyholder = Keyholder::new(&stage.binaries, stage.folder(), &[DOMAIN])?;
    keyholder.start()?;
    let (_, epoch, key) = keyholder.keys()?.pop().context("no key")?;
    stage.registry.stage_document(
        "token-keys",
        DOMAIN,
        &format!(
            "[[epoch]]\nepoch = {epoch}\npublic-key = \"{key}\"\nfrom = \"2026-01-01\"\nuntil = \"2027-12-31\"\n"
        ),
    )?;
    stage.registry.publish()?;
    let options =
        SiteOptions { keyholder: Some(keyholder.url()), ..SiteOptions::practice("A81001", &database) };
    let site = stage.site("site", options)?;
    let public = site.state().join("site-key.pub.pem").display().to_string();
    keyholder.command(&["site", "add", "A81001", &public, "--patients", "1000000"])?.ok()?;
    let evaluations = || -> anyhow::Result<u64> {
        let sites = keyholder.command(&["--json", "sites"])?.ok()?.json()?;
        sites["sites"][0]["today"].as_u64().context("no count")
    };
    let mut command = site.agent();
    command.args(["preview", "gp-monthly"]);
    let (mut rates, mut walls, mut tokens) = (Vec::new(), Vec::new(), 0);
    for _ in 0..TURNS {
        let kept = site.state().join("tokens");
        if kept.exists() {
            std::fs::remove_dir_all(&kept)?;
        }
        let before = evaluations()?;
        let first = process::run(&command, None)?;
        tokens = evaluations()? - before;
        let again = process::run(&command, None)?;
        ensure!(evaluations()? == before + tokens, "kept tokens were asked for again");
        rates.push(tokens as f64 / (first.cpu_s - again.cpu_s));
        walls.push(first.wall_s - again.wall_s);
    }
    let detail = format!(
        "{tokens} tokens in {:.1} s with the keyholder on the same cores, as of {AS_OF}",
        median(walls)
    );
    Ok((median(rates), detail))
}

/// What a token costs the site over the curve operations that RFC 9497 asks of it: a map to the curve, a multiplication to blind
/// and one to take the blind away, one for each of the two sums of the proof, two encodings and a decoding. Beyond these are
/// hashing, an inversion, and the encodings of the proof.
pub(crate) fn over_curve() -> anyhow::Result<(f64, String)> {
    let mut random = |buffer: &mut [u8]| getrandom::fill(buffer).map_err(|_| NoRandomness);
    let key = SecretKey::derive(&Zeroizing::new([1; 32]), b"bench")?;
    let inputs: Vec<Vec<u8>> = (0..BATCH).map(|number| format!("input {number:064}").into_bytes()).collect();
    let mut seeds = vec![[0; 64]; BATCH];
    seeds.iter_mut().try_for_each(|seed| getrandom::fill(seed))?;
    let (mut ours, mut curve, mut least) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let started = Instant::now();
        let blinded = Blinded::new(inputs.clone(), &mut random)?;
        let mut elapsed = started.elapsed();
        let evaluated = key.evaluate(blinded.elements(), &mut random)?;
        let started = Instant::now();
        let outputs = blinded.finalise(&evaluated.elements, &evaluated.proof, &key.public())?;
        elapsed += started.elapsed();
        ensure!(outputs.len() == BATCH);
        ours.push(elapsed.as_secs_f64() / BATCH as f64);

        let scalars: Vec<Scalar> = seeds.iter().map(Scalar::from_bytes_mod_order_wide).collect();
        let started = Instant::now();
        let mut sum = RistrettoPoint::default();
        let mut multiplied = 0.0;
        for (seed, scalar) in seeds.iter().zip(&scalars) {
            let blinded = RistrettoPoint::from_uniform_bytes(seed) * scalar;
            let encoded = blinded.compress();
            let evaluated = encoded.decompress().context("a point")?;
            let proof = Instant::now();
            sum += blinded * scalar + evaluated * scalar;
            multiplied += proof.elapsed().as_secs_f64();
            std::hint::black_box((evaluated * scalar).compress());
        }
        std::hint::black_box(sum);
        let bare = started.elapsed().as_secs_f64();
        curve.push(bare / BATCH as f64);
        least.push((bare - multiplied) / BATCH as f64);
    }
    let (ours, curve, least) = (median(ours), median(curve), median(least));
    let detail = format!(
        "{:.0} ÷ {:.0} µs a token; {:.0} µs of the curve's without the proof's sums, which could be one multiplication",
        ours * 1e6,
        curve * 1e6,
        least * 1e6
    );
    Ok((ours / curve, detail))
}

/// Tokens a second with a key at the site, from NHS numbers as they are written, on one core.
pub(crate) fn sealed_key() -> anyhow::Result<(f64, String)> {
    let key = TokenKey::from_bytes(Zeroizing::new([7; 32]), 1);
    let numbers: Vec<String> = (0..1_000_000_000_u32)
        .step_by(997)
        .map(|number| format!("{number:09}"))
        .filter_map(|digits| {
            let weights =
                digits.bytes().zip((2..=10).rev()).map(|(digit, weight)| u32::from(digit - b'0') * weight);
            let check = (11 - weights.sum::<u32>() % 11) % 11;
            (check < 10).then(|| format!("{digits}{check}"))
        })
        .take(200_000)
        .collect();
    let mut rates = Vec::new();
    for _ in 0..TURNS {
        let started = Instant::now();
        let tokens = key.tokens_of_nhs_numbers(DOMAIN, &numbers);
        let elapsed = started.elapsed().as_secs_f64();
        ensure!(tokens.iter().flatten().count() > 199_000, "numbers were taken for invalid");
        rates.push(tokens.len() as f64 / elapsed);
    }
    Ok((median(rates), format!("{} NHS numbers, one core", numbers.len())))
}
