//! A retraction follows the person's token, not the registration: at which practice somebody objects does not matter.

use anyhow::ensure;
use lockgate_tests::{Stage, Warehouse};

use super::{OTHER_VALUE, Practice, VALUE, history, values};
use crate::TestResult;

const NEXT_VALUE: f64 = 20.2656;

/// Two practices; the patient is at the first, and has been sent from there.
struct Two {
    stage: Stage,
    old: Practice,
    new: Practice,
    sites: [lockgate_tests::Site; 2],
    warehouse: Warehouse,
}

impl Two {
    fn new() -> anyhow::Result<Self> {
        let stage = Stage::new(&["gp-monthly"])?;
        let old = Practice::with_patient(&stage, "old", 1)?;
        let new = Practice::new(&stage, "new", 101)?;
        let sites = [old.site(&stage, "A81001")?, new.site(&stage, "B82002")?];
        let warehouse = Warehouse::of(&stage)?;
        sites.iter().try_for_each(|site| site.run().map(drop))?;
        warehouse.collect(&stage.linker.url())?;
        Ok(Self { stage, old, new, sites, warehouse })
    }

    fn run(&mut self, site: usize, day: &str) -> TestResult {
        day.clone_into(&mut self.sites[site].options.as_of);
        self.sites[site].run()?;
        self.warehouse.collect(&self.stage.linker.url())?;
        self.sites[site].command(&["push"])?.ok().map(drop)
    }
}

#[test]
fn who_moved_and_objects_at_the_new_practice_is_deleted_everywhere() -> TestResult {
    let mut two = Two::new()?;
    ensure!(values(&two.warehouse)? == [OTHER_VALUE, OTHER_VALUE, VALUE], "{:?}", values(&two.warehouse)?);
    // Person 1 registers at the new practice under another local id, and objects before anything was sent from there.
    two.new.record.patient("7000001", 1, "E01990001")?;
    two.new.object("7000001", "2026-11-02")?;
    two.run(1, "2026-11-02")?;
    ensure!(history(&two.sites[1], "retracted")? == 1 && history(&two.sites[1], "deleted")? == 1);
    ensure!(values(&two.warehouse)? == [OTHER_VALUE, OTHER_VALUE], "{:?}", values(&two.warehouse)?);
    let status = two.warehouse.status()?;
    ensure!(status["retractions"][0]["rows-of-others"] == 2, "{status}");

    // The old practice still has the record, and goes on to send it; it stays out.
    two.old.measure("1000001", "2026-11-05", NEXT_VALUE)?;
    two.run(0, "2026-12-01")?;
    ensure!(!values(&two.warehouse)?.contains(&NEXT_VALUE), "{:?}", values(&two.warehouse)?);
    ensure!(history(&two.sites[0], "retracted")? == 0);

    // The objection is withdrawn where it was made: who sends now is let in.
    two.new.withdraw("7000001", "2026-12-02")?;
    two.new.measure("7000001", "2026-12-05", NEXT_VALUE)?;
    two.run(1, "2027-01-02")?;
    ensure!(values(&two.warehouse)?.contains(&NEXT_VALUE), "{:?}", values(&two.warehouse)?);
    Ok(())
}

#[test]
fn who_moved_was_sent_from_both_and_objects_is_deleted_everywhere() -> TestResult {
    let mut two = Two::new()?;
    two.new.register("7000001", 1, NEXT_VALUE)?;
    two.run(1, "2026-11-02")?;
    ensure!(values(&two.warehouse)?.contains(&NEXT_VALUE), "{:?}", values(&two.warehouse)?);
    two.new.object("7000001", "2026-11-03")?;
    two.run(1, "2026-11-03")?;
    ensure!(values(&two.warehouse)? == [OTHER_VALUE, OTHER_VALUE], "{:?}", values(&two.warehouse)?);
    Ok(())
}

#[test]
fn who_has_always_objected_is_not_told_of_and_a_late_bundle_brings_nobody_back() -> TestResult {
    let mut two = Two::new()?;
    ensure!(history(&two.sites[1], "retracted")? == 0, "the first run told who objects");
    // A bundle of the old practice is carried by a slow courier: it was made before the objection and comes after it.
    two.old.measure("1000001", "2026-10-11", NEXT_VALUE)?;
    two.sites[0].options.as_of = "2026-11-02".to_owned();
    two.sites[0].command(&["run", "--no-push"])?.ok()?;
    two.new.record.patient("7000001", 1, "E01990001")?;
    two.new.object("7000001", "2026-11-03")?;
    two.run(1, "2026-11-03")?;
    two.sites[0].command(&["push"])?.ok()?;
    let collected = two.warehouse.collect(&two.stage.linker.url())?;
    ensure!(collected["bundles"] == 1 && collected["rows-kept-out"] == 3, "{collected}");
    ensure!(values(&two.warehouse)? == [OTHER_VALUE, OTHER_VALUE], "{:?}", values(&two.warehouse)?);
    Ok(())
}
