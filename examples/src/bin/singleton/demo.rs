//! Three nodes on loopback addresses, over real multicast, each in its own process. This process
//! plays the address and causes the faults.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate::Node;
use quorate::transport::{News, Packet, Sockets, Udp};
use quorate_examples::singleton::{Address, Claim, hold};
use quorate_examples::{member_of_three, say};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

const PORT: u16 = 5435;
/// The longest time that a move may take, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(clap::Args, Debug)]
pub(crate) struct NodeArgs {
    id: u8,
    address: String,
    state_dir: PathBuf,
}

/// Runs a node until its standard input ends. Each line of input cuts it off or connects it again.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run_node(args: NodeArgs) -> Result<(), Box<dyn Error>> {
    let NodeArgs { id, address, state_dir } = args;
    let config = member_of_three(id, PORT);
    let cut = Arc::new(AtomicBool::new(false));
    let (udp, _) = Udp::bind(&config)?;
    let sockets = Cuttable { udp, cut: cut.clone() };
    let (node, _, dc) = Node::builder(config).state_dir(state_dir).start_over(sockets).await?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address)?;
    tokio::spawn(hold(dc, move |term| {
        let claim = Claim { node: id.into(), term: term.as_u128() };
        // Sending fails once the address has ended.
        let _ = socket.send(claim.to_string().as_bytes());
        std::future::ready(())
    }));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        cut.fetch_xor(true, Ordering::Relaxed);
    }
    node.leave().await;
    Ok(())
}

/// Sockets that can be disconnected.
struct Cuttable {
    udp: Udp,
    cut: Arc<AtomicBool>,
}

impl Sockets for Cuttable {
    fn home(&self) -> SocketAddr {
        self.udp.home()
    }

    async fn send(&mut self, batch: &mut VecDeque<Packet>) -> io::Result<()> {
        if self.cut.load(Ordering::Relaxed) {
            batch.clear();
            return Ok(());
        }
        self.udp.send(batch).await
    }

    async fn recv(&mut self, batch: &mut Vec<Packet>) -> io::Result<()> {
        let before = batch.len();
        self.udp.recv(batch).await?;
        if self.cut.load(Ordering::Relaxed) {
            batch.truncate(before);
        }
        Ok(())
    }

    fn poll_news(&mut self) -> Option<News> {
        self.udp.poll_news()
    }

    fn unsent(&self) -> u64 {
        self.udp.unsent()
    }

    fn receive_buffer(&self) -> Option<usize> {
        self.udp.receive_buffer()
    }
}

/// The address and the processes of its three nodes.
struct World {
    socket: UdpSocket,
    address: Address,
    state: tempfile::TempDir,
    nodes: Vec<(u32, Child)>,
}

/// Runs the demonstration.
pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let state = tempfile::tempdir()?;
    let mut world = World { socket, address: Address::default(), state, nodes: Vec::new() };
    for id in 1..=3 {
        world.start(id)?;
    }
    let first = world.next_holder(None)?;
    say(format_args!("node {first} holds the address"));

    world.node(first)?.kill()?;
    let second = world.moved(first, "is killed")?;
    world.node(first)?.wait()?;
    world.nodes.retain(|(id, _)| *id != first);
    world.start(first)?;
    world.watch(Duration::from_secs(3))?;

    let pid = world.pid(second)?;
    kill_process(pid, Signal::STOP)?;
    let third = world.moved(second, "is paused")?;
    let refused = world.address.refused();
    kill_process(pid, Signal::CONT)?;
    world.watch(Duration::from_secs(3))?;
    say(format_args!("node {second} resumes: {} late claims refused", world.address.refused() - refused));

    world.pull_plug(third)?;
    let last = world.moved(third, "is cut off")?;
    world.pull_plug(third)?;
    world.watch(Duration::from_secs(3))?;
    say(format_args!("node {third} is back: node {last} holds the address"));

    for (_, node) in &mut world.nodes {
        drop(node.stdin.take());
        node.wait()?;
    }
    Ok(())
}

impl World {
    fn start(&mut self, id: u32) -> Result<(), Box<dyn Error>> {
        let address = self.socket.local_addr()?.to_string();
        let node = Command::new(std::env::current_exe()?)
            .args(["demo-node", &id.to_string(), &address])
            .arg(self.state.path())
            .stdin(Stdio::piped())
            .spawn()?;
        self.nodes.push((id, node));
        Ok(())
    }

    fn node(&mut self, id: u32) -> Result<&mut Child, Box<dyn Error>> {
        let node = self.nodes.iter_mut().find(|(node, _)| *node == id);
        node.map(|(_, child)| child).ok_or_else(|| "no such node".into())
    }

    fn pid(&mut self, id: u32) -> Result<Pid, Box<dyn Error>> {
        Pid::from_raw(self.node(id)?.id().try_into()?).ok_or_else(|| "no such process".into())
    }

    /// Cuts a node off, or connects it again if it is cut off.
    fn pull_plug(&mut self, id: u32) -> Result<(), Box<dyn Error>> {
        use std::io::Write;
        let plug = self.node(id)?.stdin.as_mut().ok_or("no standard input")?;
        Ok(plug.write_all(b"\n")?)
    }

    /// Handles one claim, if one arrives before the read timeout.
    fn hear(&mut self) -> Result<(), Box<dyn Error>> {
        let mut claim = [0; 64];
        let length = match self.socket.recv(&mut claim) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.address.claim(std::str::from_utf8(&claim[..length])?.parse()?);
        Ok(())
    }

    fn watch(&mut self, length: Duration) -> Result<(), Box<dyn Error>> {
        let began = Instant::now();
        while began.elapsed() < length {
            self.hear()?;
        }
        Ok(())
    }

    /// Waits until a node other than `before` holds the address, and returns that node.
    fn next_holder(&mut self, before: Option<u32>) -> Result<u32, Box<dyn Error>> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            self.hear()?;
            if let Some(holder) = self.address.holder().filter(|holder| Some(*holder) != before) {
                return Ok(holder);
            }
        }
        Err("no other node took over".into())
    }

    fn moved(&mut self, from: u32, why: &str) -> Result<u32, Box<dyn Error>> {
        let began = Instant::now();
        let next = self.next_holder(Some(from))?;
        say(format_args!(
            "node {from} {why}: node {next} holds the address after {} ms",
            began.elapsed().as_millis()
        ));
        Ok(next)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (_, node) in &mut self.nodes {
            // The process may already have ended.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}
