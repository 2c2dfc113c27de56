//! The messages of the layers above Totem, which corosync's services send to each other.
//!
//! They are C structs, 8-byte aligned. Padding between the fields is not read, and written as 0.
//! corosync leaves old memory contents in the padding and behind the end of a text. All messages
//! begin with 16 bytes, including ours, so that a program that knows corosync's messages can skip
//! ours:
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |    4 | id |
//! |   8 |    4 | size of the whole body |
//!
//! In group `a` the id is service << 16 \| function. In group `sync` it identifies the message. In
//! group `quorate` it belongs to no service of corosync.
//!
//! Each layer has its own file, whose head lists the offsets of its fields.

mod cfg;
mod cmap;
mod cpg;
mod sync;
mod votequorum;

pub use cfg::Source;
pub use cmap::{Cmap, CmapItem};
pub use cpg::{CpgMcast, CpgMember, CpgPart, CpgPartial, CpgProcess};
pub use votequorum::{NodeInfo, Reconfigure, VoteParameter};

use bytes::Bytes;

use super::order::{Order, Reader, Writer};
use crate::{NodeId, Refusal, RingId};

/// The totempg group of corosync's services.
pub const SERVICES: &[u8] = b"a";
/// The totempg group of the sync protocol.
pub const SYNC: &[u8] = b"sync";
/// The totempg group of the messages that only Quorate nodes exchange.
pub const QUORATE: &[u8] = b"quorate";

const HEADER: usize = 16;
/// The id of messages in group `quorate`, with a service number that corosync does not use.
const OURS: u32 = id(0x7175, 0);
const CAPACITY: u32 = id(0x7175, 1);

/// A message body, by its group and its header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Sync: the services of a member.
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
    /// Cfg: a link is to be used again. Obsolete, and ignored by all nodes.
    RingReenable(Source),
    /// Cfg: a node must exit.
    KillNode {
        /// The node.
        node: NodeId,
        /// The operator's reason, at most 256 bytes.
        reason: Bytes,
    },
    /// Cfg: the sender shuts itself down.
    Shutdown,
    /// Cfg: every member must read its configuration again.
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
    /// CPG: a process's message to its group.
    CpgMcast(CpgMcast),
    /// CPG: a part of a process's message that is too long for a single [`CpgMcast`].
    CpgPartial(CpgPartial),
    /// CPG, in a sync: the nodes that the sender saw leave.
    CpgDownList {
        /// The number of members of the sender's old configuration.
        old_members: u32,
        /// The nodes that left, at most 384.
        left: Vec<NodeId>,
    },
    /// Votequorum's node info.
    NodeInfo(NodeInfo),
    /// Votequorum: an operator changed votes.
    Reconfigure(Reconfigure),
    /// Votequorum: a quorum device registers with the sender, or unregisters.
    Qdevice {
        /// Whether the device registers.
        registers: bool,
        /// The device's name, at most 255 bytes without a NUL.
        name: Bytes,
    },
    /// Votequorum: a quorum device has a new name.
    QdeviceRenamed {
        /// The device's old name, at most 255 bytes without a NUL.
        old: Bytes,
        /// The device's new name.
        new: Bytes,
    },
    /// Votequorum, after corosync 3.1.10: more about a node.
    ExtraInfo {
        /// The node.
        node: u32,
        /// The information, not interpreted.
        content: Bytes,
    },
    /// A message of group `quorate`.
    Quorate(Bytes),
    /// A message of group `quorate`, in a sync: the sender's capacity.
    Capacity {
        /// Frames per rotation.
        frames: u32,
    },
    /// A message of a service or function without meaning for a member, such as `pload`'s load
    /// generator. Members ignore it, as in corosync.
    Other {
        /// The service.
        service: u16,
        /// The function of the service.
        function: u16,
        /// The bytes after the header.
        content: Bytes,
    },
}

impl Body {
    /// Reads the body of a message addressed to `group`.
    ///
    /// # Errors
    /// [`Refusal::Service`] if the body's length does not match its kind and its counts, if it has
    /// an invalid value, or if the group is unknown.
    pub fn decode(group: &[u8], body: &Bytes) -> Result<Self, Refusal> {
        Self::decode_in(group, body, Order::Little)
    }

    /// Reads a body in the byte order of the frame. Real rings never have mixed byte orders,
    /// because corosync's sync layer does not convert them.
    ///
    /// # Errors
    /// As [`Body::decode`].
    pub fn decode_in(group: &[u8], body: &Bytes, order: Order) -> Result<Self, Refusal> {
        let reader = Reader::new(body, order);
        match group {
            SERVICES => read_service(reader, body),
            SYNC => read_sync(reader, body),
            QUORATE => read_ours(reader, body),
            _ => Err(Refusal::Service),
        }
        .map_err(|_| Refusal::Service)
    }

    /// Returns the length of the body that begins with these bytes, as its header gives it.
    pub(super) fn length(beginning: &[u8], order: Order) -> Option<usize> {
        let mut reader = Reader::new(beginning, order);
        read_padded(&mut reader).ok()?;
        usize::try_from(read_padded(&mut reader).ok()?).ok()
    }

    /// Writes the body. [`Body::CpgMcast`] and [`Body::CpgPartial`] are written without the
    /// payload, which need not be copied.
    ///
    /// Lists and texts that are too long for their field are cut.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::ServiceBuild { ring, services } => sync::write_service_build(*ring, services),
            Self::Barrier { ring } => sync::write_barrier(*ring),
            Self::Cmap(cmap) => cmap.write(),
            Self::RingReenable(source) => source.write(cfg::RING_REENABLE),
            Self::KillNode { node, reason } => cfg::write_kill_node(*node, reason),
            Self::Shutdown => cfg::write_shutdown(),
            Self::Reload(source) => source.write(cfg::RELOAD),
            Self::CryptoReconfigure { phase } => cfg::write_crypto_reconfigure(*phase),
            Self::CpgJoin(process) => process.write(cpg::JOIN),
            Self::CpgLeave(process) => process.write(cpg::LEAVE),
            Self::CpgJoinList(members) => cpg::write_join_list(members),
            Self::CpgMcast(mcast) => mcast.write(),
            Self::CpgPartial(partial) => partial.write(),
            Self::CpgDownList { old_members, left } => cpg::write_down_list(*old_members, left),
            Self::NodeInfo(info) => info.write(),
            Self::Reconfigure(reconfigure) => reconfigure.write(),
            Self::Qdevice { registers, name } => votequorum::write_qdevice(*registers, name),
            Self::QdeviceRenamed { old, new } => votequorum::write_qdevice_renamed(old, new),
            Self::ExtraInfo { node, content } => votequorum::write_extra_info(*node, content),
            Self::Quorate(message) => write_with_header(OURS, message),
            Self::Capacity { frames } => write_capacity(*frames),
            Self::Other { service, function, content } => write_with_header(id(*service, *function), content),
        }
    }
}

fn read_sync(mut reader: Reader<'_>, body: &Bytes) -> Result<Body, Refusal> {
    match read_header(&mut reader, body)? {
        sync::BARRIER => sync::read_barrier(reader),
        sync::SERVICE_BUILD => sync::read_service_build(reader),
        _ => Err(Refusal::Service),
    }
}

fn read_ours(mut reader: Reader<'_>, body: &Bytes) -> Result<Body, Refusal> {
    match read_header(&mut reader, body)? {
        OURS => Ok(Body::Quorate(reader.rest_of(body))),
        CAPACITY => Ok(Body::Capacity { frames: read_padded(&mut reader)? }),
        _ => Err(Refusal::Service),
    }
}

fn write_capacity(frames: u32) -> Bytes {
    let mut writer = header(CAPACITY, HEADER + 8);
    padded(&mut writer, frames);
    writer.finish()
}

fn read_service(mut reader: Reader<'_>, body: &Bytes) -> Result<Body, Refusal> {
    match read_header(&mut reader, body)? {
        cmap::VERSION => Cmap::read(reader, body).map(Body::Cmap),
        cfg::RING_REENABLE => Source::read(reader).map(Body::RingReenable),
        cfg::KILL_NODE => cfg::read_kill_node(reader, body),
        cfg::SHUTDOWN => cfg::read_shutdown(reader),
        cfg::RELOAD => Source::read(reader).map(Body::Reload),
        cfg::CRYPTO_RECONFIGURE => cfg::read_crypto_reconfigure(reader),
        cpg::JOIN => CpgProcess::read(reader, body).map(Body::CpgJoin),
        cpg::LEAVE => CpgProcess::read(reader, body).map(Body::CpgLeave),
        cpg::JOIN_LIST => cpg::read_join_list(reader, body),
        cpg::MCAST => CpgMcast::read(reader, body.clone()).map(Body::CpgMcast),
        cpg::DOWN_LIST => cpg::read_down_list(reader),
        cpg::PARTIAL => CpgPartial::read(reader, body).map(Body::CpgPartial),
        votequorum::NODE_INFO => NodeInfo::read(reader).map(Body::NodeInfo),
        votequorum::RECONFIGURE => Reconfigure::read(reader).map(Body::Reconfigure),
        votequorum::QDEVICE => votequorum::read_qdevice(reader, body),
        votequorum::QDEVICE_RENAMED => votequorum::read_qdevice_renamed(reader, body),
        votequorum::EXTRA_INFO => votequorum::read_extra_info(reader, body),
        id => {
            let [a, b, c, d] = id.to_be_bytes();
            let (service, function) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            Ok(Body::Other { service, function, content: reader.rest_of(body) })
        }
    }
}

/// Returns the id of a service's message. Uses `as`, because `From` is not yet `const`.
const fn id(service: u16, function: u16) -> u32 {
    (service as u32) << 16 | function as u32
}

/// Reads the header and returns the id. The size must be that of the body.
fn read_header(reader: &mut Reader<'_>, body: &Bytes) -> Result<u32, Refusal> {
    let id = read_padded(reader)?;
    let size = read_padded(reader)?;
    if usize::try_from(size).is_ok_and(|size| size == body.len()) { Ok(id) } else { Err(Refusal::Service) }
}

/// Writes a body that consists of a header and `content`.
fn write_with_header(id: u32, content: &[u8]) -> Bytes {
    let mut writer = header(id, content.len().saturating_add(HEADER));
    writer.bytes(content);
    writer.finish()
}

/// Begins a body of `size` bytes.
fn header(id: u32, size: usize) -> Writer {
    headed(Vec::with_capacity(size), id, size)
}

/// Begins a body of `size` bytes behind these bytes.
fn headed(bytes: Vec<u8>, id: u32, size: usize) -> Writer {
    let mut writer = Writer::behind(bytes, Order::Little);
    padded(&mut writer, id);
    padded_count(&mut writer, size);
    writer
}

/// Fills the rest of a body of `size` bytes with zeros.
fn fill(mut writer: Writer, size: usize) -> Bytes {
    writer.zeros(size.saturating_sub(writer.written()));
    writer.finish()
}

fn read_padded(reader: &mut Reader<'_>) -> Result<u32, Refusal> {
    let value = reader.u32()?;
    reader.bytes(4)?;
    Ok(value)
}

/// Writes a `u32` and 4 bytes of padding.
fn padded(writer: &mut Writer, value: u32) {
    writer.u32(value);
    writer.zeros(4);
}

fn padded_count(writer: &mut Writer, count: usize) {
    writer.count(count);
    writer.zeros(4);
}
