//! Known bugs, put back one at a time: the laboratory has to find each.
//!
//! `cargo test -p quorate-membership --features mutants --test mutants -- --nocapture` prints which invariant finds
//! which bug, and after how many random runs. `MUTANTS=A,B` runs these only.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod lab;

use std::any::Any;
use std::fmt::Write;
use std::panic;
use std::sync::Mutex;
use std::time::Duration;

use lab::chaos::chaos;
use lab::{Fate, Lab, ids, ms, node};
use quorate_membership::mutants::Mutant;
use quorate_membership::wire::Message;
use quorate_membership::{Guarantee, Seq};
use rand::Rng;

use Guarantee::{Agreed, Safe};

/// No mutant lives longer than this many random runs.
const SEEDS: u64 = 2000;

#[test]
fn every_known_bug_is_found() {
    let names = std::env::var("MUTANTS").ok();
    let chosen: Vec<Mutant> = match &names {
        Some(names) => names.split(',').map(|name| name.parse().unwrap()).collect(),
        None => Mutant::ALL.to_vec(),
    };
    panic::set_hook(Box::new(|_| {}));
    let queue = Mutex::new(chosen.iter().copied());
    let next = || queue.lock().unwrap().next();
    let mut ends: Vec<(Mutant, Option<Kill>)> = std::thread::scope(|scope| {
        let hunt = || std::iter::from_fn(next).map(|mutant| (mutant, hunt(mutant))).collect::<Vec<_>>();
        let hunters: Vec<_> = (0..2).map(|_| scope.spawn(hunt)).collect();
        hunters.into_iter().flat_map(|hunter| hunter.join().unwrap()).collect()
    });
    let _ = panic::take_hook();
    ends.sort_by_key(|(mutant, _)| *mutant);
    print!("{}", table(&ends));
    let survivors: Vec<&Mutant> =
        ends.iter().filter(|(_, kill)| kill.is_none()).map(|(mutant, _)| mutant).collect();
    assert!(survivors.is_empty(), "{survivors:?} survive");
}

/// How a mutant was found.
struct Kill {
    /// The invariant, and what was seen.
    why: String,
    /// Random runs until then; `None`: by a scenario made for it.
    seeds: Option<u64>,
    took: Duration,
}

fn hunt(mutant: Mutant) -> Option<Kill> {
    let start = std::time::Instant::now();
    let _active = mutant.activate();
    let kill = |why, seeds| Kill { why, seeds, took: start.elapsed() };
    if let Some(scenario) = scenario_for(mutant) {
        return verdict(scenario).map(|why| kill(why, None));
    }
    (0..SEEDS).find_map(|seed| verdict(|| chaos(seed)).map(|why| kill(why, Some(seed + 1))))
}

/// What is wrong with a run, if anything is.
fn verdict(run: impl Fn()) -> Option<String> {
    let panicked: Box<dyn Any + Send> = panic::catch_unwind(panic::AssertUnwindSafe(run)).err()?;
    let text = panicked.downcast_ref::<String>().cloned();
    let text =
        text.or_else(|| panicked.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default();
    let text = text.strip_prefix("assertion `left == right` failed: ").unwrap_or(&text);
    let named = text
        .split_once(':')
        .is_some_and(|(name, _)| name.len() <= 3 && name.ends_with(|c: char| c.is_ascii_digit()));
    let line = text.lines().next().unwrap_or_default();
    Some(if named { line.to_owned() } else { format!("H1: panic: {line}") })
}

fn table(ends: &[(Mutant, Option<Kill>)]) -> String {
    let mut out = format!("{:<34} {:<4} {:>5} {:>6}  {}\n", "mutant", "bug", "seeds", "s", "found by");
    for (mutant, kill) in ends {
        let bug = mutant.bug().unwrap_or("");
        let _ = match kill {
            Some(Kill { why, seeds, took }) => {
                let seeds = seeds.map_or("-".to_owned(), |seeds| seeds.to_string());
                let why: String = why.chars().take(90).collect();
                writeln!(out, "{mutant:<34} {bug:<4} {seeds:>5} {:>6.1}  {why}", took.as_secs_f64())
            }
            None => writeln!(out, "{mutant:<34} {bug:<4} {SEEDS:>5} {:>6}  SURVIVES", ""),
        };
    }
    out
}

/// For bugs that show only in a situation that random runs do not come to.
fn scenario_for(_mutant: Mutant) -> Option<fn()> {
    None
}
