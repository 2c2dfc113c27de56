//! `quorate-lab bench failover`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::crew::Crew;
use super::member::{Order, Report, now};
use super::{Common, PATIENCE, quantile, spread};
use crate::Failure;

/// Measure how long the other members take to form a ring after one is lost, and how long the lost
/// one takes to rejoin
#[derive(Debug, clap::Args)]
pub(crate) struct FailoverArgs {
    #[command(flatten)]
    common: Common,
    /// Number of members
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=250))]
    nodes: u32,
    /// Number of losses to measure
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// How the member is lost
    #[arg(long, value_enum, default_value_t)]
    how: How,
    /// Seconds between a complete ring and the next loss. A host reports closed ports about once a
    /// second, after a short burst (sysctl net.ipv4.icmp_ratelimit). With a shorter pause, timeouts
    /// detect the loss instead
    #[arg(long, default_value_t = 2.0)]
    pause: f64,
    /// Background load: 1350-byte messages per second, sent by all members together. By default
    /// there is none
    #[arg(long, default_value_t = 0.0)]
    load: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum How {
    /// Kill its process, as kill -9 does
    #[default]
    Kill,
    /// Ask it to leave
    Leave,
    /// Cut its host off the network. Nothing arrives from it, and no host reports a closed port
    Cut,
}

/// The time that a cut-off member stays alone after the others have formed a ring without it.
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
    /// The median time from the start of the lost member, or from the end of the cut, to one ring
    /// of all members. It is 0 under load, where all members are restarted.
    back_p50_ms: f64,
    back_max_ms: f64,
    /// The time from the simultaneous start of all members to one ring.
    formed_ms: f64,
}

pub(super) fn run(args: &FailoverArgs) -> Result<ExitCode, Failure> {
    let n = args.nodes;
    let (mut crew, formed) = args.common.ring(args.nodes)?;
    if args.how == How::Cut && crew.ground().name() == "loopback" {
        return Err(Failure::new(
            "cannot cut off a member on loopback; run this as root, without --loopback",
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
            // Senders never stop by themselves, so all members are restarted.
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
            "{n} members ({}), {} tries, load {} messages/s; first ring {:.0} ms after all started at once\n\
             ring of the other members, {}\
             ring of all members {:.1} ms after the return at the median, {:.1} at most\n",
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

/// Takes a member out of the ring. Returns the milliseconds until each other member was in a ring
/// of exactly the other members.
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

/// Brings a lost member back. Returns the milliseconds until each member was in a ring of all.
fn bring_back(crew: &mut Crew, node: u32, how: How) -> Result<f64, Failure> {
    if how == How::Cut {
        // During this time, the member forms a ring of its own, so two rings merge.
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

/// Waits until each wanted member is in a ring of exactly the wanted members. Returns the
/// milliseconds from `since` until the last one was.
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
