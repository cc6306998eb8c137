//! What becomes of a verified header: a pure decision over what is known of the site.

use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::envelope::Verified;
use lockgate_signing::ids::BundleId;

use crate::reason::Reason;

/// What is known of a site when one of its headers arrives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteState {
    /// The part of the site's chain that the header touches: bundles with its id, its sequence number or a neighbouring one,
    /// its predecessor, and bundles with the same predecessor or with this bundle as theirs. More does no harm.
    pub chain: Vec<Link>,
    /// Bundles of the site that are begun and not complete.
    pub pending: u64,
    /// The most there may be.
    pub pending_max: u64,
}

/// A bundle's place in its site's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The bundle.
    pub id: BundleId,
    /// Its sequence number.
    pub sequence: u64,
    /// The bundle before it.
    pub previous: Option<BundleId>,
    /// Whether it is complete and has its receipt.
    pub accepted: bool,
}

/// What becomes of a header.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is taken, once all its blocks are there.
    Accept,
    /// It was accepted before: the same receipt answers it.
    Duplicate,
    /// It is refused.
    Reject(Reason),
}

/// Decides.
///
/// Bundles may arrive in any order (a courier overtakes the network), so a gap is no reason to refuse; it is reported.
/// A fork is: two histories signed by one site mean a copied key or a restored old backup, and somebody must look.
pub fn decide(header: &Verified<BundleHeader>, state: &SiteState) -> Decision {
    let (id, message) = (header.id(), header.message());
    // 1. The same bytes again: sending twice changes nothing.
    if let Some(same) = state.chain.iter().find(|link| link.id == id) {
        return if same.accepted { Decision::Duplicate } else { Decision::Accept };
    }
    // 2. One history: no second bundle in the same place, and every neighbour that is known joins.
    let joins = |link: &Link| {
        let same_place = link.sequence == message.sequence;
        let same_previous = link.previous.is_some() && link.previous == message.previous;
        let is_before = Some(link.id) == message.previous;
        let is_after = link.previous == Some(id);
        !same_place
            && !same_previous
            && is_before == (link.sequence.checked_add(1) == Some(message.sequence))
            && is_after == (message.sequence.checked_add(1) == Some(link.sequence))
    };
    if !state.chain.iter().all(joins) {
        return Decision::Reject(Reason::ChainFork);
    }
    // 3. A site that begins bundles and never completes them does not fill the database.
    if state.pending >= state.pending_max {
        return Decision::Reject(Reason::TooManyPending);
    }
    Decision::Accept
}
