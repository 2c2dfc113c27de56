//! `quorate-lab bench scale`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::crew::Crew;
use super::failover::{How, lose};
use super::member::{Load, MIN_SIZE, Order, Report, Usage, now};
use super::throughput::{OUT_OF_ORDER, in_one_order};
use super::{Common, PATIENCE, quantile};
use crate::{Failure, output};

/// The time within which members that start at once must form one ring to be counted.
const BOUND: Duration = Duration::from_secs(10);
/// The time that an idle ring gets before its token is held.
const REST: Duration = Duration::from_secs(1);
/// The time that a ring stands before a member is killed. Hosts limit their reports of closed
/// ports, see `failover`.
const PAUSE: Duration = Duration::from_secs(2);

/// Measure how rings of growing size form, idle, work under a load, and lose members
#[derive(Debug, clap::Args)]
pub(crate) struct ScaleArgs {
    #[command(flatten)]
    common: Common,
    /// Numbers of members, measured one after another
    #[arg(long, default_values_t = [3, 8, 16, 32], value_delimiter = ',', value_parser = clap::value_parser!(u32).range(3..=250))]
    nodes: Vec<u32>,
    /// How often all members are started at once, one is killed, and one leaves
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// How often all members are started at once [default: the value of --tries]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    starts: Option<u32>,
    /// Load: messages per second, sent by all members together
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Size of a message, in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(MIN_SIZE as u64..=1 << 20))]
    size: u64,
    /// Seconds to watch the idle ring [default: the value of --seconds]
    #[arg(long)]
    idle: Option<f64>,
    /// Seconds of load
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Measured {
    program: &'static str,
    ground: &'static str,
    tries: u32,
    starts: u32,
    rate: f64,
    size: u64,
    seconds: f64,
    rings: Vec<Ring>,
}

/// The measurements of a ring of one size. Processor times are means over all members.
#[derive(Debug, Serialize)]
struct Ring {
    n: u32,
    /// The number of simultaneous starts that ended in one ring in time.
    formed: usize,
    /// The time that those starts took.
    form_p50_ms: f64,
    form_max_ms: f64,
    idle_cpu: f64,
    idle_rotations_s: f64,
    /// The mean over all members.
    resident_mib: f64,
    /// The time from the sending of a message to its delivery at each member.
    load_p50_us: f64,
    load_p99_us: f64,
    load_cpu: f64,
    load_rotations_s: f64,
    order_ok: bool,
    /// The number of times that a member gave up its ring under load.
    gathers: u64,
    kill_p50_ms: f64,
    kill_max_ms: f64,
    leave_p50_ms: f64,
    leave_max_ms: f64,
}

pub(super) fn run(args: &ScaleArgs) -> Result<ExitCode, Failure> {
    let mut measured = Measured {
        program: "quorate",
        ground: "",
        tries: args.tries,
        starts: args.starts.unwrap_or(args.tries),
        rate: args.rate,
        size: args.size,
        seconds: args.seconds,
        rings: Vec::new(),
    };
    for &n in &args.nodes {
        output::say(format_args!("{n} members: making hosts"));
        let mut crew = args.common.crew(n)?;
        measured.ground = crew.ground().name();
        measured.rings.push(measure(&mut crew, n, measured.starts, args)?);
    }
    let code = args.common.print(&measured, || table(&measured))?;
    if !measured.rings.iter().all(|ring| ring.order_ok) {
        return Err(Failure::new(OUT_OF_ORDER));
    }
    Ok(code)
}

fn measure(crew: &mut Crew, n: u32, starts: u32, args: &ScaleArgs) -> Result<Ring, Failure> {
    let mut formed = Vec::new();
    for start in 1..=starts {
        match start_at_once(crew, n)? {
            Some(took) => {
                output::say(format_args!("{n} members: start {start} of {starts}: {took:.0} ms"));
                formed.push(took);
            }
            None => {
                output::say(format_args!("{n} members: start {start} of {starts}: no ring in {BOUND:?}"));
            }
        }
        if start < starts {
            stop(crew)?;
        }
    }
    formed.sort_by(f64::total_cmp);
    crew.settle(PATIENCE)?;

    output::say(format_args!("{n} members: idle"));
    std::thread::sleep(REST);
    let before = usage(crew)?;
    std::thread::sleep(Duration::from_secs_f64(args.idle.unwrap_or(args.seconds)));
    let after = usage(crew)?;
    let idle = |of: fn(&Usage) -> f64| {
        let rate = |(after, before): (&Usage, &Usage)| {
            (of(after) - of(before)) / ((after.at - before.at) as f64 / 1e9)
        };
        after.values().zip(before.values()).map(rate).sum::<f64>() / f64::from(n)
    };
    let resident: u64 = after.values().map(|usage| usage.resident).sum();

    output::say(format_args!("{n} members: {} messages/s", args.rate));
    let load = Load {
        run: 1,
        at: now() + 200_000_000,
        senders: crew.nodes(),
        size: args.size as usize,
        seconds: args.seconds,
        rate: Some(args.rate / f64::from(n)),
        safe: false,
    };
    crew.begin(&load)?;
    let done = crew.done(Instant::now() + Duration::from_secs_f64(args.seconds) + PATIENCE)?;
    let lasted = (now() - load.at) as f64 / 1e9;
    let mut took: Vec<f64> =
        done.values().flat_map(|done| &done.took).map(|&took| took as f64 / 1e3).collect();
    took.sort_by(f64::total_cmp);
    let mean =
        |of: fn(&super::member::Done) -> f64| done.values().map(of).sum::<f64>() / f64::from(n) / lasted;

    let mut lost = |how, pause| -> Result<Vec<f64>, Failure> {
        let mut took = Vec::new();
        for attempt in 0..args.tries {
            std::thread::sleep(pause);
            let node = attempt % n + 1;
            took.push(lose(crew, node, how)?);
            output::say(format_args!(
                "{n} members: {how:?} {} of {}: {:.1} ms",
                attempt + 1,
                args.tries,
                took[attempt as usize]
            ));
            crew.start(node)?;
            crew.settle(PATIENCE)?;
        }
        took.sort_by(f64::total_cmp);
        Ok(took)
    };
    let killed = lost(How::Kill, PAUSE)?;
    let left = lost(How::Leave, Duration::ZERO)?;
    Ok(Ring {
        n,
        formed: formed.len(),
        form_p50_ms: quantile(&formed, 500),
        form_max_ms: quantile(&formed, 1000),
        idle_cpu: idle(|usage| usage.cpu),
        idle_rotations_s: idle(|usage| usage.tokens as f64),
        resident_mib: resident as f64 / 1024.0 / f64::from(n),
        load_p50_us: quantile(&took, 500),
        load_p99_us: quantile(&took, 990),
        load_cpu: mean(|done| done.cpu),
        load_rotations_s: mean(|done| done.tokens as f64),
        order_ok: in_one_order(&done),
        gathers: done.values().map(|done| done.gathers).sum(),
        kill_p50_ms: quantile(&killed, 500),
        kill_max_ms: quantile(&killed, 1000),
        leave_p50_ms: quantile(&left, 500),
        leave_max_ms: quantile(&left, 1000),
    })
}

/// Starts all members at once. Returns the milliseconds until the last of them was in one ring of
/// all; `None` if that took too long.
fn start_at_once(crew: &mut Crew, n: u32) -> Result<Option<f64>, Failure> {
    let (began, deadline) = (now(), Instant::now() + BOUND);
    for node in 1..=n {
        crew.start(node)?;
    }
    let all = crew.nodes();
    let mut there = BTreeMap::new();
    while there.len() < all.len() {
        match crew.next_until(deadline)? {
            Some((node, Report::Ring { at, members })) if members == all => drop(there.insert(node, at)),
            Some((node, Report::Ring { .. })) => drop(there.remove(&node)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
    let last = there.into_values().max().unwrap_or(began);
    Ok(Some((last - began) as f64 / 1e6))
}

fn stop(crew: &mut Crew) -> Result<(), Failure> {
    for node in crew.nodes() {
        crew.kill(node)?;
    }
    Ok(())
}

/// Returns the resources that each member has used so far.
fn usage(crew: &mut Crew) -> Result<BTreeMap<u32, Usage>, Failure> {
    for node in crew.nodes() {
        crew.order(node, &Order::Usage)?;
    }
    let deadline = Instant::now() + PATIENCE;
    let mut used = BTreeMap::new();
    while used.keys().copied().collect::<BTreeSet<u32>>() != crew.nodes() {
        if let (node, Report::Usage(usage)) = crew.next(deadline)? {
            used.insert(node, usage);
        }
    }
    Ok(used)
}

fn table(measured: &Measured) -> String {
    let Measured { ground, tries, starts, rate, size, .. } = measured;
    let mut text = format!(
        "Members on one machine ({ground}), {tries} tries; load: {rate} messages/s of {size} bytes; median/worst\n\
         {:>7} {:>8} {:>13} {:>6} {:>8} {:>5} {:>15} {:>6} {:>13} {:>13} {:>6} {:>7}\n\
         {:>7} {:>8} {:>13} {:>6} {:>8} {:>5} {:>15} {:>6} {:>13} {:>13} {:>6} {:>7}\n",
        "members",
        "one ring",
        "after",
        "idle",
        "idle",
        "each",
        "load p50/p99",
        "load",
        "kill -9",
        "leave",
        "one",
        "rings",
        "",
        "of starts",
        "ms",
        "cpu",
        "rot/s",
        "MiB",
        "us",
        "cpu",
        "ms",
        "ms",
        "order",
        "lost"
    );
    let pair = |one: f64, other: f64| format!("{one:.1}/{other:.1}");
    for ring in &measured.rings {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>7} {:>8} {:>13} {:>6.3} {:>8.1} {:>5.1} {:>15} {:>6.3} {:>13} {:>13} {:>6} {:>7}",
            ring.n,
            format!("{}/{starts}", ring.formed),
            format!("{:.0}/{:.0}", ring.form_p50_ms, ring.form_max_ms),
            ring.idle_cpu,
            ring.idle_rotations_s,
            ring.resident_mib,
            format!("{:.0}/{:.0}", ring.load_p50_us, ring.load_p99_us),
            ring.load_cpu,
            pair(ring.kill_p50_ms, ring.kill_max_ms),
            pair(ring.leave_p50_ms, ring.leave_max_ms),
            if ring.order_ok { "yes" } else { "NO" },
            ring.gathers,
        );
    }
    text
}
