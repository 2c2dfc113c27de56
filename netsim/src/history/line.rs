//! A line of a history: when, to whom, what; and how it prints.

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

/// One life of a node: from a start of its process to the end of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Life {
    /// Whose.
    pub node: NodeId,
    /// Which of its starts, from 1.
    pub start: u32,
}

/// As `node#start`.
impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.start)
    }
}

/// The identity of a message, given to it when its sender's ring accepted it: it travels within the payload, where
/// the protocol does not know of it, so the protocol's own numbers need not be trusted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageId {
    /// Who sent it.
    pub sender: Life,
    /// The sender's messages are numbered from 1.
    pub number: u64,
}

/// As `node#start:number`.
impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sender, self.number)
    }
}

/// The content of a message, as far as a history keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    /// Its length in bytes.
    pub length: usize,
    /// A hash of its bytes.
    pub hash: u64,
}

impl Content {
    /// Of these bytes.
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
    /// Which; `None` if it is no message that was ever accepted.
    pub message: Option<MessageId>,
    /// The ring that ordered it.
    pub ring: RingId,
    /// Its place there.
    pub seq: Seq,
    /// Who sent it, by the protocol's account.
    pub from: NodeId,
    /// The group.
    pub group: Group,
    /// The guarantee it was delivered under.
    pub guarantee: Guarantee,
    /// Whether it was said to come in a transitional configuration.
    pub transitional: bool,
    /// What it said.
    pub content: Content,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// The node started.
    Started,
    /// The node was made to stop dead.
    Crashed,
    /// The node's own code panicked.
    Panicked,
    /// The ring took a message for sending.
    Accepted {
        /// Which.
        message: MessageId,
        /// For whom.
        group: Group,
        /// How.
        guarantee: Guarantee,
        /// What it says.
        content: Content,
    },
    /// A transitional configuration.
    Transitional(Transitional),
    /// A regular configuration.
    Regular(Regular),
    /// The members of the ring have exchanged what they say of themselves.
    Synced(RingId),
    /// Processes joined a group or left it.
    GroupChange(Box<GroupChange>),
    /// A message was delivered.
    Delivered(Delivered),
    /// The election's result.
    Status(Box<Status>),
    /// The node stood still.
    Stalled(Duration),
    /// The node found that its application hangs, or is alive again ([`Dc::set_heartbeat`](quorate_election::Dc::set_heartbeat)).
    Hung(bool),
    /// The node left the ring.
    Left(Cause),
    /// The network changed, or something else went wrong.
    Network(Fault),
    /// What goes on below the application, which only the core engine sees.
    Inside(Inside),
}

/// What goes on in a core, between its inputs and the application. Each line is of the life in whose core it happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inside {
    /// The protocol's state is another one after an input than before it. It may have passed through gather meanwhile,
    /// and a node alone through commit.
    Phase {
        /// Before.
        from: Phase,
        /// After.
        to: Phase,
        /// What there is of the installed ring after it.
        ring: Standing,
        /// When the next timer is due, from now on; `None`: there is none.
        timer: Option<Duration>,
    },
    /// No timer runs any more, and the node has not left.
    NoTimer,
    /// A frame got its number, by this node, and was sent for the first time.
    Numbered(Frame),
    /// A frame of somebody else was taken in that was not there before; what came within another one is a line of its own,
    /// after that of the carrier.
    Received(Frame),
    /// A frame was sent again: this node's own or another's.
    Resent(Frame),
    /// What this node knows to be with all members has grown.
    Stable {
        /// Of which ring: the installed one, or the one that is being recovered.
        ring: RingId,
        /// It may deliver safe messages up to here.
        safe: Seq,
        /// It has given up frames up to here.
        released: Seq,
    },
    /// The members of its ring have agreed on how many frames there may be.
    Limits {
        /// The ring.
        ring: RingId,
        /// In a rotation.
        window: u32,
        /// Of one member at a visit of the token.
        visit: u32,
    },
    /// A token was accepted, as it came: no copy, and of this node's ring.
    Token(Box<Token>),
    /// A token was sent, perhaps again.
    TokenSent {
        /// To whom.
        to: NodeId,
        /// As it was sent.
        token: Box<Token>,
    },
    /// Somebody wants a token that is held (HOLD CANCEL).
    Woken,
    /// A commit token was sent, perhaps again.
    CommitSent {
        /// To whom.
        to: NodeId,
        /// As it was sent.
        token: Box<CommitToken>,
    },
    /// A JOIN or LEAVE was sent.
    JoinSent(Box<Join>),
    /// A record is to be stored.
    Persist(Stored),
    /// A record has been stored.
    Persisted(Stored),
    /// From now on, the node may act as DC.
    LeaseOn(Term),
    /// It may not any more.
    LeaseOff {
        /// Under which term.
        term: Term,
        /// Since when not, by the simulation's clock: a node that stands still does not notice that its lease ends.
        since: Duration,
    },
    /// The node was asked to give up the role of DC: it did, and its lease would have been on until then, by the simulation's
    /// clock; or it did not.
    Released(Result<Duration, ReleaseError>),
    /// The node found that it may act as DC, and is about to.
    Acts(Term),
    /// An act has come to what is acted on, which remembers the highest term and refuses lower ones.
    Landed {
        /// Under which term.
        term: Term,
        /// Whether it was accepted.
        accepted: bool,
        /// Whether the node, by its own clock, may still act then.
        timely: bool,
    },
    /// Somebody asked the node for its status, and was answered this.
    Asked {
        /// The ring.
        ring: Option<RingId>,
        /// Whether it is quorate.
        quorate: bool,
        /// Whether the node may act as DC.
        lease: Lease,
        /// How long the node has had no token of a ring that it had installed, by its own clock, or no ring.
        silent: Duration,
    },
    /// Its application has been told another status than it is answered now, with no timer due.
    Unaware,
    /// What the node keeps; written down once in so many tokens.
    Holds(Holds),
    /// An input made for much work.
    Worked {
        /// Datagrams sent.
        sent: u32,
        /// Events told to the application.
        told: u32,
    },
}

/// How much a node has of its installed ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Which ring.
    pub ring: RingId,
    /// Received up to here.
    pub aru: Seq,
    /// The highest number received.
    pub high: Seq,
    /// Delivered up to here.
    pub delivered: Seq,
}

/// What a node keeps, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holds {
    /// Frames of its rings.
    pub frames: usize,
    /// Messages that wait for the token.
    pub queued: usize,
    /// Events that the application has not taken.
    pub unread: usize,
    /// Datagrams that wait for the disk; how many.
    pub unsent: usize,
    /// Whether all that it has received of a ring that stands is delivered.
    pub all_delivered: bool,
}

/// A frame, by its outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The ring that numbered it.
    pub ring: RingId,
    /// Its number there.
    pub seq: Seq,
    /// Who numbered it.
    pub from: NodeId,
    /// The guarantee of the messages that end in it.
    pub guarantee: Guarantee,
    /// Whether it carries a frame of an old ring.
    pub encapsulated: bool,
    /// Its whole bytes.
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
                write!(f, "gives up the role, its lease would be on until {:.3} s", until.as_secs_f64())
            }
            Self::Released(Err(why)) => write!(f, "is asked to give up the role, and does not: {why}"),
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
            Self::Unaware => f.write_str("answers what it has not told"),
            Self::NoTimer => f.write_str("has no timer"),
            Self::Woken => f.write_str("is asked for the token"),
            Self::Holds(Holds { frames, queued, unread, unsent, .. }) => write!(
                f,
                "holds frames of {frames} bytes, {queued} to send, {unread} to be read, {unsent} datagrams"
            ),
            Self::Worked { sent, told } => write!(f, "sent {sent} datagrams and told {told} events at once"),
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
                    None => write!(f, "delivered a message of no node")?,
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
            Self::Stalled(length) => write!(f, "stood still for {} ms", length.as_millis()),
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
    /// Since the simulation started.
    pub at: Duration,
    /// To whom it happened; `None`: to the network.
    pub life: Option<Life>,
    /// What.
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
