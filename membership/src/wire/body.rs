//! The messages of the layers above Totem: what corosync's services say to each other.
//!
//! They are C structs, 8-byte aligned. What is between the fields is padding, in which corosync leaves what was in its
//! memory, as it does behind the end of a text: it is not looked at, and written as 0. All begin with 16 bytes:
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |    4 | id: group `a`: service << 16 \| function; group `sync`: 0 barrier, 1 service build |
//! |   8 |    4 | size of the whole body |
//!
//! Sync (group `sync`):
//!
//! | message       | size | off | field |
//! |---------------|-----:|----:|-------|
//! | barrier       |   32 |  16 | ring id (12) |
//! | service build |  552 |  16 | ring id (12) |
//! |               |      |  32 | number of services, at most 128 |
//! |               |      |  40 | 128 service ids, unused ones 0 |
//!
//! cmap (service 0):
//!
//! | fn | message | size | off | field |
//! |---:|---------|-----:|----:|-------|
//! |  0 | version | 48.. |  16 | reason (1): 0 sync, 1 new version |
//! |    |         |      |  24 | number of items (1) |
//! |    |         |      |  48 | items: key length (2), @8 key\[256\], @264 value type (1), @272 value length (8), @280 value, padded to 8 |
//!
//! cfg (service 1):
//!
//! | fn | message             | size | off | field |
//! |---:|---------------------|-----:|----:|-------|
//! |  0 | ring re-enable      |   32 |  16 | source: node (4), @24 connection (8) |
//! |  1 | kill node           |  288 |  16 | node (4) |
//! |    |                     |      |  24 | length of the reason (2), @32 reason\[256\] |
//! |  2 | shutdown            |   16 |     | |
//! |  3 | reload              |   32 |  16 | source: node (4), @24 connection (8) |
//! |  4 | crypto reconfigure  |   24 |  16 | phase (4) |
//!
//! cpg (service 2), a name being its length (4) and, at 8, 128 bytes:
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
//!
//! votequorum (service 5):
//!
//! | fn | message         | size | off | field |
//! |---:|-----------------|-----:|----:|-------|
//! | 0  | node info       |   32 |  16 | node, votes, expected votes, flags (4 each) |
//! | 1  | reconfigure     |   32 |  16 | node (4), value (4), parameter (1): 1 expected votes, 2 votes, 3 cancel wait-for-all |
//! | 2  | qdevice         |  280 |  16 | operation (4): 0 unregister, 1 register; @20 name\[255\] |
//! | 3  | qdevice renamed |  528 |  16 | old name\[255\], new name\[255\] |
//! | 4  | extra           | 24.. |  16 | node (4), length (4), @24 content, padded to 8 |

use bytes::Bytes;

use super::order::{Order, Reader, Writer, capped};
use crate::{Group, NodeId, Refusal, RingId};

/// The totempg group of corosync's services.
pub const SERVICES: &[u8] = b"a";
/// The totempg group of the sync protocol.
pub const SYNC: &[u8] = b"sync";
/// The totempg group of what only quorate nodes say to each other.
pub const QUORATE: &[u8] = b"quorate";

const CMAP: u16 = 0;
const CFG: u16 = 1;
const CPG: u16 = 2;
const VOTEQUORUM: u16 = 5;

const BARRIER: u32 = 0;
const SERVICE_BUILD: u32 = 1;

const HEADER: usize = 16;
const MAX_SERVICES: usize = 128;
const MAX_LEFT: usize = 384;
const CMAP_KEY: usize = 256;
const CMAP_ITEM: usize = 280;
const KILL_REASON: usize = 256;
const QDEVICE_NAME: usize = 255;
const JOIN_LIST_ENTRY: usize = 144;

/// A body, by the group it was addressed to and its own header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Sync: the services a member has.
    ServiceBuild {
        /// The ring being synchronised.
        ring: RingId,
        /// Service ids, at most 128.
        services: Vec<u32>,
    },
    /// Sync: a member has finished a stage.
    Barrier {
        /// The ring being synchronised.
        ring: RingId,
    },
    /// Cmap: the version of a member's configuration.
    Cmap(Cmap),
    /// Cfg: a link is to be used again; of old, ignored by all.
    RingReenable(Source),
    /// Cfg: a node is to exit.
    KillNode {
        /// The node.
        node: NodeId,
        /// Why, as the operator put it; at most 256 bytes.
        reason: Bytes,
    },
    /// Cfg: the sender shuts itself down.
    Shutdown,
    /// Cfg: every member is to read its configuration again.
    Reload(Source),
    /// Cfg: a step of the sender's change of keys (knet only).
    CryptoReconfigure {
        /// The step.
        phase: u32,
    },
    /// CPG: a process joined a group.
    CpgJoin(CpgProcess),
    /// CPG: a process left a group.
    CpgLeave(CpgProcess),
    /// CPG, in a sync: all the sender's processes and their groups.
    CpgJoinList(Vec<CpgMember>),
    /// A process's message to its group.
    CpgMcast(CpgMcast),
    /// A part of a process's message that is too long for one ([`CpgMcast`]).
    CpgPartial(CpgPartial),
    /// CPG, in a sync: the nodes that the sender saw leave.
    CpgDownList {
        /// How many members the sender's old configuration had.
        old_members: u32,
        /// Those that left, at most 384.
        left: Vec<NodeId>,
    },
    /// Votequorum's node info.
    NodeInfo(NodeInfo),
    /// Votequorum: an operator changed votes.
    Reconfigure(Reconfigure),
    /// Votequorum: a quorum device registers with the sender, or no longer.
    Qdevice {
        /// Whether it registers.
        registers: bool,
        /// Its name, at most 255 bytes without a NUL.
        name: Bytes,
    },
    /// Votequorum: a quorum device has a new name.
    QdeviceRenamed {
        /// Its old name, at most 255 bytes without a NUL.
        old: Bytes,
        /// Its new name.
        new: Bytes,
    },
    /// Votequorum, after corosync 3.1.10: more about a node.
    ExtraInfo {
        /// The node.
        node: u32,
        /// What is said, not interpreted.
        content: Bytes,
    },
    /// A message of group `quorate`.
    Quorate(Bytes),
    /// A message of a service or function that means nothing to a member, `pload`'s load generator for one. As
    /// corosync does, members ignore it.
    Other {
        /// The service.
        service: u16,
        /// Its function.
        function: u16,
        /// What follows the header.
        content: Bytes,
    },
}

/// A configuration's version, as cmap compares it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cmap {
    /// Whether it is said because the version changed, rather than in a sync.
    pub changed: bool,
    /// The values sent along, at most 255; as yet always one, `totem.config_version`.
    pub items: Vec<CmapItem>,
}

/// A key of corosync's configuration map and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CmapItem {
    /// The key, at most 256 bytes.
    pub key: Bytes,
    /// The type of the value: 0 there is none, 8 a `u64`.
    pub kind: u8,
    /// The value in the sender's byte order.
    pub value: Bytes,
}

/// The client at whose request a member speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// The member, as it names itself.
    pub node: u32,
    /// Its connection to the client; means nothing to others.
    pub connection: u64,
}

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
}

/// A process in a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpgMember {
    /// The process.
    pub pid: u32,
    /// The process group.
    pub group: Group,
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

/// Votequorum NODEINFO, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeInfo {
    /// The node; `None` is the quorum device.
    pub node: Option<NodeId>,
    /// Its votes.
    pub votes: u32,
    /// The votes it expects in all.
    pub expected_votes: u32,
    /// Its flags, see [`NodeInfo::QUORATE`] and the others.
    pub flags: u32,
}

impl NodeInfo {
    /// The node is quorate.
    pub const QUORATE: u32 = 1;
    /// The node leaves.
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
}

/// Votequorum RECONFIGURE, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reconfigure {
    /// The node whose votes are changed.
    pub node: u32,
    /// The new value.
    pub value: u32,
    /// Of what.
    pub parameter: VoteParameter,
}

/// What [`Reconfigure`] changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoteParameter {
    /// The expected votes of all.
    ExpectedVotes,
    /// The votes of the node.
    Votes,
    /// The node no longer waits for all; the value does not matter.
    CancelWaitForAll,
}

impl Body {
    /// Reads the body of a message addressed to `group`.
    ///
    /// # Errors
    /// [`Refusal::Service`] if it is not as long as its kind and its counts say, has a value that it cannot have, or
    /// is for an unknown group.
    pub fn decode(group: &[u8], body: &Bytes) -> Result<Self, Refusal> {
        Self::decode_in(group, body, Order::Little)
    }

    /// As [`Body::decode`], in the byte order of the frame. Between real members nobody does: corosync's sync layer
    /// does not convert, so rings of mixed order do not come about.
    ///
    /// # Errors
    /// As [`Body::decode`].
    pub fn decode_in(group: &[u8], body: &Bytes, order: Order) -> Result<Self, Refusal> {
        let reader = Reader::new(body, order);
        match group {
            SERVICES => service(reader, body),
            SYNC => sync(reader, body),
            QUORATE => Ok(Self::Quorate(body.clone())),
            _ => Err(Refusal::Service),
        }
        .map_err(|_| Refusal::Service)
    }

    /// Writes it; for [`Body::CpgMcast`] and [`Body::CpgPartial`] without the payload, which need not be copied.
    ///
    /// Lists and texts that are longer than their place are cut.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Barrier { ring } => {
                let mut writer = header(BARRIER, 32);
                writer.ring(*ring);
                fill(writer, 32)
            }
            Self::ServiceBuild { ring, services } => {
                let services = capped(services, MAX_SERVICES);
                let mut writer = header(SERVICE_BUILD, 552);
                writer.ring(*ring);
                writer.zeros(4);
                padded_count(&mut writer, services.len());
                for service in services {
                    writer.u32(*service);
                }
                fill(writer, 552)
            }
            Self::Cmap(cmap) => cmap.write(),
            Self::RingReenable(source) => source.write(0),
            Self::KillNode { node, reason } => {
                let reason = capped(reason, KILL_REASON);
                let mut writer = header(id(CFG, 1), 288);
                padded(&mut writer, node.get());
                writer.short_count(reason.len());
                writer.zeros(6);
                writer.bytes(reason);
                fill(writer, 288)
            }
            Self::Shutdown => header(id(CFG, 2), HEADER).finish(),
            Self::Reload(source) => source.write(3),
            Self::CryptoReconfigure { phase } => {
                let mut writer = header(id(CFG, 4), 24);
                padded(&mut writer, *phase);
                writer.finish()
            }
            Self::CpgJoin(process) => process.write(0),
            Self::CpgLeave(process) => process.write(1),
            Self::CpgJoinList(members) => {
                let size = members.len().saturating_mul(JOIN_LIST_ENTRY).saturating_add(24);
                let mut writer = header(id(CPG, 2), size);
                padded(&mut writer, 0);
                for member in members {
                    padded(&mut writer, member.pid);
                    write_group(&mut writer, &member.group);
                }
                writer.finish()
            }
            Self::CpgMcast(mcast) => mcast.write(),
            Self::CpgPartial(partial) => partial.write(),
            Self::CpgDownList { old_members, left } => {
                let left = capped(left, MAX_LEFT);
                let mut writer = header(id(CPG, 5), 1568);
                padded(&mut writer, *old_members);
                padded_count(&mut writer, left.len());
                for node in left {
                    writer.node(*node);
                }
                fill(writer, 1568)
            }
            Self::NodeInfo(info) => {
                let mut writer = header(id(VOTEQUORUM, 0), 32);
                writer.u32(info.node.map_or(0, NodeId::get));
                writer.u32(info.votes);
                writer.u32(info.expected_votes);
                writer.u32(info.flags);
                writer.finish()
            }
            Self::Reconfigure(reconfigure) => {
                let mut writer = header(id(VOTEQUORUM, 1), 32);
                writer.u32(reconfigure.node);
                writer.u32(reconfigure.value);
                writer.u8(reconfigure.parameter.code());
                fill(writer, 32)
            }
            Self::Qdevice { registers, name } => {
                let mut writer = header(id(VOTEQUORUM, 2), 280);
                writer.u32(u32::from(*registers));
                write_name(&mut writer, name);
                fill(writer, 280)
            }
            Self::QdeviceRenamed { old, new } => {
                let mut writer = header(id(VOTEQUORUM, 3), 528);
                write_name(&mut writer, old);
                write_name(&mut writer, new);
                fill(writer, 528)
            }
            Self::ExtraInfo { node, content } => {
                let size = content.len().saturating_add(24).next_multiple_of(8);
                let mut writer = header(id(VOTEQUORUM, 4), size);
                writer.u32(*node);
                writer.count(content.len());
                writer.bytes(content);
                fill(writer, size)
            }
            Self::Quorate(message) => message.clone(),
            Self::Other { service, function, content } => {
                let mut writer = header(id(*service, *function), content.len().saturating_add(HEADER));
                writer.bytes(content);
                writer.finish()
            }
        }
    }
}

/// Reads the header: the id. The size has to be that of the body.
fn read_header(reader: &mut Reader<'_>, body: &Bytes) -> Result<u32, Refusal> {
    let id = read_padded(reader)?;
    let size = read_padded(reader)?;
    if usize::try_from(size).is_ok_and(|size| size == body.len()) { Ok(id) } else { Err(Refusal::Service) }
}

fn sync(mut reader: Reader<'_>, body: &Bytes) -> Result<Body, Refusal> {
    match read_header(&mut reader, body)? {
        BARRIER => {
            let ring = reader.ring()?;
            reader.exactly(4)?;
            Ok(Body::Barrier { ring })
        }
        SERVICE_BUILD => {
            let ring = reader.ring()?;
            reader.bytes(4)?;
            let count = reader.count(MAX_SERVICES)?;
            reader.bytes(4)?;
            reader.exactly(MAX_SERVICES.saturating_mul(4))?;
            Ok(Body::ServiceBuild { ring, services: reader.list(count, Reader::u32)? })
        }
        _ => Err(Refusal::Service),
    }
}

fn service(mut reader: Reader<'_>, body: &Bytes) -> Result<Body, Refusal> {
    let id = read_header(&mut reader, body)?;
    let [a, b, c, d] = id.to_be_bytes();
    let (service, function) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    match (service, function) {
        (CMAP, 0) => Cmap::read(reader, body).map(Body::Cmap),
        (CFG, 0) => Source::read(reader).map(Body::RingReenable),
        (CFG, 1) => {
            reader.exactly(272)?;
            let node = reader.node()?;
            reader.bytes(4)?;
            let length = usize::from(reader.u16()?);
            reader.bytes(6)?;
            Ok(Body::KillNode { node, reason: body.slice_ref(reader.bytes(length)?) })
        }
        (CFG, 2) => {
            reader.exactly(0)?;
            Ok(Body::Shutdown)
        }
        (CFG, 3) => Source::read(reader).map(Body::Reload),
        (CFG, 4) => {
            reader.exactly(8)?;
            Ok(Body::CryptoReconfigure { phase: reader.u32()? })
        }
        (CPG, 0) => CpgProcess::read(reader, body).map(Body::CpgJoin),
        (CPG, 1) => CpgProcess::read(reader, body).map(Body::CpgLeave),
        (CPG, 2) => {
            read_padded(&mut reader)?;
            let count = reader.rest().len().div_euclid(JOIN_LIST_ENTRY);
            reader.exactly(count.saturating_mul(JOIN_LIST_ENTRY))?;
            let members = reader.list(count, |entry| {
                Ok(CpgMember { pid: read_padded(entry)?, group: read_group(entry, body)? })
            })?;
            Ok(Body::CpgJoinList(members))
        }
        (CPG, 3) => CpgMcast::read(reader, body).map(Body::CpgMcast),
        (CPG, 5) => {
            let old_members = read_padded(&mut reader)?;
            let count = reader.count(MAX_LEFT)?;
            reader.bytes(4)?;
            reader.exactly(MAX_LEFT.saturating_mul(4))?;
            Ok(Body::CpgDownList { old_members, left: reader.list(count, Reader::node)? })
        }
        (CPG, 6) => CpgPartial::read(reader, body).map(Body::CpgPartial),
        (VOTEQUORUM, 0) => {
            reader.exactly(16)?;
            Ok(Body::NodeInfo(NodeInfo {
                node: NodeId::new(reader.u32()?),
                votes: reader.u32()?,
                expected_votes: reader.u32()?,
                flags: reader.u32()?,
            }))
        }
        (VOTEQUORUM, 1) => {
            reader.exactly(16)?;
            Ok(Body::Reconfigure(Reconfigure {
                node: reader.u32()?,
                value: reader.u32()?,
                parameter: VoteParameter::of_code(reader.u8()?)?,
            }))
        }
        (VOTEQUORUM, 2) => {
            reader.exactly(264)?;
            Ok(Body::Qdevice { registers: reader.flag()?, name: read_name(&mut reader, body)? })
        }
        (VOTEQUORUM, 3) => {
            reader.exactly(512)?;
            Ok(Body::QdeviceRenamed {
                old: read_name(&mut reader, body)?,
                new: read_name(&mut reader, body)?,
            })
        }
        (VOTEQUORUM, 4) => {
            let node = reader.u32()?;
            let length = reader.count(body.len())?;
            let content = body.slice_ref(reader.bytes(length)?);
            if reader.rest().len() < 8 {
                Ok(Body::ExtraInfo { node, content })
            } else {
                Err(Refusal::TrailingBytes)
            }
        }
        _ => Ok(Body::Other { service, function, content: reader.rest_of(body) }),
    }
}

impl Cmap {
    fn read(mut reader: Reader<'_>, body: &Bytes) -> Result<Self, Refusal> {
        let changed = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Refusal::Field),
        };
        reader.bytes(7)?;
        let count = usize::from(reader.u8()?);
        reader.bytes(23)?;
        let items = reader.list(count, |reader| CmapItem::read(reader, body))?;
        reader.exactly(0)?;
        Ok(Self { changed, items })
    }

    fn write(&self) -> Bytes {
        let items = capped(&self.items, usize::from(u8::MAX));
        let size = items.iter().fold(48, |size: usize, item| size.saturating_add(item.size()));
        let mut writer = header(id(CMAP, 0), size);
        writer.u8(u8::from(self.changed));
        writer.zeros(7);
        writer.u8(u8::try_from(items.len()).unwrap_or(u8::MAX));
        writer.zeros(23);
        for item in items {
            item.write(&mut writer);
        }
        writer.finish()
    }
}

impl CmapItem {
    /// How many bytes it takes, padding included.
    fn size(&self) -> usize {
        self.value.len().saturating_add(CMAP_ITEM).next_multiple_of(8)
    }

    fn read(reader: &mut Reader<'_>, body: &Bytes) -> Result<Self, Refusal> {
        let key_length = usize::from(reader.u16()?);
        reader.bytes(6)?;
        let key = reader.bytes(CMAP_KEY)?.get(..key_length).ok_or(Refusal::TooMany)?;
        let kind = reader.u8()?;
        reader.bytes(7)?;
        let length = usize::try_from(reader.u64()?).map_err(|_| Refusal::Truncated)?;
        let value = reader.bytes(length)?;
        reader.bytes(length.wrapping_neg() & 7)?;
        Ok(Self { key: body.slice_ref(key), kind, value: body.slice_ref(value) })
    }

    fn write(&self, writer: &mut Writer) {
        let end = writer.written().saturating_add(self.size());
        let key = capped(&self.key, CMAP_KEY);
        writer.short_count(key.len());
        writer.zeros(6);
        writer.bytes(key);
        writer.zeros(CMAP_KEY.saturating_sub(key.len()));
        writer.u8(self.kind);
        writer.zeros(7);
        writer.u64(u64::try_from(self.value.len()).unwrap_or(u64::MAX));
        writer.bytes(&self.value);
        writer.zeros(end.saturating_sub(writer.written()));
    }
}

impl Source {
    fn read(mut reader: Reader<'_>) -> Result<Self, Refusal> {
        reader.exactly(16)?;
        Ok(Self { node: read_padded(&mut reader)?, connection: reader.u64()? })
    }

    fn write(&self, function: u16) -> Bytes {
        let mut writer = header(id(CFG, function), 32);
        padded(&mut writer, self.node);
        writer.u64(self.connection);
        writer.finish()
    }
}

impl CpgProcess {
    fn read(mut reader: Reader<'_>, body: &Bytes) -> Result<Self, Refusal> {
        reader.exactly(152)?;
        Ok(Self {
            group: read_group(&mut reader, body)?,
            pid: read_padded(&mut reader)?,
            reason: reader.u32()?,
        })
    }

    fn write(&self, function: u16) -> Bytes {
        let mut writer = header(id(CPG, function), 168);
        write_group(&mut writer, &self.group);
        padded(&mut writer, self.pid);
        padded(&mut writer, self.reason);
        writer.finish()
    }
}

impl CpgMcast {
    fn read(mut reader: Reader<'_>, body: &Bytes) -> Result<Self, Refusal> {
        let group = read_group(&mut reader, body)?;
        let length = reader.count(body.len())?;
        reader.bytes(4)?;
        let pid = read_padded(&mut reader)?;
        let node = read_padded(&mut reader)?;
        reader.u64()?;
        reader.exactly(length)?;
        Ok(Self { group, pid, node, payload: reader.rest_of(body) })
    }

    fn write(&self) -> Bytes {
        let size = self.payload.len().saturating_add(Self::HEADER);
        let mut writer = headed(id(CPG, 3), size, Self::HEADER);
        write_group(&mut writer, &self.group);
        padded_count(&mut writer, self.payload.len());
        padded(&mut writer, self.pid);
        padded(&mut writer, self.node);
        writer.u64(0);
        writer.finish()
    }
}

impl CpgPartial {
    fn read(mut reader: Reader<'_>, body: &Bytes) -> Result<Self, Refusal> {
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

    fn write(&self) -> Bytes {
        let size = self.payload.len().saturating_add(Self::HEADER);
        let mut writer = headed(id(CPG, 6), size, Self::HEADER);
        write_group(&mut writer, &self.group);
        padded(&mut writer, self.whole);
        padded_count(&mut writer, self.payload.len());
        padded(&mut writer, self.pid);
        padded(&mut writer, self.part.code());
        padded(&mut writer, self.node);
        writer.u64(0);
        writer.finish()
    }
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

fn id(service: u16, function: u16) -> u32 {
    u32::from(service) << 16 | u32::from(function)
}

/// A body of `size` bytes, begun.
fn header(id: u32, size: usize) -> Writer {
    headed(id, size, size)
}

/// A body of `size` bytes, begun, of which only the first `written` will be written here.
fn headed(id: u32, size: usize, written: usize) -> Writer {
    let mut writer = Writer::new(written, Order::Little);
    padded(&mut writer, id);
    padded_count(&mut writer, size);
    writer
}

/// The rest of a body of `size` bytes is zero.
fn fill(mut writer: Writer, size: usize) -> Bytes {
    writer.zeros(size.saturating_sub(writer.written()));
    writer.finish()
}

/// A `u32` and 4 bytes of padding.
fn padded(writer: &mut Writer, value: u32) {
    writer.u32(value);
    writer.zeros(4);
}

fn padded_count(writer: &mut Writer, count: usize) {
    writer.count(count);
    writer.zeros(4);
}

fn read_padded(reader: &mut Reader<'_>) -> Result<u32, Refusal> {
    let value = reader.u32()?;
    reader.bytes(4)?;
    Ok(value)
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

/// 255 bytes, up to the first NUL the name of a quorum device.
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
