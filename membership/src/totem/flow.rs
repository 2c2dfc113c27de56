//! Flow control: the number of frames that a member may send per token visit (TOCS 1995, section 6;
//! corosync's arithmetic).

use crate::bug;
use crate::config::TotemConfig;
use crate::wire::Token;

/// The actions of a token visit.
pub(super) struct Visited {
    /// The number of frames sent, including retransmissions.
    pub(super) sent: u32,
    /// The number of frames that still wait here.
    pub(super) backlog: u32,
    /// Whether the application does not keep up.
    pub(super) slow: bool,
}

/// Limits on the number of frames.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Limits {
    /// The most frames per rotation, of all members together.
    pub(super) window: u32,
    /// The number of frames that a member may always send per token visit, even after losses.
    least: u32,
    /// The number of frames that a member may send per token visit when nothing has been lost for
    /// long.
    pub(super) visit: u32,
    /// Whether all members are Quorate nodes, as each has announced in the ring's order, so that no
    /// member expects corosync's behaviour.
    pub(super) ours: bool,
}

impl Limits {
    /// The most frames that may be sent after the token. They are written in one batch while the
    /// token wakes the next member. All members have them long before the token has completed the
    /// `miss_count_const` rotations after which they are requested. A larger number brought no
    /// gain.
    const LATE: u32 = 16;

    /// Two quiet visits suffice: then every member knows that all members have all frames.
    pub(super) const QUIET: u32 = 2;

    /// Returns the limits for a ring with any kind of members.
    pub(super) fn configured(config: &TotemConfig) -> Self {
        Self {
            window: config.window_size,
            least: config.max_messages,
            visit: config.max_messages,
            ours: false,
        }
    }

    /// Returns the limits for a ring whose members all accept `frames` per rotation. The share of
    /// one visit stays the same.
    pub(super) fn agreed(config: &TotemConfig, frames: u32) -> Self {
        let window = frames.clamp(config.window_size, TotemConfig::MAX_WINDOW);
        let visit = u64::from(window) * u64::from(config.max_messages) / u64::from(config.window_size.max(1));
        let visit = u32::try_from(visit).unwrap_or(u32::MAX);
        Self { window, least: config.max_messages, visit, ours: true }
    }

    /// Returns the largest number of new frames that a visit sends after the token (the accelerated
    /// ring of Babay and Amir, ICDCS 2016). A visit with more new frames sends them before it.
    pub(super) fn late(self) -> u32 {
        if self.ours { Self::LATE } else { 0 }
    }

    /// Returns the number of consecutive quiet visits after which the token is held. A visit is
    /// quiet if nothing is new and no member lacks anything.
    pub(super) fn quiet(self) -> Option<u32> {
        self.ours.then_some(Self::QUIET)
    }
}

/// This member's contributions to the token's counts at its last visit, which it takes back at the
/// next, and its pace.
#[derive(Clone, Hash, Default)]
pub(super) struct Flow {
    sent: u32,
    backlog: u32,
    charge: u32,
    /// The number of frames by which the most that a visit sends exceeds the least. It grows while
    /// nothing is lost, and halves after a loss.
    extra: u32,
    /// The number of visits for which requests do not count as a new loss. A member that lacks a
    /// frame requests it until it arrives.
    patience: u32,
}

impl Flow {
    const PATIENCE: u32 = 8;

    /// Returns `true` if the last visit sent any frames.
    pub(super) fn has_sent(&self) -> bool {
        self.sent > 0
    }

    /// Adapts the pace to whether frames are requested.
    pub(super) fn adapt(&mut self, token: &Token, limits: Limits) {
        self.patience = self.patience.saturating_sub(1);
        let pace = limits.least.saturating_add(self.extra);
        if !token.rtr.is_empty() {
            if self.patience == 0 {
                self.extra /= 2;
                self.patience = Self::PATIENCE;
            }
        } else if self.sent >= pace {
            self.extra += 1 + pace / 8;
        }
        self.extra = self.extra.min(limits.visit.saturating_sub(limits.least));
    }

    /// Returns the number of frames that this visit may send, including retransmissions.
    pub(super) fn allowance(&self, token: &Token, backlog: u32, limits: Limits) -> u32 {
        let free = bug!(
            WindowUnderflow: limits.window.wrapping_sub(token.fcc);
            limits.window.saturating_sub(token.fcc)
        );
        let mut allowed = limits.least.saturating_add(self.extra).min(free);
        // If the members together want more than the window holds, each gets its share.
        let wanted = token.backlog.wrapping_add(backlog).wrapping_sub(self.backlog);
        if let Some(share) = (u64::from(limits.window) * u64::from(self.backlog)).checked_div(wanted.into())
            && share > 0
        {
            allowed = allowed.min(u32::try_from(share).unwrap_or(u32::MAX));
        }
        allowed
    }

    /// Writes this visit into the token. A slow visit fills the window for an application that
    /// cannot keep up. It adds to `fcc` only, since a false `backlog` would starve the others
    /// forever. It never fills the whole window, so that one frame per rotation stays free for the
    /// protocol's own messages. In a `wedged` ring `fcc` starts over.
    pub(super) fn account(&mut self, token: &mut Token, visit: &Visited, wedged: bool, limits: Limits) {
        let &Visited { sent, backlog, slow } = visit;
        let sent_before = bug!(FccNotTakenBack: 0; self.sent);
        let others = token.fcc.saturating_sub(sent_before).saturating_sub(self.charge);
        let others = if wedged { 0 } else { others };
        let used = others.saturating_add(sent);
        let charge = if slow { limits.window.saturating_sub(used).saturating_sub(1) } else { 0 };
        token.fcc = used.saturating_add(charge);
        token.backlog = token.backlog.saturating_sub(self.backlog).saturating_add(backlog);
        (self.sent, self.backlog, self.charge) = (sent, backlog, charge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::RtrEntry;
    use crate::{NodeId, RingId, Seq};

    fn visit(sent: u32, backlog: u32) -> Visited {
        Visited { sent, backlog, slow: false }
    }

    fn token(fcc: u32, backlog: u32) -> Token {
        let from = NodeId::new(1).unwrap();
        Token {
            from,
            seq: Seq::new(0),
            token_seq: Seq::new(0),
            aru: Seq::new(0),
            aru_addr: None,
            ring: RingId { seq: 4, representative: from },
            backlog,
            fcc,
            retrans_flg: false,
            rtr: Vec::new(),
        }
    }

    #[test]
    fn a_visit_sends_at_most_max_messages_within_the_window() {
        let limits = Limits::configured(&TotemConfig::default());
        let flow = Flow::default();
        assert_eq!(flow.allowance(&token(0, 0), 0, limits), 17);
        assert_eq!(flow.allowance(&token(45, 0), 0, limits), 5);
        assert_eq!(flow.allowance(&token(50, 0), 0, limits), 0);
        assert_eq!(flow.allowance(&token(51, 0), 0, limits), 0, "corosync would wrap to no limit");
    }

    #[test]
    fn a_visit_takes_back_what_the_previous_one_added() {
        let limits = Limits::configured(&TotemConfig::default());
        let mut flow = Flow::default();
        let mut token = token(10, 100);
        flow.account(&mut token, &visit(5, 40), false, limits);
        assert_eq!((token.fcc, token.backlog), (15, 140));
        flow.account(&mut token, &visit(0, 0), false, limits);
        assert_eq!((token.fcc, token.backlog), (10, 100));
    }

    #[test]
    fn a_crowded_window_is_shared_by_backlog() {
        let limits = Limits::configured(&TotemConfig::default());
        let mut flow = Flow::default();
        let mut token = token(0, 90);
        flow.account(&mut token, &visit(0, 10), false, limits);
        assert_eq!(flow.allowance(&token, 10, limits), 5, "a tenth of 50");
    }

    #[test]
    fn a_slow_consumer_leaves_one_frame_and_gives_the_rest_back() {
        let limits = Limits::configured(&TotemConfig::default());
        let mut flow = Flow::default();
        let mut token = token(3, 0);
        flow.account(&mut token, &Visited { slow: true, ..visit(0, 0) }, false, limits);
        assert_eq!(token.fcc, 49);
        assert_eq!(Flow::default().allowance(&token, 0, limits), 1);
        flow.account(&mut token, &visit(0, 0), false, limits);
        assert_eq!(token.fcc, 3);
    }

    #[test]
    fn a_wedged_ring_starts_counting_again() {
        let limits = Limits::configured(&TotemConfig::default());
        let mut flow = Flow::default();
        let mut token = token(1 << 20, 7);
        flow.account(&mut token, &visit(0, 1), true, limits);
        assert_eq!((token.fcc, token.backlog), (0, 8));
    }

    #[test]
    fn a_pace_grows_without_loss_and_halves_once_per_loss() {
        let limits = Limits::agreed(&TotemConfig::default(), 1000);
        assert_eq!((limits.window, limits.visit), (1000, 340));
        let (mut flow, mut token) = (Flow::default(), token(0, 0));
        let visit = |flow: &mut Flow, token: &mut Token| {
            flow.adapt(token, limits);
            let allowed = flow.allowance(token, 1 << 20, limits);
            flow.account(token, &visit(allowed, 1 << 20), false, limits);
            allowed
        };
        let paces: Vec<u32> = (0..40).map(|_| visit(&mut flow, &mut token)).collect();
        assert_eq!((&paces[..3], paces[39]), (&[17, 20, 23][..], 340));
        token.rtr.push(RtrEntry { ring: token.ring, seq: Seq::new(1) });
        let paces: Vec<u32> = (0..9).map(|_| visit(&mut flow, &mut token)).collect();
        assert_eq!((paces[0], paces[7], paces[8]), (178, 178, 97));
        token.rtr.clear();
        assert!(visit(&mut flow, &mut token) > 97);
    }

    #[test]
    fn a_member_that_sends_little_keeps_its_pace() {
        let limits = Limits::agreed(&TotemConfig::default(), 1000);
        let (mut flow, mut token) = (Flow::default(), token(0, 0));
        for _ in 0..100 {
            flow.adapt(&token, limits);
            flow.account(&mut token, &visit(16, 0), false, limits);
        }
        flow.adapt(&token, limits);
        assert_eq!(flow.allowance(&token, 0, limits), 17);
    }
}
