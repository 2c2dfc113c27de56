//! A node's own clock.

use quorate_membership::Time;

use super::Micros;

/// A clock that begins with its node's life. It may run too fast or too slow, and it may be frozen.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    /// The time that the clock showed when it was last changed.
    shown: Micros,
    /// The time of that change. It lies in the future while the clock is frozen.
    at: Micros,
    ppm: i32,
}

const MILLION: u128 = 1_000_000;

impl Clock {
    pub(super) fn new(now: Micros, ppm: i32) -> Self {
        Self { shown: 0, at: now, ppm }
    }

    fn rate(self) -> u128 {
        (MILLION as i128 + i128::from(self.ppm)).max(1) as u128
    }

    pub(super) fn show(self, now: Micros) -> Time {
        let since = now.saturating_sub(self.at);
        let passed = if self.ppm == 0 { since } else { (u128::from(since) * self.rate() / MILLION) as u64 };
        Time::from_micros(self.shown + passed)
    }

    /// Returns the simulated time at which the clock will show `time`.
    pub(super) fn when(self, time: Time) -> Micros {
        let left = time.micros().saturating_sub(self.shown);
        let lasts =
            if self.ppm == 0 { left } else { (u128::from(left) * MILLION).div_ceil(self.rate()) as u64 };
        self.at.saturating_add(lasts)
    }

    fn set(&mut self, now: Micros, from: Micros) {
        self.shown = self.show(now).micros();
        self.at = from;
    }

    pub(super) fn drift(&mut self, now: Micros, ppm: i32) {
        // A frozen clock stays frozen.
        self.set(now, now.max(self.at));
        self.ppm = ppm;
    }

    /// Freezes the clock until then.
    pub(super) fn freeze(&mut self, now: Micros, until: Micros) {
        self.set(now, until.max(self.at));
    }

    /// Ends a freeze.
    pub(super) fn thaw(&mut self, now: Micros) {
        if self.at > now {
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drifting_clock_converts_both_ways() {
        for ppm in [0, 500, -500, 50_000, -50_000] {
            let mut clock = Clock::new(1000, 0);
            clock.drift(2000, ppm);
            for deadline in [1000, 1001, 5000, 1_000_000, 1 << 40] {
                let at = clock.when(Time::from_micros(deadline));
                assert!(clock.show(at).micros() >= deadline, "{ppm} {deadline}");
                assert!(at == 2000 || clock.show(at - 2).micros() < deadline, "{ppm} {deadline}");
            }
        }
        let mut fast = Clock::new(0, 0);
        fast.drift(0, 1000);
        assert_eq!(fast.show(1_000_000).micros(), 1_001_000);
    }

    #[test]
    fn a_frozen_clock_shows_the_same_until_it_thaws() {
        let mut clock = Clock::new(0, 0);
        clock.freeze(100, 500);
        assert_eq!([100, 300, 500, 600].map(|now| clock.show(now).micros()), [100, 100, 100, 200]);
        assert_eq!(clock.when(Time::from_micros(150)), 550);
        clock.thaw(300);
        assert_eq!(clock.show(350).micros(), 150);
    }
}
