//! Flow control: how many frames a member may send at a visit of the token (TOCS 1995, section 6; corosync's
//! arithmetic).

use super::rotation::Visited;
use crate::config::TotemConfig;
use crate::mutants::Mutant;
use crate::wire::Token;

/// What this member wrote into the token's counts at its last visit, to be taken back at the next.
#[derive(Clone, Hash, Default)]
pub(super) struct Flow {
    sent: u32,
    backlog: u32,
    charge: u32,
}

impl Flow {
    /// How many frames, new ones and retransmissions together, this visit may send.
    pub(super) fn allowance(&self, token: &Token, backlog: u32, config: &TotemConfig) -> u32 {
        let free = if Mutant::WindowUnderflow.is_active() {
            config.window_size.wrapping_sub(token.fcc)
        } else {
            config.window_size.saturating_sub(token.fcc)
        };
        let mut allowed = config.max_messages.min(free);
        // A fair share of the window where the members together want more than it holds.
        let wanted = token.backlog.wrapping_add(backlog).wrapping_sub(self.backlog);
        if let Some(share) =
            (u64::from(config.window_size) * u64::from(self.backlog)).checked_div(wanted.into())
            && share > 0
        {
            allowed = allowed.min(u32::try_from(share).unwrap_or(u32::MAX));
        }
        allowed
    }

    /// Writes this visit into the token. A slow visit charges the window for a consumer that cannot keep up: to `fcc`
    /// alone, since a false `backlog` would starve the others for ever, and never all of it, so that one frame a
    /// rotation stays free for the protocol's own messages. In a `wedged` ring `fcc` starts over.
    pub(super) fn account(&mut self, token: &mut Token, visit: &Visited, wedged: bool, config: &TotemConfig) {
        let &Visited { sent, backlog, slow } = visit;
        let sent_before = if Mutant::FccNotTakenBack.is_active() { 0 } else { self.sent };
        let others = token.fcc.saturating_sub(sent_before).saturating_sub(self.charge);
        let others = if wedged { 0 } else { others };
        let used = others.saturating_add(sent);
        let charge = if slow { config.window_size.saturating_sub(used).saturating_sub(1) } else { 0 };
        token.fcc = used.saturating_add(charge);
        token.backlog = token.backlog.saturating_sub(self.backlog).saturating_add(backlog);
        *self = Self { sent, backlog, charge };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn a_member_sends_at_most_max_messages_and_what_the_window_leaves() {
        let config = TotemConfig::default();
        let flow = Flow::default();
        assert_eq!(flow.allowance(&token(0, 0), 0, &config), 17);
        assert_eq!(flow.allowance(&token(45, 0), 0, &config), 5);
        assert_eq!(flow.allowance(&token(50, 0), 0, &config), 0);
        assert_eq!(flow.allowance(&token(51, 0), 0, &config), 0, "corosync would wrap to no limit");
    }

    #[test]
    fn what_a_visit_adds_the_next_takes_back() {
        let config = TotemConfig::default();
        let mut flow = Flow::default();
        let mut token = token(10, 100);
        flow.account(&mut token, &visit(5, 40), false, &config);
        assert_eq!((token.fcc, token.backlog), (15, 140));
        flow.account(&mut token, &visit(0, 0), false, &config);
        assert_eq!((token.fcc, token.backlog), (10, 100));
    }

    #[test]
    fn a_crowded_window_is_shared_by_backlog() {
        let config = TotemConfig::default();
        let mut flow = Flow::default();
        let mut token = token(0, 90);
        flow.account(&mut token, &visit(0, 10), false, &config);
        assert_eq!(flow.allowance(&token, 10, &config), 5, "a tenth of 50");
    }

    #[test]
    fn a_slow_consumer_leaves_one_frame_and_gives_the_rest_back() {
        let config = TotemConfig::default();
        let mut flow = Flow::default();
        let mut token = token(3, 0);
        flow.account(&mut token, &Visited { slow: true, ..visit(0, 0) }, false, &config);
        assert_eq!(token.fcc, 49);
        assert_eq!(Flow::default().allowance(&token, 0, &config), 1);
        flow.account(&mut token, &visit(0, 0), false, &config);
        assert_eq!(token.fcc, 3);
    }

    #[test]
    fn a_wedged_ring_counts_anew() {
        let config = TotemConfig::default();
        let mut flow = Flow::default();
        let mut token = token(1 << 20, 7);
        flow.account(&mut token, &visit(0, 1), true, &config);
        assert_eq!((token.fcc, token.backlog), (0, 8));
    }
}
