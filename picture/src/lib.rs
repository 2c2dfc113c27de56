//! Pictures of runs: a space-time diagram of a ring, as one HTML file.
//!
//! A [`Picture`] has a line for each node. Datagrams are arrows between them, and the state of the
//! protocol is the colour of the line. A click on an arrow shows the decoded datagram, and why it
//! was sent. The file needs no network, so it can be attached to a report of a fault.
//!
//! There are two sources:
//! - a [`Capture`] of a ring's datagrams, in which states and causes are inferred from them;
//! - a simulation, which reports its events to a [`Recorder`].
//!
//! ```
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use quorate_picture::Capture;
//!
//! # fn read() -> Vec<(u64, &'static str, &'static str, Bytes)> { Vec::new() }
//! let mut capture = Capture::default();
//! for (micros, from, to, payload) in read() {
//!     capture.datagram(Duration::from_micros(micros), from.parse()?, to.parse()?, payload);
//! }
//! let html = capture.picture("two nodes").html();
//! assert!(html.starts_with("<!doctype html>"));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! Both use [`Decoder`], which turns datagrams into named [`Fields`].

mod assembly;
mod capture;
mod decode;
mod explain;
mod fields;
mod html;
mod infer;
mod recorder;

use serde::ser::Error;
use serde::{Serialize, Serializer};

pub use self::capture::Capture;
pub use self::decode::{Counts, Decoder};
pub use self::fields::{Fields, Value};
pub use self::html::live_page;
pub use self::recorder::Recorder;

/// A run, as it is drawn. All times are microseconds since its beginning.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Picture {
    /// The subject of the picture, in a few words.
    pub title: String,
    /// Further facts about the run, such as its seed: names and texts.
    pub about: Vec<(String, String)>,
    /// The nodes, in ascending order of ids.
    pub nodes: Vec<Node>,
    /// The end of the run.
    pub ends_at: u64,
    /// The datagrams, in the order in which they were sent.
    pub datagrams: Vec<Datagram>,
    /// The states of the nodes, with their beginnings and ends.
    pub spans: Vec<Span>,
    /// Events, in ascending order of time.
    pub notes: Vec<Note>,
}

/// The latest part of a live run, since the news before.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct News {
    /// The end of the time that this is about.
    pub now: u64,
    /// The number of the first of `datagrams`. Numbers begin with 0.
    pub first: usize,
    /// The datagrams that were sent, in order.
    pub datagrams: Vec<Datagram>,
    /// The fates of datagrams in earlier news, by their numbers.
    pub late: Vec<(usize, Arrival)>,
    /// The time from which `spans` are complete. They replace those of the news before.
    pub since: u64,
    /// The states that nodes have been in. Lasting states end just after `now`.
    pub spans: Vec<Span>,
    /// Events, in the order in which they became known.
    pub notes: Vec<Note>,
}

impl News {
    /// Joins this with the next news.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.spans.retain(|span| span.until < next.since);
        self.spans.extend(next.spans);
        self.datagrams.extend(next.datagrams);
        self.late.extend(next.late);
        self.notes.extend(next.notes);
        Self { now: next.now, since: self.since.min(next.since), ..self }
    }
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Node {
    /// The id.
    pub id: u32,
    /// The name, or the address.
    pub name: String,
}

/// A datagram.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Datagram {
    /// The time at which it was sent.
    pub at: u64,
    /// The node that sent it. `None` if it came from elsewhere.
    pub from: Option<u32>,
    /// The kind, as in [`Fields::kind`].
    pub kind: &'static str,
    /// Whether the same had been sent before.
    pub again: bool,
    /// The reason why it was sent, in a sentence.
    pub why: String,
    /// Its content. A browser reads it only when it shows it, so it is a text in the page's data.
    #[serde(serialize_with = "as_text")]
    pub fields: Fields,
    /// Its fate at each receiver.
    pub to: Vec<Arrival>,
}

/// A datagram at one receiver.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Arrival {
    /// The receiver.
    pub node: u32,
    /// The time at which it arrived, or was lost. `None` if only the sending is known.
    pub at: Option<u64>,
    /// The reason why it did not arrive.
    pub lost: Option<&'static str>,
}

/// A stretch of time that a node spent in a state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Span {
    /// The node.
    pub node: u32,
    /// The beginning.
    pub from: u64,
    /// The end.
    pub until: u64,
    /// The state.
    #[serde(flatten)]
    pub what: State,
    /// Details, in a few words. May be empty.
    pub text: String,
}

/// A state of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(tag = "band", content = "state", rename_all = "lowercase")]
pub enum State {
    /// The state of its protocol.
    Ring(RingState),
    /// Whether its ring has a quorum.
    Quorum(bool),
    /// The DC that it knows.
    Dc(DcState),
}

/// A state of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RingState {
    /// The process does not run, or has left.
    Down,
    /// It delivers messages in a ring.
    Operational,
    /// It agrees with others on the members of a ring.
    Gather,
    /// The members of a new ring report which frames of old ones they have.
    Commit,
    /// They send each other the frames that are missing of old rings.
    Recovery,
    /// The process is paused.
    Paused,
}

/// The DC that a node knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DcState {
    /// Another node, which the text names.
    Other,
    /// It is the DC in name only, because there is no quorum.
    Named,
    /// It is the DC, and may not act: earlier leases may still run, its own is not renewed, or it
    /// gives up the role.
    Waits,
    /// It may act: its lease runs.
    Acts,
}

/// An event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Note {
    /// The time.
    pub at: u64,
    /// The node. `None`: the network, or all nodes.
    pub node: Option<u32>,
    /// The kind.
    pub kind: NoteKind,
    /// The event, in a sentence or a few words.
    pub text: String,
}

/// Kinds of notes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NoteKind {
    /// A process started, ended, or was paused.
    Life,
    /// The network changed, or another fault happened.
    Fault,
    /// A configuration of a ring.
    Ring,
    /// Quorum was lost or gained.
    Quorum,
    /// Another DC, or its lease began or ended.
    Dc,
    /// A message was sent or delivered.
    Message,
    /// A rule was broken.
    Violation,
}

fn as_text<S: Serializer>(fields: &Fields, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&serde_json::to_string(fields).map_err(S::Error::custom)?)
}
