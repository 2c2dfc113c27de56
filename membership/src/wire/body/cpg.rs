//! cpg: process groups, their members and their messages.
//!
//! Service 2. A name is its length (4) and, at offset 8, 128 bytes. Fields at several offsets are
//! written as "@offset field". Where not stated, a field has 4 bytes:
//!
//! | fn | message       |  size | off | fields |
//! |---:|---------------|------:|----:|--------|
//! |  0 | process join  |   168 |  16 | name; @152 pid; @160 reason |
//! |  1 | process leave |   168 |  16 | the same |
//! |  2 | join list     |  24.. |  16 | error: 0 |
//! |    |               |       |  24 | entries of 144 bytes: pid, @8 name |
//! |  3 | multicast     | 184.. |  16 | name; @152 length; @160 pid; @168 node |
//! |    |               |       | 176 | connection (8); @184 payload |
//! |  5 | down list     |  1568 |  16 | number of old members; @24 number of left nodes |
//! |    |               |       |  32 | 384 node ids, with unused ones undefined |
//! |  6 | partial       | 200.. |  16 | name; @152 whole length; @160 length; @168 pid |
//! |    |               |       | 176 | part: 1 first, 2 continued, 3 last; @184 node |
//! |    |               |       | 192 | connection (8); @200 payload |

use std::mem;

use bytes::{Buf, Bytes};

use super::{Body, fill, headed, header, id, padded, padded_count, read_padded};
use crate::wire::order::{Reader, Writer, capped};
use crate::{Group, NodeId, Refusal};

const SERVICE: u16 = 2;

pub(super) const JOIN: u32 = id(SERVICE, 0);
pub(super) const LEAVE: u32 = id(SERVICE, 1);
pub(super) const JOIN_LIST: u32 = id(SERVICE, 2);
pub(super) const MCAST: u32 = id(SERVICE, 3);
pub(super) const DOWN_LIST: u32 = id(SERVICE, 5);
pub(super) const PARTIAL: u32 = id(SERVICE, 6);

const JOIN_LIST_ENTRY: usize = 144;
const MAX_LEFT: usize = 384;

/// A process that joins or leaves a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpgProcess {
    /// The process group.
    pub group: Group,
    /// The process.
    pub pid: u32,
    /// The reason, see [`CpgProcess::JOIN`] and the others.
    pub reason: u32,
}

impl CpgProcess {
    /// The process joined.
    pub const JOIN: u32 = 1;
    /// The process left.
    pub const LEAVE: u32 = 2;
    /// The process's node left the ring. Never sent.
    pub const NODE_DOWN: u32 = 3;
    /// The process's node joined the ring. Never sent.
    pub const NODE_UP: u32 = 4;
    /// The process died.
    pub const PROCESS_DOWN: u32 = 5;

    pub(super) fn read(mut reader: Reader<'_>, body: &Bytes) -> Result<Self, Refusal> {
        reader.exactly(152)?;
        Ok(Self {
            group: read_group(&mut reader, body)?,
            pid: read_padded(&mut reader)?,
            reason: reader.u32()?,
        })
    }

    pub(super) fn write(&self, id: u32) -> Bytes {
        let mut writer = header(id, 168);
        write_group(&mut writer, &self.group);
        padded(&mut writer, self.pid);
        padded(&mut writer, self.reason);
        writer.finish()
    }
}

/// A process in a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpgMember {
    /// The process.
    pub pid: u32,
    /// The process group.
    pub group: Group,
}

impl CpgMember {
    fn read(reader: &mut Reader<'_>, body: &Bytes) -> Result<Self, Refusal> {
        Ok(Self { pid: read_padded(reader)?, group: read_group(reader, body)? })
    }

    fn write(&self, writer: &mut Writer) {
        padded(writer, self.pid);
        write_group(writer, &self.group);
    }
}

pub(super) fn read_join_list(mut reader: Reader<'_>, body: &Bytes) -> Result<Body, Refusal> {
    read_padded(&mut reader)?;
    let count = reader.rest().len().div_euclid(JOIN_LIST_ENTRY);
    reader.exactly(count.saturating_mul(JOIN_LIST_ENTRY))?;
    reader.list(count, |reader| CpgMember::read(reader, body)).map(Body::CpgJoinList)
}

pub(super) fn write_join_list(members: &[CpgMember]) -> Bytes {
    let size = members.len().saturating_mul(JOIN_LIST_ENTRY).saturating_add(24);
    let mut writer = header(JOIN_LIST, size);
    padded(&mut writer, 0);
    for member in members {
        member.write(&mut writer);
    }
    writer.finish()
}

/// CPG MCAST, 184 bytes and the payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpgMcast {
    /// The process group.
    pub group: Group,
    /// The sending process.
    pub pid: u32,
    /// The sending node by its own account. The frame's originator is authoritative.
    pub node: u32,
    /// The message.
    pub payload: Bytes,
}

impl CpgMcast {
    /// Bytes before the payload.
    pub const HEADER: usize = 184;

    /// Reads everything except the payload. Checks that the rest of the body is exactly the
    /// payload.
    fn read_head(mut reader: Reader<'_>, body: &Bytes) -> Result<Self, Refusal> {
        let group = read_group(&mut reader, body)?;
        let length = reader.count(body.len())?;
        reader.bytes(4)?;
        let pid = read_padded(&mut reader)?;
        let node = read_padded(&mut reader)?;
        reader.u64()?;
        reader.exactly(length)?;
        Ok(Self { group, pid, node, payload: Bytes::new() })
    }

    pub(super) fn read(reader: Reader<'_>, mut body: Bytes) -> Result<Self, Refusal> {
        let head = Self::read_head(reader, &body)?;
        body.advance(Self::HEADER);
        Ok(Self { payload: body, ..head })
    }

    pub(super) fn write(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(Self::HEADER);
        Self::write_head(&mut bytes, &self.group, self.pid, self.node, self.payload.len());
        bytes.into()
    }

    /// Appends the part before the payload to `bytes`. The payload has `length` bytes.
    pub(crate) fn write_head(bytes: &mut Vec<u8>, group: &Group, pid: u32, node: u32, length: usize) {
        let size = length.saturating_add(Self::HEADER);
        let mut writer = headed(mem::take(bytes), MCAST, size);
        write_group(&mut writer, group);
        padded_count(&mut writer, length);
        padded(&mut writer, pid);
        padded(&mut writer, node);
        writer.u64(0);
        *bytes = writer.into_vec();
    }
}

pub(super) fn read_down_list(mut reader: Reader<'_>) -> Result<Body, Refusal> {
    let old_members = read_padded(&mut reader)?;
    let count = reader.count(MAX_LEFT)?;
    reader.bytes(4)?;
    reader.exactly(MAX_LEFT.saturating_mul(4))?;
    Ok(Body::CpgDownList { old_members, left: reader.list(count, Reader::node)? })
}

pub(super) fn write_down_list(old_members: u32, left: &[NodeId]) -> Bytes {
    let left = capped(left, MAX_LEFT);
    let mut writer = header(DOWN_LIST, 1568);
    padded(&mut writer, old_members);
    padded_count(&mut writer, left.len());
    for node in left {
        writer.node(*node);
    }
    fill(writer, 1568)
}

/// CPG PARTIAL_MCAST, 200 bytes and the payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpgPartial {
    /// The process group.
    pub group: Group,
    /// The sending process.
    pub pid: u32,
    /// The sending node by its own account. The frame's originator is authoritative.
    pub node: u32,
    /// The position of this part in the message.
    pub part: CpgPart,
    /// The length of the whole message, in bytes.
    pub whole: u32,
    /// The bytes of this part.
    pub payload: Bytes,
}

impl CpgPartial {
    /// Bytes before the payload.
    pub const HEADER: usize = 200;

    pub(super) fn read(mut reader: Reader<'_>, body: &Bytes) -> Result<Self, Refusal> {
        let group = read_group(&mut reader, body)?;
        let whole = read_padded(&mut reader)?;
        let length = reader.count(body.len())?;
        reader.bytes(4)?;
        let pid = read_padded(&mut reader)?;
        let part = CpgPart::of_code(read_padded(&mut reader)?)?;
        let node = read_padded(&mut reader)?;
        reader.u64()?;
        reader.exactly(length)?;
        Ok(Self { group, pid, node, part, whole, payload: reader.rest_of(body) })
    }

    pub(super) fn write(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(Self::HEADER);
        self.write_head(&mut bytes);
        bytes.into()
    }

    /// Appends the part before the payload to `bytes`.
    pub(crate) fn write_head(&self, bytes: &mut Vec<u8>) {
        let size = self.payload.len().saturating_add(Self::HEADER);
        let mut writer = headed(mem::take(bytes), PARTIAL, size);
        write_group(&mut writer, &self.group);
        padded(&mut writer, self.whole);
        padded_count(&mut writer, self.payload.len());
        padded(&mut writer, self.pid);
        padded(&mut writer, self.part.code());
        padded(&mut writer, self.node);
        writer.u64(0);
        *bytes = writer.into_vec();
    }
}

/// The position of a part in a long message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpgPart {
    /// The first part.
    First,
    /// A part between the first and the last.
    Continued,
    /// The last part.
    Last,
}

impl CpgPart {
    fn of_code(code: u32) -> Result<Self, Refusal> {
        match code {
            1 => Ok(Self::First),
            2 => Ok(Self::Continued),
            3 => Ok(Self::Last),
            _ => Err(Refusal::Field),
        }
    }

    fn code(self) -> u32 {
        match self {
            Self::First => 1,
            Self::Continued => 2,
            Self::Last => 3,
        }
    }
}

/// Reads a name of 136 bytes: length, padding, and 128 bytes that begin with the name.
fn read_group(reader: &mut Reader<'_>, body: &Bytes) -> Result<Group, Refusal> {
    let length = reader.count(Group::MAX)?;
    reader.bytes(4)?;
    let name = reader.bytes(Group::MAX)?.get(..length).ok_or(Refusal::TooMany)?;
    Group::new(body.slice_ref(name)).map_err(|_| Refusal::Field)
}

fn write_group(writer: &mut Writer, group: &Group) {
    let name = group.as_bytes();
    padded_count(writer, name.len());
    writer.bytes(name);
    writer.zeros(Group::MAX.saturating_sub(name.len()));
}
