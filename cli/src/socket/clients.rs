//! The long-lived clients of a node: the events that each receives, and the messages of each that
//! came back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate::{Delivery, Event, Group, GroupChange, NodeId, Process, RingId, Status};
use quorate_client as client;

use super::lines;
use super::outbox::{self, Outbox};

/// A client of this run of the node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ClientId(u64);

/// All `cat` and `watch` clients. Events come in, and lines go to the clients' outboxes. No
/// function here waits for a client.
pub(crate) struct Clients {
    /// This node.
    node: NodeId,
    /// Updates an earlier status to the present time.
    as_of_now: Box<dyn Fn(Status) -> Status + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The lines that a new client must receive first: the regular configuration, and the
    /// transitional one if its ring is ending.
    configuration: Vec<u8>,
    status: Status,
    /// The ring of `configuration`.
    ring: Option<RingId>,
    /// The members of each group.
    groups: BTreeMap<Group, BTreeSet<Process>>,
    clients: BTreeMap<ClientId, Client>,
    /// The outboxes of all clients, including those that have ended but not read everything.
    outboxes: BTreeMap<ClientId, Arc<Outbox>>,
    /// The bytes in all outboxes.
    unread: Arc<AtomicUsize>,
    next_id: u64,
    /// The senders of the messages that this node has given to the ring and not yet seen delivered,
    /// with their processes. Messages come back in this order.
    sent: VecDeque<(ClientId, u32)>,
    /// The reason why clients are no longer served.
    closed: Option<String>,
    /// The ring of the latest message, and its text.
    printed: Option<(RingId, String)>,
    /// Empty buffers, kept for their allocations.
    line: Vec<u8>,
    receivers: Vec<ClientId>,
}

struct Client {
    wants_status: bool,
    outbox: Arc<Outbox>,
    greeted: bool,
    /// The client's place in a group; `None` if it only watches the ring.
    seat: Option<Seat>,
}

/// A client's place in a group.
struct Seat {
    group: Group,
    process: Process,
    /// Whether its process is in the group, so that it receives the group's events.
    joined: bool,
    /// The number of its messages that were delivered here.
    delivered: u64,
    /// The number of messages that it sent, once it has announced the end.
    sent: Option<u64>,
}

impl Clients {
    /// Creates an empty set of clients.
    pub(crate) fn new(node: NodeId, as_of_now: impl Fn(Status) -> Status + Send + Sync + 'static) -> Self {
        Self { node, as_of_now: Box::new(as_of_now), state: Mutex::default() }
    }

    /// Adds a client that joins a group with its process. If there is a configuration, it is the
    /// first line in the client's outbox.
    pub(crate) fn join(&self, group: Group, pid: u32, wants_status: bool) -> (ClientId, Arc<Outbox>) {
        let process = Process { node: self.node, pid };
        self.add(Some(Seat { group, process, joined: false, delivered: 0, sent: None }), wants_status)
    }

    /// Adds a client that receives rings and status.
    pub(crate) fn watch(&self) -> (ClientId, Arc<Outbox>) {
        self.add(None, true)
    }

    fn add(&self, seat: Option<Seat>, wants_status: bool) -> (ClientId, Arc<Outbox>) {
        let mut state = self.lock();
        let id = ClientId(state.next_id);
        state.next_id += 1;
        let outbox = Arc::new(Outbox::counted_in(state.unread.clone()));
        state.outboxes.insert(id, outbox.clone());
        if let Some(why) = &state.closed {
            outbox.end(&lines::error(why));
            return (id, outbox);
        }
        let mut client = Client { wants_status, outbox: outbox.clone(), greeted: false, seat };
        let status = || (self.as_of_now)(state.status.clone());
        if client.greet(&state.configuration, status) && client.find_itself(&state) {
            state.clients.insert(id, client);
        }
        (id, outbox)
    }

    /// Removes a client that has gone.
    pub(crate) fn remove(&self, id: ClientId) {
        let mut state = self.lock();
        state.clients.remove(&id);
        state.outboxes.remove(&id);
    }

    /// Removes a client whose action failed, after sending it the error.
    pub(crate) fn fail(&self, id: ClientId, why: &str) {
        if let Some(client) = self.lock().clients.remove(&id) {
            client.outbox.end(&lines::error(why));
        }
    }

    /// Records that the client has sent its last message, and the number of messages.
    pub(crate) fn finish(&self, id: ClientId, sent: u64) {
        let mut state = self.lock();
        let Some(client) = state.clients.get_mut(&id) else { return };
        if let Some(seat) = &mut client.seat {
            seat.sent = Some(sent);
        }
        if client.ended() {
            state.clients.remove(&id);
        }
    }

    /// Records that a message of this client is about to be given to the ring. Calls must come in
    /// the order of the messages.
    pub(crate) fn sending(&self, id: ClientId, pid: u32) {
        self.lock().sent.push_back((id, pid));
    }

    /// Passes an event to the clients.
    pub(crate) fn handle(&self, event: &Event) {
        let mut state = self.lock();
        match event {
            Event::Regular(regular) => {
                let line = lines::regular(regular);
                state.ring = Some(regular.ring);
                state.configuration.clone_from(&line);
                let State { clients, status, .. } = &mut *state;
                clients.retain(|_, client| {
                    if client.greeted { client.push(&line) } else { client.greet(&line, || status.clone()) }
                });
            }
            Event::Transitional(transitional) => {
                let line = lines::transitional(transitional);
                state.configuration.extend_from_slice(&line);
                state.clients.retain(|_, client| !client.greeted || client.push(&line));
            }
            Event::GroupChange(change) => state.change(change),
            Event::Deliver(delivery) => state.deliver(self.node, delivery),
            Event::Stalled(length) => {
                let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
                let line = client::Event::Stalled { ms }.to_line();
                state
                    .clients
                    .retain(|_, client| client.seat.is_some() || !client.greeted || client.push(&line));
            }
            Event::Left(cause) => state.close(&format!("the node has left the ring: {cause}")),
            Event::Status(status) => {
                let line = lines::status_event(status);
                state.status.clone_from(status);
                state
                    .clients
                    .retain(|_, client| !client.greeted || !client.wants_status || client.push(&line));
            }
            _ => {}
        }
        state.relieve();
    }

    /// Ends all clients, including later ones, with the reason.
    pub(crate) fn close(&self, why: &str) {
        self.lock().close(why);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn change(&mut self, change: &GroupChange) {
        if change.members.is_empty() {
            self.groups.remove(&change.group);
        } else {
            self.groups.insert(change.group.clone(), change.members.clone());
        }
        let line = lines::group_change(change);
        self.clients.retain(|_, client| {
            let Some(seat) = client.seat_in(&change.group) else { return true };
            let seen = seat.joined || change.joined.contains(&seat.process);
            // A process that leaves receives its own leave.
            seat.joined = change.members.contains(&seat.process);
            (!seen || client.push(&line)) && !client.ended()
        });
    }

    fn deliver(&mut self, node: NodeId, delivery: &Delivery) {
        let Self { clients, line, receivers, printed, .. } = self;
        line.clear();
        *printed = printed.take().filter(|(ring, _)| *ring == delivery.ring);
        let (_, ring) = printed.get_or_insert_with(|| (delivery.ring, delivery.ring.to_string()));
        for (id, client) in clients.iter_mut() {
            if client.seat_in(&delivery.group).is_some_and(|seat| seat.joined) {
                receivers.push(*id);
            }
        }
        if !receivers.is_empty() {
            lines::append_delivery(line, ring, delivery);
        }
        let (line, mut receivers) = (std::mem::take(line), std::mem::take(receivers));
        for id in receivers.drain(..) {
            // An earlier receiver's copy may have cost this client its place.
            if self.clients.get(&id).is_some_and(|client| !client.push(&line)) {
                self.clients.remove(&id);
            }
            self.relieve();
        }
        (self.line, self.receivers) = (line, receivers);
        // Processes of the node that are not clients here send messages, too.
        let next = self.sent.front().filter(|(_, pid)| delivery.from == node && *pid == delivery.pid);
        let Some((id, _)) = next.copied() else { return };
        self.sent.pop_front();
        let Some(client) = self.clients.get_mut(&id) else { return };
        if let Some(seat) = &mut client.seat {
            seat.delivered += 1;
        }
        if client.ended() {
            self.clients.remove(&id);
        }
    }

    /// Disconnects the client with the most unread bytes while all clients together have too many.
    fn relieve(&mut self) {
        while self.unread.load(Ordering::Relaxed) > outbox::TOTAL {
            let most = self.outboxes.iter().max_by_key(|(_, outbox)| outbox.length());
            let Some((id, outbox)) = most.map(|(id, outbox)| (*id, outbox)) else { return };
            let why = format!(
                "the clients of this node left more than {} MiB unread in total, and this one the most, so \
                 it was disconnected; read faster, or send less",
                outbox::TOTAL >> 20
            );
            if outbox.cut(&lines::error(&why)) == 0 {
                return;
            }
            self.clients.remove(&id);
        }
    }

    fn close(&mut self, why: &str) {
        let line = lines::error(why);
        for client in std::mem::take(&mut self.clients).into_values() {
            client.outbox.end(&line);
        }
        self.closed.get_or_insert_with(|| why.to_owned());
    }
}

// `greet`, `find_itself` and `push` return `true` if the client stays.
impl Client {
    /// Sends the current configuration and status, if there is a ring yet.
    fn greet(&mut self, configuration: &[u8], status: impl FnOnce() -> Status) -> bool {
        if configuration.is_empty() {
            return true;
        }
        self.greeted = true;
        self.push(configuration) && (!self.wants_status || self.push(&lines::status_event(&status())))
    }

    /// Joins a client at once if another connection of its process is already in the group.
    fn find_itself(&mut self, state: &State) -> bool {
        let Some(seat) = &mut self.seat else { return true };
        let Some((ring, members)) = state.ring.zip(state.groups.get(&seat.group)) else { return true };
        seat.joined = members.contains(&seat.process);
        let line = lines::group(ring, &seat.group, members);
        !seat.joined || self.push(&line)
    }

    fn push(&self, line: &[u8]) -> bool {
        let taken = self.outbox.push(line);
        if !taken {
            self.outbox.cut(&lines::error(&format!(
                "this client left more than {} MiB unread, so it was disconnected; read faster, or send less",
                outbox::LIMIT >> 20
            )));
        }
        taken
    }

    /// Ends the client if it has sent its last message and all of its messages were delivered. A
    /// client must have joined first, because even one without messages wants to see the group.
    /// Returns `true` if it has ended.
    fn ended(&self) -> bool {
        let Some(seat) = &self.seat else { return false };
        let ended = seat.joined && seat.sent == Some(seat.delivered);
        if ended {
            self.outbox.end(&client::Event::End { sent: seat.delivered }.to_line());
        }
        ended
    }

    fn seat_in(&mut self, group: &Group) -> Option<&mut Seat> {
        self.seat.as_mut().filter(|seat| seat.group == *group)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use quorate::{Cause, GroupReason, Guarantee, Regular, Seq, Totem, Transitional};
    use serde_json::Value;

    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn regular(ring: &str) -> Event {
        Event::Regular(Regular {
            ring: ring.parse().unwrap(),
            members: BTreeSet::from([node(1), node(2)]),
            joined: BTreeSet::new(),
            left: BTreeSet::new(),
            causes: vec![Cause::Started],
        })
    }

    fn transitional(ring: &str, previous: &str) -> Event {
        Event::Transitional(Transitional {
            ring: ring.parse().unwrap(),
            previous: previous.parse().unwrap(),
            members: BTreeSet::from([node(1)]),
            left: BTreeSet::from([node(2)]),
        })
    }

    fn deliver(from: u32, group: &str, payload: impl Into<Bytes>) -> Event {
        deliver_of(from, PID, group, payload)
    }

    fn deliver_of(from: u32, pid: u32, group: &str, payload: impl Into<Bytes>) -> Event {
        Event::Deliver(Delivery {
            ring: "1.4".parse().unwrap(),
            seq: Seq::new(1),
            from: node(from),
            pid,
            group: group.parse().unwrap(),
            guarantee: Guarantee::Agreed,
            transitional: false,
            payload: payload.into(),
        })
    }

    fn clients_on_a_ring() -> Clients {
        let clients = Clients::new(node(1), |status| status);
        clients.handle(&regular("1.4"));
        clients
    }

    fn join(clients: &Clients, group: &str) -> (ClientId, Arc<Outbox>) {
        clients.join(group.parse().unwrap(), PID, false)
    }

    /// The process of most clients in these tests.
    const PID: u32 = 7;

    /// Returns an event in which processes of this node join a group, or leave it.
    fn change(group: &str, reason: GroupReason, pids: &[u32], members: &[u32]) -> Event {
        let processes = |pids: &[u32]| pids.iter().map(|&pid| Process { node: node(1), pid }).collect();
        let joins = reason == GroupReason::Join;
        let (joined, left) = if joins { (pids, &[][..]) } else { (&[][..], pids) };
        Event::GroupChange(GroupChange {
            ring: "1.4".parse().unwrap(),
            group: group.parse().unwrap(),
            members: processes(members),
            joined: processes(joined),
            left: processes(left),
            reason,
        })
    }

    fn joined(group: &str) -> Event {
        change(group, GroupReason::Join, &[PID], &[PID])
    }

    /// Returns the clients of a node on a ring whose process is in group `g`.
    fn clients_in_a_group() -> Clients {
        let clients = clients_on_a_ring();
        clients.handle(&joined("g"));
        clients
    }

    /// Returns the lines in the outbox, shortened to the event, or to the payload of a message.
    async fn read(outbox: &Outbox) -> Vec<String> {
        let mut text = Vec::new();
        while let Ok(Some(chunk)) = tokio::time::timeout(std::time::Duration::ZERO, outbox.next()).await {
            outbox.written(chunk.len());
            text.extend(chunk);
        }
        let short = |line: &[u8]| {
            let line: Value = serde_json::from_slice(line).unwrap();
            line.get("payload").unwrap_or(&line["event"]).as_str().unwrap().to_owned()
        };
        text.split_inclusive(|byte| *byte == b'\n').map(short).collect()
    }

    #[tokio::test]
    async fn the_configuration_comes_first_for_every_client() {
        let clients = Clients::new(node(1), |status| status);
        let (_, early) = join(&clients, "g");
        clients.handle(&deliver(2, "g", "before the first ring"));
        clients.handle(&regular("1.4"));
        let (_, late) = join(&clients, "g");
        assert_eq!(read(&early).await, ["regular"]);
        assert_eq!(read(&late).await, ["regular"]);
    }

    #[tokio::test]
    async fn a_client_between_two_rings_gets_both_configurations() {
        let clients = clients_on_a_ring();
        clients.handle(&transitional("1.8", "1.4"));
        let (_, outbox) = join(&clients, "g");
        clients.handle(&regular("1.8"));
        assert_eq!(read(&outbox).await, ["regular", "transitional", "regular"]);
        let (_, later) = join(&clients, "g");
        assert_eq!(read(&later).await, ["regular"]);
    }

    #[tokio::test]
    async fn a_client_sees_its_own_group_only() {
        let clients = clients_on_a_ring();
        let (_, outbox) = join(&clients, "g");
        clients.handle(&joined("other"));
        clients.handle(&joined("g"));
        clients.handle(&deliver(2, "other", "no"));
        clients.handle(&deliver(2, "g", "yes"));
        assert_eq!(read(&outbox).await, ["regular", "group", "yes"]);
    }

    #[tokio::test]
    async fn a_client_sees_its_group_from_its_join_to_its_leave() {
        let clients = clients_on_a_ring();
        let (_, outbox) = join(&clients, "g");
        clients.handle(&change("g", GroupReason::Join, &[1], &[1]));
        clients.handle(&deliver(2, "g", "too early"));
        clients.handle(&change("g", GroupReason::Join, &[PID], &[1, PID]));
        clients.handle(&deliver(2, "g", "in time"));
        clients.handle(&change("g", GroupReason::Leave, &[PID], &[1]));
        clients.handle(&deliver(2, "g", "too late"));
        assert_eq!(read(&outbox).await, ["regular", "group", "in time", "group"]);
    }

    #[tokio::test]
    async fn a_second_connection_of_a_process_is_in_the_group_at_once() {
        let clients = clients_in_a_group();
        let (_, outbox) = join(&clients, "g");
        clients.handle(&deliver(2, "g", "seen"));
        assert_eq!(read(&outbox).await, ["regular", "group", "seen"]);
        clients.handle(&change("g", GroupReason::Leave, &[PID], &[]));
        let (_, later) = join(&clients, "g");
        assert_eq!(read(&later).await, ["regular"]);
    }

    #[tokio::test]
    async fn only_clients_that_asked_get_the_current_status() {
        let clients = clients_on_a_ring();
        clients.handle(&Event::Status(Box::default()));
        let (_, plain) = join(&clients, "g");
        let (_, curious) = clients.join("g".parse().unwrap(), PID, true);
        clients.handle(&Event::Status(Box::default()));
        assert_eq!(read(&plain).await, ["regular"]);
        assert_eq!(read(&curious).await, ["regular", "status", "status"]);
    }

    #[tokio::test]
    async fn a_new_client_gets_the_status_as_of_now() {
        let lost = |status| Status { quorate: false, ..status };
        let clients = Clients::new(node(1), lost);
        clients.handle(&regular("1.4"));
        clients.handle(&Event::Status(Box::new(Status { quorate: true, ..Status::default() })));
        let (_, outbox) = clients.watch();
        let chunk = outbox.next().await.unwrap();
        let text = String::from_utf8(chunk.to_vec()).unwrap();
        assert!(text.contains(r#""quorate":false"#), "{text}");
    }

    #[tokio::test]
    async fn a_watcher_sees_rings_and_status_and_no_group() {
        let clients = clients_in_a_group();
        clients.handle(&Event::Status(Box::default()));
        let (watcher, outbox) = clients.watch();
        clients.handle(&deliver(2, "g", "none of its business"));
        clients.handle(&change("g", GroupReason::Leave, &[PID], &[]));
        clients.handle(&transitional("1.8", "1.4"));
        clients.handle(&regular("1.8"));
        clients.handle(&Event::Stalled(std::time::Duration::from_millis(750)));
        clients.handle(&Event::Status(Box::default()));
        clients.finish(watcher, 0);
        let seen = ["regular", "status", "transitional", "regular", "stalled", "status"];
        assert_eq!(read(&outbox).await, seen);
        clients.close("the end");
        assert_eq!(read(&outbox).await, ["error"]);
    }

    #[tokio::test]
    async fn a_client_ends_once_its_own_messages_were_delivered() {
        let clients = clients_in_a_group();
        let (first, first_outbox) = join(&clients, "g");
        let (second, second_outbox) = join(&clients, "g");
        clients.sending(second, PID);
        clients.sending(first, PID);
        clients.finish(first, 1);
        clients.handle(&deliver(2, "g", "another node's"));
        clients.handle(&deliver(1, "g", "second's"));
        assert_eq!(read(&first_outbox).await, ["regular", "group", "another node's", "second's"]);
        clients.handle(&deliver(1, "g", "first's"));
        assert_eq!(read(&first_outbox).await, ["first's", "end"]);
        clients.finish(second, 1);
        let all = ["regular", "group", "another node's", "second's", "first's", "end"];
        assert_eq!(read(&second_outbox).await, all);
    }

    /// Programs that use libcpg send messages of the same node.
    #[tokio::test]
    async fn a_message_of_another_process_of_the_node_ends_no_client() {
        let clients = clients_in_a_group();
        let (id, outbox) = join(&clients, "g");
        clients.sending(id, PID);
        clients.finish(id, 1);
        clients.handle(&deliver_of(1, PID + 1, "g", "another process's"));
        assert_eq!(read(&outbox).await, ["regular", "group", "another process's"]);
        clients.handle(&deliver(1, "g", "mine"));
        assert_eq!(read(&outbox).await, ["mine", "end"]);
    }

    /// Its line would be copied for each of 64 clients.
    #[tokio::test]
    async fn a_long_message_to_many_clients_stays_within_the_limit() {
        let clients = clients_in_a_group();
        let outboxes: Vec<_> = (0..64).map(|_| join(&clients, "g").1).collect();
        let mut most = 0;
        for _ in 0..2 {
            clients.handle(&deliver(2, "g", vec![0; Totem::MAX_PAYLOAD]));
            most = most.max(clients.lock().unread.load(Ordering::Relaxed));
        }
        assert!(most <= outbox::TOTAL, "{most}");
        let gone = outboxes.iter().filter(|outbox| outbox.length() < 1000).count();
        assert!(gone > 60, "{gone} of 64 were disconnected");
    }

    #[tokio::test]
    async fn messages_of_a_removed_client_are_still_counted() {
        let clients = clients_in_a_group();
        let (gone, _) = join(&clients, "g");
        let (stays, outbox) = join(&clients, "g");
        clients.sending(gone, PID);
        clients.sending(stays, PID);
        clients.remove(gone);
        clients.finish(stays, 1);
        clients.handle(&deliver(1, "g", "of the one gone"));
        clients.handle(&deliver(1, "g", "mine"));
        assert_eq!(read(&outbox).await, ["regular", "group", "of the one gone", "mine", "end"]);
    }

    #[tokio::test]
    async fn a_client_without_messages_waits_until_it_has_joined() {
        let clients = Clients::new(node(1), |status| status);
        let (id, outbox) = join(&clients, "g");
        clients.finish(id, 0);
        assert!(read(&outbox).await.is_empty());
        clients.handle(&regular("1.4"));
        assert_eq!(read(&outbox).await, ["regular"]);
        clients.handle(&joined("g"));
        assert_eq!(read(&outbox).await, ["group", "end"]);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off_alone() {
        let clients = clients_in_a_group();
        let (_, slow) = join(&clients, "g");
        let (_, quick) = join(&clients, "g");
        for _ in 0..=outbox::LIMIT >> 20 {
            clients.handle(&deliver(2, "g", vec![b'x'; 1 << 20]));
            assert!(!read(&quick).await.is_empty());
        }
        clients.handle(&deliver(2, "g", "more"));
        assert_eq!(read(&slow).await, ["error"]);
        assert_eq!(read(&quick).await, ["more"]);
    }

    #[tokio::test]
    async fn unread_bytes_of_all_clients_are_bounded() {
        let clients = clients_in_a_group();
        let outboxes: Vec<_> = (0..64).map(|_| join(&clients, "g")).collect();
        let unread = || clients.lock().unread.load(Ordering::Relaxed);
        // One client has ended, and does not read either.
        clients.finish(outboxes[0].0, 0);
        for _ in 0..40 {
            clients.handle(&deliver(2, "g", vec![b'x'; 1 << 20]));
            assert!(unread() <= outbox::TOTAL, "{}", unread());
        }
        let mut served = 0;
        for (_, outbox) in &outboxes[1..] {
            let seen = read(outbox).await;
            if seen.len() == 1 {
                assert_eq!(seen, ["error"]);
            } else {
                assert_eq!(seen.len(), 42, "all of it");
                served += 1;
            }
        }
        assert!((4..=6).contains(&served), "{served}");
        clients.handle(&deliver(2, "g", "more"));
        let after = join(&clients, "g").1;
        assert_eq!(read(&after).await, ["regular", "group"]);
        for (id, _) in outboxes {
            clients.remove(id);
        }
        drop(after);
    }

    #[tokio::test]
    async fn clients_get_the_reason_why_the_node_left() {
        let clients = clients_on_a_ring();
        let (_, outbox) = join(&clients, "g");
        clients.handle(&Event::Left(Cause::LeaveRequested));
        clients.close("the node has stopped");
        assert_eq!(read(&outbox).await, ["regular", "error"]);
        let (_, late) = join(&clients, "g");
        let chunk = late.next().await.unwrap();
        let message = client::Event::error_message(&chunk).unwrap();
        assert_eq!(message, "the node has left the ring: this node was asked to leave");
    }
}
