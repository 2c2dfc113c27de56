//! H2: each queue of a node has a bound.

use quorate_membership::Totem;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Holds, Inside, Record, What};

pub(super) struct Memory;

/// Sequence numbers in a window.
const SLOTS: usize = 16_384;
/// Bytes in the send queue, which may exceed this by one message.
const QUEUE: usize = 4 << 20;
/// Bytes that the parts of messages take in the queue in addition to their payload.
const PARTS: usize = 10_000;
/// Datagrams that wait for the disk, and those that one input adds.
const UNSENT: usize = 64 + 100;

impl Online for Memory {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(Inside::Holds(holds))) = (record.life, &record.what) else {
            return Ok(());
        };
        let Holds { frames, queued, unread, unsent, .. } = *holds;
        let frame = cluster.totem.netmtu as usize;
        // A node leaves once it is past its limit, and one input may still add to that.
        let most_unread = cluster.totem.unread_limit + 2 * SLOTS * frame;
        for (what, holds, most) in [
            ("bytes of frames", frames, 2 * SLOTS * frame),
            ("bytes to send", queued, QUEUE + Totem::MAX_PAYLOAD + PARTS),
            ("bytes of events", unread, most_unread),
            ("datagrams", unsent, UNSENT),
        ] {
            if holds > most {
                return violated("H2", record.at, format!("{life} holds {holds} {what} (at most {most})"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    fn holds(much: impl FnOnce(&mut Holds)) -> Story {
        let mut story = Story::ring(1);
        let mut holds =
            Holds { frames: 1000, queued: 4 << 20, unread: 1000, unsent: 64, all_delivered: false };
        much(&mut holds);
        story.record(1, What::Inside(Inside::Holds(holds)));
        story
    }

    #[test]
    fn each_queue_has_its_bound() {
        holds(|_| {}).is_right(Memory);
        holds(|holds| holds.frames = 1 << 30).is_wrong(Memory, "1#1 holds 1073741824 bytes of frames");
        holds(|holds| holds.queued = 21 << 20).is_wrong(Memory, "bytes to send");
        holds(|holds| holds.unread = 1 << 30).is_wrong(Memory, "bytes of events");
        holds(|holds| holds.unsent = 1000).is_wrong(Memory, "holds 1000 datagrams");
    }
}
