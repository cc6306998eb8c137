//! Tokens by the keyholder, end to end: real agents, a real keyholder, and what happens when one of them fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, ensure};
use lockgate_signing::block::Token;
use lockgate_signing::bundle::TokenScheme;
use lockgate_signing::evaluation::EvaluationAnswer;
use lockgate_tests::command::finish;
use lockgate_tests::http::{self, FalseLinker, Message};
use lockgate_tests::leak::Search;
use lockgate_tests::opened::{Cell, OpenedBundle, TokenRow};
use lockgate_tests::wire::Wire;
use lockgate_tests::{Keyholder, Site, SiteOptions, Stage};
use rusqlite::Connection;

use crate::TestResult;

/// A stage with a keyholder whose keys are published.
struct Scene {
    stage: Stage,
    keyholder: Keyholder,
}

const DOMAIN: &str = "care-data";

impl Scene {
    fn new(modules: &[&str]) -> anyhow::Result<Self> {
        let stage = Stage::new(modules)?;
        let mut keyholder = Keyholder::new(&stage.binaries, stage.folder(), &[DOMAIN])?;
        keyholder.start()?;
        let scene = Self { stage, keyholder };
        scene.publish_keys(&[(1, "2026-01-01", "2027-12-31")])?;
        Ok(scene)
    }

    /// Publishes these epochs of the keyholder's keys, with their first and last days.
    fn publish_keys(&self, epochs: &[(u64, &str, &str)]) -> TestResult {
        publish_epochs(&self.stage, &self.keyholder, epochs)
    }

    /// A practice that has its tokens from the keyholder at this address, and is entered there with 300 patients.
    fn practice(&self, name: &str, id: &str, database: PathBuf, url: &str) -> anyhow::Result<Site> {
        self.site(
            name,
            SiteOptions { keyholder: Some(url.to_owned()), ..SiteOptions::practice(id, &database) },
        )
    }

    fn site(&self, name: &str, options: SiteOptions) -> anyhow::Result<Site> {
        let site = self.stage.site(name, options)?;
        let key = site.state().join("site-key.pub.pem").display().to_string();
        self.keyholder.command(&["site", "add", &site.options.id, &key, "--patients", "300"])?.ok()?;
        Ok(site)
    }

    fn evaluations(&self) -> anyhow::Result<u64> {
        let sites = self.keyholder.command(&["--json", "sites"])?.ok()?.json()?;
        Ok(sites["sites"].as_array().context("sites")?.iter().filter_map(|site| site["today"].as_u64()).sum())
    }

    fn stored(&self, site: &Site) -> anyhow::Result<Vec<OpenedBundle>> {
        OpenedBundle::stored(&self.stage.linker, site)
    }
}

/// Publishes these epochs of a keyholder's keys, with their first and last days.
pub(crate) fn publish_epochs(
    stage: &Stage,
    keyholder: &Keyholder,
    epochs: &[(u64, &str, &str)],
) -> TestResult {
    let listed = keyholder.command(&["--json", "keys"])?.ok()?.json()?;
    let mut text = format!("signing-key = {}\n", listed["signing-key"]);
    let keys = keyholder.keys()?;
    for (epoch, from, until) in epochs {
        let (_, _, key) = keys.iter().find(|(_, number, _)| number == epoch).context("no such epoch")?;
        text += &format!(
            "\n[[epoch]]\nepoch = {epoch}\npublic-key = \"{key}\"\nfrom = \"{from}\"\nuntil = \"{until}\"\n"
        );
    }
    stage.registry.stage_document("token-keys", DOMAIN, &text)?;
    stage.registry.publish()
}

/// Who became who, as the bundles of a new epoch tell the warehouse: former token to token.
///
/// Each of them is right by what is not a token: in the month that was sent in both epochs, a patient has the same rows.
pub(crate) fn renewed(sent: &[OpenedBundle], epochs: (u32, u32)) -> anyhow::Result<BTreeMap<Token, Token>> {
    let of = |epoch: u32| sent.iter().filter(move |bundle| bundle.header.tokens.epoch == epoch);
    let mut renewed = BTreeMap::new();
    for bundle in of(epochs.1) {
        let header = &bundle.header.tokens;
        let told = bundle.patients.iter().filter_map(|row| Some((row.former?, row.token)));
        renewed.extend(told);
        let former = header.former.as_ref();
        ensure!(bundle.patients.is_empty() || former.is_some_and(|it| it.epoch == epochs.0), "{header:?}");
    }
    let rows = |bundle: &OpenedBundle| {
        let mut rows: BTreeMap<Token, Vec<String>> = BTreeMap::new();
        for row in bundle.rows("events") {
            let Some(Cell::Patient(patient)) = row.get("patient") else { continue };
            let rest = row.iter().filter(|(column, _)| *column != "patient").collect::<Vec<_>>();
            rows.entry(bundle.patients[*patient].token).or_default().push(format!("{rest:?}"));
        }
        rows.values_mut().for_each(|rows| rows.sort_unstable());
        rows
    };
    let again = of(epochs.1).find_map(|new| {
        let old = of(epochs.0).find(|old| old.header.period == new.header.period)?;
        Some((rows(old), rows(new)))
    });
    let (old, new) = again.context("no month was sent in both epochs")?;
    ensure!(old.len() > 10 && old.len() == new.len(), "{} and {} patients", old.len(), new.len());
    for (token, rows) in &old {
        let now = renewed.get(token).context("a patient of the epoch before is not told")?;
        ensure!(new.get(now) == Some(rows), "a token became another patient's");
    }
    Ok(renewed)
}

/// Has half of October's entries entered on another day.
pub(crate) fn move_entries(database: &std::path::Path, day: &str) -> TestResult {
    let moved = Connection::open(database)?.execute(
        "UPDATE CareRecord_Observation SET EnteredDate = ?1 WHERE rowid % 2 = 0 AND EnteredDate LIKE '2026-10-%'
             AND EntryKind <> 'CONS'",
        [day],
    )?;
    ensure!(moved > 20, "{moved} entries in October");
    Ok(())
}

/// Every patient of these bundles.
fn people(bundles: &[OpenedBundle]) -> Vec<&TokenRow> {
    bundles.iter().flat_map(|bundle| &bundle.patients).collect()
}

fn acknowledged(run: &serde_json::Value) -> usize {
    run["acknowledged"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_practice_and_a_hospital_that_never_speak_agree_on_who_is_who() -> TestResult {
    let scene = Scene::new(&["gp-monthly", "hospital-episodes"])?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(scene.stage.binaries.program("practice")?);
    command.args([
        "make",
        "pair",
        "--practices",
        "1",
        "--patients",
        "300",
        "--marker",
        "ZQXMARKER7",
        "--out",
    ]);
    let made = finish(command.arg(folder.path()))?.ok()?.json()?;
    let wire = Wire::to(&scene.keyholder.url())?;
    let (gp, his) = (folder.path().join("practice-1.sqlite"), folder.path().join("hospital.sqlite"));
    let practice = scene.practice("practice", "A81001", gp.clone(), &wire.url())?;
    let url = Some(wire.url());
    let hospital =
        scene.site("hospital", SiteOptions { keyholder: url, ..SiteOptions::hospital("RX1", &his) })?;
    ensure!(acknowledged(&practice.run()?) == 4);
    ensure!(acknowledged(&hospital.run()?) >= 1);

    let (practice_sent, hospital_sent) = (scene.stored(&practice)?, scene.stored(&hospital)?);
    for bundle in practice_sent.iter().chain(&hospital_sent) {
        ensure!(bundle.header.tokens.scheme == TokenScheme::Oprf && bundle.header.tokens.epoch == 1);
    }
    let tokens = |bundles| people(bundles).iter().map(|row| row.token).collect::<BTreeSet<_>>();
    let shared: BTreeSet<_> = tokens(&practice_sent).intersection(&tokens(&hospital_sent)).copied().collect();
    ensure!(!shared.is_empty(), "nobody is in both");
    // Whoever is the same person by the token is it by the first link token too.
    let link = |bundles: &[OpenedBundle], token| {
        people(bundles).iter().find(|row| row.token == token).and_then(|row| row.links[0])
    };
    for token in &shared {
        let (here, there) = (link(&practice_sent, *token), link(&hospital_sent, *token));
        ensure!(here.is_none() || there.is_none() || here == there, "one person has two link tokens");
    }

    // The keyholder: neither its disk, nor its log, nor what it was sent holds anything of anybody.
    let planted = &made["made"][0]["planted"];
    let text = |name: &str| planted[name].as_str().unwrap_or_default().to_owned();
    let mut texts =
        vec![text("nhs_number"), text("postcode"), text("postcode").replace(' ', ""), text("birth_date")];
    let database = Connection::open(&gp)?;
    let mut numbers =
        database.prepare("SELECT DISTINCT NhsNumber FROM Admin_Patient WHERE NhsNumber <> ''")?;
    let rows = numbers.query_map([], |row| row.get::<_, String>(0))?;
    texts.extend(rows.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|number| number.len() >= 10));
    ensure!(texts.len() > 200 && texts.iter().all(|text| text.len() >= 6), "{} texts", texts.len());
    let search = Search::new(texts.iter().map(String::as_str))?;
    ensure!(search.find_in_files(scene.keyholder.folder())?.is_empty());
    ensure!(
        search.find(scene.keyholder.log().as_bytes()).is_none()
            && scene.keyholder.log().contains("evaluated")
    );
    let recorded = wire.recorded();
    let asked: usize = recorded.iter().map(Vec::len).sum();
    ensure!(asked as u64 > 2 * 32 * scene.evaluations()?, "{asked} bytes are not the traffic");
    for stream in &recorded {
        ensure!(search.find(stream).is_none(), "sent to the keyholder: {:?}", search.find(stream));
        // Nor does the keyholder ever see a token.
        for token in shared.iter().take(20) {
            ensure!(!stream.windows(16).any(|window| window == token), "a token is in the traffic");
        }
    }
    Ok(())
}

#[test]
fn a_patient_is_asked_for_once_and_a_keyholder_that_is_away_stops_only_who_is_new() -> TestResult {
    let mut scene = Scene::new(&["gp-monthly"])?;
    let database = scene.stage.practice_database("gp", 300)?;
    let mut practice = scene.practice("practice", "A81001", database.clone(), &scene.keyholder.url())?;
    // Away from the start: nothing is sent, and the site is told.
    scene.keyholder.kill()?;
    let away = practice.command(&["run"])?;
    ensure!(away.code == Some(3), "{:?}: {}", away.code, away.stderr);
    let said = format!("{}{}", away.stdout, away.stderr);
    ensure!(
        said.contains("the run is put off") && said.contains("the keyholder cannot be reached"),
        "{said}"
    );
    ensure!(scene.stored(&practice)?.is_empty(), "part of a run was sent");
    // Back: everybody is asked for, once.
    scene.keyholder.start()?;
    ensure!(acknowledged(&practice.run()?) == 4);
    let first = scene.evaluations()?;
    ensure!((600..=1_200).contains(&first), "{first} evaluations for 300 patients");
    // Away again, a month later: everybody is known, so the run goes on.
    scene.keyholder.kill()?;
    practice.options.as_of = "2026-12-01".to_owned();
    let later = practice.command(&["--json", "run"])?;
    ensure!(later.code == Some(0), "{}{}", later.stdout, later.stderr);
    // Somebody new comes: the run waits, and nothing of it is sent.
    let sent = scene.stored(&practice)?.len();
    Connection::open(&database)?.execute_batch(
        "UPDATE Admin_Patient SET Postcode = 'LS1 4AP' WHERE rowid = (SELECT min(rowid) FROM Admin_Patient)",
    )?;
    practice.options.as_of = "2027-01-01".to_owned();
    let new = practice.command(&["run"])?;
    ensure!(new.code == Some(3), "{:?}: {}", new.code, new.stderr);
    ensure!(scene.stored(&practice)?.len() == sent, "part of a run was sent");
    scene.keyholder.start()?;
    practice.command(&["run"])?.ok()?;
    let asked = scene.evaluations()? - first;
    ensure!((1..=2).contains(&asked), "{asked} evaluations for one changed postcode");
    Ok(())
}

#[test]
fn an_answer_that_is_not_proved_is_not_used() -> TestResult {
    let scene = Scene::new(&["gp-monthly"])?;
    let database = scene.stage.practice_database("gp", 60)?;
    // A second keyholder with keys of its own, honest in itself.
    let other_folder = tempfile::tempdir()?;
    let mut other = Keyholder::new(&scene.stage.binaries, other_folder.path(), &[DOMAIN])?;
    other.start()?;
    let real = scene.keyholder.url();
    let swap = move |request: &Message| {
        let answer = http::send(&real, "POST /v1/evaluations", &request.body).map(|answer| answer.body);
        let mut answer = EvaluationAnswer::decode(&answer.unwrap_or_default()).ok();
        if let Some(answer) = &mut answer {
            answer.elements.rotate_left(32);
        }
        let body = answer.map(|answer| answer.encode()).unwrap_or_default();
        http::answer("HTTP/1.1 200 OK", &body)
    };
    let liar = FalseLinker::new(swap)?;
    let nonsense = FalseLinker::new(|_| http::answer("HTTP/1.1 200 OK", b"nonsense"))?;
    for (name, url, said) in [
        ("other-key", other.url(), "was not evaluated with the published key"),
        ("swapped", liar.url(), "was not evaluated with the published key"),
        ("nonsense", nonsense.url(), "not one of a keyholder"),
    ] {
        let id = format!("A8200{}", name.len());
        let site = scene.practice(name, &id, database.clone(), &url)?;
        let key = site.state().join("site-key.pub.pem").display().to_string();
        other.command(&["site", "add", &id, &key, "--patients", "300"])?.ok()?;
        let run = site.command(&["run"])?;
        let output = format!("{}{}", run.stdout, run.stderr);
        ensure!(run.code == Some(3) && output.contains(said), "{name}: {:?} {output}", run.code);
        ensure!(scene.stored(&site)?.is_empty(), "{name}: something was sent");
    }
    Ok(())
}

#[test]
fn what_was_answered_before_the_keyholder_went_is_kept() -> TestResult {
    let scene = Scene::new(&["gp-monthly"])?;
    // More than one batch.
    let database = scene.stage.practice_database("gp", 1_500)?;
    let (real, gone, asked) =
        (scene.keyholder.url(), Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0_u64)));
    let answers = {
        let (gone, asked) = (Arc::clone(&gone), Arc::clone(&asked));
        move |request: &Message| {
            let mut asked = asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if gone.load(Ordering::SeqCst) {
                return http::answer("HTTP/1.1 503 Service Unavailable", b"{}");
            }
            *asked += 1;
            gone.store(true, Ordering::SeqCst);
            http::send(&real, "POST /v1/evaluations", &request.body).map_or_else(
                |_| http::answer("HTTP/1.1 503 Service Unavailable", b"{}"),
                |answer| answer.to_bytes(),
            )
        }
    };
    let between = FalseLinker::new(answers)?;
    let site = scene.practice("practice", "A81001", database, &between.url())?;
    let key = site.state().join("site-key.pub.pem").display().to_string();
    scene.keyholder.command(&["site", "add", "A81001", &key, "--patients", "1500"])?.ok()?;
    let run = site.command(&["run"])?;
    ensure!(run.code == Some(3), "{:?} {}", run.code, run.stderr);
    let first = scene.evaluations()?;
    ensure!(first >= 1_000, "{first} evaluations");
    ensure!(scene.stored(&site)?.is_empty(), "part of a run was sent");
    // From now on it stays there for every batch.
    let state: Vec<_> = std::fs::read_dir(site.state().join("tokens"))?.collect::<Result<_, _>>()?;
    ensure!(state.iter().any(|file| file.path().extension().is_some_and(|ending| ending == "cache")));
    let direct = Site::new(
        scene.stage.binaries.program("lockgate-agent")?,
        site.folder.clone(),
        SiteOptions { keyholder: Some(scene.keyholder.url()), ..site.options.clone() },
        &scene.stage.registry.location(),
        &scene.stage.registry.root(),
        &scene.stage.linker.url(),
    )?;
    ensure!(acknowledged(&direct.run()?) == 4);
    let all = scene.evaluations()?;
    ensure!(all <= 4 * 1_500, "{all} evaluations: what was kept was asked again");
    ensure!(all > first);
    Ok(())
}

#[test]
fn a_new_epoch_makes_new_tokens_and_tells_the_warehouse_which_was_which() -> TestResult {
    let mut scene = Scene::new(&["gp-monthly"])?;
    let database = scene.stage.practice_database("gp", 60)?;
    let mut practice = scene.practice("practice", "A81001", database.clone(), &scene.keyholder.url())?;
    ensure!(acknowledged(&practice.run()?) == 4);
    let first = scene.evaluations()?;
    scene.keyholder.command(&["key", "new", DOMAIN])?.ok()?;
    scene.keyholder.stop()?;
    scene.keyholder.start()?;
    scene.publish_keys(&[(1, "2026-01-01", "2027-03-31"), (2, "2026-12-01", "2027-12-31")])?;
    // What is published is known from here on: on the days below, this registry's timestamp has expired.
    practice.command(&["refresh"])?.ok()?;
    practice.options.as_of = "2026-12-01".to_owned();
    practice.run()?;
    let sent = scene.stored(&practice)?;
    ensure!(sent[..4].iter().all(|bundle| bundle.header.tokens.former.is_none()), "told too early");
    let renewed = renewed(&sent, (1, 2))?;
    let of_epoch = |epoch| {
        let bundles = sent.iter().filter(move |bundle| bundle.header.tokens.epoch == epoch);
        bundles.flat_map(|bundle| &bundle.patients).map(|row| row.token).collect::<BTreeSet<_>>()
    };
    ensure!(of_epoch(1).is_disjoint(&of_epoch(2)), "a token of both epochs");
    ensure!(renewed.values().all(|token| of_epoch(2).contains(token)));
    // What was kept is not asked for again.
    let second = scene.evaluations()? - first;
    ensure!(second <= first + 8, "{second} evaluations in the new epoch, {first} in the old one");

    // The keyholder sees no token, and the linker neither old nor new ones.
    let search = |folder: &std::path::Path| -> TestResult {
        for file in lockgate_tests::opened::files(folder)? {
            let bytes = std::fs::read(&file)?;
            for token in renewed.keys().chain(renewed.values()) {
                ensure!(!bytes.windows(16).any(|window| window == token), "{} holds one", file.display());
            }
        }
        Ok(())
    };
    search(scene.keyholder.folder())?;
    search(scene.stage.linker.folder())?;

    // A site that lost what it kept still tells, as long as the keyholder answers for both epochs.
    for kept in std::fs::read_dir(practice.state().join("tokens"))? {
        let kept = kept?.path();
        if kept.extension().is_some_and(|ending| ending == "cache") {
            std::fs::remove_file(kept)?;
        }
    }
    move_entries(&database, "2026-12-15")?;
    practice.options.as_of = "2027-01-01".to_owned();
    practice.run()?;
    let after = scene.stored(&practice)?;
    let december = after.last().context("nothing was sent")?;
    let told = december.patients.iter().filter(|row| row.former.is_some()).count();
    ensure!(told == december.patients.len() && told > 5, "{told} of {} are told", december.patients.len());

    // When the overlap is over there is nothing to tell, and a month is not sent again for that.
    practice.options.as_of = "2027-04-01".to_owned();
    let run = practice.run()?;
    let april = scene.stored(&practice)?.split_off(after.len());
    ensure!(!april.is_empty() && april.iter().all(|bundle| bundle.header.tokens.former.is_none()));
    let again = run["modules"][0]["bundles"][0].clone();
    ensure!(again["period"] == "2026-12" && again["id"].is_null(), "December is sent again: {again}");

    // The day after the last epoch there is no key, and no run.
    practice.options.as_of = "2028-01-01".to_owned();
    let none = practice.command(&["run"])?.expect(3)?;
    ensure!(
        none.stdout.contains("no epoch of the token keys for `care-data` stands on 2028-01-01"),
        "{}",
        none.stdout
    );
    Ok(())
}
