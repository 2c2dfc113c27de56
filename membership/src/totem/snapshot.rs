//! Read-only views of a core, for simulators, checkers and status.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::ring::Ring;
use super::{State, Totem};
use crate::{NodeId, RingId, Seq, Time};

/// The name of a protocol state, without its data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// The node is looking for the members of a new ring.
    Gather,
    /// The commit token circulates.
    Commit,
    /// The new ring's token circulates, and members forward frames of their old rings.
    Recovery,
    /// The ring is installed.
    Operational,
    /// The node has left.
    Left,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gather => "gather",
            Self::Commit => "commit",
            Self::Recovery => "recovery",
            Self::Operational => "operational",
            Self::Left => "left",
        })
    }
}

/// A view of a core between two inputs. It copies only numbers, so it can be taken at every input.
/// The protocol does not depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The state.
    pub phase: Phase,
    /// The installed ring. It has no members before the first one.
    pub ring: RingView<'a>,
    /// The ring that is being formed, in [`Phase::Recovery`].
    pub forming: Option<RingView<'a>>,
    /// The id of the ring that is being formed, in [`Phase::Commit`] and [`Phase::Recovery`].
    pub next: Option<RingId>,
    /// The nodes considered for the ring, in [`Phase::Gather`].
    pub considered: Option<&'a BTreeSet<NodeId>>,
    /// The considered nodes that are called failed, in [`Phase::Gather`].
    pub failed: Option<&'a BTreeSet<NodeId>>,
    /// The considered nodes that are known to believe the same lists, in [`Phase::Gather`].
    pub consensus: Option<&'a BTreeSet<NodeId>>,
    /// The members of the installed ring that move along, in [`Phase::Recovery`].
    pub transitional: Option<&'a BTreeSet<NodeId>>,
    /// The number of frames of the installed ring that this node still has to send, in
    /// [`Phase::Recovery`].
    pub to_recover: usize,
    /// The highest ring sequence number that this node has taken part in.
    pub attempted: u64,
    /// The number of the last accepted token, in [`Phase::Recovery`] and [`Phase::Operational`].
    pub token_seq: Option<Seq>,
    /// Whether this node holds back the token of an idle ring.
    pub holds_token: bool,
    /// Whether the members have exchanged their state, so that applications may send.
    pub synced: bool,
    /// The number of frames allowed per rotation of the installed ring.
    pub window: u32,
    /// The number of frames that this node may send per token visit, at the fastest pace.
    pub visit: u32,
    /// The size of the sync messages that wait to be sent, in bytes.
    pub queued_control: usize,
    /// The size of the application messages that wait to be sent, in bytes, including overhead.
    pub queued: usize,
    /// The size of the events that the application has not taken, in bytes.
    pub unread: usize,
    /// The number of datagrams that have not been polled. They wait for the stored record to be
    /// durable.
    pub unsent: usize,
}

/// A ring as seen by one member.
#[derive(Clone, Copy, Debug)]
pub struct RingView<'a> {
    /// The ring's id.
    pub id: RingId,
    /// The members of the ring, ascending.
    pub members: &'a BTreeSet<NodeId>,
    /// The highest number up to which this member has received all frames.
    pub aru: Seq,
    /// The highest number received.
    pub high: Seq,
    /// The highest number delivered.
    pub delivered: Seq,
    /// The highest number up to which all members are known to have received all frames.
    pub safe: Seq,
    /// The highest number released, which no member can request any more.
    pub released: Seq,
    /// The total size of the kept frames, in bytes. No frame is empty, so this grows with each
    /// frame inserted.
    pub held: usize,
}

impl Ring {
    fn view(&self) -> RingView<'_> {
        RingView {
            id: self.id,
            members: &self.members,
            aru: self.window.aru(),
            high: self.window.high(),
            delivered: self.delivered,
            safe: self.safe,
            released: self.window.released(),
            held: self.window.bytes(),
        }
    }
}

impl Totem {
    /// Hashes the state that decides what this core does next. Two cores have equal hashes only if,
    /// at the times given, they respond alike to the same inputs. Times are hashed relative to
    /// `now`, so equal states match whenever they are reached. Counters, events that wait to be
    /// polled, and the causes that a ring change will be reported with are left out. Intended for
    /// model checkers.
    pub fn fingerprint(&self, now: Time, state: &mut impl Hasher) {
        let Self { local, state: phase, started_at: _, answered_at: _, awake_at } = self;
        local.fingerprint(now, state);
        awake_at.map(|at| now - at).hash(state);
        std::mem::discriminant(phase).hash(state);
        match phase {
            State::Gather(gather) => gather.fingerprint(now, local, state),
            State::Commit(commit) => commit.fingerprint(now, local, state),
            State::Recovery(recovery) => recovery.fingerprint(now, state),
            State::Operational(operational) => operational.fingerprint(now, local, state),
            State::Left(left) => left.fingerprint(now, state),
        }
    }

    /// Returns the longest time until nodes that rings were formed without are readmitted, if
    /// another ring is formed without them at `then`, at the latest.
    pub fn longest_wait(&self, now: Time, then: Time) -> Duration {
        let operational = matches!(self.state, State::Operational(_));
        self.local.outcasts.longest_wait(now, then, operational)
    }

    /// Returns a view of this core.
    pub fn snapshot(&self) -> Snapshot<'_> {
        let local = &self.local;
        let mut snapshot = Snapshot {
            phase: Phase::Left,
            ring: local.ring.view(),
            forming: None,
            next: None,
            considered: None,
            failed: None,
            consensus: None,
            transitional: None,
            to_recover: 0,
            attempted: local.attempted,
            token_seq: None,
            holds_token: false,
            synced: local.synced(),
            window: local.limits.window,
            visit: local.limits.visit,
            queued_control: local.outbox.control.bytes(),
            queued: local.outbox.application.bytes(),
            unread: local.out.unread,
            unsent: local.out.transmits.len(),
        };
        match &self.state {
            State::Gather(gather) => {
                snapshot.phase = Phase::Gather;
                snapshot.considered = Some(&gather.lists.proc);
                snapshot.failed = Some(&gather.lists.failed);
                snapshot.consensus = Some(&gather.consensus);
            }
            State::Commit(commit) => {
                snapshot.phase = Phase::Commit;
                snapshot.next = Some(commit.ring);
            }
            State::Recovery(recovery) => {
                snapshot.phase = Phase::Recovery;
                snapshot.next = Some(recovery.ring.id);
                snapshot.forming = Some(recovery.ring.view());
                snapshot.transitional = Some(&recovery.transitional);
                snapshot.to_recover = recovery.queue.len();
                snapshot.token_seq = Some(recovery.rotation.token_seq);
                snapshot.holds_token = recovery.rotation.hold_at.is_some();
            }
            State::Operational(operational) => {
                snapshot.phase = Phase::Operational;
                snapshot.token_seq = Some(operational.rotation.token_seq);
                snapshot.holds_token = operational.rotation.hold_at.is_some();
            }
            State::Left(_) => {}
        }
        snapshot
    }
}
