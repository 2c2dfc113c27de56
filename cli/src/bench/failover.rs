//! `quorate bench failover`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::crew::Crew;
use super::member::{Order, Report, now};
use super::{Common, PATIENCE, quantile, spread};
use crate::Failure;

/// Lose a member again and again, and take how long it takes until all others have a ring without it
#[derive(Debug, clap::Args)]
pub(crate) struct FailoverArgs {
    #[command(flatten)]
    common: Common,
    /// How many members
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=250))]
    nodes: u32,
    /// How many times
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// What happens to the member
    #[arg(long, value_enum, default_value_t)]
    how: How,
    /// How long a whole ring stands before the next loss, in seconds. A host says only about once a second that nobody listens
    /// (sysctl net.ipv4.icmp_ratelimit), after a few at once: lost more often, members are missed by timeouts
    #[arg(long, default_value_t = 2.0)]
    pause: f64,
    /// How many messages all members together send a second meanwhile, of 1350 bytes
    #[arg(long, default_value_t = 0.0)]
    load: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum How {
    /// Its process is killed, as by kill -9
    #[default]
    Kill,
    /// It is asked to leave
    Leave,
    /// Its host is cut off: nothing comes from it any more, and nobody says why
    Cut,
}

#[derive(Debug, Serialize)]
struct Measured {
    program: &'static str,
    ground: &'static str,
    n: u32,
    how: How,
    tries: usize,
    load_msgs_s: f64,
    p50_ms: f64,
    p90_ms: f64,
    max_ms: f64,
    /// From the start of all members at once to one ring.
    formed_ms: f64,
}

pub(super) fn run(args: &FailoverArgs) -> Result<ExitCode, Failure> {
    let n = args.nodes;
    let (mut crew, formed) = args.common.ring(args.nodes)?;
    if args.how == How::Cut && crew.ground().name() == "loopback" {
        return Err(Failure::new(
            "only hosts of their own can be cut off: run it as root, without --loopback",
        ));
    }
    let mut took = Vec::new();
    for attempt in 0..args.tries {
        std::thread::sleep(Duration::from_secs_f64(args.pause));
        if args.load > 0.0 {
            for node in crew.nodes() {
                crew.order(node, &Order::Pace { size: 1350, rate: args.load / f64::from(n) })?;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        let node = attempt % n + 1;
        took.push(lose(&mut crew, node, args.how)?);
        if args.load > 0.0 {
            // Those that send go on to: all start anew.
            for node in crew.nodes() {
                crew.kill(node)?;
            }
            crew.start_all(n, PATIENCE)?;
        } else {
            crew.start(node)?;
            crew.settle(PATIENCE)?;
        }
    }
    took.sort_by(f64::total_cmp);
    let [p50, p90, max] = [500, 900, 1000].map(|part| quantile(&took, part));
    let measured = Measured {
        program: "quorate",
        ground: crew.ground().name(),
        n,
        how: args.how,
        tries: took.len(),
        load_msgs_s: args.load,
        p50_ms: p50,
        p90_ms: p90,
        max_ms: max,
        formed_ms: formed.as_secs_f64() * 1e3,
    };
    args.common.print(&measured, || {
        format!(
            "{n} members ({}), {} tries, {} messages/s meanwhile; one ring {:.0} ms after a start of all at once\n\
             all others had a ring without it after {}",
            crew.ground().name(),
            took.len(),
            args.load,
            measured.formed_ms,
            spread(&took, &[500, 900], "ms")
        )
    })
}

/// Loses a member. How long it took until the last of the others was in a ring of the others, in milliseconds.
pub(super) fn lose(crew: &mut Crew, node: u32, how: How) -> Result<f64, Failure> {
    let (at, left): (u64, Option<Box<dyn FnOnce()>>) = match how {
        How::Kill => (crew.kill(node)?, None),
        How::Leave => {
            let (at, left) = crew.leave(node)?;
            (at, Some(Box::new(left)))
        }
        How::Cut => {
            let at = now();
            crew.ground().plug(node, false)?;
            (at, None)
        }
    };
    let survivors: BTreeSet<u32> = crew.nodes().into_iter().filter(|other| *other != node).collect();
    let mut there = BTreeSet::new();
    let mut last = at;
    let deadline = Instant::now() + PATIENCE;
    while there != survivors {
        match crew.next(deadline)? {
            (other, Report::Ring { at, members }) if other != node => {
                if members == survivors {
                    there.insert(other);
                    last = last.max(at);
                } else {
                    there.remove(&other);
                }
            }
            _ => {}
        }
    }
    if let Some(left) = left {
        left();
    }
    if how == How::Cut {
        // It starts anew, as those do that are killed.
        crew.kill(node)?;
        crew.ground().plug(node, true)?;
    }
    Ok((last - at) as f64 / 1e6)
}
