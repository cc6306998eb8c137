//! Who is withheld and was not before: whose tokens are retracted.

use std::collections::{BTreeSet, HashSet};

use lockgate_signing::block::Token;
use lockgate_signing::bundle::TokenScheme;

use super::cache::InputName;
use super::candidates::Candidates;
use super::scheme::{TokenMaker, TokensError};
use super::sent::{Registration, SentModule, SentRecord};

/// Tokens that are to be deleted, by the scheme and epoch that they are of.
pub(crate) type Retracted = Vec<((TokenScheme, u32), BTreeSet<Token>)>;

/// Who is to be retracted, before their tokens of today are made.
pub(super) struct News {
    /// Every token that was sent of them.
    sent: Retracted,
    /// Whose token of today is retracted too.
    names: Vec<InputName>,
    withheld: Vec<Registration>,
}

/// What changes in the record of what was sent.
pub(crate) struct SentChanges {
    /// What is to be retracted.
    pub(crate) retracted: Retracted,
    withheld: Vec<Registration>,
    admitted: Vec<(Registration, Token)>,
    made: (TokenScheme, u32),
}

impl News {
    /// Compares who may be seen with the record; `gone`: who objects and has no registration any more.
    pub(super) fn of<'r>(
        candidates: &Candidates<'_>,
        admits: &[bool],
        gone: impl Iterator<Item = &'r [u8]>,
        record: &SentRecord,
    ) -> Self {
        let mut news = Self { sent: Vec::new(), names: Vec::new(), withheld: Vec::new() };
        let mut persons = HashSet::new();
        for (registration, person) in &candidates.registrations {
            let at = *person as usize;
            if admits[at] {
                continue;
            }
            news.withheld.push(*registration);
            if !record.is_news(registration) {
                continue;
            }
            news.retract_sent(record, registration);
            // The token of today as well: another site may have sent it, or this one under another number. Of who is only a test
            // patient nothing can be anywhere; nor can another site have the token of somebody without an NHS number.
            let candidate = &candidates.persons[at];
            let elsewhere = candidate.valid_number && (candidate.objection.type_1 || candidate.sensitive);
            if elsewhere && persons.insert(at) {
                news.names.push(candidate.name);
            }
        }
        for local_id in gone.filter(|local_id| candidates.local_ids.find(local_id).is_none()) {
            let registration = record.registration(local_id);
            // Only what was sent from here: without a registration there is no NHS number to make a token of.
            if !record.tokens(&registration).is_empty() && record.is_news(&registration) {
                news.retract_sent(record, &registration);
                news.withheld.push(registration);
            }
        }
        news
    }

    fn retract_sent(&mut self, record: &SentRecord, registration: &Registration) {
        for it in record.tokens(registration) {
            add(&mut self.sent, (it.scheme, it.epoch), it.token);
        }
    }

    /// The names of the tokens that have to be made for it.
    pub(super) fn names(&self) -> impl Iterator<Item = InputName> {
        self.names.iter().copied()
    }

    /// What changes, once the tokens are made.
    pub(super) fn made(self, maker: &mut TokenMaker<'_>) -> Result<SentChanges, TokensError> {
        let (made, mut retracted) = (maker.made_under(), self.sent);
        for name in &self.names {
            let (token, _) = maker.token(name)?;
            add(&mut retracted, made, token);
            // Who has sent it in the epoch before may have nobody left who could say what it has become.
            if let Some((epoch, token)) = maker.former_epoch().zip(maker.former(name)) {
                add(&mut retracted, (made.0, epoch), token);
            }
        }
        Ok(SentChanges { retracted, withheld: self.withheld, admitted: Vec::new(), made })
    }
}

fn add(retracted: &mut Retracted, of: (TokenScheme, u32), token: Token) {
    match retracted.iter_mut().find(|(known, _)| *known == of) {
        Some((_, tokens)) => {
            tokens.insert(token);
        }
        None => retracted.push((of, BTreeSet::from([token]))),
    }
}

impl SentChanges {
    /// Adds those whose tokens may be sent.
    pub(super) fn admit(&mut self, admitted: impl Iterator<Item = (Registration, Token)>) {
        self.admitted.extend(admitted);
    }

    /// Enters who is withheld: once their retraction is on stable storage.
    pub(crate) fn enter_withheld(&self, record: &mut SentRecord) {
        record.withhold(&self.withheld);
    }

    /// Enters whose tokens may be sent: before anything is.
    pub(crate) fn enter_admitted(&self, record: &mut SentRecord, about: SentModule) {
        record.admit(about, self.admitted.iter().copied(), self.made);
    }
}
