//! The commit token, unicast, 41 bytes and 28 for each member.
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |   13 | header, type 4 |
//! |  13 |    4 | token_seq |
//! |  17 |   12 | ring id of the ring to be formed |
//! |  29 |    4 | retrans_flg: always 0 |
//! |  33 |    4 | memb_index: the number of filled entries |
//! |  37 |    4 | number n of members, 1 to 384 |
//! |  41 |  4 n | the members, ascending |
//! |  .. | 24 n | their entries: old ring id (12), aru, high_delivered, received_flg (0 or 1) |
//!
//! Entries are zero until they are filled.

use bytes::Bytes;

use super::order::{Order, Reader, Writer, capped};
use super::{Header, Join, kind};
use crate::{NodeId, Refusal, RingId, Seq};

const FIXED: usize = 41;
const MEMBER: usize = 4;
const ENTRY: usize = 24;

/// The token that forms a ring. Its first rotation collects the entries, and its second shows them
/// to all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitToken {
    /// The node that forwarded it last.
    pub from: NodeId,
    /// The number of this hop. It is not checked.
    pub token_seq: u32,
    /// The ring to be formed.
    pub ring: RingId,
    /// The ring's members, ascending, which is the order of the ring. At least one, and at most
    /// [`Join::MAX_NODES`].
    pub members: Vec<NodeId>,
    /// The entries of the first members, in the same order. Complete when it is as long as
    /// `members`.
    pub entries: Vec<CommitEntry>,
}

impl CommitToken {
    pub(super) fn read(header: Header, mut body: Reader<'_>) -> Result<Self, Refusal> {
        header.not_encapsulated()?;
        let from = header.node()?;
        let token_seq = body.u32()?;
        let ring = body.ring()?;
        if body.u32()? != 0 {
            return Err(Refusal::Field);
        }
        let filled = body.count(Join::MAX_NODES)?;
        let count = body.count(Join::MAX_NODES)?;
        body.exactly(count.saturating_mul(MEMBER.saturating_add(ENTRY)))?;
        if count == 0 || filled > count {
            return Err(Refusal::Field);
        }
        let members = body.list(count, Reader::node)?;
        if !members.is_sorted_by(|a, b| a < b) || !members.contains(&ring.representative) {
            return Err(Refusal::Field);
        }
        let entries = body.list(filled, CommitEntry::read)?;
        if body.rest().iter().any(|&byte| byte != 0) {
            return Err(Refusal::Field);
        }
        Ok(Self { from, token_seq, ring, members, entries })
    }

    pub(super) fn write(&self, order: Order) -> Bytes {
        let members = capped(&self.members, Join::MAX_NODES);
        let entries = capped(&self.entries, members.len());
        let lists = members.len().saturating_mul(MEMBER.saturating_add(ENTRY));
        let mut writer = Writer::new(lists.saturating_add(FIXED), order);
        Header::plain(kind::COMMIT, self.from).write(&mut writer);
        writer.u32(self.token_seq);
        writer.ring(self.ring);
        writer.u32(0);
        writer.count(entries.len());
        writer.count(members.len());
        for member in members {
            writer.node(*member);
        }
        for entry in entries {
            entry.write(&mut writer);
        }
        writer.zeros(members.len().saturating_sub(entries.len()).saturating_mul(ENTRY));
        writer.finish()
    }
}

/// A member's state in the commit token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitEntry {
    /// The last ring that the member installed.
    pub ring: RingId,
    /// The number up to which the member has received all of that ring's messages.
    pub aru: Seq,
    /// The number up to which the member has delivered them.
    pub high_delivered: Seq,
    /// Whether the member misses no message that it knows of.
    pub received: bool,
}

impl CommitEntry {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            ring: reader.ring()?,
            aru: reader.seq()?,
            high_delivered: reader.seq()?,
            received: reader.flag()?,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer.ring(self.ring);
        writer.seq(self.aru);
        writer.seq(self.high_delivered);
        writer.u32(u32::from(self.received));
    }
}
