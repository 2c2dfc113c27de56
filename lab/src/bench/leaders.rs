//! `quorate-lab bench leaders`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::crew::Crew;
use super::member::Report;
use super::{Common, PATIENCE, quantile, spread};
use crate::Failure;

/// Measure how long no member acts for a name, after a member is killed and when it comes back
///
/// Each member stands for all names, and acts once in a millisecond for those that it leads for.
#[derive(Debug, clap::Args)]
pub(crate) struct LeadersArgs {
    #[command(flatten)]
    common: Common,
    /// Number of members
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..=50))]
    nodes: u32,
    /// Number of names
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2000))]
    names: u32,
    /// Number of members to kill, one after the other
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// Seconds between two changes. A host reports closed ports about once a second, after a short
    /// burst (sysctl net.ipv4.icmp_ratelimit). With a shorter pause, timeouts detect the loss
    /// instead
    #[arg(long, default_value_t = 2.0)]
    pause: f64,
}

#[derive(Debug, Serialize)]
struct Measured {
    program: &'static str,
    ground: &'static str,
    n: u32,
    names: u32,
    tries: u32,
    /// From each kill to the moment when the last name of that member had another leader.
    killed_p50_ms: f64,
    killed_max_ms: f64,
    /// From the last act of a former leader to the first one of a member that came back.
    moved_p50_ms: f64,
    moved_max_ms: f64,
    /// Without an act for a name that kept its leader while the ring changed.
    kept_p50_ms: f64,
    kept_max_ms: f64,
}

/// The leaders of the names, as they report themselves.
struct Seen {
    crew: Crew,
    leaders: BTreeMap<u32, u32>,
    /// The last leader of each name that has none, and the time of its last act.
    ended: BTreeMap<u32, (u32, u64)>,
}

/// A leader that follows another one, or itself.
struct Begun {
    from: u32,
    to: u32,
    at: u64,
    gap_ms: f64,
}

pub(super) fn run(args: &LeadersArgs) -> Result<ExitCode, Failure> {
    let mut crew = args.common.crew(args.nodes)?.leading(args.names);
    crew.start_all(args.nodes, PATIENCE)?;
    let mut seen = Seen { crew, leaders: BTreeMap::new(), ended: BTreeMap::new() };
    seen.spread(args.names)?;
    let (mut killed, mut moved, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for attempt in 0..args.tries {
        std::thread::sleep(Duration::from_secs_f64(args.pause));
        seen.catch_up()?;
        let node = attempt % args.nodes + 1;
        let at = seen.kill(node)?;
        let begun = seen.spread(args.names)?;
        let (taken, same): (Vec<_>, Vec<_>) = begun.iter().partition(|begun| begun.from == node);
        let last = taken.iter().map(|begun| begun.at).max().unwrap_or(at);
        killed.push(last.saturating_sub(at) as f64 / 1e6);
        kept.extend(same.iter().filter(|begun| begun.from == begun.to).map(|begun| begun.gap_ms));

        std::thread::sleep(Duration::from_secs_f64(args.pause));
        seen.catch_up()?;
        seen.crew.start(node)?;
        let begun = seen.spread(args.names)?;
        let (given, same): (Vec<_>, Vec<_>) = begun.iter().partition(|begun| begun.to == node);
        moved.extend(given.iter().map(|begun| begun.gap_ms));
        kept.extend(same.iter().filter(|begun| begun.from == begun.to).map(|begun| begun.gap_ms));
    }
    for values in [&mut killed, &mut moved, &mut kept] {
        values.sort_by(f64::total_cmp);
    }
    let ends = |values: &[f64]| [500, 1000].map(|part| quantile(values, part));
    let ([killed_p50_ms, killed_max_ms], [moved_p50_ms, moved_max_ms], [kept_p50_ms, kept_max_ms]) =
        (ends(&killed), ends(&moved), ends(&kept));
    let ground = seen.crew.ground().name();
    let measured = Measured {
        program: "quorate",
        ground,
        n: args.nodes,
        names: args.names,
        tries: args.tries,
        killed_p50_ms,
        killed_max_ms,
        moved_p50_ms,
        moved_max_ms,
        kept_p50_ms,
        kept_max_ms,
    };
    args.common.print(&measured, || {
        format!(
            "{} names, {} members ({ground}), {} members killed and started again\n\
             from a kill until all names of the member had another leader, {}\
             from the last act of a leader to the first one of a member that came back, {}\
             without an act for a name that kept its leader when the ring changed, {}",
            args.names,
            args.nodes,
            args.tries,
            spread(&killed, &[500, 900], "ms"),
            spread(&moved, &[500, 900], "ms"),
            spread(&kept, &[500, 900], "ms"),
        )
    })
}

impl Seen {
    /// Kills a member. Its leaders count as ended then.
    fn kill(&mut self, node: u32) -> Result<u64, Failure> {
        let at = self.crew.kill(node)?;
        self.leaders.retain(|name, leader| {
            let stays = *leader != node;
            if !stays {
                self.ended.insert(*name, (node, at));
            }
            stays
        });
        Ok(at)
    }

    /// Waits until all names have a leader and are spread evenly. Returns the leaders that have
    /// begun since.
    fn spread(&mut self, names: u32) -> Result<Vec<Begun>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut begun = Vec::new();
        while !self.is_spread(names) {
            let (node, report) = self.crew.next(deadline)?;
            begun.extend(self.note(node, &report));
        }
        Ok(begun)
    }

    fn is_spread(&self, names: u32) -> bool {
        let nodes = self.crew.nodes();
        let count = |node| self.leaders.values().filter(|leader| **leader == node).count();
        let counts: Vec<usize> = nodes.iter().map(|node| count(*node)).collect();
        let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
        let all = usize::try_from(names).unwrap_or(usize::MAX);
        self.leaders.len() == all && most.zip(least).is_some_and(|(most, least)| most - least <= 1)
    }

    /// Takes note of the reports so far.
    fn catch_up(&mut self) -> Result<(), Failure> {
        while let Some((node, report)) = self.crew.next_until(Instant::now())? {
            self.note(node, &report);
        }
        Ok(())
    }

    fn note(&mut self, node: u32, report: &Report) -> Option<Begun> {
        let &Report::Leads { name, begins, at } = report else { return None };
        if !begins {
            if self.leaders.get(&name) == Some(&node) {
                self.leaders.remove(&name);
            }
            self.ended.insert(name, (node, at));
            return None;
        }
        self.leaders.insert(name, node);
        let (from, ended_at) = self.ended.remove(&name)?;
        let gap_ms = at.saturating_sub(ended_at) as f64 / 1e6;
        Some(Begun { from, to: node, at, gap_ms })
    }
}
