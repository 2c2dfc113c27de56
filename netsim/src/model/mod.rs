//! The model check. It follows everything that can happen to a few nodes, within bounds, and runs
//! the real core.
//!
//! A simulated run draws what goes wrong. The model check follows every possibility instead. A
//! state consists of the state of each node ([`Totem`](quorate_membership::Totem) with the election
//! on top, its clock, its disk, and what its application has received), and of the datagrams under
//! way. From each state, these steps are possible: a datagram arrives, is lost, arrives and will be
//! duplicated, or is overtaken; a timer fires; an application sends; a node crashes or starts.
//!
//! The search is breadth first, and visits each state once, however many paths lead to it. If a
//! property fails, it therefore prints a shortest path to the failure.
//!
//! # How the search stays finite
//! - [`Bounds`] limit how often each thing happens on one path, how many rings are installed, and
//!   optionally how long the path is. The search covers everything within the bounds.
//! - Only the time until a timer counts, so that a state does not depend on when it is reached.
//!   Clocks of different nodes are independent: the next timer of any node may fire at any time. It
//!   fires on time, or late by a quarter of the token timeout together with every timer that is due
//!   by then. The model's timeouts are so close together that, of timers set at the same time, any
//!   can be the next. No time passes between timers.
//! - Counters and the causes of ring changes are history and not part of the state
//!   ([`Totem::fingerprint`](quorate_membership::Totem::fingerprint)).
//!
//! The search is affordable because the core is a function. The effect of an input on a node is
//! computed once and remembered. There are 4 to 30 times fewer states of single nodes than of the
//! whole cluster, whose states are combinations of them.
//!
//! # Checked properties
//! After each step in which an application received something:
//! - All [invariants](crate::invariants) that examine a whole history (S1 to S11, M2 to M5, Q1, Q2,
//!   D1 to D3), on everything that all applications have received so far.
//! - No message is delivered in a ring behind a gap (S11).
//! - In a transitional configuration, no number is passed over that one of its members has received
//!   (S13).
//! - Everything that is delivered as safe in a ring has been received by all members of the ring
//!   (S14).
//!
//! The last three compare deliveries with what the nodes were seen to receive. After each accepted
//! token, T1 is checked: its number is above all numbers that were accepted in its ring.
//!
//! # Not covered
//! - Liveness, with one exception. If no state is beyond the bound on rings, every path ends in a
//!   stable ring, or waits for a timer that the bounds do not allow.
//! - Slow disks (a record is stored at once), pauses, leaving, damaged datagrams, and corosync as a
//!   member.
//! - Datagrams from a node to itself. They arrive at once, are never lost, and nothing comes
//!   between.
//! - Reordering. Datagrams from one node to another, both multicasts and tokens, keep their order,
//!   except for the overtakings in the bounds. Any delay is possible.
//! - Hash collisions. States are identified by 64 bits of hash. The probability that two of ten
//!   million states are taken for one is about 1 in 400 000.
//!
//! # Bugs that it finds
//! With known bugs put back, it finds these and others within bounds that take seconds
//! (`netsim/tests/model.rs`): accepted copies of tokens, safe messages delivered too early,
//! deliveries past holes, transitional sets by id only, old rings overwritten by failed formations,
//! and records that are not read. The last time they were tried, it did not find
//! `RingSeqNotLearnt`, `AruNotLowered` and `SecondFirstToken` within 120 000 states, nor
//! `TokenFromAnybody` within 400 000.
//!
//! # Size of the search
//! `quorate sim model`, release build, one core of a busy virtual machine. Everything within the
//! bounds is visited. In each row, some states are beyond the bound on rings, and their successors
//! are not visited.
//!
//! | bounds (two nodes, `--rings 2 --losses 0` unless said) | states | transitions | depth | time |
//! |---|---:|---:|---:|---:|
//! | `--begin apart --messages 0 --timers 2 --rings 3` | 56 970 | 78 252 | 121 | 0.5 s |
//! | `--begin apart --messages 1 --timers 3` | 10 288 049 | 15 027 653 | 125 | 75 s |
//! | `--messages 1 --timers 2 --losses 1 --duplicates 1` | 1 886 968 | 3 582 153 | 92 | 5 s |
//! | `--messages 2 --timers 2 --losses 1` | 5 179 049 | 6 874 049 | 105 | 40 s |
//! | `--messages 1 --timers 3 --losses 1` | 7 617 160 | 10 591 890 | 105 | 58 s |
//! | `--messages 1 --timers 2 --overtakings 1 --crashes 1` | 13 758 182 | 22 421 940 | 94 | 81 s |
//!
//! Three nodes with one message, one timer and one loss are not exhausted in 150 s. Bound their
//! depth or their states.

mod node;
mod properties;
mod search;
mod trail;

use std::fmt;
use std::time::Duration;

pub use self::search::explore;
pub use self::trail::Counterexample;

/// The bounds of a model check, which covers everything within them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// The number of nodes.
    pub nodes: u8,
    /// The first state.
    pub begin: Begin,
    /// The number of messages, sent by any node at any time. The last one is safe, the one before
    /// it agreed, and so on in turn.
    pub messages: u8,
    /// The number of timers that fire, of any node at any time.
    pub timers: u8,
    /// The number of datagrams that are lost.
    pub losses: u8,
    /// The number of datagrams that arrive twice.
    pub duplicates: u8,
    /// The number of times that a datagram overtakes another between the same two nodes.
    pub overtakings: u8,
    /// The number of crashes. A crashed node may start again.
    pub crashes: u8,
    /// The number of rings that a node installs after the first state, over all its lives. A state
    /// beyond that is checked, but its successors are not visited.
    pub rings: u8,
    /// The most steps in a path. `None`: no limit.
    pub depth: Option<u32>,
    /// The approximate number of states to visit. `None`: no limit.
    pub states: Option<u64>,
}

/// The first state of the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// All nodes have just started.
    Apart,
    /// All nodes are in one idle ring, with the token held.
    Ring,
}

impl Default for Bounds {
    /// Returns bounds for two nodes in a ring to which nothing happens.
    fn default() -> Self {
        Self {
            nodes: 2,
            begin: Begin::Ring,
            messages: 0,
            timers: 0,
            losses: 0,
            duplicates: 0,
            overtakings: 0,
            crashes: 0,
            rings: 3,
            depth: None,
            states: None,
        }
    }
}

/// The extent of a finished or ongoing model check.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Explored {
    /// States of all nodes and the network together.
    pub states: u64,
    /// Steps from one state to another.
    pub transitions: u64,
    /// States of single nodes.
    pub local: u64,
    /// The most steps that are needed to reach a state.
    pub depth: u32,
    /// States that were reached, but whose successors have not been visited yet.
    pub open: u64,
    /// States at which the search stopped because they are beyond the bound on rings.
    pub cut: u64,
    /// Whether everything within the bounds has been visited.
    pub exhausted: bool,
    /// The time that the search took.
    pub took: Duration,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, transitions, local, depth, open, cut, exhausted, took } = self;
        write!(
            f,
            "{states} states ({local} of single nodes), {transitions} transitions, depth {depth}, \
             {cut} beyond the bound on rings, {:.1} s",
            took.as_secs_f64()
        )?;
        if *exhausted { f.write_str(": complete") } else { write!(f, ", {open} states unexplored") }
    }
}
