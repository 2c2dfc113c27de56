//! `quorate node`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::net::UnixDatagram;
use std::panic;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use quorate::config::{Loaded, Setting, grammar};
use quorate::{
    Cause, Config, Dc, Event, Events, Group, GroupError, Inquorate, Metadata, MulticastError, Node, NodeId,
    Status,
};
use rustix::process::{Resource, Signal, getrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::Source;
use crate::metrics::{self, Metrics};
use crate::socket::claim::Claim;
use crate::socket::clients::{ClientId, Clients};
use crate::socket::lines;
use crate::socket::places::Places;
use crate::socket::server::{self, Asked, Front, Outgoing, Question, What};
use crate::{Failure, log};

/// The capacity of the channel that carries clients' messages to the ring. It is small because a
/// client's message may be 1 MiB long. Further messages wait in the client's socket.
const OUTGOING: usize = 16;

/// The time limit of a hand-over. On a stable ring, a hand-over takes one or two rotations.
const HAND_OVER: Duration = Duration::from_secs(5);

/// The time that clients have to read the reason after the node has left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Descriptors reserved for the node: sockets of the ring, the record, and files that libraries
/// open.
const OWN_DESCRIPTORS: u64 = 32;

/// Descriptors of one of corosync's clients: its socket, and a directory with six files.
const DESCRIPTORS: u64 = 8;

/// Run a node in the foreground, until SIGTERM, SIGINT or SIGQUIT.
///
/// The first of these signals makes the node leave the ring, which the others notice at once,
/// without a timeout. A second one ends the process immediately. SIGHUP logs that the configuration
/// is applied only at the start. Other signals do nothing.
///
/// The node logs to stderr: each ring with the cause of the change, and each change of quorum and
/// DC. RUST_LOG sets the level (`RUST_LOG=debug`). Lines that cannot be written are counted and
/// reported later. They never block the node.
///
/// Under systemd, `Type=notify` works: the node is ready when its socket is up.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    source: Source,
    /// Directory for the record that the node keeps across restarts [default: /var/lib/quorate for
    /// root, else $XDG_STATE_HOME/quorate or ~/.local/state/quorate]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Socket for `quorate status`, `quorate cat` and other clients [default:
    /// /run/quorate/NODE.sock for root, else $XDG_RUNTIME_DIR/quorate/NODE.sock]
    #[arg(long, value_name = "PATH", env = "QUORATE_SOCKET")]
    socket: Option<PathBuf>,
    /// Serve the clients of a corosync daemon, such as Pacemaker and corosync-quorumtool. Needs
    /// root
    #[arg(long)]
    serve_corosync_clients: bool,
    /// Serve the node's counters and gauges to Prometheus at http://ADDRESS/metrics, and whether it
    /// is quorate at http://ADDRESS/health. There is no encryption and no access control
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// A text about this node that all members see in their status, such as `zone=b`; may be
    /// repeated
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// Only check that the node could start with these options and this configuration
    #[arg(long)]
    check: bool,
    /// Exit when the parent process ends
    #[arg(long, hide = true)]
    die_with_parent: bool,
}

pub(crate) fn run(args: NodeArgs) -> Result<ExitCode, Failure> {
    if args.die_with_parent {
        die_with_parent()?;
    }
    log::start()?;
    if args.serve_corosync_clients {
        refuse_corosyncs_options(std::env::var_os("COROSYNC_OPTIONS").as_deref())?;
    }
    let mut loaded = args.source.load()?;
    loaded.config.metadata = metadata(&args.metadata)?;
    if args.check {
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = runtime()?;
    let ended = runtime.block_on(live(args, loaded));
    // A thread that is stuck in a disk write must not keep the process alive.
    runtime.shutdown_background();
    ended
}

/// Parses the texts of `--metadata`.
fn metadata(texts: &[String]) -> Result<Metadata, Failure> {
    texts.iter().try_fold(Metadata::new(), |metadata, text| {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            Failure::new(format!("--metadata {text}: write a key and a value, such as zone=b"))
        })?;
        metadata.with(key, value).map_err(|error| Failure::new(format!("--metadata {text}: {error}")))
    })
}

/// Refuses the options that corosync's unit file passes to corosync. The node would otherwise start
/// with another configuration.
fn refuse_corosyncs_options(options: Option<&OsStr>) -> Result<(), Failure> {
    let options = options.unwrap_or_default().to_string_lossy();
    if options.trim().is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the environment has `COROSYNC_OPTIONS={options}`, which only corosync understands; remove it from \
         /etc/default/corosync, and set QUORATE_OPTIONS in /etc/default/quorate instead"
    )))
}

/// Threads of a node in addition to those of the runtime: two for the record while it is opened.
const OTHER_THREADS: usize = 2;

/// Builds a runtime on all processors. It tries to start the threads first, because tokio hangs if
/// it gets only some of them. Tokio panics if it gets no descriptors, and the panic is caught.
fn runtime() -> Result<Runtime, Failure> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    try_threads(workers + OTHER_THREADS).map_err(|error| {
        Failure::new(format!(
            "cannot start a thread: {error}; raise the limit on threads (ulimit -u, TasksMax)"
        ))
    })?;
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let built = panic::catch_unwind(|| tokio::runtime::Builder::new_multi_thread().enable_all().build());
    panic::set_hook(hook);
    let why = match built {
        Ok(Ok(runtime)) => return Ok(runtime),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_default(),
    };
    Err(Failure::new(format!(
        "cannot start: {why}; raise the limits on open files (ulimit -n, LimitNOFILE) and threads \
         (ulimit -u, TasksMax)"
    )))
}

/// Starts `count` threads that do nothing. All of them run at once, and then end.
fn try_threads(count: usize) -> io::Result<()> {
    let all_there = Arc::new(Barrier::new(count + 1));
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let all_there = all_there.clone();
            thread::Builder::new().spawn(move || {
                all_there.wait();
            })
        })
        .collect::<io::Result<_>>()?;
    all_there.wait();
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

/// Returns the number of descriptors available to clients.
fn descriptors_for_clients() -> u64 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let open =
        fs::read_dir("/proc/self/fd").map_or(0, |open| u64::try_from(open.count()).unwrap_or(u64::MAX));
    limit.saturating_sub(open).saturating_sub(OWN_DESCRIPTORS)
}

/// Runs the node, from its socket to its last log line.
async fn live(args: NodeArgs, loaded: Loaded) -> Result<ExitCode, Failure> {
    let Loaded { config, warnings, settings, .. } = loaded;
    let mut signals = signals()?;
    let path = args.socket.map_or_else(|| quorate_client::default_path(config.node.get()), Ok)?;
    let mut claim = Claim::new(&path)?;
    let metrics = match args.metrics {
        Some(address) => Some(Metrics::bind(address).await?),
        None => None,
    };
    let of_metrics = if metrics.is_some() { metrics::CONNECTIONS as u64 } else { 0 };
    let descriptors = descriptors_for_clients().saturating_sub(of_metrics);
    let sockets = match args.serve_corosync_clients {
        true => Some(quorate_ipc::Sockets::bind().map_err(|error| Failure::new(error.to_string()))?),
        false => None,
    };
    let entries = args.source.all_entries().map_err(|rejected| Failure::new(rejected.to_string()))?;
    let places = Places::within(if sockets.is_some() { descriptors / 2 } else { descriptors })?;
    let state_dir = args.state_dir.map_or_else(default_state_dir, Ok)?;
    let mut starting = pin!(Node::builder(config.clone()).state_dir(&state_dir).start());
    let (node, events, dc) = loop {
        tokio::select! {
            biased;
            started = &mut starting => break started.map_err(|error| Failure::new(error.to_string()))?,
            Some(signal) = signals.recv() => if signal.asks_to_leave() {
                tracing::info!("{}: exiting before the node has started", signal.name);
                return Ok(ExitCode::SUCCESS);
            }
        }
    };

    // The node has already logged warnings that do not concern a line of the file.
    for warning in warnings.iter().filter(|warning| !config.warnings().contains(&warning.text)) {
        tracing::warn!("{warning}");
    }
    if let Some(metrics) = metrics {
        metrics.serve(node.clone(), dc.clone());
    }
    let (outgoing_sender, outgoing) = mpsc::channel(OUTGOING);
    let (question_sender, mut questions) = mpsc::channel(OUTGOING);
    let clock = dc.clone();
    let clients = Clients::new(config.node, move |status| clock.as_of_now(status));
    let front = Arc::new(Front::new(clients, outgoing_sender, question_sender, places));
    tokio::spawn(send(node.clone(), front.clone(), outgoing));
    let corosync = sockets.map(|sockets| {
        let limit = usize::try_from(descriptors / 2 / DESCRIPTORS).unwrap_or(usize::MAX);
        let clients = sockets.serve(node.clone(), &config, keys(&config, &entries), limit);
        clients.set_reload(move || reread(&args.source, &settings));
        Arc::new(clients)
    });
    let mut watching = tokio::spawn(watch_ring(events, front.clone(), corosync.clone()));
    tracing::info!("node {} ({}) listens at {}", config.node, config.name, path.display());
    notify_systemd("READY=1");

    let mut leaving = false;
    let mut signalled = false;
    let mut serving = Box::pin(server::serve(&mut claim, front.clone()));
    let cause = loop {
        tokio::select! {
            biased;
            cause = &mut watching => break cause.unwrap_or(None),
            Some(signal) = signals.recv() => {
                if !signal.asks_to_leave() {
                    continue;
                }
                let name = &signal.name;
                if signalled {
                    tracing::warn!("{name} again: exiting at once, without waiting for the leave");
                    return Ok(ExitCode::from(128 + u8::try_from(signal.number).unwrap_or_default()));
                }
                signalled = true;
                // systemd stops a node with corosync-cfgtool -H, and signals it while it leaves.
                if leaving {
                    continue;
                }
                leaving = true;
                tracing::info!("{name}: leaving the ring");
                notify_systemd("STOPPING=1");
                let node = node.clone();
                tokio::spawn(async move { node.leave().await });
            }
            () = shutdown(corosync.as_deref()), if !leaving => {
                leaving = true;
                tracing::info!("corosync-cfgtool -H: leaving the ring");
                notify_systemd("STOPPING=1");
                let node = node.clone();
                tokio::spawn(async move { node.leave().await });
            }
            Some(question) = questions.recv() => {
                tokio::spawn(answer(node.clone(), config.clone(), dc.clone(), question));
            }
            never = &mut serving => match never {},
        }
    };

    drop(serving);
    if let Some(corosync) = corosync {
        corosync.close().await;
    }
    front.clients.close("the node has stopped");
    let _ = tokio::time::timeout(LAST_WORDS, front.idle()).await;
    match cause {
        _ if leaving => Ok(ExitCode::SUCCESS),
        Some(cause) => Err(Failure::new(left_alone(&cause))),
        None => Err(Failure::new(
            "the node stopped without a reason, which is a bug; please report it with the node's log",
        )),
    }
}

/// Passes clients' actions to the ring, one by one. A process is in a group as long as one of its
/// connections is.
async fn send(node: Node, front: Arc<Front>, mut outgoing: mpsc::Receiver<Outgoing>) {
    let mut seats: BTreeMap<ClientId, (Group, u32)> = BTreeMap::new();
    while let Some(Outgoing { client, pid, group, what }) = outgoing.recv().await {
        let node = node.of_process(pid);
        match what {
            What::Join => {
                let seat = (group, pid);
                let again = seats.values().any(|other| *other == seat);
                match if again { Ok(()) } else { node.join(&seat.0).await } {
                    Ok(()) => drop(seats.insert(client, seat)),
                    Err(GroupError::Left) => {
                        return front.clients.close(&format!("cannot join: {}", GroupError::Left));
                    }
                    Err(error) => front.clients.fail(client, &format!("cannot join: {error}")),
                }
            }
            What::Message { guarantee, payload } => {
                front.clients.sending(client, pid);
                // `watch_ring` reads the events independently.
                while let Err(error) = node.multicast(&group, guarantee, payload.clone()).await {
                    if error != MulticastError::EventsUnread {
                        return front.clients.close(&format!("cannot send: {error}"));
                    }
                    node.caught_up().await;
                }
            }
            What::Leave(parting) => {
                let seat = seats.remove(&client);
                if seat.is_some_and(|seat| seats.values().all(|other| *other != seat)) {
                    // This fails only if the node itself has left.
                    let _ = node.leave_group(&group, parting).await;
                }
            }
        }
    }
}

/// Returns the keys that corosync's clients find.
fn keys(config: &Config, entries: &[grammar::Entry]) -> Vec<(String, quorate_ipc::Value)> {
    quorate_ipc::keys(config, entries.iter().map(|entry| (entry.path.as_str(), entry.value.as_str())))
}

/// Reads the configuration again for corosync's clients, and logs the values that the node applies
/// only when it is restarted. Returns `None` if the configuration cannot be used.
fn reread(source: &Source, in_force: &[Setting]) -> Option<Vec<(String, quorate_ipc::Value)>> {
    let read = || -> Result<_, Box<dyn Error>> { Ok((source.load()?, source.all_entries()?)) };
    match read() {
        Ok((loaded, entries)) => {
            match differences(in_force, &loaded.settings) {
                changes if changes.is_empty() => {
                    tracing::info!(
                        "the configuration was read again; nothing that this node applies differs"
                    );
                }
                changes => {
                    let changes = changes.join(", ");
                    tracing::warn!("the configuration was read again; restart this node to apply {changes}");
                }
            }
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            Some(keys(&loaded.config, &entries))
        }
        Err(error) => {
            tracing::error!(
                "the configuration was read again and cannot be used, so nothing changes: {error}"
            );
            None
        }
    }
}

/// Describes the values of a file that are not in force.
fn differences(in_force: &[Setting], file: &[Setting]) -> Vec<String> {
    let value = |settings: &[Setting], key: &str| {
        let setting = settings.iter().find(|setting| setting.key == key);
        setting.map_or_else(|| "nothing".to_owned(), |setting| setting.value.to_string())
    };
    let keys: BTreeSet<&str> = in_force.iter().chain(file).map(|setting| setting.key.as_str()).collect();
    let pairs = keys.into_iter().map(|key| (key, value(in_force, key), value(file, key)));
    let changed = pairs.filter(|(_, before, after)| before != after);
    changed.map(|(key, before, after)| format!("{key} ({after} instead of {before})")).collect()
}

/// Waits until corosync's clients, if they are served, have agreed that the node shuts down.
async fn shutdown(corosync: Option<&quorate_ipc::Clients>) {
    match corosync {
        Some(clients) => clients.shutdown().await,
        None => std::future::pending().await,
    }
}

/// Passes events to the clients and the log until the last one. Returns why the node left.
async fn watch_ring(
    mut events: Events,
    front: Arc<Front>,
    corosync: Option<Arc<quorate_ipc::Clients>>,
) -> Option<Cause> {
    let mut log = Log::default();
    let mut cause = None;
    while let Some(event) = events.next().await {
        front.clients.handle(&event);
        if let Some(corosync) = &corosync {
            corosync.handle(&event);
        }
        log.event(&event);
        if let Event::Left(why) = event {
            cause = Some(why);
        }
    }
    cause
}

async fn answer(node: Node, config: Config, dc: Dc, Question { asked, reply }: Question) {
    let line = match asked {
        Asked::Status => {
            let stats = node.stats().await;
            let status = dc.status();
            let text = status.text(&now(), env!("CARGO_PKG_VERSION"));
            lines::status_answer(config.node, &config.name, text, &status, &stats, log::lost())
        }
        Asked::Release => released(&dc, config.node).await,
    };
    // The client may have gone.
    let _ = reply.send(line);
}

/// Gives up the role of DC, and answers when another member has it.
async fn released(dc: &Dc, me: NodeId) -> Vec<u8> {
    let mut status = dc.watch();
    let term = status.borrow().term;
    if let Err(error) = dc.release().await {
        return lines::error(&error.to_string());
    }
    let next = |status: &Status| status.term.is_some() && status.term != term;
    let successor = match tokio::time::timeout(HAND_OVER, status.wait_for(next)).await {
        Ok(Ok(status)) if status.dc == Some(me) => {
            return lines::error(
                "the ring changed before the release was delivered and elected this node again; try again",
            );
        }
        Ok(Ok(status)) => status.term.map_or(me, |term| term.node),
        Ok(Err(_)) => return lines::error("the node is stopping"),
        Err(_) => {
            let wait = HAND_OVER.as_secs();
            return lines::error(&format!(
                "this node has given up the role, but no member took over within {wait} s; \
                 see `quorate status`"
            ));
        }
    };
    lines::release_answer(successor)
}

/// Returns the current time in the format of `ctime`.
pub(crate) fn now() -> String {
    jiff::Zoned::now().strftime("%a %b %e %H:%M:%S %Y").to_string()
}

/// Returns the error for a node that left without being asked to: the cause and what to do.
fn left_alone(cause: &Cause) -> String {
    let advice = match cause {
        Cause::DuplicateId { .. } => "give each node an id of its own, and start this one again",
        Cause::EventsUnread { .. } => "reduce the load on the host, then start the node again",
        Cause::Killed { .. } => "ask the operator of that node, then start this node again",
        _ => "see the log, then start the node again",
    };
    format!("the node has left the ring: {cause}; {advice}")
}

/// The last logged state of quorum and DC.
#[derive(Default)]
struct Log {
    told: Option<Status>,
}

impl Log {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Regular(regular) => {
                let list = |nodes: &std::collections::BTreeSet<_>| {
                    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
                };
                tracing::info!(
                    "ring {}: members [{}], joined [{}], left [{}]: {}",
                    regular.ring,
                    list(&regular.members),
                    list(&regular.joined),
                    list(&regular.left),
                    regular.why()
                );
            }
            Event::Stalled(length) => {
                tracing::warn!(
                    "this process was paused for {} ms; the host may be overloaded",
                    length.as_millis()
                );
            }
            Event::Reload { from, .. } => {
                tracing::info!(
                    "an operator at node {from} asks all nodes to read their configuration again; a node \
                     applies a changed one when it is restarted"
                );
            }
            Event::Status(status) => self.status(status),
            Event::Left(cause) => tracing::info!("left the ring: {cause}"),
            _ => {}
        }
    }

    /// Logs changes of the status. While a ring is being formed, only its final status is logged,
    /// unless that takes longer than the token timeout.
    fn status(&mut self, status: &Status) {
        if let Some(why @ Inquorate::RingLost { .. }) = &status.inquorate {
            tracing::warn!("no quorum: {why}");
            self.told = None;
        }
        if !status.settled {
            return;
        }
        let (dc, quorate) = self.told.as_ref().map_or((None, None), |told| (told.dc, Some(told.quorate)));
        if quorate != Some(status.quorate) {
            let needed =
                status.quorum.map_or_else(|| "an unknown number".to_owned(), |votes| votes.to_string());
            let votes = format!("votes {}, needed {needed}", status.total_votes);
            match &status.inquorate {
                None => tracing::info!("this partition has quorum: {votes}"),
                Some(Inquorate::TooFewVotes { .. }) => {
                    tracing::warn!("this partition is WITHOUT quorum: {votes}");
                }
                Some(why) => tracing::warn!("this partition is WITHOUT quorum: {votes}; {why}"),
            }
        }
        let has_term = self.told.as_ref().map(|told| told.term.is_some());
        if dc != status.dc || has_term != Some(status.term.is_some()) {
            match status.dc {
                Some(dc) => {
                    let term =
                        status.term.map_or_else(|| "no term".to_owned(), |term| format!("term {term}"));
                    tracing::info!("DC: node {dc}, {term}");
                }
                None => tracing::warn!("DC: NONE"),
            }
        }
        self.told = Some(status.clone());
    }
}

/// The signals that end a process by default, except real-time signals.
const SIGNALS: [(&str, Signal); 14] = [
    ("SIGTERM", Signal::TERM),
    ("SIGINT", Signal::INT),
    ("SIGQUIT", Signal::QUIT),
    ("SIGHUP", Signal::HUP),
    ("SIGUSR1", Signal::USR1),
    ("SIGUSR2", Signal::USR2),
    ("SIGALRM", Signal::ALARM),
    ("SIGVTALRM", Signal::VTALARM),
    ("SIGPROF", Signal::PROF),
    ("SIGIO", Signal::IO),
    ("SIGPWR", Signal::POWER),
    ("SIGSTKFLT", Signal::STKFLT),
    ("SIGXCPU", Signal::XCPU),
    ("SIGXFSZ", Signal::XFSZ),
];

/// Real-time signals. The C library reserves some of them, and those cannot be handled. Different
/// libraries reserve different ones.
const REAL_TIME: RangeInclusive<i32> = 32..=64;

/// A received signal.
#[derive(Clone)]
struct Raised {
    name: String,
    number: i32,
}

impl Raised {
    /// Returns `true` if the signal asks the node to leave. Otherwise, logs what the signal does.
    fn asks_to_leave(&self) -> bool {
        let Self { name, number } = self;
        if [Signal::TERM, Signal::INT, Signal::QUIT].iter().any(|signal| signal.as_raw() == *number) {
            return true;
        }
        if *number == Signal::HUP.as_raw() {
            tracing::warn!(
                "{name}: the configuration is applied only at the start and cannot be reloaded yet; restart \
                 the node to apply changes"
            );
        } else {
            tracing::warn!("{name}: this signal does nothing; SIGTERM makes the node leave");
        }
        false
    }
}

/// Installs handlers for all signals that can be handled. Afterwards, none of these signals ends
/// the process by default.
fn signals() -> Result<mpsc::UnboundedReceiver<Raised>, Failure> {
    let (sender, signals) = mpsc::unbounded_channel();
    let named = SIGNALS.map(|(name, signal)| Raised { name: name.to_owned(), number: signal.as_raw() });
    let real_time = REAL_TIME.map(|number| Raised { name: format!("signal {number}"), number });
    for kind in named.into_iter().chain(real_time) {
        let mut raised = match signal(SignalKind::from_raw(kind.number)) {
            Ok(raised) => raised,
            Err(_) if REAL_TIME.contains(&kind.number) => continue,
            Err(error) => return Err(Failure::new(format!("cannot handle signals: {error}"))),
        };
        let sender = sender.clone();
        tokio::spawn(
            async move { while raised.recv().await.is_some() && sender.send(kind.clone()).is_ok() {} },
        );
    }
    Ok(signals)
}

fn default_state_dir() -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/quorate"));
    }
    variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("quorate"))
        .ok_or_else(|| {
            Failure::new(
                "HOME is not set, so the node's record has no default directory; name one with --state-dir",
            )
        })
}

/// Notifies systemd (sd_notify(3)), if it runs the node.
fn notify_systemd(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = notify(Path::new(&name), state) {
        tracing::warn!("cannot notify systemd of {state}: {error}");
    }
}

fn notify(socket: &Path, state: &str) -> io::Result<()> {
    let from = UnixDatagram::unbound()?;
    from.set_write_timeout(Some(LAST_WORDS))?;
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.as_os_str().as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        let abstract_name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return from.send_to_addr(state.as_bytes(), &abstract_name).map(|_| ());
    }
    from.send_to(state.as_bytes(), socket).map(|_| ())
}

#[cfg(target_os = "linux")]
fn die_with_parent() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| Failure::new(format!("cannot tie this process to its parent: {error}")))
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent() -> Result<(), Failure> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_notified_at_a_path_and_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        notify(&path, "READY=1").unwrap();
        let mut state = [0; 16];
        assert_eq!(systemd.recv(&mut state).unwrap(), 7);
        assert_eq!(&state[..7], b"READY=1");

        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt;
            let name = format!("quorate-notify-{}", std::process::id());
            let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
            let systemd = UnixDatagram::bind_addr(&address).unwrap();
            notify(Path::new(&format!("@{name}")), "STOPPING=1").unwrap();
            assert_eq!(systemd.recv(&mut state).unwrap(), 10);
        }
    }

    #[test]
    fn values_that_a_reload_does_not_apply_are_named() {
        let setting = |key: &str, value: u32| Setting {
            key: key.to_owned(),
            value: value.into(),
            unit: "",
            source: quorate::config::Source::Default,
        };
        let in_force = [setting("totem.token", 1000), setting("totem.hold", 60), setting("a", 1)];
        let file = [setting("totem.token", 2000), setting("totem.hold", 60), setting("b", 2)];
        assert_eq!(
            differences(&in_force, &file),
            ["a (nothing instead of 1)", "b (2 instead of nothing)", "totem.token (2000 instead of 1000)"]
        );
        assert!(differences(&in_force, &in_force).is_empty());
    }

    #[test]
    fn options_meant_for_corosync_are_refused() {
        let refused = refuse_corosyncs_options(Some("-c /etc/other.conf".as_ref())).unwrap_err().to_string();
        assert!(refused.contains("`COROSYNC_OPTIONS=-c /etc/other.conf`"), "{refused}");
        assert!(refuse_corosyncs_options(Some(" ".as_ref())).is_ok());
        assert!(refuse_corosyncs_options(None).is_ok());
    }

    #[test]
    fn a_missing_systemd_is_only_an_error() {
        assert!(notify(Path::new("/nonexistent/notify"), "READY=1").is_err());
    }

    #[test]
    fn the_date_is_written_as_ctime_does() {
        let now = now();
        assert_eq!(now.len(), "Mon Sep 13 12:00:00 2010".len(), "{now}");
    }
}
