//! Who was sent by a module and may not be seen any more: found when a run reads who may be seen; and, for a module that does
//! not run any more, without a run. What it has sent is still at the centre.

use lockgate_signing::bundle::ModuleRef;
use lockgate_signing::direction::{Direction, Override};
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::Manifest;
use lockgate_signing::mapping::Mapping;
use lockgate_signing::policy::{ObjectionPolicy, SensitiveCodes};
use lockgate_signing::recipients::{Recipient, Recipients};
use lockgate_signing::token_keys::TokenKeys;
use lockgate_trust::Trusted;

use super::current::{check_clock, overrides, recipients};
use super::{Held, Now, Run, RunError, Signed, Site};
use crate::evidence;
use crate::identity::{
    self, IdentityError, IdentityRules, Recorded, SentChanges, SentModule, SentRecord, TokenRules,
    TokensError,
};
use crate::ledger::Ledger;
use crate::outbox::Outbox;
use crate::retract::Retracting;
use crate::source::Snapshot;

/// What was signed and is current, whichever module it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authority<'a> {
    pub(crate) mapping: &'a Trusted<Mapping>,
    pub(crate) policy: &'a Trusted<ObjectionPolicy>,
    pub(crate) sensitive: &'a Trusted<SensitiveCodes>,
    pub(crate) recipients: &'a Trusted<Recipients>,
    pub(crate) token_keys: Option<&'a Trusted<TokenKeys>>,
    pub(crate) directions: &'a [Trusted<Direction>],
}

impl Signed {
    pub(super) fn authority(&self) -> Authority<'_> {
        Authority {
            mapping: &self.mapping,
            policy: &self.policy,
            sensitive: &self.sensitive,
            recipients: &self.recipients,
            token_keys: self.token_keys.as_deref(),
            directions: &self.directions,
        }
    }
}

/// What a run has to enter in the record of what was sent.
pub(super) struct Sent {
    pub(super) record: SentRecord,
    pub(super) changes: SentChanges,
}

/// What a module's record is of; none for a module that sends counts only: they are of nobody.
pub(crate) fn recorded(manifest: &Manifest) -> Option<Recorded> {
    let of_patients = manifest.outputs.values().any(|output| output.aggregate.is_none());
    of_patients.then(|| Recorded { module: manifest.id.clone(), purpose: manifest.purpose.clone() })
}

/// The record of what a module has sent.
pub(super) fn record(
    site: &Site<'_>,
    of: &Recorded,
    now: Now,
    ledger: &Ledger,
) -> Result<SentRecord, RunError> {
    let sent_before = ledger.sealed().any(|entry| *entry.module == of.module);
    Ok(site
        .tokens
        .record(of, now.today, sent_before)
        .map_err(TokensError::from)
        .map_err(IdentityError::from)?)
}

impl Run<'_> {
    /// Holds the retractions, and the record with those whose tokens may be sent: both before anything that this module makes.
    pub(super) fn retract(
        &self,
        sent: Sent,
        outbox: &Outbox,
        ledger: &Ledger,
        held: &mut Held,
    ) -> Result<(), RunError> {
        let Sent { mut record, changes } = sent;
        let (module, purpose) = (self.module_ref(), &self.manifest.purpose);
        let authority = self.signed.authority();
        let retracting = authority.retracting(self.site, &module, purpose, &self.recipients, self.now);
        retracting.hold(&changes.retracted, outbox, ledger, held)?;
        changes.enter_withheld(&mut record);
        let of = Recorded { module: module.id.clone(), purpose: purpose.clone() };
        changes.enter_admitted(&mut record, SentModule { module, purpose: purpose.clone() });
        held.hold_record(of, record)
    }
}

/// Retracts whoever a module has sent that does not run now: it is refused, held, revoked, expired, or fails.
pub(crate) fn retract_without_run(
    site: &Site<'_>,
    authority: Authority<'_>,
    of: &Recorded,
    now: Now,
    outbox: &Outbox,
    ledger: &Ledger,
    held: &mut Held,
) -> Result<(), RunError> {
    check_clock(ledger, now)?;
    let (mapping, policy) = (authority.mapping.value(), authority.policy.value());
    if now.today > policy.not_after {
        let what = format!("objection policy `{}` {}", policy.id, policy.version);
        return Err(RunError::Expired { what, until: policy.not_after });
    }
    let recipients = recipients(authority.recipients.value(), now.today)?;
    let mut record = record(site, of, now, ledger)?;
    let Some(SentModule { module, purpose }) = record.about().cloned() else {
        tracing::warn!(module = %of.module, "whoever it has sent can be retracted when it runs again");
        return Ok(());
    };
    let snapshot = Snapshot::open(&site.config.database.path)?;
    let register = evidence::read(&snapshot, mapping, policy, now.today)?;
    register.check_drop(policy, ledger.dissents())?;
    let rules = IdentityRules {
        mode: site.config.mode,
        tokens: site.tokens,
        making: TokenRules {
            site: &site.config.site,
            key: site.key,
            domain: &purpose,
            published: authority.token_keys.map(Trusted::value),
            today: now.today,
        },
        links: &[],
        overrides_type_1: overrides(authority.directions, Override::Type1),
    };
    let changes = identity::retracted(&snapshot, mapping, &register, &rules, &record)?;
    let retracting = authority.retracting(site, &module, &purpose, &recipients, now);
    retracting.hold(&changes.retracted, outbox, ledger, held)?;
    changes.enter_withheld(&mut record);
    held.hold_record(of.clone(), record)
}

impl Authority<'_> {
    fn retracting<'r>(
        &self,
        site: &'r Site<'_>,
        module: &'r ModuleRef,
        purpose: &'r Name,
        recipients: &'r [Recipient],
        now: Now,
    ) -> Retracting<'r> {
        Retracting {
            site: &site.config.site,
            key: site.key,
            module,
            purpose,
            policy: self.policy.digest(),
            sensitive: self.sensitive.digest(),
            mapping: self.mapping.digest(),
            recipients,
            now,
        }
    }
}
