//! Three members without sockets, threads and clocks: this program carries their datagrams by hand
//! and says what time it is.
//!
//!     cargo run -p quorate-examples --bin by_hand
//!
//! The protocol is a value. Time, datagrams and requests go in; records, datagrams, events and
//! deadlines come out. The same inputs give the same outputs, so each run prints the same lines.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use quorate::{Config, Core, Event, Guarantee, NodeId, Time};
use quorate_election::Member;
use quorate_examples::say;
use quorate_membership::{Destination, Input, Origin, Stored, Transmit};

/// The time that a datagram travels.
const DELAY: Duration = Duration::from_micros(200);

/// A datagram under way.
struct Letter {
    from: NodeId,
    to: NodeId,
    datagram: Bytes,
}

#[derive(Default)]
struct World {
    now: Time,
    members: BTreeMap<NodeId, Member>,
    /// By the time of arrival, then in the order in which they were sent.
    letters: BTreeMap<(Time, usize), Letter>,
    sent: usize,
    /// The messages that each member has delivered.
    delivered: BTreeMap<NodeId, Vec<Bytes>>,
}

impl World {
    /// Does what a member wants done after each input.
    fn serve(&mut self, id: NodeId) {
        let others: Vec<NodeId> = self.members.keys().copied().filter(|other| *other != id).collect();
        let Some(member) = self.members.get_mut(&id) else { return };
        // Nothing is sent before the record is on disk. Here, it is at once.
        while let Some(record) = member.must_store() {
            member.handle(self.now, Input::Stored(record));
        }
        while let Some(Transmit { to, datagram }) = member.poll_transmit() {
            let receivers = match to {
                Destination::Everyone => others.clone(),
                Destination::Member(member) => vec![member],
            };
            for to in receivers {
                self.sent += 1;
                let letter = Letter { from: id, to, datagram: datagram.clone() };
                self.letters.insert((self.now + DELAY, self.sent), letter);
            }
        }
        while let Some(event) = member.poll_event() {
            // The ring slows down for members that do not take their events.
            member.handle(self.now, Input::Consumed(Member::cost(&event)));
            let at = self.now;
            match event {
                Event::Regular(ring) => {
                    say(format_args!("{at:?} node {id}: ring of {:?}, because {}", ring.members, ring.why()));
                }
                Event::Status(status) => {
                    if let Some(term) = status.term {
                        say(format_args!("{at:?} node {id}: node {} is DC, term {term}", term.node));
                    }
                }
                Event::Deliver(message) => {
                    let (from, text) = (message.from, String::from_utf8_lossy(&message.payload));
                    say(format_args!("{at:?} node {id}: \"{text}\" from node {from}"));
                    self.delivered.entry(id).or_default().push(message.payload);
                }
                _ => {}
            }
        }
    }

    /// Lets the next thing happen: a datagram arrives, or a timer is due.
    fn step(&mut self) {
        let timers = self.members.iter().filter_map(|(id, member)| Some((member.poll_timeout()?, *id)));
        let timer = timers.min();
        let arrives_first = |(at, _): &(Time, usize)| timer.is_none_or(|(due, _)| *at <= due);
        if let Some(arrival) = self.letters.keys().next().copied().filter(arrives_first) {
            let Letter { from, to, datagram } = self.letters.remove(&arrival).expect("it is the first");
            self.now = arrival.0;
            if let Some(member) = self.members.get_mut(&to) {
                member.handle(self.now, Input::Datagram(Origin::of(Some(from)), &datagram));
                self.serve(to);
            }
        } else if let Some((due, id)) = timer {
            self.now = self.now.max(due);
            if let Some(member) = self.members.get_mut(&id) {
                member.handle(self.now, Input::Timeout);
                self.serve(id);
            }
        }
    }

    /// Lets things happen until `holds` is true of all members.
    fn until(&mut self, holds: impl Fn(&World, NodeId, &Member) -> bool) {
        while !self.members.iter().all(|(id, member)| holds(self, *id, member)) {
            self.step();
        }
    }
}

/// Holds once a member knows this DC by its term.
fn has_dc(dc: NodeId) -> impl Fn(&World, NodeId, &Member) -> bool {
    move |_, _, member| member.status().0.term.is_some_and(|term| term.node == dc)
}

fn main() -> Result<(), Box<dyn Error>> {
    let addresses = [(1, "10.0.0.1"), (2, "10.0.0.2"), (3, "10.0.0.3")];
    let mut world = World::default();
    for (n, _) in addresses {
        let config = Config::of_cluster("by hand", n, addresses)?;
        let member = Member::new(&config, Stored::default(), [n as u8; 32], world.now)?;
        world.members.insert(config.node, member);
    }
    let ids: Vec<NodeId> = world.members.keys().copied().collect();
    ids.iter().for_each(|id| world.serve(*id));
    world.until(has_dc(ids[0]));

    // Each sends a message at the same moment. All deliver them in one order.
    let group = "letters".parse()?;
    for id in &ids {
        let now = world.now;
        let text = Bytes::from(format!("hello from {id}"));
        if let Some(member) = world.members.get_mut(id) {
            member.multicast(now, 0, &group, Guarantee::Safe, &text)?;
        }
        world.serve(*id);
    }
    world.until(|world, id, _| world.delivered.get(&id).is_some_and(|messages| messages.len() == 3));
    let orders: Vec<_> = world.delivered.values().collect();
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]), "one order everywhere");

    say(format_args!("{:?} node 1 crashes", world.now));
    world.members.remove(&ids[0]);
    world.until(has_dc(ids[1]));
    say(format_args!("{} datagrams were carried", world.sent));
    Ok(())
}
