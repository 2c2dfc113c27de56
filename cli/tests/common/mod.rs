//! Real `quorate node` processes on the loopback interface, for tests of the whole program.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Far longer than anything takes on a busy machine. A test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.env_remove("QUORATE_SOCKET").env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    command
}

/// Waits until `look` finds something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not seen within {} s: {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
}

/// The nodes of one test, on addresses and a group of their own, so that tests can run at once.
pub struct Ring {
    directory: tempfile::TempDir,
    network: [u8; 2],
    first: u8,
    pub size: u8,
}

impl Ring {
    /// Configures a ring of `size` nodes without starting them.
    pub fn of(size: u8) -> Self {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let taken = TAKEN.fetch_add(8, Ordering::Relaxed);
        // Few test processes are alive at a time, and none has that number of tests.
        let network = [1 + (pid / 250 % 250) as u8, (pid % 250) as u8];
        let first = u8::try_from(taken).expect("fewer tests in a file");
        let ring = Self { directory: tempfile::tempdir().unwrap(), network, first, size };
        fs::write(ring.conf(), ring.corosync_conf("")).unwrap();
        ring
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn conf(&self) -> PathBuf {
        self.path().join("corosync.conf")
    }

    pub fn address(&self, id: u8) -> String {
        let [a, b] = self.network;
        format!("127.{a}.{b}.{}", self.first + id)
    }

    /// Returns the configuration, with `totem` added to section totem.
    pub fn corosync_conf(&self, totem: &str) -> String {
        let [a, b] = self.network;
        // Groups are distinguished by three bytes. The range for one organisation has enough.
        let group = format!("239.{}.{b}.{}", 192 + a % 64, self.first);
        let mut conf = format!(
            "totem {{\n version: 2\n cluster_name: test\n transport: local\n secauth: off\n token: 1000\n \
             token_coefficient: 0\n {totem}\n interface {{\n mcastaddr: {group}\n mcastport: 5405\n }}\n}}\nnodelist {{\n"
        );
        for id in 1..=self.size {
            conf.push_str(&format!(
                " node {{\n nodeid: {id}\n name: node{id}\n ring0_addr: {}\n }}\n",
                self.address(id)
            ));
        }
        conf + "}\nquorum {\n provider: corosync_votequorum\n}\n"
    }

    pub fn socket(&self, id: u8) -> PathBuf {
        self.path().join(format!("{id}.sock"))
    }

    /// Returns the command that runs node `id`.
    pub fn command(&self, id: u8) -> Command {
        let mut command = quorate();
        command
            .args(["node", "--name", &format!("node{id}"), "-c"])
            .arg(self.conf())
            .arg("--state-dir")
            .arg(self.path().join(format!("state{id}")))
            .arg("--socket")
            .arg(self.socket(id));
        command
    }

    /// Starts node `id` and waits until it reports that it is ready.
    pub fn start(&self, id: u8) -> Node {
        let notify = self.path().join(format!("{id}.notify"));
        let _ = fs::remove_file(&notify);
        let systemd = UnixDatagram::bind(&notify).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let log = self.path().join(format!("{id}.log"));
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let process = self.command(id).env("NOTIFY_SOCKET", &notify).stderr(stderr).spawn().unwrap();
        let mut node = Node { process, socket: self.socket(id), log };
        eventually("the node is ready", || {
            assert_eq!(node.process.try_wait().unwrap(), None, "it ended");
            let mut state = [0; 32];
            let length = systemd.recv(&mut state).ok()?;
            assert_eq!(&state[..length], b"READY=1");
            Some(())
        });
        node
    }

    /// Starts node `id` with this stderr, and waits until it answers.
    pub fn start_logging_to(&self, id: u8, stderr: impl Into<Stdio>) -> Node {
        let process = self.command(id).stderr(stderr).spawn().unwrap();
        let node = Node { process, socket: self.socket(id), log: self.path().join(format!("{id}.log")) };
        eventually("the node answers", || run(&mut node.command("status")).status.success().then_some(()));
        node
    }

    /// Starts all nodes and waits until they are one ring with quorum and a DC.
    pub fn start_all(&self) -> Vec<Node> {
        let nodes: Vec<Node> = (1..=self.size).map(|id| self.start(id)).collect();
        agreement(&nodes.iter().collect::<Vec<_>>());
        nodes
    }

    /// Starts node `id`, which must fail, and returns the one line of the error.
    pub fn refusal(&self, id: u8) -> String {
        failure(&run(&mut self.command(id)))
    }
}

/// Runs a command that ends by itself.
pub fn run(command: &mut Command) -> Output {
    let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = i32::try_from(process.id()).unwrap();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(process.wait_with_output()));
    ended.recv_timeout(PATIENCE).map(Result::unwrap).unwrap_or_else(|_| {
        // The process has not been waited for, so the id is still its own.
        kill_process(Pid::from_raw(id).unwrap(), Signal::KILL).unwrap();
        panic!("did not end: {:?}", ended.recv());
    })
}

/// Returns the single error line without its `quorate: `. Warnings about a configuration may
/// precede it.
pub fn failure(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let error: String =
        stderr.split_inclusive('\n').skip_while(|line| line.starts_with("warning: ")).collect();
    let line = error.strip_prefix("quorate: ").and_then(|line| line.strip_suffix('\n'));
    let line = line.unwrap_or_else(|| panic!("not an error line: {stderr}"));
    assert!(!line.contains('\n'), "more than a line: {stderr}");
    line.to_owned()
}

/// A running node, killed at the end of the test.
pub struct Node {
    pub process: Child,
    pub socket: PathBuf,
    log: PathBuf,
}

impl Node {
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns a `quorate` command that asks this node.
    pub fn command(&self, command: &str) -> Command {
        let mut process = quorate();
        process.arg(command).arg("--socket").arg(&self.socket);
        process
    }

    /// Returns the output of `quorate status --json`.
    pub fn answer(&self) -> Value {
        let output = run(self.command("status").arg("--json"));
        assert!(output.status.success(), "{output:?}\n{}", self.log());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Returns the field `status` of [`Self::answer`].
    pub fn status(&self) -> Value {
        self.answer()["status"].clone()
    }

    /// Starts `quorate cat` with these arguments.
    pub fn cat(&self, arguments: &[&str]) -> Child {
        let mut command = self.command("cat");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Sends the whole input to the group `g`.
    pub fn send(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut cat = self.cat(&[&["g"], arguments].concat());
        let mut stdin = cat.stdin.take().unwrap();
        let input = input.to_vec();
        // The node may hang up before it has read everything.
        let writer = thread::spawn(move || stdin.write_all(&input));
        let output = cat.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        output
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until exactly these nodes are in one ring with quorum and the same DC, and returns the
/// DC's id.
pub fn agreement(nodes: &[&Node]) -> u64 {
    eventually("all nodes in one ring with quorum and the same DC", || {
        let views: Vec<Value> = nodes.iter().map(|node| node.status()).collect();
        let first = &views[0];
        let online = |view: &Value| {
            view["nodes"].as_array().unwrap().iter().filter(|node| node["online"] == true).count()
        };
        let complete = |view: &Value| {
            view["settled"] == true
                && view["quorate"] == true
                && view["ring"] == first["ring"]
                && view["dc"] == first["dc"]
                && online(view) == nodes.len()
        };
        first["dc"].as_u64().filter(|_| views.iter().all(complete))
    })
}

/// Parses the output of `quorate cat`.
pub fn events(output: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(output).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Returns the payloads of the delivered messages, in order.
pub fn payloads(events: &[Value]) -> Vec<String> {
    let delivered = events.iter().filter(|event| event["event"] == "deliver");
    delivered.map(|event| event["payload"].as_str().unwrap_or("(no text)").to_owned()).collect()
}
