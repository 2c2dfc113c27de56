//! A job that runs on exactly one node: a virtual address, held by whoever is DC.
//!
//! The holder claims the address again and again, as one announces an address to a network. The address remembers the highest
//! term under which it was claimed, and refuses lower ones: so a holder that stood still and goes on, not knowing what happened
//! meanwhile, cannot take it back.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use quorate_election::{Dc, Revoked, Term};

/// How often the holder claims the address.
pub const EVERY: Duration = Duration::from_millis(50);

/// Holds the address whenever this node may, by `claim`, for as long as it is a member. That is all that the job has to know
/// of clusters.
pub async fn hold<F: Future<Output = ()>>(dc: Dc, mut claim: impl FnMut(Term) -> F) {
    // A job that hangs is as bad as a node that is gone: another takes over.
    dc.set_heartbeat(Some(20 * EVERY));
    loop {
        let guard = match dc.guard().await {
            Ok(guard) => guard,
            Err(Revoked::Left | Revoked::Lost(_)) => return,
        };
        while let Ok(term) = guard.check() {
            claim(term).await;
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// How not to do it: as [`hold`], but it asks whether it may once in a hundred claims, and shows nobody that it is alive.
///
/// It claims under terms that are over, for up to five seconds; only the address, which refuses lower terms, saves the day. It
/// is here to show that it does.
pub async fn hold_carelessly<F: Future<Output = ()>>(dc: Dc, mut claim: impl FnMut(Term) -> F) {
    while let Ok(guard) = dc.guard().await {
        while let Ok(term) = guard.check() {
            for _ in 0..100 {
                claim(term).await;
                tokio::time::sleep(EVERY).await;
            }
        }
    }
}

/// A claim, as it is sent: the node and its term, in decimal, with a space between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Who claims.
    pub node: u32,
    /// Under which term.
    pub term: u128,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.node, self.term)
    }
}

impl FromStr for Claim {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let claim = text
            .split_once(' ')
            .and_then(|(node, term)| Some(Self { node: node.parse().ok()?, term: term.parse().ok()? }));
        claim.ok_or("a claim is a node and a term")
    }
}

/// The address: the thing that is to be held by one.
///
/// It remembers in memory what one that outlives its own process has to store.
#[derive(Clone, Debug, Default)]
pub struct Address {
    /// The claim that was accepted last.
    held: Option<Claim>,
    /// How many claims under lower terms were refused, by term.
    refused: BTreeMap<u128, u64>,
}

impl Address {
    /// A claim; whether it is accepted.
    pub fn claim(&mut self, claim: Claim) -> bool {
        if self.held.is_some_and(|held| claim.term < held.term) {
            *self.refused.entry(claim.term).or_default() += 1;
            return false;
        }
        self.held = Some(claim);
        true
    }

    /// By whom it is held, and under which term.
    pub fn held(&self) -> Option<Claim> {
        self.held
    }

    /// Who holds it.
    pub fn holder(&self) -> Option<u32> {
        self.held.map(|held| held.node)
    }

    /// How many claims came too late.
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// How many claims under this term came too late.
    pub fn refused_under(&self, term: u128) -> u64 {
        self.refused.get(&term).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_claim_is_refused() {
        let mut address = Address::default();
        let mut claim = |node, term| address.claim(Claim { node, term });
        assert!(claim(1, 4));
        assert!(claim(2, 8));
        assert!(!claim(1, 4));
        assert!(!claim(3, 6));
        assert!(!claim(1, 4));
        assert_eq!((address.holder(), address.refused(), address.refused_under(4)), (Some(2), 3, 2));
        assert!(address.claim(Claim { node: 1, term: 12 }));
    }

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        let claim = Claim { node: 3, term: u128::MAX };
        assert_eq!(claim.to_string().parse(), Ok(claim));
        for text in ["", "3", "3 ", " 3", "3 4 5", "-3 4", "3 4\n", "4294967296 4"] {
            assert!(text.parse::<Claim>().is_err(), "{text:?}");
        }
    }
}
