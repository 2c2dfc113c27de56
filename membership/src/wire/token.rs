//! The ring's token (corosync: "ORF token"), unicast, 57 bytes and 16 for each missing message.
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |   13 | header, type 0 |
//! |  13 |    4 | seq |
//! |  17 |    4 | token_seq |
//! |  21 |    4 | aru |
//! |  25 |    4 | aru_addr: a node id, or 0 for none |
//! |  29 |   12 | ring id |
//! |  41 |    4 | backlog |
//! |  45 |    4 | fcc |
//! |  49 |    4 | retrans_flg: 0 or 1 |
//! |  53 |    4 | number of entries, at most 30 |
//! |  57 | 16 n | the entries: ring id (12), seq (4) |

use bytes::Bytes;

use super::order::{Order, Reader, Writer, capped};
use super::{Header, kind};
use crate::{NodeId, Refusal, RingId, Seq};

const FIXED: usize = 57;
const ENTRY: usize = 16;

/// The ring's token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// The node that forwarded it last.
    pub from: NodeId,
    /// The highest sequence number assigned on the ring.
    pub seq: Seq,
    /// The number of this hop.
    pub token_seq: Seq,
    /// The number up to which all members are known to have received all frames.
    pub aru: Seq,
    /// The node that lowered `aru`.
    pub aru_addr: Option<NodeId>,
    /// The ring.
    pub ring: RingId,
    /// The sum of the members' queued frames.
    pub backlog: u32,
    /// The number of frames sent by all members in the last rotation.
    pub fcc: u32,
    /// Whether a member still has messages to recover.
    pub retrans_flg: bool,
    /// Frames that members miss, at most [`Token::MAX_RTR`] entries. Further ones are not written.
    pub rtr: Vec<RtrEntry>,
}

impl Token {
    /// The longest retransmit list. Longer ones corrupt memory in corosync 3.1.7.
    pub const MAX_RTR: usize = 30;

    pub(super) fn read(header: Header, mut body: Reader<'_>) -> Result<Self, Refusal> {
        header.not_encapsulated()?;
        let mut token = Self {
            from: header.node()?,
            seq: body.seq()?,
            token_seq: body.seq()?,
            aru: body.seq()?,
            aru_addr: NodeId::new(body.u32()?),
            ring: body.ring()?,
            backlog: body.u32()?,
            fcc: body.u32()?,
            retrans_flg: body.flag()?,
            rtr: Vec::new(),
        };
        let entries = body.count(Self::MAX_RTR)?;
        body.exactly(entries.saturating_mul(ENTRY))?;
        token.rtr = body.list(entries, |entry| Ok(RtrEntry { ring: entry.ring()?, seq: entry.seq()? }))?;
        Ok(token)
    }

    pub(super) fn write(&self, order: Order) -> Bytes {
        let rtr = capped(&self.rtr, Self::MAX_RTR);
        let mut writer = Writer::new(rtr.len().saturating_mul(ENTRY).saturating_add(FIXED), order);
        Header::plain(kind::TOKEN, self.from).write(&mut writer);
        writer.seq(self.seq);
        writer.seq(self.token_seq);
        writer.seq(self.aru);
        writer.u32(self.aru_addr.map_or(0, NodeId::get));
        writer.ring(self.ring);
        writer.u32(self.backlog);
        writer.u32(self.fcc);
        writer.u32(u32::from(self.retrans_flg));
        writer.count(rtr.len());
        for entry in rtr {
            writer.ring(entry.ring);
            writer.seq(entry.seq);
        }
        writer.finish()
    }
}

/// A missing frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtrEntry {
    /// The ring of the frame.
    pub ring: RingId,
    /// The number of the frame.
    pub seq: Seq,
}
