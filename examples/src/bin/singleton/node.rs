//! `singleton node`.

use std::error::Error;
use std::future::ready;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::{fmt, io};

use quorate::config::{self, Loaded, Overrides};
use quorate::{Event, Node, Term};
use quorate_examples::singleton::{Claim, hold, hold_carelessly};
use tokio::signal::unix::{SignalKind, signal};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::lines::{Line, now_us, print};

/// Run a member that claims the address whenever it is DC and has the lease
///
/// Prints a line for each ring and for each change of the election's status. SIGTERM and SIGINT
/// make it leave the ring. It logs to stderr, with times of the same clock as the lines. RUST_LOG
/// sets the level (`RUST_LOG=debug`: each state of the ring protocol).
#[derive(clap::Args, Debug)]
pub(crate) struct NodeArgs {
    /// Configuration file, as for `quorate node`
    #[arg(short, long, value_name = "FILE", default_value = "/etc/corosync/corosync.conf")]
    config: PathBuf,
    /// This node's name, address or id in the node list. Without a node list, its name
    #[arg(long, value_name = "NODE")]
    name: Option<String>,
    /// UDP address to send claims to, on which `singleton address` listens
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// Directory for the record that the node keeps across restarts
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// How not to do it: check the lease only once in a hundred claims
    #[arg(long)]
    careless: bool,
}

#[tokio::main]
pub(crate) async fn run(args: NodeArgs) -> Result<(), Box<dyn Error>> {
    // Dropping this guard writes the last lines.
    let _log = log_to_stderr()?;
    let host =
        config::this_host().map_err(|error| format!("this host's interfaces cannot be listed: {error}"))?;
    let mut overrides = Overrides::default();
    overrides.name = args.name;
    let Loaded { config, warnings, .. } = config::load(&args.config, &overrides, &host)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let id = config.node.get();
    let socket = connect(&args.address)
        .map_err(|error| format!("cannot send to {}: {error}; change it with --address", args.address))?;
    let claim = move |term: Term| {
        let claim = Claim { node: id, term: term.as_u128() };
        // A failed claim does not matter; the next one may arrive.
        let _ = socket.send(claim.to_string().as_bytes());
        ready(())
    };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // A signal with a handler does not end the process. A log rotation or a closed terminal must
    // not take a node down.
    let _ignored = (
        signal(SignalKind::hangup())?,
        signal(SignalKind::user_defined1())?,
        signal(SignalKind::user_defined2())?,
    );
    let (node, mut events, dc) = Node::builder(config).state_dir(args.state_dir).start().await?;
    tokio::spawn(async move {
        if args.careless {
            hold_carelessly(dc, claim).await;
        } else {
            hold(dc, claim).await;
        }
    });

    let mut leaving = false;
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
        };
        let at = now_us();
        match event {
            Some(Event::Regular(ring)) => {
                print(at, Line::Ring { ring: ring.ring, members: &ring.members, why: ring.why() })?;
            }
            Some(Event::Status(status)) => print(at, Line::Status(&status))?,
            Some(Event::Left(_)) if leaving => return Ok(()),
            Some(Event::Left(cause)) => {
                return Err(format!("the node has left the ring: {cause}").into());
            }
            Some(_) => {}
            None if leaving => return Ok(()),
            None => {
                leaving = true;
                let node = node.clone();
                tokio::spawn(async move { node.leave().await });
            }
        }
    }
}

fn connect(address: &str) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    Ok(socket)
}

/// Stamps the log like the kernel's log, with the same clock as the lines on stdout.
struct Monotonic;

impl FormatTime for Monotonic {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = now_us();
        write!(writer, "[{:5}.{:06}]", now / 1_000_000, now % 1_000_000)
    }
}

fn log_to_stderr() -> Result<WorkerGuard, Box<dyn Error>> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into());
    let filter =
        EnvFilter::try_new(filter).map_err(|error| format!("invalid RUST_LOG: {error}; try `debug`"))?;
    // A log that is not read must not stop a node. Lines go to a thread and are dropped when it has
    // too many. With internal errors logged, a line that cannot be written would end the task that
    // logged it.
    let (writer, thread) = tracing_appender::non_blocking(io::stderr());
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    log.with_timer(Monotonic).with_ansi(false).with_target(false).init();
    Ok(thread)
}
