//! corosync.conf's section `quorum.device`: an arbiter outside of the cluster, which has votes.
//!
//! corosync-qdevice, a program on the node's host, asks the arbiter and casts its votes. It reads
//! the rest of the section itself, from the node's map.

use std::time::Duration;

use super::reader::Reader;
use super::{Config, Member, Problem, Source, defaults};

const MODEL: &str = "quorum.device.model";
const VOTES: &str = "quorum.device.votes";

/// corosync.conf's section `quorum.device`, as far as it concerns the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DeviceConfig {
    /// The device's votes (`votes`). The default is one less than the number of listed nodes, so
    /// that each of them is quorate alone with the device.
    pub votes: Option<u32>,
    /// The longest time between two signs of life of the device (`timeout`), 10 s by default. After
    /// that, its votes no longer count. A low value notices a dead device earlier, and a device on
    /// a busy host may miss it.
    pub timeout: Duration,
    /// The longest time for which a new ring waits for the device (`sync_timeout`), 30 s by
    /// default. Nothing is delivered meanwhile. The device needs the time to hear what the arbiter
    /// decides.
    pub sync_timeout: Duration,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            votes: None,
            timeout: Duration::from_millis(defaults::DEVICE_TIMEOUT),
            sync_timeout: Duration::from_millis(defaults::DEVICE_SYNC_TIMEOUT),
        }
    }
}

impl DeviceConfig {
    /// Returns the device's votes in a list of this many nodes.
    pub(super) fn votes(&self, nodes: usize) -> u32 {
        self.votes.unwrap_or_else(|| u32::try_from(nodes.saturating_sub(1)).unwrap_or(u32::MAX))
    }
}

impl Config {
    /// Returns the votes of the quorum device; 0 if there is none.
    pub fn device_votes(&self) -> u32 {
        self.quorum.device.map_or(0, |device| device.votes(self.nodes.len()))
    }

    /// Returns the reasons for which corosync would not start with the quorum device.
    pub(super) fn device_problems(&self) -> Vec<Problem> {
        let quorum = &self.quorum;
        let Some(device) = quorum.device else { return Vec::new() };
        let options = [
            (quorum.two_node, "quorum.two_node"),
            (quorum.last_man_standing, "quorum.last_man_standing"),
            (quorum.auto_tie_breaker.is_some(), "quorum.auto_tie_breaker"),
            (quorum.allow_downscale, "quorum.allow_downscale"),
        ];
        let excluded = options.into_iter().filter(|(on, _)| *on).map(|(_, option)| Problem::Broken {
            key: MODEL,
            value: "net".to_owned(),
            rule: format!("not be combined with {option}; remove one of the two"),
            other: Some(option),
        });
        let mut problems: Vec<Problem> = excluded.collect();
        let alike = !self.nodes.is_empty() && self.nodes.iter().all(|node| node.votes == 1);
        match (device.votes, quorum.expected_votes) {
            (None, expected) if expected.is_some() || !alike => problems.push(Problem::Broken {
                key: MODEL,
                value: "net".to_owned(),
                rule:
                    "have `votes` in section `device`, because its default needs a node list with one vote \
                       for each node, and no expected_votes; write `votes: 1`"
                        .to_owned(),
                other: None,
            }),
            (Some(votes), Some(expected)) if expected < votes.saturating_add(2) => {
                problems.push(Problem::Broken {
                    key: "quorum.expected_votes",
                    value: expected.to_string(),
                    rule: format!("be at least 2 above {VOTES} ({votes}), because it includes them"),
                    other: Some(VOTES),
                });
            }
            _ => {}
        }
        problems
    }
}

impl Reader<'_> {
    /// Reads the section. Without a model there is no device.
    pub(super) fn device(&mut self, nodes: &[Member]) -> Option<DeviceConfig> {
        let entry = self.take(MODEL).filter(|entry| !entry.value.is_empty())?;
        if entry.value != "net" {
            let text = format!("{MODEL} is `{}`: corosync-qdevice knows only `net`", entry.value);
            self.warn(Some(entry.line), text);
        }
        self.show(MODEL, entry.value.as_str(), "", self.line(entry));
        let votes = self.value(VOTES, |reader, entry| reader.number(entry, 0..=u32::MAX));
        let mut device = DeviceConfig { votes: votes.map(|(votes, _)| votes), ..DeviceConfig::default() };
        let source = match votes {
            Some((_, entry)) => self.line(entry),
            None => Source::derived("the number of nodes"),
        };
        self.show(VOTES, device.votes(nodes.len()), "votes", source);
        device.timeout = self.device_timeout("quorum.device.timeout", defaults::DEVICE_TIMEOUT);
        device.sync_timeout =
            self.device_timeout("quorum.device.sync_timeout", defaults::DEVICE_SYNC_TIMEOUT);
        // corosync-qdevice reads the rest.
        let sections = self.document.sections.iter().enumerate();
        let own = sections.filter(|(_, section)| section.path == "quorum.device").map(|(index, _)| index);
        own.collect::<Vec<_>>().into_iter().for_each(|section| self.pass_over(section));
        Some(device)
    }

    fn device_timeout(&mut self, path: &str, otherwise: u64) -> Duration {
        let (millis, source) = match self.value(path, |reader, entry| reader.number(entry, 1..=u32::MAX)) {
            Some((millis, entry)) => (millis.into(), self.line(entry)),
            None => (otherwise, Source::Default),
        };
        self.show(path, millis, "ms", source);
        Duration::from_millis(millis)
    }
}
