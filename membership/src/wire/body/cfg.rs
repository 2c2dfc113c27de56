//! cfg: requests of one node's operator to all members.
//!
//! Service 1:
//!
//! | fn | message             | size | off | field |
//! |---:|---------------------|-----:|----:|-------|
//! |  0 | ring re-enable      |   32 |  16 | source: node (4), @24 connection (8) |
//! |  1 | kill node           |  288 |  16 | node (4) |
//! |    |                     |      |  24 | length of the reason (2), @32 reason\[256\] |
//! |  2 | shutdown            |   16 |     | |
//! |  3 | reload              |   32 |  16 | source: node (4), @24 connection (8) |
//! |  4 | crypto reconfigure  |   24 |  16 | phase (4) |

use bytes::Bytes;

use super::{Body, HEADER, fill, header, id, padded, read_padded};
use crate::wire::order::{Reader, capped};
use crate::{NodeId, Refusal};

const SERVICE: u16 = 1;

pub(super) const RING_REENABLE: u32 = id(SERVICE, 0);
pub(super) const KILL_NODE: u32 = id(SERVICE, 1);
pub(super) const SHUTDOWN: u32 = id(SERVICE, 2);
pub(super) const RELOAD: u32 = id(SERVICE, 3);
pub(super) const CRYPTO_RECONFIGURE: u32 = id(SERVICE, 4);

const KILL_REASON: usize = 256;

/// The client on whose request a member sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// The member's node id, as it gives it.
    pub node: u32,
    /// The member's connection to the client. It has no meaning for other nodes.
    pub connection: u64,
}

impl Source {
    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, Refusal> {
        reader.exactly(16)?;
        Ok(Self { node: read_padded(&mut reader)?, connection: reader.u64()? })
    }

    pub(super) fn write(&self, id: u32) -> Bytes {
        let mut writer = header(id, 32);
        padded(&mut writer, self.node);
        writer.u64(self.connection);
        writer.finish()
    }
}

pub(super) fn read_kill_node(mut reader: Reader<'_>, body: &Bytes) -> Result<Body, Refusal> {
    reader.exactly(272)?;
    let node = reader.node()?;
    reader.bytes(4)?;
    let length = usize::from(reader.u16()?);
    reader.bytes(6)?;
    Ok(Body::KillNode { node, reason: body.slice_ref(reader.bytes(length)?) })
}

pub(super) fn write_kill_node(node: NodeId, reason: &[u8]) -> Bytes {
    let reason = capped(reason, KILL_REASON);
    let mut writer = header(KILL_NODE, 288);
    padded(&mut writer, node.get());
    writer.short_count(reason.len());
    writer.zeros(6);
    writer.bytes(reason);
    fill(writer, 288)
}

pub(super) fn read_shutdown(reader: Reader<'_>) -> Result<Body, Refusal> {
    reader.exactly(0)?;
    Ok(Body::Shutdown)
}

pub(super) fn write_shutdown() -> Bytes {
    header(SHUTDOWN, HEADER).finish()
}

pub(super) fn read_crypto_reconfigure(mut reader: Reader<'_>) -> Result<Body, Refusal> {
    reader.exactly(8)?;
    Ok(Body::CryptoReconfigure { phase: reader.u32()? })
}

pub(super) fn write_crypto_reconfigure(phase: u32) -> Bytes {
    let mut writer = header(CRYPTO_RECONFIGURE, 24);
    padded(&mut writer, phase);
    writer.finish()
}
