//! A replicated key-value store in memory: every member has all of it, and all make the same writes in the same order.
//!
//! What the ring gives is one order of messages, and who is in it. What a store needs beside is three rules. Each is a
//! line or two below, and each has a [`Mistake`] that breaks it, for a laboratory to find:
//!
//! 1. **A write is a safe message, and is acknowledged where it is delivered in its ring.** Then every member of the ring
//!    has received it, and whoever is left makes it too. Where it is delivered after the ring broke, in the transitional
//!    configuration, it is made as well, but nobody can say what those on the other side do: its outcome is unknown.
//! 2. **A ring takes writes once as many of its members remember as a quorum takes.** Who has started again remembers
//!    nothing. Two such rings, one after the other, have a member in common that remembers what the first acknowledged.
//! 3. **Each ring begins with a snapshot of who remembers most.** It consists of messages like the writes and comes before the
//!    first of them, so everybody has it in time; what a smaller side had made of its own is gone with it. A message holds
//!    a mebibyte, so a state of any size comes in parts, and counts when the last one is there.
//!
//! A write that comes before its ring's snapshot is void, everywhere. The first snapshot, an empty one, is taken
//! when all nodes are there; and if ever a majority has forgotten, the store stays closed rather than to lose a write.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use bytes::Bytes;
use quorate_election::Event;
use quorate_membership::{
    Delivery, Event as RingEvent, Events, Group, Guarantee, MulticastError, Node, NodeId, RingId, Totem,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

/// What is stored.
pub type Entries = BTreeMap<String, String>;

/// A rule that a store can be made to break ([`Store::open_wrong`]), to see whether somebody notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// Rule 1: writes are agreed messages, which are delivered before others have received them.
    AgreedIsEnough,
    /// Rule 1: a write that is delivered after the ring broke is acknowledged as any other.
    TransitionIsForOthers,
    /// Rule 2: any ring takes writes.
    QuorumIsForOthers,
    /// Rule 3: the members keep what they have, and a joiner begins with nothing.
    SnapshotsAreForOthers,
}

/// Why a write was not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutError {
    /// It was not made, and never will be: its ring takes no writes, or not yet.
    Closed,
    /// The ring broke while it was under way: perhaps it is made, perhaps not.
    Unknown,
    /// It was not made: with its key, the value is longer than a message can be.
    TooLong,
    /// This member has left.
    Left,
}

/// What members say to each other.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// The sender's first word in this ring: what it remembers.
    Remembers { ring: RingId, version: Option<Version> },
    /// A part of what this ring begins with.
    Snapshot { ring: RingId, entries: Entries, is_last: bool },
    /// A write; the sender numbers them, to know its own again.
    Put { number: u64, key: String, value: String },
}

/// How old a state is. Rings that take writes follow one another, so the later one counts; then, the more writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Version {
    ring: RingId,
    writes: u64,
}

/// About as long is a part of a snapshot, in bytes: short enough that no write waits for long.
const PART: usize = 128 << 10;

/// How long until a message is tried again that the ring is about to take.
const SOON: Duration = Duration::from_millis(1);

/// As it is sent.
fn written(value: &impl Serialize) -> Vec<u8> {
    // Neither fails: the writer is memory, and all keys are text.
    serde_json::to_vec(value).unwrap_or_default()
}

/// What is to be done after an event.
enum Then {
    Say(Vec<Message>),
    Answer(u64, Result<(), PutError>),
}

/// One member's copy: a fold over the events of its ring. It knows neither the network nor the clock.
#[derive(Debug)]
struct Replica {
    me: NodeId,
    mistake: Option<Mistake>,
    entries: Entries,
    /// How old they are; `None`: this member has started and seen no snapshot yet.
    version: Option<Version>,

    // The ring.
    ring: Option<RingId>,
    members: BTreeSet<NodeId>,
    /// The parts of its snapshot that have come.
    incoming: Entries,
    /// What its members remember, of those who have said it.
    remembered: BTreeMap<NodeId, Option<Version>>,
    /// How many it takes, and how many there are in all.
    quorum: Option<u32>,
    nodes: Option<u32>,
    /// Its snapshot has come: it takes writes.
    is_open: bool,
}

impl Replica {
    fn new(me: NodeId, mistake: Option<Mistake>) -> Self {
        Self {
            me,
            mistake,
            entries: Entries::new(),
            version: None,
            ring: None,
            members: BTreeSet::new(),
            incoming: Entries::new(),
            remembered: BTreeMap::new(),
            quorum: None,
            nodes: None,
            is_open: false,
        }
    }

    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn handle(&mut self, event: &Event) -> Option<Then> {
        match event {
            Event::Ring(RingEvent::Regular(regular)) => {
                self.ring = Some(regular.ring);
                self.members = regular.members.clone();
                self.incoming.clear();
                self.remembered.clear();
                self.is_open = false;
            }
            Event::Ring(RingEvent::Synced(ring)) => {
                return Some(Then::Say(vec![Message::Remembers { ring: *ring, version: self.version }]));
            }
            // In its place in the order, before the first word of any member. One that is not settled takes quorum back, which
            // is of this moment and not of the order: what the ring takes does not depend on it.
            Event::Status(status) if status.settled => {
                (self.quorum, self.nodes) = (status.quorum, status.expected_votes);
            }
            Event::Status(_) => {}
            Event::Ring(RingEvent::Deliver(delivery)) => return self.deliver(delivery),
            Event::Ring(_) => {}
        }
        None
    }

    fn deliver(&mut self, delivery: &Delivery) -> Option<Then> {
        let from = delivery.from;
        match serde_json::from_slice(&delivery.payload).ok()? {
            Message::Remembers { ring, version } if self.ring == Some(ring) => {
                self.remembered.insert(from, version);
                let all_spoke = self.remembered.len() == self.members.len();
                (all_spoke && self.may_open() && self.remembers_most() == Some(self.me))
                    .then(|| Then::Say(self.snapshot(ring)))
            }
            Message::Snapshot { ring, entries, is_last } if self.ring == Some(ring) => {
                self.incoming.extend(entries);
                if !is_last {
                    return None;
                }
                let entries = std::mem::take(&mut self.incoming);
                if !self.makes(Mistake::SnapshotsAreForOthers) {
                    self.entries = entries;
                }
                self.version = Some(Version { ring, writes: 0 });
                self.is_open = true;
                None
            }
            // Said in an earlier ring.
            Message::Remembers { .. } | Message::Snapshot { .. } => None,
            Message::Put { number, key, value } => {
                let outcome = self.put(key, value, delivery.transitional);
                (from == self.me).then_some(Then::Answer(number, outcome))
            }
        }
    }

    /// All that this member has, in parts that fit into messages.
    fn snapshot(&self, ring: RingId) -> Vec<Message> {
        let mut parts = Vec::new();
        let (mut entries, mut length) = (Entries::new(), 0);
        for (key, value) in &self.entries {
            let more = written(&(key, value)).len();
            if length + more > PART && !entries.is_empty() {
                parts.push(Message::Snapshot { ring, entries: std::mem::take(&mut entries), is_last: false });
                length = 0;
            }
            length += more;
            entries.insert(key.clone(), value.clone());
        }
        parts.push(Message::Snapshot { ring, entries, is_last: true });
        parts
    }

    /// `is_over`: the ring is, so what is delivered is for some of its members only.
    fn put(&mut self, key: String, value: String, is_over: bool) -> Result<(), PutError> {
        let Some(version) = self.version.as_mut().filter(|_| self.is_open) else {
            return Err(PutError::Closed);
        };
        version.writes += 1;
        self.entries.insert(key, value);
        if is_over && !self.makes(Mistake::TransitionIsForOthers) { Err(PutError::Unknown) } else { Ok(()) }
    }

    /// All members have spoken, and all of them find the same here.
    fn may_open(&self) -> bool {
        let remember = self.remembered.values().flatten().count() as u32;
        let nobody_is_missing = self.nodes == Some(self.members.len() as u32);
        self.quorum.is_some_and(|quorum| remember >= quorum)
            || remember == 0 && nobody_is_missing
            || self.makes(Mistake::QuorumIsForOthers)
    }

    fn remembers_most(&self) -> Option<NodeId> {
        let most = self.remembered.iter().max_by_key(|(node, version)| (**version, Reverse(**node)));
        most.map(|(node, _)| *node)
    }
}

/// A member's handle to the store. Cheap to clone; when the last is dropped, the member stops.
#[derive(Clone, Debug)]
pub struct Store {
    puts: mpsc::Sender<Request>,
    replica: watch::Receiver<Replica>,
}

/// Whether a write, and an entry as a part of a snapshot, fit into a message.
fn fits(key: &str, value: &str) -> bool {
    const BESIDE: usize = 256;
    written(&(key, value)).len() + BESIDE <= Totem::MAX_PAYLOAD
}

#[derive(Debug)]
struct Request {
    key: String,
    value: String,
    answer: oneshot::Sender<Result<(), PutError>>,
}

impl Store {
    /// Stores what the members of this node's ring store. Has to be called within a tokio runtime.
    pub fn open(me: NodeId, node: Node, events: Events<Event>) -> Self {
        Self::with(me, node, events, None)
    }

    /// The same with a rule broken, for tests of tests.
    pub fn open_wrong(me: NodeId, node: Node, events: Events<Event>, mistake: Mistake) -> Self {
        Self::with(me, node, events, Some(mistake))
    }

    fn with(me: NodeId, node: Node, events: Events<Event>, mistake: Option<Mistake>) -> Self {
        let (puts, requests) = mpsc::channel(16);
        let (publish, replica) = watch::channel(Replica::new(me, mistake));
        let (say, words) = mpsc::unbounded_channel();
        let guarantee = match mistake {
            Some(Mistake::AgreedIsEnough) => Guarantee::Agreed,
            _ => Guarantee::Safe,
        };
        tokio::spawn(speak(node, guarantee, words));
        tokio::spawn(serve(publish, events, requests, say));
        Self { puts, replica }
    }

    /// Writes; ready when every member has the write, or when it is clear that it cannot be said.
    ///
    /// # Errors
    /// If it is not known that the write was made. It may be tried again.
    pub async fn put(&self, key: impl Into<String>, value: impl Into<String>) -> Result<(), PutError> {
        let (answer, outcome) = oneshot::channel();
        let request = Request { key: key.into(), value: value.into(), answer };
        if !fits(&request.key, &request.value) {
            return Err(PutError::TooLong);
        }
        self.puts.send(request).await.map_err(|_| PutError::Left)?;
        outcome.await.unwrap_or(Err(PutError::Left))
    }

    /// What this member has under a key. No member is asked, so it may be old: that a write is acknowledged somewhere
    /// does not mean that it has been made here.
    pub fn get(&self, key: &str) -> Option<String> {
        self.replica.borrow().entries.get(key).cloned()
    }

    /// All that this member has.
    pub fn entries(&self) -> Entries {
        self.replica.borrow().entries.clone()
    }

    /// Whether writes are taken, as far as this member knows.
    pub fn is_open(&self) -> bool {
        self.replica.borrow().is_open
    }

    /// Waits until they are, in a ring of so many members at least.
    ///
    /// # Errors
    /// If this member has left.
    pub async fn opened(&self, members: usize) -> Result<(), PutError> {
        let open = |replica: &Replica| replica.is_open && replica.members.len() >= members;
        let mut replica = self.replica.clone();
        replica.wait_for(open).await.map(drop).map_err(|_| PutError::Left)
    }
}

/// Folds the ring's events into the replica, and does what follows.
async fn serve(
    replica: watch::Sender<Replica>,
    mut events: Events<Event>,
    mut requests: mpsc::Receiver<Request>,
    say: mpsc::UnboundedSender<Message>,
) {
    let mut answers = BTreeMap::new();
    let mut number = 0;
    loop {
        // Biased, for a run that is to be the same again must not roll dice.
        let then = tokio::select! {
            biased;
            event = events.next() => {
                let Some(event) = event else { return };
                let mut then = None;
                replica.send_modify(|replica| then = replica.handle(&event));
                then
            }
            request = requests.recv() => {
                let Some(Request { key, value, answer }) = request else { return };
                number += 1;
                answers.insert(number, answer);
                Some(Then::Say(vec![Message::Put { number, key, value }]))
            }
        };
        match then {
            Some(Then::Say(messages)) => {
                for message in messages {
                    let Ok(()) = say.send(message) else { return };
                }
            }
            Some(Then::Answer(number, outcome)) => {
                // Who asked may have gone.
                let _ = answers.remove(&number).map(|answer: oneshot::Sender<_>| answer.send(outcome));
            }
            None => {}
        }
    }
}

/// Sends, and waits for room where the ring has none: a task of its own, so that meanwhile events are taken.
async fn speak(node: Node, guarantee: Guarantee, mut words: mpsc::UnboundedReceiver<Message>) {
    let Ok(group) = Group::new("kv") else { return };
    while let Some(message) = words.recv().await {
        let bytes = Bytes::from(written(&message));
        while let Err(error) = node.multicast(&group, guarantee, bytes.clone()).await {
            match error {
                // Events are taken whatever happens here: it is only a moment behind.
                MulticastError::Full | MulticastError::EventsUnread => tokio::time::sleep(SOON).await,
                MulticastError::Left => return,
                // Nothing is said that does not fit: see `fits` and `PART`.
                MulticastError::TooLong { .. } => break,
            }
        }
    }
}
