//! A picture of captured datagrams. The states of the nodes are inferred from the datagrams that
//! they sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::RingId;
use quorate_membership::config::Config;
use quorate_membership::wire::{self, Join, Message, Token};

use crate::explain::nodes;
use crate::recorder::speaker;
use crate::{NoteKind, Picture, Recorder, RingState, State};

/// The time within which equal datagrams of one sender count as one datagram that was sent to
/// several nodes, or captured on several interfaces.
const TOGETHER: Duration = Duration::from_millis(1);
/// After this silence, in microseconds, a node that others give up on is drawn as down.
const SILENT: u64 = 100_000;

/// The captured datagrams of a ring.
///
/// A capture shows when a datagram was sent, but not whether it arrived.
#[derive(Clone, Debug, Default)]
pub struct Capture(Vec<Captured>);

#[derive(Clone, Debug)]
struct Captured {
    at: Duration,
    from: SocketAddr,
    to: Vec<SocketAddr>,
    payload: Bytes,
}

impl Capture {
    /// Adds a datagram. Times are measured from an arbitrary moment, the same for all datagrams.
    pub fn datagram(&mut self, at: Duration, from: SocketAddr, to: SocketAddr, payload: Bytes) {
        self.0.push(Captured { at, from, to: vec![to], payload });
    }

    /// Returns the picture of these datagrams.
    pub fn picture(mut self, title: impl Into<String>) -> Picture {
        self.0.sort_by_key(|captured| captured.at);
        let hosts = self.hosts();
        let mut observer = Observer { recorder: Recorder::default().inferring(), ..Observer::default() };
        for (address, node) in &hosts {
            observer.recorder.node(*node, format!("{node} ({address})"));
        }
        let begins_at = self.0.first().map(|first| first.at).unwrap_or_default();
        for Captured { at, from, to, payload } in together(self.0) {
            let at = u64::try_from((at - begins_at).as_micros()).unwrap_or(u64::MAX);
            let sender = hosts.get(&from.ip()).copied();
            let to: BTreeSet<u32> = match to.iter().any(|to| to.ip().is_multicast()) {
                true => hosts.values().copied().filter(|node| Some(*node) != sender).collect(),
                false => to.iter().filter_map(|to| hosts.get(&to.ip()).copied()).collect(),
            };
            observer.datagram(at, sender, &to.into_iter().collect::<Vec<_>>(), &payload);
        }
        observer.recorder.picture(0, title)
    }

    /// Returns the node at each address, according to the nodes' own messages.
    fn hosts(&self) -> BTreeMap<IpAddr, u32> {
        let mut hosts = BTreeMap::new();
        let mut numbered = BTreeMap::new();
        for captured in &self.0 {
            let Ok(message) = wire::decode(&captured.payload) else { continue };
            // A member may retransmit a frame of another one, so frames are weaker evidence.
            let known = if matches!(message, Message::Multicast(_)) { &mut numbered } else { &mut hosts };
            if known.len() < Config::MAX_NODES {
                known.entry(captured.from.ip()).or_insert_with(|| speaker(&message));
            }
        }
        for (address, node) in numbered {
            if !hosts.values().any(|known| *known == node) {
                hosts.entry(address).or_insert(node);
            }
        }
        hosts
    }
}

/// Joins equal datagrams of one sender that were captured at about the same time.
fn together(all: Vec<Captured>) -> Vec<Captured> {
    let mut joined: Vec<Captured> = Vec::new();
    for captured in all {
        let recent = joined.iter_mut().rev().take_while(|earlier| captured.at - earlier.at <= TOGETHER);
        let same =
            |earlier: &&mut Captured| earlier.from == captured.from && earlier.payload == captured.payload;
        match recent.take(64).find(same) {
            Some(earlier) => earlier.to.extend(captured.to),
            None => joined.push(captured),
        }
    }
    joined
}

/// Infers events from the datagrams.
#[derive(Default)]
struct Observer {
    recorder: Recorder,
    /// The last sign of life of each node.
    heard: BTreeMap<u32, u64>,
    /// The nodes that others have given up on, and that have not been heard since.
    missing: BTreeSet<u32>,
    /// The nodes that have left, and have not been heard since.
    left: BTreeSet<u32>,
    /// Whether each node is looking for a ring, according to its last JOIN or token.
    gathers: BTreeMap<u32, bool>,
    members: BTreeMap<RingId, Vec<u32>>,
    /// The latest ring.
    ring: Option<RingId>,
}

impl Observer {
    fn datagram(&mut self, at: u64, from: Option<u32>, to: &[u32], payload: &Bytes) {
        let number = self.recorder.sent(at, from, to, payload);
        to.iter().for_each(|node| self.recorder.may_have_arrived(at, number, *node));
        let Some(from) = from else { return };
        let message = wire::decode(payload);
        if matches!(&message, Ok(Message::Join(join)) if join.leave) {
            if self.left.insert(from) {
                self.note(at, Some(from), NoteKind::Life, format!("node {from} leaves"));
            }
            return;
        }
        let tells = matches!(message, Ok(Message::Join(_) | Message::Commit(_) | Message::Token(_)));
        self.hear(at, from, tells);
        match message {
            Ok(Message::Join(join)) => self.join(at, from, &join),
            Ok(Message::Commit(commit)) => {
                let members = commit.members.iter().map(|member| member.get()).collect();
                if self.members.len() < 1024 {
                    self.members.insert(commit.ring, members);
                }
            }
            Ok(Message::Token(token)) => self.token(at, from, &token),
            _ => {}
        }
    }

    /// Records a sign of life. With `tells`, the message shows the node's state by itself.
    fn hear(&mut self, at: u64, node: u32, tells: bool) {
        if self.heard.insert(node, at).is_none() {
            self.note(at, Some(node), NoteKind::Life, format!("node {node} is heard for the first time"));
        } else if self.missing.remove(&node) | self.left.remove(&node) {
            self.note(at, Some(node), NoteKind::Life, format!("node {node} is heard again"));
            if !tells {
                self.recorder.state(at, node, State::Ring(RingState::Operational), "is heard again");
            }
        }
    }

    fn token(&mut self, at: u64, from: u32, token: &Token) {
        self.gathers.insert(from, false);
        let members = self.members.get(&token.ring).cloned().unwrap_or_default();
        if self.ring.replace(token.ring) != Some(token.ring) {
            let of = if members.is_empty() { String::new() } else { format!(" of {}", nodes(&members)) };
            let is_new = token.token_seq.get() == 0;
            let already = if is_new { "" } else { " is there already" };
            self.note(at, None, NoteKind::Ring, format!("ring {}{of}{already}", token.ring));
        }
        // The token has visited all members, even if the capture does not show it.
        for node in members {
            self.heard.entry(node).and_modify(|heard| *heard = at);
        }
    }

    fn join(&mut self, at: u64, from: u32, join: &Join) {
        for node in join.failed.iter().map(|node| node.get()) {
            if self.left.contains(&node) || !self.missing.insert(node) {
                continue;
            }
            let heard = self.heard.get(&node).copied();
            let silent = heard.map(|heard| at.saturating_sub(heard));
            let text = silent.map(|silent| format!(", which was last heard {} ms before", silent / 1000));
            let text = format!("node {from} gives up on node {node}{}", text.unwrap_or_default());
            self.note(at, Some(from), NoteKind::Ring, text);
            if let Some(heard) = heard.filter(|heard| at.saturating_sub(*heard) >= SILENT) {
                let text =
                    format!("node {node} sends its last datagram: after this, it ended or was cut off");
                self.note(heard, Some(node), NoteKind::Life, text);
                self.recorder.silent_since(heard, node);
            }
        }
        if self.gathers.insert(from, true) == Some(false) {
            self.note(at, Some(from), NoteKind::Ring, format!("node {from} looks for a new ring"));
        }
    }

    fn note(&mut self, at: u64, node: Option<u32>, kind: NoteKind, text: String) {
        self.recorder.note(at, node, kind, text);
    }
}
