//! Events that a ring delivers to a node, in the ring's order.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::words::words;
use crate::{Group, GroupChange, NodeId, Process, RingId, Seq};

/// The guarantee that a message is delivered under (Totem, TOCS 1995, section 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Guarantee {
    /// Delivered in the single order of the ring, as soon as all earlier messages have been.
    Agreed,
    /// Delivered like [`Agreed`](Self::Agreed), but only once every member of the ring is known to
    /// have received the message. Later messages, including agreed ones, wait behind it.
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

/// An event on the ring. All members of a ring see the same events in the same order, except for
/// [`Event::Stalled`] and [`Event::Left`], which concern one member only.
///
/// The enum is exhaustive, because a program that drives the core itself must handle every event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The old ring is over. Its last messages follow, which only the members named here are known
    /// to deliver ([`Delivery::transitional`]). Apply these messages, but acknowledge none of them.
    Transitional(Transitional),
    /// A new ring with its members is installed.
    Regular(Regular),
    /// A message of a layer that runs on the ring, such as node info or a candidacy.
    Service(ServiceMessage),
    /// All members of this ring have exchanged their state. Application messages follow.
    Synced(RingId),
    /// Processes joined or left a group.
    GroupChange(GroupChange),
    /// A message to a process group, whether or not a process of this node is in it.
    Deliver(Delivery),
    /// An operator asks all members to read their configuration again ([`Totem::reload`]).
    ///
    /// [`Totem::reload`]: crate::Totem::reload
    Reload {
        /// The member at which the operator asked.
        from: NodeId,
        /// The number that this member gave the request.
        request: u64,
    },
    /// This node itself was paused for this long (a suspended machine, a starved process). It does
    /// not declare other nodes failed because of the pause.
    Stalled(Duration),
    /// This node is out of the ring, for this reason. No event follows.
    Left(Cause),
}

/// The transitional configuration between two rings (extended virtual synchrony).
///
/// A message that is delivered in it could not be shown to have reached the whole old ring. Members
/// of the old ring that do not move along may have delivered the message, perhaps before their ring
/// broke, or may never see it. A service that replicates a state has three cases:
///
/// - A safe message that is delivered in a ring with quorum is applied and acknowledged, since
///   every member has it.
/// - A message in a transitional configuration is applied and **not acknowledged**, since its
///   outcome is unknown. Skipping it would be wrong as well, because another member may have
///   acknowledged it in the ring.
/// - Messages that a side without quorum has applied are replaced by the state of the side with
///   quorum when the two meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transitional {
    /// The next ring, whose [`Regular`] event follows.
    pub ring: RingId,
    /// The ring that is over.
    pub previous: RingId,
    /// The members of the old ring that move along to the new one, ascending.
    pub members: BTreeSet<NodeId>,
    /// The members of the old ring that do not move along.
    pub left: BTreeSet<NodeId>,
}

/// A regular configuration: a ring and its members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Regular {
    /// The ring.
    pub ring: RingId,
    /// The members of the ring, ascending.
    pub members: BTreeSet<NodeId>,
    /// The members that were not in this node's transitional configuration. On the first ring, all
    /// members.
    pub joined: BTreeSet<NodeId>,
    /// The members of the previous ring that were not in the transitional configuration. A member
    /// that restarted is both here and in `joined`.
    pub left: BTreeSet<NodeId>,
    /// The reasons why the previous ring ended and what happened until this one was installed, in
    /// order. Never empty.
    pub causes: Vec<Cause>,
}

impl Regular {
    /// Returns the causes of the ring change as one sentence without a full stop.
    pub fn why(&self) -> String {
        let causes: Vec<String> = self.causes.iter().map(ToString::to_string).collect();
        causes.join("; then ")
    }
}

/// A message of a [`Service`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceMessage {
    /// The ring on which the message was delivered.
    pub ring: RingId,
    /// The sender.
    pub from: NodeId,
    /// The layer that the message belongs to.
    pub service: Service,
    /// The bytes of the message. For [`Service::Votequorum`] they are the whole C struct, and for
    /// [`Service::Quorate`] a format of our own.
    pub message: Bytes,
}

/// A layer that exchanges messages in the sync stages of a new ring. This crate only carries them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Service {
    /// corosync's votequorum: node info, and changes by an operator.
    Votequorum,
    /// Messages among Quorate nodes only: candidacies. They go to the totempg group `quorate`,
    /// which corosync ignores.
    Quorate,
}

/// A delivered message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The ring on which it was ordered.
    pub ring: RingId,
    /// The message's place in the ring's order. Small messages that share a frame also share its
    /// number. They are delivered in the order in which they were sent.
    pub seq: Seq,
    /// The sender.
    pub from: NodeId,
    /// The sending process, as its node states it. 0 stands for the node itself.
    pub pid: u32,
    /// The group that the message was sent to.
    pub group: Group,
    /// The guarantee that the message was sent with and delivered under.
    pub guarantee: Guarantee,
    /// Whether the ring is over. The message then comes between [`Event::Transitional`] and
    /// [`Event::Regular`], and only the members that move along are known to receive it. It must be
    /// applied, because the members that move along apply it and the others may have. It must not
    /// be acknowledged, because the others may never deliver it.
    pub transitional: bool,
    /// The content of the message.
    pub payload: Bytes,
}

impl Event {
    /// The bytes that any event takes of the bound on unread events.
    pub const MIN_COST: usize = 128;

    /// Returns the bytes that this event takes of the bound on unread events.
    pub fn cost(&self) -> usize {
        match self {
            Self::Deliver(delivery) => delivery.cost(),
            Self::Service(service) => Self::MIN_COST + service.message.len(),
            Self::GroupChange(change) => change.cost(),
            _ => Self::MIN_COST,
        }
    }
}

impl Delivery {
    /// Returns the bytes that this event takes of the bound on unread events.
    pub fn cost(&self) -> usize {
        Event::MIN_COST + self.payload.len()
    }
}

impl GroupChange {
    /// Returns the bytes that this event takes of the bound on unread events.
    pub fn cost(&self) -> usize {
        let processes = self.members.len() + self.joined.len() + self.left.len();
        Event::MIN_COST + processes * size_of::<Process>()
    }
}

/// The reason for a change of the ring. Prints as a clause: "node 3 left".
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// This node has just started.
    Started,
    /// No token arrived for the token timeout.
    TokenLost {
        /// The token timeout.
        after: Duration,
    },
    /// Members did not agree to a new ring within the consensus timeout.
    Silent {
        /// The members.
        nodes: BTreeSet<NodeId>,
        /// The consensus timeout.
        after: Duration,
    },
    /// The host of a member reported twice that no process listens there, so the member's process
    /// is gone.
    Refused {
        /// The member.
        node: NodeId,
    },
    /// Nodes cannot be in one ring with all others that were heard: they leave some of them out, or
    /// are left out by them.
    Misfit {
        /// The nodes that are left out.
        nodes: BTreeSet<NodeId>,
    },
    /// The others agreed to a ring in which this node would send the token to a node that it has
    /// never heard. Without a node list it does not know the node's address.
    NeverHeard {
        /// The node.
        node: NodeId,
    },
    /// A node asked to form a new ring.
    JoinFrom {
        /// The node.
        node: NodeId,
    },
    /// A member of the ring gave it up and is looking for a new one.
    GivenUpBy {
        /// The member.
        node: NodeId,
    },
    /// A member asked to form a ring and did not know this node, so it has restarted.
    Restarted {
        /// The member.
        node: NodeId,
    },
    /// A node that is not a member of this ring was heard.
    Heard {
        /// The node.
        node: NodeId,
    },
    /// A member announced that it leaves.
    LeaveFrom {
        /// The member.
        node: NodeId,
    },
    /// A member declared others failed.
    FailedBy {
        /// The member that declared the others failed.
        node: NodeId,
        /// The nodes that it declared failed.
        failed: BTreeSet<NodeId>,
    },
    /// A member did not receive frames that the others received, for `fail_recv_const` rotations of
    /// the token.
    FailedToReceive {
        /// The member.
        node: NodeId,
    },
    /// The members agreed, but the commit token did not arrive within the token timeout.
    CommitLost {
        /// The token timeout.
        after: Duration,
    },
    /// The token of the new ring was lost before the ring was installed.
    RecoveryLost {
        /// The token timeout.
        after: Duration,
    },
    /// All nodes concerned agree on the members.
    Consensus,
    /// The commit token arrived.
    CommitToken {
        /// The ring that the commit token is for.
        ring: RingId,
    },
    /// All frames of the old rings have been recovered.
    Recovered {
        /// The ring that is now installed.
        ring: RingId,
    },
    /// This node was asked to leave.
    LeaveRequested,
    /// This node's application left more events unread than the configured bound.
    EventsUnread {
        /// The size of the unread events.
        bytes: usize,
    },
    /// Another process uses this node's id.
    DuplicateId {
        /// The id.
        node: NodeId,
    },
    /// An operator killed this node from another one (`corosync-cfgtool -k`).
    Killed {
        /// The node where the operator ran the command.
        by: NodeId,
        /// The reason that the operator gave.
        reason: String,
    },
}

impl Cause {
    words! {
        /// All [kinds](Self::kind).
        pub const KINDS;
        /// Returns the kind of the cause as a word, for counters.
        pub fn kind;
        Started => "started",
        TokenLost => "token_lost",
        Silent => "silent",
        Refused => "refused",
        Misfit => "misfit",
        NeverHeard => "never_heard",
        JoinFrom => "join",
        GivenUpBy => "given_up",
        Restarted => "restarted",
        Heard => "heard",
        LeaveFrom => "leave",
        FailedBy => "failed",
        FailedToReceive => "failed_to_receive",
        CommitLost => "commit_lost",
        RecoveryLost => "recovery_lost",
        Consensus => "consensus",
        CommitToken => "commit_token",
        Recovered => "recovered",
        LeaveRequested => "leave_requested",
        EventsUnread => "events_unread",
        DuplicateId => "duplicate_id",
        Killed => "killed",
    }
}

/// Writes node ids for an operator to read: "node 3", "nodes 3 and 4".
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
            Self::Refused { node } => {
                write!(f, "the host of node {node} reported that no process listens there")
            }
            Self::Misfit { nodes } => {
                name(f, nodes)?;
                write!(
                    f,
                    " and other nodes leave each other out: their node lists differ, or they do not hear \
                     each other"
                )
            }
            Self::NeverHeard { node } => {
                write!(f, "node {node} was never heard here, so its address is not known")
            }
            Self::JoinFrom { node } => write!(f, "node {node} asked to join"),
            Self::GivenUpBy { node } => write!(f, "node {node} gave up the ring"),
            Self::Restarted { node } => write!(f, "node {node} restarted"),
            Self::Heard { node } => write!(f, "node {node}, which is not in this ring, was heard"),
            Self::LeaveFrom { node } => write!(f, "node {node} left"),
            Self::FailedBy { node, failed } => {
                write!(f, "node {node} declared ")?;
                name(f, failed)?;
                write!(f, " failed")
            }
            Self::FailedToReceive { node } => {
                write!(f, "node {node} no longer receives frames that the others have")
            }
            Self::CommitLost { after } => {
                write!(f, "the commit token did not arrive within {} ms", after.as_millis())
            }
            Self::RecoveryLost { after } => {
                write!(f, "the new ring's token was lost for {} ms", after.as_millis())
            }
            Self::Consensus => write!(f, "all nodes agreed on the members"),
            Self::CommitToken { ring } => write!(f, "the commit token of ring {ring} arrived"),
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
