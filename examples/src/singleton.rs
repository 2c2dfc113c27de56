//! A job that runs on exactly one node: a virtual address, held by the DC.
//!
//! The holder claims the address again and again, as a host announces an address to a network. The
//! address remembers the highest term under which it was claimed and refuses lower ones. A holder
//! that was paused and then resumes without knowing what happened meanwhile therefore cannot take
//! it back.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use quorate::{Dc, Term};

/// The interval between two claims by the holder.
pub const EVERY: Duration = Duration::from_millis(50);

/// Holds the address by calling `claim` whenever this node may act as DC, for as long as it is a
/// member. The job needs to know nothing more about clusters.
pub async fn hold<F: Future<Output = ()>>(dc: Dc, mut claim: impl FnMut(Term) -> F) {
    // A job that hangs is as bad as a node that has failed. With a heartbeat, another node takes
    // over.
    dc.set_heartbeat(Some(20 * EVERY));
    loop {
        let Ok(guard) = dc.guard().await else { return };
        while let Ok(term) = guard.check() {
            claim(term).await;
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// A careless variant of [`hold`], as an example of how not to do it. It checks the guard only once
/// in a hundred claims and sends no heartbeat.
///
/// It claims under terms that have ended, for up to five seconds. Only the address prevents damage,
/// because it refuses lower terms. This function exists to show that it does.
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

/// A claim. It is sent as the node and its term, in decimal, separated by a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The node that claims the address.
    pub node: u32,
    /// The term under which the node claims it.
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
        claim.ok_or("a claim consists of a node and a term")
    }
}

/// The address: the resource that only one node may hold.
///
/// It remembers the highest term in memory. An address that outlives its process has to store it.
#[derive(Clone, Debug, Default)]
pub struct Address {
    /// The last accepted claim.
    held: Option<Claim>,
    /// The number of refused claims under each lower term.
    refused: BTreeMap<u128, u64>,
}

impl Address {
    /// Handles a claim. Returns `true` if it is accepted.
    pub fn claim(&mut self, claim: Claim) -> bool {
        if self.held.is_some_and(|held| claim.term < held.term) {
            *self.refused.entry(claim.term).or_default() += 1;
            return false;
        }
        self.held = Some(claim);
        true
    }

    /// Returns the claim under which the address is held.
    pub fn held(&self) -> Option<Claim> {
        self.held
    }

    /// Returns the node that holds the address.
    pub fn holder(&self) -> Option<u32> {
        self.held.map(|held| held.node)
    }

    /// Returns the number of refused claims.
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Returns the number of refused claims under this term.
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
    fn a_claim_survives_display_and_parse() {
        let claim = Claim { node: 3, term: u128::MAX };
        assert_eq!(claim.to_string().parse(), Ok(claim));
        for text in ["", "3", "3 ", " 3", "3 4 5", "-3 4", "3 4\n", "4294967296 4"] {
            assert!(text.parse::<Claim>().is_err(), "{text:?}");
        }
    }
}
