//! `quorate demo`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use quorate_client::{Cat, Client, Event, Request, Status};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::{Failure, print};

/// The time limit for the whole demo.
const LIMIT: Duration = Duration::from_secs(60);

/// The interval between checks for a new socket or an ended process.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Watch three nodes on this host form a ring, elect a DC, lose it, elect another, and readmit the
/// lost node.
///
/// Three processes of `quorate node` communicate by real IP multicast over the loopback interface.
/// The demo needs no root, takes some seconds, and writes only to a temporary directory.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the demo succeeded, 1 it failed (the reason is on stderr), 2 wrong usage."
)]
pub(crate) struct DemoArgs {
    /// Token timeout in milliseconds. A token that takes longer counts as lost. This is most of the
    /// time until a new DC is elected
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(150..=5000))]
    token: u32,
    /// Keep the temporary directory with the configuration and the logs, and print its path
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot("start"))?;
    let directory =
        tempfile::Builder::new().prefix("quorate-demo-").tempdir().map_err(cannot("create a directory"))?;
    let seen = runtime.block_on(async {
        // Dropping the play kills its remaining processes.
        tokio::select! {
            biased;
            seen = play(args, directory.path()) => seen,
            () = tokio::time::sleep(LIMIT) => {
                let limit = LIMIT.as_secs();
                Err(Failure::new(format!(
                    "the demo did not finish within {limit} s; run it again with --keep and see the logs"
                )))
            }
            stopped = stopped() => stopped,
        }
    });
    if args.keep {
        let kept = directory.keep();
        print(&format!("Configuration and logs: {}\n", kept.display()))?;
    }
    seen.map(|()| ExitCode::SUCCESS)
}

/// Returns when the user interrupts the demo.
async fn stopped() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot("handle signals"))?;
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Err(Failure::new("the demo was interrupted"))
}

fn cannot(what: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(format!("cannot {what}: {error}"))
}

/// Plays the four acts, and prints the result of each.
async fn play(args: &DemoArgs, directory: &Path) -> Result<(), Failure> {
    let network = Network::find()?;
    fs::write(directory.join("corosync.conf"), network.corosync_conf(args.token))
        .map_err(cannot("write the configuration"))?;
    let mut stage = Stage::new(directory);
    let mut seen = Vec::new();
    print(&format!(
        "Three nodes on this host: {}; multicast group {}, port {}.\n",
        network
            .members()
            .map(|(id, address, _)| format!("node{id} {address}"))
            .collect::<Vec<_>>()
            .join(", "),
        network.group(),
        network.port,
    ))?;

    stage.say("demo", &format!("starting node1, node2 and node3, token timeout {} ms", args.token))?;
    let all = BTreeSet::from([1, 2, 3]);
    let started = Instant::now();
    for id in &all {
        stage.start(*id)?;
    }
    let dc = stage.agreement_of(&all).await?;
    seen.push(("the ring formed, with quorum", started.elapsed(), format!("node{dc} is DC")));
    stage.show_status(dc).await?;

    stage.say("demo", &format!("killing node{dc}, the DC, with SIGKILL"))?;
    let killed = Instant::now();
    stage.kill(dc).await?;
    let survivors = all.iter().copied().filter(|id| *id != dc).collect();
    let heir = stage.agreement_of(&survivors).await?;
    seen.push(("the DC was killed and a new one elected", killed.elapsed(), format!("node{heir} is DC")));
    stage.show_status(heir).await?;

    stage.say("demo", &format!("starting node{dc} again"))?;
    let restarted = Instant::now();
    stage.start(dc)?;
    let leader = stage.agreement_of(&all).await?;
    seen.push(("the lost node came back", restarted.elapsed(), format!("node{leader} is DC")));
    stage.show_status(leader).await?;

    stage.say("demo", "stopping all nodes with SIGTERM")?;
    let asked = Instant::now();
    stage.leave().await?;
    seen.push(("all nodes left and exited", asked.elapsed(), String::new()));
    print(&summary(&seen))
}

fn summary(seen: &[(&str, Duration, String)]) -> String {
    let mut table = String::from("\nResults:\n");
    for (what, took, outcome) in seen {
        let row = format!("  {what:<42}{:>6} ms   {outcome}", took.as_millis());
        table.push_str(row.trim_end());
        table.push('\n');
    }
    table
}

/// Addresses and ports that are free on this host.
struct Network {
    addresses: [Ipv4Addr; 3],
    port: u16,
}

impl Network {
    fn find() -> Result<Self, Failure> {
        // Linux has all of 127/8. Elsewhere there is one address, and each node has its own port.
        let several = [1, 2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last));
        let has_all = several.iter().all(|address| UdpSocket::bind((*address, 0)).is_ok());
        let addresses = if has_all { several } else { [Ipv4Addr::LOCALHOST; 3] };
        for _ in 0..100 {
            let any = UdpSocket::bind((addresses[0], 0)).and_then(|socket| socket.local_addr());
            let port = any.map_err(cannot("find a free port"))?.port();
            if (6..65000).contains(&port) && is_free(&addresses, port) {
                return Ok(Self { addresses, port });
            }
        }
        Err(Failure::new(
            "no free ports found on the loopback interface; stop the programs that use them, and try again",
        ))
    }

    /// Returns a group for this run alone, derived from the port, which is free on this host.
    fn group(&self) -> Ipv4Addr {
        let [high, low] = self.port.to_be_bytes();
        Ipv4Addr::new(239, 255, high, low)
    }

    /// Returns the id, address and port of each node.
    fn members(&self) -> impl Iterator<Item = (u32, Ipv4Addr, u16)> + '_ {
        let shared = self.addresses[0] != self.addresses[1];
        (1..).zip(0..).zip(self.addresses).map(move |((id, place), address): ((u32, u16), _)| {
            (id, address, if shared { self.port } else { self.port + 2 * place })
        })
    }

    fn corosync_conf(&self, token: u32) -> String {
        let mut conf = format!(
            "totem {{\n\
             \tversion: 2\n\
             \tcluster_name: quorate-demo\n\
             \ttransport: local\n\
             \tsecauth: off\n\
             \ttoken: {token}\n\
             \ttoken_coefficient: 0\n\
             \tinterface {{\n\
             \t\tmcastaddr: {}\n\
             \t\tmcastport: {}\n\
             \t}}\n\
             }}\n\
             nodelist {{\n",
            self.group(),
            self.port,
        );
        for (id, address, port) in self.members() {
            let _ =
                write!(conf, "\tnode {{\n\t\tnodeid: {id}\n\t\tname: node{id}\n\t\tring0_addr: {address}\n");
            if port != self.port {
                let _ = writeln!(conf, "\t\tport: {port}");
            }
            conf.push_str("\t}\n");
        }
        conf.push_str("}\nquorum {\n\tprovider: corosync_votequorum\n}\n");
        conf
    }
}

/// Returns `true` if the ports for the nodes are free. Each node uses its own port, and sends from
/// the one below.
fn is_free(addresses: &[Ipv4Addr], port: u16) -> bool {
    let ports = port - 1..=port + 4;
    addresses.iter().all(|address| ports.clone().all(|port| UdpSocket::bind((*address, port)).is_ok()))
}

/// The nodes, and the channel of their events.
struct Stage {
    directory: PathBuf,
    nodes: Vec<Actor>,
    events: mpsc::Receiver<(u32, u64, Event<'static>)>,
    listener: mpsc::Sender<(u32, u64, Event<'static>)>,
    runs: u64,
    began: Instant,
}

/// A running node.
struct Actor {
    id: u32,
    /// The number of this run. Events of an earlier run of the same node may still arrive.
    run: u64,
    process: Child,
    log: PathBuf,
    view: Status,
}

/// Returns the DC if exactly these nodes are in one quorate ring and name the same DC.
fn agreed(views: &[&Status], members: &BTreeSet<u32>) -> Option<u32> {
    let first = views.first()?;
    let complete = |view: &&Status| {
        view.settled
            && view.quorate
            && view.ring == first.ring
            && view.dc == first.dc
            && view.online().collect::<BTreeSet<_>>() == *members
    };
    first.dc.filter(|dc| members.contains(dc) && views.iter().all(complete))
}

impl Stage {
    fn new(directory: &Path) -> Self {
        let (listener, events) = mpsc::channel(64);
        Self {
            directory: directory.to_owned(),
            nodes: Vec::new(),
            events,
            listener,
            runs: 0,
            began: Instant::now(),
        }
    }

    fn say(&self, who: &str, what: &str) -> Result<(), Failure> {
        print(&format!("{:>8.3} s  {who:<6} {what}\n", self.began.elapsed().as_secs_f64()))
    }

    fn socket(&self, id: u32) -> PathBuf {
        self.directory.join(format!("{id}.sock"))
    }

    fn start(&mut self, id: u32) -> Result<(), Failure> {
        let log = self.directory.join(format!("node{id}.log"));
        let to_log = File::options().create(true).append(true).open(&log).map_err(cannot("write a log"))?;
        let program = std::env::current_exe().map_err(cannot("find this program"))?;
        let process = Command::new(program)
            .args(["node", "--die-with-parent", "--name", &format!("node{id}"), "--config"])
            .arg(self.directory.join("corosync.conf"))
            .arg("--state-dir")
            .arg(self.directory.join(format!("state{id}")))
            .arg("--socket")
            .arg(self.socket(id))
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(to_log)
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot("start a node"))?;
        self.runs += 1;
        let run = self.runs;
        self.nodes.push(Actor { id, run, process, log, view: Status::default() });
        tokio::spawn(listen(self.socket(id), id, run, self.listener.clone()));
        Ok(())
    }

    /// Waits until these nodes have one ring, quorum and one DC, and returns the DC.
    async fn agreement_of(&mut self, members: &BTreeSet<u32>) -> Result<u32, Failure> {
        loop {
            let views: Vec<&Status> = self.nodes.iter().map(|node| &node.view).collect();
            if let Some(dc) = agreed(&views, members) {
                self.say("demo", &format!("all agree: node{dc} is DC of a ring with quorum"))?;
                return Ok(dc);
            }
            tokio::select! {
                biased;
                Some((id, run, event)) = self.events.recv() => self.hear(id, run, event)?,
                () = tokio::time::sleep(LOOK_AGAIN) => self.check_on_all()?,
            }
        }
    }

    fn hear(&mut self, id: u32, run: u64, event: Event<'_>) -> Result<(), Failure> {
        let Some(node) = self.nodes.iter_mut().find(|node| (node.id, node.run) == (id, run)) else {
            return Ok(());
        };
        let said = match event {
            Event::Regular { ring, members, cause, .. } => {
                let members: Vec<String> = members.iter().map(ToString::to_string).collect();
                format!("ring {ring} with members {}: {cause}", members.join(" "))
            }
            Event::Status(view) => {
                let before = std::mem::replace(&mut node.view, *view);
                let view = &node.view;
                if !view.settled || (before.dc, before.quorate) == (view.dc, view.quorate) {
                    return Ok(());
                }
                let dc = view.dc.map_or_else(|| "NONE".to_owned(), |dc| format!("node{dc}"));
                format!("DC {dc}, partition {} quorum", if view.quorate { "with" } else { "WITHOUT" })
            }
            _ => return Ok(()),
        };
        self.say(&format!("node{id}"), &said)
    }

    /// Returns an error with the last log line if a process has ended by itself.
    fn check_on_all(&mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            if let Some(exit) = node.process.try_wait().map_err(cannot("check on a node"))? {
                let log = fs::read_to_string(&node.log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("(empty)");
                return Err(Failure::new(format!("node{} ended with {exit}; its log ends: {last}", node.id)));
            }
        }
        Ok(())
    }

    async fn kill(&mut self, id: u32) -> Result<(), Failure> {
        let (gone, rest) = std::mem::take(&mut self.nodes).into_iter().partition(|node| node.id == id);
        self.nodes = rest;
        let gone: Vec<Actor> = gone;
        for mut node in gone {
            node.process.kill().await.map_err(cannot("kill a node"))?;
        }
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), Failure> {
        for node in &self.nodes {
            let id = node.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
            if let Some(id) = id {
                kill_process(id, Signal::TERM).map_err(|error| cannot("stop a node")(error.into()))?;
            }
        }
        for mut node in std::mem::take(&mut self.nodes) {
            let exit = node.process.wait().await.map_err(cannot("wait for a node"))?;
            if !exit.success() {
                return Err(Failure::new(format!("node{} did not leave cleanly: {exit}", node.id)));
            }
            self.say(&format!("node{}", node.id), "left the ring and exited")?;
        }
        Ok(())
    }

    /// Prints the output of `quorate status` on that node.
    async fn show_status(&self, id: u32) -> Result<(), Failure> {
        let client = Client::at(self.socket(id));
        let asked = tokio::task::spawn_blocking(move || client.status()).await;
        let answer = asked.map_err(|error| cannot("ask a node")(error.into()))??;
        let indented: String = answer
            .text
            .trim_end()
            .lines()
            .map(|line| format!("    {line}").trim_end().to_owned() + "\n")
            .collect();
        print(&format!("\n  $ quorate status --node {id}\n{indented}\n"))
    }
}

/// Forwards a node's events, from the creation of its socket to the end of its process.
async fn listen(socket: PathBuf, id: u32, run: u64, events: mpsc::Sender<(u32, u64, Event<'static>)>) {
    let mut stream = loop {
        match UnixStream::connect(&socket).await {
            Ok(stream) => break stream,
            Err(_) if events.is_closed() => return,
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    };
    let request = Request::Cat(Cat::new("demo").with_status());
    if stream.write_all(&request.to_line()).await.is_err() {
        return;
    }
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(event) = Event::parse(line.as_bytes()) else { continue };
        if events.send((id, run, event)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quorate_client::NodeStatus;

    use super::*;

    fn view(ring: &str, dc: u32, online: &[u32]) -> Status {
        let node = |id, online| NodeStatus {
            id,
            name: String::new(),
            online,
            votes: 1,
            device: None,
            metadata: BTreeMap::new(),
        };
        let nodes = online.iter().map(|&id| node(id, true)).chain([node(9, false)]).collect();
        let ring = Some(ring.to_owned());
        Status { ring, settled: true, quorate: true, dc: Some(dc), nodes, ..Status::default() }
    }

    #[test]
    fn nodes_agree_if_all_see_the_same_ring_and_dc() {
        let (one, two) = (view("1.4", 2, &[1, 2]), view("1.4", 2, &[1, 2]));
        let members = BTreeSet::from([1, 2]);
        assert_eq!(agreed(&[&one, &two], &members), Some(2));
        assert_eq!(agreed(&[], &members), None);
        assert_eq!(agreed(&[&one, &two], &BTreeSet::from([1, 2, 3])), None);
        assert_eq!(agreed(&[&one, &two], &BTreeSet::from([1])), None);
        for other in [
            view("1.8", 2, &[1, 2]),
            view("1.4", 1, &[1, 2]),
            view("1.4", 2, &[1, 2, 3]),
            Status { settled: false, ..one.clone() },
            Status { quorate: false, ..one.clone() },
            Status::default(),
        ] {
            assert_eq!(agreed(&[&one, &other], &members), None, "{other:?}");
        }
        let dead_dc = view("1.4", 3, &[1, 2]);
        assert_eq!(agreed(&[&dead_dc, &dead_dc], &members), None);
    }

    #[test]
    fn the_configuration_fits_the_host() {
        let several =
            Network { addresses: [1, 2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last)), port: 40000 };
        let conf = several.corosync_conf(1000);
        assert!(
            conf.contains("\tnode {\n\t\tnodeid: 3\n\t\tname: node3\n\t\tring0_addr: 127.0.0.3\n\t}\n"),
            "{conf}"
        );
        assert!(conf.contains("\t\tmcastaddr: 239.255.156.64\n\t\tmcastport: 40000\n"), "{conf}");
        assert!(!conf.contains("\tport:"), "{conf}");

        let one = Network { addresses: [Ipv4Addr::LOCALHOST; 3], port: 40000 };
        let conf = one.corosync_conf(1000);
        assert!(conf.contains("\t\tring0_addr: 127.0.0.1\n\t\tport: 40004\n"), "{conf}");
    }

    #[test]
    fn the_network_found_is_free() {
        let network = Network::find().unwrap();
        assert!(is_free(&network.addresses, network.port));
        assert!(network.group().is_multicast());
    }

    #[test]
    fn the_summary_is_a_table() {
        let seen = [
            ("the ring formed, with quorum", Duration::from_millis(1312), "node1 is DC".to_owned()),
            ("all nodes left and exited", Duration::from_millis(9), String::new()),
        ];
        assert_eq!(
            summary(&seen),
            "\nResults:\n\
             \x20 the ring formed, with quorum                1312 ms   node1 is DC\n\
             \x20 all nodes left and exited                      9 ms\n"
        );
    }
}
