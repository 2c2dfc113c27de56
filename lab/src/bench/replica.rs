//! `quorate-lab bench replica`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use quorate::replica::{Replica, State};
use quorate::{Config, Event, Events, Group, Guarantee, MulticastError, Node, Status};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{PATIENCE, quantile};
use crate::{Failure, output};

/// Measure acknowledged writes to a replica, and safe messages without one
///
/// The members are in one process, on the loopback interface. Messages without a replica are safe
/// ones, and count when their sender has them back. All kinds run in turn.
///
/// With --etcd, the same writers also put values into etcd, which answers once a majority of its
/// servers has a value on disk. Members of a replica have writes in memory only.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplicaArgs {
    /// Number of members. All of them write
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    nodes: u8,
    /// Size of a write, in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    size: u64,
    /// Number of writers at each member. Each waits for its write before the next one
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    writers: u32,
    /// Seconds of writing in each run
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// A server of an etcd cluster to measure in the same run, over its HTTP gateway. May be
    /// repeated; writers are spread over the servers
    #[arg(long, value_name = "ADDRESS:PORT")]
    etcd: Vec<SocketAddr>,
    /// Number of runs of each kind. The median is printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Acknowledged writes per second, and the median time that one took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Rate {
    writes_s: f64,
    median_us: f64,
}

#[derive(Debug, Serialize)]
struct Measured {
    n: u8,
    size: u64,
    writers: u32,
    seconds: f64,
    replica: Rate,
    /// Safe messages without a replica.
    messages: Rate,
    /// Puts into etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd: Option<Rate>,
}

/// A state that costs nothing: the number of writes.
#[derive(Default)]
struct Count(u64);

impl State for Count {
    type Output = ();

    fn apply(&mut self, _: &[u8]) {
        self.0 += 1;
    }

    fn snapshot(&self) -> Bytes {
        self.0.to_le_bytes().to_vec().into()
    }

    fn restore(snapshot: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self(u64::from_le_bytes(snapshot.try_into()?)))
    }
}

pub(super) fn run(args: &ReplicaArgs) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    let measured = runtime.block_on(measure(args)).map_err(|error| Failure::new(error.to_string()))?;
    let text = if args.json {
        serde_json::to_string(&measured).map_err(|error| Failure::new(error.to_string()))? + "\n"
    } else {
        table(&measured)
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &ReplicaArgs) -> Result<Measured, Box<dyn Error>> {
    let (mut of_replica, mut of_messages, mut of_etcd) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.runs {
        of_replica.push(rate(args, Kind::Replica).await?);
        of_messages.push(rate(args, Kind::Messages).await?);
        if !args.etcd.is_empty() {
            let members = (0..usize::from(args.nodes)).map(|n| Member::Etcd(args.etcd[n % args.etcd.len()]));
            of_etcd.push(rate_of(args, members).await?);
        }
    }
    let ReplicaArgs { nodes: n, size, writers, seconds, .. } = *args;
    let (replica, messages) = (median(of_replica), median(of_messages));
    let etcd = (!of_etcd.is_empty()).then(|| median(of_etcd));
    Ok(Measured { n, size, writers, seconds, replica, messages, etcd })
}

fn median(mut rates: Vec<Rate>) -> Rate {
    rates.sort_by(|one, other| one.writes_s.total_cmp(&other.writes_s));
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

#[derive(Clone, Copy)]
enum Kind {
    Replica,
    Messages,
}

/// The target of a writer.
#[derive(Clone)]
enum Member {
    Replica(Replica<Count>),
    Bare(Bare),
    /// A server of etcd.
    Etcd(SocketAddr),
}

/// A member without a replica, and its messages that are under way, by their numbers.
#[derive(Clone)]
struct Bare {
    node: Node,
    group: Group,
    under_way: Arc<Mutex<BTreeMap<u64, oneshot::Sender<()>>>>,
}

/// Runs members and their writers once.
async fn rate(args: &ReplicaArgs, kind: Kind) -> Result<Rate, Box<dyn Error>> {
    let state = tempfile::tempdir()?;
    let nodes: Vec<(u32, String)> =
        (1..=args.nodes).map(|id| (u32::from(id), format!("127.0.0.{id}"))).collect();
    let mut started = Vec::new();
    for (id, _) in &nodes {
        let config = Config::of_cluster("bench-replica", *id, nodes.clone())?;
        let (node, events, dc) = Node::builder(config).state_dir(state.path()).start().await?;
        let member = match kind {
            Kind::Replica => {
                Member::Replica(Replica::open(node.clone(), "bench".parse()?, Count::default(), events))
            }
            Kind::Messages => Member::Bare(Bare::open(node.clone(), "bench".parse()?, events)),
        };
        started.push((node, dc, member));
    }
    for (_, dc, member) in &started {
        let mut status = dc.watch();
        let all = |status: &Status| status.nodes.iter().all(|node| node.online) && status.quorate;
        tokio::time::timeout(PATIENCE, status.wait_for(all)).await??;
        if let Member::Replica(replica) = member {
            tokio::time::timeout(PATIENCE, replica.opened()).await??;
        }
    }

    let rate = rate_of(args, started.iter().map(|(_, _, member)| member.clone())).await?;
    for (node, ..) in &started {
        node.leave().await;
    }
    Ok(rate)
}

/// Runs the writers of these members once.
async fn rate_of(args: &ReplicaArgs, members: impl Iterator<Item = Member>) -> Result<Rate, Box<dyn Error>> {
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(args.seconds);
    let mut writers = JoinSet::new();
    for member in members {
        for _ in 0..args.writers {
            let first = (writers.len() as u64) << 32;
            let etcd = match &member {
                Member::Etcd(address) => Some(Etcd::connect(*address).await?),
                Member::Replica(_) | Member::Bare(_) => None,
            };
            writers.spawn(write(member.clone(), etcd, args.size as usize, first, end));
        }
    }
    let mut took: Vec<f64> = writers.join_all().await.into_iter().flatten().collect();
    let lasted = begin.elapsed().as_secs_f64();
    took.sort_by(f64::total_cmp);
    Ok(Rate { writes_s: (took.len() as f64 / lasted).round(), median_us: quantile(&took, 500) })
}

/// Writes until `end`. Returns how long each acknowledged write took, in microseconds.
async fn write(member: Member, mut etcd: Option<Etcd>, size: usize, first: u64, end: Instant) -> Vec<f64> {
    let mut took = Vec::new();
    for number in first.. {
        let began = Instant::now();
        if began >= end {
            break;
        }
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(size, 0);
        let is_acknowledged = match &member {
            Member::Replica(replica) => replica.write(&payload).await.is_ok(),
            Member::Bare(bare) => bare.send(number, payload.into()).await,
            Member::Etcd(_) => match &mut etcd {
                // A connection that is closed stays so.
                Some(etcd) if !etcd.0.is_closed() => etcd.put(first, &payload).await,
                _ => break,
            },
        };
        if is_acknowledged {
            took.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    took
}

/// A connection to a server of etcd.
struct Etcd(SendRequest<Full<Bytes>>);

impl Etcd {
    async fn connect(address: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let stream =
            TcpStream::connect(address).await.map_err(|error| format!("--etcd {address}: {error}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Puts a value. Returns `true` if etcd has accepted it.
    async fn put(&mut self, key: u64, value: &[u8]) -> bool {
        let (key, value) = (BASE64.encode(key.to_le_bytes()), BASE64.encode(value));
        let body = serde_json::json!({ "key": key, "value": value }).to_string();
        let request = Request::post("/v3/kv/put").header("host", "etcd").body(Full::from(body));
        let Ok(request) = request else { return false };
        if self.0.ready().await.is_err() {
            return false;
        }
        match self.0.send_request(request).await {
            Ok(answer) if answer.status().is_success() => answer.into_body().collect().await.is_ok(),
            _ => false,
        }
    }
}

impl Bare {
    fn open(node: Node, group: Group, mut events: Events) -> Self {
        let me = node.id();
        let bare = Self { node, group, under_way: Arc::default() };
        let under_way = Arc::clone(&bare.under_way);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let Event::Deliver(message) = event else { continue };
                let number = message.payload.first_chunk().map(|number| u64::from_le_bytes(*number));
                let mut under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner);
                let sender =
                    number.filter(|_| message.from == me).and_then(|number| under_way.remove(&number));
                let _ = sender.map(|sender| sender.send(()));
            }
        });
        bare
    }

    /// Sends a message. Returns `true` when it has come back.
    async fn send(&self, number: u64, payload: Bytes) -> bool {
        let (sender, returned) = oneshot::channel();
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sender);
        loop {
            match self.node.multicast(&self.group, Guarantee::Safe, payload.clone()).await {
                Ok(()) => return returned.await.is_ok(),
                Err(MulticastError::EventsUnread) => self.node.caught_up().await,
                Err(_) => return false,
            }
        }
    }
}

fn table(measured: &Measured) -> String {
    let Measured { n, size, writers, replica, messages, etcd, .. } = measured;
    let mut text =
        format!("{n} members in one process (loopback), {writers} writers at each, {size} bytes a write\n");
    let kinds = [("replica, in memory at a majority", Some(replica)), ("safe messages", Some(messages))];
    let of_etcd = ("puts into etcd, on disk at a majority", etcd.as_ref());
    for (what, rate) in kinds.into_iter().chain([of_etcd]) {
        let Some(rate) = rate else { continue };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>12.0}  writes/s, {:.0} us each in the median: {what}",
            rate.writes_s, rate.median_us
        );
    }
    text
}
