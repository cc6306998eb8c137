//! Nothing that identifies anybody is found anywhere: bundles, state, logs, outputs, errors, the linker, the wire.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use lockgate_tests::command::{Finished, finish};
use lockgate_tests::leak::Search;
use lockgate_tests::opened::{Cell, OpenedBundle};
use lockgate_tests::wire::Wire;
use lockgate_tests::{Site, SiteOptions, Stage, Warehouse};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::TestResult;

const MARKER: &str = "ZQXMARKER7";
const DISSENT: &str = "827241000000103";
/// 19 March 1957, in days.
const PLANTED_BIRTH: i32 = -4_671;

/// A practice and a hospital that share the planted person, and everything of theirs that must not leave.
struct Source {
    folder: tempfile::TempDir,
    search: Search,
    /// The planted person's local ids.
    planted: Vec<String>,
}

impl Source {
    fn make(stage: &Stage) -> anyhow::Result<Self> {
        // Beside the stage, so that everything below the stage can be searched.
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(stage.binaries.program("practice")?);
        command.args(["make", "pair", "--practices", "1", "--patients", "300", "--marker", MARKER, "--out"]);
        let made = finish(command.arg(folder.path()))?.ok()?.json()?;
        let (mut texts, mut ids) = (vec![MARKER.to_owned()], Vec::new());
        for planted in
            made["made"].as_array().context("nothing was made")?.iter().map(|made| &made["planted"])
        {
            texts.extend(planted_texts(planted)?);
            ids.extend(
                planted["local_ids"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned),
            );
        }
        for (file, columns) in
            [("practice-1.sqlite", PRACTICE_COLUMNS), ("hospital.sqlite", HOSPITAL_COLUMNS)]
        {
            let database =
                Connection::open_with_flags(folder.path().join(file), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            for (table, column) in columns {
                texts.extend(values(&database, table, column)?);
            }
        }
        texts.sort_unstable();
        texts.dedup();
        ensure!(texts.len() > 1_000, "only {} texts to search for", texts.len());
        let search = Search::new(texts.iter().map(String::as_str))?;
        Ok(Self { folder, search, planted: ids })
    }

    /// The planted person objects.
    fn objects(&self, day: &str) -> TestResult {
        let practice = Connection::open(self.practice())?;
        practice.execute(
            "INSERT INTO Coding_ClinicalCode VALUES (99999999, 'SCT', ?1, 'term', 'CONS')",
            [DISSENT],
        )?;
        for (number, id) in (99_999_000..).zip(&self.planted) {
            practice.execute(
                "INSERT INTO CareRecord_Observation (PatientId, EnteredDate, EffectiveDate, CodeSystem, Code, EntryKind,
                     IsDeleted, IsConfidential, CodeId, ObservationId)
                 SELECT PatientId, ?2, ?2, 'SCT', ?3, 'CONS', 0, 0, 99999999, ?4 FROM Admin_Patient WHERE PatientId = ?1",
                rusqlite::params![id, day, DISSENT, number],
            )?;
        }
        Ok(())
    }

    fn practice(&self) -> PathBuf {
        self.folder.path().join("practice-1.sqlite")
    }

    fn hospital(&self) -> PathBuf {
        self.folder.path().join("hospital.sqlite")
    }

    fn not_in_files(&self, folder: &Path) -> TestResult {
        let found = self.search.find_in_files(folder)?;
        ensure!(found.is_empty(), "found:\n{}", found.join("\n"));
        Ok(())
    }

    fn not_in_output(&self, finished: &Finished) -> TestResult {
        for (stream, text) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
            if let Some(found) = self.search.find(text.as_bytes()) {
                anyhow::bail!("{} wrote {found} to {stream}:\n{text}", finished.what);
            }
        }
        Ok(())
    }
}

/// What identifies the planted person, as people and programs write it.
fn planted_texts(planted: &Value) -> anyhow::Result<Vec<String>> {
    let text = |name: &str| planted[name].as_str().with_context(|| format!("no {name}"));
    let (number, postcode, birth) = (text("nhs_number")?, text("postcode")?, text("birth_date")?);
    let (year, month, day) = (&birth[..4], &birth[5..7], &birth[8..]);
    let ids = planted["local_ids"].as_array().context("no local ids")?;
    let mut texts = vec![
        number.to_owned(),
        format!("{} {} {}", &number[..3], &number[3..6], &number[6..]),
        format!("{}-{}-{}", &number[..3], &number[3..6], &number[6..]),
        postcode.to_owned(),
        postcode.replace(' ', ""),
        birth.to_owned(),
        format!("{day}/{month}/{year}"),
        format!("{year}{month}{day}"),
        "4000000000000000001".to_owned(),
    ];
    texts.extend(ids.iter().filter_map(Value::as_str).map(str::to_owned));
    Ok(texts)
}

/// What identifies everybody else. Birth dates on the first of a month are left out, because that is what may leave; so are
/// those of small children, which are also days on which something was recorded.
const PRACTICE_COLUMNS: &[(&str, &str)] = &[
    ("Admin_Patient", "NhsNumber"),
    ("Admin_Patient", "PatientId"),
    ("Admin_Patient", "GivenName || ' ' || Surname"),
    ("Admin_Patient", "HouseAndStreet"),
    ("Admin_Patient", "Postcode"),
    ("Admin_Patient", "HomePhone"),
    ("Admin_Patient", "EmailAddress"),
    ("Admin_Patient", "AdminNote"),
    ("Admin_Patient WHERE DateOfBirth NOT LIKE '01/%' AND substr(DateOfBirth, 7) < '2015'", "DateOfBirth"),
    (
        "Admin_Patient WHERE DateOfBirth NOT LIKE '01/%' AND substr(DateOfBirth, 7) < '2015'",
        "substr(DateOfBirth, 7, 4) || '-' || substr(DateOfBirth, 4, 2) || '-' || substr(DateOfBirth, 1, 2)",
    ),
    ("Admin_UserInRole", "GivenName || ' ' || Surname"),
    ("CareRecord_Observation", "AssociatedText"),
    ("CareRecord_Observation", "ValueText"),
    ("Prescribing_IssueRecord", "Dosage"),
];

const HOSPITAL_COLUMNS: &[(&str, &str)] = &[
    ("Pas_Patient", "NhsNumber"),
    ("Pas_Patient", "Forename || ' ' || Surname"),
    ("Pas_Patient", "AddressLine1"),
    ("Pas_Patient", "Postcode"),
    ("Pas_Patient", "Telephone"),
    ("Pas_Staff", "Name"),
    ("Apc_Spell", "DischargeSummary"),
    ("Pas_Consent", "Remark"),
    ("Apc_Spell", "Ward"),
];

/// The distinct values of a column that are long enough not to be found by chance.
fn values(database: &Connection, table: &str, column: &str) -> anyhow::Result<Vec<String>> {
    let mut statement = database.prepare(&format!("SELECT DISTINCT {column} FROM {table}"))?;
    let values = statement.query_map([], |row| row.get::<_, Option<String>>(0))?;
    let values = values.collect::<Result<Vec<_>, _>>()?;
    // Seven digits are also a number of bytes, and a ward is also a word.
    Ok(values
        .into_iter()
        .flatten()
        .filter(|text| text.len() >= 8 || text.contains(' ') && text.len() > 6)
        .collect())
}

#[test]
fn nothing_that_identifies_anybody_is_found_anywhere() -> TestResult {
    let stage = Stage::new(&["gp-monthly", "diabetes-register", "hospital-episodes"])?;
    let source = Source::make(&stage)?;
    let wire = Wire::to(&stage.linker.url())?;
    let practice = site_on(&stage, &wire, "practice", SiteOptions::practice("A81001", &source.practice()))?;
    let hospital = site_on(&stage, &wire, "hospital", SiteOptions::hospital("RX1", &source.hospital()))?;

    for (site, modules) in
        [(&practice, ["gp-monthly", "diabetes-register"].as_slice()), (&hospital, &["hospital-episodes"])]
    {
        let say = |arguments: &[&str]| {
            let finished = site.command(&[&["--log", "trace"], arguments].concat())?.ok()?;
            source.not_in_output(&finished)?;
            anyhow::Ok(finished)
        };
        for module in modules {
            say(&["preview", module, "--rows", "100000"])?;
            say(&["--json", "preview", module, "--rows", "100000"])?;
        }
        say(&["run", "--no-push"])?;
        say(&["outbox"])?;
        say(&["--json", "outbox"])?;
        // The whole stage while the outbox is full: state folders, registry, linker.
        source.not_in_files(stage.folder())?;
        ensure!(say(&["push"])?.stderr.contains("TRACE"), "the log at the finest level is empty");
        say(&["--json", "run"])?;
        for rest in
            [&["history"][..], &["--json", "history"], &["config", "show"], &["--json", "config", "show"]]
        {
            say(rest)?;
        }
    }
    // The planted person objects, and is retracted: what the warehouse collects, deletes, logs and says, and what the site hears.
    let warehouse = Warehouse::of(&stage)?;
    let collect = || {
        let finished = warehouse.command(&["--log", "trace", "collect", "--linker", &wire.url()])?.ok()?;
        source.not_in_output(&finished)?;
        anyhow::Ok(finished)
    };
    let before = collect()?;
    ensure!(before.stderr.contains("rows taken in"), "the warehouse's log is empty: {}", before.stderr);
    source.not_in_output(&warehouse.command(&["rows", "gp-monthly/events", "--limit", "1000000"])?.ok()?)?;
    source.objects("2026-11-01")?;
    for arguments in [&["--log", "trace", "run"][..], &["--log", "trace", "push"], &["history"]] {
        let finished = practice.command(arguments)?.ok()?;
        source.not_in_output(&finished)?;
        if arguments.contains(&"run") {
            ensure!(collect()?.stdout.contains("retractions deleted"), "nothing was retracted");
        } else if arguments.contains(&"history") {
            ensure!(finished.stdout.contains("deleted at the centre"), "{}", finished.stdout);
        }
    }
    for arguments in [&["status"][..], &["sites"], &["--json", "status"]] {
        source.not_in_output(&warehouse.command(arguments)?.ok()?)?;
    }
    // Now with receipts, and with what the linker stored and logged at its finest level.
    source.not_in_files(stage.folder())?;
    ensure!(stage.linker.log().contains("DEBUG"), "the linker's log is empty");
    for arguments in [&["bundles"][..], &["sites"], &["--json", "bundles"]] {
        source.not_in_output(&stage.linker.command(arguments)?.ok()?)?;
    }
    let recorded = wire.recorded();
    for stream in &recorded {
        ensure!(source.search.find(stream).is_none(), "on the wire: {:?}", source.search.find(stream));
    }

    // Nor in what the warehouse reads once it has opened the bundles.
    for site in [&practice, &hospital] {
        for frame in OpenedBundle::stored_frames(&stage.linker, site)? {
            let found = source.search.find(&frame.bytes);
            ensure!(found.is_none(), "bundle {} {:?}: {found:?}", frame.sequence, frame.place);
        }
    }

    // The search would have found it: the planted person did leave, and what was recorded is what was sent.
    let sent =
        [OpenedBundle::stored(&stage.linker, &practice)?, OpenedBundle::stored(&stage.linker, &hospital)?];
    ensure!(sent.iter().all(|bundles| bundles.len() >= 4), "not everything was sent");
    let planted_value = |row: &&lockgate_tests::opened::Row| row.get("value") == Some(&Cell::Number(31.5));
    let planted = sent[0].iter().flat_map(|bundle| bundle.rows("events")).filter(planted_value).count();
    ensure!(planted >= 12, "the planted person's entries are not there: {planted}");
    let on_wire: usize = recorded.iter().map(Vec::len).sum();
    let blocks: u64 = sent.iter().flatten().map(|bundle| bundle.header.bytes()).sum();
    ensure!(on_wire as u64 > blocks, "{on_wire} bytes on the wire for {blocks} of blocks");
    for database in [source.practice(), source.hospital()] {
        ensure!(source.search.find(&std::fs::read(database)?).is_some(), "not found where it is");
    }
    let leak = stage.folder().join("practice/state/leak");
    std::fs::write(&leak, zstd::bulk::compress(format!("surname={}", MARKER.to_lowercase()).as_bytes(), 3)?)?;
    ensure!(source.search.find_in_files(stage.folder())?.len() == 1, "a leak is not found");

    sent.iter().flatten().try_for_each(births_are_months)
}

/// A site whose linker is behind the wire.
fn site_on(stage: &Stage, wire: &Wire, name: &str, options: SiteOptions) -> anyhow::Result<Site> {
    let site = stage.site_not_enrolled(name, options)?;
    site.write_config(&stage.registry.location(), &stage.registry.root(), &wire.url())?;
    stage.enrol(&site)?;
    Ok(site)
}

/// A date of birth leaves as the first of its month, and the planted one nowhere as a day.
fn births_are_months(bundle: &OpenedBundle) -> TestResult {
    let epoch = jiff::civil::date(1970, 1, 1);
    for (output, rows) in &bundle.outputs {
        for (column, cell) in rows.iter().flatten() {
            let Cell::Date(days) = cell else { continue };
            ensure!(*days != PLANTED_BIRTH, "{output}.{column} is the planted birth date");
            let day = epoch.checked_add(jiff::Span::new().days(*days))?.day();
            ensure!(
                !column.contains("birth") && !column.contains("death") || day == 1,
                "{output}.{column}: {day}"
            );
        }
    }
    Ok(())
}

/// Changes of the example mapping that put something into a column where it does not fit: what to replace by what, and
/// words of the error.
const MISFITS: &[(&str, &str, &[&str])] = &[
    (
        "birth-month = { sql = \"p.DateOfBirth\"",
        "birth-month = { sql = \"p.Surname\"",
        &["`patient`", "`birth-month`", "not a date"],
    ),
    (
        "birth-date = { sql = \"p.DateOfBirth\"",
        "birth-date = { sql = \"p.AdminNote\"",
        &["`identity`", "`birth-date`", "not a date"],
    ),
    (
        "birth-date = { sql = \"p.DateOfBirth\", date = \"day-month-year\"",
        "birth-date = { sql = \"p.DateOfBirth\", date = \"iso\"",
        &["`birth-date`"],
    ),
    ("sex = { sql = \"p.Sex\"", "sex = { sql = \"p.GivenName\"", &["`sex`", "does not name"]),
    ("test = { sql = \"p.PatientKind\"", "test = { sql = \"p.HouseAndStreet\"", &["`test`", "does not name"]),
    (
        "value = { sql = \"o.NumericValue\"",
        "value = { sql = \"o.AssociatedText\"",
        &["`value`", "not a finite number"],
    ),
    (
        "quantity = { sql = \"i.Quantity\"",
        "quantity = { sql = \"i.Dosage\"",
        &["`quantity`", "not a finite number"],
    ),
    (
        "sql = \"o.EntryKind\"",
        "sql = \"coalesce(o.AssociatedText, o.EntryKind)\"",
        &["`kind`", "does not name"],
    ),
    (
        "system-sql = \"o.CodeSystem\"\n",
        "system-sql = \"coalesce(o.AssociatedText, o.CodeSystem)\"\n",
        &["`code`", "does not name"],
    ),
    ("recorded = { sql = \"i.EnteredDate\"", "recorded = { sql = \"i.Dosage\"", &["`recorded`"]),
    (
        "deleted = { sql = \"CAST(o.IsDeleted AS TEXT)\"",
        "deleted = { sql = \"o.AssociatedText\"",
        &["`deleted`", "does not name"],
    ),
    (
        "postcode = { sql = \"p.Postcode\"",
        "postcode = { sql = \"p.NoSuchColumn\"",
        &["`identity`", "refuses its SQL"],
    ),
    // SQLite quotes the path that it cannot read.
    (
        "postcode = { sql = \"p.Postcode\"",
        "postcode = { sql = \"json_extract('{}', p.Surname)\"",
        &["`identity`"],
    ),
];

#[test]
fn errors_name_the_place_and_never_the_value() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let source = Source::make(&stage)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &source.practice()))?;
    let example =
        std::fs::read_to_string(stage.binaries.root().join("examples/registry/mappings/gp-extract.toml"))?;
    for (number, (from, to, words)) in MISFITS.iter().enumerate() {
        let misfit = example
            .replace(from, to)
            .replace("version = \"1.0.0\"", &format!("version = \"1.0.{}\"", number + 1));
        ensure!(misfit.contains(to), "the example mapping has no {from}");
        let file = stage.folder().join("misfit.toml");
        std::fs::write(&file, misfit)?;
        stage.registry.add_text("mapping", &file)?;
        stage.registry.publish()?;
        let finished = site.command(&["--log", "trace", "run"])?.expect(3).with_context(|| to.to_string())?;
        for word in *words {
            ensure!(finished.stdout.contains(word), "{to}: no {word} in {}", finished.stdout);
        }
        source.not_in_output(&finished)?;
        source.not_in_output(&site.command(&["preview", "gp-monthly"])?.expect(1)?)?;
    }
    // A database that somebody else has locked.
    let writer = Connection::open(source.practice())?;
    writer.execute_batch("BEGIN EXCLUSIVE")?;
    let finished = site.command(&["--log", "trace", "run"])?.expect(1)?;
    ensure!(finished.stderr.contains("locked"), "{}", finished.stderr);
    source.not_in_output(&finished)?;

    let history = site.command(&["history"])?.ok()?;
    ensure!(history.stdout.contains("failed"), "{}", history.stdout);
    source.not_in_output(&history)?;
    source.not_in_files(stage.folder())?;
    ensure!(OpenedBundle::stored(&stage.linker, &site)?.is_empty(), "something was sent");
    Ok(())
}
