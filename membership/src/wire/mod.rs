//! Totem's messages as bytes, compatible with corosync 3.1 over `transport: udp` without crypto.
//!
//! [`decode`] is total: any bytes give a value or a [`Refusal`], in time and memory bounded by the datagram. Both
//! byte orders are read; the magic number tells which. What decodes encodes to the same bytes again, the target id of
//! the header aside, which corosync never sets.

mod order;
// token, mcast, join, commit, probe: one file a layout, each headed by its table of offsets
pub mod body;
pub mod packing;

pub use order::Order;

use bytes::Bytes;

use crate::{Guarantee, NodeId, Refusal, RingId, Seq};

/// One datagram's message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// The ring's token ("ORF token").
    Token(Token),
    /// An ordered frame.
    Multicast(Multicast),
    /// The probe by which rings find each other.
    MergeDetect(MergeDetect),
    /// The wish to form a ring, or to leave.
    Join(Join),
    /// The token that forms a ring.
    Commit(CommitToken),
    /// The wish that the representative lets go of the token it holds.
    HoldCancel(HoldCancel),
}

/// The ring's token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// Who forwarded it last.
    pub from: NodeId,
    /// The highest sequence number assigned on the ring.
    pub seq: Seq,
    /// The number of this hop.
    pub token_seq: Seq,
    /// All received up to here, as far as the token knows.
    pub aru: Seq,
    /// Who lowered `aru`.
    pub aru_addr: Option<NodeId>,
    /// The ring.
    pub ring: RingId,
    /// The sum of the members' queued frames.
    pub backlog: u32,
    /// Frames sent by all in the last rotation.
    pub fcc: u32,
    /// Somebody still has messages to recover.
    pub retrans_flg: bool,
    /// What members miss, at most [`Token::MAX_RTR`] entries.
    pub rtr: Vec<RtrEntry>,
}

impl Token {
    /// The longest retransmit list: longer ones corrupt memory in corosync 3.1.7.
    pub const MAX_RTR: usize = 30;
}

/// A missing message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtrEntry {
    /// The ring it belongs to.
    pub ring: RingId,
    /// Its number.
    pub seq: Seq,
}

/// An ordered frame: a packet of packed messages or, while a ring is recovered, a whole frame of the old ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Multicast {
    /// The originator, also in a retransmission.
    pub from: NodeId,
    /// Its number on the ring.
    pub seq: Seq,
    /// How many frames its originator had sent before it since it started; informational.
    pub this_seqno: u32,
    /// The ring.
    pub ring: RingId,
    /// The guarantee of the messages that end in it.
    pub guarantee: Guarantee,
    /// Whether `payload` is a frame of an old ring.
    pub encapsulated: bool,
    /// What it carries.
    pub payload: Bytes,
    /// The whole datagram as it was received or sent: a retransmission sends these very bytes.
    pub raw: Bytes,
}

impl Multicast {
    /// Length of the header before the payload.
    pub const HEADER: usize = 45;
}

/// A probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MergeDetect {
    /// Its sender.
    pub from: NodeId,
    /// The sender's ring.
    pub ring: RingId,
}

/// A JOIN, or a LEAVE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Join {
    /// Its sender.
    pub from: NodeId,
    /// Whether the sender leaves; `from` is then the last of `failed`.
    pub leave: bool,
    /// The highest ring sequence number the sender has taken part in.
    pub ring_seq: u64,
    /// The nodes considered for the new ring.
    pub proc: Vec<NodeId>,
    /// Those of them considered failed.
    pub failed: Vec<NodeId>,
}

impl Join {
    /// The longest list of either kind.
    pub const MAX_NODES: usize = 384;
}

/// The token that forms a ring: its first rotation collects the entries, its second shows them to all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitToken {
    /// Who forwarded it last.
    pub from: NodeId,
    /// The number of this hop; nobody checks it.
    pub token_seq: u32,
    /// The ring to be formed.
    pub ring: RingId,
    /// Its members, ascending: the order of the ring.
    pub members: Vec<NodeId>,
    /// What the first of them have said, in the same order; complete when it is as long as `members`.
    pub entries: Vec<CommitEntry>,
}

/// What a member says of itself in the commit token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitEntry {
    /// The last ring it installed.
    pub ring: RingId,
    /// It has received all of that ring's messages up to here.
    pub aru: Seq,
    /// It has delivered them up to here.
    pub high_delivered: Seq,
    /// It misses none that it knows of.
    pub received: bool,
}

/// The wish that a held token goes round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HoldCancel {
    /// Its sender.
    pub from: NodeId,
    /// The ring.
    pub ring: RingId,
}

/// Reads a datagram.
///
/// # Errors
/// The reason, if it is not a well-formed Totem message.
pub fn decode(datagram: &Bytes) -> Result<Message, Refusal> {
    let _ = datagram;
    unimplemented!()
}

/// Writes a message in the given byte order. Encoding a [`Multicast`] writes its fields, not its `raw` bytes.
pub fn encode(message: &Message, order: Order) -> Bytes {
    let _ = (message, order);
    unimplemented!()
}

/// Who claims to have sent this datagram itself, as far as its first bytes tell: the sender of a token, a commit
/// token, a JOIN or LEAVE, a probe, a hold cancel; not of a frame, which others send again.
///
/// For transports, which learn addresses from JOINs (`true`) before anything is decoded in full.
pub fn claimed_sender(datagram: &[u8]) -> Option<(NodeId, bool)> {
    let _ = datagram;
    unimplemented!()
}
