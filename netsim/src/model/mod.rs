//! The model check: everything that can happen to a few nodes, within bounds, to the real core.
//!
//! A run of the laboratory draws what goes wrong; here, every possibility is followed. A state is that of each node
//! ([`Totem`](quorate_membership::Totem) with the election on it, its clock, its disk, and what it has told its
//! application), and the datagrams under way. From each state lead the steps that are possible in it: a datagram arrives,
//! is lost, arrives and will come again, or is overtaken; a timer fires; an application sends; a node crashes or starts.
//! The search is breadth first, and each state is looked at once, however many ways lead to it: so if a property does not
//! hold, what is printed is a shortest way to where it does not.
//!
//! # What makes it finite
//! - [`Bounds`] on how often each thing happens on one way, on the rings that are installed, and if wanted on the length of
//!   the way. What is within them is looked at without exception.
//! - Time counts by how far off a timer is, so a state is the same whenever it is come to. Clocks of nodes have nothing to
//!   do with each other: the next timer of any node may fire at any time, on time or late by a quarter of the token
//!   timeout, which fires with it all that was due by then; the model's timeouts lie so near to each other that of those set
//!   together any can be the next. Between timers no time passes.
//! - Counters and the causes of ring changes are history, not state ([`Totem::fingerprint`](quorate_membership::Totem::fingerprint)).
//!
//! It is affordable because the core is a function: what an input makes of a node is worked out once and remembered. Of
//! nodes alone there are a quarter to a thirtieth as many states as of all, which are combinations of them.
//!
//! # What is checked
//! After each step at which a node told its application something, all of the laboratory's [invariants](crate::invariants)
//! that look at a whole history (S1 to S11, M2 to M5, Q1, Q2, D1 to D3), on what all nodes have told so far; and, against
//! what the nodes were seen to receive, that nothing is delivered in a ring behind a gap (S11), that no number is passed
//! over in a transitional configuration which one of its members has (S13), and that what is delivered as safe in a ring all
//! its members have (S14). After each accepted token, that its number is above all that were accepted in its ring (T1).
//!
//! # What is not
//! - Liveness, but for one thing: where no state is beyond the bound on rings, every way ends in a ring that stays, or waits
//!   for a timer that the bounds do not grant.
//! - Slow disks: a record is stored at once. Stalls, leaving, damaged datagrams, corosync as a member.
//! - What a node sends to itself arrives at once; it is never lost, and nothing comes between.
//! - Datagrams from one node to another keep their order but for the overtakings in the bounds, multicasts and tokens
//!   together; any delay is possible.
//! - States are told apart by 64 bits of hash: of ten million, two might be taken for one with a probability of some
//!   1 in 400 000.
//!
//! # What it finds
//! With known bugs put back, within bounds that take seconds (`netsim/tests/model.rs`): copies of tokens accepted, safe
//! messages too early, holes delivered past, transitional sets by id only, old rings overwritten by formations that failed,
//! records not read, and others. Not within 120 000 states, when it was last tried: `RingSeqNotLearnt`, `AruNotLowered` and
//! `SecondFirstToken`; nor `TokenFromAnybody` within 400 000.
//!
//! # How far it goes
//! `quorate sim model`, release build, one core of a busy virtual machine. All within the bounds is looked
//! at; in each row some states are beyond the bound on rings, and what follows from those is not.
//!
//! | bounds (two nodes, `--rings 2` unless said) | states | transitions | depth | time |
//! |---|---:|---:|---:|---:|
//! | `--begin apart --messages 0 --timers 2 --losses 0 --rings 3` | 56 970 | 78 252 | 121 | 0.5 s |
//! | `--begin apart --messages 1 --timers 3 --losses 0` | 10 288 049 | 15 027 653 | 125 | 75 s |
//! | `--messages 1 --timers 2 --losses 1 --duplicates 1` | 1 886 968 | 3 582 153 | 92 | 5 s |
//! | `--messages 2 --timers 2 --losses 1` | 5 179 049 | 6 874 049 | 105 | 40 s |
//! | `--messages 1 --timers 3 --losses 1` | 7 617 160 | 10 591 890 | 105 | 58 s |
//! | `--messages 1 --timers 2 --losses 0 --overtakings 1 --crashes 1` | 13 758 182 | 22 421 940 | 94 | 81 s |
//!
//! Three nodes with one message, one timer and one loss are not exhausted in 150 s; bound their depth or their states.

mod node;
mod properties;
mod search;
mod trail;

use std::fmt;
use std::time::Duration;

pub use self::search::explore;
pub use self::trail::Counterexample;

/// How far a model check goes. Within its bounds, it goes everywhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// How many nodes.
    pub nodes: u8,
    /// In which state they are at first.
    pub begin: Begin,
    /// How many messages are sent, by whomever and whenever; the last one is safe, the one before it agreed, and so on.
    pub messages: u8,
    /// How many timers fire, of whichever node and whenever.
    pub timers: u8,
    /// How many datagrams are lost.
    pub losses: u8,
    /// How many come twice.
    pub duplicates: u8,
    /// How often one overtakes another on its way between the same two nodes.
    pub overtakings: u8,
    /// How often a node crashes. It may start again.
    pub crashes: u8,
    /// How many rings a node installs, over all its lives, after the first state. What is beyond is looked at, and not gone
    /// on from.
    pub rings: u8,
    /// How many steps a way has at most; `None`: as many as it takes.
    pub depth: Option<u32>,
    /// How many states are looked at, about, at most; `None`: as many as there are.
    pub states: Option<u64>,
}

/// In which state the nodes are at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// All have just started.
    Apart,
    /// They are in one ring, which is idle: the token is held.
    Ring,
}

impl Default for Bounds {
    /// Two nodes in a ring, and nothing happens.
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

/// How far a model check went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Explored {
    /// States of all nodes and the network.
    pub states: u64,
    /// Steps from one to another.
    pub transitions: u64,
    /// States of single nodes.
    pub local: u64,
    /// The most steps that it takes to come to a state.
    pub depth: u32,
    /// States that were reached, but not gone on from yet.
    pub open: u64,
    /// States at which it stopped, since they are beyond the bound on rings.
    pub cut: u64,
    /// There is nothing else within the bounds.
    pub exhausted: bool,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, transitions, local, depth, open, cut, exhausted, took } = self;
        write!(
            f,
            "{states} states ({local} of single nodes), {transitions} transitions, depth {depth}, {cut} beyond the rings, {:.1} s",
            took.as_secs_f64()
        )?;
        if *exhausted { f.write_str(": all there are") } else { write!(f, ", {open} states open") }
    }
}
