//! corosync.conf's section `quorum`: votequorum's options, their combined effect, and their
//! conflicts.

use std::fmt;
use std::time::Duration;

use super::grammar::Entry;
use super::load::ANY;
use super::reader::Reader;
use super::{Config, ConfigError, DeviceConfig, Member, Problem, Source, TransportKind, defaults};
use crate::NodeId;

/// corosync.conf's section `quorum`, as written. [`Config::quorum_options`] and
/// [`Config::expected_votes`] return the effective values.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct QuorumConfig {
    /// The votes expected in total (`expected_votes`), with those of the quorum device. The default
    /// is the sum of the node list's votes and the device's. Without a list the node then never
    /// becomes quorate.
    pub expected_votes: Option<u32>,
    /// This node's votes (`votes`). The default is the votes of its entry in the node list, else 1
    /// ([`Config::votes`]).
    pub votes: Option<u32>,
    /// `two_node`: each of two nodes is quorate alone after they have been together.
    pub two_node: bool,
    /// `wait_for_all`: at each start, no node is quorate before all are present. The default is the
    /// value of `two_node`.
    ///
    /// When a cluster starts for the first time, all voters must be present once in either case, to
    /// agree on the votes and store them. An explicit `Some(false)` waives this. A majority by the
    /// configuration files of the nodes present then suffices, so two parts whose files differ can
    /// both start and become two clusters.
    pub wait_for_all: Option<bool>,
    /// `last_man_standing`: the expected votes are lowered to those present after a while.
    pub last_man_standing: bool,
    /// `last_man_standing_window`: time until the expected votes are lowered, 10 s by default.
    pub last_man_standing_window: Duration,
    /// `auto_tie_breaker` and `auto_tie_breaker_node`: half of the votes suffice with this node
    /// among them.
    pub auto_tie_breaker: Option<TieBreaker>,
    /// `allow_downscale`: a node that leaves in an orderly way is no longer expected.
    pub allow_downscale: bool,
    /// `expected_votes_tracking`: the most votes ever expected are remembered.
    pub expected_votes_tracking: bool,
    /// `device`: an arbiter outside of the cluster has votes. `None`, the default, stands for no
    /// arbiter.
    pub device: Option<DeviceConfig>,
}

impl Default for QuorumConfig {
    fn default() -> Self {
        Self {
            expected_votes: None,
            votes: None,
            two_node: false,
            wait_for_all: None,
            last_man_standing: false,
            last_man_standing_window: Duration::from_millis(defaults::LAST_MAN_STANDING_WINDOW),
            auto_tie_breaker: None,
            allow_downscale: false,
            expected_votes_tracking: false,
            device: None,
        }
    }
}

/// The node that decides between two halves (`auto_tie_breaker_node`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum TieBreaker {
    /// The node with the lowest id among those that were last quorate.
    #[default]
    Lowest,
    /// The node with the highest id among those that were last quorate.
    Highest,
    /// The first node of this list that was among those that were last quorate.
    List(Vec<NodeId>),
}

impl fmt::Display for TieBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lowest => f.write_str("lowest"),
            Self::Highest => f.write_str("highest"),
            Self::List(nodes) => {
                let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
                f.write_str(&nodes.join(" "))
            }
        }
    }
}

/// The effective options, with conflicts resolved. They must be the same on all members of a ring.
///
/// The struct is exhaustive, so that an option that is added cannot be left out of what members
/// announce.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct QuorumOptions {
    /// See [`QuorumConfig::two_node`]. Off with a tie-breaker, or if more than two nodes are
    /// expected.
    pub two_node: bool,
    /// See [`QuorumConfig::wait_for_all`].
    pub wait_for_all: bool,
    /// The window of [`QuorumConfig::last_man_standing`]. Off if a node has more than one vote.
    pub last_man_standing: Option<Duration>,
    /// See [`QuorumConfig::auto_tie_breaker`]. Off for an odd number of votes without
    /// `wait_for_all`.
    pub auto_tie_breaker: Option<TieBreaker>,
    /// See [`QuorumConfig::allow_downscale`].
    pub allow_downscale: bool,
    /// See [`QuorumConfig::expected_votes_tracking`]. On with `allow_downscale`.
    pub expected_votes_tracking: bool,
}

impl QuorumOptions {
    /// Returns the first option in which two nodes differ, by its name in corosync.conf.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let same = [
            (self.two_node == other.two_node, "two_node"),
            (self.wait_for_all == other.wait_for_all, "wait_for_all"),
            (self.last_man_standing.is_some() == other.last_man_standing.is_some(), "last_man_standing"),
            (self.last_man_standing == other.last_man_standing, "last_man_standing_window"),
            (self.auto_tie_breaker.is_some() == other.auto_tie_breaker.is_some(), "auto_tie_breaker"),
            (self.auto_tie_breaker == other.auto_tie_breaker, "auto_tie_breaker_node"),
            (self.allow_downscale == other.allow_downscale, "allow_downscale"),
            (self.expected_votes_tracking == other.expected_votes_tracking, "expected_votes_tracking"),
        ];
        same.iter().find(|(same, _)| !same).map(|(_, name)| *name)
    }
}

impl Config {
    /// Returns the effective quorum options. As with corosync:
    ///
    /// - `wait_for_all` defaults to `two_node`.
    /// - `two_node` is off with `auto_tie_breaker`.
    /// - `auto_tie_breaker` is off for a node list with an odd number of votes without
    ///   `wait_for_all`.
    /// - `last_man_standing` is off if a node has more than one vote.
    /// - `allow_downscale` switches `expected_votes_tracking` on.
    ///
    /// Unlike with corosync, `two_node` is off if more than two nodes are expected.
    ///
    /// # Errors
    /// For `auto_tie_breaker` with `last_man_standing` and an odd number of votes without
    /// `wait_for_all`.
    pub fn quorum_options(&self) -> Result<QuorumOptions, ConfigError> {
        let quorum = &self.quorum;
        let wait_for_all = quorum.wait_for_all.unwrap_or(quorum.two_node);
        let odd = self.listed_votes() % 2 == 1 && !wait_for_all;
        if odd && quorum.auto_tie_breaker.is_some() && quorum.last_man_standing {
            let rule = "not be combined with quorum.last_man_standing if the node list has an odd number of \
                        votes and quorum.wait_for_all is off; write `wait_for_all: 1`, or remove one of the \
                        two";
            return Err(Problem::Broken {
                key: "quorum.auto_tie_breaker",
                value: "1".to_owned(),
                rule: rule.to_owned(),
                other: Some("quorum.last_man_standing"),
            }
            .into());
        }
        Ok(QuorumOptions {
            two_node: quorum.two_node && quorum.auto_tie_breaker.is_none() && !self.expects_more_than_two(),
            wait_for_all,
            last_man_standing: (quorum.last_man_standing && !self.has_heavy_nodes())
                .then_some(quorum.last_man_standing_window),
            auto_tie_breaker: quorum.auto_tie_breaker.clone().filter(|_| !odd),
            allow_downscale: quorum.allow_downscale,
            expected_votes_tracking: quorum.expected_votes_tracking || quorum.allow_downscale,
        })
    }

    /// Returns the votes expected in total when the node starts: the configured ones, else the sum
    /// of the node list's votes and the quorum device's. As with corosync,
    /// `expected_votes_tracking` and `allow_downscale` take the sum, whatever `expected_votes` is.
    pub fn expected_votes(&self) -> Option<u32> {
        let tracks = self.quorum.expected_votes_tracking || self.quorum.allow_downscale;
        let sum = || self.listed_votes().saturating_add(self.device_votes());
        let listed = (!self.nodes.is_empty()).then(sum);
        let given = self.quorum.expected_votes;
        let expected = if tracks { listed.or(given) } else { given.or(listed) };
        expected.filter(|&votes| votes > 0)
    }

    pub(super) fn listed_votes(&self) -> u32 {
        self.nodes.iter().fold(0, |sum: u32, node| sum.saturating_add(node.votes))
    }

    fn expects_more_than_two(&self) -> bool {
        let expected = self.quorum.expected_votes.unwrap_or(0);
        self.nodes.len() > 2 || (self.nodes.is_empty() && expected > 2)
    }

    fn has_heavy_nodes(&self) -> bool {
        self.votes() > 1 || self.nodes.iter().any(|node| node.votes > 1)
    }

    /// Returns warnings about options that are switched off or misleading.
    pub(super) fn quorum_warnings(&self) -> Vec<String> {
        let (quorum, mut warnings) = (&self.quorum, Vec::new());
        let Ok(options) = self.quorum_options() else { return warnings };
        let mut warn = |warned: bool, text: &str| {
            if warned {
                warnings.push(text.to_owned());
            }
        };
        let ties = quorum.auto_tie_breaker.is_some();
        warn(
            self.expected_votes().is_none(),
            "the number of expected votes is unknown: this node never becomes quorate; use \
             --expected-votes N, or add `expected_votes: N` to section quorum (in code, \
             `Config::quorum.expected_votes`)",
        );
        warn(
            quorum.two_node && ties,
            "quorum.two_node is off, because quorum.auto_tie_breaker already decides which of two nodes \
             stays quorate; remove one of the two",
        );
        warn(
            quorum.two_node && !ties && self.expects_more_than_two(),
            "quorum.two_node is off, because there are more than two nodes: any two of them, and each alone, \
             would be quorate, as in corosync; remove quorum.two_node",
        );
        warn(
            options.two_node,
            "quorum.two_node: both nodes are quorate when they do not hear each other; only fencing keeps \
             them from both acting",
        );
        warn(
            ties && options.auto_tie_breaker.is_none(),
            "quorum.auto_tie_breaker is off, because the node list has an odd number of votes and \
             quorum.wait_for_all is not set; write `wait_for_all: 1`",
        );
        warn(
            quorum.last_man_standing && options.last_man_standing.is_none(),
            "quorum.last_man_standing is off, because it requires one vote per node",
        );
        warn(
            options.last_man_standing.is_some() && !options.wait_for_all,
            "quorum.last_man_standing without quorum.wait_for_all: nodes that start separately can be \
             quorate at the same time as the remaining ones; write `wait_for_all: 1`",
        );
        warn(
            quorum.expected_votes_tracking,
            "quorum.expected_votes_tracking: the tracked votes are forgotten when all nodes have stopped, as \
             in corosync",
        );
        let tracked = self.quorum.expected_votes.zip(self.expected_votes());
        if let Some((said, counts)) = tracked.filter(|(said, counts)| said != counts) {
            warnings.push(format!(
                "quorum.expected_votes ({said}) is ignored with expected_votes_tracking or allow_downscale, \
                 as in corosync; the node list's votes ({counts}) apply"
            ));
        }
        warnings
    }
}

impl Reader<'_> {
    pub(super) fn quorum(
        &mut self,
        nodes: &[Member],
        listed_votes: Option<u32>,
        transport: TransportKind,
    ) -> QuorumConfig {
        self.provider(transport);
        let off = || (false, Source::Default);
        let device = self.device(nodes);
        let expected_votes = self.quorum_expected_votes(nodes, device.as_ref());
        let votes = self.quorum_votes(listed_votes);
        let two_node = self.switch("quorum.two_node", off());
        let waits = self.is_given("quorum.wait_for_all");
        let wait_for_all = self.switch("quorum.wait_for_all", (two_node, Source::derived("quorum.two_node")));
        let last_man_standing = self.switch("quorum.last_man_standing", off());
        let window =
            self.number_or_zero("quorum.last_man_standing_window", "ms", defaults::LAST_MAN_STANDING_WINDOW);
        QuorumConfig {
            expected_votes,
            votes: Some(votes),
            two_node,
            wait_for_all: waits.then_some(wait_for_all),
            last_man_standing,
            last_man_standing_window: Duration::from_millis(window),
            auto_tie_breaker: self.tie_breaker(),
            allow_downscale: self.switch("quorum.allow_downscale", off()),
            expected_votes_tracking: self.switch("quorum.expected_votes_tracking", off()),
            device,
        }
    }

    /// Checks the provider. Votes are counted with or without one, and any other than votequorum is
    /// a mistake.
    fn provider(&mut self, transport: TransportKind) {
        const PROVIDER: &str = "corosync_votequorum";
        match self.take("quorum.provider") {
            Some(entry) if entry.value == PROVIDER => {}
            Some(entry) => self.not_one_of(entry, PROVIDER),
            None if transport != TransportKind::Local => {
                let section = self.document.sections.iter().find(|section| section.path == "quorum");
                let text = format!(
                    "quorum.provider is not set: votes are counted anyway, where corosync would count none, \
                     whatever else section quorum says; write `provider: {PROVIDER}`"
                );
                match section {
                    Some(section) => self.warn(Some(section.line), text),
                    None => self.warn_of_lack(text),
                }
            }
            None => {}
        }
    }

    fn quorum_expected_votes(&mut self, nodes: &[Member], device: Option<&DeviceConfig>) -> Option<u32> {
        const EXPECTED_VOTES: &str = "quorum.expected_votes";
        let in_file = self.value(EXPECTED_VOTES, |reader, entry| reader.number(entry, 1..=u32::MAX));
        let sum = nodes.iter().fold(0u32, |sum, member| sum.saturating_add(member.votes));
        if let Some(votes) = self.overrides.expected_votes {
            if let Some((_, entry)) = in_file.filter(|&(in_file, _)| in_file != votes) {
                let text = format!("{EXPECTED_VOTES}: ignored in favour of --expected-votes {votes}");
                self.warn(Some(entry.line), text);
            }
            self.show(EXPECTED_VOTES, votes, "votes", Source::CommandLine);
            return Some(votes);
        }
        if let Some((votes, entry)) = in_file {
            self.show(EXPECTED_VOTES, votes, "votes", self.line(entry));
            return Some(votes);
        }
        if sum > 0 {
            let (sum, from) = match device {
                None => (sum, "the votes of the node list"),
                Some(device) => (
                    sum.saturating_add(device.votes(nodes.len())),
                    "the votes of the node list and of the quorum device",
                ),
            };
            self.show(EXPECTED_VOTES, sum, "votes", Source::derived(from));
        } else {
            self.show(EXPECTED_VOTES, "unknown", "", Source::Default);
        }
        None
    }

    fn quorum_votes(&mut self, listed_votes: Option<u32>) -> u32 {
        let in_file = self.value("quorum.votes", |reader, entry| reader.number(entry, ANY));
        let (votes, source) = match (listed_votes, in_file) {
            (Some(votes), ignored) => {
                if let Some((_, entry)) = ignored {
                    let text = "quorum.votes: ignored in favour of the node list's quorum_votes";
                    self.warn(Some(entry.line), text);
                }
                (votes, Source::derived("this node's quorum_votes"))
            }
            (None, Some((votes, entry))) => (votes, self.line(entry)),
            (None, None) => (1, Source::Default),
        };
        self.show("quorum.votes", votes, "votes", source);
        votes
    }

    /// Reads a switch of section quorum. As in corosync it is a number, and only 0 is off.
    fn switch(&mut self, path: &str, otherwise: (bool, Source)) -> bool {
        let (on, source) = match self.value(path, Self::switch_at) {
            Some((on, entry)) => (on, self.line(entry)),
            None => otherwise,
        };
        self.show(path, u32::from(on), "", source);
        on
    }

    fn switch_at(&mut self, entry: &Entry) -> Option<bool> {
        if matches!(entry.value.as_str(), "yes" | "no" | "on" | "off" | "true" | "false") {
            self.not_one_of(entry, "1 for yes or 0 for no");
            return None;
        }
        self.number(entry, 0..=u32::from(u8::MAX)).map(|number| number != 0)
    }

    fn tie_breaker(&mut self) -> Option<TieBreaker> {
        const NODE: &str = "quorum.auto_tie_breaker_node";
        let on = self.switch("quorum.auto_tie_breaker", (false, Source::Default));
        let entry = self.take(NODE);
        let Some(entry) = entry.filter(|_| on) else {
            if let Some(entry) = entry {
                let text = format!("{NODE}: ignored, because quorum.auto_tie_breaker is off");
                self.warn(Some(entry.line), text);
            }
            return on.then_some(TieBreaker::Lowest);
        };
        let tie_breaker = match entry.value.as_str() {
            "lowest" => TieBreaker::Lowest,
            "highest" => TieBreaker::Highest,
            list => {
                let Ok((nodes, rest)) = leading_ids(list) else {
                    self.not_one_of(entry, "lowest, highest, or a list of node ids from 1 to 4294967295");
                    return None;
                };
                if nodes.is_empty() {
                    let text = format!(
                        "{NODE} is `{list}`, neither lowest nor highest nor a list of node ids, so \
                         quorum.auto_tie_breaker is off, as in corosync"
                    );
                    self.warn(Some(entry.line), text);
                    return None;
                }
                if nodes.len() > Config::MAX_NODES {
                    let (key, value) = (NODE, format!("{} nodes", nodes.len()));
                    let rule = format!("have at most {}", Config::MAX_NODES);
                    self.refuse(entry, Problem::Broken { key, value, rule, other: None });
                    return None;
                }
                let counts = TieBreaker::List(nodes);
                if !rest.trim().is_empty() {
                    let text = format!(
                        "{NODE} is `{list}`: only `{counts}` of it is used, as in corosync; separate node \
                         ids with spaces"
                    );
                    self.warn(Some(entry.line), text);
                }
                counts
            }
        };
        self.show(NODE, tie_breaker.to_string().as_str(), "", self.line(entry));
        Some(tie_breaker)
    }

    /// Shows the effective options in place of the written ones where they differ.
    pub(super) fn show_what_counts(&mut self, config: &Config) {
        let Ok(options) = config.quorum_options() else { return };
        if let Some(expected) = config.expected_votes() {
            self.correct(
                "quorum.expected_votes",
                expected,
                "the votes of the node list, which apply with expected_votes_tracking or allow_downscale",
            );
        }
        let more = "the number of nodes, which is above two";
        let ties = config.quorum.auto_tie_breaker.is_some();
        let why = if ties { "quorum.auto_tie_breaker, which excludes it" } else { more };
        self.correct("quorum.two_node", u32::from(options.two_node), why);
        self.correct(
            "quorum.last_man_standing",
            u32::from(options.last_man_standing.is_some()),
            "nodes with more than one vote, which exclude it",
        );
        self.correct(
            "quorum.expected_votes_tracking",
            u32::from(options.expected_votes_tracking),
            "quorum.allow_downscale, which needs it",
        );
        let is_odd = ties && options.auto_tie_breaker.is_none();
        let why = if is_odd {
            "an odd number of votes without quorum.wait_for_all, which excludes it"
        } else {
            "quorum.auto_tie_breaker_node, which names no node"
        };
        self.correct("quorum.auto_tie_breaker", u32::from(options.auto_tie_breaker.is_some()), why);
        const NODE: &str = "quorum.auto_tie_breaker_node";
        match options.auto_tie_breaker {
            None => self.settings.retain(|setting| setting.key != NODE),
            Some(node) => {
                if self.settings.iter().all(|setting| setting.key != NODE) {
                    self.show(NODE, node.to_string().as_str(), "", Source::Default);
                }
            }
        }
    }
}

/// Returns the node ids at the start of a list, and the rest of the list. As in corosync, the ids
/// are separated by white space, and anything else ends them.
fn leading_ids(list: &str) -> Result<(Vec<NodeId>, &str), std::num::ParseIntError> {
    const WHITE_SPACE: [char; 6] = [' ', '\t', '\n', '\u{b}', '\u{c}', '\r'];
    let (mut nodes, mut rest) = (Vec::new(), list);
    loop {
        let number = rest.trim_start_matches(WHITE_SPACE);
        let unsigned = number.strip_prefix(['+', '-']).unwrap_or(number);
        let end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
        if end == 0 {
            return Ok((nodes, rest));
        }
        let (number, after) = number.split_at(number.len() - unsigned.len() + end);
        match NodeId::new(number.parse()?) {
            Some(node) => nodes.push(node),
            None => return Ok((nodes, rest)),
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_breaker_list_ends_at_the_first_non_number() {
        let check = |list: &str, expect: &[u32]| {
            let nodes = leading_ids(list).map(|(nodes, _)| nodes.into_iter().map(NodeId::get).collect());
            assert_eq!(nodes, Ok(expect.to_vec()), "{list}");
        };
        check("3 1", &[3, 1]);
        check("1,2", &[1]);
        check("2, 1", &[2]);
        check("2;1", &[2]);
        check("2 1,3", &[2, 1]);
        check("+4\t5x 6", &[4, 5]);
        check("2 0 1", &[2]);
        check("", &[]);
        check("none", &[]);
        assert!(leading_ids("-1").is_err() && leading_ids("4294967296").is_err());
    }
}
