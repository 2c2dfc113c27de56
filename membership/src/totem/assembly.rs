//! Assembly of messages from frames.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use bytes::{Bytes, BytesMut};

use crate::bug;
use crate::wire::packing::{self, Pieces};
use crate::{NodeId, Refusal};

/// The unfinished messages of all senders.
///
/// There are two sets. A corosync member that is interrupted by a ring change continues its message
/// after the sync, and packs its messages during the sync separately. So frames that arrive before
/// the sync is done must not touch the unfinished messages from before (B39, B40). Quorate nodes
/// start the message over instead, which either set understands.
#[derive(Clone, Default)]
pub(super) struct Assemblies {
    ordinary: BTreeMap<NodeId, Assembly>,
    during_sync: BTreeMap<NodeId, Assembly>,
    syncing: bool,
}

/// The unfinished message of a sender.
#[derive(Clone, Hash, Default)]
struct Assembly {
    /// The beginning of the message.
    buffer: BytesMut,
    /// The number of the fragment that must come next, or 0 if no message is unfinished.
    next: u8,
}

impl Hash for Assemblies {
    /// Senders without an unfinished message hash like senders never seen.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { ordinary, during_sync, syncing } = self;
        syncing.hash(state);
        for set in [ordinary, during_sync] {
            set.iter().filter(|(_, assembly)| assembly.next != 0).for_each(|entry| entry.hash(state));
            0.hash(state);
        }
    }
}

impl Assembly {
    /// Returns the beginning of the message that this fragment continues.
    fn take(&mut self, continuation: u8) -> Option<BytesMut> {
        let begun = std::mem::take(self);
        let fits = bug!(AppendedToUnfinished: true; begun.next == continuation);
        (begun.next != 0 && fits).then_some(begun.buffer)
    }
}

impl Assemblies {
    /// The longest message: a megabyte of payload, its headers, and corosync's own allowance.
    const LONGEST: usize = (1 << 20) + (1 << 16);

    /// Begins the sync of a new ring. Unfinished messages of the members in `left` are lost with
    /// them.
    pub(super) fn sync_begins(&mut self, left: &BTreeSet<NodeId>) {
        self.syncing = true;
        self.during_sync.clear();
        self.ordinary.retain(|from, _| bug!(AppendedToUnfinished: true; !left.contains(from)));
    }

    /// Ends the sync.
    pub(super) fn sync_done(&mut self) {
        self.syncing = false;
        self.during_sync.clear();
    }

    /// Adds a packet. Appends the messages that it completes to `complete`, and rejects a fragment
    /// without a beginning.
    pub(super) fn add(
        &mut self,
        from: NodeId,
        packet: Pieces,
        complete: &mut Vec<Bytes>,
    ) -> Result<(), Refusal> {
        let set = if self.syncing { &mut self.during_sync } else { &mut self.ordinary };
        bug!(ThrowAwayForAll: set.retain(|&sender, _| sender == from); ());
        let assembly = set.entry(from).or_default();
        let mut refused = Ok(());
        let Pieces { fragmented, continuation, order, .. } = packet;
        let last = packet.len().saturating_sub(1);
        for (n, piece) in packet.enumerate() {
            let continuation = if n == 0 { continuation } else { 0 };
            let goes_on = n == last && fragmented != 0;
            // A sender that starts over abandons its unfinished message, which is not a loss.
            let begun = assembly.take(continuation);
            if begun.is_none() && continuation != 0 {
                refused = Err(Refusal::Fragment);
                continue;
            }
            if begun.as_ref().is_some_and(|begun| begun.len() + piece.len() > Self::LONGEST) {
                refused = Err(Refusal::Fragment);
                continue;
            }
            let mut buffer = match begun {
                None if !goes_on => {
                    complete.push(piece);
                    continue;
                }
                None => {
                    let whole = packing::whole_length(&piece, order).unwrap_or_default();
                    BytesMut::with_capacity(whole.clamp(piece.len(), Self::LONGEST))
                }
                Some(buffer) => buffer,
            };
            buffer.extend_from_slice(&piece);
            if goes_on {
                *assembly = Assembly { buffer, next: fragmented };
            } else {
                complete.push(buffer.freeze());
            }
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Order;
    use crate::wire::packing::Packet;

    fn packet(continuation: u8, pieces: &[&'static str], fragmented: u8) -> Packet {
        let pieces = pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
        Packet { fragmented, continuation, pieces }
    }

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn add(assemblies: &mut Assemblies, from: NodeId, packet: &Packet) -> (Vec<Bytes>, Result<(), Refusal>) {
        let mut complete = Vec::new();
        let pieces = Pieces::read(packet.encode(), Order::Little).unwrap();
        let refused = assemblies.add(from, pieces, &mut complete);
        (complete, refused)
    }

    /// Adds packets of node 1 and compares the resulting messages, with `!` for a rejection.
    fn check(packets: &[Packet], expect: &[&str]) {
        let mut assemblies = Assemblies::default();
        let mut seen = Vec::new();
        for packet in packets {
            let (messages, refused) = add(&mut assemblies, node(1), packet);
            seen.extend(messages.iter().map(|message| String::from_utf8(message.to_vec()).unwrap()));
            seen.extend(refused.err().map(|_| "!".to_owned()));
        }
        assert_eq!(seen, expect);
    }

    #[test]
    fn fragments_become_one_message() {
        check(
            &[packet(0, &["x", "ab"], 1), packet(1, &["cd"], 2), packet(2, &["e", "y"], 0)],
            &["x", "abcde", "y"],
        );
    }

    #[test]
    fn small_messages_packed_by_corosync_are_read() {
        check(
            &[packet(0, &["a", "b1"], 1), packet(1, &["b2", "c1"], 1), packet(1, &["c2"], 0)],
            &["a", "b1b2", "c1c2"],
        );
    }

    #[test]
    fn a_joiner_in_the_middle_of_a_message_loses_that_message_only() {
        check(&[packet(3, &["tail"], 4), packet(4, &["end", "whole"], 0)], &["!", "whole", "!"]);
    }

    #[test]
    fn a_message_that_starts_over_replaces_its_first_attempt() {
        check(&[packet(0, &["ab"], 1), packet(0, &["ab"], 1), packet(1, &["cd"], 0)], &["abcd"]);
    }

    #[test]
    fn messages_during_the_sync_keep_unfinished_ones_intact() {
        let mut assemblies = Assemblies::default();
        assert_eq!(add(&mut assemblies, node(1), &packet(0, &["ab"], 1)), (vec![], Ok(())));
        assert_eq!(add(&mut assemblies, node(2), &packet(0, &["xy"], 1)), (vec![], Ok(())));
        assemblies.sync_begins(&[node(2)].into());
        assert_eq!(add(&mut assemblies, node(1), &packet(0, &["barrier"], 0)).0, ["barrier"]);
        assemblies.sync_done();
        assert_eq!(add(&mut assemblies, node(1), &packet(1, &["cd"], 0)).0, ["abcd"]);
        let (messages, refused) = add(&mut assemblies, node(2), &packet(1, &["z"], 0));
        assert!(messages.is_empty() && refused.is_err(), "what a member that left had begun is gone (B45)");
    }

    #[test]
    fn an_endless_message_is_discarded_at_the_longest_length() {
        let mut assemblies = Assemblies::default();
        let piece = Bytes::from(vec![0; 60_000]);
        let mut refused = false;
        for n in 0..30 {
            let packet = Packet { fragmented: n + 1, continuation: n, pieces: vec![piece.clone()] };
            refused |= add(&mut assemblies, node(1), &packet).1.is_err();
        }
        assert!(refused);
        assert_eq!(assemblies.ordinary[&node(1)].next, 0);
    }
}
