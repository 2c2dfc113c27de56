//! The output, as JSON lines.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;

use quorate::{NodeId, RingId, Status};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// A line of output. Terms are decimal strings because JSON numbers cannot hold them.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    /// A node: a new regular configuration.
    Ring { ring: RingId, members: &'a BTreeSet<NodeId>, why: String },
    /// A node: a change of the election's status.
    Status(&'a Status),
    /// The address: a new holder or a new term.
    Accepted { node: u32, term: String },
    /// The address: a claim under a term that has ended. `refused` counts such claims under this
    /// term.
    Refused { node: u32, term: String, refused: u64 },
    /// The address: a datagram that is not a claim. `malformed` counts such datagrams.
    Malformed { from: SocketAddr, malformed: u64 },
}

#[derive(Serialize)]
struct Stamped<'a> {
    at_us: u64,
    #[serde(flatten)]
    line: Line<'a>,
}

/// Returns the time in microseconds on the monotonic clock, which all processes of a host share.
pub(crate) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The clock starts when the host boots, so it is not negative.
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000
}

pub(crate) fn print(at_us: u64, line: Line<'_>) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Stamped { at_us, line })?;
    text.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush())
}
