//! Q6: each quorum option has exactly its intended effect.
//!
//! - `two_node`: one vote is enough only with at most two nodes, and only if more were never
//!   expected.
//! - `wait_for_all`: a ring becomes quorate only if all expected votes are present, if a member
//!   comes from a quorate ring, or if no member has lacked votes since it was quorate. From then on
//!   it does not need all of them.
//! - `auto_tie_breaker`: less than a majority is enough only if it is exactly half and includes the
//!   node that breaks ties. The node is chosen from the latest ring with a majority that a member
//!   remembers, without the members that have left it in order.
//! - `last_man_standing`: the expected votes fall in a ring only after it has been quorate for the
//!   window. A node that was quorate does not expect fewer votes in the next ring.
//! - If a member was quorate, the expected votes of the others do not count (except with
//!   `expected_votes_tracking`). If a member's record was lost, the members may agree on the votes
//!   again and then expect all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_election::{Inquorate, Status};
use quorate_membership::config::{QuorumOptions, TieBreaker};
use quorate_membership::{NodeId, RingId};

use super::cluster::{Cluster, Recent};
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};
use crate::{Electorate, Fault};

#[derive(Default)]
pub(super) struct OptionsKept {
    stays: BTreeMap<Life, (Stay, Memory)>,
    /// The memories of the nodes that have entered each ring.
    arrivals: Recent<RingId, Vec<Memory>>,
    /// The nodes that were told to leave, and have not started again and met others since.
    leavers: BTreeSet<NodeId>,
    /// The nodes that have started since they were told to leave.
    started: BTreeSet<NodeId>,
    /// The nodes whose record was lost.
    forgetful: BTreeSet<NodeId>,
}

/// The knowledge that a life brings into a ring.
#[derive(Clone, Default)]
struct Memory {
    /// The status of the last ring that it saw settled.
    latest: Option<Status>,
    /// Whether it has been quorate and has not lacked votes since.
    is_released: bool,
    /// The last ring with a majority, and its members.
    majority: Option<(RingId, BTreeSet<NodeId>)>,
}

/// The stay of a life in a ring.
struct Stay {
    ring: RingId,
    members: BTreeSet<NodeId>,
    before: Memory,
    settled_at: Option<Duration>,
    /// Whether the life has seen the ring quorate.
    was_quorate: bool,
}

struct Rules<'a> {
    options: &'a QuorumOptions,
    /// The votes expected at the start.
    configured: u32,
    arrivals: &'a [Memory],
    /// The nodes that were told to leave.
    leavers: &'a BTreeSet<NodeId>,
    /// Whether the members may have agreed on the votes again, because a record was lost.
    agreed_again: bool,
}

/// The share of a window that must have passed in true time, because a clock may run fast.
const CLOCKS: f64 = 0.9;

impl Online for OptionsKept {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let electorate = &cluster.electorate;
        if let What::Network(Fault::Leave(node)) = record.what
            && let Some(node) = NodeId::new(node)
        {
            self.leavers.insert(node);
            self.started.remove(&node);
        }
        if let What::Network(Fault::LoseRecord(node)) = record.what {
            self.forgetful.extend(NodeId::new(node));
        }
        let Some(life) = record.life.filter(|_| !electorate.refiled && *electorate != Electorate::default())
        else {
            return Ok(());
        };
        match &record.what {
            What::Started => drop(self.started.insert(life.node)),
            What::Regular(regular) => {
                // A node that has started again is expected again once the others have met it.
                // Before that, it may still be in a ring that it is about to leave (seed 88605).
                let met = |node: &NodeId| regular.members.contains(node) && self.started.contains(node);
                if regular.members.len() > 1 {
                    self.leavers.retain(|node| !met(node));
                }
                let before = self.stays.remove(&life).map(|(_, memory)| memory).unwrap_or_default();
                self.arrivals.entry(regular.ring, Vec::new).push(before.clone());
                let stay = Stay {
                    ring: regular.ring,
                    members: regular.members.clone(),
                    before: before.clone(),
                    settled_at: None,
                    was_quorate: false,
                };
                self.stays.insert(life, (stay, before));
            }
            What::Status(status) if status.settled => {
                let Some((stay, memory)) = self.stays.get_mut(&life) else { return Ok(()) };
                let latest = memory.latest.as_ref().filter(|_| stay.settled_at.is_some());
                stay.settled_at.get_or_insert(record.at);
                let rules = Rules {
                    options: &cluster.options,
                    configured: cluster.expected,
                    arrivals: self.arrivals.get(&stay.ring).map(Vec::as_slice).unwrap_or_default(),
                    leavers: &self.leavers,
                    agreed_again: !self.forgetful.is_disjoint(&stay.members),
                };
                if let Some(what) = rules.broken(record.at, stay, status, latest) {
                    return violated("Q6", record.at, format!("{life} in {}: {what}", stay.ring));
                }
                stay.was_quorate |= status.quorate;
                memory.latest = Some((**status).clone());
                memory.is_released = match status.inquorate {
                    None => true,
                    Some(Inquorate::WaitsForAll { .. } | Inquorate::TooFewVotes { .. }) => false,
                    // Other options or a lost record say nothing about the votes present.
                    Some(_) => memory.is_released,
                };
                if status.quorate && Some(status.total_votes) >= status.quorum {
                    let mut present = stay.members.clone();
                    if status.total_votes < electorate.sum(&present) {
                        present.retain(|node| !self.leavers.contains(node));
                    }
                    memory.majority = Some((stay.ring, present));
                }
            }
            What::Crashed => drop(self.stays.remove(&life)),
            _ => {}
        }
        Ok(())
    }
}

impl Rules<'_> {
    /// Returns the rule that a status breaks, if any.
    fn broken(&self, at: Duration, stay: &Stay, status: &Status, latest: Option<&Status>) -> Option<String> {
        let (total, members) = (status.total_votes, &stay.members);
        let (expected, quorum) = (status.expected_votes?, status.quorum?);
        if quorum <= expected / 2
            && !(self.options.two_node && members.len() <= 2 && expected <= self.configured)
        {
            return Some(format!("{quorum} of {expected} votes are enough for {members:?}"));
        }
        let from_quorate =
            self.arrivals.iter().any(|memory| memory.latest.as_ref().is_some_and(|latest| latest.quorate));
        let are_released = || self.arrivals.iter().all(|memory| memory.is_released);
        let waits = !from_quorate && !stay.was_quorate && !are_released();
        if status.quorate && self.options.wait_for_all && waits && total < expected {
            return Some(format!("quorate with {total} of {expected} votes, but a member waits for all"));
        }
        if status.quorate && total < quorum {
            let majorities = self.arrivals.iter().filter_map(|memory| memory.majority.as_ref());
            let breaker = majorities.max_by_key(|(ring, _)| *ring).and_then(|(_, last)| self.breaker(last));
            let measure = if self.options.allow_downscale { expected.max(self.configured) } else { expected };
            if self.options.auto_tie_breaker.is_none() || 2 * total != measure {
                return Some(format!("quorate with {total} of {quorum} votes needed"));
            }
            if breaker.is_none_or(|node| !members.contains(&node)) {
                return Some(format!(
                    "quorate with half of the votes and without {breaker:?}, which breaks ties"
                ));
            }
        }
        let fell = |before: &Status| before.expected_votes.filter(|before| expected < *before);
        if let Some((before, more)) = latest.and_then(|before| Some((before, fell(before)?))) {
            let stood = at - stay.settled_at.unwrap_or(at);
            let window = self.options.last_man_standing.map(|window| window.mul_f64(CLOCKS));
            let may = before.quorate && window.is_some_and(|window| stood >= window);
            if !may && !self.options.allow_downscale {
                return Some(format!(
                    "{expected} votes are expected after {more}, though the ring had only stood for {stood:?}"
                ));
            }
        }
        let of_quorate =
            self.arrivals.iter().filter_map(|memory| memory.latest.as_ref()).filter(|latest| latest.quorate);
        let in_force = of_quorate.filter_map(|latest| latest.expected_votes).max();
        let tracks = self.options.expected_votes_tracking;
        if let Some(in_force) = in_force.filter(|_| latest.is_none() && !tracks)
            && expected > in_force.max(total)
            && !(self.agreed_again && expected == self.configured)
        {
            return Some(format!(
                "{expected} votes are expected, but its quorate members expected {in_force}"
            ));
        }
        let before = stay.before.latest.as_ref().filter(|before| before.quorate && latest.is_none());
        // A member that left in order may have announced it in a ring that was over before the
        // ring's status was delivered (seed 1198).
        let has_left = self.options.allow_downscale && !self.leavers.is_subset(members);
        if let Some(more) = before.and_then(fell).filter(|_| !has_left) {
            return Some(format!(
                "{expected} votes are expected after {more} in the previous ring, which was quorate"
            ));
        }
        None
    }

    fn breaker(&self, last: &BTreeSet<NodeId>) -> Option<NodeId> {
        match self.options.auto_tie_breaker.as_ref()? {
            TieBreaker::Lowest => last.first().copied(),
            TieBreaker::Highest => last.last().copied(),
            TieBreaker::List(list) => list.iter().copied().find(|node| last.contains(node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    fn story(nodes: u32, options: &str) -> Story {
        let mut story = Story::ring(nodes).of(options);
        (1..=nodes).for_each(|node| story.settle(node));
        story
    }

    /// Forms a ring of these members, which is quorate.
    fn quorate(story: &mut Story, ring: &str, members: &[u32]) {
        for &node in members {
            story.install(node, ring, members, members);
            story.settle_as(node, |status| (status.quorate, status.inquorate) = (true, None));
        }
    }

    #[test]
    fn one_vote_is_enough_for_two_nodes_only() {
        let alone = |nodes, options| {
            let mut story = story(nodes, options);
            story.install(1, "1.8", &[1], &[1]);
            story.settle_as(1, |status| (status.quorate, status.quorum) = (true, Some(1)));
            story
        };
        alone(2, "two_node").is_right(OptionsKept::default());
        alone(3, "two_node").is_wrong(OptionsKept::default(), "1#1 in 1.8: 1 of 3 votes are enough for {1}");
        alone(2, "wait_for_all").is_wrong(OptionsKept::default(), "1 of 2 votes are enough for {1}");
    }

    #[test]
    fn a_ring_waits_for_all_unless_a_member_was_quorate() {
        let mut right = story(3, "wait_for_all");
        quorate(&mut right, "1.8", &[1, 2]);
        right.is_right(OptionsKept::default());

        let mut story = Story::new(3).of("wait_for_all");
        story.install(1, "1.4", &[1, 2], &[]);
        story.settle(1);
        story.is_wrong(
            OptionsKept::default(),
            "1#1 in 1.4: quorate with 2 of 3 votes, but a member waits for all",
        );
    }

    #[test]
    fn a_ring_that_was_complete_stays_quorate_when_a_node_leaves() {
        let left = |complete: bool| {
            let mut story = Story::new(3).of("wait_for_all");
            story.install(1, "1.4", &[1, 2, 3], &[]);
            if complete {
                story.settle(1);
            }
            story.settle_as(1, |status| status.total_votes = 2);
            story
        };
        left(true).is_right(OptionsKept::default());
        left(false).is_wrong(OptionsKept::default(), "quorate with 2 of 3 votes, but a member waits for all");
    }

    #[test]
    fn a_node_that_lost_quorum_waits_for_all_again() {
        let mut story = story(3, "wait_for_all");
        story.install(1, "1.8", &[1], &[1]);
        story.settle(1);
        story.start(2);
        story.install(1, "1.c", &[1, 2], &[1]);
        story.settle(1);
        story.is_wrong(
            OptionsKept::default(),
            "1#1 in 1.c: quorate with 2 of 3 votes, but a member waits for all",
        );
    }

    #[test]
    fn a_node_that_met_a_lost_record_waits_no_more_than_before() {
        let after = |reason: Inquorate, started: bool| {
            let mut story = story(3, "wait_for_all");
            story.install(1, "1.8", &[1, 2], &[1, 2]);
            story.settle_as(1, |status| (status.quorate, status.inquorate) = (false, Some(reason)));
            if started {
                story.start(3);
                story.install(3, "1.c", &[1, 3], &[]);
            }
            story.install(1, "1.c", &[1, 3], &[1]);
            story.settle(1);
            story
        };
        let lost = || Inquorate::RecordsLost(NodeId::new(2).into_iter().collect());
        after(lost(), false).is_right(OptionsKept::default());
        after(lost(), true).is_wrong(OptionsKept::default(), "but a member waits for all");
        after(Inquorate::TooFewVotes { total: 2, quorum: 3 }, false).is_wrong(
            OptionsKept::default(),
            "1#1 in 1.c: quorate with 2 of 3 votes, but a member waits for all",
        );
    }

    #[test]
    fn a_tie_needs_the_breaker_of_the_last_majority() {
        let halves = |options, members: &[u32]| {
            let mut story = story(4, options);
            quorate(&mut story, "1.8", members);
            story
        };
        halves("auto_tie_breaker lowest", &[1, 2]).is_right(OptionsKept::default());
        halves("auto_tie_breaker 4 1", &[3, 4]).is_right(OptionsKept::default());
        halves("auto_tie_breaker lowest", &[3, 4]).is_wrong(
            OptionsKept::default(),
            "3#1 in 1.8: quorate with half of the votes and without Some(1), which breaks ties",
        );
        halves("auto_tie_breaker lowest", &[1])
            .is_wrong(OptionsKept::default(), "quorate with 1 of 3 votes needed");
        halves("wait_for_all", &[1, 2]).is_wrong(OptionsKept::default(), "quorate with 2 of 3 votes needed");

        let mut later = story(4, "auto_tie_breaker lowest");
        quorate(&mut later, "2.8", &[2, 3, 4]);
        later.install(1, "1.8", &[1], &[1]);
        later.settle(1);
        quorate(&mut later, "1.c", &[1, 3]);
        later.is_wrong(OptionsKept::default(), "quorate with half of the votes and without Some(2)");

        let mut start = Story::new(4).of("auto_tie_breaker 1 3");
        start.install(1, "1.4", &[1, 2], &[]);
        start.settle_as(1, |status| (status.quorate, status.inquorate) = (true, None));
        start.is_wrong(OptionsKept::default(), "quorate with half of the votes and without None");
    }

    #[test]
    fn expected_votes_fall_only_after_the_window() {
        let falls = |options, wait: u64, quorate: bool| {
            let mut story = story(5, options);
            story.install(1, "1.8", &[1, 2, 3], &[1, 2, 3]);
            story.settle_as(1, |status| status.quorate = quorate);
            story.wait(Duration::from_millis(wait));
            story.settle_as(1, |status| (status.expected_votes, status.quorum) = (Some(3), Some(2)));
            story
        };
        falls("last_man_standing 600ms", 700, true).is_right(OptionsKept::default());
        falls("last_man_standing 600ms", 300, true)
            .is_wrong(OptionsKept::default(), "3 votes are expected after 5");
        falls("last_man_standing 600ms", 700, false)
            .is_wrong(OptionsKept::default(), "3 votes are expected after 5");
        falls("wait_for_all", 700, true).is_wrong(OptionsKept::default(), "3 votes are expected after 5");
    }

    #[test]
    fn votes_expected_by_an_inquorate_member_do_not_count() {
        let mut story = story(4, "last_man_standing 600ms");
        quorate(&mut story, "1.8", &[1, 2, 3]);
        story.wait(Duration::from_millis(700));
        for node in 1..=3 {
            let three = |status: &mut Status| (status.expected_votes, status.quorum) = (Some(3), Some(2));
            story.settle_as(node, three);
        }
        story.start(4);
        story.install(1, "1.c", &[1, 2, 4], &[1, 2]);
        let expects = |votes| move |status: &mut Status| status.expected_votes = Some(votes);
        story.settle_as(1, expects(3));
        story.is_right(OptionsKept::default());
        story.install(2, "1.c", &[1, 2, 4], &[1, 2]);
        story.settle_as(2, expects(4));
        story.is_wrong(
            OptionsKept::default(),
            "2#1 in 1.c: 4 votes are expected, but its quorate members expected 3",
        );
    }

    #[test]
    fn expected_votes_do_not_fall_between_rings() {
        let mut story = story(5, "last_man_standing 600ms");
        story.install(1, "1.8", &[1, 2, 3], &[1, 2, 3]);
        story.settle_as(1, |status| (status.expected_votes, status.quorum) = (Some(3), Some(2)));
        story.is_wrong(
            OptionsKept::default(),
            "3 votes are expected after 5 in the previous ring, which was quorate",
        );
    }

    #[test]
    fn a_leaver_is_not_expected_until_it_has_started_again() {
        let falls = |starts: bool| {
            let mut story = story(4, "allow_downscale");
            story.fault(Fault::Leave(1));
            if starts {
                story.start(1);
            }
            // The ring is over before its votes are known.
            story.install(3, "1.8", &[1, 2, 3, 4], &[1, 2, 3, 4]);
            story.install(3, "3.c", &[2, 3, 4], &[2, 3, 4]);
            story.settle_as(3, |status| (status.expected_votes, status.quorum) = (Some(3), Some(2)));
            story
        };
        falls(false).is_right(OptionsKept::default());
        falls(true).is_wrong(OptionsKept::default(), "3 votes are expected after 4 in the previous ring");
    }

    #[test]
    fn a_node_that_left_in_order_breaks_no_ties() {
        let half = |told: bool, members: &[u32]| {
            let mut story = story(4, "auto_tie_breaker 3 4 2, allow_downscale");
            if told {
                story.fault(Fault::Leave(3));
            }
            for &node in members {
                story.settle_as(node, |status| (status.total_votes, status.expected_votes) = (3, Some(3)));
            }
            for &node in members {
                story.install(node, "1.8", members, members);
                story.settle_as(node, |status| {
                    (status.quorate, status.inquorate) = (true, None);
                    status.expected_votes = Some(3);
                });
            }
            story
        };
        half(true, &[1, 4]).is_right(OptionsKept::default());
        half(true, &[1, 2]).is_wrong(OptionsKept::default(), "without Some(4), which breaks ties");
        half(false, &[1, 4]).is_wrong(OptionsKept::default(), "without Some(3), which breaks ties");
    }
}
