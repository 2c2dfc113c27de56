//! Ring sequence numbers: which of them a node believes, follows and uses.

use super::Totem;
use super::local::Local;
use crate::bug;

impl Local {
    /// The number of ring sequence numbers that are made durable at a time.
    const BLOCK: u64 = 1024;
    /// The increment from the highest number that members state to the number of their new ring.
    const STEP: u64 = 4;
    /// Half of the highest number. A first start takes its number from the wall clock, in ms since
    /// 1970, and each ring adds a step, so this is reached in the year 2248.
    const PLAUSIBLE_RING_SEQ: u64 = Totem::MAX_RING_SEQ / 2;
    /// The highest number that a node without peers follows. The rest is room for rings.
    const FOLLOWED_RING_SEQ: u64 = Totem::MAX_RING_SEQ - (1 << 32);
    /// The largest lead over a member's own number that an implausible number may have.
    const JUMP: u64 = 1 << 12;
    /// The largest lead of a ring's number over the numbers that this node has heard in JOINs, of
    /// which it may have missed one. It allows the clocks of two first starts, which give numbers
    /// in ms, to be 49 days apart.
    const UNHEARD: u64 = 1 << 32;

    /// Records that this node takes part in forming a ring with this number. It must never name the
    /// number again after a restart.
    pub(super) fn attempt(&mut self, ring_seq: u64) {
        self.attempted = self.attempted.max(ring_seq);
        self.hear_ring_seq(ring_seq);
        if self.attempted.saturating_add(Self::BLOCK / 2) > self.wanted.ring_seq {
            self.wanted.ring_seq = self.attempted.saturating_add(Self::BLOCK);
        }
    }

    /// Returns the highest number of other nodes that is believed.
    ///
    /// Any node that may send JOINs can state any number, and a number that a ring adopts is in the
    /// records of all its members. So a member approaches an implausible number only in small
    /// steps, one for each ring that is formed or fails to form. A node that has just started
    /// follows the others at once, since a wrong number harms only this node.
    fn limit(&self) -> u64 {
        if !self.had_peers {
            return Self::FOLLOWED_RING_SEQ;
        }
        let own = self.attempted.max(self.heard_before);
        own.max(Self::PLAUSIBLE_RING_SEQ).saturating_add(Self::JUMP)
    }

    /// Returns `true` if this node is alone and the sender of a JOIN with this number does not
    /// follow it (see `limit`). Either this node adopted a wrong number when it started, or its
    /// record is damaged.
    pub(super) fn is_not_followed_by(&self, ring_seq: u64) -> bool {
        let followed = ring_seq.max(Self::PLAUSIBLE_RING_SEQ).saturating_add(Self::JUMP);
        self.is_alone() && self.attempted > followed
    }

    /// Raises the limit after a ring that was agreed on was not formed, since its number may have
    /// been the reason.
    pub(super) fn catch_up(&mut self) {
        self.heard_before = self.heard;
    }

    /// Returns `true` if a ring may have this number, judged by the JOINs of its members.
    pub(super) fn may_be_formed(&self, ring_seq: u64) -> bool {
        let unheard = if self.heard < Self::PLAUSIBLE_RING_SEQ { Self::UNHEARD } else { 4 * Self::JUMP };
        bug!(AnyRingSeqBelieved: true; ring_seq <= self.heard.saturating_add(unheard))
    }

    /// Records a ring number of another node. Returns `true` if it is believed as it is.
    pub(super) fn hear_ring_seq(&mut self, ring_seq: u64) -> bool {
        let followed = bug!(AnyRingSeqBelieved: true; ring_seq <= self.limit());
        // A higher number is not followed, but the next ring's number exceeds the plausible ones.
        let believed = if followed { ring_seq } else { Self::PLAUSIBLE_RING_SEQ };
        if bug!(RingSeqNotLearnt: ring_seq <= self.attempted; true) {
            self.heard = self.heard.max(believed);
        }
        followed
    }

    /// Returns the number of a ring that this node creates.
    pub(super) fn next_ring_seq(&self) -> u64 {
        self.heard.saturating_add(Self::STEP)
    }

    /// Returns `true` if this node may send, which requires that the numbers it names are durable.
    pub(super) fn may_speak(&self) -> bool {
        bug!(SentBeforeStored: true; self.attempted <= self.durable.ring_seq)
    }
}
