//! The service `cfg`: nodes and their addresses, and the shutdown that its clients vote on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use quorate::NodeId;

use super::view::View;
use super::{ConnectionId, Connections, Effect, Order, Step, tell};
use crate::code::Code;
use crate::layout::{Malformed, Message, Request};

/// The time that clients have to vote on a shutdown, unless the key `cfg.shutdown_timeout` has
/// another one, in milliseconds.
const VOTE: Duration = Duration::from_secs(5);

/// Flags of a request to shut down. Otherwise, all other clients are asked, and one can prevent it.
/// They are asked, and their answers do not count.
const REGARDLESS: u32 = 1;
/// They are not asked.
const IMMEDIATE: u32 = 2;

/// The id of the response to a request to shut down.
const SHUTDOWN: i32 = 9;

#[derive(Default)]
pub(super) struct Cfg {
    /// The clients that vote on a shutdown.
    trackers: BTreeSet<ConnectionId>,
    vote: Option<Vote>,
    votes: u64,
    /// The clients that have asked for a reload, by the number of their request, until it has gone
    /// round the ring.
    asked: BTreeMap<u64, ConnectionId>,
    requests: u64,
    /// The reload that is under way, and the next one, with the clients that wait for them. Each
    /// reads the file as it is after the last request for it.
    reloads: [Option<Vec<ConnectionId>>; 2],
}

/// A vote on a shutdown.
struct Vote {
    number: u64,
    /// The client that asked for the shutdown.
    by: ConnectionId,
    regardless: bool,
    /// The answers so far. `None` stands for a client that has not answered.
    answers: BTreeMap<ConnectionId, Option<bool>>,
}

impl Cfg {
    /// Returns the number of things that are kept for clients.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let waiting = self.reloads.iter().flatten().map(Vec::len).sum::<usize>();
        self.trackers.len() + usize::from(self.vote.is_some()) + self.asked.len() + waiting
    }

    pub(super) fn close(&mut self, id: ConnectionId, connections: &Connections, effects: &mut Vec<Effect>) {
        // Without the client that asked for it, there is no shutdown.
        self.vote.take_if(|vote| vote.by == id);
        self.asked.retain(|_, client| *client != id);
        self.reloads.iter_mut().flatten().for_each(|waiting| waiting.retain(|client| *client != id));
        self.untrack(id, connections, effects);
    }

    /// Removes a client from the voters. Its missing answer no longer prevents a shutdown.
    fn untrack(&mut self, id: ConnectionId, connections: &Connections, effects: &mut Vec<Effect>) {
        self.trackers.remove(&id);
        if let Some(vote) = &mut self.vote {
            vote.answers.remove(&id);
            self.count(connections, effects);
        }
    }

    pub(super) fn request(
        &mut self,
        id: ConnectionId,
        request: &Request,
        view: &View,
        limit: Option<u32>,
        connections: &Connections,
        effects: &mut Vec<Effect>,
    ) -> Result<Step, Malformed> {
        let reply = match request.id() {
            0 => ring_status(view),
            1 => Message::status(1, Code::NotSupported),
            2 => return kill(request, view),
            3 => {
                let limit = limit.map_or(VOTE, |limit| Duration::from_millis(limit.into()));
                return Ok(self.try_shutdown(id, request.u32(16)?, limit, connections, effects));
            }
            4 => {
                let agrees = request.u32(16)? != 0;
                let answer = self.vote.as_mut().and_then(|vote| vote.answers.get_mut(&id));
                let code = if answer.is_some() { Code::Ok } else { Code::Access };
                if let Some(answer) = answer {
                    *answer = Some(agrees);
                    self.count(connections, effects);
                }
                Message::status(13, code)
            }
            5 => addresses(request.u32(16)?, view),
            6 => Message::new(12, 32).u32(24, view.me.get()).done(),
            7 => return Ok(self.ask_to_reload(id, effects)),
            // The log has no file of its own that could be opened again.
            8 => Message::status(15, Code::Ok),
            9 => node_status(request.u32(16)?, request.u32(24)?, view),
            10 => {
                self.trackers.insert(id);
                Message::status(2, Code::Ok)
            }
            11 => {
                self.untrack(id, connections, effects);
                Message::status(3, Code::Ok)
            }
            _ => return Err(Malformed),
        };
        Ok(Step::Reply(reply))
    }

    /// Asks all members to read their configuration again. A client has to wait for the answer
    /// before it asks again.
    fn ask_to_reload(&mut self, id: ConnectionId, effects: &mut Vec<Effect>) -> Step {
        /// Numbers that the rest of the process hardly uses ([`quorate::Node::ask_to_reload`]).
        const FIRST: u64 = 1 << 32;
        let waits = |waiting: &Vec<ConnectionId>| waiting.contains(&id);
        if self.asked.values().any(|client| *client == id) || self.reloads.iter().flatten().any(waits) {
            return Step::Reply(reloaded(Code::TryAgain));
        }
        self.requests += 1;
        let request = FIRST + self.requests;
        self.asked.insert(request, id);
        effects.push(Effect::AskToReload { request });
        Step::Silent
    }

    /// Begins a reload, or takes note of the next one if one is under way. `request` is the number,
    /// if this node was asked.
    pub(super) fn reload(&mut self, request: Option<u64>, effects: &mut Vec<Effect>) {
        let client = request.and_then(|request| self.asked.remove(&request));
        let [under_way, next] = &mut self.reloads;
        if under_way.is_none() {
            *under_way = Some(client.into_iter().collect());
            effects.push(Effect::Reload);
        } else {
            next.get_or_insert_default().extend(client);
        }
    }

    /// Ends the reload that is under way, and begins the next one. Returns the clients that have
    /// waited.
    pub(super) fn reloaded(&mut self, effects: &mut Vec<Effect>) -> Vec<ConnectionId> {
        let [under_way, next] = &mut self.reloads;
        let waited = std::mem::replace(under_way, next.take()).unwrap_or_default();
        if under_way.is_some() {
            effects.push(Effect::Reload);
        }
        waited
    }

    fn try_shutdown(
        &mut self,
        by: ConnectionId,
        flags: u32,
        limit: Duration,
        connections: &Connections,
        effects: &mut Vec<Effect>,
    ) -> Step {
        if flags == IMMEDIATE {
            effects.push(Effect::Shutdown);
            return Step::Reply(Message::status(SHUTDOWN, Code::Ok));
        }
        if self.vote.is_some() {
            return Step::Reply(Message::status(SHUTDOWN, Code::Exist));
        }
        let voters = self.trackers.iter().filter(|tracker| **tracker != by);
        let answers: BTreeMap<_, _> = voters.map(|voter| (*voter, None)).collect();
        for voter in answers.keys() {
            tell(connections, *voter, Message::new(10, 32).u32(24, flags).done());
        }
        self.votes += 1;
        let number = self.votes;
        self.vote = Some(Vote { number, by, regardless: flags == REGARDLESS, answers });
        self.count(connections, effects);
        if self.vote.is_some() {
            effects.push(Effect::EndVote { vote: number, after: limit });
        }
        Step::Silent
    }

    /// Ends the vote if all have answered.
    fn count(&mut self, connections: &Connections, effects: &mut Vec<Effect>) {
        let over = |vote: &Vote| vote.answers.values().all(Option::is_some);
        if let Some(vote) = self.vote.take_if(|vote| over(vote)) {
            let agreed = vote.regardless || vote.answers.values().all(|answer| *answer == Some(true));
            decide(&vote, agreed, connections, effects);
        }
    }

    /// Ends a vote whose time is over. Clients that have not answered disagree.
    pub(super) fn end_vote(&mut self, number: u64, connections: &Connections, effects: &mut Vec<Effect>) {
        if let Some(vote) = self.vote.take_if(|vote| vote.number == number) {
            for (voter, _) in vote.answers.iter().filter(|(_, answer)| answer.is_none()) {
                tell(connections, *voter, Message::new(10, 32).code(Code::Timeout).done());
            }
            decide(&vote, vote.regardless, connections, effects);
        }
    }
}

/// Asks a member to leave, with the reason that the operator gave.
fn kill(request: &Request, view: &View) -> Result<Step, Malformed> {
    /// The room for a reason, with its NUL.
    const REASON: usize = 256;
    request.bytes(26, REASON)?;
    let length = usize::from(request.u16(24)?).min(REASON);
    let reason = String::from_utf8_lossy(&request.bytes(26, length)?).trim_end_matches('\0').to_owned();
    match NodeId::new(request.u32(16)?).filter(|node| view.members.contains(node)) {
        Some(node) => Ok(Step::Do(Order::Kill { node, reason })),
        None => Ok(Step::Reply(killed(Code::NotExist))),
    }
}

/// Returns the response to a request to read the configuration again, once this node has done so.
pub(super) fn reloaded(code: Code) -> Bytes {
    Message::status(14, code)
}

/// Returns the response to a request to kill a node.
pub(super) fn killed(code: Code) -> Bytes {
    Message::status(8, code)
}

fn decide(vote: &Vote, agreed: bool, connections: &Connections, effects: &mut Vec<Effect>) {
    let code = if agreed { Code::Ok } else { Code::Busy };
    if let Some(connection) = connections.get(&vote.by) {
        connection.outbox.response(Message::status(SHUTDOWN, code));
    }
    if agreed {
        effects.push(Effect::Shutdown);
    }
}

/// The answer that corosync-cfgtool used before version 3.1: one interface.
fn ring_status(view: &View) -> Bytes {
    let own = view.addresses.get(&view.me).map_or_else(String::new, |ip| format!("0 {ip}"));
    Message::new(0, 10_272).u32(24, 1).bytes(32, own.as_bytes()).bytes(2080, b"OK").done()
}

fn addresses(node: u32, view: &View) -> Bytes {
    /// Address families of Linux.
    const V4: u32 = 2;
    const V6: u32 = 10;
    let id = NodeId::new(node).unwrap_or(view.me);
    match view.addresses.get(&id) {
        Some(IpAddr::V4(ip)) => Message::new(11, 48).u32(24, V4).u32(28, 1).bytes(32, &ip.octets()).done(),
        Some(IpAddr::V6(ip)) => Message::new(11, 48).u32(24, V6).u32(28, 1).bytes(32, &ip.octets()).done(),
        None => Message::new(11, 32).code(Code::NotExist).done(),
    }
}

fn node_status(node: u32, version: u32, view: &View) -> Bytes {
    const ID: i32 = 16;
    /// The beginning of the status, and of the first link in it.
    const STATUS: usize = 24;
    const LINK: usize = STATUS + 16;
    /// The size of two headers of frames, which corosync subtracts from `netmtu`.
    const HEADERS: u32 = 90;
    if version != 1 {
        return Message::new(ID, 32).code(Code::NotSupported).done();
    }
    let status = Message::new(ID, 4200).u32(STATUS, version);
    let Some(id) = NodeId::new(node) else { return status.done() };
    let Some(address) = view.addresses.get(&id) else {
        return Message::new(ID, 32).code(Code::Failed).done();
    };
    let online = u8::from(view.members.contains(&id));
    // Over UDP, corosync states the node's own address as the source, and no destination.
    status
        .u32(STATUS + 4, id.get())
        .u8(STATUS + 8, online)
        .u8(LINK, 1)
        .u8(LINK + 1, online)
        .u32(LINK + 4, view.mtu.saturating_sub(HEADERS))
        .bytes(LINK + 8, address.to_string().as_bytes())
        .done()
}
