//! Messages that are too long for corosync's local clients: their parts, and their reassembly.
//!
//! A corosync daemon can deliver slightly less than one mebibyte to a client at once. libcpg
//! therefore sends a longer message in parts and reassembles them at the receiver. Each part is a
//! message of its own on the ring.
//!
//! Messages of different processes may interleave, but messages of one process to one group do not.
//! A process that was interrupted starts again with the first part.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use super::{GroupChange, Process};
use crate::wire::body::{CpgPart, CpgPartial};
use crate::{Group, NodeId, Refusal};

/// The longest payload that a corosync daemon delivers to its client in one piece. Longer
/// ones are sent in parts of this length, as libcpg does.
pub(crate) const LONGEST_WHOLE: usize = (1 << 20) - 1024;

/// Cuts a payload longer than [`LONGEST_WHOLE`] into its parts.
pub(crate) fn parts(payload: &Bytes) -> impl Iterator<Item = (CpgPart, Bytes)> {
    (0..payload.len()).step_by(LONGEST_WHOLE).map(|start| {
        let end = start.saturating_add(LONGEST_WHOLE).min(payload.len());
        let part = match (start, end) {
            (0, _) => CpgPart::First,
            (_, end) if end == payload.len() => CpgPart::Last,
            _ => CpgPart::Continued,
        };
        (part, payload.slice(start..end))
    })
}

/// The messages that have been received in part.
#[derive(Clone, Hash, Default)]
pub(crate) struct Partials {
    begun: BTreeMap<(Process, Group), Begun>,
}

#[derive(Clone, Hash)]
struct Begun {
    whole: usize,
    buffer: BytesMut,
}

impl Partials {
    /// The maximum length of a message in bytes. corosync's clients may send longer ones, which are
    /// refused.
    pub(crate) const LONGEST: usize = 16 << 20;
    /// The maximum length of all unfinished messages of one node. Quorate nodes send one message
    /// after the other. On a corosync node, several processes may be in the middle of theirs. A
    /// limit for all nodes together would let some of them use up the room of the others.
    const MOST: usize = 64 << 20;

    /// Adds a part. Returns the whole message if this was its last part.
    pub(crate) fn add(&mut self, node: NodeId, partial: CpgPartial) -> Result<Option<Bytes>, Refusal> {
        let CpgPartial { group, pid, part, whole, payload, .. } = partial;
        let key = (Process { node, pid }, group);
        let so_far = self.begun.remove(&key);
        let whole = usize::try_from(whole).unwrap_or(usize::MAX);
        let mut begun = match (part, so_far) {
            (CpgPart::First, _) => self.begin(node, whole)?,
            (_, Some(begun)) if begun.whole == whole => begun,
            // The message began before this node could receive it.
            _ => return Err(Refusal::Fragment),
        };
        let length = begun.buffer.len().saturating_add(payload.len());
        if length > whole {
            return Err(Refusal::Fragment);
        }
        begun.buffer.extend_from_slice(&payload);
        match part {
            CpgPart::Last if length == whole => Ok(Some(begun.buffer.freeze())),
            CpgPart::Last => Err(Refusal::Fragment),
            CpgPart::First | CpgPart::Continued => {
                self.begun.insert(key, begun);
                Ok(None)
            }
        }
    }

    /// Begins a message of `node`, if there is room for it. Each counts for as much as a message
    /// that needs parts, so that their number is bounded, too.
    fn begin(&self, node: NodeId, whole: usize) -> Result<Begun, Refusal> {
        let counted = |whole: usize| whole.max(LONGEST_WHOLE);
        let others = self.begun.iter().filter(|((process, _), _)| process.node == node);
        let unfinished: usize = others.map(|(_, begun)| counted(begun.whole)).sum();
        if whole > Self::LONGEST || unfinished + counted(whole) > Self::MOST {
            return Err(Refusal::Fragment);
        }
        // The sender may never send the rest.
        Ok(Begun { whole, buffer: BytesMut::new() })
    }

    /// Drops the incomplete messages of processes that left the group.
    pub(crate) fn forget(&mut self, change: &GroupChange) {
        for &process in &change.left {
            self.begun.remove(&(process, change.group.clone()));
        }
    }

    /// Drops the incomplete messages of nodes that did not move along to a new ring. A process may
    /// send to a group without being in it, so no [`GroupChange`] tells that it is gone.
    pub(crate) fn forget_nodes(&mut self, left: &BTreeSet<NodeId>) {
        self.begun.retain(|(process, _), _| !left.contains(&process.node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn part(pid: u32, part: CpgPart, whole: u32, payload: &'static str) -> CpgPartial {
        CpgPartial { group: "g".parse().unwrap(), pid, node: 1, part, whole, payload: payload.into() }
    }

    #[test]
    fn parts_of_several_processes_become_a_message_each() {
        let mut partials = Partials::default();
        assert_eq!(partials.add(node(1), part(7, CpgPart::First, 6, "ab")), Ok(None));
        assert_eq!(partials.add(node(1), part(8, CpgPart::First, 4, "xy")), Ok(None));
        assert_eq!(partials.add(node(2), part(7, CpgPart::First, 2, "!")), Ok(None));
        assert_eq!(partials.add(node(1), part(7, CpgPart::Continued, 6, "cd")), Ok(None));
        assert_eq!(partials.add(node(1), part(8, CpgPart::Last, 4, "zz")), Ok(Some("xyzz".into())));
        assert_eq!(partials.add(node(1), part(7, CpgPart::Last, 6, "ef")), Ok(Some("abcdef".into())));
        assert_eq!(partials.begun.len(), 1);
    }

    #[test]
    fn a_sender_that_was_interrupted_begins_again() {
        let mut partials = Partials::default();
        partials.add(node(1), part(7, CpgPart::First, 4, "ab")).unwrap();
        partials.add(node(1), part(7, CpgPart::First, 4, "ab")).unwrap();
        assert_eq!(partials.add(node(1), part(7, CpgPart::Last, 4, "cd")), Ok(Some("abcd".into())));
        assert!(partials.begun.is_empty());
    }

    #[test]
    fn incomplete_messages_of_nodes_that_are_gone_are_dropped() {
        let mut partials = Partials::default();
        for from in [1, 2] {
            partials.add(node(from), part(7, CpgPart::First, 4, "ab")).unwrap();
        }
        partials.forget_nodes(&[node(1)].into());
        assert_eq!(partials.begun.len(), 1);
        assert_eq!(partials.add(node(1), part(7, CpgPart::Last, 4, "cd")), Err(Refusal::Fragment));
        assert_eq!(partials.add(node(2), part(7, CpgPart::Last, 4, "cd")), Ok(Some("abcd".into())));
    }

    #[test]
    fn a_part_without_its_beginning_or_beyond_its_end_is_refused() {
        let mut partials = Partials::default();
        assert_eq!(partials.add(node(1), part(7, CpgPart::Last, 4, "cd")), Err(Refusal::Fragment));
        assert_eq!(partials.add(node(1), part(7, CpgPart::First, 4, "abcde")), Err(Refusal::Fragment));
        partials.add(node(1), part(7, CpgPart::First, 4, "ab")).unwrap();
        assert_eq!(partials.add(node(1), part(7, CpgPart::Last, 4, "c")), Err(Refusal::Fragment));
        partials.add(node(1), part(7, CpgPart::First, 4, "ab")).unwrap();
        assert_eq!(partials.add(node(1), part(7, CpgPart::Last, 5, "cde")), Err(Refusal::Fragment));
        assert!(partials.begun.is_empty());
    }

    #[test]
    fn a_flood_of_beginnings_is_bounded_for_each_node() {
        let longest = u32::try_from(Partials::LONGEST).unwrap();
        for (whole, most) in [(longest, 4), (1, 64), (0, 64)] {
            let mut partials = Partials::default();
            for from in [1, 2] {
                let begins = |pid| part(pid, CpgPart::First, whole, "");
                let begun = (0..100).take_while(|&pid| partials.add(node(from), begins(pid)).is_ok()).count();
                assert_eq!(begun, most, "messages of {whole} bytes of node {from}");
            }
        }
    }

    #[test]
    fn a_message_beyond_the_longest_is_refused_from_its_first_part() {
        let mut partials = Partials::default();
        let whole = u32::try_from(Partials::LONGEST + 1).unwrap();
        assert_eq!(partials.add(node(1), part(7, CpgPart::First, whole, "ab")), Err(Refusal::Fragment));
        assert!(partials.begun.is_empty());
    }

    #[test]
    fn a_payload_is_cut_as_by_libcpg() {
        let cut = |length: usize| -> Vec<(CpgPart, usize)> {
            let payload = Bytes::from(vec![0; length]);
            parts(&payload).map(|(part, payload)| (part, payload.len())).collect()
        };
        use CpgPart::{Continued, First, Last};
        assert_eq!(cut(LONGEST_WHOLE + 1), [(First, LONGEST_WHOLE), (Last, 1)]);
        assert_eq!(cut(2 * LONGEST_WHOLE), [(First, LONGEST_WHOLE), (Last, LONGEST_WHOLE)]);
        let three = [(First, LONGEST_WHOLE), (Continued, LONGEST_WHOLE), (Last, 1)];
        assert_eq!(cut(2 * LONGEST_WHOLE + 1), three);
    }
}
