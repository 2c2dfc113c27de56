//! The fold: from the ring's events to the status.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::mutants::Mutant;
use quorate_membership::wire::body::{Body, NodeInfo, SERVICES};
use quorate_membership::{Cause, Config, Event, NodeId, Regular, RingId, Service, ServiceMessage, Time};
use tracing::{info, warn};

use crate::{Candidacy, Inquorate, NodeStatus, Quorum, Status, Term, Verdict};

/// One node's view of quorum and DC: a fold over its ring's events.
///
/// A new ring ([`Event::Regular`]) ends all that was: until its members have spoken there is neither quorum nor DC.
/// Each member says once how many votes it has and what it is. When all have ([`Event::Synced`]), the ring is judged
/// from exactly that, so that its members, who saw the same messages, come to the same result at the same point of
/// the order. Nothing is elected between rings' judgements.
///
/// - Several messages of one member in one ring: the first candidacy counts, and the last node info before the
///   judgement, as with corosync. What comes after the judgement does not count.
/// - A member that says nothing of itself, or what cannot be true, is a voter and never a candidate. One that does not
///   say its votes makes the ring inquorate.
/// - The elected DC's term is the ring's: `(ring seq, 0, DC)`. An incumbent's term rises too, since a ring in
///   between, which only nodes now silent saw settled, might have had another DC. Ring sequence numbers are durable
///   before they are used, so terms are as well and need no record of their own.
#[derive(Clone, Debug)]
pub struct Election {
    me: NodeId,
    name: String,
    priority: u32,
    quorum: Quorum,
    /// See [`Candidacy::tenure`].
    tenure: Option<Term>,
    /// See [`Candidacy::known`].
    known: Option<Term>,
    /// See [`Candidacy::since`]; `None` before the first ring.
    since: Option<u64>,
    /// Who has been in all rings with this node since the last one that settled, that one's included.
    company: BTreeSet<NodeId>,
    /// What the members of the new ring have said so far; `None` while there is nothing to be said.
    hearing: Option<Hearing>,
    nodes: BTreeMap<NodeId, Known>,
    status: Status,
}

/// What follows from an event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// What this node has to say in the sync stages of the ring that the event installed.
    pub say: Option<Say>,
    /// The new status, whose place in the order is right behind the event.
    pub status: Option<Status>,
}

/// What a member says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Say {
    /// In the stage of [`Service::Votequorum`].
    pub node_info: NodeInfo,
    /// In the stage of [`Service::Quorate`].
    pub candidacy: Candidacy,
}

#[derive(Clone, Debug)]
struct Hearing {
    ring: RingId,
    members: BTreeSet<NodeId>,
    node_infos: BTreeMap<NodeId, NodeInfo>,
    candidacies: BTreeMap<NodeId, Candidacy>,
}

#[derive(Clone, Debug)]
struct Known {
    name: String,
    /// The name is the operator's, which the node's own word does not change.
    named: bool,
    votes: u32,
}

impl Election {
    /// A node that has just started.
    pub fn new(config: &Config) -> Self {
        let name = if Candidacy::can_be_shown(&config.name) {
            config.name.clone()
        } else {
            format!("node{}", config.node)
        };
        let listed = config.nodes.iter().map(|member| {
            let named = member.name.is_some();
            let name = member.name.clone().unwrap_or_else(|| format!("node{}", member.id));
            (member.id, Known { name, named, votes: member.votes })
        });
        let mut nodes: BTreeMap<NodeId, Known> = listed.collect();
        nodes.insert(config.node, Known { name: name.clone(), named: true, votes: config.quorum.votes });

        let mut election = Self {
            me: config.node,
            name,
            priority: 0,
            quorum: Quorum::new(config),
            tenure: None,
            known: None,
            since: None,
            company: BTreeSet::from([config.node]),
            hearing: None,
            nodes,
            status: Status::default(),
        };
        election.status = election.unsettled(None, &BTreeSet::new(), Cause::Started.to_string());
        election
    }

    /// The same node, with this priority as a candidate ([`Candidacy::priority`]; default 0).
    #[must_use]
    pub fn with_priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// The status as of the last event.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Takes the next event of the ring. `now` is the time of the input that brought it.
    pub fn handle(&mut self, now: Time, event: &Event) -> Outcome {
        let (say, status) = match event {
            Event::Regular(regular) => {
                let (say, status) = self.open(regular);
                (Some(say), Some(status))
            }
            Event::Service(message) if self.hearing.is_some() => {
                self.hear(message);
                (None, None)
            }
            Event::Service(message) => (None, self.hear_later(message)),
            Event::Synced(ring) => (None, self.settle(now, *ring)),
            Event::Left(cause) => {
                self.hearing = None;
                (None, Some(self.unsettled(None, &BTreeSet::new(), cause.to_string())))
            }
            Event::Transitional(_) | Event::GroupChange(_) | Event::Deliver(_) | Event::Stalled(_) => {
                (None, None)
            }
        };
        self.outcome(say, status)
    }

    fn outcome(&mut self, say: Option<Say>, status: Option<Status>) -> Outcome {
        if let Some(status) = &status {
            self.status = status.clone();
        }
        Outcome { say, status }
    }

    /// When [`Election::handle_timeout`] wants to be called; `None`: nothing waits for a time.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.quorum.poll_timeout()
    }

    /// The time that [`Election::poll_timeout`] gave has come. Harmless at any other time.
    pub fn handle_timeout(&mut self, now: Time) -> Outcome {
        let verdict = self.quorum.handle_timeout(now);
        let status = verdict.and_then(|verdict| self.judged_anew(verdict));
        self.outcome(None, status)
    }

    /// What this node says in the ring's order before it leaves it; `None`: nothing.
    pub fn farewell(&self) -> Option<NodeInfo> {
        self.quorum.farewell()
    }

    /// A new ring: the old one's quorum and DC are no more, and its members are asked again.
    fn open(&mut self, regular: &Regular) -> (Say, Status) {
        let Regular { ring, members, joined, .. } = regular;
        self.company.retain(|node| members.contains(node) && !joined.contains(node));
        self.company.insert(self.me);
        for &member in members {
            self.nodes.entry(member).or_insert_with(|| Known {
                name: format!("node{member}"),
                named: false,
                votes: 0,
            });
        }
        self.hearing = Some(Hearing {
            ring: *ring,
            members: members.clone(),
            node_infos: BTreeMap::new(),
            candidacies: BTreeMap::new(),
        });
        let (node_info, ballot) = self.quorum.open(members);
        let candidacy = Candidacy {
            tenure: self.tenure,
            priority: self.priority,
            features: Reverse(Candidacy::FEATURES),
            since: Reverse(*self.since.get_or_insert(ring.seq)),
            node: Reverse(self.me),
            known: self.known,
            name: self.name.clone(),
            ballot,
        };
        let say = Say { node_info, candidacy };
        let mut status = self.unsettled(Some(*ring), members, regular.why());
        if Mutant::QuorumKeptInNewRing.is_active() {
            status.quorate = self.status.quorate;
        }
        if Mutant::DcKeptInNewRing.is_active() {
            status.dc = self.status.dc;
        }
        if Mutant::StatusOfOldRing.is_active() {
            status.ring = self.status.ring;
        }
        (say, status)
    }

    /// A member speaks.
    fn hear(&mut self, message: &ServiceMessage) {
        let Some(hearing) = &mut self.hearing else { return };
        if message.ring != hearing.ring || !hearing.members.contains(&message.from) {
            return;
        }
        match message.service {
            Service::Votequorum => match Body::decode(SERVICES, &message.message) {
                Ok(Body::NodeInfo(node_info)) => hearing.hear_node_info(message.from, node_info),
                Ok(_) => {}
                Err(refusal) => warn!(from = %message.from, %refusal, "unreadable votequorum message"),
            },
            Service::Quorate => match Candidacy::decode(message.from, &message.message) {
                Ok(candidacy) => hearing.hear_candidacy(message.from, candidacy),
                Err(error) => warn!(from = %message.from, %error, "unreadable candidacy"),
            },
        }
    }

    /// A member speaks when the ring has been judged.
    fn hear_later(&mut self, message: &ServiceMessage) -> Option<Status> {
        if message.service != Service::Votequorum || self.status.ring != Some(message.ring) {
            return None;
        }
        let verdict = match Body::decode(SERVICES, &message.message).ok()? {
            Body::NodeInfo(info) => self.quorum.hear(message.from, &info),
            Body::Reconfigure(order) => self.quorum.reconfigure(&order),
            _ => None,
        };
        verdict.and_then(|verdict| self.judged_anew(verdict))
    }

    /// The ring's quorum is another one than before, if it is; its DC stays, with its term as long as there is quorum.
    fn judged_anew(&mut self, verdict: Verdict) -> Option<Status> {
        let Verdict { total_votes, expected_votes, quorum, inquorate, flags } = verdict;
        let quorate = inquorate.is_none();
        let ring = self.status.ring?;
        for (id, votes) in self.quorum.votes_present() {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.votes = votes;
            }
        }
        let term =
            self.status.dc.map(|node| Term { ring_seq: ring.seq, hand_over: 0, node }).filter(|_| quorate);
        let online = self.status.nodes.iter().filter(|node| node.online).map(|node| node.id).collect();
        let status = Status {
            nodes: self.node_statuses(&online),
            term,
            quorate,
            inquorate,
            total_votes,
            expected_votes,
            quorum,
            flags,
            ..self.status.clone()
        };
        if status == self.status {
            return None;
        }
        if term.is_some_and(|term| term.node == self.me) {
            self.tenure = term;
        }
        self.known = self.known.max(term);
        info!(%ring, total_votes, ?expected_votes, ?quorum, quorate, "judged anew");
        Some(status)
    }

    /// All have spoken: the ring is judged.
    fn settle(&mut self, now: Time, ring: RingId) -> Option<Status> {
        let hearing = self.hearing.take_if(|hearing| hearing.ring == ring)?;
        let Hearing { members, node_infos, candidacies, .. } = hearing;

        let ballots = candidacies.iter().map(|(&node, candidacy)| (node, &candidacy.ballot)).collect();
        let Verdict { total_votes, expected_votes, quorum, inquorate, flags } =
            self.quorum.judge(now, ring, &members, &node_infos, &ballots);
        let quorate = inquorate.is_none();
        let dc = match candidacies.values().max() {
            Some(_) if Mutant::EachElectsItself.is_active() => Some(self.me),
            elected => elected.map(|elected| elected.node.0),
        };
        let has_term = quorate || Mutant::TermWithoutQuorum.is_active();
        let kept = self.tenure.filter(|_| Mutant::TermKeptByIncumbent.is_active() && dc == Some(self.me));
        let new = dc.map(|dc| Term { ring_seq: ring.seq, hand_over: 0, node: dc });
        let term = kept.or(new).filter(|_| has_term);

        if dc == Some(self.me) {
            self.tenure = term.or(self.tenure);
        } else {
            self.tenure = None;
        }
        if dc.is_some_and(|dc| !self.company.contains(&dc)) {
            self.since = Some(ring.seq);
        }
        let said_known = candidacies.values().map(|candidacy| candidacy.known);
        self.known = said_known.chain([self.known, term]).max().flatten();
        for (id, candidacy) in candidacies {
            if let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.named) {
                node.name = candidacy.name;
            }
        }
        for (id, node_info) in &node_infos {
            if let Some(node) = self.nodes.get_mut(id) {
                node.votes = node_info.votes;
            }
        }

        let status = Status {
            settled: true,
            nodes: self.node_statuses(&members),
            dc,
            term,
            quorate,
            inquorate,
            total_votes,
            expected_votes,
            quorum,
            flags,
            ..self.status.clone()
        };
        match (&status.inquorate, &status.term) {
            (Some(why), _) => info!(%ring, ?members, ?dc, %why, "not quorate"),
            (None, Some(term)) => info!(%ring, ?members, ?dc, %term, "quorate"),
            (None, None) => warn!(%ring, ?members, "quorate, but no member is a candidate"),
        }
        self.company = members;
        Some(status)
    }

    /// The status while nothing is known but who is there.
    fn unsettled(&self, ring: Option<RingId>, members: &BTreeSet<NodeId>, cause: String) -> Status {
        Status {
            ring,
            nodes: self.node_statuses(members),
            inquorate: Some(Inquorate::Unsettled),
            expected_votes: self.quorum.expected_votes(),
            flags: self.quorum.unsettled().flags,
            cause,
            ..Status::default()
        }
    }

    fn node_statuses(&self, members: &BTreeSet<NodeId>) -> Vec<NodeStatus> {
        let status = |(&id, node): (&NodeId, &Known)| NodeStatus {
            id,
            name: node.name.clone(),
            online: members.contains(&id),
            votes: node.votes,
        };
        self.nodes.iter().map(status).collect()
    }
}

impl Hearing {
    fn hear_node_info(&mut self, from: NodeId, node_info: NodeInfo) {
        // Members also speak for a quorum device, as node 0, even when there is none.
        if node_info.node == Some(from) {
            self.node_infos.insert(from, node_info);
        }
    }

    fn hear_candidacy(&mut self, from: NodeId, candidacy: Candidacy) {
        // Terms are made of the rings that a node was in, and a new ring's number is above all its members' earlier
        // ones: who knows of a later term did not learn it on a ring.
        if candidacy.known.is_some_and(|term| term.ring_seq >= self.ring.seq) {
            warn!(%from, known = ?candidacy.known, ring = %self.ring, "a candidacy from the future is not counted");
            return;
        }
        self.candidacies.entry(from).or_insert(candidacy);
    }
}

#[cfg(test)]
mod tests;
