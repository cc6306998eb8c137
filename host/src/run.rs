//! A run: one module over one snapshot, period by period. The stages of `docs/DATA_FLOW.md`, in their order.
//!
//! Reading and running go side by side: a reader thread reads the declared inputs of each period in the order of the
//! manifest, one ahead; this thread runs the module on them, checks and seals. Memory: two inputs (see `order.rs`) and the
//! blocks being filled (see `seal.rs`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use jiff::civil::Date;
use lockgate_signing::bundle::{BundleHeader, Counts, EvidenceCounts, ModuleRef, TokenInfo};
use lockgate_signing::digest::Digest;
use lockgate_signing::direction::{Direction, Override};
use lockgate_signing::encryption::BundleContext;
use lockgate_signing::envelope::sign;
use lockgate_signing::ids::{BundleId, Name, Period};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::manifest::{Input, Manifest, Span};
use lockgate_signing::mapping::Mapping;
use lockgate_signing::policy::{ObjectionPolicy, SensitiveCodes};
use lockgate_signing::recipients::{Recipient, Recipients};
use lockgate_signing::token_keys::TokenKeys;

use crate::check::Checker;
use crate::config::Config;
use crate::crossing::{Crossing, CrossingError, day};
use crate::dictionary::Dictionary;
use crate::encryption::BlockCipher;
use crate::evidence;
use crate::failpoint::failpoint;
use crate::guest::{
    GuestEngine, GuestError, InputMessage, Inputs, NewCode, ReadInput, ReadyModule, RunState,
};
use crate::identity::{IdentityError, IdentityRules, Lookup, Patients, TokenRules, Tokens};
use crate::ledger::{Event, Ledger, LedgerError};
use crate::objections::EvidenceError;
use crate::outbox::{Outbox, OutboxError, SealingFolder};
use crate::plan::{self, PlanStep};
use crate::progress::{Progress, ProgressBar};
use crate::seal::{BlockStore, Kept, SealError, SealedBlocks, Sealer};
use crate::source::{End, Select, Snapshot, SourceError};
use lockgate_trust::{Trusted, TrustedModule};

/// A run failed; nothing of the period that failed is sent.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A policy or a module whose time is over.
    #[error("{what} was valid until {until}; a newer one has to be published")]
    Expired {
        /// Which.
        what: String,
        /// Its last day.
        until: Date,
    },
    /// A clock that was never set.
    #[error(
        "this computer's clock says {0}, which was before this program was written; set the clock right and run again"
    )]
    ClockNotSet(Date),
    /// Nobody could open what would be sent.
    #[error(
        "the list of recipients `{list}` names nobody for {today}; nothing is sent until the publishing team publishes a newer one"
    )]
    NoRecipient {
        /// The list.
        list: Name,
        /// The day.
        today: Date,
    },
    /// A module for another kind of site, or a mapping.
    #[error("{0} is for another kind of site than this one")]
    OtherSites(String),
    /// A direction that overrides nothing here; whoever chose it has made a mistake.
    #[error("direction `{direction}` is not for module `{module}` today; nothing was extracted")]
    Direction {
        /// The direction.
        direction: Name,
        /// The module.
        module: Name,
    },
    /// The database.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The objection evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The identity table.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The module.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The rows.
    #[error(transparent)]
    Crossing(#[from] CrossingError),
    /// The blocks.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl RunError {
    /// Whether a clinical row showed that the objection evidence is not whole.
    fn is_missed_evidence(&self) -> bool {
        let missed = |error: &CrossingError| {
            matches!(error, CrossingError::Source(SourceError::EvidenceMissed { .. }))
        };
        match self {
            Self::Crossing(error) | Self::Guest(GuestError::Input(error)) => missed(error),
            _ => false,
        }
    }
}

/// Day and time of a run: an argument, so that a run can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The day, in the site's calendar.
    pub today: Date,
    /// The moment.
    pub at: jiff::Timestamp,
}

impl Now {
    /// Noon (UTC) of a given day.
    pub fn as_of(today: Date) -> Self {
        let noon = i64::from(day(today)) * 86_400 + 43_200;
        Self { today, at: jiff::Timestamp::from_second(noon).unwrap_or(jiff::Timestamp::UNIX_EPOCH) }
    }
}

/// Everything that was signed and is current.
#[derive(Debug)]
pub struct Signed {
    /// The module.
    pub module: TrustedModule,
    /// The rollout by which it is offered; absent in a preview of what is not installed.
    pub rollout: Option<Digest>,
    /// The mapping of the clinical system.
    pub mapping: Arc<Trusted<Mapping>>,
    /// The objection policy.
    pub policy: Arc<Trusted<ObjectionPolicy>>,
    /// The sensitive codes.
    pub sensitive: Arc<Trusted<SensitiveCodes>>,
    /// Those who can open what is sent.
    pub recipients: Arc<Trusted<Recipients>>,
    /// The published token keys of the module's purpose, where the site's tokens are the keyholder's.
    pub token_keys: Option<Arc<Trusted<TokenKeys>>>,
    /// Directions for this module that the site has accepted and that stand today.
    pub directions: Vec<Trusted<Direction>>,
}

/// What does not change between runs.
#[derive(Debug)]
pub struct Site<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The site's signing key.
    pub key: &'a SigningKey,
    /// The pseudonym key.
    pub tokens: &'a Tokens,
    /// The engine.
    pub engine: &'a GuestEngine,
    /// Where progress is shown.
    pub progress: &'a Progress,
}

/// One period that was extracted.
#[derive(Debug)]
pub struct MadeBundle {
    /// Its id; `None` where its content is what was sent before, so that nothing was queued.
    pub id: Option<BundleId>,
    /// Its header.
    pub header: BundleHeader,
}

/// One period as it would be sent.
#[derive(Debug)]
pub struct PreviewedBundle {
    /// The header that would be signed.
    pub header: BundleHeader,
    /// The first blocks before their encryption, by the digest that they would be sent under.
    pub blocks: HashMap<Digest, Vec<u8>>,
}

/// Runs a module over the periods that are due, and queues a bundle for each.
pub fn run(
    site: &Site<'_>,
    signed: &Signed,
    now: Now,
    outbox: &Outbox,
    ledger: &mut Ledger,
) -> Result<Vec<MadeBundle>, RunError> {
    check_clock(ledger, now)?;
    let run = Run::prepare(site, signed, now, ledger)?;
    let steps = plan::due(&run.manifest, ledger, now.today, run.earliest(ledger)?);
    let head = ledger.head();
    let mut queueing =
        Queueing { outbox, ledger, head, unfinished: None, held: Vec::new(), made: Vec::new() };
    let result = run.over(&steps, &mut queueing);
    if let Err(error) = &result {
        queueing.discard_unfinished()?;
        // Whose objection was not read may be in the months before, too: of this run nothing is sent.
        if error.is_missed_evidence() {
            return result.map(|()| Vec::new());
        }
    }
    // A module that fails in one month does not take back the months before.
    queueing.queue(site.key, now)?;
    result?;
    Ok(queueing.made)
}

/// Runs a module as [`run`] does, on one period, and shows what it would send. Nothing is kept.
pub fn preview(
    site: &Site<'_>,
    signed: &Signed,
    now: Now,
    ledger: &Ledger,
    period: Option<Period>,
) -> Result<PreviewedBundle, RunError> {
    let run = Run::prepare(site, signed, now, ledger)?;
    let period = period.unwrap_or(Period::of(now.today).previous());
    let mut showing = Showing { ledger, shown: None };
    run.over(&[PlanStep { period, again: false }], &mut showing)?;
    showing.shown.ok_or_else(|| GuestError::Engine("the run made nothing".to_owned()).into())
}

/// A run whose patients are known.
struct Run<'a> {
    site: &'a Site<'a>,
    signed: &'a Signed,
    now: Now,
    manifest: Arc<Manifest>,
    module: ReadyModule,
    snapshot: Option<Snapshot>,
    patients: Arc<Patients>,
    evidence: EvidenceCounts,
    recipients: Vec<Recipient>,
}

/// What becomes of the periods of a run.
trait Periods {
    /// A period is about to be run: where its blocks go.
    fn begin(&mut self, run: &Run<'_>, step: PlanStep) -> Result<BlockStore, RunError>;

    /// A period was run.
    fn finished(&mut self, run: &Run<'_>, step: PlanStep, period: FinishedPeriod) -> Result<(), RunError>;
}

/// Periods that are queued to be sent, once all of them were read: a row of the last may show that the objection evidence is
/// not whole.
struct Queueing<'a> {
    outbox: &'a Outbox,
    ledger: &'a mut Ledger,
    /// The end of the chain, with what is held.
    head: Option<(u64, BundleId)>,
    /// The bundle that is being made.
    unfinished: Option<SealingFolder>,
    held: Vec<HeldBundle>,
    made: Vec<MadeBundle>,
}

/// A bundle that is signed and not yet queued.
struct HeldBundle {
    header: BundleHeader,
    signed: Vec<u8>,
    content: String,
    sealing: SealingFolder,
}

impl Queueing<'_> {
    /// Gives up the bundle that was being made, where there is one.
    fn discard_unfinished(&mut self) -> Result<(), OutboxError> {
        self.unfinished.take().map_or(Ok(()), |sealing| Outbox::discard(&sealing))
    }

    /// Queues what is held, each bundle on stable storage and then in the ledger.
    fn queue(&mut self, key: &SigningKey, now: Now) -> Result<(), RunError> {
        for HeldBundle { header, signed, content, sealing } in self.held.drain(..) {
            let queued = self.outbox.queue(&sealing, signed, &content, &key.public())?;
            self.ledger.append(now.at, sealed_event(queued.id(), &header, content))?;
            failpoint("run.in-ledger");
        }
        Ok(())
    }
}

impl Periods for Queueing<'_> {
    fn begin(&mut self, run: &Run<'_>, step: PlanStep) -> Result<BlockStore, RunError> {
        let sealing = self.outbox.begin(step.period)?;
        self.unfinished = Some(sealing.clone());
        Ok(BlockStore::in_folder(run.cipher(step.period, self.head)?, sealing))
    }

    fn finished(&mut self, run: &Run<'_>, step: PlanStep, period: FinishedPeriod) -> Result<(), RunError> {
        let header = run.header(step.period, &period, self.ledger);
        let FinishedPeriod { store: BlockStore { cipher, kept }, .. } = period;
        let Kept::Folder(sealing) = kept else { return Ok(()) };
        self.unfinished = None;
        let content = content_digest(run.site.tokens, &cipher);
        let before = self.ledger.latest(&run.manifest.id, step.period);
        if before.is_some_and(|before| before.content == content) {
            Outbox::discard(&sealing)?;
            self.made.push(MadeBundle { id: None, header });
            return Ok(());
        }
        // sign
        let signed = sign(&header, run.site.key);
        let id = BundleId(Digest::of(&signed));
        self.head = Some((header.sequence, id));
        self.made.push(MadeBundle { id: Some(id), header: header.clone() });
        self.held.push(HeldBundle { header, signed, content, sealing });
        Ok(())
    }
}

/// A period that is shown.
struct Showing<'a> {
    ledger: &'a Ledger,
    shown: Option<PreviewedBundle>,
}

impl Periods for Showing<'_> {
    fn begin(&mut self, run: &Run<'_>, step: PlanStep) -> Result<BlockStore, RunError> {
        Ok(BlockStore::in_memory(run.cipher(step.period, self.ledger.head())?))
    }

    fn finished(&mut self, run: &Run<'_>, step: PlanStep, period: FinishedPeriod) -> Result<(), RunError> {
        let header = run.header(step.period, &period, self.ledger);
        if let Kept::Memory { blocks, .. } = period.store.kept {
            self.shown = Some(PreviewedBundle { header, blocks });
        }
        Ok(())
    }
}

/// What the module made of one period.
struct FinishedPeriod {
    blocks: SealedBlocks,
    store: BlockStore,
    counts: Counts,
    fuel: u64,
}

impl<'a> Run<'a> {
    fn prepare(site: &'a Site<'a>, signed: &'a Signed, now: Now, ledger: &Ledger) -> Result<Self, RunError> {
        let manifest = Arc::new(signed.module.manifest().value().clone());
        check_current(site.config, &manifest, signed, now.today)?;
        let recipients = recipients(signed, now.today)?;
        // compile: the imports are checked to be a subset of our world. A core is free for it while the database is asked who
        // may be seen.
        let (module, seen) = std::thread::scope(|scope| {
            let compiling = scope.spawn(|| site.engine.ready(&signed.module));
            let seen = Self::seen(site, signed, &manifest, now, ledger);
            (compiling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), seen)
        });
        let (module, (snapshot, patients, evidence)) = (module?, seen?);
        let (snapshot, patients) = (Some(snapshot), Arc::new(patients));
        Ok(Self { site, signed, now, manifest, module, snapshot, patients, evidence, recipients })
    }

    /// Who may be seen, and the moment of the database for everything that follows.
    fn seen(
        site: &Site<'_>,
        signed: &Signed,
        manifest: &Manifest,
        now: Now,
        ledger: &Ledger,
    ) -> Result<(Snapshot, Patients, EvidenceCounts), RunError> {
        let (mapping, policy) = (signed.mapping.value(), signed.policy.value());
        // snapshot: one consistent moment for everything that follows
        let snapshot = Snapshot::open(&site.config.database.path)?;
        failpoint("run.snapshot");
        // objections: decided before any clinical row is read
        let mut register = evidence::read(&snapshot, mapping, policy, now.today)?;
        register.check_drop(policy, ledger.dissents())?;
        failpoint("run.objections");
        // identity: who objects gets no handle
        let rules = IdentityRules {
            mode: site.config.mode,
            tokens: site.tokens,
            making: TokenRules {
                site: &site.config.site,
                key: site.key,
                domain: &manifest.purpose,
                published: signed.token_keys.as_deref().map(Trusted::value),
                today: now.today,
            },
            links: &manifest.tokens.link,
            overrides_type_1: overrides(signed, Override::Type1),
        };
        let patients = Patients::read(&snapshot, mapping, &register, &rules)?;
        register.check_known(policy, |local_id| patients.lookup(local_id) != Lookup::Unknown)?;
        failpoint("run.identity");
        check_windows(&snapshot, mapping, manifest)?;
        Ok((snapshot, patients, register.counts))
    }

    /// The month of the earliest row of any input, where the first run covers all of them.
    fn earliest(&self, ledger: &Ledger) -> Result<Option<Period>, RunError> {
        let first_run = ledger.sealed().all(|entry| *entry.module != self.manifest.id);
        let Some(snapshot) = self.snapshot.as_ref().filter(|_| first_run) else { return Ok(None) };
        if self.manifest.window.initial != Span::All {
            return Ok(None);
        }
        let mut earliest: Option<Period> = None;
        for input in self.manifest.inputs.values() {
            let (Some(table), Some(column)) = (self.manifest.table_of(input), input.window_column()) else {
                continue;
            };
            let Some(select) = Select::end(self.signed.mapping.value(), table, column, End::First)? else {
                continue;
            };
            let found = snapshot.end(&select, column)?;
            earliest = match (earliest, found.map(Period::of)) {
                (Some(before), Some(found)) => Some(before.min(found)),
                (before, found) => before.or(found),
            };
        }
        Ok(earliest)
    }

    /// Reads, crosses, runs, checks and seals each period.
    fn over(mut self, steps: &[PlanStep], periods: &mut impl Periods) -> Result<(), RunError> {
        let Some(snapshot) = self.snapshot.take() else { return Ok(()) };
        let bar = self.site.progress.start(&self.manifest.id, steps.len());
        let cancelled = AtomicBool::new(false);
        // No buffer: the reader is at most one input ahead.
        let (sender, receiver) = sync_channel(0);
        std::thread::scope(|scope| {
            let reader = InputReader {
                manifest: &self.manifest,
                mapping: self.signed.mapping.value(),
                sensitive: Some(self.signed.sensitive.value())
                    .filter(|_| !overrides(self.signed, Override::Sensitive)),
                policy: self.signed.policy.value(),
                patients: &self.patients,
                scratch: &self.site.config.state_dir,
                cancelled: &cancelled,
                rows: &bar,
            };
            scope.spawn(move || reader.read_all(&snapshot, steps, &sender));
            let result = self.run_all(steps, receiver, &bar, periods);
            cancelled.store(true, Ordering::Relaxed);
            result
        })
    }

    fn run_all(
        &self,
        steps: &[PlanStep],
        receiver: Receiver<InputMessage>,
        bar: &ProgressBar,
        periods: &mut impl Periods,
    ) -> Result<(), RunError> {
        let mut inputs = Inputs::new(Arc::clone(&self.manifest), receiver);
        for &step in steps {
            let (first, last) = (day(step.period.first_day()), day(step.period.last_day()));
            let sealer = Sealer::new(&self.manifest, Arc::clone(&self.patients), periods.begin(self, step)?)?;
            let checker = Checker::new(Arc::clone(&self.manifest), self.patients.handles(), last);
            let limits = self.site.engine.limits();
            let state =
                RunState::new(Arc::clone(&self.manifest), inputs, sealer, checker, (first, last), limits);
            // run and check: every batch that the module writes is checked before it is sealed
            let mut done = self.module.run(self.site.engine, state)?;
            failpoint("run.guest-finished");
            let mut counts = self.counts();
            done.inputs.finish()?.iter().for_each(|rows| rows.add_to(&mut counts));
            // seal
            let (blocks, store) = done.sealer.finish()?;
            counts.cells_suppressed = blocks.cells_suppressed;
            failpoint("run.blocks-sealed");
            periods.finished(self, step, FinishedPeriod { blocks, store, counts, fuel: done.fuel })?;
            bar.period_done();
            inputs = done.inputs.next_period();
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        let people = &self.patients.counts;
        Counts {
            patients: people.patients,
            withheld_type_1: people.withheld_type_1,
            flagged_type_2: people.flagged_type_2,
            withheld_sensitive: people.withheld_sensitive,
            test_patients: people.test_patients,
            invalid_nhs_numbers: people.invalid_nhs_numbers,
            let_in: people.let_in,
            evidence: self.evidence.clone(),
            ..Counts::default()
        }
    }

    /// A new content key for the bundle that follows the last one.
    fn cipher(&self, period: Period, head: Option<(u64, BundleId)>) -> Result<BlockCipher, RunError> {
        let context = BundleContext {
            site: self.site.config.site.clone(),
            sequence: head.map_or(1, |(sequence, _)| sequence + 1),
            previous: head.map(|(_, id)| id),
            module: self.manifest.id.clone(),
            version: self.signed.module.manifest().version().clone(),
            period,
        };
        Ok(BlockCipher::new(context, &self.recipients).map_err(SealError::from)?)
    }

    fn header(&self, period: Period, made: &FinishedPeriod, ledger: &Ledger) -> BundleHeader {
        let (module, context) = (&self.signed.module, made.store.cipher.context());
        let (scheme, epoch) = self.patients.tokens();
        let manifest = module.manifest();
        BundleHeader {
            site: self.site.config.site.clone(),
            sequence: context.sequence,
            previous: context.previous,
            module: ModuleRef {
                id: self.manifest.id.clone(),
                version: manifest.version().clone(),
                manifest: manifest.digest(),
                component: module.component_digest(),
            },
            policy: self.signed.policy.digest(),
            sensitive: self.signed.sensitive.digest(),
            mapping: self.signed.mapping.digest(),
            cohorts: self.signed.rollout,
            purpose: self.manifest.purpose.clone(),
            tokens: TokenInfo {
                scheme,
                epoch,
                links: self.manifest.tokens.link.iter().map(|kind| kind.name().to_owned()).collect(),
            },
            period,
            snapshot_at_s: self.now.at.as_second(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            fuel: coarse(made.fuel),
            counts: made.counts.clone(),
            outputs: made.blocks.outputs.clone(),
            patients: made.blocks.patients.clone(),
            codes: made.blocks.codes.clone(),
            encryption: made.store.cipher.encryption().clone(),
            supersedes: ledger.latest(&self.manifest.id, period).map(|sealed| sealed.bundle),
            directions: applied(self.signed),
        }
    }
}

/// A keyed digest of what a bundle says, its place in the chain and the time aside.
fn content_digest(key: &Tokens, cipher: &BlockCipher) -> String {
    Digest::from_bytes(key.private_digest(&cipher.content())).to_hex()
}

fn sealed_event(id: BundleId, header: &BundleHeader, content: String) -> Event {
    Event::Sealed {
        bundle: id.to_string(),
        sequence: header.sequence,
        module: header.module.id.clone(),
        version: header.module.version.clone(),
        period: header.period,
        rows: header.rows(),
        bytes: header.bytes(),
        dissents: header.counts.evidence.dissents(),
        directions: header.directions.clone(),
        content,
    }
}

/// Enters bundles that a crash kept out of the ledger: they were queued, so they will be sent.
pub fn recover(outbox: &Outbox, ledger: &mut Ledger, key: &SigningKey, now: Now) -> Result<(), RunError> {
    for queued in outbox.queued(&key.public())? {
        let header = queued.header();
        if ledger.head().is_none_or(|(sequence, _)| header.sequence > sequence) {
            let content = queued.content()?;
            ledger.append(now.at, sealed_event(queued.id(), header, content))?;
        }
    }
    Ok(())
}

/// The clock was set at some time, and what it says against the ledger is said.
///
/// A clock that is set back makes expired modules and policies valid again (a freeze attack from within), so a refresh
/// refuses one that is before what the registry has signed, and installs nothing new while one that went back is not
/// settled. The ledger's days are this clock's own, and one that was once wrong in the future must not stop every run
/// after it.
fn check_clock(ledger: &Ledger, now: Now) -> Result<(), RunError> {
    if now.today < CLOCK_EARLIEST {
        return Err(RunError::ClockNotSet(now.today));
    }
    let latest = ledger.entries().iter().map(|entry| entry.at).max();
    let latest = latest.map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
    if let Some(latest) =
        latest.filter(|latest| now.today.tomorrow().is_ok_and(|tomorrow| tomorrow < *latest))
    {
        tracing::warn!(
            "this computer's clock says {}, and the ledger has an entry of {latest}: the clock is wrong, or was wrong then",
            now.today
        );
    }
    Ok(())
}

/// No agent ran before this day.
const CLOCK_EARLIEST: Date = jiff::civil::date(2025, 1, 1);

/// Fuel as the header tells it. The exact number would be a message of 40 bits, to whoever sees headers; this one has 6.
fn coarse(fuel: u64) -> u64 {
    fuel.checked_next_power_of_two().unwrap_or(u64::MAX)
}

/// Whether a direction overrides something.
fn overrides(signed: &Signed, what: Override) -> bool {
    signed.directions.iter().any(|direction| direction.value().overrides.contains(&what))
}

/// The directions, as a header names them.
fn applied(signed: &Signed) -> Vec<Digest> {
    let mut digests: Vec<Digest> = signed.directions.iter().map(|direction| direction.digest()).collect();
    digests.sort_unstable();
    digests.dedup();
    digests
}

/// Who can open what is sent today. Nobody: nothing is sent, rather than in the clear or to a key that was retired.
fn recipients(signed: &Signed, today: Date) -> Result<Vec<Recipient>, RunError> {
    let list = signed.recipients.value();
    let recipients: Vec<_> = list.on(today).cloned().collect();
    if recipients.is_empty() {
        return Err(RunError::NoRecipient { list: list.id.clone(), today });
    }
    Ok(recipients)
}

/// What is signed is current, and meant for this kind of site.
fn check_current(config: &Config, manifest: &Manifest, signed: &Signed, today: Date) -> Result<(), RunError> {
    let (mapping, policy) = (signed.mapping.value(), signed.policy.value());
    let valid = |what: String, until: Date| {
        if today > until { Err(RunError::Expired { what, until }) } else { Ok(()) }
    };
    valid(format!("module `{}` {}", manifest.id, manifest.version), manifest.not_after)?;
    valid(format!("objection policy `{}` {}", policy.id, policy.version), policy.not_after)?;
    if manifest.sites != config.kind {
        return Err(RunError::OtherSites(format!("module `{}`", manifest.id)));
    }
    for direction in &signed.directions {
        let direction = direction.value();
        if direction.module != manifest.id || !direction.stands_on(today) {
            return Err(RunError::Direction { direction: direction.id.clone(), module: manifest.id.clone() });
        }
    }
    if mapping.sites != config.kind {
        return Err(RunError::OtherSites(format!("mapping `{}`", mapping.id)));
    }
    Ok(())
}

/// Both ends of every window column are dates.
///
/// A window is a comparison of texts in the database, which passes over a text of another form without a word; dates of
/// another form lie at an end. With an index this reads two rows.
fn check_windows(snapshot: &Snapshot, mapping: &Mapping, manifest: &Manifest) -> Result<(), RunError> {
    let mut checked = Vec::new();
    for input in manifest.inputs.values() {
        let (Some(table), Some(column)) = (manifest.table_of(input), input.window_column()) else { continue };
        if checked.contains(&(table.name, column)) {
            continue;
        }
        checked.push((table.name, column));
        for end in [End::First, End::Last] {
            if let Some(select) = Select::end(mapping, table, column, end)? {
                snapshot.end(&select, column)?;
            }
        }
    }
    Ok(())
}

/// Reads the inputs of every period, in the order of the manifest.
struct InputReader<'a> {
    manifest: &'a Manifest,
    mapping: &'a Mapping,
    /// `None`: a direction overrides it.
    sensitive: Option<&'a SensitiveCodes>,
    policy: &'a ObjectionPolicy,
    patients: &'a Patients,
    scratch: &'a std::path::Path,
    cancelled: &'a AtomicBool,
    rows: &'a ProgressBar,
}

impl InputReader<'_> {
    fn read_all(&self, snapshot: &Snapshot, steps: &[PlanStep], sender: &SyncSender<InputMessage>) {
        let mut dictionary =
            Dictionary::new(self.mapping, self.sensitive, self.policy, &self.manifest.codelists);
        let mut sent = 0;
        for step in steps {
            for (name, input) in &self.manifest.inputs {
                let message = self.read_one(snapshot, &mut dictionary, &mut sent, name, input, step.period);
                let stop = message.is_err();
                // A receiver that is gone has failed and said so.
                if sender.send(message).is_err() || stop {
                    return;
                }
            }
        }
    }

    fn read_one(
        &self,
        snapshot: &Snapshot,
        dictionary: &mut Dictionary,
        sent: &mut usize,
        name: &Name,
        input: &Input,
        period: Period,
    ) -> InputMessage {
        let crossing = Crossing {
            mapping: self.mapping,
            manifest: self.manifest,
            patients: self.patients,
            scratch: self.scratch,
        };
        let progress = |rows| {
            self.rows.rows_read(rows);
            !self.cancelled.load(Ordering::Relaxed)
        };
        let crossed = crossing.read(snapshot, dictionary, input, plan::window(input, period), progress)?;
        let new_codes = dictionary.codes_from(*sent).map(|code| NewCode {
            system: code.system,
            text: code.text.clone(),
            codelists: code.codelists,
        });
        let new_codes: Vec<NewCode> = new_codes.collect();
        *sent += new_codes.len();
        Ok(ReadInput { name: name.clone(), crossed, new_codes, systems: dictionary.systems().to_vec() })
    }
}
