//! A full disk, on either side and at any place: one clear error, and nothing lost once there is space again.

use anyhow::{Context as _, ensure};
use lockgate_tests::{ExactlyOnce, SiteOptions, SmallDisk, Stage};

use crate::TestResult;

/// Larger than everything that is written.
const DISK_KIB: u32 = 8 << 10;
/// A first run makes four months.
const BUNDLES: u64 = 4;
const REMEDY: &str = "No space left on device (os error 28); free some space and try again, nothing was lost";

#[test]
fn the_agents_disk_may_be_full_at_any_place() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.practice_database("practice", 40)?;
    let mut places = 0;
    for free_kib in (0..).step_by(12) {
        let mut site = stage.site(&format!("site-{free_kib}"), {
            SiteOptions { give_up_s: 0, ..SiteOptions::practice(&format!("A{free_kib:05}"), &database) }
        })?;
        // What is published is fetched before, so that the places are those of a run.
        site.command(&["preview", "gp-monthly"])?.ok()?;
        let Some(disk) = SmallDisk::over(&site.state(), DISK_KIB)? else { return not_tested() };
        let agent = disk.on_it(&stage.binaries.program("lockgate-agent")?, &site.folder.join("agent"))?;
        site.use_agent(agent);
        disk.fill(free_kib << 10)?;
        let full = site.command(&["run"])?;
        let enough = full.code == Some(0);
        if !enough {
            let told = format!("{}\n{}", full.stdout, full.stderr);
            ensure!(matches!(full.code, Some(1 | 3)), "{free_kib} KiB: {full:?}");
            ensure!(told.contains(REMEDY), "{free_kib} KiB: {told}");
            places += 1;
        }
        disk.free()?;
        site.run().with_context(|| format!("{free_kib} KiB"))?;
        let whole =
            ExactlyOnce { state: disk.seen(), ..ExactlyOnce::new(&stage.linker, &site) }.check(BUNDLES);
        whole.with_context(|| format!("{free_kib} KiB"))?;
        if enough {
            break;
        }
    }
    ensure!(places >= 4, "only {places} places where the disk was full");
    Ok(())
}

#[test]
fn the_linkers_disk_may_be_full_at_any_place() -> TestResult {
    let mut stage = Stage::new(&["gp-monthly"])?;
    let database = stage.practice_database("practice", 40)?;
    let objects = stage.linker.folder().join("objects");
    stage.linker.kill()?;
    let Some(disk) = SmallDisk::over(&objects, DISK_KIB)? else { return not_tested() };
    let program = disk.on_it(&stage.binaries.program("lockgate-linker")?, &stage.folder().join("on-disk"))?;
    stage.linker.serve_with(program, &[]);
    stage.linker.start()?;
    let mut places = 0;
    for free_kib in (0..).step_by(16) {
        let site = stage.site(&format!("site-{free_kib}"), {
            SiteOptions { give_up_s: 0, ..SiteOptions::practice(&format!("A{free_kib:05}"), &database) }
        })?;
        disk.fill(free_kib << 10)?;
        let full = site.command(&["run"])?;
        let enough = full.code == Some(0);
        if !enough {
            ensure!(full.code == Some(4), "{free_kib} KiB: {full:?}");
            let told =
                full.stderr.contains("disk-full") && full.stderr.contains("bundles stay in the outbox");
            ensure!(told, "{free_kib} KiB: {}", full.stderr);
            places += 1;
        }
        disk.free()?;
        site.run().with_context(|| format!("{free_kib} KiB"))?;
        let whole =
            ExactlyOnce { objects: disk.seen(), ..ExactlyOnce::new(&stage.linker, &site) }.check(BUNDLES);
        whole.with_context(|| format!("{free_kib} KiB"))?;
        if enough {
            break;
        }
    }
    ensure!(places >= 4, "only {places} places where the disk was full");
    ensure!(stage.linker.log().contains("the disk is full"), "the operator is not told");
    Ok(())
}

fn not_tested() -> TestResult {
    eprintln!("not tested: this machine does not let a user mount a file system");
    Ok(())
}
