//! Known bugs, put back one at a time to see whether the checker finds them.
//!
//! This module is behind the feature `mutants`, which does not build without debug assertions.
//!
//! `cargo test -p quorate-netsim --features mutants --test mutants -- --nocapture` prints which
//! invariant finds which bug, and after how many seeds.

use std::fmt;
use std::time::{Duration, Instant};

pub use quorate_membership::mutants::{Active, Mutant};

use crate::Scenario;

/// The result of the hunt for a bug that was put back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hunt {
    /// The bug.
    pub mutant: Mutant,
    /// Scenarios run, including the one that found it.
    pub seeds: u64,
    /// The invariant that was violated, and the details. `None`: the bug survives.
    pub killed_by: Option<(&'static str, String)>,
    /// The time that the hunt took.
    pub took: Duration,
}

/// Puts a bug back and runs [random scenarios](Scenario::random) of bare members, beginning with
/// seed 0, until one fails or `seeds` of them have been run.
pub fn hunt(mutant: Mutant, seeds: u64) -> Hunt {
    let began = Instant::now();
    let _active = mutant.activate();
    let kill = |seed| {
        let failure = Scenario::random(seed).run_core().err()?;
        let violation = failure.violation()?;
        Some((seed + 1, (violation.property, violation.what.clone())))
    };
    let (seeds, killed_by) = (0..seeds).find_map(kill).map_or((seeds, None), |(seed, by)| (seed, Some(by)));
    Hunt { mutant, seeds, killed_by, took: began.elapsed() }
}

impl Hunt {
    /// The header of a table of hunts.
    pub const HEADER: &str = "mutant                              bug  seeds      s  found by";
}

/// Prints a line of the table.
impl fmt::Display for Hunt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mutant, seeds, killed_by, took } = self;
        let bug = mutant.bug().unwrap_or("");
        write!(f, "{mutant:<34} {bug:>4} {seeds:>6} {:>6.1}  ", took.as_secs_f64())?;
        match killed_by {
            Some((property, what)) => write!(f, "{property}: {what:.90}"),
            None => write!(f, "none: it survives"),
        }
    }
}
