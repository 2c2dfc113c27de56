//! A picture of a run, from its history and its datagrams.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_election::{Lease, Status};
use quorate_membership::{NodeId, Phase, Regular, Transitional};
use quorate_picture::{DcState, NoteKind, Picture, Recorder, RingState, State};

use crate::engine::micros;
use crate::history::{Inside, Life, Outcome, Record, Sent, Step, Traffic, What};
use crate::invariants::Violation;
use crate::{Failure, Fault, History, Scenario};

const QUORATE: State = State::Quorum(true);
const INQUORATE: State = State::Quorum(false);
const ACTS: State = State::Dc(DcState::Acts);
const WAITS: State = State::Dc(DcState::Waits);
const NAMED: State = State::Dc(DcState::Named);
const OTHER: State = State::Dc(DcState::Other);

/// Draws a run of this scenario, and where it failed. Returns `None` if nothing ran.
pub(crate) fn draw(scenario: &Scenario, history: &History, failure: Option<&Failure>) -> Option<Picture> {
    let traffic = history.kept_traffic().filter(|_| !failure.is_some_and(Failure::is_impossible))?;
    // Only the core engine sees into the protocol.
    let sees_phases =
        history.records().iter().any(|record| matches!(record.what, What::Inside(Inside::Phase { .. })));
    let mut artist = Artist::new(scenario, history.nodes());
    artist.ends_at = micros(history.ended_at());
    if !sees_phases {
        artist.recorder = artist.recorder.inferring();
    }
    for step in &traffic.steps {
        artist.step(*step, history.records(), traffic);
    }
    for (number, sent) in traffic.kept() {
        artist.miss(number, sent);
    }
    failure.and_then(Failure::violation).into_iter().for_each(|violation| artist.violated(violation));
    let title = format!("{} nodes, seed {}", scenario.nodes, scenario.seed);
    let mut picture = artist.recorder.picture(artist.ends_at, title);
    picture.about = vec![
        ("Verdict".to_owned(), failure.map_or("no invariant was violated".to_owned(), Failure::why)),
        ("Trace hash".to_owned(), format!("{:016x}", history.fingerprint())),
        ("Scenario".to_owned(), scenario.to_string()),
    ];
    Some(picture)
}

/// Draws step by step.
pub(crate) struct Artist {
    pub(crate) recorder: Recorder,
    /// The time that a datagram takes.
    latency: Duration,
    calm_at: Option<Duration>,
    /// The end of the run, if it is known.
    pub(crate) ends_at: u64,
    /// The latest status of each node.
    statuses: BTreeMap<u32, Status>,
    /// The state that each node is in, if it is not paused.
    states: BTreeMap<u32, (RingState, String)>,
    /// The ends of pauses, by node.
    pauses: BTreeMap<u32, u64>,
}

impl Artist {
    pub(crate) fn new(scenario: &Scenario, nodes: &BTreeSet<NodeId>) -> Self {
        let mut recorder = Recorder::default();
        for node in nodes {
            recorder.node(node.get(), format!("node {node}"));
            recorder.state(0, node.get(), State::Ring(RingState::Down), "not started");
        }
        Self {
            recorder,
            latency: scenario.world.latency,
            calm_at: scenario.calm_at,
            ends_at: u64::MAX,
            statuses: BTreeMap::new(),
            states: BTreeMap::new(),
            pauses: BTreeMap::new(),
        }
    }

    pub(crate) fn violated(&mut self, violation: &Violation) {
        self.recorder.note(micros(violation.at), None, NoteKind::Violation, violation.to_string());
    }

    pub(crate) fn step(&mut self, step: Step, records: &[Record], traffic: &Traffic) {
        match step {
            Step::Record(number) => self.see(&records[number]),
            Step::Sent(number) => traffic.get(number).into_iter().for_each(|sent| self.sent(sent)),
            Step::Fate { number, node, at, outcome } => self.fate(number, node.get(), at, outcome),
        }
    }

    fn sent(&mut self, sent: &Sent) {
        let to: Vec<u32> = sent.to.keys().map(|node| node.get()).collect();
        self.recorder.sent(micros(sent.at), sent.from.map(|life| life.node.get()), &to, &sent.payload);
    }

    fn fate(&mut self, number: usize, node: u32, at: Duration, outcome: Outcome) {
        match outcome.why() {
            None => self.recorder.arrived(micros(at), number, node),
            Some(why) => self.recorder.lost(micros(at), number, node, why),
        }
    }

    /// Says of a datagram without a known fate that it was lost, unless it is still under way.
    pub(crate) fn miss(&mut self, number: usize, sent: &Sent) {
        let at = micros(sent.at + self.latency);
        for (node, _) in sent.to.iter().filter(|(_, known)| !**known) {
            // A node's datagrams to itself do not use its sockets.
            if sent.from.is_some_and(|life| life.node == *node) {
                self.recorder.arrived(micros(sent.at), number, node.get());
            } else if at < self.ends_at {
                self.recorder.lost(at, number, node.get(), "it did not arrive");
            }
        }
    }

    fn see(&mut self, record: &Record) {
        let at = micros(record.at);
        self.wake(at);
        match (&record.what, record.life) {
            (What::Network(fault), _) => self.fault(record.at, fault),
            (what, Some(life)) => self.see_of_node(at, life, what),
            (What::Panicked, None) => self.recorder.note(at, None, NoteKind::Violation, "a node panicked"),
            (_, None) => {}
        }
    }

    fn see_of_node(&mut self, at: u64, life: Life, what: &What) {
        let node = life.node.get();
        let mut note = |kind: NoteKind, text: String| self.recorder.note(at, Some(node), kind, text);
        match what {
            What::Started => {
                note(NoteKind::Life, format!("node {node} starts"));
                self.recorder.started(at, node);
                self.states.insert(node, (RingState::Gather, "has just started".to_owned()));
            }
            What::Crashed => {
                note(NoteKind::Life, format!("node {node} crashes"));
                self.ends(at, node, "crashed");
            }
            What::Panicked => {
                note(NoteKind::Violation, format!("node {node} panicked"));
                self.ends(at, node, "panicked");
            }
            What::Left(cause) => {
                note(NoteKind::Life, format!("node {node} leaves: {cause}"));
                self.ends(at, node, "left");
            }
            What::Stalled(length) => {
                note(
                    NoteKind::Life,
                    format!("node {node} finds that it was paused for {} ms", length.as_millis()),
                );
            }
            What::Hung(hangs) => {
                let state = if *hangs { "hangs" } else { "is alive again" };
                note(NoteKind::Life, format!("the application of node {node} {state}"));
            }
            What::Accepted { message, content, guarantee, .. } => note(
                NoteKind::Message,
                format!(
                    "node {node} has a message to send: {message}, {} bytes, {guarantee}",
                    content.length
                ),
            ),
            What::Delivered(delivered) => {
                let message = delivered.message.map_or("an unknown message".to_owned(), |id| id.to_string());
                let while_moving =
                    if delivered.transitional { ", in the transitional configuration" } else { "" };
                let text = format!(
                    "node {node} delivers {message} ({}), frame {}{while_moving}",
                    delivered.guarantee, delivered.seq
                );
                note(NoteKind::Message, text);
            }
            What::Transitional(Transitional { previous, members, .. }) => note(
                NoteKind::Ring,
                format!(
                    "node {node} leaves ring {previous}, with {}: what it still delivers of that ring may have \
                     reached only these",
                    list(members)
                ),
            ),
            What::Regular(regular) => {
                let Regular { ring, members, .. } = regular;
                note(
                    NoteKind::Ring,
                    format!("node {node} has ring {ring} of {}: {}", list(members), regular.why()),
                );
                self.state(at, node, RingState::Operational, format!("ring {ring} of {}", list(members)));
            }
            What::Status(status) => self.status(at, node, status),
            What::Inside(inside) => self.inside(at, node, inside),
            What::Synced(_) | What::GroupChange(_) | What::Network(_) => {}
        }
    }

    fn status(&mut self, at: u64, node: u32, status: &Status) {
        let before = self.statuses.insert(node, status.clone());
        let quorate = status.inquorate.is_none();
        let text = match &status.inquorate {
            None if status.total_votes == 1 => "1 vote".to_owned(),
            None => format!("{} votes", status.total_votes),
            Some(why) => why.to_string(),
        };
        // Once the votes have been counted, the reason is worth another word.
        let counted = |before: &Status| status.settled && before.inquorate != status.inquorate;
        if before.as_ref().is_none_or(|before| before.inquorate.is_none() != quorate || counted(before)) {
            let gains = if quorate { "has a quorum" } else { "has no quorum" };
            self.recorder.note(at, Some(node), NoteKind::Quorum, format!("node {node} {gains}: {text}"));
        }
        self.recorder.state(at, node, State::Quorum(quorate), text);
        if before.and_then(|before| before.dc) != status.dc {
            let in_name = if status.term.is_some() { "" } else { ", in name only: it may not act" };
            let text = match status.dc {
                Some(dc) if dc.get() == node => format!("node {node} is the DC now{in_name}"),
                Some(dc) => format!("node {node} takes node {dc} for the DC{in_name}"),
                None => format!("node {node} knows no DC"),
            };
            self.recorder.note(at, Some(node), NoteKind::Dc, text);
        }
        match (status.dc.map(NodeId::get), status.lease) {
            (Some(dc), Lease::Held) if dc == node => self.recorder.state(at, node, ACTS, ""),
            (Some(dc), _) if dc == node => {
                let state = if status.term.is_some() { WAITS } else { NAMED };
                self.recorder.state(at, node, state, "");
            }
            (Some(dc), _) => self.recorder.state(at, node, OTHER, format!("node {dc}")),
            (None, _) => self.end_states(at, node, [OTHER, NAMED, WAITS, ACTS]),
        }
    }

    fn inside(&mut self, at: u64, node: u32, inside: &Inside) {
        match inside {
            Inside::Phase { to, ring, .. } => {
                let (state, text) = match to {
                    Phase::Gather => (RingState::Gather, "looks for members".to_owned()),
                    Phase::Commit => (RingState::Commit, "agrees on a ring".to_owned()),
                    Phase::Recovery => (RingState::Recovery, "gets what is missing of old rings".to_owned()),
                    Phase::Operational => (RingState::Operational, format!("ring {}", ring.ring)),
                    Phase::Left => (RingState::Down, "left".to_owned()),
                };
                self.state(at, node, state, text);
            }
            Inside::LeaseOn(_) => {
                self.recorder.note(
                    at,
                    Some(node),
                    NoteKind::Dc,
                    format!("node {node} may act as DC: its lease runs"),
                );
                self.recorder.state(at, node, ACTS, "");
            }
            Inside::LeaseOff { since, .. } => {
                let since = micros(*since);
                // The end of the run ends all leases, which is no event of the nodes.
                if since < self.ends_at {
                    self.recorder.cut_state(since, node, ACTS);
                    let ended = since as f64 / 1e6;
                    let text =
                        format!("node {node} may no longer act as DC: its lease ended at {ended:.3} s");
                    self.recorder.note(at, Some(node), NoteKind::Dc, text);
                }
            }
            _ => {}
        }
    }

    fn fault(&mut self, time: Duration, fault: &Fault) {
        let at = micros(time);
        let node = match fault {
            Fault::Pause { node, lasts } | Fault::Freeze { node, lasts } => {
                if self.states.get(node).is_some_and(|(state, _)| *state != RingState::Down) {
                    let ends_at = self.pauses.entry(*node).or_default();
                    *ends_at = (*ends_at).max(at + micros(*lasts));
                    self.recorder.state(
                        at,
                        *node,
                        State::Ring(RingState::Paused),
                        "the process does not run",
                    );
                }
                Some(*node)
            }
            Fault::Heal if self.calm_at == Some(time) => {
                self.pauses.values_mut().for_each(|ends_at| *ends_at = (*ends_at).min(at));
                self.wake(at);
                None
            }
            _ => None,
        };
        self.recorder.note(at, node, NoteKind::Fault, fault.to_string());
    }

    fn state(&mut self, at: u64, node: u32, state: RingState, text: String) {
        self.recorder.state(at, node, State::Ring(state), text.clone());
        self.states.insert(node, (state, text));
    }

    fn ends(&mut self, at: u64, node: u32, how: &str) {
        self.pauses.remove(&node);
        self.state(at, node, RingState::Down, how.to_owned());
        self.end_states(at, node, [QUORATE, INQUORATE, OTHER, NAMED, WAITS, ACTS]);
        self.statuses.remove(&node);
    }

    fn end_states<const N: usize>(&mut self, at: u64, node: u32, states: [State; N]) {
        states.into_iter().for_each(|state| self.recorder.end_state(at, node, state));
    }

    /// Ends the pauses that are over.
    pub(crate) fn wake(&mut self, now: u64) {
        while let Some((&node, &at)) = self.pauses.iter().find(|(_, ends_at)| **ends_at <= now) {
            self.pauses.remove(&node);
            if let Some((state, text)) = self.states.get(&node) {
                self.recorder.state(at, node, State::Ring(*state), text.clone());
            }
        }
    }
}

fn list(members: &BTreeSet<NodeId>) -> String {
    members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
