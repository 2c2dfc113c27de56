//! Recorded quorum cases. Each has a cluster, steps that change it, and the votes that each node
//! reports after each step.
//!
//! A case runs on the core engine with the real core and election:
//! - `down` is a crash.
//! - `leave` is a leave in order.
//! - `up` is a start from nothing.
//! - `split` and `join` move nodes between parts of the network.
//! - `wait` lets time pass.
//!
//! After each step there is time for rings to form. As in the recording, the window of
//! `last_man_standing` is 5 s, whatever the case says, and waits are stretched by the same factor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use quorate_election::Status;
use quorate_membership::NodeId;
use quorate_membership::config::{QuorumConfig, TieBreaker};
use serde::Deserialize;

use crate::{Electorate, Fault, History, Scenario};

/// A file of cases.
#[derive(Deserialize, Debug)]
pub struct Cases {
    /// The cases, in order.
    pub cases: Vec<Case>,
}

/// A recorded case.
#[derive(Deserialize, Debug)]
pub struct Case {
    /// The name.
    pub id: String,
    config: CaseConfig,
    /// The origin of the record.
    #[serde(default)]
    engine: String,
    /// Whether no node is able to start.
    #[serde(default)]
    start_fails: bool,
    steps: Vec<Step>,
}

#[derive(Deserialize, Debug)]
struct CaseConfig {
    nodes: Vec<u32>,
    #[serde(default)]
    quorum_votes: BTreeMap<u32, u32>,
    #[serde(default)]
    quorum: BTreeMap<String, Word>,
}

/// A value of corosync.conf.
#[derive(Deserialize, Debug)]
#[serde(untagged)]
enum Word {
    Number(u32),
    Text(String),
}

#[derive(Deserialize, Debug)]
struct Step {
    #[serde(rename = "do")]
    action: String,
    #[serde(default)]
    partitions: Vec<Partition>,
}

#[derive(Deserialize, Debug)]
struct Partition {
    members: BTreeSet<u32>,
    quorate: Each<bool>,
    expected_votes: Each<u32>,
    quorum: Each<u32>,
    total_votes: Each<u32>,
    flags: Each<Vec<String>>,
}

/// A value that is the same for all members, or a value for each member.
#[derive(Deserialize, Debug)]
#[serde(untagged)]
enum Each<T> {
    All(T),
    ByNode(BTreeMap<String, T>),
}

impl<T: Clone> Each<T> {
    fn of(&self, node: u32) -> Option<T> {
        match self {
            Self::All(value) => Some(value.clone()),
            Self::ByNode(values) => values.get(&node.to_string()).cloned(),
        }
    }
}

/// The votes as a node reports them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Count {
    /// The members of its ring.
    pub members: BTreeSet<u32>,
    /// Whether the members are quorate.
    pub quorate: bool,
    /// The votes expected.
    pub expected_votes: u32,
    /// The votes needed.
    pub quorum: u32,
    /// The votes present.
    pub total_votes: u32,
    /// The options in force, and `Quorate`.
    pub flags: Vec<String>,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { members, quorate, expected_votes, quorum, total_votes, flags } = self;
        let not = if *quorate { "" } else { "not " };
        write!(
            f,
            "{members:?} {not}quorate, votes {total_votes}, needed {quorum}, expected {expected_votes}, flags {flags:?}"
        )
    }
}

impl Count {
    fn expected(partition: &Partition, node: u32) -> Option<Self> {
        Some(Self {
            members: partition.members.clone(),
            quorate: partition.quorate.of(node)?,
            expected_votes: partition.expected_votes.of(node)?,
            quorum: partition.quorum.of(node)?,
            total_votes: partition.total_votes.of(node)?,
            flags: partition.flags.of(node)?,
        })
    }

    fn got(status: &Status) -> Self {
        let online = status.nodes.iter().filter(|node| node.online);
        Self {
            members: online.map(|node| node.id.get()).collect(),
            quorate: status.quorate,
            expected_votes: status.expected_votes.unwrap_or(0),
            quorum: status.quorum.unwrap_or(0),
            total_votes: status.total_votes,
            flags: status.flags.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A step after which a node reports something else than was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The case.
    pub case: String,
    /// The step, from 1, which is the start.
    pub step: usize,
    /// The action of the step.
    pub action: String,
    /// The node that reports it. `None`: the difference concerns all nodes.
    pub node: Option<u32>,
    /// The recorded report.
    pub expected: String,
    /// The node's report.
    pub got: String,
    /// The reason for a deliberate difference. `None`: the difference is not deliberate.
    pub decision: Option<&'static str>,
    /// Whether it was recorded from a simulator only, and not from real daemons.
    pub simulated: bool,
}

impl Difference {
    /// Returns `true` if the difference is not deliberate, and was recorded from real daemons.
    pub fn is_unexpected(&self) -> bool {
        self.decision.is_none() && !self.simulated
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, step {} ({})", self.case, self.step, self.action)?;
        self.node.iter().try_for_each(|node| write!(f, ", node {node}"))?;
        match self.decision {
            Some(why) => writeln!(f, ": decided: {why}")?,
            None if self.simulated => writeln!(f, ": by a simulator only")?,
            None => writeln!(f, ": NOT DECIDED")?,
        }
        writeln!(f, "  expected  {}", self.expected)?;
        write!(f, "  got       {}", self.got)
    }
}

/// The steps of recorded cases after which our nodes deliberately report something else, and the
/// reason.
pub const DECISIONS: &[(&str, &[usize], &str)] = &[
    ("2node-3-listed", &[1, 2, 3], TWO_NODE),
    ("2node-3-listed-three-way", &[1, 2, 3, 4], TWO_NODE),
    ("2node-3-listed-2-1", &[1, 2, 3], TWO_NODE),
    ("2node-third-joins", &[3, 4], TWO_NODE),
    ("atb-list-cold-start-half", &[3, 4], "members of the last ring break a tie, not a starting cluster"),
    ("atb-3-wfa-survivor", &[3], "a tie is exactly half: 1 of 3 may face 2 of 3"),
    (
        "lms-4-slow",
        &[8, 9],
        "inquorate members count the highest number expected, so that all of a ring agree: 2 of 4",
    ),
];

const TWO_NODE: &str = "two_node is off where more than two nodes are expected";

/// The recorded window of `last_man_standing`.
const WINDOW: Duration = Duration::from_secs(5);

impl Case {
    /// Returns the number of steps.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Returns `true` if it was recorded from a simulator only, so that our nodes need not match
    /// it.
    pub fn is_simulated(&self) -> bool {
        self.engine.contains("simulator only")
    }

    /// Runs the case.
    ///
    /// # Errors
    /// If the case cannot be parsed, or an invariant is violated.
    pub fn run(&self) -> Result<Vec<Difference>, String> {
        let wrong = |why: String| format!("{}: {why}", self.id);
        let (scenario, looks) = self.scenario().map_err(wrong)?;
        let (result, history) = scenario.run_core_traced();
        let fails = match result {
            Ok(_) => None,
            Err(failure) if failure.violation().is_none() => Some(failure.to_string()),
            Err(failure) => return Err(wrong(failure.to_string())),
        };
        if self.start_fails || fails.is_some() {
            let outcome = |fails: bool| if fails { "no node starts" } else { "nodes start" };
            let (expected, got) = (outcome(self.start_fails), outcome(fails.is_some()));
            let differs =
                (expected != got).then(|| self.difference(1, None, expected.to_owned(), got.to_owned()));
            return Ok(differs.into_iter().collect());
        }
        let steps = (1..).zip(self.steps.iter().zip(looks));
        Ok(steps.flat_map(|(n, (step, at))| self.compare(n, step, at, &history)).collect())
    }

    fn compare(&self, n: usize, step: &Step, at: Duration, history: &History) -> Vec<Difference> {
        let of_node = |partition: &Partition, node: u32| {
            let expected = Count::expected(partition, node).map(|count| count.to_string());
            let got = history.status(node, at).map(|status| Count::got(status).to_string());
            if expected == got {
                return None;
            }
            let or = |text: Option<String>, otherwise: &str| text.unwrap_or_else(|| otherwise.to_owned());
            Some(self.difference(n, Some(node), or(expected, "nothing recorded"), or(got, "no status")))
        };
        let of_partition = |partition: &Partition| -> Vec<Difference> {
            partition.members.iter().filter_map(|&node| of_node(partition, node)).collect()
        };
        step.partitions.iter().flat_map(of_partition).collect()
    }

    fn difference(&self, step: usize, node: Option<u32>, expected: String, got: String) -> Difference {
        let decided = DECISIONS.iter().find(|(case, steps, _)| *case == self.id && steps.contains(&step));
        Difference {
            case: self.id.clone(),
            step,
            action: self.steps.get(step - 1).map(|step| step.action.clone()).unwrap_or_default(),
            node,
            expected,
            got,
            decision: decided.map(|(.., why)| *why),
            simulated: self.is_simulated(),
        }
    }

    /// Returns the scenario, and the times at which to compare after each step.
    fn scenario(&self) -> Result<(Scenario, Vec<Duration>), String> {
        let actions =
            self.steps.iter().map(|step| Action::read(&step.action)).collect::<Result<Vec<_>, _>>()?;
        let named = actions.iter().flat_map(Action::nodes).chain(self.config.nodes.iter().copied());
        let nodes = named.max().unwrap_or(0);
        let mut world = World::new(nodes, &self.config.nodes);
        let mut scenario = Scenario::new(nodes, Duration::ZERO).electorate(self.config.electorate()?);
        scenario.world.node_list = nodes as usize == self.config.nodes.len();
        if !scenario.world.node_list {
            let listed: u32 = self.config.nodes.iter().map(|node| self.config.votes(*node)).sum();
            scenario.electorate.quorum.expected_votes.get_or_insert(listed);
        }
        let settles = scenario.settles_within();
        let mut now = Duration::ZERO;
        let mut looks = Vec::new();
        for action in &actions {
            world.apply(action).into_iter().for_each(|fault| scenario.timeline.push((now, fault)));
            now += match action {
                Action::Wait(wait) => self.config.stretch(*wait),
                _ => settles,
            };
            // Just before the next step.
            looks.push(now.saturating_sub(Duration::from_millis(1)));
        }
        scenario.length = now;
        Ok((scenario, looks))
    }
}

impl CaseConfig {
    fn votes(&self, node: u32) -> u32 {
        self.quorum_votes.get(&node).copied().unwrap_or(1)
    }

    fn number(&self, key: &str) -> Result<Option<u32>, String> {
        match self.quorum.get(key) {
            None => Ok(None),
            Some(Word::Number(number)) => Ok(Some(*number)),
            Some(Word::Text(text)) => Err(format!("quorum.{key} is `{text}`, not a number")),
        }
    }

    fn is_on(&self, key: &str) -> Result<bool, String> {
        Ok(self.number(key)?.unwrap_or(0) != 0)
    }

    fn electorate(&self) -> Result<Electorate, String> {
        const KNOWN: [&str; 9] = [
            "expected_votes",
            "two_node",
            "wait_for_all",
            "last_man_standing",
            "last_man_standing_window",
            "auto_tie_breaker",
            "auto_tie_breaker_node",
            "allow_downscale",
            "expected_votes_tracking",
        ];
        if let Some(key) = self.quorum.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(format!("quorum.{key} is not a known option"));
        }
        let ids =
            |text: &str| text.split(' ').map(|id| id.parse::<NodeId>().ok()).collect::<Option<Vec<_>>>();
        let tie_breaker = match self.quorum.get("auto_tie_breaker_node") {
            _ if !self.is_on("auto_tie_breaker")? => None,
            None => Some(TieBreaker::Lowest),
            Some(Word::Number(node)) => Some(TieBreaker::List(NodeId::new(*node).into_iter().collect())),
            Some(Word::Text(text)) => match text.as_str() {
                "lowest" => Some(TieBreaker::Lowest),
                "highest" => Some(TieBreaker::Highest),
                list => Some(TieBreaker::List(ids(list).ok_or(format!("`{list}` is not a list of nodes"))?)),
            },
        };
        let mut quorum = QuorumConfig::default();
        quorum.expected_votes = self.number("expected_votes")?;
        quorum.two_node = self.is_on("two_node")?;
        quorum.wait_for_all = self.number("wait_for_all")?.map(|on| on != 0);
        quorum.last_man_standing = self.is_on("last_man_standing")?;
        quorum.last_man_standing_window = WINDOW;
        quorum.auto_tie_breaker = tie_breaker;
        quorum.allow_downscale = self.is_on("allow_downscale")?;
        quorum.expected_votes_tracking = self.is_on("expected_votes_tracking")?;
        Ok(Electorate { quorum, votes: self.quorum_votes.clone(), ..Electorate::default() })
    }

    /// Returns the length of a wait, scaled from the case's window to the recorded one.
    fn stretch(&self, wait: Duration) -> Duration {
        match self.number("last_man_standing_window") {
            Ok(Some(window)) if window > 0 => (wait * WINDOW.as_millis() as u32 / window).max(wait),
            _ => wait,
        }
    }
}

/// The action of a step.
#[derive(Debug)]
enum Action {
    Start,
    Down(Vec<u32>),
    Leave(Vec<u32>),
    Up(Vec<(u32, Vec<u32>)>),
    Split(Vec<(u32, Vec<u32>)>),
    Join(Vec<u32>),
    Wait(Duration),
}

impl Action {
    fn read(text: &str) -> Result<Self, String> {
        let no = || format!("`{text}` is not an action");
        let number = |word: &str| word.parse::<u32>().map_err(|_| no());
        let numbers = |word: &str| word.split(',').map(number).collect::<Result<Vec<u32>, String>>();
        // Either `PART:NODES`, or nodes of part 0.
        let part = |word: &str| match word.split_once(':') {
            Some((part, nodes)) => Ok((number(part)?, numbers(nodes)?)),
            None => Ok((0, numbers(word)?)),
        };
        let mut words = text.split_ascii_whitespace();
        let verb = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let nodes =
            || words.iter().map(|word| numbers(word)).collect::<Result<Vec<_>, _>>().map(|all| all.concat());
        let parts = || words.iter().map(|word| part(word)).collect::<Result<Vec<_>, String>>();
        match verb {
            "start" if words.is_empty() => Ok(Self::Start),
            "down" => Ok(Self::Down(nodes()?)),
            "leave" => Ok(Self::Leave(nodes()?)),
            "up" => Ok(Self::Up(parts()?)),
            "split" => Ok(Self::Split(parts()?)),
            "join" => Ok(Self::Join(nodes()?)),
            "wait" => match words[..] {
                [ms] => Ok(Self::Wait(Duration::from_millis(number(ms)?.into()))),
                _ => Err(no()),
            },
            _ => Err(no()),
        }
    }

    fn nodes(&self) -> Vec<u32> {
        match self {
            Self::Down(nodes) | Self::Leave(nodes) => nodes.clone(),
            Self::Up(parts) | Self::Split(parts) => {
                parts.iter().flat_map(|(_, nodes)| nodes.clone()).collect()
            }
            Self::Start | Self::Join(_) | Self::Wait(_) => Vec::new(),
        }
    }
}

/// The part of the network that each node is in, whether it is up or not.
struct World {
    part_of: BTreeMap<u32, u32>,
    listed: Vec<u32>,
}

impl World {
    fn new(nodes: u32, listed: &[u32]) -> Self {
        Self { part_of: (1..=nodes).map(|node| (node, 0)).collect(), listed: listed.to_vec() }
    }

    fn apply(&mut self, action: &Action) -> Vec<Fault> {
        let before = self.part_of.clone();
        let mut faults = Vec::new();
        match action {
            Action::Start => {
                let absent = self.part_of.keys().filter(|node| !self.listed.contains(node));
                faults.extend(absent.map(|&node| Fault::Crash(node)));
            }
            Action::Down(nodes) => faults.extend(nodes.iter().map(|&node| Fault::Crash(node))),
            Action::Leave(nodes) => faults.extend(nodes.iter().map(|&node| Fault::Leave(node))),
            Action::Up(parts) | Action::Split(parts) => {
                for (part, nodes) in parts {
                    self.part_of.extend(nodes.iter().map(|&node| (node, *part)));
                }
            }
            Action::Join(parts) => {
                let into = parts.first().copied().unwrap_or(0);
                self.part_of.values_mut().filter(|part| parts.contains(part)).for_each(|part| *part = into);
            }
            Action::Wait(_) => {}
        }
        if self.part_of != before {
            let mut parts: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            self.part_of.iter().for_each(|(&node, &part)| parts.entry(part).or_default().push(node));
            faults.push(Fault::Partition(parts.into_values().collect()));
        }
        if let Action::Up(parts) = action {
            faults.extend(parts.iter().flat_map(|(_, nodes)| nodes).map(|&node| Fault::Restart(node)));
        }
        faults
    }
}
