//! Sequence numbers that wrap.

use std::fmt;

/// The number of a frame on its ring, or of a token's hop: a `u32` that wraps.
///
/// Numbers that are compared are at most a window (16384) apart, so the shorter way round decides
/// which comes first. There is no `Ord`, because a set of numbers that are far apart has no order.
///
/// ```
/// use quorate_membership::Seq;
/// let last = Seq::new(u32::MAX);
/// assert!(last.before(last.next()));
/// assert_eq!(last.next(), Seq::new(0));
/// assert_eq!(last.distance_to(Seq::new(4)), 5);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seq(u32);

impl Seq {
    /// Returns the number `n`.
    pub const fn new(n: u32) -> Self {
        Self(n)
    }

    /// Returns the plain integer, for the wire and for printing.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// Returns the number before this one.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.wrapping_sub(1))
    }

    /// Returns the number `n` after this one.
    #[must_use]
    pub const fn plus(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// Returns `true` if this number comes before `other`, the shorter way round.
    pub const fn before(self, other: Self) -> bool {
        let ahead = other.0.wrapping_sub(self.0);
        ahead != 0 && ahead < 1 << 31
    }

    /// Returns `true` if this number is `other` or comes before it.
    pub const fn at_or_before(self, other: Self) -> bool {
        !other.before(self)
    }

    /// Returns the number of steps from this number to `other`, or 0 if `other` is not ahead.
    pub const fn distance_to(self, other: Self) -> u32 {
        if self.before(other) { other.0.wrapping_sub(self.0) } else { 0 }
    }

    /// Returns the later of the two numbers.
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// Returns the earlier of the two numbers.
    #[must_use]
    pub const fn min(self, other: Self) -> Self {
        if other.before(self) { other } else { self }
    }

    /// Returns the numbers after this one up to and including `last`.
    pub fn up_to(self, last: Self) -> impl Iterator<Item = Self> {
        (1..=self.distance_to(last)).map(move |n| self.plus(n))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_goes_round_the_wrap() {
        let a = Seq::new(u32::MAX - 1);
        let b = Seq::new(2);
        assert!(a.before(b) && !b.before(a));
        assert!(a.at_or_before(a) && !a.before(a));
        assert_eq!(a.max(b), b);
        assert_eq!(a.min(b), a);
        assert_eq!(a.up_to(b).map(Seq::get).collect::<Vec<_>>(), [u32::MAX, 0, 1, 2]);
        assert_eq!(b.up_to(a).count(), 0);
    }

    #[test]
    fn the_initial_aru_is_before_every_first_message() {
        // The initial token carries aru 0xffffffff, one before 0, so that no member lowers it on
        // the first rotation.
        assert!(Seq::new(u32::MAX).before(Seq::new(0)));
    }
}
