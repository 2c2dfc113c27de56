//! Electorates: the votes of each node and the rules by which they count. Members agree on an
//! electorate before it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use quorate_membership::bug;
use quorate_membership::config::{QuorumOptions, TieBreaker};
use quorate_membership::{Config, NodeId};

/// The voters, their votes, and the rules by which these count.
///
/// Prints as a list, `expected 3, votes 1-2:1 7:3, wait_for_all`, and parses from it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Electorate {
    /// The votes of each listed node, ascending by id. Empty if there is no node list. Then every
    /// member has the votes that it announces.
    pub votes: BTreeMap<NodeId, u32>,
    /// The votes of the quorum device; 0 if there is none. They never count where members agree on
    /// an electorate, because the device keeps no record.
    pub device: u32,
    /// The votes expected in total, with those of the device; 0 if no member has announced a
    /// number.
    pub expected: u32,
    /// The quorum options.
    pub options: QuorumOptions,
}

impl Electorate {
    /// Returns the electorate of a node's configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            votes: config.nodes.iter().map(|member| (member.id, member.votes)).collect(),
            device: config.device_votes(),
            expected: config.expected_votes().unwrap_or(0),
            options: config.quorum_options().unwrap_or_default(),
        }
    }

    /// Returns the votes of a node that announces `said`. A node that is not in the list has none.
    pub fn votes_of(&self, node: NodeId, said: u32) -> u32 {
        if self.is_open() { said } else { self.votes.get(&node).copied().unwrap_or(0) }
    }

    /// Returns `true` if there is no node list.
    pub fn is_open(&self) -> bool {
        self.votes.is_empty()
    }

    fn sum(&self, present: &BTreeMap<NodeId, u32>) -> u64 {
        present.iter().map(|(&node, &said)| u64::from(self.votes_of(node, said))).sum()
    }

    /// Returns the votes of these nodes, each with the number it announces.
    pub fn count(&self, present: &BTreeMap<NodeId, u32>) -> u32 {
        u32::try_from(self.sum(present)).unwrap_or(u32::MAX)
    }

    /// Returns the number of votes that is more than half of those expected.
    pub fn majority(&self) -> u32 {
        (self.expected / 2).saturating_add(1)
    }

    /// Returns `true` if these nodes have more than half of the expected votes, without those of
    /// the device.
    pub fn has_majority(&self, present: &BTreeMap<NodeId, u32>) -> bool {
        let votes = self.count(present).saturating_add(bug!(DeviceVotesAgree: self.device; 0));
        self.expected > 0 && votes >= self.majority()
    }

    /// Returns the voters that are not among these nodes.
    pub fn missing(&self, present: &BTreeMap<NodeId, u32>) -> BTreeSet<NodeId> {
        let absent = |(node, votes): &(&NodeId, &u32)| **votes > 0 && !present.contains_key(node);
        self.votes.iter().filter(absent).map(|(node, _)| *node).collect()
    }

    /// Returns `true` if all voters are among these nodes.
    pub fn is_whole(&self, present: &BTreeMap<NodeId, u32>) -> bool {
        if self.is_open() {
            self.sum(present) + u64::from(self.device) >= u64::from(self.expected)
        } else {
            self.missing(present).is_empty()
        }
    }

    /// Returns how many of these nodes can fail, whichever they are, so that the remaining ones are
    /// still enough. `None` if they are not enough themselves.
    pub fn tolerates(&self, present: &BTreeMap<NodeId, u32>) -> Option<usize> {
        let needed = u64::from(if self.options.two_node { 1 } else { self.majority() });
        let mut heaviest: Vec<u32> = present.iter().map(|(&node, &said)| self.votes_of(node, said)).collect();
        heaviest.sort_unstable_by(|a, b| b.cmp(a));
        let mut left = self.sum(present);
        if self.expected == 0 || left < needed {
            return None;
        }
        let mut survives = |votes: &u32| {
            left = left.saturating_sub(u64::from(*votes));
            left >= needed
        };
        Some(heaviest.iter().take_while(|votes| survives(votes)).count())
    }

    /// Describes how a file with `other` in it differs, as clauses about that file. `None` if it
    /// does not.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let mut clauses = Vec::new();
        match (self.is_open(), other.is_open()) {
            (true, false) => clauses.push("has a node list".to_owned()),
            (false, true) => clauses.push("has no node list".to_owned()),
            _ => {
                let only = |a: &Self, b: &Self| -> Vec<String> {
                    a.votes
                        .keys()
                        .filter(|node| !b.votes.contains_key(node))
                        .map(ToString::to_string)
                        .collect()
                };
                let (more, fewer) = (only(other, self), only(self, other));
                if !more.is_empty() {
                    clauses.push(format!("also lists {}", more.join(" ")));
                }
                if !fewer.is_empty() {
                    clauses.push(format!("does not list {}", fewer.join(" ")));
                }
                let changed = other.votes.iter().filter_map(|(node, votes)| {
                    let before = self.votes.get(node).filter(|before| *before != votes)?;
                    Some(format!("gives node {node} {votes} votes instead of {before}"))
                });
                clauses.extend(changed);
            }
        }
        if self.device != other.device {
            clauses
                .push(format!("gives the quorum device {} votes instead of {}", other.device, self.device));
        }
        // If lists differ, so do their sums.
        if self.expected != other.expected && clauses.is_empty() {
            clauses.push(format!("expects {} votes instead of {}", other.expected, self.expected));
        }
        if let Some(option) = self.options.difference(&other.options) {
            clauses.push(format!("has a different quorum.{option}"));
        }
        if clauses.is_empty() && self != other {
            clauses.push("expects a different number of votes".to_owned());
        }
        (!clauses.is_empty()).then(|| clauses.join(", "))
    }

    /// Returns runs of consecutive ids with the same votes: the first id, the number of nodes, and
    /// their votes.
    pub(super) fn runs(&self) -> Vec<(u32, u32, u32)> {
        let mut runs: Vec<(u32, u32, u32)> = Vec::new();
        for (node, &votes) in &self.votes {
            match runs.last_mut() {
                Some((first, count, same))
                    if first.checked_add(*count) == Some(node.get()) && *same == votes =>
                {
                    *count += 1;
                }
                _ => runs.push((node.get(), 1, votes)),
            }
        }
        runs
    }

    /// Returns the votes from such runs. `None` if they are not ascending, or are more than a list
    /// can hold.
    pub(super) fn of_runs(runs: impl IntoIterator<Item = (u32, u32, u32)>) -> Option<BTreeMap<NodeId, u32>> {
        let mut votes = BTreeMap::new();
        for (first, count, each) in runs {
            let last = first.checked_add(count.checked_sub(1)?)?;
            if count as usize > Config::MAX_NODES || votes.len() + count as usize > Config::MAX_NODES {
                return None;
            }
            let ascends = votes.last_key_value().is_none_or(|(node, _): (&NodeId, &u32)| node.get() < first);
            if !ascends {
                return None;
            }
            for id in first..=last {
                votes.insert(NodeId::new(id)?, each);
            }
        }
        Some(votes)
    }
}

impl fmt::Display for Electorate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QuorumOptions {
            two_node,
            wait_for_all,
            last_man_standing,
            auto_tie_breaker,
            allow_downscale,
            expected_votes_tracking,
        } = &self.options;
        write!(f, "expected {}", self.expected)?;
        if !self.is_open() {
            write!(f, ", votes")?;
        }
        for (first, count, votes) in self.runs() {
            match count {
                1 => write!(f, " {first}:{votes}")?,
                _ => write!(f, " {first}-{}:{votes}", first + (count - 1))?,
            }
        }
        if self.device > 0 {
            write!(f, ", device {}", self.device)?;
        }
        let word = |f: &mut fmt::Formatter<'_>, on: bool, word: &str| {
            if on { write!(f, ", {word}") } else { Ok(()) }
        };
        word(f, *two_node, "two_node")?;
        word(f, *wait_for_all, "wait_for_all")?;
        if let Some(window) = last_man_standing {
            write!(f, ", last_man_standing {}", window.as_millis())?;
        }
        if let Some(tie_breaker) = auto_tie_breaker {
            write!(f, ", auto_tie_breaker {tie_breaker}")?;
        }
        word(f, *allow_downscale, "allow_downscale")?;
        word(f, *expected_votes_tracking, "expected_votes_tracking")
    }
}

/// The error of a text that is not an electorate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an electorate; the form is `expected 3, votes 1-3:1`")]
pub struct NoElectorate;

impl FromStr for Electorate {
    type Err = NoElectorate;

    fn from_str(text: &str) -> Result<Self, NoElectorate> {
        Self::read(text).ok_or(NoElectorate)
    }
}

impl Electorate {
    fn read(text: &str) -> Option<Self> {
        let mut items = text.split(", ");
        let expected = items.next()?.strip_prefix("expected ")?.parse().ok()?;
        let mut read = Self { expected, ..Self::default() };
        for item in items {
            let words: Vec<&str> = item.split(' ').collect();
            let options = &mut read.options;
            match words[..] {
                ["votes", ref runs @ ..] if !runs.is_empty() => {
                    let runs: Option<Vec<_>> = runs.iter().map(|run| read_run(run)).collect();
                    read.votes = Self::of_runs(runs?)?;
                }
                ["device", votes] => read.device = votes.parse().ok()?,
                ["two_node"] => options.two_node = true,
                ["wait_for_all"] => options.wait_for_all = true,
                ["last_man_standing", ms] => {
                    options.last_man_standing = Some(Duration::from_millis(ms.parse().ok()?));
                }
                ["auto_tie_breaker", "lowest"] => options.auto_tie_breaker = Some(TieBreaker::Lowest),
                ["auto_tie_breaker", "highest"] => options.auto_tie_breaker = Some(TieBreaker::Highest),
                ["auto_tie_breaker", ref nodes @ ..] if !nodes.is_empty() => {
                    let nodes: Option<Vec<NodeId>> = nodes.iter().map(|node| node.parse().ok()).collect();
                    options.auto_tie_breaker = Some(TieBreaker::List(nodes?));
                }
                ["allow_downscale"] => options.allow_downscale = true,
                ["expected_votes_tracking"] => options.expected_votes_tracking = true,
                _ => return None,
            }
        }
        Some(read)
    }
}

fn read_run(run: &str) -> Option<(u32, u32, u32)> {
    let (ids, votes) = run.split_once(':')?;
    let (first, last) = ids.split_once('-').unwrap_or((ids, ids));
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    Some((first, last.checked_sub(first)?.checked_add(1)?, votes.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Electorate {
        text.parse().unwrap()
    }

    fn present(nodes: &[u32]) -> BTreeMap<NodeId, u32> {
        nodes.iter().map(|&node| (NodeId::new(node).unwrap(), 1)).collect()
    }

    #[test]
    fn a_printed_electorate_parses_to_the_same() {
        for text in [
            "expected 3, votes 1-3:1",
            "expected 9, votes 1-2:1 4:1 7-8:3 9:0, two_node, wait_for_all, last_man_standing 600, auto_tie_breaker 3 1, \
             allow_downscale, expected_votes_tracking",
            "expected 2, auto_tie_breaker lowest",
            "expected 3, votes 1-2:1, device 1, wait_for_all",
            "expected 0",
            "expected 1, votes 4294967295:1",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
        for text in [
            "",
            "expected",
            "expected 3, votes",
            "expected 3, votes 2:1 1:1",
            "expected 3, votes 0:1",
            "expected 1, x",
        ] {
            assert_eq!(text.parse::<Electorate>(), Err(NoElectorate), "{text}");
        }
        assert_eq!("expected 1, votes 1-4294967295:1".parse::<Electorate>(), Err(NoElectorate), "too many");
    }

    #[test]
    fn votes_of_nodes_that_are_not_listed_do_not_count() {
        let listed = read("expected 3, votes 1-3:1");
        assert!(!listed.has_majority(&present(&[3, 4, 5])) && listed.has_majority(&present(&[2, 3, 9])));
        assert!(read("expected 3").has_majority(&present(&[4, 5])), "without a list, everybody's do");
        assert!(!Electorate::default().has_majority(&present(&[1, 2])), "no member knows what is expected");
    }

    #[test]
    fn a_list_is_whole_when_all_voters_are_there() {
        let listed = read("expected 2, votes 1-2:1 3:0");
        assert!(listed.is_whole(&present(&[1, 2])) && !listed.is_whole(&present(&[1, 3, 4])));
        assert_eq!(listed.missing(&present(&[1])), [NodeId::new(2).unwrap()].into());
        assert!(!read("expected 3, votes 1-2:1, device 1").has_majority(&present(&[1])));
        assert!(read("expected 3, device 1").is_whole(&present(&[7, 8])), "the device is no node");
        let open = read("expected 3");
        assert!(open.is_whole(&present(&[7, 8, 9])) && !open.is_whole(&present(&[7, 8])));
    }

    #[test]
    fn the_heaviest_nodes_decide_how_many_may_fail() {
        let tolerates = |text: &str, nodes: &[u32]| read(text).tolerates(&present(nodes));
        assert_eq!(tolerates("expected 3, votes 1-3:1", &[1, 2, 3]), Some(1));
        assert_eq!(tolerates("expected 5, votes 1-5:1", &[1, 2, 3]), Some(0));
        assert_eq!(tolerates("expected 5, votes 1-5:1", &[1, 2]), None);
        assert_eq!(tolerates("expected 5, votes 1:3 2-3:1", &[1, 2, 3]), Some(0));
        assert_eq!(tolerates("expected 2, votes 1-2:1, two_node", &[1, 2]), Some(1));
    }

    #[test]
    fn differences_are_named() {
        let agreed = read("expected 3, votes 1-3:1");
        let differs = |text: &str| agreed.difference(&read(text)).unwrap_or_default();
        assert_eq!(differs("expected 3, votes 1-3:1"), "");
        assert_eq!(differs("expected 4, votes 1-2:1 4-5:1"), "also lists 4 5, does not list 3");
        assert_eq!(differs("expected 4, votes 1:1 2:2 3:1"), "gives node 2 2 votes instead of 1");
        assert_eq!(differs("expected 5, votes 1-3:1"), "expects 5 votes instead of 3");
        assert_eq!(differs("expected 3, votes 1-3:1, wait_for_all"), "has a different quorum.wait_for_all");
        assert_eq!(differs("expected 3"), "has no node list");
        assert_eq!(
            differs("expected 5, votes 1-3:1, device 2"),
            "gives the quorum device 2 votes instead of 0"
        );
    }
}
