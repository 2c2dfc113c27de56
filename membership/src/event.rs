//! What a node is told by its ring, in the ring's order.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::{Group, GroupChange, NodeId, Process, RingId, Seq};

/// How sure delivery has to be (Totem, TOCS 1995, section 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Guarantee {
    /// Delivered in the one order of the ring, as soon as everything before it has been delivered.
    Agreed,
    /// As agreed, and only once every member of the ring is known to have received it. Later messages, agreed ones
    /// too, wait behind it.
    Safe,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agreed => "agreed",
            Self::Safe => "safe",
        })
    }
}

/// What happened on the ring. All members of a ring see the same events in the same order, each member's own
/// [`Event::Stalled`] and [`Event::Left`] excepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The old ring is over. Its last messages follow, which only the members named are known to deliver
    /// ([`Delivery::transitional`]): make what they say, and acknowledge none of it.
    Transitional(Transitional),
    /// A new ring is installed: from here on, its members.
    Regular(Regular),
    /// A message of a layer that lives on the ring: node info, candidacies.
    Service(ServiceMessage),
    /// All members of this ring have exchanged what they had to say of themselves; application messages follow.
    Synced(RingId),
    /// Processes joined a group or left it.
    GroupChange(GroupChange),
    /// A message to a process group, whether or not a process of this node is in it.
    Deliver(Delivery),
    /// This node itself stood still this long (a paused machine, a starved process): it tells nobody else dead for it.
    Stalled(Duration),
    /// This node is out, for this reason; the last event.
    Left(Cause),
}

/// The transitional configuration between two rings (extended virtual synchrony).
///
/// What is delivered in it could not be shown to have reached the whole old ring. Members of the old ring that do not come
/// along may have delivered it, perhaps before their ring broke, and may just as well never see it. A service that
/// replicates a state has three cases:
///
/// - A message that is delivered in a ring with quorum is made and acknowledged (as a safe one: every member has it).
/// - One that comes in a transitional configuration is made and **not acknowledged**: its outcome is unknown. Not to make
///   it would be wrong as well, since another member may have acknowledged it in the ring.
/// - What a side without quorum has made is replaced by the state of the side with quorum when they meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transitional {
    /// The ring that is coming; its [`Regular`] event follows.
    pub ring: RingId,
    /// The ring that is over.
    pub previous: RingId,
    /// The members of the old ring that come along to the new one, ascending.
    pub members: BTreeSet<NodeId>,
    /// The members of the old ring that do not.
    pub left: BTreeSet<NodeId>,
}

/// A regular configuration: a ring and its members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Regular {
    /// The ring.
    pub ring: RingId,
    /// Its members, ascending.
    pub members: BTreeSet<NodeId>,
    /// Those that were not in this node's transitional configuration; on the first ring, all.
    pub joined: BTreeSet<NodeId>,
    /// Those of the previous ring that were not in the transitional configuration. A member that restarted is both
    /// here and in `joined`.
    pub left: BTreeSet<NodeId>,
    /// Why the previous ring ended and what happened until this one stood, in order; never empty.
    pub causes: Vec<Cause>,
}

impl Regular {
    /// Why the ring changed, as one sentence without a full stop.
    pub fn why(&self) -> String {
        let causes: Vec<String> = self.causes.iter().map(ToString::to_string).collect();
        causes.join("; then ")
    }
}

/// A message of a [`Service`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceMessage {
    /// The ring it was delivered on.
    pub ring: RingId,
    /// Its sender.
    pub from: NodeId,
    /// The layer it belongs to.
    pub service: Service,
    /// Its bytes: for [`Service::Votequorum`] the whole C struct, for [`Service::Quorate`] what we made it.
    pub message: Bytes,
}

/// The layers that speak in the sync stages of a new ring, for which this crate is the carrier only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Service {
    /// corosync's votequorum: node info, and what an operator changes.
    Votequorum,
    /// Messages between quorate nodes alone (totempg group `quorate`, which corosync ignores): candidacies.
    Quorate,
}

/// A delivered message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The ring on which it was ordered.
    pub ring: RingId,
    /// Its place in the ring's order. Small messages share a frame and then also its number; they are delivered in
    /// the order in which they were sent.
    pub seq: Seq,
    /// Its sender.
    pub from: NodeId,
    /// The sending process there, as it says itself; 0 is the node itself.
    pub pid: u32,
    /// The group it was sent to.
    pub group: Group,
    /// The guarantee it was sent with, and delivered under.
    pub guarantee: Guarantee,
    /// Whether the ring is over: the message comes between [`Event::Transitional`] and [`Event::Regular`], and is known to
    /// reach only the members that come along. The others may deliver it too, or never. So it has to be made, for those who
    /// come along make it and the others may have, but it must not be acknowledged.
    pub transitional: bool,
    /// What was sent.
    pub payload: Bytes,
}

impl Event {
    /// How much of the bound on unread events this event uses, in bytes.
    pub fn cost(&self) -> usize {
        const ENVELOPE: usize = 128;
        ENVELOPE
            + match self {
                Self::Deliver(delivery) => delivery.payload.len(),
                Self::Service(service) => service.message.len(),
                Self::GroupChange(change) => {
                    let processes = change.members.len() + change.joined.len() + change.left.len();
                    processes * size_of::<Process>()
                }
                _ => 0,
            }
    }
}

/// Why something about the ring changed. Prints as a clause: "node 3 left".
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// This node has just started.
    Started,
    /// No token came round for the token timeout.
    TokenLost {
        /// The token timeout.
        after: Duration,
    },
    /// These members did not agree to a new ring within the consensus timeout.
    Silent {
        /// The members in question.
        nodes: BTreeSet<NodeId>,
        /// The consensus timeout.
        after: Duration,
    },
    /// Twice, the host of a member said that nobody listens there: its process is gone.
    Refused {
        /// The member.
        node: NodeId,
    },
    /// These nodes cannot be in one ring with all others that were heard: they leave some of them out, or are left out by them.
    Misfit {
        /// The nodes that are left out.
        nodes: BTreeSet<NodeId>,
    },
    /// A node asked to form a new ring.
    JoinFrom {
        /// The node.
        node: NodeId,
    },
    /// A member of the ring gave it up and looks for a new one.
    GivenUpBy {
        /// The member.
        node: NodeId,
    },
    /// A member asked to form a ring as one that does not know this node: it has started again.
    Restarted {
        /// The member.
        node: NodeId,
    },
    /// A node that is no member of this ring was heard.
    Heard {
        /// The node.
        node: NodeId,
    },
    /// A member said that it leaves.
    LeaveFrom {
        /// The member.
        node: NodeId,
    },
    /// A member declared others failed.
    FailedBy {
        /// Who said so.
        node: NodeId,
        /// Of whom.
        failed: BTreeSet<NodeId>,
    },
    /// A member did not receive what the others did, for `fail_recv_const` rotations of the token.
    FailedToReceive {
        /// The member.
        node: NodeId,
    },
    /// The members agreed, but no commit token came round within the token timeout.
    CommitLost {
        /// The token timeout.
        after: Duration,
    },
    /// The token of the new ring was lost before the ring stood.
    RecoveryLost {
        /// The token timeout.
        after: Duration,
    },
    /// All nodes in question agree on who is in.
    Consensus,
    /// The commit token came.
    CommitToken {
        /// The ring it is for.
        ring: RingId,
    },
    /// Everything of the old rings has been recovered.
    Recovered {
        /// The ring that now stands.
        ring: RingId,
    },
    /// This node was asked to leave.
    LeaveRequested,
    /// This node's application did not take its events, past the configured bound.
    EventsUnread {
        /// How much was unread.
        bytes: usize,
    },
    /// Another process uses this node's id.
    DuplicateId {
        /// The id.
        node: NodeId,
    },
    /// An operator told this node to go, by way of another (`corosync-cfgtool -k`).
    Killed {
        /// Where he did so.
        by: NodeId,
        /// What he gave as the reason.
        reason: String,
    },
}

/// Members as an operator reads them: "node 3", "nodes 3 and 4".
fn name(f: &mut fmt::Formatter<'_>, nodes: &BTreeSet<NodeId>) -> fmt::Result {
    f.write_str(if nodes.len() == 1 { "node " } else { "nodes " })?;
    for (i, node) in nodes.iter().enumerate() {
        match i {
            0 => write!(f, "{node}")?,
            _ if i + 1 == nodes.len() => write!(f, " and {node}")?,
            _ => write!(f, ", {node}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => write!(f, "this node started"),
            Self::TokenLost { after } => write!(f, "no token came for {} ms", after.as_millis()),
            Self::Silent { nodes, after } => {
                name(f, nodes)?;
                write!(f, " did not answer within {} ms", after.as_millis())
            }
            Self::Refused { node } => write!(f, "the host of node {node} said that no process listens there"),
            Self::Misfit { nodes } => {
                name(f, nodes)?;
                write!(
                    f,
                    " and others leave each other out: node lists differ, or they do not hear each other"
                )
            }
            Self::JoinFrom { node } => write!(f, "node {node} asked to join"),
            Self::GivenUpBy { node } => write!(f, "node {node} gave up the ring"),
            Self::Restarted { node } => write!(f, "node {node} started again"),
            Self::Heard { node } => write!(f, "node {node} was heard, which is not in this ring"),
            Self::LeaveFrom { node } => write!(f, "node {node} left"),
            Self::FailedBy { node, failed } => {
                write!(f, "node {node} declared ")?;
                name(f, failed)?;
                write!(f, " failed")
            }
            Self::FailedToReceive { node } => write!(f, "node {node} no longer receives what the others do"),
            Self::CommitLost { after } => {
                write!(f, "the commit token did not come within {} ms", after.as_millis())
            }
            Self::RecoveryLost { after } => {
                write!(f, "the new ring's token was lost for {} ms", after.as_millis())
            }
            Self::Consensus => write!(f, "all agreed on the members"),
            Self::CommitToken { ring } => write!(f, "the commit token of ring {ring} came"),
            Self::Recovered { ring } => write!(f, "ring {ring} was recovered"),
            Self::LeaveRequested => write!(f, "this node was asked to leave"),
            Self::EventsUnread { bytes } => {
                write!(f, "the application left {bytes} bytes of events unread")
            }
            Self::DuplicateId { node } => write!(f, "another process uses node id {node}"),
            Self::Killed { by, reason } => write!(f, "an operator at node {by} killed this node: {reason:?}"),
        }
    }
}
