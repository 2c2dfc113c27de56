//! The service `votequorum`: votes, and what they add up to.
//!
//! Votes and expected votes are changed by restarting nodes with another file (see the page of
//! quorum), so requests to set them are refused. There is no quorum device.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::{NodeId, NodeStatus};

use super::view::View;
use super::{ConnectionId, Connections, Step, Tracking, tell};
use crate::code::Code;
use crate::layout::{Malformed, Message, Request, length};
use crate::outbox::Outbox;

/// The states of a node.
const MEMBER: u32 = 1;
const DEAD: u32 = 2;

/// A client that tracks changes, with the number that it gave its tracker.
#[derive(Default)]
pub(super) struct Votequorum {
    trackers: BTreeMap<ConnectionId, u64>,
}

impl Votequorum {
    pub(super) fn close(&mut self, id: ConnectionId) {
        self.trackers.remove(&id);
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
            1 | 2 | 5..=9 => Code::NotSupported,
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
        Ok(Step::Reply(Message::status(0, code)))
    }

    pub(super) fn ring(&self, view: &View, connections: &Connections) {
        for (id, context) in &self.trackers {
            tell(connections, *id, nodes(*context, view));
        }
    }

    pub(super) fn status(&self, view: &View, connections: &Connections) {
        for (id, context) in &self.trackers {
            tell(connections, *id, verdict(*context, view));
        }
    }
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
    let fields = [
        id.get(),
        state(known),
        known.votes,
        expected,
        expected,
        status.total_votes,
        status.quorum.unwrap_or_default(),
        flags(&status.flags),
    ];
    answer.u32s(24, fields).done()
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

fn verdict(context: u64, view: &View) -> Bytes {
    let nodes = &view.status.nodes;
    let states = nodes.iter().flat_map(|node| [node.id.get(), state(node)]);
    Message::new(3, 48 + 8 * nodes.len())
        .u32(24, u32::from(view.status.quorate))
        .u64(32, context)
        .u32(40, length(nodes))
        .u32s(48, states)
        .done()
}

fn nodes(context: u64, view: &View) -> Bytes {
    let members: Vec<u32> = view.members.iter().map(|node| node.get()).collect();
    Message::new(5, 56 + 4 * members.len())
        .u64(24, context)
        .u32(32, view.representative())
        .u64(40, view.seq())
        .u32(48, length(&members))
        .u32s(56, members)
        .done()
}
