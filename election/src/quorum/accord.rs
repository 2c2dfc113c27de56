//! The agreement of a ring's members on which votes count, over restarts and regardless of their
//! files.
//!
//! `two-parts.md` explains why two parts of a cluster cannot both be quorate under this agreement.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use quorate_membership::bug;
use quorate_membership::{NodeId, RingId};

use super::verdict::listed;
use super::{Ballot, Electorate, Inquorate};

/// An electorate, and the ring in which it was last proposed. Of several in one cluster, the one of
/// the latest ring counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Dated {
    /// The ring.
    pub ring: RingId,
    /// The ring in which the first of the cluster's electorates was proposed. It tells clusters
    /// apart.
    pub founded: RingId,
    /// The voters and their votes.
    pub electorate: Electorate,
}

/// The part of the agreement that a node keeps over restarts, in the ring's record
/// ([`Stored::kept`](quorate_membership::Stored::kept)).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Record {
    /// The latest agreement that this node knows of. `None` if it was never in a ring that agreed
    /// on anything.
    pub agreed: Option<Dated>,
    /// An electorate that the node has accepted since, without knowing whether it was agreed on.
    pub pending: Option<Dated>,
    /// The content of the node's file when another electorate was agreed on. It is no longer a
    /// proposal.
    pub passed_over: Option<Electorate>,
}

impl Record {
    /// Returns the record of a node whose cluster agreed on `electorate` in a ring before all
    /// others that matter.
    pub fn of_old(electorate: Electorate) -> Self {
        let agreed = NodeId::new(1)
            .map(|representative| RingId { seq: 0, representative })
            .map(|ring| Dated { ring, founded: ring, electorate });
        Self { agreed, ..Self::default() }
    }

    /// Formats the record as lines.
    pub fn text(&self) -> String {
        let Self { agreed, pending, passed_over } = self;
        let mut text = String::new();
        for (word, dated) in [("agreed", agreed), ("pending", pending)] {
            if let Some(Dated { ring, founded, electorate }) = dated {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{word} {ring} {founded} {electorate}");
            }
        }
        if let Some(electorate) = passed_over {
            let _ = writeln!(text, "passed_over {electorate}");
        }
        text
    }

    /// Parses such lines. `None` if they are malformed.
    pub fn read(text: &str) -> Option<Self> {
        let dated = |text: &str| {
            let (ring, rest) = text.split_once(' ')?;
            let (founded, electorate) = rest.split_once(' ')?;
            let (ring, founded) = (ring.parse().ok()?, founded.parse().ok()?);
            Some(Dated { ring, founded, electorate: electorate.parse().ok()? })
        };
        let mut record = Self::default();
        for line in text.lines() {
            match line.split_once(' ')? {
                ("agreed", rest) => record.agreed = Some(dated(rest)?),
                ("pending", rest) => record.pending = Some(dated(rest)?),
                ("passed_over", rest) => record.passed_over = Some(rest.parse().ok()?),
                _ => return None,
            }
        }
        Some(record)
    }

    /// Returns `true` if this file is a proposal: it differs from the agreement, and was changed
    /// after it. A node without a record cannot know this (seed 2820 of the swarm).
    pub(super) fn is_news(&self, file: &Electorate) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.electorate != *file)
            && Some(file) != self.passed_over.as_ref()
    }

    /// Learns an agreement of other members. Returns `true` if it is news.
    ///
    /// A node that was not present then and has not changed its file since has an outdated file.
    pub(super) fn learn(&mut self, latest: &Dated, file: &Electorate) -> bool {
        let is_later = |own: &Dated| own.founded == latest.founded && own.ring > latest.ring;
        let knows = |own: &Dated| is_later(own) || own == latest;
        if self.agreed.as_ref().is_some_and(knows) {
            return false;
        }
        let before = self.agreed.as_ref().map_or(file, |before| &before.electorate).clone();
        self.passed_over.get_or_insert(before);
        self.replace(latest, file);
        true
    }

    /// Records an agreement of this ring's members. If the proposal was begun in this ring, their
    /// files have been considered.
    pub(super) fn agree(&mut self, on: &Dated, file: &Electorate, resumed: bool) {
        if self.agreed.is_some() && !self.is_news(file) || self.agreed.is_none() && !resumed {
            self.passed_over = Some(file.clone());
        }
        self.replace(on, file);
    }

    fn replace(&mut self, latest: &Dated, file: &Electorate) {
        self.agreed = Some(latest.clone());
        self.pending.take_if(|pending| pending.founded != latest.founded || pending.ring <= latest.ring);
        self.passed_over.take_if(|_| latest.electorate == *file);
    }
}

/// The electorate that the members of one ring have agreed on, and the one they are about to agree
/// on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Accord {
    /// The latest agreement that a member knows of.
    pub(super) agreed: Option<Dated>,
    /// The distinct electorates in the members' files, if nothing is agreed on.
    files: BTreeSet<Electorate>,
    /// Whether a majority of these is enough. Otherwise all voters must be present.
    pub(super) majority_founds: bool,
    /// Why nothing can be agreed on. Either the members come from clusters that do not fit
    /// together, or too many have forgotten what they accepted.
    pub(super) apart: Option<Inquorate>,
    /// A proposal that may have been agreed on since, elsewhere or in this ring.
    pub(super) pending: Option<Dated>,
    /// The members that have stored the proposal since it was proposed in this ring. `None` if it
    /// was not proposed here.
    stored: Option<BTreeMap<NodeId, u32>>,
    /// Whether the proposal was begun in another ring, so that this ring's files have not been
    /// considered.
    pub(super) resumed: bool,
    /// The members, each with the votes it announces.
    pub(super) said: BTreeMap<NodeId, u32>,
    /// The members that are Quorate nodes.
    pub(super) ours: BTreeSet<NodeId>,
}

impl Accord {
    /// Derives the accord from the members' records. Members that are not Quorate nodes have
    /// announced none, and members in `lost` have forgotten theirs.
    pub(super) fn of(
        said: BTreeMap<NodeId, u32>,
        ballots: &BTreeMap<NodeId, &Ballot>,
        lost: &BTreeSet<NodeId>,
    ) -> Self {
        bug!(ForeignVotesCount: return Self { said, ..Self::default() }; ());
        let ours: BTreeSet<NodeId> = ballots.keys().copied().collect();
        let (agreed, apart) = match agreed_of(&said, ballots) {
            Ok(agreed) => (agreed, None),
            Err(apart) => (None, Some(apart)),
        };
        let known = |file: &&Electorate| agreed.is_none() && file.expected > 0;
        let files = ballots.values().map(|ballot| &ballot.file).filter(known).cloned().collect();
        let mixed = ours.len() < said.len();
        let majority_founds =
            mixed || lost.is_empty() && ballots.values().all(|ballot| ballot.majority_founds);
        let mut accord = Self { agreed, apart, files, majority_founds, said, ours, ..Self::default() };
        accord.pending = accord.pending_of(ballots, lost);
        if accord.apart.is_none() {
            accord.apart = accord.forgotten(lost);
        }
        accord
    }

    /// Returns the proposal that may have been agreed on since.
    ///
    /// A member that has accepted something later than `agreed` may know of an agreement that the
    /// others do not. A proposal that has not reached enough members to be agreed on never will be,
    /// because these members are in this ring now. If nothing is agreed on, it is not known which
    /// members it would have had to reach.
    fn pending_of(&self, ballots: &BTreeMap<NodeId, &Ballot>, lost: &BTreeSet<NodeId>) -> Option<Dated> {
        let agreed = self.agreed.as_ref();
        let later = |ballot: &Ballot| {
            let follows = |pending: &Dated| {
                agreed.is_none_or(|agreed| {
                    agreed.founded == pending.founded
                        && agreed.ring < pending.ring
                        && agreed.electorate != pending.electorate
                })
            };
            ballot.pending.clone().filter(follows)
        };
        let mut accepted: Vec<(Option<Dated>, NodeId)> =
            ballots.iter().map(|(&node, ballot)| (later(ballot), node)).collect();
        accepted.sort();
        let mut reached = BTreeMap::new();
        for (pending, node) in &accepted {
            // A member that lost its record may have accepted the proposal, even if all are
            // present.
            if !lost.contains(node) {
                reached.insert(*node, self.said.get(node).copied().unwrap_or(0));
            }
            if self.agreed.is_some() && self.can_agree(&reached) {
                return pending.clone();
            }
        }
        accepted.pop().and_then(|(pending, _)| pending)
    }

    /// Returns an objection if members whose records were lost may have accepted something that
    /// others agreed on since. Without them the remaining members must be a majority, unless all
    /// voters are present.
    fn forgotten(&self, lost: &BTreeSet<NodeId>) -> Option<Inquorate> {
        let forgetful: BTreeSet<NodeId> =
            self.said.keys().filter(|node| self.forgetful(lost).contains(node)).copied().collect();
        let remembering = self.remembering(lost);
        (self.agreed.is_some() && !forgetful.is_empty() && !self.can_agree(&remembering))
            .then_some(Inquorate::RecordsLost(forgetful))
    }

    /// Returns the members whose records count.
    fn remembering(&self, lost: &BTreeSet<NodeId>) -> BTreeMap<NodeId, u32> {
        let forgetful = self.forgetful(lost);
        self.said
            .iter()
            .filter(|(node, _)| !forgetful.contains(node))
            .map(|(&node, &votes)| (node, votes))
            .collect()
    }

    /// Returns the members whose lost records matter. If all voters are present, none do.
    fn forgetful<'a>(&self, lost: &'a BTreeSet<NodeId>) -> &'a BTreeSet<NodeId> {
        static NONE: BTreeSet<NodeId> = BTreeSet::new();
        let whole = match &self.agreed {
            Some(agreed) => agreed.electorate.is_whole(&self.said),
            None => self.files.iter().all(|file| file.is_whole(&self.said)),
        };
        if whole { &NONE } else { lost }
    }

    /// Returns `true` if these nodes have a majority of the agreement. If nothing is agreed on,
    /// they must be all nodes that any file names.
    fn can_agree(&self, present: &BTreeMap<NodeId, u32>) -> bool {
        match &self.agreed {
            Some(agreed) => agreed.electorate.has_majority(present),
            None if self.majority_founds => self.files.iter().all(|file| file.tolerates(present).is_some()),
            None => self.files.iter().all(|file| file.is_whole(present)),
        }
    }

    /// Returns the votes of a member that announces `said`. The announced number counts if the
    /// member is listed and either is not a Quorate node or has had its votes changed by an
    /// operator.
    pub(super) fn votes_of(&self, node: NodeId, said: u32, ordered: bool) -> u32 {
        match &self.agreed {
            None => said,
            Some(agreed) => {
                let listed = agreed.electorate.votes_of(node, said);
                let speaks = ordered || !self.ours.contains(&node);
                if listed > 0 && speaks { said } else { listed }
            }
        }
    }

    /// Returns `true` if votes of this node can count.
    pub(super) fn lists(&self, node: NodeId) -> bool {
        self.agreed
            .as_ref()
            .is_none_or(|agreed| agreed.electorate.is_open() || agreed.electorate.votes.contains_key(&node))
    }

    /// Returns `true` if these nodes have a majority of the proposal. If a majority may found the
    /// cluster, `two_node` applies to this majority, too.
    fn can_take(&self, proposed: &Electorate, present: &BTreeMap<NodeId, u32>) -> bool {
        match self.agreed {
            None if self.majority_founds => proposed.tolerates(present).is_some(),
            _ => proposed.has_majority(present),
        }
    }

    /// Returns why members of a cluster that is not founded yet are not quorate, regardless of
    /// their number. If no member knows how many votes to expect, as is possible with corosync
    /// daemons, there is nothing to found.
    pub(super) fn unfounded(&self) -> Option<Inquorate> {
        let most = self.files.iter().max_by_key(|file| file.expected).filter(|_| self.agreed.is_none())?;
        let missing = self.awaited();
        if !missing.is_empty() {
            return Some(Inquorate::NeverFinished { missing });
        }
        if self.can_agree(&self.said) {
            // A file may expect more votes than it lists.
            return self
                .files
                .iter()
                .any(|file| self.can_take(file, &self.said))
                .then_some(Inquorate::Founding);
        }
        let missing = self.files.iter().flat_map(|file| file.missing(&self.said)).collect();
        Some(Inquorate::NeverAgreed { missing, total: most.count(&self.said), expected: most.expected })
    }

    /// Returns why the members are not quorate even though they have enough votes by the agreement.
    pub(super) fn unfinished(&self) -> Option<Inquorate> {
        let pending = &self.pending.as_ref().filter(|_| self.agreed.is_some())?.electorate;
        let (total, quorum) = (pending.count(&self.said), pending.majority());
        (!pending.has_majority(&self.said)).then_some(Inquorate::ChangeUnfinished { total, quorum })
    }

    /// Returns `true` if the change that may have been agreed on has its majority without the
    /// members in `lost`.
    pub(super) fn remembers_pending(&self, lost: &BTreeSet<NodeId>) -> bool {
        let mut kept = self.said.clone();
        kept.retain(|node, _| !lost.contains(node));
        self.pending
            .as_ref()
            .map(|pending| &pending.electorate)
            .is_none_or(|pending| pending.has_majority(&kept) || pending.is_whole(&self.said))
    }

    /// Returns the proposal of a quorate ring: a change that was begun and not finished, else one
    /// from the files.
    pub(super) fn proposal(
        &self,
        ballots: &BTreeMap<NodeId, &Ballot>,
        lost: &BTreeSet<NodeId>,
    ) -> Option<Electorate> {
        bug!(ForeignVotesCount: return None; ());
        let remembering = self.remembering(lost);
        if !self.can_agree(&remembering) {
            return None;
        }
        if let Some(pending) = &self.pending {
            return Some(pending.electorate.clone());
        }
        let proposed = match &self.agreed {
            Some(agreed) => self.change_proposed(&agreed.electorate, ballots)?,
            None => most_frequent(ballots.values().map(|ballot| &ballot.file))?,
        };
        self.can_take(&proposed, &remembering).then_some(proposed)
    }

    /// Returns the change that the files propose, if there is one.
    ///
    /// A voter's file that was changed after the last agreement is a proposal. Of several different
    /// ones, none counts until they are the same. A proposal is taken up once all of these hold:
    ///
    /// - At least as many members may fail with it as without it, or all files say the same.
    /// - The nodes to which it gives votes are present.
    /// - The nodes from which it takes votes are gone, or their own files propose the same.
    fn change_proposed(
        &self,
        agreed: &Electorate,
        ballots: &BTreeMap<NodeId, &Ballot>,
    ) -> Option<Electorate> {
        let proposals: BTreeSet<&Electorate> = ballots
            .iter()
            .filter(|(node, ballot)| {
                let said = self.said.get(node).copied().unwrap_or(0);
                ballot.proposes && ballot.file.expected > 0 && agreed.votes_of(**node, said) > 0
            })
            .map(|(_, ballot)| &ballot.file)
            .filter(|file| *file != agreed)
            .collect();
        let mut proposals = proposals.into_iter();
        let (only, None) = (proposals.next()?, proposals.next()) else { return None };
        let tolerated = only.tolerates(&self.said);
        let robust = tolerated >= agreed.tolerates(&self.said);
        // A change that makes a cluster less robust is intended if all files present agree on it.
        let meant = tolerated.is_some() && ballots.values().all(|ballot| ballot.file == *only);
        let drops = |node: &NodeId| only.votes_of(*node, 1) == 0 && agreed.votes_of(*node, 1) > 0;
        let unasked = self
            .said
            .keys()
            .filter(|node| drops(node))
            .any(|node| ballots.get(node).is_none_or(|ballot| ballot.file != *only));
        ((robust || meant) && !unasked && self.missing_new_voters(only, &self.said).is_empty())
            .then(|| only.clone())
    }

    /// Returns the voters without earlier votes that are not among these. An electorate is agreed
    /// on only when there are none, so that a node that has votes has been in a ring that agreed on
    /// them, and has that on record.
    fn missing_new_voters(
        &self,
        electorate: &Electorate,
        present: &BTreeMap<NodeId, u32>,
    ) -> BTreeSet<NodeId> {
        if self.agreed.is_none() && self.majority_founds {
            return BTreeSet::new();
        }
        let had_votes = |node: &NodeId| {
            self.agreed.as_ref().is_some_and(|agreed| agreed.electorate.votes_of(*node, 0) > 0)
        };
        electorate.missing(present).into_iter().filter(|node| !had_votes(node)).collect()
    }

    /// Returns the new voters that what was begun waits for.
    fn awaited(&self) -> BTreeSet<NodeId> {
        let begun = self.pending.as_ref();
        begun.map(|begun| self.missing_new_voters(&begun.electorate, &self.said)).unwrap_or_default()
    }

    /// Proposes an electorate in this ring. Returns what its members accept. Members that are not
    /// Quorate nodes need not store it.
    pub(super) fn propose(&mut self, ring: RingId, electorate: Electorate) -> Dated {
        let mut stored = self.said.clone();
        stored.retain(|node, _| !self.ours.contains(node));
        self.resumed = self.pending.is_some();
        let before = self.agreed.as_ref().or(self.pending.as_ref());
        let proposed = Dated { ring, founded: before.map_or(ring, |before| before.founded), electorate };
        (self.pending, self.stored) = (Some(proposed.clone()), Some(stored));
        proposed
    }

    /// Handles a member's report that it has stored the proposal. Returns the agreement once enough
    /// members have stored it.
    pub(super) fn hear_stored(&mut self, from: NodeId) -> Option<Dated> {
        let said = *self.said.get(&from)?;
        let mut stored = self.stored.take()?;
        stored.insert(from, said);
        let pending = &self.pending.as_ref()?.electorate;
        let is_enough = self.can_agree(&stored)
            && self.can_take(pending, &stored)
            && self.missing_new_voters(pending, &stored).is_empty();
        if bug!(AgreedUnstored: false; !is_enough) {
            self.stored = Some(stored);
            return None;
        }
        let agreed = self.pending.take()?;
        self.agreed = Some(agreed.clone());
        Some(agreed)
    }

    /// Returns what does not count, one clause each: differences in members' files, and a change
    /// that was begun and waits for nodes.
    pub(super) fn differences(&self, files: &BTreeMap<NodeId, Electorate>) -> Vec<String> {
        let most = most_frequent(files.values());
        let Some(counts) = self.agreed.as_ref().map(|agreed| &agreed.electorate).or(most.as_ref()) else {
            return Vec::new();
        };
        let clause = |(node, file): (&NodeId, &Electorate)| {
            let what = counts.difference(file)?;
            Some(format!("the file of node {node} {what}"))
        };
        let awaited = self.awaited();
        let change = self.pending.as_ref().filter(|_| self.agreed.is_some() && !awaited.is_empty());
        let unfinished = change.map(|Dated { electorate, .. }| {
            format!("the change to \"{electorate}\" has begun and waits for node {}", listed(&awaited))
        });
        files.iter().filter_map(clause).chain(unfinished).collect()
    }
}

/// Returns the latest agreement that members know of.
///
/// The members may come from several clusters. This happens when a machine was a cluster by itself
/// before it was given the others' file. A cluster whose voters are all present ends, and its nodes
/// join the other one. Of several complete clusters, the one with most voters continues. Of several
/// incomplete ones, no member can know whether another part of them is quorate.
fn agreed_of(
    said: &BTreeMap<NodeId, u32>,
    ballots: &BTreeMap<NodeId, &Ballot>,
) -> Result<Option<Dated>, Inquorate> {
    let mut latest: BTreeMap<RingId, (&Dated, NodeId)> = BTreeMap::new();
    for (&node, ballot) in ballots {
        let Some(agreed) = &ballot.agreed else { continue };
        let known = latest.entry(agreed.founded).or_insert((agreed, node));
        if known.0 < agreed {
            *known = (agreed, node);
        }
    }
    let is_whole = |agreed: &Dated| {
        let begun = ballots.values().filter_map(|ballot| ballot.pending.as_ref());
        let mut all = begun.filter(|pending| pending.founded == agreed.founded).chain([agreed]);
        all.all(|dated| dated.electorate.is_whole(said))
    };
    let mut parts = latest.values().filter(|(agreed, _)| !is_whole(agreed));
    match (parts.next(), parts.next()) {
        (Some((_, one)), Some((_, other))) => Err(Inquorate::Apart { one: *one, other: *other }),
        (Some((only, _)), None) => Ok(Some((*only).clone())),
        (None, _) => {
            let voters = |agreed: &Dated| (agreed.electorate.votes.len(), Reverse(agreed.founded));
            Ok(latest.values().map(|(agreed, _)| *agreed).max_by_key(|agreed| voters(agreed)).cloned())
        }
    }
}

/// Returns the most frequent electorate; of several, the greatest.
fn most_frequent<'a>(files: impl Iterator<Item = &'a Electorate>) -> Option<Electorate> {
    let mut counts: BTreeMap<&Electorate, usize> = BTreeMap::new();
    files.filter(|file| file.expected > 0).for_each(|file| *counts.entry(file).or_default() += 1);
    counts.into_iter().max_by_key(|(file, count)| (*count, *file)).map(|(file, _)| file.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(ring: &str, electorate: &str) -> Dated {
        let founded = "1.4".parse().unwrap();
        Dated { ring: ring.parse().unwrap(), founded, electorate: electorate.parse().unwrap() }
    }

    fn present(nodes: &[u32]) -> BTreeMap<NodeId, u32> {
        nodes.iter().map(|&node| (NodeId::new(node).unwrap(), 1)).collect()
    }

    /// Node 3 died between the proposal and its own record, and the others' files no longer list
    /// it.
    #[test]
    fn a_first_start_that_waits_for_a_voter_names_it() {
        let accord = Accord {
            pending: Some(dated("1.4", "expected 3, votes 1-3:1")),
            files: ["expected 2, votes 1-2:1".parse().unwrap()].into(),
            said: present(&[1, 2]),
            ..Accord::default()
        };
        let missing = [NodeId::new(3).unwrap()].into();
        assert_eq!(accord.unfounded(), Some(Inquorate::NeverFinished { missing }));
    }

    /// Node 4 died between the proposal and its own record.
    #[test]
    fn a_change_that_waits_for_a_new_voter_is_named() {
        let mut accord = Accord {
            agreed: Some(dated("1.4", "expected 3, votes 1-3:1")),
            pending: Some(dated("1.8", "expected 4, votes 1-4:1")),
            said: present(&[1, 2, 3]),
            ..Accord::default()
        };
        assert_eq!(
            accord.differences(&BTreeMap::new()),
            ["the change to \"expected 4, votes 1-4:1\" has begun and waits for node 4"]
        );
        accord.said = present(&[1, 2, 4]);
        assert!(accord.differences(&BTreeMap::new()).is_empty(), "an old voter need not be there");
    }

    /// A build that did not know of quorum devices has recorded another electorate for this ring.
    #[test]
    fn an_agreement_of_the_same_ring_that_differs_is_learnt() {
        let with_device = dated("1.8", "expected 3, votes 1-2:1, device 1");
        let without = dated("1.8", "expected 3, votes 1-2:1");
        let mut record = Record { agreed: Some(without), ..Record::default() };
        let file = with_device.electorate.clone();
        assert!(record.learn(&with_device, &file));
        assert_eq!(record.agreed.as_ref(), Some(&with_device));
        assert!(!record.learn(&with_device, &file), "it is known");
        assert!(!record.learn(&dated("1.4", "expected 2, votes 1-2:1"), &file), "it is older");
    }

    #[test]
    fn a_record_is_read_as_it_is_written() {
        let founded = "1.4".parse().unwrap();
        let dated = |ring: &str, text: &str| Dated {
            ring: ring.parse().unwrap(),
            founded,
            electorate: text.parse().unwrap(),
        };
        let record = Record {
            agreed: Some(dated("1.4", "expected 3, votes 1-3:1")),
            pending: Some(dated("1.8", "expected 5, votes 1-5:1, wait_for_all")),
            passed_over: Some("expected 2".parse().unwrap()),
        };
        assert_eq!(
            record.text(),
            "agreed 1.4 1.4 expected 3, votes 1-3:1\npending 1.8 1.4 expected 5, votes 1-5:1, wait_for_all\n\
             passed_over expected 2\n"
        );
        assert_eq!(Record::read(&record.text()), Some(record));
        assert_eq!(Record::read(""), Some(Record::default()));
        for text in [
            "agreed",
            "agreed 1.4 1.4",
            "agreed 1.4 expected 3",
            "agreed 1.4 1.4 expected x",
            "other 1.4 1.4 expected 3",
        ] {
            assert_eq!(Record::read(text), None, "{text}");
        }
    }
}
