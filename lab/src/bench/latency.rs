//! `quorate-lab bench latency`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::member::{MIN_SIZE, Order, Report};
use super::{Common, PATIENCE, quantile, spread};
use crate::Failure;

/// Measure how long a message takes to come back to its sender, one message at a time
#[derive(Debug, clap::Args)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    common: Common,
    /// Number of members
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=250))]
    nodes: u32,
    /// Size of a message, in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(MIN_SIZE as u64..=1 << 20))]
    size: u64,
    /// Number of messages
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Pause between two messages, in milliseconds. The token is held meanwhile. By default there
    /// is no pause
    #[arg(long, default_value_t = 0.0)]
    pause: f64,
    /// The member that sends. Member 1 holds the token of an idle ring
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    from: u32,
    /// Background load: 1350-byte messages per second, sent by all other members together. By
    /// default there is none
    #[arg(long, default_value_t = 0.0)]
    load: f64,
    /// Use safe delivery instead of agreed delivery
    #[arg(long)]
    safe: bool,
}

/// The measured latencies, in microseconds.
#[derive(Debug, Serialize)]
struct Measured {
    program: &'static str,
    ground: &'static str,
    n: u32,
    from: u32,
    size: u64,
    count: usize,
    safe: bool,
    load_msgs_s: f64,
    /// The mean time of a rotation, including times when the token is held.
    rotation_us: f64,
    lat_p50_us: f64,
    lat_p90_us: f64,
    lat_p99_us: f64,
    lat_p999_us: f64,
    lat_max_us: f64,
}

pub(super) fn run(args: &LatencyArgs) -> Result<ExitCode, Failure> {
    if args.from > args.nodes {
        return Err(Failure::new(format!("there is no member {}: see --nodes", args.from)));
    }
    if args.load > 0.0 && args.nodes < 2 {
        return Err(Failure::new("with --load there have to be other members: see --nodes"));
    }
    let (mut crew, _) = args.common.ring(args.nodes)?;
    let (n, from) = (args.nodes, args.from);
    if args.load > 0.0 {
        let rate = args.load / f64::from(n - 1);
        for node in (1..=n).filter(|node| *node != from) {
            crew.order(node, &Order::Pace { size: 1350, rate })?;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let pause = Duration::from_secs_f64(args.pause / 1e3);
    let order = Order::Ping {
        size: args.size as usize,
        count: args.count as usize,
        pause_us: pause.as_micros() as u64,
        safe: args.safe,
    };
    crew.order(from, &order)?;
    let deadline = Instant::now() + PATIENCE + (pause + Duration::from_millis(20)) * args.count as u32;
    let (mut took, rotation) = loop {
        if let Report::Pings { took, rotation } = crew.next(deadline)?.1 {
            let took: Vec<f64> = took.into_iter().map(|took| took as f64 / 1e3).collect();
            break (took, rotation as f64 / 1e3);
        }
    };
    took.sort_by(f64::total_cmp);
    let [p50, p90, p99, p999, max] = [500, 900, 990, 999, 1000].map(|part| quantile(&took, part));
    let measured = Measured {
        program: "quorate",
        ground: crew.ground().name(),
        n,
        from,
        size: args.size,
        count: took.len(),
        safe: args.safe,
        load_msgs_s: args.load,
        rotation_us: rotation,
        lat_p50_us: p50,
        lat_p90_us: p90,
        lat_p99_us: p99,
        lat_p999_us: p999,
        lat_max_us: max,
    };
    args.common.print(&measured, || {
        let ground = crew.ground().name();
        format!(
            "{n} members ({ground}), {} messages of {} bytes, {} messages/s of others meanwhile\n\
             the token went round in {rotation:.0} us, rests counted in\n\
             {}",
            took.len(),
            args.size,
            args.load,
            spread(&took, &[500, 900, 990, 999], "us")
        )
    })
}
