//! T3: a number names one frame of a ring forever. Numbers are given consecutively, and a frame
//! that is received or sent again has the bytes with which it was numbered.

use std::collections::{BTreeMap, VecDeque};

use quorate_membership::{RingId, Seq};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Content, Frame, Inside, Record, What};

#[derive(Default)]
pub(super) struct Numbering {
    rings: BTreeMap<RingId, Numbered>,
}

/// The last [`Numbering::FRAMES`] frames of a ring.
struct Numbered {
    last: Seq,
    frames: VecDeque<Content>,
}

impl Numbering {
    /// An upper bound on the rings that turn at the same time.
    const RINGS: usize = 64;
    /// More frames than a window holds.
    const FRAMES: usize = 20_000;

    fn number(&mut self, frame: &Frame, first: Seq) -> Result<(), String> {
        if frame.seq == first.next() && !self.rings.contains_key(&frame.ring) {
            self.rings.insert(frame.ring, Numbered { last: first, frames: VecDeque::new() });
            if self.rings.len() > Self::RINGS {
                self.rings.pop_first();
            }
        }
        let Some(ring) = self.rings.get_mut(&frame.ring) else { return Ok(()) };
        if frame.seq != ring.last.next() {
            return Err(format!("is numbered after {}", ring.last));
        }
        ring.last = frame.seq;
        ring.frames.push_back(frame.content);
        if ring.frames.len() > Self::FRAMES {
            ring.frames.pop_front();
        }
        Ok(())
    }

    fn compare(&self, frame: &Frame) -> Result<(), String> {
        let Some(ring) = self.rings.get(&frame.ring) else { return Ok(()) };
        if ring.last.before(frame.seq) {
            return Err("was never numbered".to_owned());
        }
        let back = ring.frames.len().checked_sub(1 + frame.seq.distance_to(ring.last) as usize);
        match back.and_then(|place| ring.frames.get(place)) {
            Some(content) if *content != frame.content => Err("is not what was numbered".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Online for Numbering {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(inside)) = (record.life, &record.what) else { return Ok(()) };
        let (frame, right) = match inside {
            Inside::Numbered(frame) => (frame, self.number(frame, cluster.totem.first_seq)),
            Inside::Received(frame) | Inside::Resent(frame) => (frame, self.compare(frame)),
            _ => return Ok(()),
        };
        right.or_else(|why| {
            let what = format!("{life}: frame {} of {} by {} {why}", frame.seq, frame.ring, frame.from);
            violated("T3", record.at, what)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    fn numbered(frames: &[(u32, u32)]) -> Story {
        let mut story = Story::ring(3);
        for &(node, seq) in frames {
            story.record(node, What::Inside(Inside::Numbered(Story::frame(node, seq))));
        }
        story
    }

    #[test]
    fn numbers_are_given_consecutively() {
        numbered(&[(1, 1), (1, 2), (3, 3)]).is_right(Numbering::default());
        numbered(&[(1, 1), (1, 2), (3, 2)])
            .is_wrong(Numbering::default(), "3#1: frame 2 of 1.4 by 3 is numbered after 2");
        numbered(&[(1, 1), (1, 3)]).is_wrong(Numbering::default(), "is numbered after 1");
    }

    #[test]
    fn a_frame_does_not_change() {
        let mut story = numbered(&[(1, 1), (2, 2), (1, 3)]);
        story.record(3, What::Inside(Inside::Received(Story::frame(2, 2))));
        story.record(3, What::Inside(Inside::Resent(Story::frame(1, 1))));
        story.is_right(Numbering::default());
        story.record(3, What::Inside(Inside::Resent(Story::frame(1, 2))));
        story.is_wrong(Numbering::default(), "frame 2 of 1.4 by 1 is not what was numbered");
    }

    #[test]
    fn a_received_frame_was_sent() {
        let mut story = numbered(&[(1, 1)]);
        story.record(3, What::Inside(Inside::Received(Story::frame(1, 2))));
        story.is_wrong(Numbering::default(), "was never numbered");
    }
}
