//! The bench's side of the measured members.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::ground::{Ground, Options};
use super::member::{Done, Load, Order, Report, now};
use crate::Failure;

/// Whether the bench was asked to stop. Its hosts and files are removed then.
pub(crate) static STOPPED: AtomicBool = AtomicBool::new(false);
/// The interval between checks of `STOPPED`.
const LOOK: Duration = Duration::from_millis(100);

/// The running members, and the channel of their reports.
pub(crate) struct Crew {
    ground: Ground,
    directory: TempDir,
    members: BTreeMap<u32, Running>,
    reports: Receiver<(u32, u64, Report)>,
    reporter: Sender<(u32, u64, Report)>,
    /// The number of members started so far.
    starts: u64,
    /// The number of names that each member stands for.
    names: u32,
}

struct Running {
    start: u64,
    process: Child,
    orders: ChildStdin,
    /// The size of the member's ring, once that is settled.
    settled: Option<usize>,
}

impl Crew {
    pub(crate) fn new(ground: Ground, totem: &Options) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("quorate-bench-").tempdir();
        let directory =
            directory.map_err(|error| Failure::new(format!("cannot make a directory: {error}")))?;
        let conf = directory.path().join("corosync.conf");
        fs::write(conf, ground.corosync_conf(totem))
            .map_err(|error| Failure::new(format!("cannot write the configuration: {error}")))?;
        let (reporter, reports) = channel();
        let members = BTreeMap::new();
        Ok(Self { ground, directory, members, reports, reporter, starts: 0, names: 0 })
    }

    /// Lets members stand for this number of names.
    pub(crate) fn leading(mut self, names: u32) -> Self {
        self.names = names;
        self
    }

    pub(crate) fn ground(&self) -> &Ground {
        &self.ground
    }

    pub(crate) fn nodes(&self) -> BTreeSet<u32> {
        self.members.keys().copied().collect()
    }

    /// Starts a member.
    pub(crate) fn start(&mut self, node: u32) -> Result<(), Failure> {
        let cannot = |error| Failure::new(format!("cannot start a member: {error}"));
        let program = std::env::current_exe().map_err(cannot)?;
        let log = self.directory.path().join(format!("{node}.log"));
        let log = File::options().create(true).append(true).open(log).map_err(cannot)?;
        let mut process = self
            .ground
            .command(node, &program)
            .args(["bench", "member", "--name", &format!("n{node}"), "--config"])
            .arg(self.directory.path().join("corosync.conf"))
            .arg("--state-dir")
            .arg(self.directory.path().join(format!("state{node}")))
            .args(["--names", &self.names.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(cannot)?;
        self.starts += 1;
        let (start, reporter) = (self.starts, self.reporter.clone());
        let (orders, words) = process.stdin.take().zip(process.stdout.take()).ok_or_else(|| {
            Failure::new("a member's standard input and output are not there, which is a bug")
        })?;
        thread::spawn(move || {
            for line in BufReader::new(words).lines().map_while(Result::ok) {
                let report = serde_json::from_str(&line)
                    .unwrap_or_else(|error| Report::Failed { why: format!("{line}: {error}") });
                if reporter.send((node, start, report)).is_err() {
                    return;
                }
            }
            let _ = reporter.send((node, start, Report::Failed { why: "it has ended".to_owned() }));
        });
        self.members.insert(node, Running { start, process, orders, settled: None });
        Ok(())
    }

    /// Starts members 1 to `nodes`, waits for one ring, and returns how long that took.
    pub(crate) fn start_all(&mut self, nodes: u32, patience: Duration) -> Result<Duration, Failure> {
        let began = Instant::now();
        for node in 1..=nodes {
            self.start(node)?;
        }
        self.settle(patience)?;
        Ok(began.elapsed())
    }

    /// Waits until all members are in one settled ring.
    pub(crate) fn settle(&mut self, patience: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        let all = Some(self.members.len());
        while self.members.values().any(|running| running.settled != all) {
            self.next(deadline)?;
        }
        Ok(())
    }

    /// Returns the next report of a running member.
    pub(crate) fn next(&mut self, deadline: Instant) -> Result<(u32, Report), Failure> {
        let report = self.next_until(deadline)?;
        report.ok_or_else(|| Failure::new(format!("too slow: {}", self.last_words())))
    }

    /// Returns the next report of a running member, or `None` at the deadline.
    pub(crate) fn next_until(&mut self, deadline: Instant) -> Result<Option<(u32, Report)>, Failure> {
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            let report = self.reports.recv_timeout(patience.min(LOOK));
            if STOPPED.load(Ordering::Relaxed) {
                return Err(Failure::new("stopped before it was done"));
            }
            let (node, start, report) = match report {
                Ok(report) => report,
                Err(RecvTimeoutError::Timeout) if patience > LOOK => continue,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::new("all members are gone")),
            };
            let Some(running) = self.members.get_mut(&node).filter(|running| running.start == start) else {
                continue;
            };
            match &report {
                Report::Ring { .. } => running.settled = None,
                Report::Settled { members } => running.settled = Some(*members),
                Report::Failed { why } => {
                    return Err(Failure::new(format!("member {node}: {why}: {}", self.last_words())));
                }
                _ => {}
            }
            return Ok(Some((node, report)));
        }
    }

    /// Starts a load on all members. Returns when it begins.
    pub(crate) fn begin(&mut self, load: &Load) -> Result<(), Failure> {
        for node in self.nodes() {
            self.order(node, &Order::Load(load.clone()))?;
        }
        thread::sleep(Duration::from_nanos(load.at.saturating_sub(now())));
        Ok(())
    }

    /// Waits until all members have delivered the whole load.
    pub(crate) fn done(&mut self, deadline: Instant) -> Result<BTreeMap<u32, Done>, Failure> {
        let mut done = BTreeMap::new();
        while done.len() < self.members.len() {
            match self.next(deadline)? {
                (node, Report::Done(report)) => drop(done.insert(node, report)),
                (node, Report::Ring { members, .. }) => {
                    return Err(Failure::new(format!(
                        "the ring changed under the load: {members:?} at member {node}"
                    )));
                }
                _ => {}
            }
        }
        Ok(done)
    }

    /// Sends an order to a member.
    pub(crate) fn order(&mut self, node: u32, order: &Order) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(order).map_err(|error| Failure::new(error.to_string()))?;
        line.push(b'\n');
        let orders = self.members.get_mut(&node).map(|running| &mut running.orders);
        orders
            .is_some_and(|orders| orders.write_all(&line).is_ok())
            .then_some(())
            .ok_or_else(|| Failure::new(format!("member {node} hears nothing")))
    }

    /// Kills a member, and returns the time.
    pub(crate) fn kill(&mut self, node: u32) -> Result<u64, Failure> {
        let mut running = self.take(node)?;
        let at = now();
        running.process.kill().map_err(|error| Failure::new(format!("cannot kill a member: {error}")))?;
        let _ = running.process.wait();
        Ok(at)
    }

    /// Asks a member to leave. Returns the time, and a function that waits for its end.
    pub(crate) fn leave(&mut self, node: u32) -> Result<(u64, impl FnOnce() + use<>), Failure> {
        let Running { mut process, orders, .. } = self.take(node)?;
        let at = now();
        drop(orders);
        Ok((at, move || drop(process.wait())))
    }

    fn take(&mut self, node: u32) -> Result<Running, Failure> {
        self.members.remove(&node).ok_or_else(|| Failure::new(format!("there is no member {node}")))
    }

    /// Returns the last line of each member's log, as a hint to the cause of a failure.
    fn last_words(&self) -> String {
        let word = |node: &u32| {
            let log =
                fs::read_to_string(self.directory.path().join(format!("{node}.log"))).unwrap_or_default();
            log.lines().last().map(|line| format!("member {node} said last: {line}"))
        };
        let words: Vec<String> = self.members.keys().filter_map(word).collect();
        if words.is_empty() { "its members say nothing".to_owned() } else { words.join("; ") }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for running in self.members.values_mut() {
            let _ = running.process.kill();
            let _ = running.process.wait();
        }
    }
}
