//! Synchronisation of a new ring: stages in which its members exchange their state. A barrier that
//! all members must pass closes each stage.
//!
//! Every member must send a barrier in every stage, even for a service that it does not know.
//! Otherwise the sync of all members stalls. A barrier does not name its service, so it must be
//! sent exactly once, and only after the previous stage is complete.

use std::collections::BTreeSet;

use crate::bug;
use crate::wire::body::Body;
use crate::{NodeId, RingId};

/// corosync's id of the process groups.
pub(crate) const CPG: u32 = 2;
/// corosync's id of votequorum.
pub(crate) const VOTEQUORUM: u32 = 5;
/// The services that this node synchronises.
const SERVICES: [u32; 2] = [CPG, VOTEQUORUM];

/// The sync of one ring.
#[derive(Clone, Hash)]
pub(crate) struct Sync {
    ring: RingId,
    members: BTreeSet<NodeId>,
    heard: BTreeSet<NodeId>,
    stage: Stage,
    /// Whether this node holds up the stage of votequorum.
    hold: Hold,
}

/// How this node holds up the stage of votequorum, whose barrier it sends last.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Hold {
    No,
    /// The stage has not been reached.
    Wanted,
    /// The barrier has not been sent.
    Holds,
}

#[derive(Clone, Hash)]
enum Stage {
    /// Every member announces its services.
    Build {
        union: BTreeSet<u32>,
    },
    /// Every member sends its state for this service, then its barrier.
    Service {
        id: u32,
        rest: BTreeSet<u32>,
    },
    Done,
}

/// The step to take after a delivered message.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Wait for further messages.
    Wait,
    /// Send the state for `service`, then the barrier. With `last`, the stage is the last one:
    /// applications may send after its barrier. `closed` is the service whose stage is over: all
    /// members have sent their state for it.
    Stage { closed: Option<u32>, service: u32, last: bool },
    /// All members have passed all barriers. `closed` is the service of the last stage.
    Done { closed: Option<u32> },
}

impl Sync {
    /// Begins the sync of a ring. The caller sends [`Sync::opening`].
    pub(crate) fn new(ring: RingId, members: BTreeSet<NodeId>) -> Self {
        Self {
            ring,
            members,
            heard: BTreeSet::new(),
            stage: Stage::Build { union: BTreeSet::new() },
            hold: Hold::No,
        }
    }

    /// Returns the message that every member sends first.
    pub(crate) fn opening(&self) -> Body {
        Body::ServiceBuild { ring: self.ring, services: SERVICES.to_vec() }
    }

    /// Returns the message that closes a stage.
    pub(crate) fn barrier(&self) -> Body {
        Body::Barrier { ring: self.ring }
    }

    /// Holds up the stage of votequorum, until it is let go.
    pub(crate) fn hold(&mut self) {
        self.hold = Hold::Wanted;
    }

    /// Returns the barrier of a stage that begins now, unless the stage is held up.
    pub(crate) fn barrier_of(&mut self, service: u32) -> Option<Body> {
        if service == VOTEQUORUM && self.hold == Hold::Wanted {
            self.hold = Hold::Holds;
            return None;
        }
        Some(self.barrier())
    }

    /// Ends the hold of the stage of votequorum. Returns the barrier if it is due.
    pub(crate) fn go_on(&mut self) -> Option<Body> {
        let before = std::mem::replace(&mut self.hold, Hold::No);
        (before == Hold::Holds).then(|| self.barrier())
    }

    /// Returns `true` if applications may send.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Handles a delivered sync message, and returns the next step.
    pub(crate) fn handle(&mut self, from: NodeId, body: &Body) -> Step {
        match (&mut self.stage, body) {
            (Stage::Build { union }, Body::ServiceBuild { ring, services }) if *ring == self.ring => {
                union.extend(services);
            }
            (Stage::Service { .. }, Body::Barrier { ring }) if *ring == self.ring => {}
            _ => return Step::Wait,
        }
        self.heard.insert(from);
        if !self.heard.is_superset(&self.members) {
            return Step::Wait;
        }
        bug!(BarriersKept: (); self.heard.clear());
        let (closed, mut rest) = match &mut self.stage {
            Stage::Build { union } => (None, std::mem::take(union)),
            Stage::Service { id, rest } => (Some(*id), std::mem::take(rest)),
            Stage::Done => return Step::Wait,
        };
        match rest.pop_first() {
            Some(service) => {
                let last = rest.is_empty();
                self.stage = Stage::Service { id: service, rest };
                Step::Stage { closed, service, last }
            }
            None => {
                self.stage = Stage::Done;
                Step::Done { closed }
            }
        }
    }

    /// Returns the stage as text for logs.
    pub(crate) fn stage(&self) -> String {
        match &self.stage {
            Stage::Build { .. } => "services".to_owned(),
            Stage::Service { id, .. } => format!("service {id}"),
            Stage::Done => "done".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn sync(members: u32) -> (Sync, RingId) {
        let ring = RingId { seq: 8, representative: node(1) };
        (Sync::new(ring, (1..=members).map(node).collect()), ring)
    }

    #[test]
    fn stages_are_the_sorted_union_of_the_members_services() {
        let (mut sync, ring) = sync(2);
        let opening = sync.opening();
        assert_eq!(sync.handle(node(1), &opening), Step::Wait);
        let corosync = Body::ServiceBuild { ring, services: vec![0, 2, 3, 5] };
        assert_eq!(sync.handle(node(2), &corosync), Step::Stage { closed: None, service: 0, last: false });
        for (closed, service, last) in [(0, 2, false), (2, 3, false), (3, 5, true)] {
            let closed = Some(closed);
            let barrier = sync.barrier();
            assert_eq!(sync.handle(node(2), &barrier), Step::Wait);
            assert_eq!(sync.handle(node(1), &barrier), Step::Stage { closed, service, last });
        }
        let barrier = sync.barrier();
        sync.handle(node(1), &barrier);
        assert!(!sync.is_done());
        assert_eq!(sync.handle(node(2), &barrier), Step::Done { closed: Some(5) });
        assert!(sync.is_done());
    }

    #[test]
    fn a_held_stage_of_votequorum_has_its_barrier_once_it_goes_on() {
        let (mut sync, _) = sync(1);
        assert_eq!(sync.go_on(), None, "nothing is held up");
        sync.hold();
        assert!(sync.barrier_of(CPG).is_some(), "other stages go on");
        assert_eq!(sync.barrier_of(VOTEQUORUM), None);
        assert!(sync.go_on().is_some());
        assert_eq!(sync.go_on(), None, "the barrier is sent once");
        sync.hold();
        assert_eq!(sync.go_on(), None, "the stage has not begun");
        assert!(sync.barrier_of(VOTEQUORUM).is_some());
    }

    #[test]
    fn a_second_barrier_of_one_member_does_not_stand_for_another() {
        let (mut sync, _) = sync(2);
        let opening = sync.opening();
        sync.handle(node(1), &opening);
        sync.handle(node(2), &opening);
        let barrier = sync.barrier();
        sync.handle(node(1), &barrier);
        assert_eq!(sync.handle(node(1), &barrier), Step::Wait);
    }

    #[test]
    fn messages_of_another_ring_and_of_strangers_do_not_count() {
        let (mut sync, ring) = sync(1);
        let other = RingId { seq: ring.seq + 4, ..ring };
        let stray = Body::ServiceBuild { ring: other, services: vec![5] };
        assert_eq!(sync.handle(node(1), &stray), Step::Wait);
        let opening = sync.opening();
        assert_eq!(sync.handle(node(9), &opening), Step::Wait);
        assert_eq!(sync.handle(node(1), &opening), Step::Stage { closed: None, service: CPG, last: false });
    }
}
