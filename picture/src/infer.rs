//! The states of nodes, inferred from the datagrams that they send.

use std::collections::BTreeMap;

use quorate_membership::RingId;
use quorate_membership::wire::{Message, Token};

use crate::RingState;

/// The number of tokens without the recovery flag that a member sends until it installs the ring.
const RECOVERED: u32 = 2;

/// Follows the states of the nodes.
#[derive(Debug, Default)]
pub(crate) struct States(BTreeMap<u32, Recovery>);

/// How far a node is with the recovery of a ring.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    ring: RingId,
    recovers: bool,
    /// The number of consecutive tokens of the ring that it has sent without the recovery flag.
    unmarked: u32,
}

impl States {
    /// Returns the state of a node that sends this message, if the message shows it.
    pub(crate) fn sent(&mut self, from: u32, message: &Message) -> Option<(RingState, String)> {
        match message {
            Message::Join(join) if join.leave => {
                self.0.remove(&from);
                Some((RingState::Down, "has left".to_owned()))
            }
            Message::Join(_) => {
                self.0.remove(&from);
                Some((RingState::Gather, "looks for members".to_owned()))
            }
            Message::Commit(commit) => Some((RingState::Commit, format!("agrees on ring {}", commit.ring))),
            Message::Token(token) => Some(self.token(from, token)),
            Message::Multicast(_) | Message::MergeDetect(_) | Message::HoldCancel(_) => None,
        }
    }

    /// Records that a node has installed its ring.
    pub(crate) fn installed(&mut self, node: u32) {
        self.0.entry(node).and_modify(|known| known.recovers = false);
    }

    fn token(&mut self, from: u32, token: &Token) -> (RingState, String) {
        let ring = token.ring;
        let known = self.0.get(&from).copied().filter(|known| known.ring == ring);
        // A ring that was there before the first datagram is not being recovered.
        let begins = || Recovery { ring, recovers: token.retrans_flg, unmarked: 0 };
        let mut now = known.unwrap_or_else(begins);
        now.unmarked = if token.retrans_flg { 0 } else { now.unmarked.saturating_add(1) };
        now.recovers &= now.unmarked < RECOVERED;
        self.0.insert(from, now);
        let state = if now.recovers { RingState::Recovery } else { RingState::Operational };
        (state, format!("ring {ring}"))
    }
}
