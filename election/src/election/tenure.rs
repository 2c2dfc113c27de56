//! Tenures: how a ring gets its DC, and how a DC loses its role, by its own decision, by the
//! operator's, or because its application hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::bug;
use quorate_membership::{NodeId, Time};
use tracing::{info, warn};

use super::{Election, Outcome, Settled, Standing};
use crate::lease::Grant;
use crate::message::{Message, Release};
use crate::{Lease, Status, Term, Vacancy};

/// This node's most recent tenure as DC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenure {
    pub(super) term: Term,
    /// The time from which earlier leases are over.
    acts_at: Time,
}

/// Why a DC does not give up its role.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// This node does not have the role.
    #[error("this node is not DC of a quorate ring; ask the DC")]
    NotDc,
    /// No other member could take over.
    #[error(
        "no other member can take over; start another node, or set a member's dc_priority above 0 (members \
         whose application hangs do not qualify)"
    )]
    NoSuccessor,
    /// A new ring is being formed, so no member would receive the release.
    #[error("a new ring is forming; retry when it is installed")]
    RingChanges,
}

impl Election {
    /// Chooses the DC of the judged ring, which has had none, by the votes in the status. Returns
    /// `true` if this node's record is again as good as those of the others.
    pub(super) fn fill(&mut self) -> bool {
        let Some(settled) = &self.settled else { return false };
        let Status { quorate, expected_votes, .. } = self.judged;
        let most = self.quorum.total_with_device();
        let is_whole = expected_votes.is_some_and(|expected| most >= expected);
        let forgetful: BTreeSet<NodeId> =
            settled.candidacies.iter().filter(|(_, said)| said.lost).map(|(node, _)| *node).collect();
        let has_memory = is_whole || self.remembers_without(&forgetful);
        let recovered = self.lost && quorate && has_memory;
        self.lost &= !recovered;

        let candidates = settled.candidacies.values().filter(|candidacy| candidacy.priority > 0);
        let elected =
            candidates.max_by_key(|candidacy| (!settled.hung.contains(&candidacy.node.0), *candidacy));
        let vacant = match elected {
            _ if !quorate => None,
            _ if !has_memory => Some(Vacancy::RecordsLost(forgetful)),
            None => Some(Vacancy::NoCandidate),
            Some(_) if bug!(DeviceGrantsTerms: false; self.device_decides) => Some(Vacancy::DeviceDecides),
            Some(elected) if self.known.is_none() && !is_whole && !elected.patience.is_zero() => {
                Some(Vacancy::Starting { next: elected.node.0 })
            }
            Some(_) => None,
        };
        let waits = matches!(vacant, Some(Vacancy::Starting { next }) if next == self.me);
        let patience = settled.candidacies.get(&self.me).map_or(Duration::ZERO, |said| said.patience);
        let elected = elected.filter(|_| matches!(vacant, None | Some(Vacancy::DeviceDecides)));
        let dc = elected.map(|elected| bug!(EachElectsItself: self.me; elected.node.0));
        let (at, ring) = (settled.at, settled.ring);
        if let Some(settled) = &mut self.settled {
            settled.elects_at = waits.then(|| at + patience);
        }
        self.judged.vacant = vacant;
        let term = self.begin_term(dc);
        let Status { inquorate, vacant, .. } = &self.judged;
        match (inquorate, vacant, term) {
            (Some(why), ..) => info!(%ring, ?dc, %why, "not quorate"),
            (None, _, Some(term)) => info!(%ring, ?dc, %term, "quorate"),
            (None, why, None) => warn!(%ring, ?dc, ?why, "quorate, but without a DC that may act"),
        }
        recovered
    }

    /// Returns `true` if the members that kept their records are enough without these.
    fn remembers_without(&self, forgetful: &BTreeSet<NodeId>) -> bool {
        let quorum = self.judged.quorum;
        let total = self.quorum.total_of_members();
        let votes: BTreeMap<NodeId, u32> = self.quorum.votes_present().collect();
        let forgotten = forgetful.iter().filter_map(|node| votes.get(node));
        let forgotten = forgotten.fold(0_u32, |sum, votes| sum.saturating_add(*votes));
        forgetful.is_empty()
            || quorum.is_some_and(|quorum| total.saturating_sub(forgotten) >= quorum)
                && self.quorum.remembers_change(forgetful)
    }

    /// Appoints the elected node in a new ring, with the ring's term if there is quorum. Returns
    /// the term.
    fn begin_term(&mut self, dc: Option<NodeId>) -> Option<Term> {
        let &Settled { ring, remembered, clear_at, .. } = self.settled.as_ref()?;
        let own = self.tenure.filter(|_| dc == Some(self.me));
        let has_term = bug!(TermWithoutQuorum: true; self.grants_terms());
        let ring_seq = bug!(TermNotPersisted: self.known.map_or(0, |term| term.ring_seq) + 1; ring.seq);
        let new = dc.map(|dc| Term { ring_seq, hand_over: 0, node: dc });
        let term = bug!(TermKeptByIncumbent: own.map(|tenure| tenure.term).or(new); new);
        let term = term.filter(|_| has_term);

        // The same process continues where it was, if no other node can have been DC meanwhile.
        let undisputed = own.filter(|tenure| {
            let is_last = self.known == Some(tenure.term) && remembered;
            bug!(LeaseKeptUnasked: true; is_last)
        });
        let acts_at = undisputed.map_or(clear_at, |tenure| tenure.acts_at.min(clear_at));
        self.appoint(dc, term, acts_at);
        if let Some(tenure) = bug!(DcKeptWithoutQuorum: own.filter(|_| term.is_none()); None) {
            self.grant = Some(Grant::new(tenure.term, acts_at));
        }
        term
    }

    /// Resumes the term of a DC that the ring has already had, if there is quorum.
    pub(super) fn resume(&mut self, term: Term) {
        let quorate = self.judged.quorate;
        self.judged.vacant = (quorate && self.device_decides).then_some(Vacancy::DeviceDecides);
        if self.judged.dc.is_none() {
            self.judged.vacant = quorate.then_some(Vacancy::NoCandidate);
            return;
        }
        let wait = self.settled.as_ref().map_or(Duration::MAX, |settled| settled.wait);
        // A DC may have given up the term without effect, because there was no quorum. It starts
        // again with a full wait.
        let own = self.tenure.filter(|tenure| tenure.term == term);
        let acts_at = own.map_or(self.now + wait, |tenure| tenure.acts_at);
        self.appoint(self.judged.dc, Some(term).filter(|_| self.grants_terms()), acts_at);
    }

    /// Returns `true` if the ring can have a term: it is quorate by the votes of its members. The
    /// quorum device gives its votes to one part after the other, and does not know their terms.
    pub(super) fn grants_terms(&self) -> bool {
        self.judged.quorate && bug!(DeviceGrantsTerms: true; !self.device_decides)
    }

    /// Appoints `dc` from this point of the order on. If it is this node, it may act from `acts_at`
    /// on.
    pub(super) fn appoint(&mut self, dc: Option<NodeId>, term: Option<Term>, acts_at: Time) {
        (self.judged.dc, self.judged.term) = (dc, term);
        self.known = self.known.max(term);
        if let Some(settled) = &mut self.settled {
            settled.term = term.or(settled.term);
        }
        let mine = dc == Some(self.me);
        let left = bug!(ReleasedDcGoesOn: self.grant.filter(|_| !mine); None);
        self.grant = term.filter(|_| mine).map(|term| Grant::new(term, acts_at)).or(left);
        self.judged.lease = if self.grant.is_some() { Lease::Waiting } else { Lease::None };
        self.tenure = match term {
            Some(term) if mine => Some(Tenure { term, acts_at }),
            None if mine => self.tenure,
            _ => None,
        };
    }

    /// Elects the node that has waited long enough in a starting cluster.
    pub(super) fn elect(&mut self, from: NodeId) -> Outcome {
        let Some(settled) = &self.settled else { return Outcome::default() };
        if self.judged.vacant != Some(Vacancy::Starting { next: from }) {
            return Outcome::default();
        }
        let term = Term { ring_seq: settled.ring.seq, hand_over: 0, node: from };
        let clear_at = settled.clear_at;
        info!(%term, "the node that waited is now DC");
        self.judged.vacant = None;
        self.appoint(Some(from), Some(term), clear_at);
        Outcome { status: Some(self.judged.clone()), ..Outcome::default() }
    }

    /// Gives up the role of DC to the best of the other members. This node stops acting at once,
    /// and the successor need not wait, because the release is ordered. A DC that leaves does the
    /// same.
    ///
    /// # Errors
    /// If this node does not have the role, or no member could take it. Whether the ring can still
    /// carry the release is known only to its core
    /// ([`Totem::say`](quorate_membership::Totem::say)).
    pub fn release(&mut self, now: Time) -> Result<Outcome, ReleaseError> {
        self.now = now;
        let grant = self.grant.ok_or(ReleaseError::NotDc)?;
        self.successor().ok_or(ReleaseError::NoSuccessor)?;
        let send = Some(self.resign(grant, false));
        let outcome = Outcome { send, ..self.review() };
        Ok(self.tell(self.standing, outcome))
    }

    /// Prepares this node for leaving, whether or not another takes over. It stops acting, and is
    /// no candidate in the rings that it may still see.
    pub fn retire(&mut self, now: Time) -> Outcome {
        self.now = now;
        self.retired = true;
        self.tenure = None;
        let outcome = self.review();
        self.tell(self.standing, outcome)
    }

    /// Records whether the application that acts as DC hangs. Called when that changes.
    ///
    /// While the application hangs, this node does not act and is elected only if no other member
    /// may be. As soon as another member can be DC, that member becomes DC.
    pub fn set_hung(&mut self, now: Time, hung: bool) -> Outcome {
        self.now = now;
        self.hung = bug!(HungKeepsRole: false; hung);
        let answers = !hung && self.settled.is_some();
        let send = self.yield_hung().or_else(|| answers.then(|| Message::Answers.encode()));
        let outcome = Outcome { send, ..self.review() };
        self.tell(self.standing, outcome)
    }

    /// Gives way to a member whose application does not hang, if this DC's does.
    fn yield_hung(&mut self) -> Option<Bytes> {
        let grant = self.grant.filter(|_| self.hung)?;
        self.successor()?;
        warn!(term = %grant.term, "the application hangs; another member takes over as DC");
        Some(self.resign(grant, true))
    }

    /// Handles a member's report that its application responds again. If the DC's application hangs
    /// and no member could replace it, now one can.
    pub(super) fn hear_answer(&mut self, from: NodeId) -> Outcome {
        if let Some(settled) = &mut self.settled {
            settled.hung.remove(&from);
        }
        let send = self.yield_hung();
        Outcome { send, ..self.review() }
    }

    /// Gives way to a member that the operator prefers, if `preempt` is set.
    pub(super) fn yield_to_preferred(&mut self) -> Option<Bytes> {
        let grant = self.grant.filter(|_| self.config.preempt)?;
        let successor = self.successor()?;
        let preferred = self.settled.as_ref()?.candidacies.get(&successor)?.priority > self.config.priority;
        preferred.then(|| self.resign(grant, false))
    }

    /// Stops acting, and returns the message that announces it.
    fn resign(&mut self, grant: Grant, hung: bool) -> Bytes {
        bug!(ReleasedDcGoesOn: (); (self.grant, self.tenure) = (None, None));
        let clear = grant.acts_at <= self.now;
        Message::Release(Release { hand_over: grant.term.hand_over, clear, hung }).encode()
    }

    /// Handles a DC's release of its role.
    pub(super) fn hand_over(&mut self, from: NodeId, release: Release) -> Outcome {
        let Release { hand_over, clear, hung } = release;
        let of_now = |term: &Term| term.node == from && term.hand_over == hand_over;
        let Some(term) = self.judged.term.filter(of_now) else { return Outcome::default() };
        let Some(settled) = &mut self.settled else { return Outcome::default() };
        if hung {
            settled.hung.insert(from);
        }
        let acts_at = match (hung, clear) {
            (true, _) => self.now + settled.wait,
            (false, true) => self.now,
            (false, false) => settled.clear_at,
        };
        let successor = self.successor();
        if successor.is_none() {
            self.judged.vacant = Some(Vacancy::NoCandidate);
        }
        let term = successor.map(|node| Term { hand_over: term.hand_over.saturating_add(1), node, ..term });
        info!(%from, ?term, hung, "DC handed over");
        self.appoint(successor, term, acts_at);
        Outcome { status: Some(self.judged.clone()), ..Outcome::default() }
    }

    /// Returns the member that becomes DC if the present one gives up the role.
    fn successor(&self) -> Option<NodeId> {
        let settled = self.settled.as_ref()?;
        let others = settled.candidacies.values().filter(|candidacy| {
            let node = candidacy.node.0;
            candidacy.priority > 0 && Some(node) != self.judged.dc && !settled.hung.contains(&node)
        });
        // A tenure in other rings gives no claim here. The present DC was preferred, and its
        // release is ordered.
        let best = others.max_by_key(|c| (c.priority, c.features, c.since, c.node))?;
        Some(best.node.0)
    }

    /// Returns `true` if this node is DC of its ring, whether or not that ring stands.
    pub(crate) fn has_office(&self) -> bool {
        self.grant.is_some()
    }

    fn may_act(&self, grant: Grant) -> bool {
        let stands = self.standing != Standing::Lost;
        stands && grant.holds(self.now) && !self.hung && !self.retired
    }

    /// Updates whether this node may act now. The outcome has a status if that has changed.
    pub(super) fn review(&mut self) -> Outcome {
        let lease = match self.grant {
            None => Lease::None,
            Some(grant) if self.may_act(grant) => Lease::Held,
            Some(_) => Lease::Waiting,
        };
        if lease == self.judged.lease {
            return Outcome::default();
        }
        info!(?lease, term = ?self.judged.term, "lease");
        self.judged.lease = lease;
        Outcome { status: Some(self.judged.clone()), ..Outcome::default() }
    }
}
