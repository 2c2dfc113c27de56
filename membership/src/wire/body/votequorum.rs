//! Messages of votequorum, corosync's vote-counting service.
//!
//! Service 5:
//!
//! | fn | message         | size | off | field |
//! |---:|-----------------|-----:|----:|-------|
//! | 0  | node info       |   32 |  16 | node, votes, expected votes, flags (4 each) |
//! | 1  | reconfigure     |   32 |  16 | node (4), value (4), parameter (1): |
//! |    |                 |      |     | 1 expected votes, 2 votes, 3 cancel wait-for-all |
//! | 2  | qdevice         |  280 |  16 | operation (4): 0 unregister, 1 register; @20 name\[255\] |
//! | 3  | qdevice renamed |  528 |  16 | old name\[255\], new name\[255\] |
//! | 4  | extra           | 24.. |  16 | node (4), length (4), @24 content, padded to 8 |

use bytes::Bytes;

use super::{Body, fill, header, id};
use crate::wire::order::{Reader, Writer, capped};
use crate::{NodeId, Refusal};

const SERVICE: u16 = 5;

pub(super) const NODE_INFO: u32 = id(SERVICE, 0);
pub(super) const RECONFIGURE: u32 = id(SERVICE, 1);
pub(super) const QDEVICE: u32 = id(SERVICE, 2);
pub(super) const QDEVICE_RENAMED: u32 = id(SERVICE, 3);
pub(super) const EXTRA_INFO: u32 = id(SERVICE, 4);

const QDEVICE_NAME: usize = 255;

/// Votequorum NODEINFO, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeInfo {
    /// The node, or `None` for the quorum device.
    pub node: Option<NodeId>,
    /// The node's votes.
    pub votes: u32,
    /// The votes that the node expects in total.
    pub expected_votes: u32,
    /// The node's flags, see [`NodeInfo::QUORATE`] and the others.
    pub flags: u32,
}

impl NodeInfo {
    /// The node is quorate.
    pub const QUORATE: u32 = 1;
    /// The node is leaving.
    pub const LEAVING: u32 = 2;
    /// The node waits for all.
    pub const WAIT_FOR_ALL: u32 = 4;
    /// The node has been alone since it started.
    pub const FIRST: u32 = 8;
    /// A quorum device is registered with the node.
    pub const QDEVICE_REGISTERED: u32 = 16;
    /// The quorum device is alive.
    pub const QDEVICE_ALIVE: u32 = 32;
    /// The quorum device casts its votes.
    pub const QDEVICE_CASTS_VOTE: u32 = 64;
    /// The quorum device's master wins.
    pub const QDEVICE_MASTER_WINS: u32 = 128;

    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, Refusal> {
        reader.exactly(16)?;
        Ok(Self {
            node: NodeId::new(reader.u32()?),
            votes: reader.u32()?,
            expected_votes: reader.u32()?,
            flags: reader.u32()?,
        })
    }

    pub(super) fn write(&self) -> Bytes {
        let mut writer = header(NODE_INFO, 32);
        writer.u32(self.node.map_or(0, NodeId::get));
        writer.u32(self.votes);
        writer.u32(self.expected_votes);
        writer.u32(self.flags);
        writer.finish()
    }
}

/// Votequorum RECONFIGURE, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reconfigure {
    /// The node whose votes are changed.
    pub node: u32,
    /// The new value.
    pub value: u32,
    /// The parameter that is changed.
    pub parameter: VoteParameter,
}

impl Reconfigure {
    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, Refusal> {
        reader.exactly(16)?;
        Ok(Self {
            node: reader.u32()?,
            value: reader.u32()?,
            parameter: VoteParameter::of_code(reader.u8()?)?,
        })
    }

    pub(super) fn write(&self) -> Bytes {
        let mut writer = header(RECONFIGURE, 32);
        writer.u32(self.node);
        writer.u32(self.value);
        writer.u8(self.parameter.code());
        fill(writer, 32)
    }
}

/// The parameter that a [`Reconfigure`] changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoteParameter {
    /// The expected votes of all nodes.
    ExpectedVotes,
    /// The votes of the node.
    Votes,
    /// The node no longer waits for all. The value is ignored.
    CancelWaitForAll,
}

impl VoteParameter {
    fn of_code(code: u8) -> Result<Self, Refusal> {
        match code {
            1 => Ok(Self::ExpectedVotes),
            2 => Ok(Self::Votes),
            3 => Ok(Self::CancelWaitForAll),
            _ => Err(Refusal::Field),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::ExpectedVotes => 1,
            Self::Votes => 2,
            Self::CancelWaitForAll => 3,
        }
    }
}

pub(super) fn read_qdevice(mut reader: Reader<'_>, body: &Bytes) -> Result<Body, Refusal> {
    reader.exactly(264)?;
    Ok(Body::Qdevice { registers: reader.flag()?, name: read_name(&mut reader, body)? })
}

pub(super) fn write_qdevice(registers: bool, name: &[u8]) -> Bytes {
    let mut writer = header(QDEVICE, 280);
    writer.u32(u32::from(registers));
    write_name(&mut writer, name);
    fill(writer, 280)
}

pub(super) fn read_qdevice_renamed(mut reader: Reader<'_>, body: &Bytes) -> Result<Body, Refusal> {
    reader.exactly(512)?;
    Ok(Body::QdeviceRenamed { old: read_name(&mut reader, body)?, new: read_name(&mut reader, body)? })
}

pub(super) fn write_qdevice_renamed(old: &[u8], new: &[u8]) -> Bytes {
    let mut writer = header(QDEVICE_RENAMED, 528);
    write_name(&mut writer, old);
    write_name(&mut writer, new);
    fill(writer, 528)
}

pub(super) fn read_extra_info(mut reader: Reader<'_>, body: &Bytes) -> Result<Body, Refusal> {
    let node = reader.u32()?;
    let length = reader.count(body.len())?;
    let content = body.slice_ref(reader.bytes(length)?);
    if reader.rest().len() < 8 { Ok(Body::ExtraInfo { node, content }) } else { Err(Refusal::TrailingBytes) }
}

pub(super) fn write_extra_info(node: u32, content: &[u8]) -> Bytes {
    let size = content.len().saturating_add(24).next_multiple_of(8);
    let mut writer = header(EXTRA_INFO, size);
    writer.u32(node);
    writer.count(content.len());
    writer.bytes(content);
    fill(writer, size)
}

/// Reads a quorum device's name from its 255-byte field, up to the first NUL.
fn read_name(reader: &mut Reader<'_>, body: &Bytes) -> Result<Bytes, Refusal> {
    let field = reader.bytes(QDEVICE_NAME)?;
    let name = field.split(|&byte| byte == 0).next().unwrap_or(field);
    Ok(body.slice_ref(name))
}

fn write_name(writer: &mut Writer, name: &[u8]) {
    let name = capped(name, QDEVICE_NAME);
    writer.bytes(name);
    writer.zeros(QDEVICE_NAME.saturating_sub(name.len()));
}
