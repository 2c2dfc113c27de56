//! `quorate bench failover`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::crew::Crew;
use super::member::{Order, Report, now};
use super::{Common, PATIENCE, quantile, spread};
use crate::Failure;

/// Lose a member again and again, and take how long it takes until all others have a ring without it, and once it is back, all one
/// with it
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
    /// How long a whole ring stands before the next loss, in seconds. A host says only about once a second that no process listens
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
    /// Its host is cut off: nothing comes from it any more, and no host says why
    Cut,
}

/// How long a member stays cut off once the others have a ring without it.
const ALONE: Duration = Duration::from_secs(2);

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
    /// From the start of the lost member, or the end of the cut, to one ring of all; 0 under load, where all start anew.
    back_p50_ms: f64,
    back_max_ms: f64,
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
    let (mut took, mut back) = (Vec::new(), Vec::new());
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
            if args.how == How::Cut {
                crew.ground().plug(node, true)?;
            }
            crew.start_all(n, PATIENCE)?;
        } else {
            back.push(bring_back(&mut crew, node, args.how)?);
        }
    }
    took.sort_by(f64::total_cmp);
    back.sort_by(f64::total_cmp);
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
        back_p50_ms: quantile(&back, 500),
        back_max_ms: quantile(&back, 1000),
        formed_ms: formed.as_secs_f64() * 1e3,
    };
    args.common.print(&measured, || {
        format!(
            "{n} members ({}), {} tries, {} messages/s meanwhile; one ring {:.0} ms after a start of all at once\n\
             all others had a ring without it after {}\
             one ring with it again {:.1} ms after its return at the median, {:.1} at most\n",
            crew.ground().name(),
            took.len(),
            args.load,
            measured.formed_ms,
            spread(&took, &[500, 900], "ms"),
            measured.back_p50_ms,
            measured.back_max_ms,
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
    let took = wait_for(crew, &survivors, at)?;
    if let Some(left) = left {
        left();
    }
    Ok(took)
}

/// Brings it back. How long it took until the last of all was in a ring of all, in milliseconds.
fn bring_back(crew: &mut Crew, node: u32, how: How) -> Result<f64, Failure> {
    if how == How::Cut {
        // It has a ring of its own by then, and two rings meet.
        std::thread::sleep(ALONE);
    }
    let at = now();
    match how {
        How::Cut => crew.ground().plug(node, true)?,
        How::Kill | How::Leave => crew.start(node)?,
    }
    let all = crew.nodes();
    let took = wait_for(crew, &all, at)?;
    crew.settle(PATIENCE)?;
    Ok(took)
}

/// Until each of these is in a ring of them alone: how long after `since` the last was, in milliseconds.
fn wait_for(crew: &mut Crew, wanted: &BTreeSet<u32>, since: u64) -> Result<f64, Failure> {
    let (mut there, mut last) = (BTreeSet::new(), since);
    let deadline = Instant::now() + PATIENCE;
    while there != *wanted {
        if let (node, Report::Ring { at, members }) = crew.next(deadline)?
            && wanted.contains(&node)
        {
            if members == *wanted {
                there.insert(node);
                last = last.max(at);
            } else {
                there.remove(&node);
            }
        }
    }
    Ok((last - since) as f64 / 1e6)
}
