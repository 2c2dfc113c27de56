//! A line of a history, with its time, its node and the event, and how it prints.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use quorate_election::{Lease, ReleaseError, Status, Term};
use quorate_membership::wire::{CommitToken, Join, Multicast, Token};
use quorate_membership::{
    Cause, Group, GroupChange, Guarantee, NodeId, Phase, Regular, RingId, Seq, Stored, Transitional,
};

use super::fingerprint::Fingerprint;
use crate::Fault;

/// One life of a node, from a start of its process to the end of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Life {
    /// The node.
    pub node: NodeId,
    /// The number of the start, from 1.
    pub start: u32,
}

/// Prints as `node#start`.
impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.start)
    }
}

/// The identity of a message, assigned when the sender's ring accepts it. It travels in the
/// payload, where the protocol does not see it, so the checker does not depend on the protocol's
/// own numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageId {
    /// The life that sent the message.
    pub sender: Life,
    /// The number of the message among those of its sender, from 1.
    pub number: u64,
}

/// Prints as `node#start:number`.
impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sender, self.number)
    }
}

/// The part of a message's content that a history keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    /// The length in bytes.
    pub length: usize,
    /// A hash of the bytes.
    pub hash: u64,
}

impl Content {
    /// Returns the content of a payload.
    pub fn of(payload: &Bytes) -> Self {
        let mut hash = Fingerprint::default();
        hash.add(payload);
        Self { length: payload.len(), hash: hash.get() }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes ({:016x})", self.length, self.hash)
    }
}

/// A message that reached an application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// The message. `None` if it was never accepted.
    pub message: Option<MessageId>,
    /// The ring that ordered it.
    pub ring: RingId,
    /// The place in the order of the ring.
    pub seq: Seq,
    /// The sender according to the protocol.
    pub from: NodeId,
    /// The group.
    pub group: Group,
    /// The guarantee it was delivered under.
    pub guarantee: Guarantee,
    /// Whether it was delivered as part of a transitional configuration.
    pub transitional: bool,
    /// The content.
    pub content: Content,
}

/// An event of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// The node started.
    Started,
    /// The node crashed.
    Crashed,
    /// The node's own code panicked.
    Panicked,
    /// The ring accepted a message for sending.
    Accepted {
        /// The message.
        message: MessageId,
        /// The group that it is sent to.
        group: Group,
        /// The guarantee that it is sent with.
        guarantee: Guarantee,
        /// The content.
        content: Content,
    },
    /// A transitional configuration.
    Transitional(Transitional),
    /// A regular configuration.
    Regular(Regular),
    /// The members of the ring have exchanged their announcements.
    Synced(RingId),
    /// Processes joined a group or left it.
    GroupChange(Box<GroupChange>),
    /// A message was delivered.
    Delivered(Delivered),
    /// The election's result.
    Status(Box<Status>),
    /// The node paused for this long.
    Stalled(Duration),
    /// The node found that its application hangs (`true`) or is alive again (`false`); see
    /// [`Dc::set_heartbeat`](quorate::Dc::set_heartbeat).
    Hung(bool),
    /// The node left the ring.
    Left(Cause),
    /// The network changed, or another fault happened.
    Network(Fault),
    /// An event below the application, which only the core engine sees.
    Inside(Inside),
}

/// An event inside a core, between its inputs and the application. Each record belongs to the life
/// in whose core the event happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inside {
    /// The protocol's state after an input differs from the one before it. It may have passed
    /// through gather in between, and a node alone also through commit.
    Phase {
        /// The state before the input.
        from: Phase,
        /// The state after the input.
        to: Phase,
        /// The progress in the installed ring after the input.
        ring: Standing,
        /// The time until the next timer. `None`: no timer runs.
        timer: Option<Duration>,
    },
    /// The last timer has stopped, and the node has not left.
    NoTimer,
    /// This node assigned a number to a frame and sent it for the first time.
    Numbered(Frame),
    /// A new frame of another node was received. A frame that was encapsulated in it has a record
    /// of its own, after that of the carrier.
    Received(Frame),
    /// A frame was sent again, either this node's own or another's.
    Resent(Frame),
    /// The prefix that this node knows to be with all members has grown.
    Stable {
        /// The installed ring, or the one that is being recovered.
        ring: RingId,
        /// The number up to which the node may deliver safe messages.
        safe: Seq,
        /// The number up to which the node has released frames.
        released: Seq,
    },
    /// The members of the ring have agreed on the limits for frames.
    Limits {
        /// The ring.
        ring: RingId,
        /// The most frames in a rotation.
        window: u32,
        /// The most frames of one member at a visit of the token.
        visit: u32,
    },
    /// A token of this node's ring was accepted. It was not a copy.
    Token(Box<Token>),
    /// A token was sent, perhaps again.
    TokenSent {
        /// The receiver.
        to: NodeId,
        /// The token as it was sent.
        token: Box<Token>,
    },
    /// A member asked for a token that is held (HOLD CANCEL).
    Woken,
    /// A commit token was sent, perhaps again.
    CommitSent {
        /// The receiver.
        to: NodeId,
        /// The commit token as it was sent.
        token: Box<CommitToken>,
    },
    /// A JOIN or LEAVE was sent.
    JoinSent(Box<Join>),
    /// A record is about to be stored.
    Persist(Stored),
    /// A record has been stored.
    Persisted(Stored),
    /// The node may act as DC from now on.
    LeaseOn(Term),
    /// The node may no longer act as DC.
    LeaseOff {
        /// The term of the lease.
        term: Term,
        /// The simulated time at which the lease ended. A paused node does not notice the end of
        /// its lease.
        since: Duration,
    },
    /// The node was asked to give up the role of DC. `Ok` contains the simulated time at which its
    /// lease would have ended. `Err` is the reason why it kept the role.
    Released(Result<Duration, ReleaseError>),
    /// The node found that it may act as DC, and is about to.
    Acts(Term),
    /// An act reached its target, which remembers the highest term and refuses lower ones.
    Landed {
        /// The term of the act.
        term: Term,
        /// Whether the target accepted the act.
        accepted: bool,
        /// Whether the node, by its own clock, may still act at that moment.
        timely: bool,
    },
    /// The node was asked for its status. The fields are its answer.
    Asked {
        /// The ring.
        ring: Option<RingId>,
        /// Whether the ring is quorate.
        quorate: bool,
        /// Whether the node may act as DC.
        lease: Lease,
        /// The time without a token of an installed ring, or without a ring, by the node's own
        /// clock.
        silent: Duration,
    },
    /// The application was last given a status that differs from the current one, although no timer
    /// is due.
    Unaware,
    /// The node's memory use, recorded once every few tokens.
    Holds(Holds),
    /// An input caused a lot of work.
    Worked {
        /// The number of datagrams sent.
        sent: u32,
        /// The number of events passed to the application.
        told: u32,
    },
}

/// A node's progress in its installed ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The ring.
    pub ring: RingId,
    /// The number up to which every frame was received.
    pub aru: Seq,
    /// The highest number received.
    pub high: Seq,
    /// The number up to which every frame was delivered.
    pub delivered: Seq,
}

/// A node's memory use, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holds {
    /// Frames of its rings.
    pub frames: usize,
    /// Messages that wait for the token.
    pub queued: usize,
    /// Events that the application has not taken.
    pub unread: usize,
    /// The number of datagrams that wait for the disk.
    pub unsent: usize,
    /// Whether the node is operational and has delivered everything received of its ring.
    pub all_delivered: bool,
}

/// A frame without its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The ring that numbered it.
    pub ring: RingId,
    /// Its number in that ring.
    pub seq: Seq,
    /// The node that numbered it.
    pub from: NodeId,
    /// The guarantee of the messages that end in it.
    pub guarantee: Guarantee,
    /// Whether it carries a frame of an old ring.
    pub encapsulated: bool,
    /// The length and hash of the entire frame.
    pub content: Content,
}

impl Frame {
    pub(crate) fn of(frame: &Multicast) -> Self {
        Self {
            ring: frame.ring,
            seq: frame.seq,
            from: frame.from,
            guarantee: frame.guarantee,
            encapsulated: frame.encapsulated,
            content: Content::of(&frame.raw),
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let carrier = if self.encapsulated { "carrier " } else { "" };
        write!(f, "{carrier}{} of {} of {}, {}", self.seq, self.ring, self.from, self.guarantee)
    }
}

fn token(f: &mut fmt::Formatter<'_>, token: &Token) -> fmt::Result {
    let Token { seq, token_seq, aru, aru_addr, ring, backlog, fcc, retrans_flg, rtr, .. } = token;
    write!(f, "{token_seq} of {ring}: seq {seq}, aru {aru}")?;
    aru_addr.iter().try_for_each(|node| write!(f, " by {node}"))?;
    write!(f, ", backlog {backlog}, fcc {fcc}")?;
    if *retrans_flg {
        f.write_str(", recovering")?;
    }
    if rtr.is_empty() {
        return Ok(());
    }
    let wanted: Vec<String> = rtr.iter().map(|entry| entry.seq.to_string()).collect();
    write!(f, ", wanted {}", wanted.join(" "))
}

fn brief(term: &Term) -> String {
    format!("{:x}.{}.{}", term.ring_seq, term.hand_over, term.node)
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase { from, to, ring, .. } => {
                let Standing { ring, aru, high, delivered } = ring;
                write!(f, "{from} to {to}, {delivered}/{aru}/{high} of {ring}")
            }
            Self::LeaseOn(term) => write!(f, "lease on, term {}", brief(term)),
            Self::LeaseOff { term, since } => {
                write!(f, "lease off since {:.3} s, term {}", since.as_secs_f64(), brief(term))
            }
            Self::Released(Ok(until)) => {
                write!(f, "gives up the role; its lease would be on until {:.3} s", until.as_secs_f64())
            }
            Self::Released(Err(why)) => write!(f, "is asked to give up the role, but does not: {why}"),
            Self::Acts(term) => write!(f, "acts under term {}", brief(term)),
            Self::Landed { term, accepted, timely } => {
                let accepted = if *accepted { "accepted" } else { "refused" };
                let late = if *timely { "" } else { ", and late" };
                write!(f, "an act under term {} is {accepted}{late}", brief(term))
            }
            Self::Asked { ring, quorate, lease, silent } => {
                let ring = ring.map_or_else(|| "none".to_owned(), |ring| ring.to_string());
                let quorate = if *quorate { "quorate" } else { "not quorate" };
                write!(f, "is asked: ring {ring}, {quorate}, lease {lease:?}, after {silent:?} of silence")
            }
            Self::Unaware => f.write_str("answers with a status that it has not reported"),
            Self::NoTimer => f.write_str("has no timer"),
            Self::Woken => f.write_str("is asked for the token"),
            Self::Holds(Holds { frames, queued, unread, unsent, .. }) => write!(
                f,
                "holds frames of {frames} bytes, {queued} to send, {unread} to be read, {unsent} datagrams"
            ),
            Self::Worked { sent, told } => write!(f, "sent {sent} datagrams and {told} events at once"),
            Self::Numbered(frame) => write!(f, "numbered {frame}"),
            Self::Received(frame) => write!(f, "received {frame}"),
            Self::Resent(frame) => write!(f, "sent again {frame}"),
            Self::Limits { ring, window, visit } => {
                write!(f, "{window} frames a rotation, {visit} a visit, in {ring}")
            }
            Self::Stable { ring, safe, released } => {
                write!(f, "stable in {ring} up to {safe}, released up to {released}")
            }
            Self::Token(accepted) => {
                f.write_str("token ")?;
                token(f, accepted)
            }
            Self::TokenSent { to, token: sent } => {
                write!(f, "token to {to} ")?;
                token(f, sent)
            }
            Self::CommitSent { to, token } => {
                let CommitToken { ring, members, entries, .. } = &**token;
                write!(f, "commit token to {to} for {ring} of {members:?}, entries")?;
                entries.iter().try_for_each(|entry| {
                    let (aru, delivered) = (entry.aru, entry.high_delivered);
                    write!(f, " {}:{aru}:{delivered}:{}", entry.ring, u8::from(entry.received))
                })
            }
            Self::JoinSent(join) => {
                let Join { leave, ring_seq, proc, failed, .. } = &**join;
                let what = if *leave { "leave" } else { "join" };
                write!(f, "{what} {proc:?} without {failed:?}, ring sequence {ring_seq:x}")
            }
            Self::Persist(stored) => write!(f, "stores {:x}, start {}", stored.ring_seq, stored.boots),
            Self::Persisted(stored) => write!(f, "has stored {:x}, start {}", stored.ring_seq, stored.boots),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => write!(f, "started"),
            Self::Crashed => write!(f, "crashed"),
            Self::Panicked => write!(f, "panicked"),
            Self::Accepted { message, group, guarantee, content } => {
                write!(f, "accepted {message} for {group}, {guarantee}, {content}")
            }
            Self::Transitional(Transitional { ring, previous, members, left }) => {
                write!(f, "transitional {previous} to {ring}, members {members:?}, left {left:?}")
            }
            Self::Regular(regular) => {
                let Regular { ring, members, joined, left, .. } = regular;
                write!(f, "regular {ring}, members {members:?}, joined {joined:?}, left {left:?}: ")?;
                f.write_str(&regular.why())
            }
            Self::Synced(ring) => write!(f, "synced {ring}"),
            Self::GroupChange(change) => write!(f, "{change}"),
            Self::Delivered(Delivered { message, ring, seq, from, group, guarantee, content, .. }) => {
                match message {
                    Some(message) => write!(f, "delivered {message}")?,
                    None => write!(f, "delivered an unknown message")?,
                }
                write!(f, " of {from} to {group} at {seq} of {ring}, {guarantee}, {content}")
            }
            Self::Status(status) => {
                let ring = status.ring.map_or_else(|| "none".to_owned(), |ring| ring.to_string());
                write!(f, "status of {ring}: ")?;
                match (&status.inquorate, status.dc) {
                    (Some(why), _) => write!(f, "not quorate, {why}")?,
                    (None, _) => write!(f, "quorate, {} votes", status.total_votes)?,
                }
                match (status.dc, status.term) {
                    (Some(dc), Some(term)) => {
                        write!(f, ", dc {dc}, term {}.{}", term.ring_seq, term.hand_over)?;
                    }
                    (Some(dc), None) => write!(f, ", dc {dc} without a term")?,
                    (None, _) => write!(f, ", no dc")?,
                }
                if let Some(why) = &status.vacant {
                    write!(f, ": {why}")?;
                }
                match status.lease {
                    Lease::None => Ok(()),
                    Lease::Waiting => write!(f, ", waits to act"),
                    Lease::Held => write!(f, ", may act"),
                }
            }
            Self::Stalled(length) => write!(f, "was paused for {} ms", length.as_millis()),
            Self::Hung(true) => write!(f, "finds that its application hangs"),
            Self::Hung(false) => write!(f, "finds that its application is alive again"),
            Self::Left(cause) => write!(f, "left: {cause}"),
            Self::Network(fault) => write!(f, "{fault}"),
            Self::Inside(inside) => write!(f, "{inside}"),
        }
    }
}

/// One line of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The time since the start of the simulation.
    pub at: Duration,
    /// The life to which it happened. `None`: the network.
    pub life: Option<Life>,
    /// The event.
    pub what: What,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} ", self.at.as_secs_f64())?;
        match self.life {
            Some(life) => write!(f, "{:<5} {}", life.to_string(), self.what),
            None => write!(f, "{:<5} {}", "-", self.what),
        }
    }
}
