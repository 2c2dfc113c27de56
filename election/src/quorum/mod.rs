//! The number of votes that are enough: votequorum, with its options.
//!
//! Once per ring, in the sync stage, each member announces how many votes it has and how many it
//! expects in total ([`NodeInfo`]). Members other than corosync daemons also announce their options
//! ([`Ballot`]). The ring is judged once all members have done so. All members judge from the same
//! messages and therefore judge alike:
//!
//! - The members have *agreed on* which nodes' votes count, how many votes are expected at the
//!   start, and which options are on. They keep this on record, and a file that differs from it is
//!   a proposal ([`two_parts`](crate::two_parts)). Votes of a node that is not listed there do not
//!   count. A cluster that has never agreed on anything must be complete once.
//! - *total* is the sum of the members' votes, with those that the quorum device gives.
//! - *expected* is the highest number that a quorate member announced. If none was quorate, it is
//!   the highest that any member announced. It is at least *total*, and at least as if the device
//!   gave its votes. A member is quorate in this
//!   sense if the last ring that it saw judged was.
//! - *quorum* is a majority of *expected*: corosync's `max((expected + 2) / 2, (total + 2) / 2)`.
//! - The ring is quorate if *total* reaches *quorum*.
//!
//! A node changes the number of votes it expects in one way only: it takes over *expected* of a
//! ring that is quorate, or in which a member was. The number therefore grows when more votes are
//! present than were expected, and the quorum never falls. There are four exceptions: a node that
//! was not quorate adopts the lower number of one that was, `last_man_standing`, `allow_downscale`,
//! and an operator's command, which arrives as a message in the ring's order ([`Reconfigure`]).
//!
//! # Options
//! The options have their names from corosync.conf.
//! [`Config::quorum_options`](quorate_membership::Config::quorum_options) combines them.
//!
//! - `two_node`: in a ring of one or two members, one vote is enough.
//! - `wait_for_all`: a node that starts, or is in a ring with too few votes, waits. A ring in which
//!   a member waits is not quorate before all expected votes are present, unless a member comes
//!   from a quorate ring. A ring that was quorate no longer waits, even if it has lacked votes
//!   since. (corosync waits again.)
//! - `auto_tie_breaker`: half of the expected votes are enough together with the node that breaks
//!   ties. This is the node with the lowest or highest id, or the first in the list, of the last
//!   ring that had a majority.
//! - `last_man_standing`: if a quorate ring has lost members, and stands for the window, only the
//!   votes present are expected. Each member's window ends by its own clock. It changes nothing but
//!   the numbers of expected and needed votes.
//! - `allow_downscale`: a node that leaves in order is no longer expected. The quorum does not fall
//!   below that of the configured votes.
//! - `expected_votes_tracking`: numbers announced by inquorate members count too.
//!
//! # Decided differently from corosync
//! Each decision is on the safe side. In a ring with corosync daemons, the daemons still judge by
//! their own rules and may be quorate where our members are not.
//!
//! - Members with different node lists, votes or options use those agreed on, and each file that
//!   differs is named ([`Verdict::differences`]). If nothing is agreed on yet and options differ,
//!   the ring is not quorate. (corosync mixes options, and counts the votes of every node present.)
//! - A cluster that starts for the first time is not quorate until all of its voters have been
//!   present once and have stored the agreement on the votes that count, unless `wait_for_all` is
//!   0. (With corosync a majority is enough.)
//! - Inquorate members with different settings use the highest of them, each for this ring only, so
//!   that the ring agrees on its quorum. (corosync lets each member use its own, so members of one
//!   ring disagree. The same happens with `last_man_standing` and `wait_for_all`, when a member
//!   that is not quorate meets one that has restarted.)
//! - A ring that is not quorate for another reason than its votes makes no member wait. (corosync
//!   knows no such reasons.)
//! - `two_node` is off if more than two nodes are expected. (With corosync any two of three nodes,
//!   and each alone, are quorate.)
//! - A tie is exactly half. (corosync rounds half of an odd number down, so that 1 of 3 can be
//!   quorate at the same time as 2 of 3.)
//! - The node that breaks a tie is chosen from the last ring with a majority, for a list too, so no
//!   tie is broken when a cluster starts. (With corosync two halves, each with a node of the list,
//!   are both quorate then.) If several members remember such a ring, the latest counts for all. A
//!   ring with a member that remembers none, because it has restarted, breaks no tie.
//! - The window of `last_man_standing` begins with the last change of the ring. (With corosync a
//!   member that joins does not put it off.)
//! - With `allow_downscale`, a leave counts in a quorate ring only. (With corosync it shrinks what
//!   a minority expects, until the minority is quorate.)
//! - A member without node info makes the ring inquorate. (corosync counts no votes for it,
//!   although it may be the only one that knows of more expected votes.)
//! - Without `expected_votes` and without a node list, corosync does not start. A Quorate node
//!   starts, and is not quorate until a member of its ring knows the number.
//!
//! Some decisions follow corosync even though they surprise:
//!
//! - `expected_votes_tracking` keeps nothing over a restart of all nodes.
//! - With a node list, `expected_votes_tracking` and `allow_downscale` override `expected_votes`.
//! - Losing quorum makes a node wait for all again.
//! - Without `wait_for_all`, `last_man_standing` does not keep nodes that start elsewhere from
//!   being quorate too.
//!
//! # The quorum device
//! An arbiter outside of the cluster may have votes, too. Each node has a quorum device, a program
//! on its host that asks the arbiter and gives these votes to the node's ring or not
//! ([`DeviceRequest`](quorate_membership::DeviceRequest)). The votes count once, if the device of
//! any voter gives them. (With corosync they count for a member only if its own device gives them,
//! so members of one ring can disagree.)
//!
//! The arbiter gives its votes to one part at a time, and promises no more. It keeps no record of
//! agreements and terms. Its votes therefore make a ring quorate and do nothing else. Where members
//! agree on the votes that count, and where a term begins, the nodes' own votes must be enough
//! ([`Verdict::device_decides`]).
//!
//! There are two more differences from corosync. *expected* includes the device's votes from the
//! start. A device cannot make its choice count against a majority (`master_wins`), because the
//! majority is quorate, too.

mod accord;
mod ballot;
mod device;
mod electorate;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::bug;
use quorate_membership::config::{QuorumOptions, TieBreaker};
use quorate_membership::wire::body::{NodeInfo, Reconfigure, VoteParameter};
use quorate_membership::{Config, DeviceState, NodeId, RingId, Time};

use self::accord::Accord;
pub use self::accord::{Dated, Record};
pub(crate) use self::ballot::WireBallot;
pub use self::ballot::{Ballot, Tie};
use self::device::Device;
pub use self::device::DeviceOutcome;
pub use self::electorate::{Electorate, NoElectorate};
pub use self::verdict::{Inquorate, Verdict};

/// One node's account of votes. See the [module](self) for the rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quorum {
    me: NodeId,
    votes: u32,
    /// The electorate in this node's file.
    file: Electorate,
    /// See [`Ballot::majority_founds`].
    majority_founds: bool,
    /// See [`Ballot::ordered`].
    ordered: bool,
    /// The record that survives restarts.
    record: Record,
    options: QuorumOptions,
    /// The expected votes that were configured, or set by an operator since. `two_node` and
    /// `allow_downscale` are measured against them.
    configured: Option<u32>,
    expected_votes: Option<u32>,
    /// Whether the last judgement was quorate.
    quorate: bool,
    /// Whether this node waits for all.
    waits: bool,
    /// Whether this node has been alone since it started.
    first: bool,
    /// The members of the ring judged last.
    last_members: BTreeSet<NodeId>,
    /// See [`Ballot::tie`].
    tie: Option<Tie>,
    /// See [`Ballot::lost`].
    lost: bool,
    /// The time at which the expected votes fall to those present.
    falls_at: Option<Time>,
    /// This node's quorum device.
    device: Device,
    /// The judged ring, while it stands.
    judgement: Option<Judgement>,
}

/// The case of a ring: its members' messages, and what has arrived since.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Judgement {
    ring: RingId,
    /// The agreement of the members.
    accord: Accord,
    /// The electorates in the members' files.
    files: BTreeMap<NodeId, Electorate>,
    votes: BTreeMap<NodeId, u32>,
    /// The state of each member's quorum device, as it last announced it.
    devices: BTreeMap<NodeId, DeviceState>,
    expected: Option<u32>,
    /// Whether a quorate member or an operator set `expected`, so that it holds even if the ring is
    /// not quorate.
    in_force: bool,
    /// Whether all expected votes must be present.
    waits: bool,
    /// The latest tie that a member remembers, if every member remembers one.
    tie: Option<Tie>,
    /// Why the ring is not quorate regardless of its votes.
    veto: Option<Inquorate>,
}

/// The votes that are present, and those that are needed.
struct Count {
    total: u32,
    /// The part of them that the quorum device gives.
    device: u32,
    expected: Option<u32>,
    /// The votes needed.
    quorum: Option<u32>,
    has_majority: bool,
    /// Whether exactly half of the votes are present, with the node that breaks ties.
    breaks_tie: bool,
}

impl Judgement {
    /// Returns why the ring is not quorate. `None` if it is.
    fn inquorate(&self, count: &Count) -> Option<Inquorate> {
        let Count { total, expected, quorum, has_majority, breaks_tie, .. } = *count;
        let waits = self.waits && expected.is_some_and(|expected| total < expected);
        let unfounded = self.accord.unfounded();
        let takes_all = unfounded.as_ref().filter(|_| !self.accord.majority_founds);
        match (self.veto.as_ref().or(takes_all), quorum, expected) {
            (Some(veto), ..) => Some(veto.clone()),
            (None, Some(_), Some(expected)) if waits => Some(Inquorate::WaitsForAll { total, expected }),
            (None, Some(quorum), _) if !has_majority && !breaks_tie => {
                Some(Inquorate::TooFewVotes { total, quorum })
            }
            (None, Some(_), _) => unfounded.or_else(|| self.accord.unfinished()),
            (None, None, _) => Some(Inquorate::NoExpectedVotes),
        }
    }

    /// Returns the member that breaks ties by this rule, if there is one.
    fn tie_breaker(&self, rule: &TieBreaker) -> Option<NodeId> {
        let mut present = self.votes.keys().copied();
        match rule {
            TieBreaker::Lowest => present.next(),
            TieBreaker::Highest => present.next_back(),
            TieBreaker::List(list) => list.iter().copied().find(|node| self.votes.contains_key(node)),
        }
    }

    fn total(&self) -> u32 {
        self.votes.values().fold(0, |total, &votes| total.saturating_add(votes))
    }

    /// Returns the votes of the quorum device, whether or not it gives them.
    fn device_votes(&self) -> u32 {
        self.accord.agreed.as_ref().map_or(0, |agreed| agreed.electorate.device)
    }

    /// Returns the votes that the device gives to this ring.
    fn device_casts(&self) -> u32 {
        let mut devices = self.devices.iter();
        let votes = |node| self.votes.get(node).is_some_and(|&votes| votes > 0);
        let casts = devices.any(|(node, device)| device.casts && votes(node));
        if casts { self.device_votes() } else { 0 }
    }

    fn has_heavy_members(&self) -> bool {
        self.votes.values().any(|&votes| votes > 1)
    }
}

impl Quorum {
    /// Returns the account of a node that has just started (corosync.conf: section `quorum`, and
    /// the node list's `quorum_votes`). Options that exclude each other are all off:
    /// [`Config::check`] rejects them.
    pub fn new(config: &Config) -> Self {
        let options = config.quorum_options().unwrap_or_default();
        let expected_votes = config.expected_votes();
        Self {
            me: config.node,
            votes: config.votes(),
            file: Electorate::of(config),
            majority_founds: config.quorum.wait_for_all == Some(false),
            ordered: false,
            record: Record::default(),
            waits: bug!(StartsWithoutAll: false; options.wait_for_all),
            options,
            configured: expected_votes,
            expected_votes,
            quorate: false,
            first: true,
            last_members: BTreeSet::new(),
            tie: None,
            lost: false,
            falls_at: None,
            device: Device::new(config.quorum.device),
            judgement: None,
        }
    }

    /// Returns the same node with this record. The record takes precedence over its configuration.
    #[must_use]
    pub fn with_record(mut self, record: Record) -> Self {
        bug!(ForeignVotesCount: return self; ());
        self.record = record;
        if let Some(agreed) = self.record.agreed.clone() {
            self.record.passed_over.take_if(|_| agreed.electorate == self.file);
            self.follow(&agreed.electorate);
            self.waits = bug!(StartsWithoutAll: false; self.options.wait_for_all);
        }
        self
    }

    /// Returns the record that this node keeps over restarts. It must be durable before it is
    /// passed to [`Quorum::has_stored`].
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Returns `true` if `kept` is the record by which this node has accepted the proposal of its
    /// ring. The other members must then be told that it is durable.
    pub fn has_stored(&self, kept: &str) -> bool {
        let ring = self.judgement.as_ref().map(|judgement| judgement.ring);
        self.record.pending.as_ref().is_some_and(|pending| Some(pending.ring) == ring)
            && self.record.text() == kept
    }

    /// Adopts an electorate that has been agreed on.
    fn follow(&mut self, electorate: &Electorate) {
        bug!(OptionsNotCompared: (); self.options = electorate.options.clone());
        self.configured = Some(electorate.expected).filter(|&votes| votes > 0);
        self.expected_votes = self.configured;
        if !self.ordered {
            self.votes = electorate.votes_of(self.me, self.votes);
        }
    }

    /// Returns the votes this node expects in total. `None` if the number is not known.
    pub fn expected_votes(&self) -> Option<u32> {
        self.expected_votes
    }

    /// Opens a new ring with these members. Returns the messages that this node sends in its sync.
    pub fn open(&mut self, members: &BTreeSet<NodeId>) -> (NodeInfo, Ballot) {
        self.judgement = None;
        self.falls_at = None;
        self.first &= members.len() == 1;
        self.lost |= self.quorate && !self.last_members.is_subset(members);
        let Record { agreed, pending, .. } = self.record.clone();
        let ballot = Ballot {
            file: self.file.clone(),
            proposes: self.record.is_news(&self.file),
            agreed,
            pending,
            majority_founds: self.majority_founds,
            ordered: self.ordered,
            tie: self.tie,
            lost: self.lost,
        };
        (self.node_info(), ballot)
    }

    /// Returns this node's announcement of its votes.
    pub fn node_info(&self) -> NodeInfo {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        NodeInfo {
            node: Some(self.me),
            votes: self.votes,
            expected_votes: self.expected_votes.unwrap_or(0),
            flags: flag(self.quorate, NodeInfo::QUORATE)
                | flag(self.waits, NodeInfo::WAIT_FOR_ALL)
                | flag(self.first, NodeInfo::FIRST)
                | self.device.state().flags(),
        }
    }

    /// Returns the message with which this node leaves in order, so that it is no longer expected.
    /// `None` if it would have no effect.
    pub fn farewell(&self) -> Option<NodeInfo> {
        let info = self.node_info();
        self.options.allow_downscale.then_some(NodeInfo { flags: info.flags | NodeInfo::LEAVING, ..info })
    }

    /// Judges a ring by its members' messages. Entries of nodes that are not members are ignored.
    /// `forgetful` are the members whose records were lost.
    pub fn judge(
        &mut self,
        now: Time,
        ring: RingId,
        members: &BTreeSet<NodeId>,
        said: &BTreeMap<NodeId, NodeInfo>,
        ballots: &BTreeMap<NodeId, &Ballot>,
        forgetful: &BTreeSet<NodeId>,
    ) -> Verdict {
        let infos = || members.iter().filter_map(|member| said.get(member));
        let said_of = |ballot: (&NodeId, &&Ballot)| members.contains(ballot.0) && said.contains_key(ballot.0);
        let ballots: BTreeMap<NodeId, &Ballot> =
            ballots.iter().filter(|&ballot| said_of(ballot)).map(|(&node, &ballot)| (node, ballot)).collect();
        let votes = infos().filter_map(|info| Some((info.node?, info.votes))).collect();
        let accord = Accord::of(votes, &ballots, forgetful);
        if let Some(agreed) = &accord.agreed
            && self.record.learn(agreed, &self.file)
        {
            self.follow(&agreed.electorate);
        }
        let law = accord.agreed.as_ref().map(|agreed| &agreed.electorate);
        // A number expected by a member that only knows of an earlier agreement is ignored.
        // corosync daemons know of no agreement.
        let expects = |info: &NodeInfo| {
            let ballot = info.node.and_then(|node| ballots.get(&node));
            match (law, ballot) {
                (None, _) => Some(info.expected_votes),
                (Some(law), None) => Some(info.expected_votes.max(law.expected)),
                (Some(law), Some(ballot)) => {
                    let knows = ballot.agreed.as_ref().is_some_and(|agreed| agreed.electorate == *law);
                    knows.then_some(info.expected_votes)
                }
            }
        };
        let all_ballots = &ballots;
        let ballots = || all_ballots.iter().map(|(&node, &ballot)| (node, ballot));
        // Quorum in another cluster does not count here.
        let is_stranger = |info: &NodeInfo| {
            let own = info.node.and_then(|node| all_ballots.get(&node)?.agreed.as_ref());
            own.zip(accord.agreed.as_ref()).is_some_and(|(own, agreed)| own.founded != agreed.founded)
        };
        let was_quorate = |info: &&NodeInfo| {
            info.flags & NodeInfo::QUORATE != 0
                && info.expected_votes > 0
                && accord.apart.is_none()
                && !is_stranger(info)
        };
        let waits = |info: &NodeInfo| info.flags & NodeInfo::WAIT_FOR_ALL != 0;

        let in_force = infos().filter(was_quorate).filter_map(expects).max();
        let announced = infos().filter_map(expects).max().filter(|&expected| expected > 0);
        let counts_all = bug!(ExpectedFromInquorate: true; self.options.expected_votes_tracking);
        let released = infos().filter(was_quorate).any(|info| !waits(info));
        let latest =
            ballots().filter_map(|(_, ballot)| ballot.tie).filter(|tie| tie.ring_seq < ring.seq).max();
        // A member that has restarted may have forgotten a later majority, which only the other
        // half remembers.
        let all_remember = ballots().all(|(_, ballot)| ballot.tie.is_some());
        let lost = ballots()
            .any(|(member, ballot)| ballot.lost && said.get(&member).is_some_and(|i| was_quorate(&i)));
        self.judgement = Some(Judgement {
            ring,
            votes: infos()
                .filter_map(|info| {
                    let node = info.node?;
                    let ordered = all_ballots.get(&node).is_some_and(|ballot| ballot.ordered);
                    Some((node, accord.votes_of(node, info.votes, ordered)))
                })
                .collect(),
            devices: infos().filter_map(|info| Some((info.node?, DeviceState::of(info.flags)))).collect(),
            files: ballots().map(|(node, ballot)| (node, ballot.file.clone())).collect(),
            expected: if counts_all { announced } else { in_force.or(announced) },
            in_force: in_force.is_some(),
            waits: self.options.wait_for_all && !released && infos().any(waits),
            tie: latest.filter(|_| all_remember),
            veto: (accord.apart.clone())
                .or_else(|| veto(members, said, ballots().filter(|_| accord.agreed.is_none()))),
            accord,
        });
        if infos().all(|info| !DeviceState::of(info.flags).registered) {
            self.device.forget_name();
        }
        self.last_members = members.clone();
        let verdict = self.weigh();
        if self.quorate || verdict.inquorate == Some(Inquorate::Founding) {
            self.propose(all_ballots, forgetful);
        }
        self.falls_at = self.falls_at(now, &verdict).filter(|_| lost);
        self.lost = self.falls_at.is_some();
        verdict
    }

    /// Proposes, in a quorate ring, what is to be agreed on in it, if anything. A proposal that was
    /// begun elsewhere and can never be agreed on is forgotten.
    fn propose(&mut self, ballots: &BTreeMap<NodeId, &Ballot>, lost: &BTreeSet<NodeId>) {
        let Some(Judgement { accord, ring, .. }) = &mut self.judgement else { return };
        if let Some(electorate) = accord.proposal(ballots, lost) {
            self.record.pending = Some(accord.propose(*ring, electorate));
        } else if accord.pending.is_none() {
            self.record.pending = None;
        }
    }

    /// Handles a member's report that it has stored the ring's proposal. `None` if nothing follows
    /// yet.
    pub fn hear_stored(&mut self, from: NodeId) -> Option<Verdict> {
        let judgement = self.judgement.as_mut()?;
        let resumed = judgement.accord.resumed;
        let agreed = judgement.accord.hear_stored(from)?;
        let Judgement { accord, votes, .. } = judgement;
        for (node, votes) in votes.iter_mut() {
            *votes = accord.said.get(node).map_or(0, |&said| accord.votes_of(*node, said, false));
        }
        (judgement.expected, judgement.in_force) = (Some(agreed.electorate.expected), true);
        self.ordered = false;
        self.record.agree(&agreed, &self.file, resumed);
        self.follow(&agreed.electorate);
        Some(self.weigh())
    }

    /// Returns a change that was begun in another ring and is to be finished in this one. There may
    /// be rings that are quorate by this change alone.
    pub(crate) fn resumed(&self) -> Option<&Electorate> {
        let accord = &self.judgement.as_ref()?.accord;
        accord.pending.as_ref().filter(|_| accord.resumed).map(|pending| &pending.electorate)
    }

    /// Returns `true` if members that kept their records are enough by such a change, too.
    pub(crate) fn remembers_change(&self, lost: &BTreeSet<NodeId>) -> bool {
        self.judgement.as_ref().is_none_or(|judgement| judgement.accord.remembers_pending(lost))
    }

    /// Returns when the expected votes may fall to those present, if they may.
    fn falls_at(&self, now: Time, verdict: &Verdict) -> Option<Time> {
        let window = self.options.last_man_standing?;
        let may = bug!(LastManFallsInquorate: true; self.quorate)
            && self.judgement.as_ref().is_some_and(|judgement| !judgement.has_heavy_members())
            && verdict.expected_votes > Some(verdict.total_votes);
        let at = bug!(LastManFallsAtOnce: now; now + window);
        may.then_some(at)
    }

    /// Handles a member's node info after the ring has been judged: its votes have changed, or it
    /// leaves. `None` if nothing follows.
    pub fn hear(&mut self, from: NodeId, info: &NodeInfo) -> Option<Verdict> {
        let quorate = self.quorate;
        let judgement = self.judgement.as_mut()?;
        if info.node != Some(from) || !judgement.votes.contains_key(&from) {
            return None;
        }
        judgement.devices.insert(from, DeviceState::of(info.flags));
        if info.flags & NodeInfo::LEAVING != 0 {
            if !self.options.allow_downscale || !quorate {
                return None;
            }
            judgement.votes.remove(&from);
            judgement.devices.remove(&from);
            let present = u32::try_from(judgement.votes.len()).unwrap_or(u32::MAX);
            judgement.expected = judgement.expected.map(|_| present);
        } else {
            // The numbers of Quorate nodes change only by messages that all members receive. An
            // announcement may be older than such a change.
            let accord = &judgement.accord;
            let is_daemon = accord.agreed.is_none() || !accord.ours.contains(&from);
            if is_daemon {
                judgement.votes.insert(from, accord.votes_of(from, info.votes, false));
            }
            let counts = info.flags & NodeInfo::QUORATE != 0 || self.options.expected_votes_tracking;
            if is_daemon && counts {
                let announced = Some(info.expected_votes).filter(|&expected| expected > 0);
                judgement.expected = judgement.expected.max(announced);
            }
        }
        Some(self.weigh())
    }

    /// Returns the current votes of each member of the judged ring.
    pub fn votes_present(&self) -> impl Iterator<Item = (NodeId, u32)> {
        self.judgement
            .iter()
            .flat_map(|judgement| judgement.votes.iter().map(|(&node, &votes)| (node, votes)))
    }

    /// Handles an operator's command, at its place in the order of the judged ring. `None` if
    /// nothing follows.
    pub fn reconfigure(&mut self, order: &Reconfigure) -> Option<Verdict> {
        let judgement = self.judgement.as_mut()?;
        match order.parameter {
            VoteParameter::ExpectedVotes => {
                let votes = Some(order.value).filter(|&votes| votes > 0)?;
                // A tracked number does not fall.
                let tracked = judgement.expected.filter(|_| self.options.expected_votes_tracking);
                judgement.expected = Some(votes).max(tracked);
                judgement.in_force = true;
                self.configured = Some(votes);
            }
            VoteParameter::Votes => {
                let node = NodeId::new(order.node).filter(|node| judgement.accord.lists(*node))?;
                *judgement.votes.get_mut(&node)? = order.value;
                if node == self.me {
                    (self.votes, self.ordered) = (order.value, true);
                }
            }
            VoteParameter::CancelWaitForAll => {
                judgement.waits = false;
                self.waits = false;
            }
        }
        Some(self.weigh())
    }

    /// Returns the sum of the members' own votes, and those of the quorum device whether or not it
    /// gives them: the votes of all that could be present.
    pub(crate) fn total_with_device(&self) -> u32 {
        let most = |judgement: &Judgement| judgement.total().saturating_add(judgement.device_votes());
        self.judgement.as_ref().map_or(0, most)
    }

    /// Returns the sum of the members' own votes.
    pub(crate) fn total_of_members(&self) -> u32 {
        self.judgement.as_ref().map_or(0, Judgement::total)
    }

    /// Returns when [`Quorum::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.falls_at
    }

    /// Handles the possible end of the window of `last_man_standing`. `None` if nothing follows.
    pub fn handle_timeout(&mut self, now: Time) -> Option<Verdict> {
        self.falls_at.take_if(|at| *at <= now)?;
        self.lost = false;
        let judgement = self.judgement.as_mut()?;
        judgement.expected = Some(judgement.total());
        Some(self.weigh())
    }

    /// Judges the ring from its current case, and updates this node's account by the verdict.
    fn weigh(&mut self) -> Verdict {
        let Some(judgement) = &self.judgement else { return self.unsettled() };
        let differences = judgement.accord.differences(&judgement.files);
        let count = self.count(judgement);
        let inquorate = judgement.inquorate(&count);
        self.account(inquorate.as_ref(), &count);
        let Count { total, device, expected, quorum, .. } = count;
        let suffices = |quorum: u32| total - device >= quorum;
        let device_decides = inquorate.is_none() && device > 0 && !quorum.is_some_and(suffices);
        let flags = self.flags();
        let (total_votes, expected_votes) = (total, expected);
        Verdict { total_votes, expected_votes, quorum, inquorate, device_decides, differences, flags }
    }

    /// Counts the votes that are present, and those that are needed.
    fn count(&self, judgement: &Judgement) -> Count {
        let options = &self.options;
        let device = judgement.device_casts();
        let total = judgement.total().saturating_add(device);
        let most = self.total_with_device();
        let raised = |expected: u32| bug!(ExpectedVotesFollowMembers: most; expected.max(most));
        let expected = judgement.expected.map(raised);
        let floor = self.configured.filter(|_| options.allow_downscale);
        let measure = expected.max(floor.filter(|_| expected.is_some()));
        let two = options.two_node
            && judgement.votes.len() <= 2
            && bug!(TwoNodeOfMany: true; expected <= self.configured);
        let one_more = bug!(HalfIsQuorate: 0; 1);
        let quorum = measure.map(|votes| if two { 1 } else { votes / 2 + one_more });
        let is_half =
            |votes: u32| bug!(TieBreakOdd: total == votes / 2; u64::from(total) * 2 == u64::from(votes));
        let breaks_tie = options.auto_tie_breaker.is_some()
            && measure.is_some_and(is_half)
            && match judgement.tie {
                Some(tie) => tie.node.is_some_and(|node| judgement.votes.contains_key(&node)),
                None => bug!(TieBreakAtStart: true; false),
            };
        let has_majority = quorum.is_some_and(|quorum| total >= quorum);
        Count { total, device, expected, quorum, has_majority, breaks_tie }
    }

    /// Updates this node's account by a verdict.
    fn account(&mut self, inquorate: Option<&Inquorate>, count: &Count) {
        let Some(judgement) = &mut self.judgement else { return };
        self.quorate = inquorate.is_none();
        // An inquorate ring leaves nothing behind unless a quorate node announced its number.
        // Otherwise one member with a wrong setting would block the others permanently.
        if self.quorate || judgement.in_force {
            judgement.expected = count.expected;
            self.expected_votes = count.expected;
        }
        match inquorate {
            None => (self.waits, judgement.waits) = (false, false),
            Some(Inquorate::WaitsForAll { .. } | Inquorate::TooFewVotes { .. }) => {
                self.waits = bug!(WaitNotRearmed: false; self.options.wait_for_all);
            }
            // The ring does not lack votes, so waiting members continue to wait, and no other
            // member starts to.
            Some(_) => {}
        }
        if !self.quorate {
            self.falls_at = None;
            return;
        }
        self.tie = match &self.options.auto_tie_breaker {
            _ if !count.has_majority => self.tie.max(judgement.tie),
            None => None,
            Some(rule) => Some(Tie { ring_seq: judgement.ring.seq, node: judgement.tie_breaker(rule) }),
        };
    }

    /// Returns the verdict while there is no ring to judge.
    pub fn unsettled(&self) -> Verdict {
        let flags = self.flags().into_iter().filter(|flag| *flag != QUORATE).collect();
        Verdict {
            total_votes: 0,
            expected_votes: self.expected_votes,
            quorum: None,
            inquorate: Some(Inquorate::Unsettled),
            device_decides: false,
            differences: Vec::new(),
            flags,
        }
    }

    fn flags(&self) -> Vec<&'static str> {
        let options = &self.options;
        let heavy = self.judgement.as_ref().is_some_and(Judgement::has_heavy_members);
        let flags = [
            (options.two_node, "2Node"),
            (self.quorate, QUORATE),
            (options.wait_for_all, "WaitForAll"),
            (options.last_man_standing.is_some() && !heavy, "LastManStanding"),
            (options.auto_tie_breaker.is_some(), "AutoTieBreaker"),
            (options.allow_downscale, "AllowDownscale"),
            (self.device.state().registered, "Qdevice"),
        ];
        flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect()
    }
}

pub(crate) const QUORATE: &str = "Quorate";

/// Returns why a ring is not quorate regardless of its votes.
fn veto<'a>(
    members: &BTreeSet<NodeId>,
    said: &BTreeMap<NodeId, NodeInfo>,
    mut ballots: impl Iterator<Item = (NodeId, &'a Ballot)>,
) -> Option<Inquorate> {
    let silent: BTreeSet<NodeId> = members.iter().copied().filter(|id| !said.contains_key(id)).collect();
    if !silent.is_empty() {
        return Some(Inquorate::NoNodeInfo(silent));
    }
    let (one, first) = ballots.next()?;
    let differs = |(other, ballot): (NodeId, &Ballot)| {
        Some((other, first.file.options.difference(&ballot.file.options)?))
    };
    let (other, option) = bug!(OptionsNotCompared: None; ballots.find_map(differs))?;
    Some(Inquorate::OptionsDiffer { option, one, other })
}

#[cfg(test)]
mod tests;
