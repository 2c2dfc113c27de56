//! A replicated key-value store in memory. Every member holds all entries and applies the same
//! writes in the same order.
//!
//! The ring delivers messages in one order and announces its members. A store needs three more
//! rules. Each takes a line or two of the code below, and has a [`Mistake`] that breaks it, so that
//! tests can check that they notice:
//!
//! 1. **A write is a safe message, and is acknowledged when it is delivered in its ring.** Every
//!    member of the ring has then received it, so all survivors apply it too. A write that is
//!    delivered after the ring broke, in the transitional configuration, is applied as well, but
//!    its outcome is unknown: no member can tell what the other side does with it.
//! 2. **A ring accepts writes once a quorum of its members remembers an earlier state.** A member
//!    that has restarted remembers nothing. Any two such rings in succession share at least one
//!    member that remembers what the first one acknowledged.
//! 3. **Each ring begins with a snapshot from the member that remembers most.** The snapshot is
//!    sent in messages, like the writes, and ahead of them, so every member has it in time. It
//!    discards writes that only a smaller side has applied. A message has at most 16 MiB, so a
//!    state of any size is sent in parts, and takes effect when the last part has arrived.
//!
//! A write that is delivered before its ring's snapshot is rejected at every member. The first
//! snapshot is empty and is taken when all nodes are present and none of them remembers anything.
//! If a majority has forgotten its state and others have not, the store stays closed rather than
//! lose a write.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate::{Delivery, Event, Events, Group, Guarantee, MulticastError, Node, NodeId, RingId, Totem};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

/// The entries of a store.
pub type Entries = BTreeMap<String, String>;

/// A rule that a store can be made to break ([`Store::open_wrong`]), to check that a test notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// Breaks rule 1: writes are agreed messages, which are delivered before others have received
    /// them.
    AgreedIsEnough,
    /// Breaks rule 1: a write that is delivered after the ring broke is acknowledged like any
    /// other.
    TransitionIsForOthers,
    /// Breaks rule 2: any ring accepts writes.
    QuorumIsForOthers,
    /// Breaks rule 3: members keep the entries that they have, and a joiner begins with none.
    SnapshotsAreForOthers,
}

/// The reason why a write was not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutError {
    /// The write is never applied: its ring does not accept writes, or not yet.
    Closed,
    /// The ring broke while the write was in flight: it may or may not have been applied.
    Unknown,
    /// The write was not applied: key and value together do not fit into a message.
    TooLong,
    /// This member has left.
    Left,
}

/// A message between members.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// The sender's first message in this ring: the state that it remembers.
    Remembers { ring: RingId, version: Option<Version> },
    /// A part of the snapshot with which this ring begins.
    Snapshot { ring: RingId, entries: Entries, is_last: bool },
    /// A write. The sender numbers its writes so that it recognises them when they are delivered.
    Put { number: u64, key: String, value: String },
}

/// The age of a state. Rings that accept writes follow one another, so the state of a later ring is
/// newer. Within a ring, the state with more writes is newer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Version {
    ring: RingId,
    writes: u64,
}

/// The approximate length of a part of a snapshot, in bytes. It is short so that no write waits for
/// long.
const PART: usize = 128 << 10;

/// Serialises a value for sending.
fn written(value: &impl Serialize) -> Vec<u8> {
    // Serialising cannot fail, because it writes to memory and all keys are strings.
    serde_json::to_vec(value).unwrap_or_default()
}

/// An action that follows an event.
enum Then {
    Say(Vec<Message>),
    Answer(u64, Result<(), PutError>),
}

/// One member's copy, a fold over the events of its ring. It uses neither the network nor the
/// clock.
#[derive(Debug)]
struct Replica {
    me: NodeId,
    mistake: Option<Mistake>,
    entries: Entries,
    /// The age of `entries`; `None` if this member has seen no snapshot since it started.
    version: Option<Version>,

    // The ring.
    ring: Option<RingId>,
    members: BTreeSet<NodeId>,
    /// The parts of the ring's snapshot that have been received.
    incoming: Entries,
    /// The state that each member remembers, for the members that have announced it.
    remembered: BTreeMap<NodeId, Option<Version>>,
    /// The number of members in a quorum.
    quorum: Option<u32>,
    /// The number of nodes in the cluster.
    nodes: Option<u32>,
    /// Whether the ring's snapshot is complete, so that the ring accepts writes.
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
            Event::Regular(regular) => {
                self.ring = Some(regular.ring);
                self.members = regular.members.clone();
                self.incoming.clear();
                self.remembered.clear();
                self.is_open = false;
            }
            Event::Synced(ring) => {
                return Some(Then::Say(vec![Message::Remembers { ring: *ring, version: self.version }]));
            }
            // A settled status is part of the order, before the first message of any member. One
            // that is not settled withdraws quorum at different moments on different members, so
            // the ring's writes must not depend on it.
            Event::Status(status) if status.settled => {
                (self.quorum, self.nodes) = (status.quorum, status.expected_votes);
            }
            Event::Status(_) => {}
            Event::Deliver(delivery) => return self.deliver(delivery),
            _ => {}
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
            // Sent in an earlier ring.
            Message::Remembers { .. } | Message::Snapshot { .. } => None,
            Message::Put { number, key, value } => {
                let outcome = self.put(key, value, delivery.transitional);
                (from == self.me).then_some(Then::Answer(number, outcome))
            }
        }
    }

    /// Returns all entries of this member, in parts that fit into messages.
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

    /// Applies a write. `is_over` means that the ring has ended, so the write may reach only some
    /// of its members.
    fn put(&mut self, key: String, value: String, is_over: bool) -> Result<(), PutError> {
        let Some(version) = self.version.as_mut().filter(|_| self.is_open) else {
            return Err(PutError::Closed);
        };
        version.writes += 1;
        self.entries.insert(key, value);
        if is_over && !self.makes(Mistake::TransitionIsForOthers) { Err(PutError::Unknown) } else { Ok(()) }
    }

    /// Returns `true` if this ring may accept writes. Called when all members have announced their
    /// states. The result is the same at each of them.
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

/// A member's handle to the store. It is cheap to clone. The member stops when the last clone is
/// dropped.
#[derive(Clone, Debug)]
pub struct Store {
    puts: mpsc::Sender<Request>,
    replica: watch::Receiver<Replica>,
}

/// Returns `true` if the entry fits into a message, both as a write and as part of a snapshot.
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
    /// Opens this member's copy of the store. Must be called within a tokio runtime.
    pub fn open(me: NodeId, node: Node, events: Events<Event>) -> Self {
        Self::with(me, node, events, None)
    }

    /// Like [`Store::open`], but breaks a rule. For tests of tests.
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

    /// Writes a value, and returns `Ok` once every member has the write.
    ///
    /// # Errors
    /// If the write was not applied, or if its outcome is unknown. It may be tried again.
    pub async fn put(&self, key: impl Into<String>, value: impl Into<String>) -> Result<(), PutError> {
        let (answer, outcome) = oneshot::channel();
        let request = Request { key: key.into(), value: value.into(), answer };
        if !fits(&request.key, &request.value) {
            return Err(PutError::TooLong);
        }
        self.puts.send(request).await.map_err(|_| PutError::Left)?;
        outcome.await.unwrap_or(Err(PutError::Left))
    }

    /// Returns this member's value for a key. No other member is asked, so the value may be stale:
    /// a write that has been acknowledged elsewhere may not have been applied here yet.
    pub fn get(&self, key: &str) -> Option<String> {
        self.replica.borrow().entries.get(key).cloned()
    }

    /// Returns all entries of this member.
    pub fn entries(&self) -> Entries {
        self.replica.borrow().entries.clone()
    }

    /// Returns `true` if the store accepts writes, to this member's knowledge.
    pub fn is_open(&self) -> bool {
        self.replica.borrow().is_open
    }

    /// Waits until the store accepts writes in a ring of at least `members` members.
    pub async fn opened(&self, members: usize) -> Result<(), PutError> {
        let open = |replica: &Replica| replica.is_open && replica.members.len() >= members;
        let mut replica = self.replica.clone();
        replica.wait_for(open).await.map(drop).map_err(|_| PutError::Left)
    }
}

/// Folds the ring's events into the replica and performs the actions that follow.
async fn serve(
    replica: watch::Sender<Replica>,
    mut events: Events<Event>,
    mut requests: mpsc::Receiver<Request>,
    say: mpsc::UnboundedSender<Message>,
) {
    let mut answers = BTreeMap::new();
    let mut number = 0;
    loop {
        // Biased because a reproducible run must not choose branches at random.
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
                // The caller may have dropped its future.
                let _ = answers.remove(&number).map(|answer: oneshot::Sender<_>| answer.send(outcome));
            }
            None => {}
        }
    }
}

/// Sends messages, and waits while the ring has no room. This is a separate task so that events are
/// still read meanwhile.
async fn speak(node: Node, guarantee: Guarantee, mut words: mpsc::UnboundedReceiver<Message>) {
    let Ok(group) = Group::new("kv") else { return };
    while let Some(message) = words.recv().await {
        let bytes = Bytes::from(written(&message));
        while let Err(error) = node.multicast(&group, guarantee, bytes.clone()).await {
            match error {
                // Another task takes the events.
                MulticastError::EventsUnread => node.caught_up().await,
                // All messages fit: see `fits` and `PART`.
                MulticastError::TooLong { .. } => break,
                // This node has left.
                _ => return,
            }
        }
    }
}
