//! A client of a Quorate node on the same host.
//!
//! `quorate node` serves local programs at a Unix socket. With a [`Client`], a program asks the
//! node for its status, makes it give up the role of DC, watches each change of the ring, or
//! exchanges messages with a process group in the ring's total order. The crate blocks, needs no
//! runtime, and links no protocol code. A service that wants to be a member itself embeds the crate
//! `quorate`.
//!
//! ```no_run
//! use quorate_client::{Client, Event};
//!
//! # fn main() -> Result<(), quorate_client::Error> {
//! let client = Client::find()?; // the only node on this host
//! println!("DC: {:?}", client.status()?.status.dc);
//! for event in client.watch()? {
//!     if let Event::Status(status) = event? {
//!         println!("quorate: {}, DC: {:?}", status.quorate, status.dc);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # The protocol
//!
//! Other languages can use the socket as well. It is a Unix stream socket, open to processes of the
//! same user and of root. Its path is `/run/quorate/NODE.sock` for root's nodes,
//! `$XDG_RUNTIME_DIR/quorate/NODE.sock` for those of others, or what `quorate node --socket` says.
//!
//! The client sends a [`Request`], which is one line with a JSON object of at most 4096 bytes. The
//! node answers with JSON objects, one per line: a stream of [`Event`]s, or one [`Answer`] or
//! [`Released`]. A line that starts with `{"event":"error"` is the last one, and its `message` is
//! the error.
//!
//! **Status** is answered once, with an [`Answer`]. The field `text` is the output of `quorate
//! status`, and the other fields are those of `quorate status --json`:
//! ```text
//! > {"version":1,"request":"status"}
//! < {"version":1,"node":1,"name":"system1","text":"...","status":{...},"stats":{...},
//!    "notices":[...],"log_lines_lost":0}
//! ```
//! (All on one line.)
//!
//! **Release** is answered once, with a [`Released`]. The node gives up the role of DC, and answers
//! when another node has it, or with the reason why not:
//! ```text
//! > {"version":1,"request":"release"}
//! < {"version":1,"dc":2}
//! ```
//!
//! **Watch** is answered until the client hangs up. The answer starts with the current regular
//! configuration and the status. Each change of them follows, and each pause of the node's process:
//! ```text
//! > {"version":1,"request":"watch"}
//! < {"event":"regular","ring":"1.8","members":[1,2,3],"joined":[3],"left":[],"cause":"..."}
//! < {"event":"status","ring":"1.8","settled":true,"dc":1,...}
//! < {"event":"transitional","ring":"1.c","previous":"1.8","members":[1,2],"left":[3]}
//! < {"event":"stalled","ms":750}
//! ```
//!
//! **Cat** is answered until either side ends it. After the request, the client no longer sends
//! JSON. Each line is the payload of a message, of any bytes except the newline that ends it, and
//! at most 1 MiB. Messages of other programs can have up to 16 MiB. The first line of the answer is
//! the regular configuration at the time of the request. With `"status":true`, the status follows.
//! The client's process joins the group, and receives the group's events in the ring's order from
//! then on:
//! ```text
//! > {"version":1,"request":"cat","group":"orders","guarantee":"safe","status":false}
//! > first payload
//! < {"event":"regular","ring":"1.8","members":[1,2,3],"joined":[3],"left":[],"cause":"..."}
//! < {"event":"group","ring":"1.8","group":"orders","members":[{"node":1,"pid":99}],
//!    "joined":[{"node":1,"pid":99}],"left":[],"reason":"join"}
//! < {"event":"deliver","ring":"1.8","seq":7,"from":1,"pid":99,"guarantee":"safe",
//!    "payload":"first payload"}
//! ```
//! (Each object is on one line.) A message between the lines `transitional` and `regular` has
//! `"transitional":true`. The ring is over, and members that do not come along may never receive
//! it. Clients must apply the message, and must not acknowledge it.
//!
//! The process leaves the group when its last connection to the node ends. The reason is `leave` if
//! everything was written to it, and `procdown` if the connection broke. A second connection of a
//! process that is already in the group receives the group's members in a line without a reason.
//!
//! When the client shuts down its sending side, the answer continues until all of its messages were
//! delivered here, and ends with `{"event":"end","sent":1}`. A connection that closes without that
//! line or an error has been cut.
//!
//! Each line ends with a newline. Bytes behind the last newline are discarded, because a client may
//! have been killed in the middle of a line. A client that still reads receives an error.
//!
//! Backpressure works in both directions, and buffers are bounded. The node reads a client's lines
//! only as fast as the ring accepts them, and pauses while the client has many unread bytes. A
//! client with 64 MiB of unread bytes is disconnected with an error as its next line. If all
//! clients together have 256 MiB of unread bytes, the client with the most is disconnected in the
//! same way.
//!
//! `cat` and `watch` clients each have a limited number of places, at most 64. One-line requests
//! and connections without a request share other places, and the longest silent connection is
//! closed first. A client that finds no place receives an error. Its writes may already fail before
//! it has read that.
//!
//! A node answers an unknown request or version with an error. Fields may be added to any object,
//! and kinds to the events, so a client must ignore unknown ones.

mod client;
mod error;
mod event;
mod path;
mod request;
mod status;
pub mod text;

pub use client::{Client, Events, Sender};
pub use error::Error;
pub use event::{Delivery, Event, Process};
pub use path::{default_directory, default_path, is_served};
pub use request::{Cat, Guarantee, Request, RequestError};
pub use status::{Answer, Device, Lease, NodeDevice, NodeStatus, Notice, Released, Stats, Status, Term};

/// The version of the protocol.
pub const VERSION: u32 = 1;

/// The longest request in bytes, without its newline.
pub const MAX_REQUEST: usize = 4096;

/// The longest payload of a message that a client sends, in bytes. It is less than a ring carries,
/// because the node keeps each client's line in memory until the line is whole.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Serializes a value as one line of the protocol, including the newline.
pub(crate) fn append_line(to: &mut Vec<u8>, value: &impl serde::Serialize) {
    // Neither can fail: the writer is memory, and all our keys are strings.
    let written = serde_json::to_writer(&mut *to, value);
    debug_assert!(written.is_ok(), "{written:?}");
    to.push(b'\n');
}
