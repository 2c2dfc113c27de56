//! Builds a picture from events, in the order of time.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use bytes::Bytes;
use quorate_membership::wire::{self, Message};

use crate::decode::Decoder;
use crate::explain::Explainer;
use crate::fields::kind_of_message;
use crate::infer::States;
use crate::{Arrival, Datagram, News, Node, Note, NoteKind, Picture, RingState, Span, State};

/// Takes down the events of a run, and makes a [`Picture`] of them. Times are microseconds since
/// the beginning of the run. Events come in the order in which they happened.
///
/// ```
/// use bytes::Bytes;
/// use quorate_picture::{NoteKind, Recorder};
///
/// let mut recorder = Recorder::default();
/// recorder.node(1, "one");
/// recorder.node(2, "two");
/// recorder.started(0, 1);
/// let number = recorder.sent(50, Some(1), &[2], &Bytes::from_static(b"noise"));
/// recorder.lost(60, number, 2, "no process listens there");
/// recorder.note(70, None, NoteKind::Fault, "the network is cut");
/// let picture = recorder.picture(100, "a short run");
/// assert_eq!(picture.datagrams[0].kind, "refused");
/// ```
#[derive(Debug, Default)]
pub struct Recorder {
    nodes: BTreeMap<u32, String>,
    /// The datagrams, with their bytes: those that arrive after they were sent tell more when they
    /// do.
    datagrams: VecDeque<(Datagram, Bytes)>,
    /// The number of the first of them.
    first: usize,
    /// The number of the first one that no news has told of.
    untold: usize,
    /// The fates of datagrams that earlier news told of.
    late: Vec<(usize, Arrival)>,
    decoder: Decoder,
    explainer: Explainer,
    /// The states of the protocol, if they are inferred.
    inferred: Option<States>,
    /// The current states, by node and band, each with its beginning.
    current: BTreeMap<(u32, u8), (u64, State, String)>,
    spans: Vec<Span>,
    notes: Vec<Note>,
    ends_at: u64,
    /// The end of the time that the last news was about.
    news_until: u64,
}

impl Recorder {
    /// The time that news goes back to.
    const MEMORY: u64 = 5_000_000;

    /// Infers the states of the protocol from datagrams, because nothing else tells them.
    #[must_use]
    pub fn inferring(mut self) -> Self {
        self.inferred = Some(States::default());
        self
    }

    /// Adds a node, or names it again.
    pub fn node(&mut self, id: u32, name: impl Into<String>) {
        self.nodes.insert(id, name.into());
    }

    /// Takes down that the process of a node starts, perhaps again.
    pub fn started(&mut self, at: u64, node: u32) {
        self.explainer.started(node);
        self.state(at, node, State::Ring(RingState::Gather), "has just started");
    }

    /// Takes down a datagram for these nodes. Returns its number, for [`Recorder::arrived`] and
    /// [`Recorder::lost`].
    pub fn sent(&mut self, at: u64, from: Option<u32>, to: &[u32], payload: &Bytes) -> usize {
        self.ends_at = self.ends_at.max(at);
        let fields = self.decoder.datagram(payload);
        let (kind, why, again) = match (wire::decode(payload), from) {
            (Ok(message), Some(from)) => {
                let (why, again) = self.explainer.sent(at, from, to, &message);
                if let Some((state, text)) =
                    self.inferred.as_mut().and_then(|states| states.sent(from, &message))
                {
                    self.state(at, from, State::Ring(state), text);
                }
                (kind_of_message(&message), why, again)
            }
            (Ok(message), None) => {
                let why = format!(
                    "It came from elsewhere, or from the past, in the name of node {}.",
                    speaker(&message)
                );
                (kind_of_message(&message), why, false)
            }
            (Err(why), _) => ("refused", format!("No member accepts this: {why}."), false),
        };
        let again = again || fields.flag("again");
        let to = to.iter().map(|&node| Arrival { node, at: None, lost: None }).collect();
        let payload = if kind == "multicast" { Bytes::new() } else { payload.clone() };
        self.datagrams.push_back((Datagram { at, from, kind, again, why, fields, to }, payload));
        self.first + self.datagrams.len() - 1
    }

    fn get(&self, number: usize) -> Option<&(Datagram, Bytes)> {
        self.datagrams.get(number.checked_sub(self.first)?)
    }

    /// Takes down that a datagram reached a node, once more perhaps.
    pub fn arrived(&mut self, at: u64, number: usize, node: u32) {
        self.ends_at = self.ends_at.max(at);
        self.may_have_arrived(at, number, node);
        self.became(number, Arrival { node, at: Some(at), lost: None });
    }

    /// Takes down that a datagram may have reached a node, at a time that is not known.
    pub(crate) fn may_have_arrived(&mut self, at: u64, number: usize, node: u32) {
        if let Some((datagram, payload)) = self.get(number)
            && let Ok(message) = wire::decode(payload)
        {
            let from = datagram.from;
            self.explainer.arrived(at, node, from, &message);
        }
    }

    /// Takes down that a datagram did not reach a node, and why.
    pub fn lost(&mut self, at: u64, number: usize, node: u32, why: &'static str) {
        self.became(number, Arrival { node, at: Some(at), lost: Some(why) });
    }

    fn became(&mut self, number: usize, arrival: Arrival) {
        let Some(place) = number.checked_sub(self.first) else { return };
        let Some((datagram, _)) = self.datagrams.get_mut(place) else { return };
        if number < self.untold {
            self.late.push((number, arrival.clone()));
        }
        datagram.arrival(arrival);
    }

    /// Takes down that a node is in this state from now on, and not in the former one of its band.
    pub fn state(&mut self, at: u64, node: u32, state: State, text: impl Into<String>) {
        let text = text.into();
        let band = state.band();
        if self.current.get(&(node, band)).is_some_and(|(_, now, said)| (*now, said) == (state, &text)) {
            return;
        }
        if state == State::Ring(RingState::Operational)
            && let Some(states) = &mut self.inferred
        {
            states.installed(node);
        }
        self.end_band(at, node, band);
        self.current.insert((node, band), (at, state, text));
    }

    /// Takes down that a node is in this state no more. Has no effect if it is in another one.
    pub fn end_state(&mut self, at: u64, node: u32, state: State) {
        let band = state.band();
        if self.current.get(&(node, band)).is_some_and(|(_, now, _)| *now == state) {
            self.end_band(at, node, band);
        }
    }

    /// Takes down that a node goes from one state to another. Has no effect if it is in a third.
    pub fn replace_state(&mut self, at: u64, node: u32, from: State, to: State) {
        if self.current.get(&(node, from.band())).is_some_and(|(_, now, _)| *now == from) {
            self.state(at, node, to, "");
        }
    }

    /// Takes down that a node has been in this state no more since a moment in the past.
    pub fn cut_state(&mut self, since: u64, node: u32, state: State) {
        self.end_state(since, node, state);
        let later = |span: &Span| span.node == node && span.what == state && span.until > since;
        self.spans.iter_mut().filter(|span| later(span)).for_each(|span| span.until = since);
        self.spans.retain(|span| span.from < span.until);
    }

    /// Takes down that a node has been silent since a moment in the past.
    pub(crate) fn silent_since(&mut self, since: u64, node: u32) {
        let down = State::Ring(RingState::Down);
        if let Some((from, what, text)) = self.current.remove(&(node, down.band()))
            && from < since
        {
            self.spans.push(Span { node, from, until: since, what, text });
        }
        self.current.insert((node, down.band()), (since, down, "silent".to_owned()));
    }

    fn end_band(&mut self, at: u64, node: u32, band: u8) {
        self.ends_at = self.ends_at.max(at);
        if let Some((from, what, text)) = self.current.remove(&(node, band))
            && from < at
        {
            self.spans.push(Span { node, from, until: at, what, text });
        }
    }

    /// Takes down an event.
    pub fn note(&mut self, at: u64, node: Option<u32>, kind: NoteKind, text: impl Into<String>) {
        self.ends_at = self.ends_at.max(at);
        self.notes.push(Note { at, node, kind, text: text.into() });
    }

    /// Returns what has happened since the last news, up to this time. Forgets what happened more
    /// than five seconds before, so a run of any length can be followed.
    pub fn news(&mut self, now: u64) -> News {
        let since = self.news_until.min(now.saturating_sub(Self::MEMORY));
        self.news_until = now;
        let first = self.untold;
        self.untold = self.first + self.datagrams.len();
        let untold = self.datagrams.iter().skip(first - self.first);
        let datagrams = untold.map(|(datagram, _)| datagram.clone()).collect();
        while self.datagrams.front().is_some_and(|(datagram, _)| datagram.at < since) {
            self.datagrams.pop_front();
            self.first += 1;
        }
        let open = self.current.iter().map(|(&(node, _), (from, what, text))| Span {
            node,
            from: *from,
            until: now + 1,
            what: *what,
            text: text.clone(),
        });
        let spans = self.spans.iter().filter(|span| span.until >= since).cloned().chain(open).collect();
        self.spans.retain(|span| span.until >= since);
        let (late, notes) = (mem::take(&mut self.late), mem::take(&mut self.notes));
        News { now, first, datagrams, late, since, spans, notes }
    }

    /// Returns the picture of a run that ends at this time.
    pub fn picture(mut self, ends_at: u64, title: impl Into<String>) -> Picture {
        let ends_at = ends_at.max(self.ends_at);
        let open: Vec<(u32, u8)> = self.current.keys().copied().collect();
        for (node, band) in open {
            self.end_band(ends_at, node, band);
        }
        self.notes.sort_by_key(|note| note.at);
        Picture {
            title: title.into(),
            about: Vec::new(),
            nodes: self.nodes.into_iter().map(|(id, name)| Node { id, name }).collect(),
            ends_at,
            datagrams: self.datagrams.into_iter().map(|(datagram, _)| datagram).collect(),
            spans: self.spans,
            notes: self.notes,
        }
    }
}

impl Datagram {
    fn arrival(&mut self, arrival: Arrival) {
        match self.to.iter_mut().find(|known| known.node == arrival.node && known.at.is_none()) {
            Some(expected) => *expected = arrival,
            // A copy.
            None => self.to.push(arrival),
        }
    }
}

impl State {
    fn band(self) -> u8 {
        match self {
            Self::Ring(_) => 0,
            Self::Quorum(_) => 1,
            Self::Dc(_) => 2,
        }
    }
}

/// Returns the node that a message names as its sender. For a frame, that is the one that numbered
/// it.
pub(crate) fn speaker(message: &Message) -> u32 {
    let node = match message {
        Message::Token(token) => token.from,
        Message::Multicast(frame) => frame.from,
        Message::MergeDetect(merge) => merge.from,
        Message::Join(join) => join.from,
        Message::Commit(commit) => commit.from,
        Message::HoldCancel(cancel) => cancel.from,
    };
    node.get()
}
