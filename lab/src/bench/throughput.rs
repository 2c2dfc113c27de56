//! `quorate-lab bench throughput`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::crew::Crew;
use super::member::{Done, Load, MIN_SIZE, now};
use super::{Common, PATIENCE};
use crate::Failure;

/// Send as fast as the ring accepts messages, and measure what every member delivers
#[derive(Debug, clap::Args)]
pub(crate) struct ThroughputArgs {
    #[command(flatten)]
    common: Common,
    /// Number of members
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=250))]
    nodes: u32,
    /// Size of a message, in bytes
    #[arg(long, default_value_t = 1350, value_parser = clap::value_parser!(u64).range(MIN_SIZE as u64..=1 << 20))]
    size: u64,
    /// Number of members that send, or `all`
    #[arg(long, default_value = "all")]
    senders: Senders,
    /// Seconds of sending in each run
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Number of runs. The median is printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Use safe delivery instead of agreed delivery
    #[arg(long)]
    safe: bool,
}

#[derive(Clone, Copy, Debug)]
enum Senders {
    All,
    Some(u32),
}

impl std::str::FromStr for Senders {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(count)) if count > 0 => Ok(Self::Some(count)),
            _ => Err("expected a number of at least 1, or `all`".to_owned()),
        }
    }
}

pub(super) const OUT_OF_ORDER: &str = "members delivered different messages, or in a different order: a bug";

/// The measurements of a run. Rates are those of the slowest receiver, from the first message sent
/// to the last one delivered.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    program: &'static str,
    ground: &'static str,
    n: u32,
    size: u64,
    senders: usize,
    safe: bool,
    seconds: f64,
    msgs_s: f64,
    #[serde(rename = "MB_s")]
    mb_s: f64,
    /// Whether all members delivered the same messages in the same order.
    order_ok: bool,
    messages: u64,
    /// Processors used by one member, on average.
    cpu_per_node: f64,
    /// Processor time of the whole machine for each message at each member, in microseconds.
    machine_us_per_delivery: f64,
    /// Processors of this machine that were busy.
    machine_busy_cores: f64,
    rotations_s: f64,
    retransmits: u64,
    /// The number of false failure reports. Every member stays up during a run.
    accusations: u64,
    /// The number of times that a member gave up its ring.
    gathers: u64,
}

pub(super) fn run(args: &ThroughputArgs) -> Result<ExitCode, Failure> {
    let (mut crew, _) = args.common.ring(args.nodes)?;
    let nodes = args.nodes;
    let senders = match args.senders {
        Senders::All => nodes,
        Senders::Some(senders) if senders <= nodes => senders,
        Senders::Some(_) => return Err(Failure::new(format!("only {nodes} members can send: see --nodes"))),
    };
    let mut runs = Vec::new();
    for run in 1..=args.runs {
        let at = now() + 200_000_000;
        let load = Load {
            run,
            at,
            senders: (1..=senders).collect(),
            size: args.size as usize,
            seconds: args.seconds,
            rate: None,
            safe: args.safe,
        };
        runs.push(measure(&mut crew, args, &load)?);
    }
    runs.sort_by(|one, other| one.msgs_s.total_cmp(&other.msgs_s));
    let all_in_order = runs.iter().all(|run| run.order_ok);
    let mut middle = runs.swap_remove(runs.len() / 2);
    middle.order_ok = all_in_order;
    let code = args.common.print(&middle, || table(&middle))?;
    if !middle.order_ok {
        return Err(Failure::new(OUT_OF_ORDER));
    }
    Ok(code)
}

fn measure(crew: &mut Crew, args: &ThroughputArgs, load: &Load) -> Result<Measured, Failure> {
    crew.begin(load)?;
    let busy = Busy::now();
    let deadline = Instant::now() + Duration::from_secs_f64(args.seconds) + PATIENCE;
    let done = crew.done(deadline)?;
    let busy = busy.until_now();
    let lasted = |done: &Done| (done.last.saturating_sub(load.at)) as f64 / 1e9;
    let rate = |of: fn(&Done) -> u64| {
        done.values().map(|done| of(done) as f64 / lasted(done)).min_by(f64::total_cmp).unwrap_or_default()
    };
    let wall = done.values().map(lasted).max_by(f64::total_cmp).unwrap_or_default();
    let n = done.len() as f64;
    let deliveries: u64 = done.values().map(|done| done.delivered).sum();
    let first = done.values().next();
    Ok(Measured {
        program: "quorate",
        ground: crew.ground().name(),
        n: args.nodes,
        size: args.size,
        senders: load.senders.len(),
        safe: load.safe,
        seconds: args.seconds,
        msgs_s: rate(|done| done.delivered).round(),
        mb_s: (rate(|done| done.bytes) / 1e4).round() / 100.0,
        order_ok: in_one_order(&done),
        messages: first.map_or(0, |first| first.delivered),
        cpu_per_node: done.values().map(|done| done.cpu).sum::<f64>() / n / wall,
        machine_us_per_delivery: busy * 1e6 / deliveries.max(1) as f64,
        machine_busy_cores: busy / wall,
        rotations_s: (first.map_or(0, |first| first.tokens) as f64 / wall).round(),
        retransmits: done.values().map(|done| done.retransmits).sum(),
        accusations: done.values().map(|done| done.accusations).sum(),
        gathers: done.values().map(|done| done.gathers).sum(),
    })
}

/// Returns `true` if all members delivered the same messages in the same order.
pub(super) fn in_one_order(done: &BTreeMap<u32, Done>) -> bool {
    let mut orders = done.values().map(|done| (done.delivered, done.hash));
    let first = orders.next();
    first.is_some() && orders.all(|order| Some(order) == first)
}

/// The machine's busy time, in seconds of one processor.
struct Busy(f64);

impl Busy {
    fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        // user, nice, system, idle, iowait, irq, softirq: hundredths of seconds.
        let spent = fields.take(7).enumerate().filter(|(field, _)| ![3, 4].contains(field));
        Self(spent.filter_map(|(_, ticks)| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0)
    }

    fn until_now(&self) -> f64 {
        Self::now().0 - self.0
    }
}

fn table(measured: &Measured) -> String {
    let Measured { n, size, senders, ground, .. } = measured;
    let kind = if measured.safe { "safe" } else { "agreed" };
    let mut text =
        format!("{n} members ({ground}), {senders} sending, {size} bytes a message, {kind} delivery\n");
    let mut line = |value: String, what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{value:>12}  {what}");
    };
    line(format!("{:.0}", measured.msgs_s), "messages/s at the slowest receiver");
    line(format!("{:.1}", measured.mb_s), "MB/s");
    line(format!("{:.2}", measured.cpu_per_node), "processors a member");
    line(
        format!("{:.2}", measured.machine_us_per_delivery),
        "us of the machine's processors for each delivery",
    );
    line(format!("{:.0}", measured.rotations_s), "rotations of the token/s");
    line(measured.retransmits.to_string(), "frames sent again");
    line(measured.accusations.to_string(), "false failure reports");
    line(measured.gathers.to_string(), "times a member gave up its ring");
    line(if measured.order_ok { "yes" } else { "NO" }.to_owned(), "the same order everywhere");
    text
}
