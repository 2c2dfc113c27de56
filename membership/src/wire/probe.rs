//! The two small multicasts: the probe with which rings find each other, and the request for a held
//! token.
//!
//! Merge detect, 29 bytes:
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |   13 | header, type 2 |
//! |  13 |    4 | system_from: the sender again |
//! |  17 |   12 | ring id |
//!
//! The sender's announcement may follow ([`announced`](super::announced)).
//!
//! Hold cancel, 25 bytes:
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |   13 | header, type 5 |
//! |  13 |   12 | ring id |

use bytes::Bytes;

use super::order::{Order, Reader, Writer};
use super::{Header, kind};
use crate::{NodeId, Refusal, RingId};

pub(super) const MERGE_DETECT: usize = 29;
const HOLD_CANCEL: usize = 25;

/// A probe for other rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MergeDetect {
    /// The sender.
    pub from: NodeId,
    /// The sender's ring.
    pub ring: RingId,
}

impl MergeDetect {
    pub(super) fn read(header: Header, mut body: Reader<'_>) -> Result<Self, Refusal> {
        header.not_encapsulated()?;
        let from = header.node()?;
        header.same_node(body.u32()?)?;
        let ring = body.ring()?;
        body.exactly_or_announced(0)?;
        Ok(Self { from, ring })
    }

    pub(super) fn write(&self, order: Order) -> Bytes {
        let mut writer = Writer::new(MERGE_DETECT, order);
        Header::plain(kind::MERGE_DETECT, self.from).write(&mut writer);
        writer.node(self.from);
        writer.ring(self.ring);
        writer.finish()
    }
}

/// A request to pass on a held token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HoldCancel {
    /// The sender.
    pub from: NodeId,
    /// The ring.
    pub ring: RingId,
}

impl HoldCancel {
    pub(super) fn read(header: Header, mut body: Reader<'_>) -> Result<Self, Refusal> {
        header.not_encapsulated()?;
        let from = header.node()?;
        let ring = body.ring()?;
        body.exactly(0)?;
        Ok(Self { from, ring })
    }

    pub(super) fn write(&self, order: Order) -> Bytes {
        let mut writer = Writer::new(HOLD_CANCEL, order);
        Header::plain(kind::HOLD_CANCEL, self.from).write(&mut writer);
        writer.ring(self.ring);
        writer.finish()
    }
}
