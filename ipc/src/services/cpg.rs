//! The service `cpg`: process groups.
//!
//! A connection stands for one process in at most one group. A join is answered at once. The
//! process is a member when the ring delivers its join, and sees messages from there on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use quorate::{Delivery, Group, GroupChange, GroupError, GroupReason, NodeId, Parting, Process, Totem};

use super::view::View;
use super::{ConnectionId, Connections, Effect, Order, Step, tell, tell_all};
use crate::code::Code;
use crate::layout::{Malformed, Message, Request, length};
use crate::outbox::Outbox;

/// The longest message that libcpg takes in one event. Longer ones come in parts.
const LONGEST_WHOLE: usize = (1 << 20) - 1024;
/// The most members that the answer about a group has room for.
const MEMBERS: usize = 384;
/// The most iterations that a connection may have open.
const MAX_ITERATIONS: usize = 16;
/// The size of an address in a list.
const ADDRESS: usize = 24;

/// The request that no response follows.
pub(super) const MULTICAST: i32 = 2;

/// The types of a part of a message.
const FIRST: u32 = 1;
const MORE: u32 = 2;
const LAST: u32 = 3;

/// The kinds of an iteration: the names of all groups, the members of one, the members of all.
const NAMES: u32 = 1;
const ONE: u32 = 2;
const ALL: u32 = 3;

/// A connection's place in a group.
struct Seat {
    group: Group,
    pid: u32,
    standing: Standing,
    /// Whether the client wants to know the ring at its join.
    wants_ring: bool,
    /// A message that the client is sending in parts.
    parts: Option<(BytesMut, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The join is not delivered yet.
    Joining,
    In,
    /// The leave is not delivered yet.
    Leaving,
    /// The connection cannot join again, as with corosync 3.1.
    Out,
}

/// The result of a step of an iteration: a group, or a member of it.
type Entry = (Group, Option<Process>);

pub(super) struct Cpg {
    me: NodeId,
    groups: BTreeMap<Group, BTreeSet<Process>>,
    seats: BTreeMap<ConnectionId, Seat>,
    /// The connections that a group's events go to.
    listeners: BTreeMap<Group, BTreeSet<ConnectionId>>,
    iterations: BTreeMap<(ConnectionId, u64), VecDeque<Entry>>,
    last_iteration: u64,
}

impl Cpg {
    /// Returns the number of things that are kept for clients.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.seats.len() + self.listeners.len() + self.iterations.len() + self.groups.len()
    }

    pub(super) fn new(me: NodeId) -> Self {
        Self {
            me,
            groups: BTreeMap::new(),
            seats: BTreeMap::new(),
            listeners: BTreeMap::new(),
            iterations: BTreeMap::new(),
            last_iteration: 0,
        }
    }

    /// Removes a connection. A process that has not left its group counts as dead.
    pub(super) fn close(&mut self, id: ConnectionId, effects: &mut Vec<Effect>) {
        self.iterations.retain(|(of, _), _| *of != id);
        let Some(seat) = self.unlisten(id) else { return };
        // A leave may not have reached the node yet. A second one has no effect.
        if seat.standing != Standing::Out {
            effects.push(Effect::Abandon { pid: seat.pid, group: seat.group, parting: Parting::Died });
        }
    }

    fn unlisten(&mut self, id: ConnectionId) -> Option<Seat> {
        let seat = self.seats.remove(&id)?;
        if let Some(listeners) = self.listeners.get_mut(&seat.group) {
            listeners.remove(&id);
            if listeners.is_empty() {
                self.listeners.remove(&seat.group);
            }
        }
        Some(seat)
    }

    pub(super) fn request(
        &mut self,
        id: ConnectionId,
        request: &Request,
        view: &View,
        outbox: &Outbox,
    ) -> Result<Step, Malformed> {
        let reply = match request.id() {
            0 => return self.join(id, request),
            1 => return self.leave(id, request),
            MULTICAST => {
                let payload = request.bytes(40, request.u32(32)? as usize)?;
                outbox.short();
                // The library takes the message without an answer, as with corosync.
                return Ok(self.multicast(id, payload).map_or(Step::Silent, Step::Do));
            }
            3 => self.members(&request.group(16)?),
            4 => Message::new(7, 32).u32(24, view.me.get()).done(),
            5 => {
                let kind = request.u32(152)?;
                // libcpg does not set the name for the other kinds. It is as it was on its stack.
                let group = if kind == ONE { request.group(16)? } else { Bytes::new() };
                self.iterate(id, &group, kind)
            }
            6 => self.next(id, request.u64(16)?),
            7 => {
                let known = self.iterations.remove(&(id, request.u64(16)?)).is_some();
                Message::status(11, if known { Code::Ok } else { Code::NotExist })
            }
            8 => Message::status(12, Code::Ok),
            // No program outside of corosync's own tests sends messages by a file of its own.
            9..=11 => Message::status(2, Code::NotSupported),
            12 => return self.part(id, request, outbox),
            _ => return Err(Malformed),
        };
        Ok(Step::Reply(reply))
    }

    fn join(&mut self, id: ConnectionId, request: &Request) -> Result<Step, Malformed> {
        const ID: i32 = 0;
        let (pid, flags) = (request.u32(152)?, request.u32(160)?);
        if request.u32(16)? as usize > Group::MAX {
            return Ok(Step::Reply(Message::status(ID, Code::NameTooLong)));
        }
        let name = request.group(16)?;
        let Ok(group) = Group::new(name) else {
            return Ok(Step::Reply(Message::status(ID, Code::InvalidParam)));
        };
        let is_taken = |seat: &Seat| seat.pid == pid && seat.group == group && seat.standing != Standing::Out;
        if self.seats.contains_key(&id) || self.seats.values().any(is_taken) {
            return Ok(Step::Reply(Message::status(ID, Code::Exist)));
        }
        self.listeners.entry(group.clone()).or_default().insert(id);
        let wants_ring = flags & 1 != 0;
        let seat = Seat { group: group.clone(), pid, standing: Standing::Joining, wants_ring, parts: None };
        self.seats.insert(id, seat);
        Ok(Step::Do(Order::Join { pid, group }))
    }

    pub(super) fn joined(&mut self, id: ConnectionId, joined: Result<(), GroupError>) -> Bytes {
        let code = match joined {
            Ok(()) => Code::Ok,
            Err(GroupError::AlreadyMember) => Code::Exist,
            Err(_) => Code::TryAgain,
        };
        if code != Code::Ok {
            self.unlisten(id);
        }
        Message::status(0, code)
    }

    fn leave(&mut self, id: ConnectionId, request: &Request) -> Result<Step, Malformed> {
        request.group(16)?;
        let step = match self.seats.get_mut(&id) {
            Some(seat) if seat.standing == Standing::In => {
                seat.standing = Standing::Leaving;
                Step::Do(Order::LeaveGroup { pid: seat.pid, group: seat.group.clone() })
            }
            Some(seat) if seat.standing == Standing::Joining => Step::Reply(Message::status(1, Code::Busy)),
            _ => Step::Reply(Message::status(1, Code::NotExist)),
        };
        Ok(step)
    }

    /// Returns the order to send a message, if the client may send.
    fn multicast(&self, id: ConnectionId, payload: Bytes) -> Option<Order> {
        let seat = self.seats.get(&id)?;
        let may_send = matches!(seat.standing, Standing::Joining | Standing::In);
        may_send.then(|| Order::Multicast { pid: seat.pid, group: seat.group.clone(), payload })
    }

    /// Takes a part of a message that is too long for one request.
    fn part(&mut self, id: ConnectionId, request: &Request, outbox: &Outbox) -> Result<Step, Malformed> {
        let (total, kind) = (request.u32(32)? as usize, request.u32(48)?);
        let content = request.bytes(56, request.u32(40)? as usize)?;
        let refuse = |code| Ok(Step::Reply(Message::status(PART, code)));
        let Some(seat) = self.seats.get_mut(&id) else { return refuse(Code::NotExist) };
        if total > Totem::MAX_PAYLOAD {
            seat.parts = None;
            return refuse(Code::TooBig);
        }
        if kind == FIRST {
            seat.parts = None;
            if !outbox.begins_long() {
                return refuse(Code::TryAgain);
            }
            seat.parts = Some((BytesMut::with_capacity(total), total));
        } else {
            outbox.goes_on();
        }
        let Some((message, length)) = seat.parts.as_mut().filter(|(_, length)| *length == total) else {
            return refuse(Code::InvalidParam);
        };
        message.extend_from_slice(&content);
        let (have, length) = (message.len(), *length);
        match kind {
            FIRST | MORE if have < length => Ok(Step::Reply(Message::status(PART, Code::Ok))),
            LAST if have == length => {
                let message = seat.parts.take().map(|(message, _)| message.freeze()).unwrap_or_default();
                let Some(order) = self.multicast(id, message) else { return refuse(Code::NotExist) };
                // The client is answered before the node has room for the message. Otherwise it
                // could not read its events meanwhile.
                Ok(Step::ReplyAndDo(Message::status(PART, Code::Ok), order))
            }
            _ => {
                seat.parts = None;
                refuse(Code::InvalidParam)
            }
        }
    }

    fn members(&self, name: &Bytes) -> Bytes {
        let group = Group::new(name.clone()).ok();
        let members = group.and_then(|group| self.groups.get(&group));
        let members: Vec<&Process> = members.into_iter().flatten().take(MEMBERS).collect();
        let answer = Message::new(3, 32 + MEMBERS * ADDRESS).u32(24, length(&members));
        members
            .iter()
            .enumerate()
            .fold(answer, |answer, (n, member)| address(answer, 32 + n * ADDRESS, member, 0))
            .done()
    }

    fn iterate(&mut self, id: ConnectionId, name: &[u8], kind: u32) -> Bytes {
        let all = self.groups.iter();
        let list: VecDeque<_> = match kind {
            NAMES => all.map(|(group, _)| (group.clone(), None)).collect(),
            ONE | ALL => all
                .filter(|(group, _)| kind == ALL || group.as_bytes() == name)
                .flat_map(|(group, members)| members.iter().map(|member| (group.clone(), Some(*member))))
                .collect(),
            _ => return Message::new(9, 32).code(Code::InvalidParam).done(),
        };
        if self.iterations.range((id, 0)..=(id, u64::MAX)).count() >= MAX_ITERATIONS {
            return Message::new(9, 32).code(Code::TryAgain).done();
        }
        self.last_iteration += 1;
        self.iterations.insert((id, self.last_iteration), list);
        Message::new(9, 32).u64(24, self.last_iteration).done()
    }

    fn next(&mut self, id: ConnectionId, handle: u64) -> Bytes {
        let answer = Message::new(10, 168);
        let Some(iteration) = self.iterations.get_mut(&(id, handle)) else {
            return answer.code(Code::NotExist).done();
        };
        match iteration.pop_front() {
            Some((group, member)) => {
                let [node, pid] = member.map_or([0, 0], |member| [member.node.get(), member.pid]);
                answer.group(24, group.as_bytes()).u32(160, node).u32(164, pid).done()
            }
            None => answer.code(Code::NoSections).done(),
        }
    }

    /// Passes a message to the members of its group here.
    pub(super) fn deliver(&self, delivery: &Delivery, connections: &Connections) {
        let Some(listeners) = self.listeners.get(&delivery.group) else { return };
        let is_member = |id: &&ConnectionId| {
            self.seats.get(id).is_some_and(|seat| matches!(seat.standing, Standing::In | Standing::Leaving))
        };
        let members = || listeners.iter().filter(is_member).copied();
        if members().next().is_none() {
            return;
        }
        if delivery.payload.len() <= LONGEST_WHOLE {
            tell_all(connections, members(), delivered(delivery));
        } else {
            delivered_in_parts(delivery).for_each(|part| tell_all(connections, members(), part));
        }
    }

    /// Passes a change of a group to its members here.
    pub(super) fn change(&mut self, change: &GroupChange, view: &View, connections: &Connections) {
        if change.members.is_empty() {
            self.groups.remove(&change.group);
        } else {
            self.groups.insert(change.group.clone(), change.members.clone());
        }
        let event = changed(change);
        let listeners = self.listeners.get(&change.group).cloned().unwrap_or_default();
        for id in listeners {
            let Some(seat) = self.seats.get_mut(&id) else { continue };
            let process = Process { node: self.me, pid: seat.pid };
            let joins = seat.standing == Standing::Joining && change.joined.contains(&process);
            if joins {
                seat.standing = Standing::In;
            }
            if !matches!(seat.standing, Standing::In | Standing::Leaving) {
                continue;
            }
            // This node leaves the ring with all its processes. A process that did not ask to leave
            // would take a list without itself for its eviction. Its connection ends next.
            if seat.standing == Standing::In && change.left.contains(&process) {
                seat.standing = Standing::Out;
                continue;
            }
            tell(connections, id, event.clone());
            if joins && seat.wants_ring {
                tell(connections, id, ring(view));
            }
            if change.left.contains(&process) {
                seat.standing = Standing::Out;
            }
        }
    }

    /// Tells all clients a new ring.
    pub(super) fn ring(&self, view: &View, connections: &Connections) {
        let event = ring(view);
        for (id, _) in connections.iter().filter(|(_, connection)| connection.service == super::Service::Cpg)
        {
            tell(connections, *id, event.clone());
        }
    }
}

/// Returns the response to a leave.
pub(super) fn left(left: &Result<(), GroupError>) -> Bytes {
    Message::status(1, if left.is_ok() { Code::Ok } else { Code::NotExist })
}

/// The id of the response to a part.
const PART: i32 = 18;

fn address(message: Message, at: usize, process: &Process, reason: u32) -> Message {
    message.u32(at, process.node.get()).u32(at + 8, process.pid).u32(at + 16, reason)
}

/// The event of a change: the members, those that left, and those that joined.
fn changed(change: &GroupChange) -> Bytes {
    let reason = match change.reason {
        GroupReason::Join => 1,
        GroupReason::Leave => 2,
        GroupReason::NodeDown => 3,
        GroupReason::NodeUp => 4,
        GroupReason::ProcessDown => 5,
    };
    let members = change.members.iter().map(|member| (member, 0));
    let others = change.left.iter().chain(&change.joined).map(|process| (process, reason));
    let count = change.members.len() + change.left.len() + change.joined.len();
    let event = Message::new(4, 184 + ADDRESS * count)
        .group(24, change.group.as_bytes())
        .u32(160, u32::try_from(change.members.len()).unwrap_or(u32::MAX))
        .u32(168, u32::try_from(change.joined.len()).unwrap_or(u32::MAX))
        .u32(176, u32::try_from(change.left.len()).unwrap_or(u32::MAX));
    let addresses = members.chain(others).enumerate();
    addresses
        .fold(event, |event, (n, (process, reason))| address(event, 184 + n * ADDRESS, process, reason))
        .done()
}

/// The event of a ring. Its array begins right after the count.
fn ring(view: &View) -> Bytes {
    let members: Vec<u32> = view.members.iter().map(|node| node.get()).collect();
    Message::new(13, 48 + 4 * members.len())
        .u32(24, view.representative())
        .u64(32, view.seq())
        .u32(40, length(&members))
        .u32s(44, members)
        .done()
}

/// The event of a message.
fn delivered(delivery: &Delivery) -> Bytes {
    let Delivery { from, pid, payload, group, .. } = delivery;
    Message::new(5, 184 + payload.len())
        .group(24, group.as_bytes())
        .u32(160, length(payload))
        .u32(168, from.get())
        .u32(176, *pid)
        .bytes(184, payload)
        .done()
}

/// The events of a message that is too long for one.
fn delivered_in_parts(delivery: &Delivery) -> impl Iterator<Item = Bytes> {
    let Delivery { from, pid, payload, group, .. } = delivery;
    let parts = payload.chunks(LONGEST_WHOLE / 2);
    let last = parts.len() - 1;
    parts.enumerate().map(move |(n, part)| {
        let kind = match n {
            0 => FIRST,
            n if n == last => LAST,
            _ => MORE,
        };
        Message::new(17, 200 + part.len())
            .group(24, group.as_bytes())
            .u32(160, length(payload))
            .u32(168, length(part))
            .u32(176, from.get())
            .u32(184, *pid)
            .u32(192, kind)
            .bytes(200, part)
            .done()
    })
}
