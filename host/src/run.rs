//! A run: one module over one snapshot, period by period. The stages of `docs/DATA_FLOW.md`, in their order.
//!
//! Reading and running go side by side: two threads read the declared inputs of each period in the order of the manifest, a few
//! ahead (see `read_ahead.rs`); this thread runs the module on them, checks and seals. Memory: the rows that wait (see
//! `order.rs`) and the blocks being filled (see `seal.rs`).

mod current;
mod held;
mod periods;
mod reader;
mod retracting;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::civil::Date;
use lockgate_signing::bundle::{BundleHeader, BundleKind, Counts, EvidenceCounts, ModuleRef, TokenInfo};
use lockgate_signing::digest::Digest;
use lockgate_signing::direction::{Direction, Override};
use lockgate_signing::encryption::BundleContext;
use lockgate_signing::ids::{BundleId, Name, Period};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::manifest::{Manifest, Span};
use lockgate_signing::mapping::Mapping;
use lockgate_signing::policy::{ObjectionPolicy, SensitiveCodes};
use lockgate_signing::recipients::{Recipient, Recipients};
use lockgate_signing::token_keys::TokenKeys;
use lockgate_trust::{Trusted, TrustedModule};

use crate::check::Checker;
use crate::config::Config;
use crate::crossing::{CrossingError, day};
use crate::dictionary::CodeBook;
use crate::encryption::BlockCipher;
use crate::evidence;
use crate::failpoint::failpoint;
use crate::guest::{GuestEngine, GuestError, Inputs, ReadyModule, RunState};
use crate::identity::{IdentityError, IdentityRules, Lookup, Patients, TokenRules, Tokens};
use crate::ledger::{Ledger, LedgerError};
use crate::objections::EvidenceError;
use crate::order::RowMemory;
use crate::outbox::{Outbox, OutboxError};
use crate::plan::{self, PlanStep};
use crate::progress::{Progress, ProgressBar};
use crate::read_ahead::ReadAhead;
use crate::seal::{BlockStore, SealError, SealedBlocks, Sealer};
use crate::source::{End, Select, Snapshot, SourceError};
use current::{applied, check_clock, check_current, check_windows, overrides, recipients};
use periods::{Holding, Periods, Showing};
use reader::InputReader;
use retracting::Sent;

pub use held::{Held, recover};
pub(crate) use retracting::{Authority, recorded, retract_without_run};

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
    /// The objection evidence, as another module of the run found it.
    #[error(
        "the objection evidence is in doubt since module `{0}` failed by it; nothing of this run is sent"
    )]
    EvidenceInDoubt(Name),
    /// A bundle before it in the chain could not be queued.
    #[error("nothing was queued, because a bundle before it could not be; see what is said of module `{0}`")]
    NotQueued(Name),
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
    /// Whether the objection evidence is in doubt: it could not be read, looks broken, or a clinical row showed that it is not
    /// whole. Then nothing may leave that was made under it.
    pub fn is_of_evidence(&self) -> bool {
        let missed = |error: &CrossingError| {
            matches!(error, CrossingError::Source(SourceError::EvidenceMissed { .. }))
        };
        match self {
            Self::Evidence(_) => true,
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
    /// The published token keys of the module's purpose.
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
    /// The directions that the header names, as people know them.
    pub directions: Vec<Name>,
}

/// Whether the clinical database can be opened.
pub(crate) fn open_database(config: &Config) -> Result<(), RunError> {
    Snapshot::open(&config.database.path).map(drop).map_err(Into::into)
}

/// Runs a module over the periods that are due, and holds a bundle for each, to be queued when every module has read: those are
/// added to `made`.
///
/// A module that fails in one month does not take back the months before; one whose error [`RunError::is_of_evidence`] takes
/// back everything that the run has made, which its caller sees to.
pub fn run(
    site: &Site<'_>,
    signed: &Signed,
    now: Now,
    outbox: &Outbox,
    ledger: &Ledger,
    held: &mut Held,
    made: &mut Vec<MadeBundle>,
) -> Result<(), RunError> {
    check_clock(ledger, now)?;
    let mut run = Run::prepare(site, signed, now, ledger, true)?;
    // retract: whoever was sent and may not be seen any more, whatever becomes of the rest
    if let Some(sent) = run.sent.take() {
        run.retract(sent, outbox, ledger, held)?;
    }
    let steps = plan::due(&run.manifest, ledger, now.today, run.earliest(ledger)?);
    let mut holding = Holding::new(outbox, ledger, held, made);
    let result = run.over(&steps, &mut holding);
    holding.discard_unfinished()?;
    result
}

/// Runs a module as [`run`] does, on one period, and shows what it would send. Nothing is kept.
pub fn preview(
    site: &Site<'_>,
    signed: &Signed,
    now: Now,
    ledger: &Ledger,
    period: Option<Period>,
) -> Result<PreviewedBundle, RunError> {
    let run = Run::prepare(site, signed, now, ledger, false)?;
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
    /// Whether the module has sent nothing yet under the epoch of these tokens.
    first_of_epoch: bool,
    /// What changes in the record of what was sent, until it is entered; none where nothing is kept.
    sent: Option<Sent>,
}

/// Who may be seen.
struct Seen {
    snapshot: Snapshot,
    patients: Patients,
    evidence: EvidenceCounts,
    sent: Option<Sent>,
}

/// What the module made of one period.
struct FinishedPeriod {
    blocks: SealedBlocks,
    store: BlockStore,
    counts: Counts,
    fuel: u64,
}

impl<'a> Run<'a> {
    /// `sends`: whether anything is going to be sent, so that it has to be known of whom.
    fn prepare(
        site: &'a Site<'a>,
        signed: &'a Signed,
        now: Now,
        ledger: &Ledger,
        sends: bool,
    ) -> Result<Self, RunError> {
        let manifest = Arc::new(signed.module.manifest().value().clone());
        check_current(site.config, &manifest, signed, now.today)?;
        let recipients = recipients(signed.recipients.value(), now.today)?;
        // compile: the imports are checked to be a subset of our world. A core is free for it while the database is asked who
        // may be seen.
        let (module, seen) = std::thread::scope(|scope| {
            let compiling = scope.spawn(|| site.engine.ready(&signed.module));
            let seen = Self::seen(site, signed, &manifest, now, ledger, sends);
            (compiling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), seen)
        });
        let (module, Seen { snapshot, patients, evidence, sent }) = (module?, seen?);
        let first_of_epoch = !ledger.epochs(&manifest.id).contains(&patients.tokens().1);
        let (snapshot, patients) = (Some(snapshot), Arc::new(patients));
        Ok(Self {
            site,
            signed,
            now,
            manifest,
            module,
            snapshot,
            patients,
            evidence,
            recipients,
            first_of_epoch,
            sent,
        })
    }

    /// Who may be seen, and the moment of the database for everything that follows.
    fn seen(
        site: &Site<'_>,
        signed: &Signed,
        manifest: &Manifest,
        now: Now,
        ledger: &Ledger,
        sends: bool,
    ) -> Result<Seen, RunError> {
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
            overrides_type_1: overrides(&signed.directions, Override::Type1),
        };
        let record = recorded(manifest).filter(|_| sends);
        let record = record.map(|of| retracting::record(site, &of, now, ledger)).transpose()?;
        let (patients, changes) = Patients::read(&snapshot, mapping, &register, &rules, record.as_ref())?;
        let sent = record.zip(changes).map(|(record, changes)| Sent { record, changes });
        register.check_known(policy, |local_id| patients.lookup(local_id) != Lookup::Unknown)?;
        failpoint("run.identity");
        check_windows(&snapshot, mapping, manifest)?;
        Ok(Seen { snapshot, patients, evidence: register.counts, sent })
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
        let mut snapshots = vec![snapshot];
        snapshots.extend(snapshots[0].twin());
        let jobs = steps.len() * self.manifest.inputs.len();
        let ahead = Arc::new(ReadAhead::new(jobs, snapshots.len()));
        let sensitive = Some(self.signed.sensitive.value());
        let sensitive = sensitive.filter(|_| !overrides(&self.signed.directions, Override::Sensitive));
        let (mapping, policy) = (self.signed.mapping.value(), self.signed.policy.value());
        let book = Arc::new(CodeBook::new(mapping, sensitive, policy, &self.manifest.codelists));
        let reader = InputReader {
            manifest: &self.manifest,
            mapping,
            patients: &self.patients,
            book: &book,
            memory: &RowMemory::of_a_run(),
            scratch: &self.site.config.state_dir,
            ahead: &ahead,
            rows: &bar,
        };
        std::thread::scope(|scope| {
            for snapshot in snapshots {
                scope.spawn(|| reader.read(snapshot, steps));
            }
            let inputs = Inputs::new(Arc::clone(&self.manifest), Arc::clone(&ahead), Arc::clone(&book));
            let result = self.run_all(steps, inputs, &bar, periods);
            ahead.stop();
            result
        })
    }

    fn run_all(
        &self,
        steps: &[PlanStep],
        mut inputs: Inputs,
        bar: &ProgressBar,
        periods: &mut impl Periods,
    ) -> Result<(), RunError> {
        // Where only counts are sent, the centre knows nobody by a token.
        let mut tells_everybody = self.first_of_epoch && recorded(&self.manifest).is_some();
        for &step in steps {
            let (first, last) = (day(step.period.first_day()), day(step.period.last_day()));
            let store = periods.begin(self, step)?;
            let tells = std::mem::take(&mut tells_everybody);
            let sealer = Sealer::new(&self.manifest, Arc::clone(&self.patients), store, tells)?;
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

    fn module_ref(&self) -> ModuleRef {
        let (module, manifest) = (&self.signed.module, self.signed.module.manifest());
        ModuleRef {
            id: self.manifest.id.clone(),
            version: manifest.version().clone(),
            manifest: manifest.digest(),
            component: module.component_digest(),
        }
    }

    fn header(&self, period: Period, made: &FinishedPeriod, ledger: &Ledger) -> BundleHeader {
        let context = made.store.cipher.context();
        let (scheme, epoch) = self.patients.tokens();
        BundleHeader {
            site: self.site.config.site.clone(),
            sequence: context.sequence,
            previous: context.previous,
            module: self.module_ref(),
            policy: self.signed.policy.digest(),
            sensitive: self.signed.sensitive.digest(),
            mapping: self.signed.mapping.digest(),
            rollout: self.signed.rollout,
            purpose: self.manifest.purpose.clone(),
            tokens: TokenInfo {
                scheme,
                epoch,
                links: self.manifest.tokens.link.clone(),
                former: made.blocks.former.clone(),
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
            kind: BundleKind::Extract,
        }
    }
}

/// Fuel as the header tells it. The exact number would be a message of 40 bits, to whoever sees headers; this one has 6.
fn coarse(fuel: u64) -> u64 {
    fuel.checked_next_power_of_two().unwrap_or(u64::MAX)
}
