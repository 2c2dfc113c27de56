//! A measured member, which is a process of its own. It reads orders from stdin and writes reports
//! to stdout, one JSON object per line.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use quorate::config::{self, Overrides};
use quorate::leaders::{Feed, Leaders};
use quorate::{Dc, Delivery, Event, Events, Group, Guarantee, MulticastError, Node};
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tracing_subscriber::EnvFilter;

use crate::Failure;

/// The size of the smallest message, which is its header.
pub(crate) const MIN_SIZE: usize = 24;
/// The unit in which message buffers are allocated.
const BUFFER: usize = 1 << 16;

#[derive(Debug, clap::Args)]
pub(crate) struct MemberArgs {
    #[arg(long)]
    config: PathBuf,
    #[arg(long)]
    name: String,
    #[arg(long)]
    state_dir: PathBuf,
    /// The number of names that the member stands for
    #[arg(long, default_value_t = 0)]
    names: u32,
}

/// An order for a member.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "lowercase")]
pub(crate) enum Order {
    /// Take part in a run. The member counts deliveries, and sends if it is among the senders.
    Load(Load),
    /// Send messages one at a time, each when the last has come back.
    Ping { size: usize, count: usize, pause_us: u64, safe: bool },
    /// Send `rate` messages per second until the process ends.
    Pace { size: usize, rate: f64 },
    /// Report the resources used so far.
    Usage,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    /// The number of the run.
    pub(crate) run: u32,
    /// The start of the run, on the clock of [`now`].
    pub(crate) at: u64,
    pub(crate) senders: BTreeSet<u32>,
    pub(crate) size: usize,
    pub(crate) seconds: f64,
    /// Messages per second and sender; `None` to send as fast as the ring accepts them.
    pub(crate) rate: Option<f64>,
    pub(crate) safe: bool,
}

/// A report of a member. Its times are on the clock of [`now`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "lowercase")]
pub(crate) enum Report {
    /// The member is in a ring.
    Ring {
        at: u64,
        members: BTreeSet<u32>,
    },
    /// The member's ring is settled, with its quorum and DC known.
    Settled {
        members: usize,
    },
    /// The run is over.
    Done(Done),
    /// The time that each message took to come back, and the mean time of a rotation meanwhile, in
    /// nanoseconds.
    Pings {
        took: Vec<u64>,
        rotation: u64,
    },
    Usage(Usage),
    /// The member acts for a name for the first time under a term, or it acted for the last time.
    Leads {
        name: u32,
        begins: bool,
        at: u64,
    },
    /// The member cannot continue.
    Failed {
        why: String,
    },
}

/// The resources that a member has used since it started.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) at: u64,
    /// Processor time, in seconds.
    pub(crate) cpu: f64,
    /// The number of visits of the token.
    pub(crate) tokens: u64,
    /// Current resident memory, in KiB; 0 if the system does not report it.
    pub(crate) resident: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) delivered: u64,
    pub(crate) bytes: u64,
    /// The time of the last delivery.
    pub(crate) last: u64,
    /// A hash of senders and message numbers, in the order of delivery.
    pub(crate) hash: u64,
    /// Processor time, in seconds.
    pub(crate) cpu: f64,
    /// The number of frames sent again.
    pub(crate) retransmits: u64,
    /// The number of visits of the token.
    pub(crate) tokens: u64,
    /// The number of times that this member called another one failed.
    pub(crate) accusations: u64,
    /// The number of times that this member gave up its ring.
    pub(crate) gathers: u64,
    /// The nanoseconds from the sending of each message to its delivery here, for a load with a
    /// rate.
    pub(crate) took: Vec<u64>,
}

/// Returns the nanoseconds on the monotonic clock, which all processes of this host share.
pub(crate) fn now() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

async fn sleep_until(at: u64) {
    tokio::time::sleep(Duration::from_nanos(at.saturating_sub(now()))).await;
}

pub(crate) fn run(args: MemberArgs) -> Result<ExitCode, Failure> {
    let filter = EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info,quorate_election=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .init();
    let mut overrides = Overrides::default();
    overrides.name = Some(args.name);
    let host = config::this_host().map_err(|error| Failure::new(error.to_string()))?;
    let loaded =
        config::load(&args.config, &overrides, &host).map_err(|error| Failure::new(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let me = loaded.config.node.get();
        let started = Node::builder(loaded.config).state_dir(args.state_dir).start().await;
        let (node, events, dc) = started.map_err(|error| Failure::new(error.to_string()))?;
        let feed = (args.names > 0).then(|| lead(&node, &dc, args.names)).transpose()?;
        let group = Group::new("bench").map_err(|error| Failure::new(error.to_string()))?;
        let member = Member { me, node, group, feed, run: None, pinging: None };
        // A separate task: tokio wakes the task of `block_on` through the kernel each time.
        let life = tokio::spawn(member.live(events));
        life.await.unwrap_or_else(|error| Err(Failure::new(error.to_string())))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Stands for names, and reports the first act and the last one of each tenure.
fn lead(node: &Node, dc: &Dc, names: u32) -> Result<Feed, Failure> {
    let group = Group::new("names").map_err(|error| Failure::new(error.to_string()))?;
    let (leaders, feed) = Leaders::attach(node.clone(), group, dc);
    for name in 0..names {
        let candidate = leaders.stand(&name.to_string()).map_err(|error| Failure::new(error.to_string()))?;
        tokio::spawn(async move {
            while let Ok(guard) = candidate.guard().await {
                let mut last = now();
                let _ = report(&Report::Leads { name, begins: true, at: last });
                while guard.check().is_ok() {
                    last = now();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let _ = report(&Report::Leads { name, begins: false, at: last });
            }
        });
    }
    Ok(feed)
}

struct Member {
    me: u32,
    node: Node,
    group: Group,
    /// The part that handles events for the names that the member stands for.
    feed: Option<Feed>,
    run: Option<Run>,
    /// The task that waits for its own message to come back.
    pinging: Option<tokio::sync::mpsc::UnboundedSender<u64>>,
}

/// A run, as one member sees it.
struct Run {
    load: Load,
    ended: BTreeSet<u32>,
    done: Done,
    cpu_before: u64,
}

impl Member {
    /// Runs until there are no more orders.
    async fn live(mut self, mut events: Events) -> Result<(), Failure> {
        let mut orders = BufReader::new(tokio::io::stdin()).lines();
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(event) => {
                        if let Some(feed) = &mut self.feed {
                            feed.handle(&event);
                        }
                        match &event {
                            Event::Deliver(delivery) if self.take(delivery) => self.report_done().await?,
                            Event::Deliver(_) => {}
                            _ => report_ring(&event)?,
                        }
                    }
                    None => return Err(Failure::new("the member has left")),
                },
                order = orders.next_line() => match order {
                    Ok(Some(order)) => {
                        let order = serde_json::from_str(&order).map_err(|e| Failure::new(e.to_string()))?;
                        self.obey(order).await;
                    }
                    _ => break,
                },
            }
        }
        drop(events);
        self.node.leave().await;
        Ok(())
    }

    async fn obey(&mut self, order: Order) {
        let (node, group) = (self.node.clone(), self.group.clone());
        match order {
            Order::Load(load) => {
                let stats = node.stats().await;
                let done = Done {
                    delivered: 0,
                    bytes: 0,
                    last: 0,
                    hash: 0,
                    cpu: 0.0,
                    retransmits: stats.retransmits,
                    tokens: stats.tokens,
                    accusations: stats.accusations,
                    gathers: stats.gathers,
                    took: Vec::new(),
                };
                if load.senders.contains(&self.me) {
                    tokio::spawn(send(node, group, load.clone()));
                }
                let cpu_before = nanoseconds(ClockId::ProcessCPUTime);
                self.run = Some(Run { load, ended: BTreeSet::new(), done, cpu_before });
            }
            Order::Ping { size, count, pause_us, safe } => {
                let (sender, mut back) = tokio::sync::mpsc::unbounded_channel();
                self.pinging = Some(sender);
                tokio::spawn(async move {
                    let (mut took, mut buffer) = (Vec::with_capacity(count), BytesMut::new());
                    let (started, tokens) = (now(), node.stats().await.tokens);
                    for n in 0..count as u64 {
                        let began = now();
                        let message = Message { run: 0, kind: Kind::Ping, number: n, sent_at: began };
                        let payload = message.payload(size, &mut buffer);
                        if !say(&node, &group, guarantee(safe), payload).await {
                            return;
                        }
                        while back.recv().await.is_some_and(|number| number != n) {}
                        took.push(now() - began);
                        if pause_us > 0 {
                            // Not tokio's timer: it fires when the token wakes this process, just
                            // too late for that visit.
                            let pause = move || std::thread::sleep(Duration::from_micros(pause_us));
                            let _ = tokio::task::spawn_blocking(pause).await;
                        }
                    }
                    let rotations = node.stats().await.tokens.saturating_sub(tokens);
                    let rotation = (now() - started).checked_div(rotations).unwrap_or_default();
                    let _ = report(&Report::Pings { took, rotation });
                });
            }
            Order::Pace { size, rate } => drop(tokio::spawn(pace(node, group, size, rate))),
            Order::Usage => {
                let tokens = node.stats().await.tokens;
                let cpu = nanoseconds(ClockId::ProcessCPUTime) as f64 / 1e9;
                let _ = report(&Report::Usage(Usage { at: now(), cpu, tokens, resident: resident() }));
            }
        }
    }

    /// Counts a message. Returns `true` if it completes the run.
    fn take(&mut self, delivery: &Delivery) -> bool {
        let Some(Message { run, kind, number, sent_at }) = Message::read(&delivery.payload) else {
            return false;
        };
        let from = delivery.from.get();
        if kind == Kind::Ping {
            if let Some(pinging) = &self.pinging {
                let _ = pinging.send(number);
            }
            return false;
        }
        let Some(current) = self.run.as_mut().filter(|current| current.load.run == run) else { return false };
        let done = &mut current.done;
        if kind == Kind::Load {
            done.delivered += 1;
            done.bytes += delivery.payload.len() as u64;
            if current.load.rate.is_some() {
                done.took.push(now().saturating_sub(sent_at));
            }
            done.hash = fold(done.hash, u64::from(from) << 40 ^ number);
            return false;
        }
        // A sender's messages come before its end marker.
        done.last = now();
        current.ended.insert(from);
        current.ended == current.load.senders
    }

    async fn report_done(&mut self) -> Result<(), Failure> {
        let Some(Run { mut done, cpu_before, .. }) = self.run.take() else { return Ok(()) };
        done.cpu = (nanoseconds(ClockId::ProcessCPUTime) - cpu_before) as f64 / 1e9;
        let stats = self.node.stats().await;
        done.retransmits = stats.retransmits - done.retransmits;
        done.tokens = stats.tokens - done.tokens;
        done.accusations = stats.accusations - done.accusations;
        done.gathers = stats.gathers - done.gathers;
        report(&Report::Done(done))
    }
}

/// Reports a change of the ring.
fn report_ring(event: &Event) -> Result<(), Failure> {
    match event {
        Event::Regular(regular) => {
            let members = regular.members.iter().map(|node| node.get()).collect();
            report(&Report::Ring { at: now(), members })
        }
        Event::Left(cause) => report(&Report::Failed { why: cause.to_string() }),
        Event::Status(status) if status.settled => {
            report(&Report::Settled { members: status.nodes.iter().filter(|node| node.online).count() })
        }
        _ => Ok(()),
    }
}

/// Adds a word to a hash (FNV-1a, a word at a time). The load generator on corosync does the same
/// work.
fn fold(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or_default()
}

fn report(report: &Report) -> Result<(), Failure> {
    let line = serde_json::to_string(report).map_err(|error| Failure::new(error.to_string()))?;
    crate::output::print(&format!("{line}\n"))
}

fn guarantee(safe: bool) -> Guarantee {
    if safe { Guarantee::Safe } else { Guarantee::Agreed }
}

/// Multicasts a message. Returns `false`, after a report, if that fails. It waits while the node's
/// events are unread, because another task takes them.
async fn say(node: &Node, group: &Group, guarantee: Guarantee, payload: Bytes) -> bool {
    loop {
        match node.multicast(group, guarantee, payload.clone()).await {
            Ok(()) => return true,
            Err(MulticastError::EventsUnread) => node.caught_up().await,
            Err(error) => {
                let _ = report(&Report::Failed { why: error.to_string() });
                return false;
            }
        }
    }
}

/// Sends as fast as the ring accepts messages, or at the rate of the load.
async fn send(node: Node, group: Group, load: Load) {
    let Load { run, at, size, seconds, rate, safe, .. } = load;
    sleep_until(at).await;
    let end = at + (seconds * 1e9) as u64;
    let guarantee = guarantee(safe);
    let (mut number, mut sent_at, mut buffer) = (0, now(), BytesMut::new());
    while sent_at < end {
        let message = Message { run, kind: Kind::Load, number, sent_at };
        if !say(&node, &group, guarantee, message.payload(size, &mut buffer)).await {
            return;
        }
        number += 1;
        if let Some(rate) = rate {
            sleep_until(end.min(at + (number as f64 / rate * 1e9) as u64)).await;
        }
        sent_at = now();
    }
    let message = Message { run, kind: Kind::End, number, sent_at };
    say(&node, &group, guarantee, message.payload(MIN_SIZE, &mut buffer)).await;
}

/// Sends `rate` messages per second.
async fn pace(node: Node, group: Group, size: usize, rate: f64) {
    let (began, mut buffer) = (now(), BytesMut::new());
    for number in 0.. {
        sleep_until(began + (number as f64 / rate * 1e9) as u64).await;
        let message = Message { run: 0, kind: Kind::Load, number, sent_at: now() };
        if !say(&node, &group, Guarantee::Agreed, message.payload(size, &mut buffer)).await {
            return;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Load = 0,
    /// The end marker: the sender has sent everything.
    End = 1,
    Ping = 2,
}

/// The header of a message.
#[derive(Clone, Copy, Debug)]
struct Message {
    run: u32,
    kind: Kind,
    number: u64,
    sent_at: u64,
}

impl Message {
    /// Writes the message into a buffer that messages share.
    fn payload(self, size: usize, buffer: &mut BytesMut) -> Bytes {
        let size = size.max(MIN_SIZE);
        if buffer.capacity() < size {
            buffer.reserve(size.max(BUFFER));
        }
        buffer.put_u32_le(self.run);
        buffer.put_u32_le(self.kind as u32);
        buffer.put_u64_le(self.number);
        buffer.put_u64_le(self.sent_at);
        buffer.put_bytes(0, size - MIN_SIZE);
        buffer.split().freeze()
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let word = |at: usize| payload.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let kind = match word(4)? {
            0 => Kind::Load,
            1 => Kind::End,
            2 => Kind::Ping,
            _ => return None,
        };
        let long = |at: usize| payload.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        Some(Self { run: word(0)?, kind, number: long(8)?, sent_at: long(16)? })
    }
}
