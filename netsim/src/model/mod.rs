//! The model check.

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
