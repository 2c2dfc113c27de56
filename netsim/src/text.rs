//! Parses faults and scenarios from the text that `Display` writes.

use std::str::FromStr;
use std::time::Duration;

use crate::fault::Fate;
use crate::scenario::{Load, Scenario};
use crate::value::{fill, value};
use crate::{Fault, scenario};

/// An error for text that is not a [`Fault`] or a [`Scenario`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct ParseScenarioError {
    /// The line, from 1. `None` if the text is a single line.
    pub line: Option<usize>,
    /// The problem.
    pub what: String,
}

impl std::fmt::Display for ParseScenarioError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.line.iter().try_for_each(|line| write!(f, "line {line}: "))?;
        f.write_str(&self.what)
    }
}

/// Reads a fault. Each reader returns `None` for a sentence that is not among its own.
fn fault(text: &str) -> Result<Fault, String> {
    let readers = [of_process, of_host, of_links, of_datagrams, of_application];
    for read in readers {
        if let Some(fault) = read(text)? {
            return Ok(fault);
        }
    }
    Err(format!("`{text}` is not a known fault"))
}

/// Reads a fault of a node's process, of its records, or of its file.
fn of_process(text: &str) -> Result<Option<Fault>, String> {
    Ok(Some(if let Some([node]) = fill("node {} crashes", text) {
        Fault::Crash(value(node)?)
    } else if let Some([node]) = fill("node {} starts again", text) {
        Fault::Restart(value(node)?)
    } else if let Some([node]) = fill("node {} leaves", text) {
        Fault::Leave(value(node)?)
    } else if let Some([node, lasts]) = fill("node {} pauses for {}", text) {
        Fault::Pause { node: value(node)?, lasts: value(lasts)? }
    } else if let Some([node]) = fill("node {} loses its record", text) {
        Fault::LoseRecord(value(node)?)
    } else if let Some([node]) = fill("node {} gets back an older record", text) {
        Fault::RollBackRecord(value(node)?)
    } else if let Some([node, list]) = fill("node {} gets a file that lists {}", text) {
        let (list, waits) = match list.strip_suffix(" and waits for all") {
            Some(list) => (list, true),
            None => (list, false),
        };
        Fault::File { node: value(node)?, voters: value(list)?, waits }
    } else if let Some([node, point, then]) = fill("when node {} {}: {}", text) {
        Fault::When { node: value(node)?, point: value(point)?, then: Box::new(fault(then)?) }
    } else {
        return Ok(None);
    }))
}

/// Reads a fault of a host: its speed, clock, disk, address or firewall.
fn of_host(text: &str) -> Result<Option<Fault>, String> {
    Ok(Some(if let Some([node, lasts]) = fill("node {} freezes for {}", text) {
        Fault::Freeze { node: value(node)?, lasts: value(lasts)? }
    } else if let Some([node, each, lasts]) = fill("node {} takes {} a datagram for {}", text) {
        Fault::Slow { node: value(node)?, each: value(each)?, lasts: value(lasts)? }
    } else if let Some([node, ppm]) = fill("the clock of node {} drifts by {} ppm", text) {
        Fault::Drift { node: value(node)?, ppm: value(ppm)? }
    } else if let Some([node, each, lasts]) = fill("node {} takes {} a write for {}", text) {
        Fault::SlowDisk { node: value(node)?, each: value(each)?, lasts: value(lasts)? }
    } else if let Some([node, lasts]) = fill("the disk of node {} is full for {}", text) {
        Fault::FullDisk { node: value(node)?, lasts: value(lasts)? }
    } else if let Some([node]) = fill("node {} loses its address", text) {
        Fault::LoseAddress(value(node)?)
    } else if let Some([node]) = fill("node {} has its address again", text) {
        Fault::RegainAddress(value(node)?)
    } else if let Some([node, lasts]) = fill("the firewall of node {} rejects what comes in for {}", text) {
        Fault::Reject { node: value(node)?, lasts: value(lasts)? }
    } else {
        return Ok(None);
    }))
}

/// Reads a fault of the links between nodes.
fn of_links(text: &str) -> Result<Option<Fault>, String> {
    Ok(Some(if let Some([parts]) = fill("partition {}", text) {
        Fault::Partition(value(parts)?)
    } else if let Some([to, from]) = fill("node {} no longer hears node {}", text) {
        Fault::CutOneWay { from: value(from)?, to: value(to)? }
    } else if let Some([to, from]) = fill("node {} never hears node {} again", text) {
        Fault::Deafen { from: value(from)?, to: value(to)? }
    } else if let Some([a, b]) = fill("nodes {} and {} no longer hear each other", text) {
        Fault::Cut(value(a)?, value(b)?)
    } else if let Some([a, b]) = fill("nodes {} and {} hear each other again", text) {
        Fault::Mend(value(a)?, value(b)?)
    } else if text == "the network heals" {
        Fault::Heal
    } else {
        return Ok(None);
    }))
}

/// Reads a fault of single datagrams: some are lost, come late, come again, or are forged.
fn of_datagrams(text: &str) -> Result<Option<Fault>, String> {
    Ok(Some(if let Some([lasts, rest]) = fill("for {} {}", text) {
        disturbance(value(lasts)?, rest)?
    } else if let Some([which]) = fill("the next {} is lost", text) {
        caught(which, Fate::Lost)?
    } else if let Some([which, by]) = fill("the next {} is late by {}", text) {
        caught(which, Fate::Late(value(by)?))?
    } else if let Some([which, after]) = fill("the next {} comes again after {}", text) {
        caught(which, Fate::Twice(value(after)?))?
    } else if let Some([count]) = fill("{} old datagrams come again", text) {
        Fault::Replay(value(count)?)
    } else if let Some([count]) = fill("{} datagrams of another cluster come in", text) {
        Fault::Foreign(value(count)?)
    } else if let Some([to, says, of]) = fill("node {} gets a forged {} node {}", text) {
        Fault::Forge { to: value(to)?, of: value(of)?, says: value(says)? }
    } else if let Some([to, of]) = fill("node {} is told that node {} is gone", text) {
        Fault::Lie { to: value(to)?, of: value(of)? }
    } else {
        return Ok(None);
    }))
}

/// Reads an act of a node's application or of its operator.
fn of_application(text: &str) -> Result<Option<Fault>, String> {
    Ok(Some(if let Some([node, lasts]) = fill("the application of node {} hangs for {}", text) {
        Fault::Hang { node: value(node)?, lasts: value(lasts)? }
    } else if let Some([node, lasts]) = fill("node {} reads no events for {}", text) {
        Fault::Unread { node: value(node)?, lasts: value(lasts)? }
    } else if let Some([node]) = fill("node {} is asked to give up the role", text) {
        Fault::Release(value(node)?)
    } else if let Some([node, count, guarantee, length]) =
        fill("node {} sends {} {} messages of {} bytes", text)
    {
        Fault::Send {
            node: value(node)?,
            count: value(count)?,
            length: value(length)?,
            guarantee: value(guarantee)?,
        }
    } else {
        return Ok(None);
    }))
}

fn disturbance(lasts: Duration, text: &str) -> Result<Fault, String> {
    let (text, to) = match text.rsplit_once(" to node ") {
        Some((text, node)) => (text, Some(value(node)?)),
        None => (text, None),
    };
    let (text, from) = match text.rsplit_once(" from node ") {
        Some((text, node)) => (text, Some(value(node)?)),
        None => (text, None),
    };
    let Some((trouble, kind)) = text.rsplit_once(" of ") else {
        return Err(format!("`{text}` does not say which datagrams; add for example `of tokens`"));
    };
    Ok(Fault::Disturb { lasts, trouble: value(trouble)?, kind: value(kind)?, from, to })
}

fn caught(text: &str, fate: Fate) -> Result<Fault, String> {
    let (kind, after) = match text.split_once(" but ") {
        Some((kind, after)) => (kind, value(after)?),
        None => (text, 0),
    };
    Ok(Fault::Catch { kind: value(kind)?, after, fate })
}

impl FromStr for Fault {
    type Err = ParseScenarioError;

    fn from_str(text: &str) -> Result<Self, ParseScenarioError> {
        fault(text.trim()).map_err(|what| ParseScenarioError { line: None, what })
    }
}

impl TryFrom<String> for Fault {
    type Error = ParseScenarioError;

    fn try_from(text: String) -> Result<Self, ParseScenarioError> {
        text.parse()
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

/// Ignores empty lines, and comments that begin with `#`.
impl FromStr for Scenario {
    type Err = ParseScenarioError;

    fn from_str(text: &str) -> Result<Self, ParseScenarioError> {
        let mut scenario = None;
        for (n, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let read = match &mut scenario {
                None => first(line).map(|first| scenario = Some(first)),
                Some(scenario) => further(scenario, line),
            };
            read.map_err(|what| ParseScenarioError { line: Some(n + 1), what })?;
        }
        scenario.ok_or_else(|| ParseScenarioError { line: None, what: "the scenario is empty".to_owned() })
    }
}

fn first(line: &str) -> Result<Scenario, String> {
    let Some([nodes, length, token, seed]) = fill("{} nodes for {}, token timeout {}, seed {}", line) else {
        return Err(format!(
            "`{line}` cannot begin a scenario; write for example 3 nodes for 2s, token timeout 200ms, seed 7"
        ));
    };
    Ok(Scenario::new(value(nodes)?, value(length)?).token(value(token)?).seed(value(seed)?))
}

fn further(scenario: &mut Scenario, line: &str) -> Result<(), String> {
    if let Some([every, until, longest, safe]) =
        fill("each sends every {} until {}, up to {} bytes, {} % safe", line)
    {
        scenario.load = Some(Load {
            every: value(every)?,
            until: value(until)?,
            longest: value(longest)?,
            safe_percent: value(safe)?,
        });
    } else if let Some([key, text]) = fill("with {} {}", line) {
        let Some((_, setting)) = scenario.settings().into_iter().find(|(name, _)| *name == key) else {
            return Err(format!("`{key}` is not a setting"));
        };
        match setting {
            scenario::Setting::Time(time) => *time = value(text)?,
            scenario::Setting::Count(count) => *count = value(text)?,
            scenario::Setting::Number(number) => *number = value(text)?,
            scenario::Setting::Size(size) => *size = value(text)?,
            scenario::Setting::Seq(seq) => *seq = quorate_membership::Seq::new(value(text)?),
            scenario::Setting::Flag(flag) => *flag = value(text)?,
            scenario::Setting::Electorate(electorate) => *electorate = value(text)?,
            scenario::Setting::Priorities(priorities) => *priorities = value(text)?,
        }
    } else if let Some([at]) = fill("calm from {}", line) {
        scenario.calm_at = Some(value(at)?);
    } else if let Some([at, text]) = fill("at {} {}", line) {
        scenario.timeline.push((value(at)?, fault(text)?));
    } else {
        return Err(format!(
            "`{line}` is neither a fault (at TIME ...), a setting (with NAME VALUE), a load (each sends ...) nor the end \
             of the trouble (calm from TIME)"
        ));
    }
    Ok(())
}

impl TryFrom<String> for Scenario {
    type Error = ParseScenarioError;

    fn try_from(text: String) -> Result<Self, ParseScenarioError> {
        text.parse()
    }
}

impl From<Scenario> for String {
    fn from(scenario: Scenario) -> Self {
        scenario.to_string()
    }
}

#[cfg(test)]
mod tests {
    use quorate_membership::Guarantee;

    use super::*;
    use crate::fault::{Forged, Kind, Point, Share, Trouble};
    use crate::value::Value;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Returns a fault of each kind.
    fn all() -> Vec<Fault> {
        let troubles = [
            Trouble::Lose(Share(1234)),
            Trouble::LoseInBursts { bad: ms(20), good: ms(1500) },
            Trouble::LoseAbove(500),
            Trouble::Duplicate { share: Share::percent(5), within: ms(10_000) },
            Trouble::Delay { share: Share::percent(100), by: Duration::from_micros(1500) },
            Trouble::Flip { share: Share::percent(1), bits: 8 },
            Trouble::Resize(Share::percent(2)),
        ];
        let disturb = |(n, trouble): (u32, Trouble)| Fault::Disturb {
            lasts: ms(2000),
            trouble,
            kind: Kind::ALL[n as usize].0,
            from: (n % 2 == 0).then_some(1),
            to: (n % 3 == 0).then_some(2),
        };
        let mut faults: Vec<Fault> = (0..).zip(troubles).map(disturb).collect();
        for (kind, ..) in Kind::ALL {
            for fate in [Fate::Lost, Fate::Late(ms(300)), Fate::Twice(ms(5))] {
                faults.push(Fault::Catch { kind, after: 0, fate });
                faults.push(Fault::Catch { kind, after: 3, fate });
            }
            for point in [Point::Sends(kind), Point::HasSent(kind)] {
                faults.push(Fault::When { node: 3, point, then: Box::new(Fault::Crash(3)) });
            }
        }
        for phase in Point::PHASES {
            let then = Box::new(Fault::Partition(vec![vec![1], vec![2, 3]]));
            faults.push(Fault::When { node: 3, point: Point::Enters(phase), then });
        }
        for point in [Point::Stores, Point::HasStored] {
            faults.push(Fault::When { node: 3, point, then: Box::new(Fault::Restart(3)) });
        }
        faults.extend([
            Fault::Crash(1),
            Fault::Restart(2),
            Fault::Partition(vec![vec![1, 2], vec![], vec![3]]),
            Fault::CutOneWay { from: 1, to: 2 },
            Fault::Heal,
            Fault::Cut(1, 2),
            Fault::Mend(1, 2),
            Fault::Hang { node: 2, lasts: ms(1250) },
            Fault::Release(2),
            Fault::Replay(20),
            Fault::Foreign(7),
            Fault::Deafen { from: 1, to: 2 },
            Fault::Reject { node: 2, lasts: ms(50) },
            Fault::Lie { to: 1, of: 3 },
            Fault::Leave(3),
            Fault::LoseRecord(3),
            Fault::RollBackRecord(3),
            Fault::File { node: 2, voters: [(1, 1), (3, 2)].into(), waits: false },
            Fault::File { node: 2, voters: [(1, 0)].into(), waits: true },
            Fault::Pause { node: 1, lasts: ms(1250) },
            Fault::Freeze { node: 1, lasts: ms(1250) },
            Fault::Slow { node: 2, each: Duration::from_micros(700), lasts: ms(300) },
            Fault::SlowDisk { node: 2, each: ms(40), lasts: ms(300) },
            Fault::FullDisk { node: 2, lasts: ms(300) },
            Fault::LoseAddress(2),
            Fault::RegainAddress(2),
            Fault::Unread { node: 2, lasts: ms(300) },
            Fault::Drift { node: 2, ppm: -500 },
            Fault::Send { node: 1, count: 50, length: 0, guarantee: Guarantee::Safe },
        ]);
        faults.extend(Forged::ALL.map(|(says, _)| Fault::Forge { to: 1, of: 2, says }));
        faults
    }

    #[test]
    fn printed_faults_are_read_back() {
        for fault in all() {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
    }

    #[test]
    fn printed_scenarios_are_read_back() {
        let mut scenario = Scenario::new(3, ms(20_000))
            .seed(u64::MAX)
            .token(ms(350))
            .load(Load {
                every: Duration::from_micros(1700),
                until: ms(1500),
                longest: 2000,
                safe_percent: 30,
            })
            .calm(ms(9000));
        for (n, (_, setting)) in (20..).zip(scenario.settings()) {
            match setting {
                scenario::Setting::Time(time) => *time = ms(n),
                scenario::Setting::Count(count) => *count = n as u32,
                scenario::Setting::Number(number) => *number = n,
                scenario::Setting::Size(size) => *size = n as usize,
                scenario::Setting::Seq(seq) => *seq = quorate_membership::Seq::new(n as u32),
                scenario::Setting::Flag(flag) => *flag = !*flag,
                scenario::Setting::Electorate(electorate) => {
                    *electorate = crate::Electorate::read("wait_for_all, 2 votes of node 1").unwrap();
                }
                scenario::Setting::Priorities(priorities) => {
                    *priorities = Value::read("2 of node 1, 0 of node 3").unwrap();
                }
            }
        }
        for fault in all() {
            scenario = scenario.at(ms(700), fault);
        }
        assert_eq!(scenario.to_string().parse(), Ok(scenario));
    }

    #[test]
    fn a_parse_error_names_the_line_and_the_problem() {
        let error = |text: &str| text.parse::<Scenario>().unwrap_err().to_string();
        let start = "# a comment\n\n2 nodes for 1s, token timeout 200ms, seed 1 # another\n";
        assert_eq!(
            error(&format!("{start}at 1s node x crashes\n")),
            "line 4: `x` is not a whole number, or is too large"
        );
        assert_eq!(
            error(&format!("{start}at soon node 1 crashes\n")),
            "line 4: `soon` is not a length of time, such as 1.5s, 200ms, 50us"
        );
        assert_eq!(
            error(&format!("{start}at 1s node 1 explodes")),
            "line 4: `node 1 explodes` is not a known fault"
        );
        assert_eq!(error(&format!("{start}with luck 7")), "line 4: `luck` is not a setting");
        assert!(error("three nodes").starts_with("line 1: `three nodes` cannot begin a scenario"));
        assert_eq!(error("\n#\n"), "the scenario is empty");
        assert_eq!(
            error(&format!("{start}at 1s when node 1 enters limbo: node 1 crashes")),
            "line 4: `enters limbo` is not a point in the life of a node"
        );
    }
}
