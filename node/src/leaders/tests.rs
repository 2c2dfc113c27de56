//! Two members in one order of messages, with leases that the tests choose.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_election::Status;
use quorate_membership::{
    Delivery, GroupChange, GroupReason, Guarantee, Process, RingId, Seq, Time, Transitional,
};

use super::fold::{Fold, Now};
use super::*;

fn id(n: u32) -> NodeId {
    NodeId::new(n).expect("not 0")
}

fn at(ms: u64) -> Time {
    Time::from_micros(ms * 1000)
}

fn group() -> Group {
    "jobs".parse().expect("a name")
}

/// How long a lease is, and how long it is outlasted.
const LEASE: Duration = Duration::from_millis(100);

struct Pair {
    folds: [Fold; 2],
    ring: Option<RingId>,
    lease: Option<NodeLease>,
    time: Time,
}

impl Pair {
    fn new() -> Self {
        let folds = [1, 2].map(|n| Fold::new(id(n), 7, group()));
        let mut pair = Self { folds, ring: None, lease: None, time: at(0) };
        pair.event(&Event::Synced(RingId { seq: 0, representative: id(1) }));
        pair.are_in_group(&[1, 2]);
        pair
    }

    /// Returns a pair in ring 4, whose first member leads alone and has a guard, and its candidacy.
    fn with_a_leader() -> (Self, Stand) {
        let mut pair = Self::new();
        let (one, _) = pair.stand(1, 1);
        pair.form(4, None, at(0));
        assert!(pair.guard(1, &one).is_some());
        (pair, one)
    }

    fn now(&self) -> Now {
        Now { time: self.time, lease: self.lease }
    }

    fn wait(&mut self, ms: u64) {
        self.time = self.time + Duration::from_millis(ms);
        // Tokens go round.
        if let Some(lease) = &mut self.lease {
            lease.until = self.time + LEASE;
        }
    }

    fn event(&mut self, event: &Event) {
        let now = self.now();
        self.folds.iter_mut().for_each(|fold| fold.handle(event, now));
    }

    fn are_in_group(&mut self, nodes: &[u32]) {
        let members: BTreeSet<Process> = nodes.iter().map(|&n| Process { node: id(n), pid: 7 }).collect();
        self.event(&Event::GroupChange(GroupChange {
            ring: self.ring.unwrap_or(RingId { seq: 0, representative: id(1) }),
            group: group(),
            members,
            joined: BTreeSet::new(),
            left: BTreeSet::new(),
            reason: GroupReason::Leave,
        }));
    }

    /// The members form a ring, whose earlier leases are over at `clear_at`.
    fn form(&mut self, seq: u64, continues: Option<u64>, clear_at: Time) {
        let ring = RingId { seq, representative: id(1) };
        if let Some(previous) = self.ring.replace(ring) {
            let members: BTreeSet<NodeId> = [id(1), id(2)].into();
            self.event(&Event::Transitional(Transitional { ring, previous, members, left: BTreeSet::new() }));
        }
        self.event(&Event::Synced(ring));
        let until = self.time + LEASE;
        self.lease = Some(NodeLease { ring, until, clear_at, continues, wait: LEASE });
        let status = Status { ring: Some(ring), settled: true, quorate: true, ..Status::default() };
        self.event(&Event::Status(Box::new(status)));
        self.deliver();
    }

    /// Delivers all messages to both, in one order.
    fn deliver(&mut self) {
        while let Some((n, payload)) = (0..2).find_map(|n| Some((n, self.folds[n].next_message()?))) {
            self.say(n as u32 + 1, payload);
        }
    }

    /// Delivers a message of a node to both.
    fn say(&mut self, node: u32, payload: bytes::Bytes) {
        self.event(&Event::Deliver(Delivery {
            ring: self.ring.expect("a ring"),
            seq: Seq::default(),
            from: id(node),
            pid: 7,
            group: group(),
            guarantee: Guarantee::Safe,
            transitional: false,
            payload,
        }));
    }

    fn stand(&mut self, node: usize, priority: u32) -> (Stand, watch::Receiver<Option<Tenure>>) {
        let preference = Preference { priority, weight: 1 };
        self.folds[node - 1].stand("job", preference).expect("it may")
    }

    /// Takes a guard, if the member may act.
    fn guard(&mut self, node: usize, stand: &Stand) -> Option<Term> {
        let now = self.now();
        self.folds[node - 1].take_guard(stand, now).map(|tenure| tenure.term)
    }
}

#[test]
fn a_first_leader_waits_until_earlier_leases_are_over() {
    let mut pair = Pair::new();
    let (one, _) = pair.stand(1, 1);
    let (two, _) = pair.stand(2, 1);
    pair.form(4, None, at(10));
    assert_eq!((pair.guard(1, &one), pair.guard(2, &two)), (None, None));
    pair.wait(10);
    let term = Term { ring_seq: 4, hand_over: 2, node: id(1) };
    assert_eq!((pair.guard(1, &one), pair.guard(2, &two)), (Some(term), None));
    pair.time = pair.time + LEASE;
    assert_eq!(pair.guard(1, &one), None, "no token came");
}

#[test]
fn a_leader_continues_if_no_other_can_have_led() {
    let (mut pair, one) = Pair::with_a_leader();
    pair.form(8, Some(4), at(500));
    assert_eq!(pair.guard(1, &one).map(|term| term.ring_seq), Some(8));
}

#[test]
fn a_leader_waits_if_another_can_have_led() {
    for continues in [None, Some(6)] {
        let mut pair = Pair::new();
        let (one, _) = pair.stand(1, 1);
        pair.form(4, None, at(0));
        assert!(pair.guard(1, &one).is_some());
        pair.form(8, continues, at(500));
        assert_eq!(pair.guard(1, &one), None);
        pair.wait(500);
        assert!(pair.guard(1, &one).is_some());
    }
}

#[test]
fn a_name_moves_once_its_guards_are_dropped() {
    let mut pair = Pair::new();
    let (one, told) = pair.stand(1, 1);
    pair.form(4, None, at(0));
    let old = pair.guard(1, &one).expect("it leads");
    let (two, _) = pair.stand(2, 9);
    pair.deliver();
    assert!(told.borrow().is_none(), "its guards fail");
    assert_eq!((pair.guard(1, &one), pair.guard(2, &two)), (None, None));
    let [(name, tenure)] = &pair.folds[0].take_ending()[..] else { panic!("one tenure ends") };
    assert_eq!((&**name, tenure.term, tenure.wait), ("job", old, LEASE));
    let now = pair.now();
    pair.folds[0].drop_guard(name, now);
    pair.deliver();
    assert!(pair.guard(2, &two).is_some_and(|new| new > old));
    pair.folds[0].release(name, old, now);
    assert!(!pair.folds[0].has_message(), "it is released once");
}

#[test]
fn a_name_without_guards_moves_at_once() {
    let mut pair = Pair::new();
    let (one, _) = pair.stand(1, 1);
    let (two, _) = pair.stand(2, 1);
    pair.form(4, None, at(0));
    let now = pair.now();
    pair.folds[0].prefer(&one, Preference { priority: 0, weight: 1 }, now);
    pair.deliver();
    assert!(pair.guard(2, &two).is_some());
    pair.folds[1].drop_guard(&two.name, now);
    pair.folds[1].withdraw(&two, now);
    pair.deliver();
    assert_eq!(pair.folds[0].status().leaders, BTreeMap::new(), "with priority 0, it never leads");
}

#[test]
fn a_vanished_leaders_lease_is_outlasted() {
    let mut pair = Pair::new();
    let (one, _) = pair.stand(1, 1);
    let (two, _) = pair.stand(2, 1);
    pair.form(4, None, at(0));
    assert!(pair.guard(1, &one).is_some());
    pair.are_in_group(&[2]);
    pair.wait(99);
    assert_eq!(pair.guard(2, &two), None);
    pair.wait(1);
    assert!(pair.guard(2, &two).is_some());
}

#[test]
fn an_earlier_decision_to_stand_has_no_effect() {
    let mut pair = Pair::new();
    let (old, _) = pair.stand(1, 1);
    pair.form(4, None, at(0));
    let now = pair.now();
    pair.folds[0].withdraw_all(now);
    let (new, _) = pair.stand(1, 1);
    pair.folds[0].withdraw(&old, now);
    pair.deliver();
    assert_eq!(pair.guard(1, &old), None);
    assert!(pair.guard(1, &new).is_some());
}

#[test]
fn a_claim_that_was_withdrawn_is_given_up() {
    let mut pair = Pair::new();
    let (one, _) = pair.stand(1, 1);
    let (two, _) = pair.stand(2, 1);
    pair.form(4, None, at(0));
    assert!(pair.guard(1, &one).is_some());
    let now = pair.now();
    pair.folds[0].drop_guard(&one.name, now);
    // The first messages of the next ring are on their way when the member withdraws.
    let ring = RingId { seq: 8, representative: id(1) };
    let (previous, members) = (pair.ring.replace(ring).expect("a ring"), [id(1), id(2)].into());
    pair.event(&Event::Transitional(Transitional { ring, previous, members, left: BTreeSet::new() }));
    pair.event(&Event::Synced(ring));
    let until = pair.time + LEASE;
    pair.lease = Some(NodeLease { ring, until, clear_at: at(500), continues: Some(4), wait: LEASE });
    let status = Status { ring: Some(ring), settled: true, quorate: true, ..Status::default() };
    pair.event(&Event::Status(Box::new(status)));
    let payload = pair.folds[0].next_message().expect("it speaks");
    let now = pair.now();
    pair.folds[0].withdraw(&one, now);
    pair.say(1, payload);
    pair.deliver();
    assert_eq!(pair.folds[0].status().leaders.get("job").map(|leader| leader.node), Some(id(2)));
    assert_eq!(pair.guard(2, &two), None, "the other one had not begun in this ring");
    pair.wait(500);
    assert!(pair.guard(2, &two).is_some());
}

#[test]
fn a_process_that_does_not_speak_for_its_node_is_ignored() {
    let mut pair = Pair::new();
    let (one, _) = pair.stand(1, 1);
    let members = [3, 7].map(|pid| Process { node: id(2), pid }).into_iter();
    let members = members.chain([Process { node: id(1), pid: 7 }]).collect();
    let (joined, left, reason) = (BTreeSet::new(), BTreeSet::new(), GroupReason::Join);
    let ring = RingId { seq: 0, representative: id(1) };
    pair.event(&Event::GroupChange(GroupChange { ring, group: group(), members, joined, left, reason }));
    pair.form(4, None, at(0));
    pair.say(2, bytes::Bytes::from_static(b"of the other process"));
    assert_eq!(pair.guard(1, &one), None, "node 2 has not spoken");
    assert_eq!(pair.folds[0].status().awaits, [id(2)].into());
    assert_eq!(pair.folds[0].status().rejected, 1);
    assert!(pair.folds[1].status().ended, "its process does not speak for it");
}

#[test]
fn a_member_that_did_not_see_its_ring_begin_takes_no_part() {
    let mut late = Pair { folds: [1, 2].map(|n| Fold::new(id(n), 7, group())), ..Pair::new() };
    late.are_in_group(&[2]);
    assert_eq!([0, 1].map(|n| late.folds[n].status().ended), [false, true]);
}

#[test]
fn a_member_that_is_taken_out_of_the_group_ends() {
    let (mut pair, one) = Pair::with_a_leader();
    pair.are_in_group(&[2]);
    assert_eq!((pair.guard(1, &one), pair.folds[0].status().ended), (None, true));
    pair.are_in_group(&[1, 2]);
    assert!(pair.folds[0].status().ended, "for good");
}

#[test]
fn one_message_with_candidacies_is_under_way_at_a_time() {
    let mut pair = Pair::new();
    pair.form(4, None, at(0));
    let now = pair.now();
    let mut stands: Vec<Stand> = Vec::new();
    for n in 0..3 {
        stands.push(pair.folds[0].stand(&format!("job {n}"), Preference::default()).expect("it may").0);
    }
    let first = pair.folds[0].next_message().expect("it tells");
    pair.folds[0].withdraw(&stands[0], now);
    assert!(!pair.folds[0].has_message() && pair.folds[0].next_message().is_none());
    pair.say(1, first);
    pair.deliver();
    let leaders = pair.folds[1].status().leaders;
    assert_eq!(leaders.keys().collect::<Vec<_>>(), ["job 1", "job 2"]);
}

#[test]
fn a_member_has_resigned_once_all_know() {
    let mut pair = Pair::new();
    let (one, _) = pair.stand(1, 1);
    pair.form(4, None, at(0));
    assert!(pair.guard(1, &one).is_some() && !pair.folds[0].has_resigned());
    let now = pair.now();
    pair.folds[0].withdraw_all(now);
    assert!(!pair.folds[0].stands_for(&one));
    pair.deliver();
    assert!(!pair.folds[0].has_resigned(), "there is a guard");
    pair.folds[0].drop_guard(&one.name, now);
    assert!(!pair.folds[0].has_resigned(), "the message is under way");
    pair.deliver();
    assert!(pair.folds[0].has_resigned());
    let ring = RingId { seq: 8, representative: id(1) };
    let (previous, members) = (pair.ring.replace(ring).expect("a ring"), [id(1), id(2)].into());
    pair.event(&Event::Transitional(Transitional { ring, previous, members, left: BTreeSet::new() }));
    assert!(!pair.folds[0].has_resigned(), "what the next ring gives it is not known");
}

#[cfg(feature = "mutants")]
#[test]
fn leaders_that_break_a_rule_are_found() {
    use quorate_membership::mutants::Mutant;

    let rules: [fn(); 3] = [
        a_first_leader_waits_until_earlier_leases_are_over,
        a_leader_waits_if_another_can_have_led,
        a_name_moves_once_its_guards_are_dropped,
    ];
    for &mutant in Mutant::OF_LEADERS {
        let _active = mutant.activate();
        let found = rules.iter().any(|rule| std::panic::catch_unwind(rule).is_err());
        assert!(found, "{mutant} survives");
    }
}
