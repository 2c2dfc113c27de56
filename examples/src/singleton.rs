//! A job that runs on exactly one node: a virtual address, held by whoever is DC.
//!
//! The holder claims the address again and again, as one announces an address to a network. The address remembers the highest
//! term under which it was claimed, and refuses lower ones: so a holder that stood still and goes on, not knowing what happened
//! meanwhile, cannot take it back.

use std::future::Future;
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

/// The address: the thing that is to be held by one.
#[derive(Clone, Debug, Default)]
pub struct Address {
    /// The term under which it was claimed last.
    term: u128,
    /// Who claimed it.
    holder: Option<u32>,
    /// Claims under lower terms.
    refused: u64,
}

impl Address {
    /// A claim; whether it is accepted.
    pub fn claim(&mut self, node: u32, term: u128) -> bool {
        if term < self.term {
            self.refused += 1;
            return false;
        }
        self.term = term;
        self.holder = Some(node);
        true
    }

    /// Who holds it.
    pub fn holder(&self) -> Option<u32> {
        self.holder
    }

    /// How many claims came too late.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_claim_is_refused() {
        let mut address = Address::default();
        assert!(address.claim(1, 4));
        assert!(address.claim(2, 8));
        assert!(!address.claim(1, 4));
        assert_eq!((address.holder(), address.refused()), (Some(2), 1));
        assert!(address.claim(1, 12));
    }
}
