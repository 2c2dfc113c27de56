//! Reassembly of messages that are too long for corosync's local clients and are sent in parts.
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

/// The messages that have been received in part.
#[derive(Clone, Hash, Default)]
pub(crate) struct Partials {
    begun: BTreeMap<(Process, Group), Begun>,
    /// The number of bytes in all buffers.
    bytes: usize,
}

#[derive(Clone, Hash)]
struct Begun {
    whole: usize,
    buffer: BytesMut,
}

impl Partials {
    /// The maximum length of a message in bytes. corosync's clients may send longer ones, which are
    /// refused.
    const LONGEST: usize = 16 << 20;
    /// The maximum number of bytes in all buffers.
    const MOST: usize = 64 << 20;

    /// Adds a part. Returns the whole message if this was its last part.
    pub(crate) fn add(&mut self, node: NodeId, partial: CpgPartial) -> Result<Option<Bytes>, Refusal> {
        let CpgPartial { group, pid, part, whole, payload, .. } = partial;
        let key = (Process { node, pid }, group);
        let so_far = self.take(&key);
        let whole = usize::try_from(whole).unwrap_or(usize::MAX);
        let mut begun = match (part, so_far) {
            (CpgPart::First, _) => Begun { whole, buffer: BytesMut::new() },
            (_, Some(begun)) if begun.whole == whole => begun,
            // The message began before this node could receive it.
            _ => return Err(Refusal::Fragment),
        };
        let length = begun.buffer.len().saturating_add(payload.len());
        if length > begun.whole.min(Self::LONGEST) || length.saturating_add(self.bytes) > Self::MOST {
            return Err(Refusal::Fragment);
        }
        begun.buffer.extend_from_slice(&payload);
        match part {
            CpgPart::Last if length == begun.whole => Ok(Some(begun.buffer.freeze())),
            CpgPart::Last => Err(Refusal::Fragment),
            CpgPart::First | CpgPart::Continued => {
                self.bytes += length;
                self.begun.insert(key, begun);
                Ok(None)
            }
        }
    }

    /// Drops the incomplete messages of processes that left the group.
    pub(crate) fn forget(&mut self, change: &GroupChange) {
        for &process in &change.left {
            self.take(&(process, change.group.clone()));
        }
    }

    /// Drops the incomplete messages of nodes that did not move along to a new ring. A process may
    /// send to a group without being in it, so no [`GroupChange`] tells that it is gone.
    pub(crate) fn forget_nodes(&mut self, left: &BTreeSet<NodeId>) {
        let bytes = &mut self.bytes;
        self.begun.retain(|(process, _), begun| {
            let stays = !left.contains(&process.node);
            if !stays {
                *bytes -= begun.buffer.len();
            }
            stays
        });
    }

    fn take(&mut self, key: &(Process, Group)) -> Option<Begun> {
        let begun = self.begun.remove(key)?;
        self.bytes -= begun.buffer.len();
        Some(begun)
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
        assert_eq!(partials.bytes, 1);
    }

    #[test]
    fn a_sender_that_was_interrupted_begins_again() {
        let mut partials = Partials::default();
        partials.add(node(1), part(7, CpgPart::First, 4, "ab")).unwrap();
        partials.add(node(1), part(7, CpgPart::First, 4, "ab")).unwrap();
        assert_eq!(partials.add(node(1), part(7, CpgPart::Last, 4, "cd")), Ok(Some("abcd".into())));
        assert_eq!(partials.bytes, 0);
    }

    #[test]
    fn incomplete_messages_of_nodes_that_are_gone_are_dropped() {
        let mut partials = Partials::default();
        for from in [1, 2] {
            partials.add(node(from), part(7, CpgPart::First, 4, "ab")).unwrap();
        }
        partials.forget_nodes(&[node(1)].into());
        assert_eq!(partials.bytes, 2);
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
        assert_eq!(partials.bytes, 0);
    }

    #[test]
    fn a_flood_of_beginnings_is_bounded() {
        let mut partials = Partials::default();
        let payload = Bytes::from(vec![0; 1 << 20]);
        let whole = 16 << 20;
        for pid in 0..100 {
            for n in 0..15 {
                let part = if n == 0 { CpgPart::First } else { CpgPart::Continued };
                let partial = CpgPartial { whole, payload: payload.clone(), ..part_of(pid, part) };
                // The part is refused once the limit is reached.
                let _ = partials.add(node(1), partial);
            }
        }
        assert!(partials.bytes <= Partials::MOST);
        assert_eq!(partials.bytes, partials.begun.values().map(|begun| begun.buffer.len()).sum::<usize>());
    }

    fn part_of(pid: u32, kind: CpgPart) -> CpgPartial {
        part(pid, kind, 0, "")
    }
}
