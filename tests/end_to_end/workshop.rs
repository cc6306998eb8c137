//! The workshop, as an author uses it: what `module new` lays out builds and runs, what changes shows, other languages are
//! welcome, and the modules of earlier releases still run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use lockgate_tests::command::{Finished, finish};
use lockgate_tests::{AS_OF, Binaries, copy_folder};
use serde_json::Value;

use crate::TestResult;
use crate::page::{Block, Page};

/// Who of the invented practice must not be in anything that is printed: names, numbers, notes, and who objects.
const NEVER_SHOWN: [&str; 8] =
    ["Amelia", "Hart", "Wolfe", "9990000077", "07700", "flowerpot", "EM1 1AA", "p06"];

/// `lockgate-publish module …` in a folder.
fn module(folder: &Path, arguments: &[&str]) -> anyhow::Result<Finished> {
    let binaries = Binaries::locate()?;
    let mut command = Command::new(binaries.program("lockgate-publish")?);
    command
        .current_dir(folder)
        // Shared with the project's own modules, so that the standard library is not built once more.
        .env("CARGO_TARGET_DIR", binaries.root().join("target/guest-build"))
        .env("LOCKGATE_AGENT", binaries.program("lockgate-agent")?)
        .arg("module")
        .args(arguments);
    finish(command.args(["--as-of", AS_OF]))
}

fn json(folder: &Path, arguments: &[&str]) -> anyhow::Result<Value> {
    module(folder, &[arguments, &["--json"]].concat())?.ok()?.json()
}

/// Rewrites a file of a module.
fn edit(file: &Path, from: &str, to: &str) -> TestResult {
    let text = std::fs::read_to_string(file)?;
    ensure!(text.contains(from), "{} has no `{from}`", file.display());
    Ok(std::fs::write(file, text.replace(from, to))?)
}

#[test]
fn a_new_module_builds_runs_and_says_what_a_change_of_it_changes() -> TestResult {
    let folder = tempfile::tempdir()?;
    module(folder.path(), &["new", "wheeze"])?.ok()?;
    module(folder.path(), &["new", "wheeze"])?.expect(1)?;
    let first = folder.path().join("wheeze");

    // check: five of the ten people are sent, and nothing says who they are.
    let shown = module(&first, &["check"])?.ok()?;
    for secret in NEVER_SHOWN {
        ensure!(!shown.stdout.contains(secret), "`{secret}` is printed\n{}", shown.stdout);
    }
    let checked = json(&first, &["check"])?;
    let extract = &checked["extracts"][0];
    assert_eq!(extract["patients-sent"], 5);
    assert_eq!(extract["counts"]["withheld-type-1"], 1);
    let register = &extract["outputs"][0];
    assert_eq!(register["columns"], serde_json::json!(["patient", "since", "inhalers"]));
    let sent = |register: &Value| -> Vec<(String, String)> {
        let rows = register["rows"].as_array().into_iter().flatten();
        let text = |cell: &Value| cell.as_str().unwrap_or_default().to_owned();
        let mut sent: Vec<_> = rows.map(|row| (text(&row[1]), text(&row[2]))).collect();
        sent.sort();
        sent
    };
    let expected =
        [("", "0"), ("2010-02-01", "0"), ("2011-03-01", "3"), ("2013-01-01", "1"), ("2014-11-01", "1")];
    assert_eq!(sent(register), expected.map(|(since, inhalers)| (since.to_owned(), inhalers.to_owned())));

    // test: nothing is kept, then it is, then it is the same.
    ensure!(module(&first, &["test"])?.expect(1)?.stderr.contains("--bless"));
    module(&first, &["test", "--bless"])?.ok()?;
    module(&first, &["test"])?.ok()?;

    // A later version with one more code: one more patient, and the golden test says which row came.
    let second = folder.path().join("wheeze-1.1.0");
    copy_folder(&first, &second)?;
    edit(&second.join("module.toml"), "version = \"1.0.0\"", "version = \"1.1.0\"")?;
    edit(&second.join("module.toml"), "snomed = [\"195967001\"]", "snomed = [\"195967001\", \"233678006\"]")?;
    let differs = module(&second, &["test"])?.expect(1)?;
    let added: Vec<&str> = differs.stdout.lines().filter(|line| line.starts_with('+')).collect();
    ensure!(added.len() == 2 && added[1].ends_with(",2018-06-01,1"), "{}", differs.stdout);

    // diff: the same in words, with what a site has to approve.
    let diff = json(folder.path(), &["diff", "wheeze", "wheeze-1.1.0"])?;
    let output = &diff["months"][0]["outputs"][0];
    assert_eq!(output["removed"], serde_json::json!([]));
    assert_eq!(output["added"][0][1], "2018-06-01");
    let widens = diff["widens"].to_string();
    ensure!(widens.contains("snomed 233678006"), "{widens}");
    let same = module(folder.path(), &["diff", "wheeze", "wheeze"])?.ok()?;
    ensure!(same.stdout.contains("Both send the same rows"), "{}", same.stdout);
    Ok(())
}

#[test]
fn what_is_wrong_with_a_module_is_said_before_anybody_signs_it() -> TestResult {
    let folder = tempfile::tempdir()?;
    let refused = |arguments: &[&str]| -> anyhow::Result<String> {
        Ok(module(folder.path(), arguments)?.expect(1)?.stderr)
    };
    ensure!(refused(&["check"])?.contains("module.toml"));

    let copy_module = other_language(folder.path())?;
    let check = |folder: &Path| module(folder, &["check", "--wasm", "module.wasm"]);
    check(&copy_module)?.ok()?;
    // A manifest that allows less than the module does: the agent stops it, as it would at a practice.
    edit(&copy_module.join("module.toml"), "systems = [\"snomed\", \"read2\"]", "systems = [\"snomed\"]")?;
    let stopped = check(&copy_module)?.expect(1)?.stderr;
    ensure!(stopped.contains("a code of a system that the manifest does not declare"), "{stopped}");
    std::fs::write(copy_module.join("module.wasm"), b"fn main() {}")?;
    ensure!(check(&copy_module)?.expect(1)?.stderr.contains("not WebAssembly"));
    Ok(())
}

#[test]
fn each_mistake_of_an_author_is_named_with_what_would_be_right() -> TestResult {
    let folder = tempfile::tempdir()?;
    module(folder.path(), &["new", "wheeze"])?.ok()?;
    let good = other_language(folder.path())?;
    copy_folder(&folder.path().join("wheeze/fixture"), &good.join("fixture"))?;
    module(&good, &["check"])?.ok()?;
    let declared = "type = \"date\", min = \"1895-01-01\", optional";
    let as_number = "type = \"number\", min = 0, max = 9, decimals = 0, optional";
    let later = "type = \"date\", min = \"2020-01-01\", optional";
    for (file, right, wrong, words) in [
        ("module.toml", "\"1.0.0\"", "\"1.0\"", "a version has three numbers: 1.0.0"),
        ("module.toml", "195967001", "195967002", "6 to 18 digits, the last of them the check digit"),
        ("module.toml", declared, as_number, "its list is of dates, and the manifest declares a number"),
        ("module.toml", declared, later, "range, 2020-01-01 to the run's last day: leave the value out"),
        (
            "fixture/practice.sql",
            "'9990000077'",
            "'9434765919'",
            "numbers that are never issued, 999 000 0000",
        ),
        (
            "fixture/practice.sql",
            "TABLE Coding_",
            "TABEL Coding_",
            "SQL, line 10: near \"TABEL\": syntax error",
        ),
    ] {
        let bad = folder.path().join("bad");
        copy_folder(&good, &bad)?;
        edit(&bad.join(file), right, wrong)?;
        let told = module(&bad, &["check"])?.expect(1)?.stderr;
        ensure!(told.contains(words), "no `{words}` in {told}");
        ensure!(!told.contains("INSERT"), "the rest of the script is repeated: {told}");
        std::fs::remove_dir_all(&bad)?;
    }
    // What is declared is looked at before anything is built.
    edit(&good.join("module.toml"), "\"1.0.0\"", "\"1.0\"")?;
    std::fs::write(good.join("module.wasm"), "not built")?;
    ensure!(module(&good, &["check"])?.expect(1)?.stderr.contains("a version has three numbers"));
    Ok(())
}

#[test]
fn a_module_in_another_language_is_taken() -> TestResult {
    let folder = tempfile::tempdir()?;
    let copy_module = other_language(folder.path())?;
    // Without `--wasm`: a folder without Cargo.toml brings its module.wasm.
    module(&copy_module, &["test"])?.ok()?;
    Ok(())
}

/// The page for those who begin, typed as it stands: every command of its first part ends as the page says.
#[test]
fn the_first_ten_minutes_are_as_the_page_says() -> TestResult {
    let binaries = Binaries::locate()?;
    let page = Page::read("docs/MODULES.md")?;
    let part = page.sections.iter().find(|section| section.title == "Ten minutes");
    let part = part.context("the part is there")?;
    let typed = part.blocks.iter().filter(|block| block.language == "sh");
    let script: String = typed.map(Block::script).collect();
    ensure!(script.contains("module new asthma") && script.contains("--bless"), "{script}");
    let folder = tempfile::tempdir()?;
    let programs = binaries.program("lockgate-publish")?;
    let programs = programs.parent().context("programs are in a folder")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let typed = finish(
        Command::new("bash")
            .args(["-c", &script])
            .current_dir(folder.path())
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("CARGO_TARGET_DIR", binaries.root().join("target/guest-build")),
    )?
    .ok()?;
    // What the page shows of it, but for labels and sizes.
    for shown in ["it would send 5 rows of 5 patients", "2011-03-01  3", ",2018-06-01,1"] {
        ensure!(typed.stdout.contains(shown), "`{shown}` is not printed\n{}", typed.stdout);
    }
    Ok(())
}

/// Every module of every release so far, run by the agent of today: each sends what it sent then.
#[test]
fn the_modules_of_earlier_releases_run() -> TestResult {
    let corpus = Binaries::locate()?.root().join("tests/corpus");
    let mut modules = 0;
    for release in folders(&corpus)? {
        for kept in folders(&release)?.into_iter().filter(|folder| folder.join("module.wasm").exists()) {
            module(&kept, &["test"])?.ok().with_context(|| kept.display().to_string())?;
            modules += 1;
        }
    }
    ensure!(modules >= 3, "{} holds {modules} modules", corpus.display());
    Ok(())
}

/// The module that was written by hand in WebAssembly text, with its interface in it as `wasm-tools component embed` puts it
/// there, in a folder of its own.
fn other_language(folder: &Path) -> anyhow::Result<PathBuf> {
    let root = Binaries::locate()?.root().to_owned();
    let to = folder.join("copy");
    copy_folder(&root.join("tests/other_language"), &to)?;
    let mut wasm = wat::parse_file(to.join("copy.wat"))?;
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(root.join("wit"))?;
    let world = resolve.select_world(&[package], Some("extractor"))?;
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut wasm, &resolve, world, encoding, false)?;
    std::fs::write(to.join("module.wasm"), wasm)?;
    Ok(to)
}

fn folders(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
