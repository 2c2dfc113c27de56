//! What each node saw, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use quorate_election::{Lease, ReleaseError, Status, Term};
use quorate_membership::wire::{CommitToken, Join, Multicast, Token};
use quorate_membership::{
    Cause, Destination, Group, GroupChange, Guarantee, NodeId, Phase, Regular, RingId, Seq, Stored,
    Transitional, Transmit,
};

use crate::{Electorate, Fault};

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
        Self { length: payload.len(), hash: hash.0 }
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
            Self::Delivered(Delivered { message, ring, seq, from, group, guarantee, content }) => {
                match message {
                    Some(message) => write!(f, "delivered {message}")?,
                    None => write!(f, "delivered a message of nobody's")?,
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

/// All that happened in a run, in the order of simulated time; prints as lines of text.
#[derive(Clone, Default)]
pub struct History {
    nodes: BTreeSet<NodeId>,
    electorate: Box<Electorate>,
    records: Vec<Record>,
    ended_at: Duration,
    datagrams: u64,
    hash: Fingerprint,
}

impl History {
    /// An empty history of these nodes, each with one vote.
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Self { nodes: nodes.into_iter().collect(), ..Self::default() }
    }

    /// The same of a cluster whose votes count so.
    #[must_use]
    pub fn of(mut self, electorate: Electorate) -> Self {
        *self.electorate = electorate;
        self
    }

    /// Adds what happened at this time, which is not before the time of any other record.
    pub fn record(&mut self, at: Duration, life: impl Into<Option<Life>>, what: What) {
        let record = Record { at, life: life.into(), what };
        self.hash.record(&record);
        self.records.push(record);
        self.ended_at = self.ended_at.max(at);
    }

    /// Counts a record in the [fingerprint](Self::fingerprint) without keeping it.
    pub(crate) fn pass(&mut self, record: &Record) {
        self.hash.record(record);
        self.ended_at = self.ended_at.max(record.at);
    }

    /// Keeps a record that was counted already.
    pub(crate) fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Takes note of a datagram that was sent. It is counted in the [fingerprint](Self::fingerprint), and not kept.
    pub fn sent(&mut self, at: Duration, life: Life, transmit: &Transmit) {
        self.datagrams += 1;
        let to = match transmit.to {
            Destination::Everyone => 0,
            Destination::Member(node) => node.get(),
        };
        self.hash.number(at.as_micros() as u64);
        self.hash.number(u64::from(life.node.get()) << 32 | u64::from(to));
        self.hash.add(&transmit.datagram);
    }

    /// The run went on until then.
    pub fn end(&mut self, at: Duration) {
        self.ended_at = self.ended_at.max(at);
    }

    /// All nodes of the cluster, started or not.
    pub fn nodes(&self) -> &BTreeSet<NodeId> {
        &self.nodes
    }

    /// The cluster's votes, and how they count.
    pub fn electorate(&self) -> &Electorate {
        &self.electorate
    }

    /// The records, ascending by time.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// When the run ended.
    pub fn ended_at(&self) -> Duration {
        self.ended_at
    }

    /// Datagrams that were sent, a multicast counted once.
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// A hash of every line and of every byte that was sent, and when: equal for two runs only if they were the same.
    pub fn fingerprint(&self) -> u64 {
        self.hash.0
    }

    /// The records of each life.
    pub fn lives(&self) -> BTreeMap<Life, Vec<&Record>> {
        let mut lives: BTreeMap<Life, Vec<&Record>> = BTreeMap::new();
        for record in &self.records {
            if let Some(life) = record.life {
                lives.entry(life).or_default().push(record);
            }
        }
        lives
    }

    /// The stays in rings of each life, in order.
    pub fn stays(&self) -> BTreeMap<Life, Vec<Stay<'_>>> {
        self.lives().into_iter().map(|(life, records)| (life, Stay::all(&records))).collect()
    }

    /// The statuses of all lives, ascending by time, each with the regular configuration it was given in.
    pub fn statuses(&self) -> Vec<Stated<'_>> {
        let mut rings: BTreeMap<Life, &Regular> = BTreeMap::new();
        let mut all = Vec::new();
        for record in &self.records {
            let Some(life) = record.life else { continue };
            match &record.what {
                What::Regular(regular) => drop(rings.insert(life, regular)),
                What::Left(_) => drop(rings.remove(&life)),
                What::Status(status) => {
                    all.push(Stated { at: record.at, life, regular: rings.get(&life).copied(), status });
                }
                _ => {}
            }
        }
        all
    }

    /// What a node's application knew at this time: the latest status; `None` if it was down or had none yet.
    pub fn status(&self, node: u32, at: Duration) -> Option<&Status> {
        let until = self.records.partition_point(|record| record.at <= at);
        let records = self.records.iter().take(until).rev();
        let of_node = records.filter(|record| record.life.is_some_and(|life| life.node.get() == node));
        for record in of_node {
            match &record.what {
                What::Status(status) => return Some(status),
                What::Started | What::Crashed | What::Panicked => return None,
                _ => {}
            }
        }
        None
    }

    /// The messages delivered to a node, in order, over all its lives.
    pub fn delivered(&self, node: u32) -> Vec<&Delivered> {
        let of_node =
            self.records.iter().filter(|record| record.life.is_some_and(|life| life.node.get() == node));
        of_node
            .filter_map(|record| match &record.what {
                What::Delivered(delivered) => Some(delivered),
                _ => None,
            })
            .collect()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.records.iter().try_for_each(|record| writeln!(f, "{record}"))
    }
}

/// As text, for a failed test prints it.
impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A node's stay in one ring: its regular configuration and the transitional one that ends it. A history that is not
/// of this shape (S6) is read as far as it is.
#[derive(Debug)]
pub struct Stay<'a> {
    /// When the ring was installed.
    pub since: Duration,
    /// When the last thing happened in it.
    pub until: Duration,
    /// The ring.
    pub regular: &'a Regular,
    /// When the members had exchanged what they say of themselves.
    pub synced_at: Option<Duration>,
    /// What was delivered in the regular configuration.
    pub in_regular: Vec<&'a Delivered>,
    /// How it ended, if it did.
    pub transitional: Option<&'a Transitional>,
    /// What was delivered in the transitional configuration.
    pub in_transitional: Vec<&'a Delivered>,
    /// The ring that was installed next.
    pub next: Option<RingId>,
}

/// A status and where it was given.
#[derive(Clone, Copy, Debug)]
pub struct Stated<'a> {
    /// When.
    pub at: Duration,
    /// To whom.
    pub life: Life,
    /// The regular configuration at this point, if there was one.
    pub regular: Option<&'a Regular>,
    /// What it said.
    pub status: &'a Status,
}

impl<'a> Stay<'a> {
    fn all(records: &[&'a Record]) -> Vec<Self> {
        let mut stays: Vec<Self> = Vec::new();
        for record in records {
            if let What::Regular(regular) = &record.what {
                if let Some(last) = stays.last_mut() {
                    last.next = Some(regular.ring);
                }
                stays.push(Self {
                    since: record.at,
                    until: record.at,
                    regular,
                    synced_at: None,
                    in_regular: Vec::new(),
                    transitional: None,
                    in_transitional: Vec::new(),
                    next: None,
                });
            }
            let Some(stay) = stays.last_mut() else { continue };
            stay.until = record.at;
            match &record.what {
                What::Synced(ring) if *ring == stay.regular.ring => stay.synced_at = Some(record.at),
                What::Transitional(transitional) => stay.transitional = Some(transitional),
                What::Delivered(delivered) if stay.transitional.is_some() => {
                    stay.in_transitional.push(delivered);
                }
                What::Delivered(delivered) => stay.in_regular.push(delivered),
                _ => {}
            }
        }
        stays
    }
}

/// A hash of 64 bits, the same everywhere and for ever: FNV-1a by words of eight bytes, each folded so that its high
/// bits count.
#[derive(Clone)]
struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    fn number(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }

    fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last));
        self.number(bytes.len() as u64);
    }

    /// The most frequent ones by their numbers, the others as they print.
    fn record(&mut self, record: &Record) {
        self.number(record.at.as_micros() as u64);
        if let Some(life) = record.life {
            self.number(u64::from(life.node.get()) << 32 | u64::from(life.start));
        }
        match &record.what {
            What::Delivered(Delivered { message, ring, seq, from, group, guarantee, content }) => {
                let message = message.map_or(0, |message| message.number);
                let place = u64::from(seq.get()) << 1 | u64::from(*guarantee == Guarantee::Safe);
                let representative = u64::from(ring.representative.get()) << 32 | u64::from(from.get());
                [1, message, place, ring.seq, representative, content.hash]
                    .into_iter()
                    .for_each(|number| self.number(number));
                self.add(group.as_bytes());
            }
            What::Accepted { message, content, .. } => {
                [2, message.number, content.hash].into_iter().for_each(|number| self.number(number));
            }
            // What the bytes sent and the other lines follow from.
            What::Inside(Inside::Received(frame) | Inside::Numbered(frame) | Inside::Resent(frame)) => {
                [3, frame.seq.get().into(), frame.ring.seq]
                    .into_iter()
                    .for_each(|number| self.number(number));
            }
            What::Inside(Inside::Token(token) | Inside::TokenSent { token, .. }) => {
                [4, token.token_seq.get().into(), token.ring.seq]
                    .into_iter()
                    .for_each(|number| self.number(number));
            }
            What::Inside(Inside::Holds(holds)) => {
                [6, holds.frames as u64, holds.queued as u64, holds.unread as u64]
                    .into_iter()
                    .for_each(|number| self.number(number));
            }
            What::Inside(Inside::Stable { safe, released, .. }) => {
                [5, safe.get().into(), released.get().into()]
                    .into_iter()
                    .for_each(|number| self.number(number));
            }
            what => {
                let _ = write!(self, "{what}");
            }
        }
    }
}

impl Write for Fingerprint {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(node: u32, start: u32) -> Life {
        Life { node: NodeId::new(node).unwrap(), start }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_history_prints_as_lines() {
        let mut history = History::new([life(2, 1).node]);
        history.record(ms(0), life(2, 1), What::Started);
        history.record(ms(1250), None, What::Network(Fault::Partition(vec![vec![1, 2], vec![3]])));
        history.record(ms(1251), life(2, 1), What::Synced("1.8".parse().unwrap()));
        assert_eq!(
            history.to_string(),
            "    0.000 2#1   started\n    1.250 -     partition [1, 2] | [3]\n    1.251 2#1   synced 1.8\n"
        );
    }

    #[test]
    fn the_fingerprint_is_of_every_line_and_every_byte_sent() {
        let base = || {
            let mut history = History::new([life(1, 1).node]);
            history.record(ms(1), life(1, 1), What::Started);
            history
        };
        let send = |byte: u8, at| {
            let mut history = base();
            let transmit = Transmit { to: Destination::Everyone, datagram: Bytes::from(vec![byte]) };
            history.sent(ms(at), life(1, 1), &transmit);
            history.fingerprint()
        };
        let mut longer = base();
        longer.record(ms(1), life(1, 1), What::Crashed);
        let all = [base().fingerprint(), longer.fingerprint(), send(0, 1), send(1, 1), send(0, 2)];
        assert_eq!(BTreeSet::from(all).len(), all.len());
        assert_eq!(base().fingerprint(), base().fingerprint());
    }

    #[test]
    fn a_node_that_is_down_has_no_status() {
        let mut history = History::new([life(1, 1).node]);
        history.record(ms(0), life(1, 1), What::Started);
        history.record(ms(10), life(1, 1), What::Status(Box::default()));
        history.record(ms(20), life(1, 1), What::Crashed);
        history.record(ms(30), life(1, 2), What::Started);
        let known = |at| history.status(1, ms(at)).is_some();
        assert_eq!([5, 10, 19, 20, 30].map(known), [false, true, true, false, false]);
        assert!(history.status(2, ms(10)).is_none());
    }
}
