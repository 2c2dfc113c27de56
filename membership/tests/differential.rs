//! Compares a bare core with a real corosync member: what the core would have sent in its place,
//! and what the member sent.
//!
//! Captures that begin with a member's start are replayed to a core with that member's id and
//! configuration, at the recorded times. The core has to send what the member sent, field by field.
//! [`INTENDED`] lists the intended differences and their reasons.
//!
//! A frame that the core does not send has no number. The frames behind it move up, and tokens and
//! commit tokens then count them at their new places. [`Numbers`] keeps the two numberings apart.
//!
//! Node 1 of capture 02 is not replayed. It found frames of node 2 in its socket before it had read
//! its own first JOIN, so it never formed a ring of its own. A core forms one at the start, and the
//! capture lacks the datagrams that it would need.

#![allow(clippy::unwrap_used)] // also in shared code, which clippy does not count as tests

mod pcap;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::config::{Config, Member, TotemConfig};
use quorate_membership::wire::body::Body;
use quorate_membership::wire::packing::{Addressed, Packet};
use quorate_membership::wire::{self, Join, Message, Multicast, Order, Token};
use quorate_membership::{Destination, Event, NodeId, Origin, RingId, Seq, Service, Stored, Time, Totem};

use pcap::Datagram;

/// The intended differences between the core and a corosync member, each with its reason.
const INTENDED: [(&str, &str); 9] = [
    (FIRST_INFO, "the sync's own says the same, where all members look at it"),
    (CMAP_VERSION, "there is no cmap, and a version that is not theirs makes real members exit"),
    (DOWN_LIST, "receivers do no more than log it: each knows itself who left"),
    (
        QDEVICE_INFO,
        "there is none, nothing depends on it, and ahead of one's own it aborts every 3.1.7 daemon",
    ),
    (FEWER_SERVICES, "nothing to say as these; their stages come all the same if another member has them"),
    (UNSORTED_LISTS, "they are sets, and sent sorted"),
    (
        BACKLOG_BEFORE,
        "TOCS 1995, section 6, means what waits when the token goes on; others' shares but grow by it",
    ),
    (
        STAGE_LATER,
        "corosync says it from a callback of the next token, often after it has sent; the order is the same",
    ),
    (TARGET_ID, "never set by corosync: what was in its memory; 0 here"),
];

const FIRST_INFO: &str = "a first node info ahead of the first sync";
const CMAP_VERSION: &str = "cmap's config version";
const DOWN_LIST: &str = "CPG's down list";
const QDEVICE_INFO: &str = "node info of the quorum device";
const FEWER_SERVICES: &str = "services cmap and quorum";
const UNSORTED_LISTS: &str = "lists of a JOIN in the order in which nodes were heard";
const BACKLOG_BEFORE: &str = "backlog as it was before sending";
const STAGE_LATER: &str = "a stage of the sync is closed one visit of the token later";
const TARGET_ID: &str = "a target id";

/// The maximum delay of the member behind the core. The member had to be scheduled and to write its
/// record to disk; see also [`STAGE_LATER`]. The shortest timer is 50 ms.
const HASTE: Duration = Duration::from_millis(10);

/// The time that a token takes from a node to itself.
const LOOPBACK: Duration = Duration::from_micros(50);

#[test]
fn a_lone_member_sends_what_a_real_one_sent() {
    let mut recording = pcap::capture("01-one-node-start-e0");
    let end = recording.last().unwrap().at;
    recording.extend(pcap::capture("01-one-node-start-lo"));
    recording.retain(|datagram| datagram.at <= end);
    recording.sort_by_key(|datagram| datagram.at);
    let said = compare(1, &recording);
    assert_eq!(said.rings(), ["1.5"]);
    // The tokens of the recovery, 31 rotations without news, and one per hold time.
    assert_eq!(said.tokens.len(), 5 + 31 + 6);
}

#[test]
fn the_first_of_three_members_sends_what_a_real_one_sent() {
    let said = compare(2, &pcap::capture("02-three-node-formation"));
    assert_eq!(said.rings(), ["2.5", "1.9", "1.d"]);
}

#[test]
fn the_last_of_three_members_sends_what_a_real_one_sent() {
    let said = compare(3, &pcap::capture("02-three-node-formation"));
    assert_eq!(said.rings(), ["3.5", "1.d"]);
}

#[test]
fn a_returning_member_sends_what_a_real_one_sent() {
    let said = compare(3, &pcap::capture("07-node-rejoin"));
    assert_eq!(said.rings(), ["3.12", "1.16"]);
}

#[test]
fn each_intended_difference_occurs() {
    let mut found: BTreeSet<&str> = compare(3, &pcap::capture("07-node-rejoin")).differences;
    found.extend(compare(2, &pcap::capture("02-three-node-formation")).differences);
    let intended: BTreeSet<&str> = INTENDED.iter().map(|&(difference, _)| difference).collect();
    assert_eq!(found, intended);
}

fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

/// Replays the recording to a core in the place of `me`, and returns what the member sent.
fn compare(me: u32, recording: &[Datagram]) -> Speech {
    let me = node(me);
    let start = recording.iter().position(|datagram| datagram.from == me).unwrap();
    let mut replay = Replay::new(me, &recording[start..]);
    for datagram in &recording[start..] {
        replay.run_until(datagram.at);
        if datagram.from == me {
            replay.hear_member(datagram);
        } else if datagram.to == Destination::Everyone || datagram.to == Destination::Member(me) {
            replay.deliver(datagram);
        }
    }

    let Replay { mut ours, mut theirs, totem, .. } = replay;
    let to_itself = |said: &Said| said.to == Destination::Member(me);
    if theirs.tokens.iter().any(to_itself) {
        // A ring of one node turns any number of times while it syncs.
        ours.forget_tokens_of_sync();
        theirs.forget_tokens_of_sync();
    } else {
        // The member's loopback traffic is not recorded.
        ours.tokens.retain(|said| !to_itself(said));
        ours.control.retain(|said| !to_itself(said));
    }
    for (ours, theirs) in
        [(&ours.control, &theirs.control), (&ours.tokens, &theirs.tokens), (&ours.frames, &theirs.frames)]
    {
        for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            let place = format!("{i}:\n  core:   {ours:?}\n  member: {theirs:?}");
            assert_eq!((ours.to, &ours.message), (theirs.to, &theirs.message), "{place}");
            assert!(ours.at <= theirs.at && theirs.at - ours.at <= HASTE, "{place}");
        }
        assert_eq!(ours.len(), theirs.len());
    }
    assert!(totem.stats().refused.is_empty(), "{:?}", totem.stats().refused);
    theirs
}

/// A message that a node sent, without the differences that a node cannot avoid.
#[derive(Clone, Debug)]
struct Said {
    at: Time,
    to: Destination,
    message: Message,
}

/// All messages that a node sent, each kind in order.
#[derive(Default)]
struct Speech {
    /// JOINs, commit tokens and probes.
    control: Vec<Said>,
    /// Tokens. Their aru is the distance to their seq, and their counts exclude the node's own
    /// share.
    tokens: Vec<Said>,
    /// Frames, numbered from 1 in each ring. Only the node's own frames count.
    frames: Vec<Said>,
    /// The number of frames that the node has sent in each ring.
    numbers: BTreeMap<RingId, u32>,
    differences: BTreeSet<&'static str>,
}

impl Speech {
    fn rings(&self) -> Vec<String> {
        let mut rings: Vec<String> = Vec::new();
        for said in &self.frames {
            let Message::Multicast(Multicast { ring, .. }) = &said.message else { panic!("{said:?}") };
            if rings.last() != Some(&ring.to_string()) {
                rings.push(ring.to_string());
            }
        }
        rings
    }

    fn frame(&mut self, at: Time, to: Destination, mut frame: Multicast) {
        let number = self.numbers.entry(frame.ring).or_default();
        *number += 1;
        frame.seq = Seq::new(*number);
        frame.raw = Bytes::new();
        self.frames.push(Said { at, to, message: Message::Multicast(frame) });
    }

    /// Records a token. `mine` is the node's own share of the counts.
    fn token(&mut self, at: Time, to: Destination, mut token: Token, mine: Counts) {
        token.aru = Seq::new(token.seq.get().wrapping_sub(token.aru.get()));
        token.seq = Seq::new(0);
        token.fcc -= mine.fcc;
        token.backlog -= mine.backlog;
        self.tokens.push(Said { at, to, message: Message::Token(token) });
    }

    /// Forgets the tokens of a ring of one node that were sent from its first frame to its last
    /// one, and renumbers the rest.
    fn forget_tokens_of_sync(&mut self) {
        let (first, last) = (self.frames.first().unwrap().at, self.frames.last().unwrap().at);
        let end = self.tokens.iter().position(|said| said.at >= last).unwrap();
        let mut i = 0;
        self.tokens.retain(|said| {
            i += 1;
            said.at < first || i > end + 1
        });
        for (i, said) in self.tokens.iter_mut().enumerate() {
            let Message::Token(token) = &mut said.message else { panic!("{said:?}") };
            token.token_seq = Seq::new(i as u32);
        }
    }
}

/// A node's share of a token's `fcc` and `backlog` at its last visit.
#[derive(Clone, Copy, Default)]
struct Counts {
    fcc: u32,
    backlog: u32,
}

/// The numbering of one ring's frames, in two versions: the recorded one with the member, and the
/// one with the core.
#[derive(Default)]
struct Numbers {
    /// The highest number with the core, by recorded number.
    core: BTreeMap<u32, u32>,
    last: u32,
    /// The number of frames that the core has sent at this visit of the token.
    core_sent: u32,
    /// The core's share of the counts, as its last visit left it in the token.
    core_counts: Counts,
    /// The number of frames that the member has sent at this visit of the token.
    member_sent: u32,
    /// The member's share of the counts, as its last visit left it in the token.
    member_counts: Counts,
    /// Whether nodes other than the member have sent frames.
    in_company: bool,
    /// The number of sync stages that the member has closed.
    barriers: usize,
}

impl Numbers {
    fn renumber(&self, recorded: Seq) -> Seq {
        Seq::new(self.core.get(&recorded.get()).copied().unwrap_or(recorded.get()))
    }
}

/// A replay with a core in a member's place.
struct Replay {
    me: NodeId,
    now: Time,
    totem: Totem,
    /// The member's votequorum message in each ring. The core does not produce it.
    node_info: BTreeMap<RingId, Bytes>,
    /// Tokens in flight from the core to itself.
    loopback: VecDeque<(Time, Bytes)>,
    numbers: BTreeMap<RingId, Numbers>,
    assembly: pcap::Assembly,
    ours: Speech,
    theirs: Speech,
}

impl Replay {
    /// Creates a replay. The recording must begin with the member's first JOIN.
    fn new(me: NodeId, recording: &[Datagram]) -> Self {
        let now = recording[0].at;
        let Ok(Message::Join(Join { ring_seq, .. })) = wire::decode(&recording[0].payload) else { panic!() };
        let mut config = Config::new(me);
        let ms = Duration::from_millis;
        // The real daemon's timers, which are not derived from a lease.
        let (token_retransmit, hold) = (ms(392), ms(303));
        config.totem = TotemConfig::for_token(ms(1650)).plain();
        (config.totem.token_retransmit, config.totem.hold) = (token_retransmit, hold);
        let member = |id: u8| Member::new(node(id.into()), IpAddr::from([10, 77, 11, id]));
        config.nodes = (1..=3).map(member).collect();
        // A start increments the number.
        let stored = Stored { ring_seq: ring_seq - 1, ..Stored::default() };
        let mut replay = Self {
            me,
            now,
            totem: Totem::new(&config, stored, [0; 32], now).unwrap(),
            node_info: node_infos(me, recording),
            loopback: VecDeque::new(),
            numbers: BTreeMap::new(),
            assembly: pcap::Assembly::default(),
            ours: Speech::default(),
            theirs: Speech::default(),
        };
        replay.drain();
        replay
    }

    /// Advances the core's time, with its timers and its loopback.
    fn run_until(&mut self, end: Time) {
        loop {
            let timer_at = self.totem.poll_timeout().unwrap();
            match self.loopback.front() {
                Some(&(at, _)) if at <= end && at <= timer_at => {
                    let (_, datagram) = self.loopback.pop_front().unwrap();
                    self.now = at;
                    self.totem.handle_datagram(at, Origin::of(Some(self.me)), &datagram);
                }
                _ if timer_at <= end => {
                    self.now = self.now.max(timer_at);
                    self.totem.handle_timeout(self.now);
                }
                _ => break,
            }
            self.drain();
        }
        self.now = end;
    }

    /// Collects the core's output up to now.
    fn drain(&mut self) {
        if let Some(stored) = self.totem.must_store() {
            self.totem.handle_stored(self.now, stored);
        }
        while let Some(transmit) = self.totem.poll_transmit() {
            let (at, to) = (self.now, transmit.to);
            match wire::decode(&transmit.datagram).unwrap() {
                Message::Multicast(frame) => {
                    let numbers = self.numbers.entry(frame.ring).or_default();
                    numbers.last += 1;
                    numbers.core_sent += 1;
                    assert_eq!(frame.seq.get(), numbers.last);
                    self.ours.frame(at, to, frame);
                }
                Message::Token(token) => {
                    let numbers = self.numbers.entry(token.ring).or_default();
                    assert_eq!(token.seq.get(), numbers.last);
                    // The core never has more to send than it may.
                    numbers.core_counts = Counts { fcc: mem::take(&mut numbers.core_sent), backlog: 0 };
                    self.ours.token(at, to, token, numbers.core_counts);
                }
                message => self.ours.control.push(Said { at, to, message }),
            }
            if to == Destination::Member(self.me) {
                self.loopback.push_back((at + LOOPBACK, transmit.datagram));
            }
        }
        while let Some(event) = self.totem.poll_event() {
            self.totem.consumed(self.now, event.cost());
            if let Event::Regular(regular) = event
                && let Some(node_info) = self.node_info.get(&regular.ring)
            {
                self.totem.set_sync_messages(Service::Votequorum, vec![node_info.clone()]);
            }
        }
    }

    /// Delivers a datagram of another member, with the numbers that it would have had with the
    /// core.
    fn deliver(&mut self, datagram: &Datagram) {
        let mut message = wire::decode(&datagram.payload).unwrap();
        match &mut message {
            Message::Multicast(frame) => {
                let numbers = self.numbers.entry(frame.ring).or_default();
                numbers.in_company = true;
                numbers.last += 1;
                numbers.core.insert(frame.seq.get(), numbers.last);
                frame.seq = Seq::new(numbers.last);
            }
            Message::Token(token) => {
                let numbers = self.numbers.entry(token.ring).or_default();
                token.aru =
                    if token.aru == token.seq { Seq::new(numbers.last) } else { numbers.renumber(token.aru) };
                token.seq = Seq::new(numbers.last);
                token.fcc = token.fcc - numbers.member_counts.fcc + numbers.core_counts.fcc;
                token.backlog = token.backlog - numbers.member_counts.backlog + numbers.core_counts.backlog;
            }
            message => self.renumber_entries(message),
        }
        let datagram_with_core = wire::encode(&message, Order::Little);
        self.totem.handle_datagram(self.now, Origin::of(Some(datagram.from)), &datagram_with_core);
        self.drain();
    }

    fn renumber_entries(&self, message: &mut Message) {
        let Message::Commit(token) = message else { return };
        for entry in &mut token.entries {
            if let Some(numbers) = self.numbers.get(&entry.ring) {
                entry.aru = numbers.renumber(entry.aru);
                entry.high_delivered = numbers.renumber(entry.high_delivered);
            }
        }
    }

    /// Records a datagram of the member.
    fn hear_member(&mut self, datagram: &Datagram) {
        let (at, to) = (datagram.at, datagram.to);
        if datagram.payload[9..13] != [0; 4] {
            self.theirs.differences.insert(TARGET_ID);
        }
        let mut message = wire::decode(&datagram.payload).unwrap();
        match &mut message {
            Message::Multicast(frame) => {
                let payload = self.left_of(frame);
                let numbers = self.numbers.entry(frame.ring).or_default();
                numbers.core.insert(frame.seq.get(), numbers.last);
                numbers.member_sent += 1;
                if let Some(payload) = payload {
                    let this_seqno = self.theirs.frames.len() as u32;
                    let frame = Multicast { payload, this_seqno, ..frame.clone() };
                    // The core has passed the token on since it sent this frame.
                    let ours = self.ours.frames.get(self.theirs.frames.len());
                    let passed = self
                        .ours
                        .tokens
                        .iter()
                        .rev()
                        .take_while(|token| Some(token.at) >= ours.map(|ours| ours.at));
                    if numbers.in_company && passed.count() > 1 {
                        self.theirs.differences.insert(STAGE_LATER);
                    }
                    self.theirs.frame(at, to, frame);
                }
                return;
            }
            Message::Token(token) => {
                let numbers = self.numbers.entry(token.ring).or_default();
                let sent = mem::take(&mut numbers.member_sent);
                // All waiting messages were sent.
                numbers.member_counts = Counts { fcc: sent, backlog: sent };
                if sent > 0 {
                    self.theirs.differences.insert(BACKLOG_BEFORE);
                }
                return self.theirs.token(at, to, token.clone(), numbers.member_counts);
            }
            Message::Join(join) => {
                if !join.proc.is_sorted() {
                    self.theirs.differences.insert(UNSORTED_LISTS);
                }
                join.proc.sort();
                join.failed.sort();
            }
            message => self.renumber_entries(message),
        }
        self.theirs.control.push(Said { at, to, message });
    }

    /// Returns the part of this frame that the core sends too.
    fn left_of(&mut self, frame: &Multicast) -> Option<Bytes> {
        let mut left = Vec::new();
        for message in self.assembly.take(frame) {
            let addressed = Addressed::decode(&message).unwrap();
            let body = Body::decode(&addressed.groups[0], &addressed.body).unwrap();
            if let Some(body) = self.left_of_body(body, frame.ring) {
                // Encoded again, since the padding holds old contents of the member's memory.
                left.push(Addressed { body: body.encode(), ..addressed }.encode());
            }
        }
        // None of the remaining messages is so long that it needs two frames.
        let packet = Packet { fragmented: 0, continuation: 0, pieces: left };
        (!packet.pieces.is_empty()).then(|| packet.encode())
    }

    fn left_of_body(&mut self, body: Body, ring: RingId) -> Option<Body> {
        const SERVICES: [u32; 4] = [CMAP, CPG, QUORUM, VOTEQUORUM];
        const CMAP: u32 = 0;
        const CPG: u32 = 2;
        const QUORUM: u32 = 3;
        const VOTEQUORUM: u32 = 5;
        let ours = |service: &u32| [CPG, VOTEQUORUM].contains(service);
        let difference = match body {
            Body::NodeInfo(_) if self.theirs.frames.is_empty() => FIRST_INFO,
            Body::NodeInfo(info) if info.node.is_none() => QDEVICE_INFO,
            Body::Cmap(_) => CMAP_VERSION,
            Body::CpgDownList { .. } => DOWN_LIST,
            Body::ServiceBuild { ring, mut services } => {
                assert_eq!(services, SERVICES);
                services.retain(ours);
                self.theirs.differences.insert(FEWER_SERVICES);
                return Some(Body::ServiceBuild { ring, services });
            }
            Body::Barrier { .. } => {
                let numbers = self.numbers.entry(ring).or_default();
                let service = SERVICES[numbers.barriers];
                numbers.barriers += 1;
                return (numbers.in_company || ours(&service)).then_some(body);
            }
            body => return Some(body),
        };
        self.theirs.differences.insert(difference);
        None
    }
}

/// Returns the member's votequorum message in each sync of the recording.
fn node_infos(me: NodeId, recording: &[Datagram]) -> BTreeMap<RingId, Bytes> {
    let mut assembly = pcap::Assembly::default();
    let mut infos = BTreeMap::new();
    for datagram in recording.iter().filter(|datagram| datagram.from == me) {
        let Ok(Message::Multicast(frame)) = wire::decode(&datagram.payload) else { continue };
        for message in assembly.take(&frame) {
            let Addressed { groups, body } = Addressed::decode(&message).unwrap();
            if let Ok(Body::NodeInfo(info)) = Body::decode(&groups[0], &body)
                && info.node == Some(me)
            {
                infos.insert(frame.ring, Body::NodeInfo(info).encode());
            }
        }
    }
    infos
}
