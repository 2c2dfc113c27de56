//! The refusals that a host sends on behalf of processes that are gone.

use std::collections::BTreeMap;

use super::Micros;

/// The refusals of one host, limited like those of Linux (`icmp_ratelimit`): a peer is sent at most
/// six in a row, and then one a second.
#[derive(Default)]
pub(super) struct Refusals {
    /// For each peer, the time until which the refusals sent so far last at one a second.
    until: BTreeMap<usize, Micros>,
}

impl Refusals {
    const INTERVAL: Micros = 1_000_000;
    const BURST: Micros = 6;

    /// Counts a refusal to a peer. Returns `false` if the host does not send it.
    pub(super) fn may_send(&mut self, peer: usize, now: Micros) -> bool {
        let until = self.until.entry(peer).or_default();
        let may = *until <= now + (Self::BURST - 1) * Self::INTERVAL;
        if may {
            *until = now.max(*until) + Self::INTERVAL;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_sends_six_refusals_in_a_row_and_then_one_a_second() {
        let mut refusals = Refusals::default();
        let sent: Vec<u64> = (0..4000).filter(|ms| refusals.may_send(1, 1000 * ms)).collect();
        assert_eq!(sent, [0, 1, 2, 3, 4, 5, 1000, 2000, 3000]);
        assert!(refusals.may_send(2, 4_000_000), "each peer has its own");
    }

    #[test]
    fn refusals_can_be_sent_in_a_row_again_after_a_pause() {
        let mut refusals = Refusals::default();
        let mut row = |from: Micros| (0..100).filter(|at| refusals.may_send(1, from + at)).count();
        assert_eq!([row(0), row(2_500_000), row(60_000_000)], [6, 2, 6]);
    }
}
