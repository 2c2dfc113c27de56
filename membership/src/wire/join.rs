//! JOIN and LEAVE, multicast, 33 bytes and 4 for each node named.
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |   13 | header, type 3; node: the sender, or 0 in a LEAVE |
//! |  13 |    4 | system_from: the sender |
//! |  17 |    4 | length p of the proc list, at most 384 |
//! |  21 |    4 | length f of the failed list, at most 384 |
//! |  25 |    8 | ring_seq |
//! |  33 |  4 p | proc list: node ids in any order |
//! |  .. |  4 f | failed list; a LEAVE has the sender in it, by convention as the last |
//!
//! The sender's announcement may follow ([`announced`](super::announced)).

use bytes::Bytes;

use super::order::{Order, Reader, Writer, capped};
use super::{Header, kind};
use crate::{NodeId, Refusal};

const FIXED: usize = 33;
const ENTRY: usize = 4;

/// Returns the length of a JOIN by its counts, header included.
pub(super) fn length(mut body: Reader<'_>) -> Result<usize, Refusal> {
    body.node()?;
    let considered = body.count(Join::MAX_NODES)?;
    let failed = body.count(Join::MAX_NODES)?;
    Ok(considered.saturating_add(failed).saturating_mul(ENTRY).saturating_add(FIXED))
}

/// A JOIN, or a LEAVE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Join {
    /// The sender.
    pub from: NodeId,
    /// Whether the sender leaves. `from` is then among `failed`, by convention as the last.
    pub leave: bool,
    /// The highest ring sequence number in which the sender has taken part.
    pub ring_seq: u64,
    /// The nodes considered for the new ring.
    pub proc: Vec<NodeId>,
    /// The nodes among `proc` that are considered failed.
    pub failed: Vec<NodeId>,
}

impl Join {
    /// The longest list of either kind. Further nodes are not written.
    pub const MAX_NODES: usize = 384;

    pub(super) fn read(header: Header, mut body: Reader<'_>) -> Result<Self, Refusal> {
        header.not_encapsulated()?;
        let from = body.node()?;
        let leave = header.node == 0;
        if !leave {
            header.same_node(from.get())?;
        }
        let considered = body.count(Self::MAX_NODES)?;
        let failed = body.count(Self::MAX_NODES)?;
        let ring_seq = body.u64()?;
        body.exactly_or_announced(considered.saturating_add(failed).saturating_mul(ENTRY))?;
        let proc = body.list(considered, Reader::node)?;
        let failed = body.list(failed, Reader::node)?;
        if leave && !failed.contains(&from) {
            return Err(Refusal::Field);
        }
        Ok(Self { from, leave, ring_seq, proc, failed })
    }

    pub(super) fn write(&self, order: Order) -> Bytes {
        let proc = capped(&self.proc, Self::MAX_NODES);
        let failed = capped(&self.failed, Self::MAX_NODES);
        let nodes = proc.len().saturating_add(failed.len());
        let mut writer = Writer::new(nodes.saturating_mul(ENTRY).saturating_add(FIXED), order);
        let node = if self.leave { 0 } else { self.from.get() };
        Header { kind: kind::JOIN, encapsulated: 0, node }.write(&mut writer);
        writer.node(self.from);
        writer.count(proc.len());
        writer.count(failed.len());
        writer.u64(self.ring_seq);
        for node in proc.iter().chain(failed) {
            writer.node(*node);
        }
        writer.finish()
    }
}
