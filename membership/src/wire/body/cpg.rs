//! cpg: process groups, who is in them and what they are sent.
//!
//! Service 2, a name being its length (4) and, at 8, 128 bytes:
//!
//! | fn | message       | size  | off | field |
//! |---:|---------------|------:|----:|-------|
//! | 0  | process join  |   168 |  16 | name; @152 pid (4); @160 reason (4) |
//! | 1  | process leave |   168 |  16 | the same |
//! | 2  | join list     |  24.. |  16 | error (4): 0 |
//! |    |               |       |  24 | entries of 144: pid (4), @8 name |
//! | 3  | multicast     | 184.. |  16 | name; @152 length (4); @160 pid (4); @168 node (4); @176 connection (8); @184 payload |
//! | 5  | down list     |  1568 |  16 | number of old members (4); @24 number of left nodes (4); @32 384 node ids, unused ones anything |
//! | 6  | partial       | 200.. |  16 | name; @152 whole length (4); @160 length (4); @168 pid (4); @176 part (4): 1 first, 2 continued, 3 last; @184 node (4); @192 connection (8); @200 payload |

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
    /// Why, see [`CpgProcess::JOIN`] and the others.
    pub reason: u32,
}

impl CpgProcess {
    /// It joined.
    pub const JOIN: u32 = 1;
    /// It left.
    pub const LEAVE: u32 = 2;
    /// Its node left the ring; never sent.
    pub const NODE_DOWN: u32 = 3;
    /// Its node joined the ring; never sent.
    pub const NODE_UP: u32 = 4;
    /// It died.
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
    /// The sending node as it names itself; the frame's originator is what counts.
    pub node: u32,
    /// What was sent.
    pub payload: Bytes,
}

impl CpgMcast {
    /// Bytes before the payload.
    pub const HEADER: usize = 184;

    /// Reads it but for the payload, of which it makes sure that the body has all and nothing else.
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

    /// Writes what goes before the payload, which has `length` bytes, behind `bytes`.
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
    /// The sending node as it names itself; the frame's originator is what counts.
    pub node: u32,
    /// Which part of the message this is.
    pub part: CpgPart,
    /// The length of the whole message, in bytes.
    pub whole: u32,
    /// This part of it.
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

    /// Writes what goes before the payload behind `bytes`.
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

/// Where a part of a long message belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpgPart {
    /// At its beginning.
    First,
    /// Within.
    Continued,
    /// At its end.
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

/// 136 bytes: length, padding, 128 bytes of which so many are the name.
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
