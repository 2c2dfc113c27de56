//! Counters of the core's input and actions.

use std::collections::BTreeMap;
use std::fmt;

use crate::Notices;
use crate::words::words;

/// The reason why a datagram, or a message within one, was refused. Each refusal is counted in
/// [`Stats::refused`] and has no other effect, so bytes from the network cannot stop a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// The input is shorter than its kind requires, or than its own counts claim.
    Truncated,
    /// The input is longer than its counts say.
    TrailingBytes,
    /// The input is not a Totem message.
    Magic,
    /// A corosync 2.x message.
    OldCorosync,
    /// The input has another version of the protocol.
    Version,
    /// The message type does not exist.
    Type,
    /// The input has more entries than the protocol allows.
    TooMany,
    /// A node id is 0 where a node is required.
    NoNode,
    /// A field has an impossible value.
    Field,
    /// The packed messages do not add up to the frame.
    Packing,
    /// A fragment lacks its beginning, or exceeds the longest message.
    Fragment,
    /// A message of a layer above is malformed.
    Service,
    /// The sender is not in the node list.
    Unlisted,
    /// The sender's address belongs to another node id, or its id to another address.
    Impostor,
    /// The sender belongs to another cluster on the same group and port.
    OtherCluster,
    /// The sender of the frame is not a member of the frame's ring.
    Outsider,
    /// A sequence number is further from this node's than the window.
    OutOfWindow,
    /// A ring sequence number is higher than any ring can have reached.
    RingNumber,
    /// A token or commit token does not concern this node's ring.
    OtherRing,
}

impl Refusal {
    /// Returns `true` if the refusal does not occur among well-behaved members. Tokens of an
    /// earlier ring, late frames, and messages that began before this node joined do occur.
    pub(crate) fn is_suspicious(self) -> bool {
        !matches!(self, Self::OtherRing | Self::OutOfWindow | Self::Fragment)
    }

    words! {
        /// All reasons, as they are displayed.
        pub const REASONS;
        fn reason;
        Truncated => "truncated",
        TrailingBytes => "trailing bytes",
        Magic => "not a Totem message",
        OldCorosync => "a corosync 2.x message",
        Version => "another protocol version",
        Type => "unknown message type",
        TooMany => "too many entries",
        NoNode => "node id 0",
        Field => "impossible field value",
        Packing => "packed messages do not add up",
        Fragment => "fragment without its beginning",
        Service => "malformed service message",
        Unlisted => "sender not in the node list",
        Impostor => "sender's id and address do not belong together",
        OtherCluster => "another cluster",
        Outsider => "frame of a ring that its sender is not in",
        OutOfWindow => "sequence number out of the window",
        RingNumber => "ring number that no ring can have come to",
        OtherRing => "token of another ring",
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

/// Counters since the node started.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Refused input, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Tokens accepted.
    pub tokens: u64,
    /// Tokens and commit tokens that were sent again for lack of a sign of progress.
    pub token_retransmits: u64,
    /// Frames that were sent again because a member asked for them.
    pub retransmits: u64,
    /// Frames originated.
    pub originated: u64,
    /// Messages delivered to the application.
    pub delivered: u64,
    /// Regular configurations installed.
    pub rings: u64,
    /// Times that a ring was given up for a new membership.
    pub gathers: u64,
    /// Times that this node was paused.
    pub stalls: u64,
    /// Times that a host reported that a member's process is gone.
    pub hints: u64,
    /// Times that this node declared a member failed because of such a report.
    pub accusations: u64,
    /// Datagrams that the system did not send. The driver counts them, as it does the next ones.
    pub unsent: u64,
    /// Datagrams for members without a known address.
    pub unaddressed: u64,
    /// The problems of the last minute that keep peers out.
    pub notices: Notices,
    /// Regular configurations installed, by the kind of the first cause ([`Cause::kind`]).
    ///
    /// [`Cause::kind`]: crate::Cause::kind
    pub ring_changes: BTreeMap<&'static str, u64>,
    /// The size of the multicasts that wait to be sent now, in bytes. Set by the driver.
    pub queued: u64,
    /// The frames that all members together may send in a rotation now. Set by the driver.
    pub window: u32,
}

/// A counter of [`Stats`]. It only rises while the node runs.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// Its name, as in JSON.
    pub name: &'static str,
    /// The unit, as a plural.
    pub unit: &'static str,
    /// The meaning, as a phrase without a full stop.
    pub help: &'static str,
    get: fn(&Stats) -> u64,
}

impl Counter {
    const fn new(name: &'static str, unit: &'static str, help: &'static str, get: fn(&Stats) -> u64) -> Self {
        Self { name, unit, help, get }
    }

    /// Returns the counter's value.
    pub fn of(&self, stats: &Stats) -> u64 {
        (self.get)(stats)
    }
}

impl Stats {
    /// All counters except those of [refusals](Stats::refused). Every output derives its counters
    /// from this table.
    pub const COUNTERS: [Counter; 12] = [
        Counter::new("tokens", "tokens", "Tokens accepted", |stats| stats.tokens),
        Counter::new("token_retransmits", "tokens", "Tokens and commit tokens sent again", |stats| {
            stats.token_retransmits
        }),
        Counter::new("retransmits", "frames", "Frames sent again because a member asked for them", |stats| {
            stats.retransmits
        }),
        Counter::new("originated", "frames", "Frames originated", |stats| stats.originated),
        Counter::new("delivered", "messages", "Messages delivered to the application", |stats| {
            stats.delivered
        }),
        Counter::new("rings", "rings", "Rings installed", |stats| stats.rings),
        Counter::new("gathers", "rings", "Rings given up for a new membership", |stats| stats.gathers),
        Counter::new("stalls", "pauses", "Pauses of this node that it noticed", |stats| stats.stalls),
        Counter::new("hints", "reports", "Reports of hosts that a member's process is gone", |stats| {
            stats.hints
        }),
        Counter::new("accusations", "members", "Members declared failed because of such a report", |stats| {
            stats.accusations
        }),
        Counter::new("unsent", "datagrams", "Datagrams that the system did not send", |stats| stats.unsent),
        Counter::new("unaddressed", "datagrams", "Datagrams for members without a known address", |stats| {
            stats.unaddressed
        }),
    ];

    /// Counts one refusal.
    pub fn refuse(&mut self, refusal: Refusal) {
        let count = self.refused.entry(refusal).or_default();
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_name_and_a_value_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            Stats::COUNTERS.iter().map(|counter| counter.name).collect();
        assert_eq!(names.len(), Stats::COUNTERS.len());
        // No field is left out: a new one has to be added here, and then to the table.
        let stats = Stats {
            refused: BTreeMap::new(),
            tokens: 1,
            token_retransmits: 2,
            retransmits: 3,
            originated: 4,
            delivered: 5,
            rings: 6,
            gathers: 7,
            stalls: 8,
            hints: 9,
            accusations: 10,
            unsent: 11,
            unaddressed: 12,
            notices: Notices::default(),
            // No counters of their own.
            ring_changes: BTreeMap::new(),
            queued: 0,
            window: 0,
        };
        assert_eq!(
            Stats::COUNTERS.map(|counter| counter.of(&stats)),
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
        );
    }
}
