//! What a core has inside, for those who look on: simulators, checkers, status.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::ring::Ring;
use super::{State, Totem};
use crate::{NodeId, RingId, Seq, Time};

/// The state of the protocol, without what is in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// Finding out who is there.
    Gather,
    /// The commit token goes round.
    Commit,
    /// The new ring turns and brings along what is left of the old ones.
    Recovery,
    /// The ring stands.
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

/// A look into a core between two inputs: nothing is copied but numbers, so that it can be taken at every input. For
/// looking on; nothing in the protocol depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The state.
    pub phase: Phase,
    /// The installed ring. Before the first one it has no members.
    pub ring: RingView<'a>,
    /// In [`Phase::Recovery`], the ring that is to be installed.
    pub forming: Option<RingView<'a>>,
    /// In [`Phase::Commit`] and [`Phase::Recovery`], the id of the ring that is to be installed.
    pub next: Option<RingId>,
    /// In [`Phase::Gather`], the nodes considered.
    pub considered: Option<&'a BTreeSet<NodeId>>,
    /// In [`Phase::Gather`], those of them called failed.
    pub failed: Option<&'a BTreeSet<NodeId>>,
    /// In [`Phase::Gather`], those known to believe the same.
    pub consensus: Option<&'a BTreeSet<NodeId>>,
    /// In [`Phase::Recovery`], the members of the installed ring that come along.
    pub transitional: Option<&'a BTreeSet<NodeId>>,
    /// In [`Phase::Recovery`], frames of the installed ring that this node still has to send.
    pub to_recover: usize,
    /// How long it may take at most until the nodes are let in that a ring was formed without.
    pub longest_wait: Duration,
    /// The highest ring sequence number that this node has taken part in.
    pub attempted: u64,
    /// The number of the last token accepted, in [`Phase::Recovery`] and [`Phase::Operational`].
    pub token_seq: Option<Seq>,
    /// This node holds the token of an idle ring back.
    pub holds_token: bool,
    /// Whether the members have exchanged what they say of themselves, so that applications may speak.
    pub synced: bool,
    /// Frames that may come in a rotation of the installed ring.
    pub window: u32,
    /// Frames that this node may send at a visit of its token, at the fastest pace.
    pub visit: u32,
    /// Messages of the sync waiting to be sent, in bytes.
    pub queued_control: usize,
    /// Messages of the application waiting to be sent, in bytes, overhead included.
    pub queued: usize,
    /// How much the application has not taken of its events, in bytes.
    pub unread: usize,
    /// Datagrams not yet polled: they wait for the stored record to be durable.
    pub unsent: usize,
}

/// A ring as one member has it.
#[derive(Clone, Copy, Debug)]
pub struct RingView<'a> {
    /// Which.
    pub id: RingId,
    /// Its members, ascending.
    pub members: &'a BTreeSet<NodeId>,
    /// Received up to here.
    pub aru: Seq,
    /// The highest number received.
    pub high: Seq,
    /// Delivered up to here.
    pub delivered: Seq,
    /// Known to be received by all members up to here.
    pub safe: Seq,
    /// Given up to here: no member can ask for it any more.
    pub released: Seq,
    /// What the frames kept amount to, in bytes. Each frame has some, so this grows when one is taken in.
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
    /// Hashes all that decides what this core does next: equal for two cores only if, at the times given, they will
    /// answer the same to the same inputs. Times count by how far off they are, so states are the same whenever they
    /// are reached; counters, what waits to be polled as an event, and the causes that a ring change will be told with
    /// do not count. For model checkers.
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

    /// A look inside.
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
            longest_wait: local.outcasts.longest_wait(),
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
