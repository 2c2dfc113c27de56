//! How long a DC may act, and how long the next one must wait: arithmetic over the times of one
//! node's own clock.
//!
//! Clocks of different nodes are never compared. Only lengths of time are, and these may be wrong
//! by the rate error, called ρ here. L is the [lease's length](LeaseRule::length).
//!
//! - The lease runs for `L(1-ρ)` by the DC's clock, which is at most L in real time. It starts at a
//!   moment after which every member of its ring still had the ring's token
//!   ([`Totem::whole_since`](quorate_membership::Totem::whole_since)).
//! - Another DC waits for `L(1+ρ)` by its own clock, which is at least L in real time. The wait
//!   starts at a moment at which every member of its own ring had left all earlier rings.
//!
//! Two rings with quorum share a member. This member had the old ring's token after the old lease
//! began, and left that ring before the wait began. The wait therefore ends after the lease.

use std::time::Duration;

use quorate_membership::bug;
use quorate_membership::{Config, RingId, Time};

use crate::Term;

/// The length of leases, as this node is configured. All nodes must agree on it. If they differ,
/// the longest wait that a member of the ring announces counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseRule {
    /// L: how long a DC may act after a token that all members had, by an exact clock.
    pub length: Duration,
    /// ρ: how much faster or slower than real time any clock may run, in millionths.
    pub rate_error: u32,
}

const MILLION: u128 = 1_000_000;

impl LeaseRule {
    /// Returns the rule of a configuration.
    pub fn of(config: &Config) -> Self {
        Self { length: config.dc.lease(&config.totem), rate_error: config.dc.rate_error }
    }

    /// Returns how long the DC trusts its lease: `L(1-ρ)`, rounded down.
    pub fn lasts(&self) -> Duration {
        let length = self.length.as_micros();
        let error = (length * u128::from(self.rate_error)).div_ceil(MILLION);
        bug!(LeaseWithoutRateError: self.length; micros(length - error.min(length)))
    }

    /// Returns how long other nodes wait for a lease to end: `L(1+ρ)`, rounded up.
    pub fn outlasted_by(&self) -> Duration {
        let length = self.length.as_micros();
        let error = (length * u128::from(self.rate_error)).div_ceil(MILLION);
        bug!(LeaseWithoutRateError: self.length; micros(length + error))
    }
}

fn micros(micros: u128) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// The facts about one member that a ring's future DC needs when the ring is settled.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    /// The member's votes.
    pub(crate) votes: u32,
    /// The time between the member's last token of any earlier ring, in this life or another, and
    /// its candidacy: a lower bound.
    pub(crate) idle: Duration,
    /// How long the member had been up when it sent its candidacy.
    pub(crate) up: Duration,
}

/// Returns when every lease of earlier rings is over, by this node's clock.
///
/// This is `wait` after the node entered this ring, because all members had left their earlier
/// rings by then. It is earlier if members with a quorum of votes report that they have been idle
/// for a part of it.
pub(crate) fn clear_at(
    entered_at: Time,
    settled_at: Time,
    wait: Duration,
    quorum: u32,
    witnesses: &[Witness],
) -> Time {
    bug!(NoWaitInNewRing: return settled_at; ());
    let mut idlest: Vec<&Witness> = witnesses.iter().collect();
    idlest.sort_by_key(|witness| std::cmp::Reverse(witness.idle));
    let mut votes = 0_u32;
    let idle = idlest.into_iter().find_map(|witness| {
        votes = votes.saturating_add(witness.votes);
        (votes >= quorum).then_some(witness.idle)
    });
    let rest = wait.saturating_sub(idle.unwrap_or_default());
    (entered_at + wait).min(settled_at + rest)
}

/// Returns `true` if members with a quorum of votes remember every tenure whose lease may still
/// run: a member that has been up for at least `wait` has forgotten none.
pub(crate) fn remembered(wait: Duration, quorum: u32, witnesses: &[Witness]) -> bool {
    let remembering = witnesses.iter().filter(|witness| witness.up >= wait);
    remembering.fold(0_u32, |sum, witness| sum.saturating_add(witness.votes)) >= quorum
}

/// The times that a node relies on when its ring gives it a role besides that of DC, such as the
/// leadership for a name. The ring's order decides which node has the role, and these times decide
/// when that node may act in it.
///
/// A node has this in a ring that has had a DC with a term, while the ring has a quorum of its
/// members' votes. All times are those of the node's own clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeLease {
    /// The ring.
    pub ring: RingId,
    /// The time until which the node may act if it receives nothing more from the ring. A node that
    /// has just entered the ring has the time 0.
    pub until: Time,
    /// The time from which all leases of earlier rings are over. A node that is given a role which
    /// no member of the ring had before waits for it.
    pub clear_at: Time,
    /// The number of the last ring before this one in which any node can have had a role. A member
    /// that had a role in that ring continues without waiting. `None` if too few members would
    /// remember such a ring.
    pub continues: Option<u64>,
    /// How long a lease that begins now is outlasted ([`LeaseRule::outlasted_by`]).
    pub wait: Duration,
}

/// A DC's right to act, on its own node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    pub(crate) term: Term,
    /// The time at which earlier leases are over.
    pub(crate) acts_at: Time,
    /// The end of the lease, as last renewed.
    pub(crate) until: Time,
}

impl Grant {
    pub(crate) fn new(term: Term, acts_at: Time) -> Self {
        Self { term, acts_at, until: Time::default() }
    }

    /// Renews the lease: every member was in the ring after `whole_since`.
    pub(crate) fn renew(&mut self, whole_since: Time, rule: LeaseRule) {
        self.until = self.until.max(whole_since + rule.lasts());
    }

    pub(crate) fn holds(&self, now: Time) -> bool {
        self.acts_at <= now && now < self.until
    }

    /// Returns when the result of [`Grant::holds`] next changes without an input.
    pub(crate) fn changes_at(&self, now: Time) -> Option<Time> {
        if self.until <= now {
            return None;
        }
        Some(if now < self.acts_at { self.acts_at } else { self.until })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_membership::NodeId;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    fn idle(votes: u32, idle: u64) -> Witness {
        Witness { votes, idle: ms(idle), up: ms(0) }
    }

    #[test]
    fn by_default_the_wait_is_at_most_50_ms_over_the_lease() {
        let config = Config::new(NodeId::new(1).unwrap());
        let rule = LeaseRule::of(&config);
        assert_eq!((rule.lasts().as_millis(), rule.outlasted_by().as_millis()), (297, 303));
        assert_eq!((rule.outlasted_by() + config.totem.hold).as_millis(), 345);
    }

    #[test]
    fn a_ring_of_busy_members_waits_from_its_entry() {
        let busy = [idle(1, 0), idle(1, 0), idle(1, 0)];
        assert_eq!(clear_at(at(10), at(14), ms(100), 2, &busy), at(110));
    }

    #[test]
    fn time_that_a_quorate_part_has_been_idle_counts() {
        let said = [idle(1, 0), idle(1, 70), idle(1, 60)];
        assert_eq!(clear_at(at(10), at(14), ms(100), 2, &said), at(54), "two of them have for 60 ms");
        assert_eq!(clear_at(at(10), at(14), ms(100), 3, &said), at(110));
        assert_eq!(clear_at(at(10), at(14), ms(100), 2, &[idle(1, 500), idle(1, 500)]), at(14));
        assert_eq!(clear_at(at(10), at(14), ms(100), 2, &[idle(1, 500)]), at(110), "the other did not say");
    }

    #[test]
    fn a_member_that_has_just_started_remembers_nothing() {
        let up = |votes, up| Witness { votes, idle: ms(0), up: ms(up) };
        assert!(remembered(ms(100), 2, &[up(1, 100), up(1, 500), up(1, 3)]));
        assert!(!remembered(ms(100), 2, &[up(1, 99), up(1, 500), up(1, 3)]));
        assert!(remembered(ms(100), 2, &[up(2, 500)]));
    }

    #[test]
    fn a_lease_holds_between_its_beginning_and_its_end() {
        let term = Term { ring_seq: 4, hand_over: 0, node: NodeId::new(1).unwrap() };
        let mut grant = Grant::new(term, at(50));
        assert_eq!((grant.holds(at(60)), grant.changes_at(at(60))), (false, None), "never renewed");
        grant.renew(at(10), LeaseRule { length: ms(100), rate_error: 0 });
        assert_eq!((grant.holds(at(49)), grant.changes_at(at(49))), (false, Some(at(50))));
        assert_eq!((grant.holds(at(50)), grant.changes_at(at(50))), (true, Some(at(110))));
        assert_eq!((grant.holds(at(110)), grant.changes_at(at(110))), (false, None));
        grant.renew(at(5), LeaseRule { length: ms(100), rate_error: 0 });
        assert!(grant.holds(at(109)), "an older proof takes nothing back");
    }

    proptest! {
        /// Checks the argument of the module's documentation with real numbers: on any clocks
        /// within the rate error, the wait ends after the lease.
        #[test]
        fn a_wait_outlasts_a_lease_on_clocks_within_the_rate_error(
            length in 1_u64..100_000_000,
            rate_error in 0_u32..200_000,
            fast in -1.0_f64..1.0,
            slow in -1.0_f64..1.0,
        ) {
            let rule = LeaseRule { length: Duration::from_micros(length), rate_error };
            let rate = |share: f64| 1.0 + share * f64::from(rate_error) / 1e6;
            let lease = rule.lasts().as_micros() as f64 / rate(fast);
            let wait = rule.outlasted_by().as_micros() as f64 / rate(slow);
            prop_assert!(lease <= wait + 1e-6, "{lease} {wait}");
        }

        /// A lease of an earlier ring runs from the last token of a member that both rings share.
        /// Whichever ring that was, its lease is over.
        #[test]
        fn a_ring_is_clear_only_when_every_earlier_lease_is_over(
            ages in proptest::collection::vec((0_u64..300, 0_u64..50), 3..6),
            entry in 0_u64..20,
        ) {
            let rule = LeaseRule { length: ms(100), rate_error: 0 };
            // All clocks run alike, and real time is counted from 1000 ms. Each member had its last
            // token some time before it sent its candidacy, which was some time before all had sent
            // theirs.
            let settled = 1000;
            let members: Vec<(u64, Witness)> = ages.iter()
                .map(|&(age, since)| (settled - since - age, idle(1, age)))
                .collect();
            let entered = settled - 50 - entry;
            let left_before_entry = members.iter().all(|(token, _)| *token <= entered);
            let witnesses: Vec<Witness> = members.iter().map(|(_, witness)| witness.clone()).collect();
            let quorum = ages.len() as u32 / 2 + 1;
            let clear = clear_at(at(entered), at(settled), rule.outlasted_by(), quorum, &witnesses);
            if left_before_entry {
                // Any earlier ring with quorum had all but a minority of the members that have been
                // idle longest.
                let mut tokens: Vec<u64> = members.iter().map(|(token, _)| *token).collect();
                tokens.sort_unstable();
                let shared = tokens[quorum as usize - 1];
                prop_assert!(clear >= at(shared + 100).min(at(entered + 100)), "{clear:?} {members:?}");
            }
        }
    }
}
