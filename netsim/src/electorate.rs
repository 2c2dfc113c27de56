//! The votes of a cluster, the rules by which they count, and the nodes that its operator prefers
//! as DC.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use quorate_election::Record;
use quorate_membership::config::{DcConfig, QuorumConfig, QuorumOptions, TieBreaker};
use quorate_membership::{Config, NodeId};

use crate::value::Value;

/// The votes and quorum options. They are the same on all nodes except one at most, the dissenter.
///
/// Prints as a list: `two_node, no wait_for_all, last_man_standing 600ms, auto_tie_breaker 3 1,
/// allow_downscale, expected_votes_tracking, expected_votes 8, 3 votes of node 1, node 2 differs`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Electorate {
    /// The section `quorum` of all nodes. It has `expected_votes` only if that is not the sum of
    /// the votes.
    pub quorum: QuorumConfig,
    /// The votes of the nodes that do not have exactly one.
    pub votes: BTreeMap<u32, u32>,
    /// The node that has the opposite setting of `wait_for_all`.
    pub dissenter: Option<u32>,
    /// Whether there is no node list. This is not printed, because the scenario has a setting for
    /// it.
    pub(crate) unlisted: bool,
    /// Whether nodes are given other files. This is not printed either.
    pub(crate) refiled: bool,
    /// The priorities, if a DC hands over to a member of higher priority (`preempt`). They are not
    /// printed either.
    pub(crate) preferred: Priorities,
}

impl Electorate {
    /// Returns the votes of a node.
    pub fn votes_of(&self, node: NodeId) -> u32 {
        self.votes.get(&node.get()).copied().unwrap_or(1)
    }

    /// Returns the sum of the votes of these nodes.
    pub fn sum<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeId>) -> u32 {
        nodes.into_iter().map(|&node| self.votes_of(node)).sum()
    }

    /// Returns a copy with the nodes renumbered. Nodes without a number are removed.
    pub(crate) fn renumbered(&self, number: &impl Fn(u32) -> Option<u32>) -> Self {
        let mut quorum = self.quorum.clone();
        if let Some(TieBreaker::List(list)) = &mut quorum.auto_tie_breaker {
            *list = list.iter().filter_map(|node| number(node.get()).and_then(NodeId::new)).collect();
        }
        let votes = self.votes.iter().filter_map(|(&node, &votes)| Some((number(node)?, votes))).collect();
        let dissenter = self.dissenter.and_then(number);
        Self { quorum, votes, dissenter, ..self.clone() }
    }

    /// Configures a node of the cluster. The node list in `config` is already complete.
    pub fn configure(&self, config: &mut Config, cluster: u32) {
        for member in &mut config.nodes {
            member.votes = self.votes_of(member.id);
        }
        let all: BTreeSet<NodeId> = (1..=cluster).filter_map(NodeId::new).collect();
        let sum = self.sum(&all);
        config.quorum = self.quorum.clone();
        config.quorum.votes = Some(self.votes_of(config.node));
        config.quorum.expected_votes = self.quorum.expected_votes.or(Some(sum));
        if self.dissenter == Some(config.node.get()) {
            let waits = self.quorum.wait_for_all.unwrap_or(self.quorum.two_node);
            config.quorum.wait_for_all = Some(!waits);
        }
    }

    /// Returns the options in force on all nodes except the dissenter.
    pub fn options(&self, cluster: &BTreeSet<NodeId>) -> QuorumOptions {
        self.config(cluster).and_then(|config| config.quorum_options().ok()).unwrap_or_default()
    }

    /// Returns the votes that a node expects when it has just started.
    pub fn expected(&self, cluster: &BTreeSet<NodeId>) -> u32 {
        self.config(cluster).and_then(|config| config.expected_votes()).unwrap_or(0)
    }

    /// Returns the vote options of a node that is not the dissenter.
    fn config(&self, cluster: &BTreeSet<NodeId>) -> Option<Config> {
        let other = cluster.iter().find(|node| self.dissenter != Some(node.get()));
        let mut config = Config::new(*other.or(cluster.first())?);
        config.nodes = cluster
            .iter()
            .filter(|_| !self.unlisted)
            .map(|&id| {
                let member = quorate_membership::config::Member::new(id, config.bind());
                member.with_votes(self.votes_of(id))
            })
            .collect();
        Self { dissenter: None, ..self.clone() }.configure(&mut config, cluster.len() as u32);
        Some(config)
    }

    /// Returns the record of a node in a cluster whose nodes have long agreed on what most of them
    /// have in their files. The file of the dissenter was ignored.
    pub(crate) fn record(&self, config: &Config) -> Record {
        let mut common = config.clone();
        let differs = self.dissenter == Some(config.node.get());
        if differs {
            common.quorum.wait_for_all = Some(self.quorum.wait_for_all.unwrap_or(self.quorum.two_node));
        }
        let passed_over = differs.then(|| quorate_election::Electorate::of(config));
        Record { passed_over, ..Record::of_old(quorate_election::Electorate::of(&common)) }
    }

    /// Returns `true` if no option is set, so that exactly a majority of all votes is quorate.
    pub fn is_plain(&self) -> bool {
        self.quorum == QuorumConfig::default() && self.dissenter.is_none() && !self.refiled
    }

    /// Returns `true` if any two quorate rings have a member in common. This is not the case with
    /// `two_node`, with `last_man_standing`, with fewer expected votes than there are, and if a tie
    /// can be broken by nodes that do not wait for all.
    pub fn is_strict(&self, cluster: &BTreeSet<NodeId>) -> bool {
        let options = self.options(cluster);
        !options.two_node
            && options.last_man_standing.is_none()
            && (options.auto_tie_breaker.is_none() || options.wait_for_all)
            && self.expected(cluster) >= self.sum(cluster)
    }
}

impl fmt::Display for Electorate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quorum, votes, dissenter, unlisted: _, refiled: _, preferred: _ } = self;
        let mut words = Vec::new();
        let mut word = |on: bool, text: String| {
            if on {
                words.push(text);
            }
        };
        word(quorum.two_node, "two_node".to_owned());
        word(quorum.wait_for_all == Some(true), "wait_for_all".to_owned());
        word(quorum.wait_for_all == Some(false), "no wait_for_all".to_owned());
        let window = quorum.last_man_standing_window;
        word(quorum.last_man_standing, format!("last_man_standing {window:?}"));
        if let Some(tie_breaker) = &quorum.auto_tie_breaker {
            word(true, format!("auto_tie_breaker {tie_breaker}"));
        }
        word(quorum.allow_downscale, "allow_downscale".to_owned());
        word(quorum.expected_votes_tracking, "expected_votes_tracking".to_owned());
        if let Some(expected) = quorum.expected_votes {
            word(true, format!("expected_votes {expected}"));
        }
        votes.iter().for_each(|(node, votes)| word(true, format!("{votes} votes of node {node}")));
        if let Some(node) = dissenter {
            word(true, format!("node {node} differs"));
        }
        f.write_str(&words.join(", "))
    }
}

impl Value for Electorate {
    const NAME: &'static str = "a list of quorum options, such as two_node, no wait_for_all, last_man_standing 600ms, \
                                auto_tie_breaker lowest, allow_downscale, expected_votes_tracking, expected_votes 8, \
                                3 votes of node 1, node 2 differs";

    fn read(text: &str) -> Option<Self> {
        let mut read = Self::default();
        for item in text.split(", ") {
            let words: Vec<&str> = item.split(' ').collect();
            let quorum = &mut read.quorum;
            match words[..] {
                ["two_node"] => quorum.two_node = true,
                ["wait_for_all"] => quorum.wait_for_all = Some(true),
                ["no", "wait_for_all"] => quorum.wait_for_all = Some(false),
                ["last_man_standing", window] => {
                    quorum.last_man_standing = true;
                    quorum.last_man_standing_window = Duration::read(window)?;
                }
                ["auto_tie_breaker", "lowest"] => quorum.auto_tie_breaker = Some(TieBreaker::Lowest),
                ["auto_tie_breaker", "highest"] => quorum.auto_tie_breaker = Some(TieBreaker::Highest),
                ["auto_tie_breaker", ref nodes @ ..] if !nodes.is_empty() => {
                    let nodes: Option<Vec<NodeId>> = nodes.iter().map(|node| node.parse().ok()).collect();
                    quorum.auto_tie_breaker = Some(TieBreaker::List(nodes?));
                }
                ["allow_downscale"] => quorum.allow_downscale = true,
                ["expected_votes_tracking"] => quorum.expected_votes_tracking = true,
                ["expected_votes", votes] => quorum.expected_votes = Some(votes.parse().ok()?),
                [votes, "votes", "of", "node", node] => {
                    read.votes.insert(node.parse().ok()?, votes.parse().ok()?);
                }
                ["node", node, "differs"] => read.dissenter = Some(node.parse().ok()?),
                _ => return None,
            }
        }
        Some(read)
    }
}

/// The preference of the operator for each node as DC (`dc_priority`), if it is not 1. A node with
/// 0 is never the DC.
///
/// Prints as a list: `2 of node 1, 0 of node 3`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Priorities(pub(crate) BTreeMap<u32, u32>);

impl Priorities {
    pub(crate) fn of(&self, node: NodeId) -> u32 {
        self.0.get(&node.get()).copied().unwrap_or(DcConfig::default().priority)
    }

    /// Returns a copy with the nodes renumbered. Nodes without a number are removed.
    pub(crate) fn renumbered(&self, number: &impl Fn(u32) -> Option<u32>) -> Self {
        Self(self.0.iter().filter_map(|(&node, &priority)| Some((number(node)?, priority))).collect())
    }
}

impl fmt::Display for Priorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> =
            self.0.iter().map(|(node, priority)| format!("{priority} of node {node}")).collect();
        f.write_str(&words.join(", "))
    }
}

impl Value for Priorities {
    const NAME: &'static str = "a list of priorities, such as 2 of node 1, 0 of node 3";

    fn read(text: &str) -> Option<Self> {
        let priority = |item: &str| {
            let (priority, node) = item.split_once(" of node ")?;
            Some((node.parse().ok()?, priority.parse().ok()?))
        };
        text.split(", ").map(priority).collect::<Option<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Electorate {
        Electorate::read(text).unwrap()
    }

    fn cluster(nodes: u32) -> BTreeSet<NodeId> {
        (1..=nodes).filter_map(NodeId::new).collect()
    }

    #[test]
    fn printed_electorates_are_read_back() {
        for text in [
            "two_node, no wait_for_all, last_man_standing 600ms, auto_tie_breaker 3 1, allow_downscale, \
             expected_votes_tracking, expected_votes 8, 3 votes of node 1, node 2 differs",
            "wait_for_all, auto_tie_breaker lowest",
            "auto_tie_breaker highest, 0 votes of node 2, 2 votes of node 3",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
        for text in ["", "two_nodes", "last_man_standing", "auto_tie_breaker", "x votes of node 1"] {
            assert_eq!(Electorate::read(text), None, "{text}");
        }
    }

    #[test]
    fn priorities_are_read_as_they_are_printed() {
        let read = Priorities::read("2 of node 1, 0 of node 3").unwrap();
        assert_eq!(read.to_string(), "2 of node 1, 0 of node 3");
        assert_eq!([1, 2, 3].map(|node| read.of(NodeId::new(node).unwrap())), [2, 1, 0]);
        assert_eq!(read.renumbered(&|node| (node > 1).then(|| node - 1)).to_string(), "0 of node 2");
        for text in ["", "2", "2 of node x", "2 of node 1,"] {
            assert_eq!(Priorities::read(text), None, "{text}");
        }
    }

    #[test]
    fn one_node_may_differ() {
        let electorate = read("wait_for_all, 3 votes of node 2, node 2 differs");
        let mut config = Config::new(NodeId::new(2).unwrap());
        electorate.configure(&mut config, 3);
        let quorum = config.quorum;
        assert_eq!(
            (quorum.votes, quorum.expected_votes, quorum.wait_for_all),
            (Some(3), Some(5), Some(false))
        );
        assert!(electorate.options(&cluster(3)).wait_for_all);
    }

    #[test]
    fn strict_electorates_make_quorate_rings_meet() {
        let strict = |text: &str| read(text).is_strict(&cluster(4));
        assert!(Electorate::default().is_strict(&cluster(4)));
        for text in
            ["wait_for_all", "wait_for_all, auto_tie_breaker lowest", "expected_votes 5", "allow_downscale"]
        {
            assert!(strict(text), "{text}");
        }
        for text in ["auto_tie_breaker lowest", "last_man_standing 600ms", "expected_votes 3"] {
            assert!(!strict(text), "{text}");
        }
        assert!(!read("two_node").is_strict(&cluster(2)) && read("two_node").is_strict(&cluster(3)));
    }
}
