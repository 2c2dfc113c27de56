//! The service `quorum`: whether the ring has a quorum, and its members.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::NodeId;

use super::view::View;
use super::{ConnectionId, Connections, Step, Tracking, tell};
use crate::code::Code;
use crate::layout::{Malformed, Message, Request, length};
use crate::outbox::Outbox;

/// The two forms of the service's events.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Model {
    #[default]
    V0,
    V1,
}

#[derive(Default)]
struct Client {
    model: Model,
    /// Whether the client is told changes.
    tracks: bool,
}

#[derive(Default)]
pub(super) struct Quorum {
    clients: BTreeMap<ConnectionId, Client>,
}

impl Quorum {
    /// Returns the number of things that are kept for clients.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        self.clients.remove(&id);
    }

    pub(super) fn request(
        &mut self,
        id: ConnectionId,
        request: &Request,
        view: &View,
        outbox: &Outbox,
    ) -> Result<Step, Malformed> {
        /// A provider decides on the quorum.
        const SET: u32 = 1;
        let client = self.clients.entry(id).or_default();
        let reply = match request.id() {
            0 => Message::new(0, 32).u32(24, u32::from(view.status.quorate)).done(),
            1 => {
                let flags = Tracking(request.u32(16)?);
                if client.tracks {
                    return Ok(Step::Reply(Message::status(1, Code::Exist)));
                }
                if flags.wants_current() {
                    current(client.model, view).into_iter().for_each(|event| outbox.event(event));
                }
                client.tracks = flags.wants_changes();
                Message::status(1, Code::Ok)
            }
            2 => {
                client.tracks = false;
                Message::status(2, Code::Ok)
            }
            3 => Message::new(4, 32).u32(24, SET).done(),
            4 => {
                client.model = match request.u32(16)? {
                    0 => Model::V0,
                    1 => Model::V1,
                    _ => return Ok(Step::Reply(Message::new(5, 32).code(Code::InvalidParam).done())),
                };
                Message::new(5, 32).u32(24, SET).done()
            }
            _ => return Err(Malformed),
        };
        Ok(Step::Reply(reply))
    }

    /// Tells the clients of model 1 the nodes of a new ring.
    pub(super) fn ring(&self, view: &View, connections: &Connections) {
        let event = nodes(view, true);
        for (id, _) in self.clients.iter().filter(|(_, client)| client.tracks && client.model == Model::V1) {
            tell(connections, *id, event.clone());
        }
    }

    /// Tells the clients a new verdict.
    pub(super) fn status(&self, view: &View, connections: &Connections) {
        for (id, client) in self.clients.iter().filter(|(_, client)| client.tracks) {
            tell(connections, *id, verdict(client.model, view));
        }
    }
}

/// The events with the current state.
fn current(model: Model, view: &View) -> Vec<Bytes> {
    match model {
        Model::V0 => vec![verdict(model, view)],
        Model::V1 => vec![nodes(view, false), verdict(model, view)],
    }
}

/// The arrays at the end of these events begin right after their count, but the size is that of a
/// struct whose size is a multiple of 8: four bytes at the end are unused.
fn verdict(model: Model, view: &View) -> Bytes {
    let quorate = u32::from(view.status.quorate);
    let members: Vec<u32> = view.members.iter().map(|node| node.get()).collect();
    match model {
        Model::V0 => Message::new(3, 48 + 4 * members.len())
            .u32(24, quorate)
            .u64(32, view.seq())
            .u32(40, length(&members))
            .u32s(44, members)
            .done(),
        Model::V1 => Message::new(6, 56 + 4 * members.len())
            .u32(24, quorate)
            .u32(32, view.representative())
            .u64(40, view.seq())
            .u32(48, length(&members))
            .u32s(52, members)
            .done(),
    }
}

fn nodes(view: &View, changes: bool) -> Bytes {
    let ids = |nodes: &std::collections::BTreeSet<NodeId>| -> Vec<u32> {
        nodes.iter().map(|node| node.get()).collect()
    };
    let members = ids(&view.members);
    let [joined, left] =
        [&view.joined, &view.left].map(|nodes| if changes { ids(nodes) } else { Vec::new() });
    let count = members.len() + joined.len() + left.len();
    Message::new(7, 64 + 4 * count)
        .u32(24, view.representative())
        .u64(32, view.seq())
        .u32(40, length(&members))
        .u32(48, length(&joined))
        .u32(56, length(&left))
        .u32s(60, members.into_iter().chain(joined).chain(left))
        .done()
}
