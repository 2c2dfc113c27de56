//! The service `votequorum`: votes, and what they add up to.
//!
//! Votes and expected votes that an operator sets count until the members agree on a changed file
//! (see the page of quorum).
//!
//! The quorum device is a client of this service. A new ring waits for its poll, so the ring is
//! announced here before its members have exchanged their state.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::{DeviceError, DeviceRequest, DeviceState, NodeId, NodeStatus, RingId, Status};

use super::view::View;
use super::{ConnectionId, Connections, Effect, Order, Step, Tracking, tell};
use crate::code::Code;
use crate::layout::{Malformed, Message, Request, length};
use crate::outbox::Outbox;

/// The states of a node.
const MEMBER: u32 = 1;
const DEAD: u32 = 2;
/// The state of the quorum device in the list of nodes, where it has the id 0.
const DEVICE: u32 = 0;
/// The length of the field for the device's name, which ends with a NUL.
const DEVICE_NAME: usize = 255;

#[derive(Default)]
pub(super) struct Votequorum {
    /// The clients that track changes, with the number that each gave its tracker.
    trackers: BTreeMap<ConnectionId, u64>,
    /// The client whose poll was last accepted.
    device: Option<ConnectionId>,
    /// The ring and the expected votes that clients have been told.
    expected: (Option<RingId>, Option<u32>),
}

impl Votequorum {
    /// Returns the number of things that are kept for clients.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.trackers.len()
    }

    /// Forgets a client. The votes of a device that has ended do not count any more: the arbiter
    /// learns of its end at the same time, and may give them to another part at once.
    pub(super) fn close(&mut self, id: ConnectionId, effects: &mut Vec<Effect>) {
        self.trackers.remove(&id);
        if self.device.take_if(|device| *device == id).is_some() {
            effects.push(Effect::DeviceEnded);
        }
    }

    /// Returns the response to a request of the quorum device.
    pub(super) fn device_handled(
        &mut self,
        id: ConnectionId,
        handled: Result<DeviceState, DeviceError>,
        view: &mut View,
    ) -> Bytes {
        let code = match handled {
            Ok(state) => {
                view.device = state;
                self.device = Some(id).filter(|_| state.alive);
                Code::Ok
            }
            Err(DeviceError::OtherName) => Code::Exist,
            Err(DeviceError::NotRegistered) => Code::NotExist,
            Err(DeviceError::WrongName) => Code::InvalidParam,
            Err(DeviceError::OtherRing) => Code::MessageError,
            Err(_) => Code::Access,
        };
        done(code)
    }

    pub(super) fn request(
        &mut self,
        id: ConnectionId,
        request: &Request,
        view: &View,
        outbox: &Outbox,
    ) -> Result<Step, Malformed> {
        let code = match request.id() {
            0 => return Ok(Step::Reply(info(request.u32(16)?, view))),
            1 | 2 if view.is_forming() => Code::TryAgain,
            1 => match expects(request.u32(16)?, view) {
                Ok(order) => return Ok(Step::Do(order)),
                Err(code) => code,
            },
            2 => match weighs(request.u32(20)?, request.u32(16)?, view) {
                Ok(order) => return Ok(Step::Do(order)),
                Err(code) => code,
            },
            5..=9 => match device_request(request, view.me)? {
                Ok(request) => return Ok(Step::Do(Order::Device(request))),
                Err(code) => code,
            },
            3 => {
                let (context, flags) = (request.u64(16)?, Tracking(request.u32(24)?));
                if flags.wants_current() {
                    outbox.event(nodes(context, view));
                    outbox.event(verdict(context, view));
                }
                if flags.wants_changes() {
                    self.trackers.insert(id, context);
                }
                Code::Ok
            }
            4 => match self.trackers.remove(&id) {
                Some(_) => Code::Ok,
                None => Code::NotExist,
            },
            _ => return Err(Malformed),
        };
        Ok(Step::Reply(done(code)))
    }

    pub(super) fn ring(&self, view: &View, connections: &Connections) {
        for (id, context) in &self.trackers {
            tell(connections, *id, nodes(*context, view));
        }
    }

    pub(super) fn status(&mut self, view: &View, connections: &Connections) {
        let expected = (view.ring, view.status.expected_votes);
        let before = std::mem::replace(&mut self.expected, expected);
        for (id, context) in &self.trackers {
            // A new ring's votes are in its verdict.
            if before.0 == expected.0 && before.1 != expected.1 {
                tell(connections, *id, expectation(*context, view));
            }
            tell(connections, *id, verdict(*context, view));
        }
    }
}

/// Returns the response to a request that changes something.
pub(super) fn done(code: Code) -> Bytes {
    Message::status(0, code)
}

/// Reads a request of the quorum device.
fn device_request(request: &Request, me: NodeId) -> Result<Result<DeviceRequest, Code>, Malformed> {
    let name = |at| {
        let field = request.bytes(at, DEVICE_NAME)?;
        let end = field.iter().position(|byte| *byte == 0);
        Ok(end.filter(|end| *end > 0).map(|end| field.slice(..end)))
    };
    let Some(own) = name(16)? else { return Ok(Err(Code::InvalidParam)) };
    Ok(Ok(match request.id() {
        5 => DeviceRequest::Register { name: own },
        6 => DeviceRequest::Unregister { name: own },
        7 => match name(271)? {
            Some(new) => DeviceRequest::Rename { old: own, new },
            None => return Ok(Err(Code::InvalidParam)),
        },
        8 => {
            let (casts, seq) = (request.i32(272)? != 0, request.u64(288)?);
            let ring = match NodeId::new(request.u32(280)?) {
                Some(representative) => RingId { seq, representative },
                // There is no such ring.
                None => RingId { seq: 0, representative: me },
            };
            DeviceRequest::Poll { name: own, ring, casts }
        }
        _ => DeviceRequest::MasterWins { name: own, wins: request.u32(272)? != 0 },
    }))
}

/// Returns the order to expect this number of votes. As with corosync, it is refused if more votes
/// are present, or if quorum would be lost.
fn expects(votes: u32, view: &View) -> Result<Order, Code> {
    let Status { total_votes: total, quorate, .. } = view.status;
    let keeps_quorum = !quorate || votes / 2 < total;
    if votes > 0 && votes >= total && keeps_quorum {
        Ok(Order::SetExpectedVotes(votes))
    } else {
        Err(Code::InvalidParam)
    }
}

/// Returns the order that gives a node this number of votes. 0 stands for this node. As with
/// corosync, the order is refused if quorum would be lost.
fn weighs(node: u32, votes: u32, view: &View) -> Result<Order, Code> {
    let Status { total_votes: total, quorate, expected_votes: expected, .. } = view.status;
    let node = NodeId::new(node).unwrap_or(view.me);
    let known = view.status.nodes.iter().find(|known| known.id == node).ok_or(Code::NameNotFound)?;
    let total = if known.online { total.saturating_sub(known.votes).saturating_add(votes) } else { total };
    let expected = expected.unwrap_or_default().max(total);
    if quorate && expected / 2 >= total {
        return Err(Code::InvalidParam);
    }
    Ok(Order::SetVotes { node, votes })
}

fn state(node: &NodeStatus) -> u32 {
    if node.online { MEMBER } else { DEAD }
}

/// The answer about a node. 0 stands for this node.
fn info(node: u32, view: &View) -> Bytes {
    let status = &view.status;
    let id = NodeId::new(node).unwrap_or(view.me);
    let known = status.nodes.iter().find(|known| known.id == id);
    let answer = Message::new(1, 320);
    let Some(known) = known else { return answer.code(Code::NotExist).done() };
    let expected = status.expected_votes.unwrap_or_default();
    let device = if id == view.me { view.device } else { known.device };
    // Each node counts the votes that its own device gives.
    let (votes, name, given) = match &status.device {
        Some(device) => (device.votes, device.name.as_deref(), if device.casts { device.votes } else { 0 }),
        None => (0, None, 0),
    };
    let own = if device.casts { votes } else { 0 };
    let fields = [
        id.get(),
        state(known),
        known.votes,
        expected,
        expected,
        status.total_votes.saturating_sub(given).saturating_add(own),
        status.quorum.unwrap_or_default(),
        flags(&status.flags) | device_flags(device),
        votes,
    ];
    let name = name.unwrap_or_default().as_bytes();
    answer.u32s(24, fields).bytes(60, &name[..name.len().min(DEVICE_NAME - 1)]).done()
}

/// Returns the flags as votequorum's bits. The names are those of corosync-quorumtool.
fn flags(names: &[&str]) -> u32 {
    let bit = |name: &&str| match *name {
        "2Node" => 1,
        "Quorate" => 2,
        "WaitForAll" => 4,
        "LastManStanding" => 8,
        "AutoTieBreaker" => 16,
        "AllowDownscale" => 32,
        _ => 0,
    };
    names.iter().map(bit).sum()
}

/// Returns the bits that say what a node's quorum device does.
fn device_flags(device: DeviceState) -> u32 {
    let DeviceState { registered, alive, casts, master_wins, .. } = device;
    let bits = [(registered, 64), (alive, 128), (casts, 256), (master_wins, 512)];
    bits.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum()
}

fn verdict(context: u64, view: &View) -> Bytes {
    let nodes = view.status.nodes.iter().map(|node| [node.id.get(), state(node)]);
    let device = view.device.registered.then_some([0, DEVICE]);
    let states: Vec<[u32; 2]> = nodes.chain(device).collect();
    Message::new(3, 48 + 8 * states.len())
        .u32(24, u32::from(view.status.quorate))
        .u64(32, context)
        .u32(40, length(&states))
        .u32s(48, states.into_iter().flatten())
        .done()
}

fn expectation(context: u64, view: &View) -> Bytes {
    let expected = view.status.expected_votes.unwrap_or_default();
    Message::new(4, 40).u64(24, context).u32(32, expected).done()
}

fn nodes(context: u64, view: &View) -> Bytes {
    let (ring, members) = view.newest();
    let members: Vec<u32> = members.iter().map(|node| node.get()).collect();
    Message::new(5, 56 + 4 * members.len())
        .u64(24, context)
        .u32(32, ring.map_or(view.me, |ring| ring.representative).get())
        .u64(40, ring.map_or(0, |ring| ring.seq))
        .u32(48, length(&members))
        .u32s(56, members)
        .done()
}
