//! Sets of hosts.

use std::ops::{BitAnd, Sub};

use crate::Scenario;

/// A set of host indices, with room for [`Scenario::MAX_NODES`] hosts.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct HostSet([u64; Self::WORDS]);

impl HostSet {
    const WORDS: usize = (Scenario::MAX_NODES as usize).div_ceil(64);

    pub(super) const EVERY: Self = Self([u64::MAX; Self::WORDS]);

    /// Returns the set that contains only this host.
    pub(super) fn only(index: usize) -> Self {
        Self::default().with(index)
    }

    /// Returns the set of the hosts with a smaller index.
    pub(super) fn before(index: usize) -> Self {
        (0..index).fold(Self::default(), Self::with)
    }

    pub(super) fn with(mut self, index: usize) -> Self {
        self.0[index / 64] |= 1 << (index % 64);
        self
    }

    pub(super) fn without(mut self, index: usize) -> Self {
        self.0[index / 64] &= !(1 << (index % 64));
        self
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        self.0[index / 64] & 1 << (index % 64) != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

impl BitAnd for HostSet {
    type Output = Self;

    fn bitand(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }
}

impl Sub for HostSet {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
        self
    }
}

impl IntoIterator for HostSet {
    type Item = usize;
    type IntoIter = Ascending;

    fn into_iter(self) -> Ascending {
        Ascending { rest: self, word: 0 }
    }
}

/// An iterator over the hosts of a set, in ascending order.
pub(super) struct Ascending {
    rest: HostSet,
    word: usize,
}

impl Iterator for Ascending {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let Self { rest: HostSet(words), word } = self;
        while *word < HostSet::WORDS && words[*word] == 0 {
            *word += 1;
        }
        let bits = words.get_mut(*word)?;
        let bit = bits.trailing_zeros() as usize;
        *bits &= *bits - 1;
        Some(*word * 64 + bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_yields_its_hosts_in_ascending_order() {
        let set = [383, 64, 0, 63, 200].into_iter().fold(HostSet::default(), HostSet::with).without(63);
        assert_eq!(set.into_iter().collect::<Vec<_>>(), [0, 64, 200, 383]);
        assert!(set.contains(200) && !set.contains(63) && !set.is_empty());
        let some = (set & HostSet::before(201)) - HostSet::only(0);
        assert_eq!(some.into_iter().collect::<Vec<_>>(), [64, 200]);
        assert!((set - HostSet::EVERY).is_empty());
        assert_eq!(HostSet::before(384).into_iter().count(), 384);
    }
}
