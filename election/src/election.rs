//! The fold from the ring's events to the status.

mod collecting;
mod device;
mod metadata;
mod tenure;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::bug;
use quorate_membership::config::DcConfig;
use quorate_membership::wire::body::{Body, NodeInfo, SERVICES};
use quorate_membership::{
    Cause, Config, DeviceState, Event, Metadata, NodeId, Regular, RingId, Service, ServiceMessage, Time,
};
use tracing::{info, warn};

use self::collecting::Collecting;
pub use self::tenure::ReleaseError;
use self::tenure::Tenure;
use crate::lease::{self, Grant, Witness};
use crate::message::Message;
use crate::{
    Candidacy, DeviceOutcome, Inquorate, Lease, LeaseRule, NodeLease, NodeStatus, Quorum, Record, Status,
    Term, Verdict,
};

/// One node's view of quorum and DC: a fold over its ring's events.
///
/// A new ring ([`Event::Regular`]) ends the previous quorum and DC, and there is neither until its
/// members have exchanged messages. Each member announces its votes and its candidacy once. When
/// all have done so ([`Event::Synced`]), the ring is judged from exactly these messages. Its
/// members, which saw the same messages, reach the same result at the same point of the order.
/// Between judgements of rings, the DC changes only by an ordered message: a DC gives up its role,
/// or the node that a starting cluster will elect has waited long enough.
///
/// Quorum ends with its ring: at the latest a token timeout after the last token
/// ([`Election::poll_timeout`]), whatever happens to the node until it has another ring.
///
/// - If a member sends several messages in one ring, the first candidacy counts, and the last node
///   info before the judgement, as with corosync. Anything after the judgement does not count.
/// - A member that sends no candidacy, or one that cannot be true, is a voter and never a
///   candidate. A member that does not announce its votes makes the ring inquorate.
/// - The elected DC's term is the ring's: `(ring seq, hand-overs, DC)`. An incumbent's term rises
///   too, because a ring in between, which only nodes now silent saw settled, might have had
///   another DC. Ring sequence numbers are durable before they are used, so terms are durable as
///   well and need no record of their own.
/// - The promise that a member makes by being in a ring depends on its silence and not on its
///   record, so a member that has just started counts for as long as it has been up. Only a lost
///   record, which may let ring sequence numbers fall, takes away the member's say. It regains its
///   say once it has been in a ring with a quorum of the members that kept their records, or with
///   all voters.
#[derive(Clone, Debug)]
pub struct Election {
    me: NodeId,
    name: String,
    metadata: Metadata,
    /// Whether a message with the metadata is under way in the ring's order.
    telling: bool,
    config: DcConfig,
    rule: LeaseRule,
    quorum: Quorum,
    /// The time of the last input.
    now: Time,
    /// The time of this node's last token of a ring that it had installed.
    token_at: Option<Time>,
    /// How long the ring counts as standing after its last token, or after it was installed.
    patience: Duration,
    /// The time from which the ring no longer counts as standing, unless a token comes. `None` if
    /// there is no ring.
    stands_until: Option<Time>,
    standing: Standing,
    /// See [`Candidacy::lost`].
    lost: bool,
    /// Whether this node's application hangs.
    hung: bool,
    /// Whether this node is about to leave for good.
    retired: bool,
    /// See [`Candidacy::tenure`].
    tenure: Option<Tenure>,
    /// See [`Candidacy::known`].
    known: Option<Term>,
    /// See [`Candidacy::since`]. `None` before the first ring.
    since: Option<u64>,
    /// The nodes that have been in all rings with this node since the last one that settled,
    /// including that ring.
    last_members: BTreeSet<NodeId>,
    /// The messages of the new ring's members so far. `None` unless an exchange is under way.
    collecting: Option<Collecting>,
    /// The ring that has been judged.
    settled: Option<Settled>,
    /// This node's right to act, if it is DC.
    grant: Option<Grant>,
    /// The end of the lease of any role that the ring gives to this node.
    lease_until: Time,
    nodes: BTreeMap<NodeId, Known>,
    /// The timeouts of members of the last judged ring that differ from this node's, one clause
    /// each, as last logged.
    differ: Vec<String>,
    /// The differences between files, as last logged.
    told: Vec<String>,
    /// See [`Verdict::device_decides`].
    device_decides: bool,
    /// The status as of the judgement.
    judged: Status,
    /// The status as published, which has no quorum while the ring does not stand.
    status: Status,
}

/// Whether the ring stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Stands,
    /// The ring is over, and the next one is about to be installed: its transitional configuration.
    Ends,
    /// No token has come for the token timeout.
    Lost,
}

/// The consequences of an input.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// The messages that this node must send in the sync stages of the ring that the event
    /// installed.
    pub say: Option<Say>,
    /// A message that this node must send in the order of the current ring
    /// ([`Totem::say`](quorate_membership::Totem::say)).
    pub send: Option<Bytes>,
    /// Whether the loss of this node's record has been made good
    /// ([`Totem::recovered`](quorate_membership::Totem::recovered)).
    pub recovered: bool,
    /// The text to keep in this node's record from now on
    /// ([`Totem::keep`](quorate_membership::Totem::keep)).
    pub keep: Option<String>,
    /// The consequences for this node's quorum device.
    pub device: DeviceOutcome,
    /// The new status, whose place in the order is directly after the event.
    pub status: Option<Status>,
}

/// The messages with which a member describes itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Say {
    /// The first message for the stage of [`Service::Votequorum`]. [`Election::vote_messages`] has
    /// all of them.
    pub node_info: NodeInfo,
    /// Whether the stage waits for this node's quorum device
    /// ([`Totem::hold_sync`](quorate_membership::Totem::hold_sync)).
    pub waits: bool,
    /// The message for the stage of [`Service::Quorate`].
    pub candidacy: Candidacy,
}

#[derive(Clone, Debug)]
struct Settled {
    ring: RingId,
    members: BTreeSet<NodeId>,
    candidacies: BTreeMap<NodeId, Candidacy>,
    /// The members whose applications hang.
    hung: BTreeSet<NodeId>,
    /// How long a DC waits for a lease to end.
    wait: Duration,
    /// The time of the first judgement.
    at: Time,
    /// The highest term that a member knew of before this ring.
    before: Option<Term>,
    /// The time at which all leases of earlier rings are over.
    clear_at: Time,
    /// Whether members with a quorum of votes remember all of these leases ([`lease::remembered`]).
    remembered: bool,
    /// The latest term of this ring, which counts while there is quorum.
    term: Option<Term>,
    /// The time at which this node elects itself.
    elects_at: Option<Time>,
}

#[derive(Clone, Debug)]
struct Known {
    name: String,
    /// Whether the name was set by the operator. The name that the node announces does not change
    /// it.
    named: bool,
    votes: u32,
    device: DeviceState,
    /// The texts that the node tells about itself. Empty unless it is a member of the judged ring.
    metadata: Metadata,
}

impl Known {
    fn new(name: String, named: bool, votes: u32) -> Self {
        Self { name, named, votes, device: DeviceState::default(), metadata: Metadata::default() }
    }
}

impl Election {
    /// Returns the election of a node that has just started.
    pub fn new(config: &Config) -> Self {
        let name = if Candidacy::can_be_shown(&config.name) {
            config.name.clone()
        } else {
            format!("node{}", config.node)
        };
        let listed = config.nodes.iter().map(|member| {
            let named = member.name.is_some();
            let name = member.name.clone().unwrap_or_else(|| format!("node{}", member.id));
            (member.id, Known::new(name, named, member.votes))
        });
        let mut nodes: BTreeMap<NodeId, Known> = listed.collect();
        nodes.insert(config.node, Known::new(name.clone(), true, config.votes()));

        let mut election = Self {
            me: config.node,
            name,
            metadata: config.metadata.clone(),
            telling: false,
            config: config.dc.clone(),
            rule: LeaseRule::of(config),
            quorum: Quorum::new(config),
            now: Time::default(),
            token_at: None,
            patience: config.totem.token,
            stands_until: None,
            standing: Standing::Stands,
            lost: false,
            hung: false,
            retired: false,
            tenure: None,
            known: None,
            since: None,
            last_members: BTreeSet::from([config.node]),
            collecting: None,
            settled: None,
            grant: None,
            lease_until: Time::default(),
            nodes,
            differ: Vec::new(),
            told: Vec::new(),
            device_decides: false,
            judged: Status::default(),
            status: Status::default(),
        };
        election.judged = election.unsettled(None, &BTreeSet::new(), Cause::Started.to_string());
        election.status = election.judged.clone();
        election
    }

    /// Returns the same node with this priority as a candidate ([`Candidacy::priority`]) instead of
    /// the configured one.
    #[must_use]
    pub fn with_priority(mut self, priority: u32) -> Self {
        self.config.priority = priority;
        self
    }

    /// Returns the same node with its record marked as lost or not ([`Candidacy::lost`]).
    #[must_use]
    pub fn with_record_lost(mut self, lost: bool) -> Self {
        self.lost = lost;
        self
    }

    /// Returns the same node with this text in its record
    /// ([`Stored::kept`](quorate_membership::Stored::kept)). A text that cannot be read counts as
    /// lost.
    #[must_use]
    pub fn with_kept(mut self, kept: &str) -> Self {
        match Record::read(kept) {
            Some(record) => self.quorum = self.quorum.with_record(record),
            None => {
                warn!(kept, "the voter data in the record is unreadable and counts as lost");
                self.lost = true;
            }
        }
        self
    }

    /// Returns `true` if this node's record was lost or cannot be read.
    pub(crate) fn has_lost_record(&self) -> bool {
        self.lost
    }

    /// Returns the text that this node's record must contain, from the start.
    pub fn kept(&self) -> String {
        self.quorum.record().text()
    }

    /// Returns the votes of the nodes by the latest agreement that this node knows of
    /// ([`Totem::set_voters`](quorate_membership::Totem::set_voters)). Empty if it knows of none.
    pub fn voters(&self) -> BTreeMap<NodeId, u32> {
        self.quorum.record().agreed.as_ref().map(|agreed| agreed.electorate.votes.clone()).unwrap_or_default()
    }

    /// Reports that the record with `kept` in it is durable.
    pub fn handle_stored(&mut self, now: Time, kept: &str) -> Outcome {
        self.now = now;
        let send = self.quorum.has_stored(kept).then(|| Message::Stored.encode());
        Outcome { send, ..Outcome::default() }
    }

    /// Returns the status as of the last input.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Returns the time until which the status's ring counts as standing if no token comes. `None`
    /// if there is no ring.
    pub fn stands_until(&self) -> Option<Time> {
        self.stands_until
    }

    /// Returns the term under which this node may act as DC, and until when, if nothing more is
    /// received from the ring. `None` if it may not act.
    ///
    /// The application must check just before it acts, with a clock that has just been read: after
    /// the returned time this node may not act either.
    pub fn lease(&self) -> Option<(Term, Time)> {
        let grant = self.grant.filter(|_| self.judged.lease == Lease::Held)?;
        Some((grant.term, grant.until.min(self.stands_until?)))
    }

    /// Returns what this node may rely on when its ring gives it another role than that of DC.
    /// `None` while no node may have such a role.
    pub fn node_lease(&self) -> Option<NodeLease> {
        let settled = self.settled.as_ref().filter(|settled| settled.term.is_some())?;
        (self.grants_terms() && !self.retired).then(|| NodeLease {
            ring: settled.ring,
            until: self.stands_until.map_or(Time::default(), |stands| self.lease_until.min(stands)),
            clear_at: settled.clear_at,
            continues: settled.before.filter(|_| settled.remembered).map(|term| term.ring_seq),
            wait: settled.wait,
        })
    }

    /// Handles the next event of the ring. `now` is the time of the input that brought it.
    pub fn handle(&mut self, now: Time, event: &Event) -> Outcome {
        self.now = now;
        let before = self.standing;
        let mut outcome = match event {
            Event::Transitional(_) if self.standing == Standing::Stands => {
                self.standing = Standing::Ends;
                Outcome::default()
            }
            Event::Regular(regular) => {
                self.standing = Standing::Stands;
                self.stands_until = Some(now + self.patience);
                let (say, status) = self.open(regular);
                self.judged = status.clone();
                Outcome { say: Some(say), status: Some(status), ..Outcome::default() }
            }
            Event::Service(message) => self.hear(message),
            Event::Synced(ring) => self.settle(*ring),
            Event::Left(cause) => {
                (self.collecting, self.settled, self.grant) = (None, None, None);
                (self.standing, self.stands_until) = (Standing::Stands, None);
                self.judged = self.unsettled(None, &BTreeSet::new(), cause.to_string());
                Outcome { status: Some(self.judged.clone()), ..Outcome::default() }
            }
            Event::Transitional(_)
            | Event::GroupChange(_)
            | Event::Deliver(_)
            | Event::Reload { .. }
            | Event::Stalled(_) => Outcome::default(),
        };
        // Time has passed, at times a lot, as after [`Event::Stalled`]. A lease that ended
        // meanwhile is over.
        let reviewed = self.review();
        outcome.status = reviewed.status.or(outcome.status);
        self.tell(before, outcome)
    }

    /// Handles a token of the installed ring that this node has accepted. `whole_since` is
    /// [`Totem::whole_since`](quorate_membership::Totem::whole_since) after that. Only this renews
    /// a lease.
    pub fn handle_token(&mut self, now: Time, whole_since: Option<Time>) -> Outcome {
        self.now = now;
        let before = self.standing;
        self.token_at = Some(now);
        // A node that has left may take one more token. It is in no ring that could be lost (seed
        // 667 of the swarm).
        self.stands_until = self.stands_until.map(|_| now + self.patience);
        // The token was late, but the ring has lasted: this node was paused, and perhaps all others
        // with it.
        if self.standing == Standing::Lost {
            self.standing = Standing::Stands;
        }
        if let Some(whole_since) = whole_since {
            self.lease_until = self.lease_until.max(whole_since + self.rule.lasts());
            if let Some(grant) = &mut self.grant {
                grant.renew(whole_since, self.rule);
            }
        }
        let outcome = self.review();
        self.tell(before, outcome)
    }

    /// Returns when [`Election::handle_timeout`] must be called. `None` if no timer runs.
    pub fn poll_timeout(&self) -> Option<Time> {
        let lease = self.grant.filter(|_| !self.hung).and_then(|grant| grant.changes_at(self.now));
        let stands = self.standing != Standing::Lost;
        let elects = self.settled.as_ref().and_then(|settled| settled.elects_at).filter(|_| stands);
        let ends = self.stands_until.filter(|_| bug!(StaleView: false; stands));
        let falls = self.quorum.poll_timeout().filter(|_| self.standing == Standing::Stands);
        [lease, elects, ends, falls, self.quorum.poll_device_timeout()].into_iter().flatten().min()
    }

    /// Handles the time that [`Election::poll_timeout`] returned. Harmless at any other time.
    pub fn handle_timeout(&mut self, now: Time) -> Outcome {
        self.now = now;
        let before = self.standing;
        let is_lost = self.stands_until.is_some_and(|until| until <= now);
        if bug!(StaleView: false; is_lost) {
            self.standing = Standing::Lost;
        }
        // Each member's window ends by its own clock, so the DC must not depend on it. A ring that
        // is lost has no quorum by which the expected votes could fall (seed 110 of the swarm).
        let verdict = match self.standing {
            Standing::Stands => self.quorum.handle_timeout(now),
            Standing::Ends | Standing::Lost => None,
        };
        let mut counted = verdict.is_some_and(|verdict| self.count(&verdict));
        let device = self.quorum.handle_device_timeout(now);
        if device.is_some() {
            warn!("the quorum device is silent, and its votes no longer count");
            counted |= self.note_devices();
        }
        if device.as_ref().is_some_and(|device| device.goes_on) {
            self.judged.inquorate = Some(Inquorate::Unsettled);
            counted = true;
        }
        let mut send = None;
        if self.standing == Standing::Stands
            && let Some(settled) = &mut self.settled
            && settled.elects_at.take_if(|at| *at <= now).is_some()
        {
            send = Some(Message::Elect.encode());
        }
        let outcome = self.review();
        let status = outcome.status.or_else(|| counted.then(|| self.judged.clone()));
        self.tell(before, Outcome { send, status, device: device.unwrap_or_default(), ..outcome })
    }

    /// Adds the status to publish to `outcome`. `before` is the ring's standing before the input.
    fn tell(&mut self, before: Standing, outcome: Outcome) -> Outcome {
        let stays = self.standing == before;
        if stays && (outcome.status.is_none() || before != Standing::Stands) {
            // While the ring does not stand, its judgements are not published.
            return Outcome { status: None, ..outcome };
        }
        let status = self.judged.clone();
        let told = match self.standing {
            Standing::Stands => status,
            Standing::Ends => {
                bug!(QuorumKeptInTransition: status; status.without_quorum(Inquorate::Unsettled))
            }
            Standing::Lost => status.without_ring(self.patience),
        };
        let news = told != self.status;
        if !stays {
            info!(standing = ?self.standing, "ring");
        }
        self.status = told;
        Outcome { status: news.then(|| self.status.clone()), ..outcome }
    }

    /// Returns the message that this node sends in the ring's order before it leaves. `None` if it
    /// sends none.
    pub fn farewell(&self) -> Option<NodeInfo> {
        self.quorum.farewell()
    }

    /// Opens a new ring: the old ring's quorum and DC end, and the members exchange messages again.
    fn open(&mut self, regular: &Regular) -> (Say, Status) {
        let Regular { ring, members, joined, left, .. } = regular;
        (self.settled, self.grant, self.lease_until) = (None, None, Time::default());
        self.last_members.retain(|node| members.contains(node) && !joined.contains(node));
        self.last_members.insert(self.me);
        for &member in members {
            self.nodes.entry(member).or_insert_with(|| Known::new(format!("node{member}"), false, 0));
        }
        self.collecting = Some(Collecting {
            ring: *ring,
            members: members.clone(),
            entered_at: self.now,
            left: left.clone(),
            node_infos: BTreeMap::new(),
            candidacies: BTreeMap::new(),
            unread: BTreeSet::new(),
        });
        self.telling = false;
        for (node, known) in &mut self.nodes {
            if joined.contains(node) || !members.contains(node) {
                known.metadata = Metadata::default();
            }
        }
        let waits = self.quorum.begin_ring(self.now, *ring);
        let (node_info, ballot) = self.quorum.open(members);
        let up = self.now - Time::default();
        let candidacy = Candidacy {
            tenure: self.tenure.map(|tenure| tenure.term),
            priority: if self.retired { 0 } else { self.config.priority },
            features: Reverse(Candidacy::FEATURES),
            since: Reverse(*self.since.get_or_insert(ring.seq)),
            node: Reverse(self.me),
            known: self.known,
            name: self.name.clone(),
            ballot,
            lost: self.lost,
            hung: self.hung,
            up,
            idle: self.token_at.map_or(up, |at| self.now - at),
            wait: self.rule.outlasted_by(),
            token: self.patience,
            patience: self.config.deadtime.saturating_sub(up),
            metadata: self.metadata.clone(),
        };
        let say = Say { node_info, waits: waits.is_some(), candidacy };
        let mut status = self.unsettled(Some(*ring), members, regular.why());
        if let Some(limit) = waits {
            info!(%ring, ?limit, "the ring waits for the quorum device");
            status.inquorate = Some(Inquorate::AwaitsDevice { limit });
        }
        bug!(QuorumKeptInNewRing: status.quorate = self.judged.quorate; ());
        bug!(DcKeptInNewRing: status.dc = self.judged.dc; ());
        bug!(StatusOfOldRing: status.ring = self.judged.ring; ());
        (say, status)
    }

    /// Handles a message of a member. After one of its own, this node tells its metadata if that
    /// has waited.
    fn hear(&mut self, message: &ServiceMessage) -> Outcome {
        let mut outcome = self.hear_message(message);
        if message.from == self.me && outcome.send.is_none() {
            outcome.send = self.tell_metadata();
        }
        outcome
    }

    fn hear_message(&mut self, message: &ServiceMessage) -> Outcome {
        let ServiceMessage { ring, from, service, message } = message;
        let judged = self.settled.as_ref().is_some_and(|settled| settled.ring == *ring);
        let said = match service {
            Service::Votequorum => match Body::decode(SERVICES, message) {
                Ok(said @ (Body::Qdevice { .. } | Body::QdeviceRenamed { .. })) => {
                    self.quorum.hear_device(&said);
                    let status = self.note_devices().then(|| self.judged.clone());
                    return Outcome { status, ..Outcome::default() };
                }
                Ok(said) if judged => return self.hear_of_votes(*from, &said),
                Ok(Body::NodeInfo(node_info)) => {
                    if let Some(collecting) =
                        self.collecting.as_mut().filter(|collecting| collecting.hears(*ring, *from))
                    {
                        collecting.hear_node_info(*from, node_info);
                    }
                    return Outcome::default();
                }
                Ok(_) => return Outcome::default(),
                Err(refusal) => {
                    warn!(%from, %refusal, "unreadable votequorum message");
                    return Outcome::default();
                }
            },
            Service::Quorate => Message::decode(message),
        };
        let candidacy = match said {
            Ok(Message::Candidacy(wire)) => Candidacy::read(*from, *wire),
            Ok(Message::Elect) if judged => return self.elect(*from),
            Ok(Message::Release(release)) if judged => return self.hand_over(*from, release),
            Ok(Message::Answers) if judged => return self.hear_answer(*from),
            Ok(Message::Stored) if judged => return self.hear_stored(*from),
            Ok(Message::Metadata(wire)) => return self.hear_metadata(*ring, *from, wire),
            Ok(Message::Elect | Message::Release(_) | Message::Answers | Message::Stored) => {
                return Outcome::default();
            }
            Err(error) => Err(error),
        };
        let collecting = self.collecting.as_mut().filter(|collecting| collecting.hears(*ring, *from));
        match (collecting, candidacy) {
            (Some(collecting), Ok(candidacy)) => collecting.hear_candidacy(*from, candidacy),
            (None, Ok(_)) => {}
            (collecting, Err(error)) => {
                warn!(%from, %error, "unreadable message from a Quorate node");
                if let Some(collecting) = collecting {
                    collecting.unread.insert(*from);
                }
            }
        }
        Outcome::default()
    }

    /// Handles a change of votes after the ring has been judged. Its DC stays, under the same term,
    /// while there is quorum and when quorum returns. If there was no DC, there may be one now.
    fn hear_of_votes(&mut self, from: NodeId, said: &Body) -> Outcome {
        let verdict = match said {
            Body::NodeInfo(info) => self.quorum.hear(from, info),
            Body::Reconfigure(order) => self.quorum.reconfigure(order),
            _ => None,
        };
        verdict.map_or_else(Outcome::default, |verdict| self.recount(&verdict))
    }

    /// Handles a member's report that it has stored the proposal, which may complete the agreement.
    fn hear_stored(&mut self, from: NodeId) -> Outcome {
        let Some(verdict) = self.quorum.hear_stored(from) else { return Outcome::default() };
        Outcome { keep: Some(self.kept()), ..self.recount(&verdict) }
    }

    /// Applies a verdict that counts votes differently than before.
    fn recount(&mut self, verdict: &Verdict) -> Outcome {
        let (before, granted) = (self.judged.clone(), self.grants_terms());
        if !self.count(verdict) {
            return Outcome::default();
        }
        let mut recovered = false;
        let has_changed = self.judged.quorate != before.quorate || self.grants_terms() != granted;
        if has_changed || before.vacant.is_some() {
            match self.settled.as_ref().and_then(|settled| settled.term) {
                Some(term) => self.resume(term),
                None => recovered = self.fill(),
            }
        }
        Outcome { recovered, status: Some(self.judged.clone()), ..Outcome::default() }
    }

    /// Judges the ring once all members have sent their messages.
    fn settle(&mut self, ring: RingId) -> Outcome {
        let Some(collecting) = self.collecting.take_if(|collecting| collecting.ring == ring) else {
            return Outcome::default();
        };
        let Collecting { members, entered_at, left, mut node_infos, candidacies, unread, .. } = collecting;
        node_infos.retain(|node, _| candidacies.contains_key(node) || !unread.contains(node));
        let ballots = candidacies.iter().map(|(&node, candidacy)| (node, &candidacy.ballot)).collect();
        let lost = candidacies.iter().filter(|(_, said)| said.lost).map(|(&node, _)| node).collect();
        let kept = self.kept();
        let verdict = self.quorum.judge(self.now, ring, &members, &node_infos, &ballots, &lost);

        // Each kind of votes by which recent rings may have been quorate, with the number that was
        // enough.
        let counted: BTreeMap<NodeId, u32> = self.quorum.votes_present().collect();
        let begun = self.quorum.resumed().map(|change| {
            let votes = |(&node, info): (&NodeId, &NodeInfo)| (node, change.votes_of(node, info.votes));
            (node_infos.iter().map(votes).collect(), change.majority())
        });
        let kinds: Vec<(BTreeMap<NodeId, u32>, u32)> =
            iter::once((counted, verdict.quorum.unwrap_or(u32::MAX))).chain(begun).collect();
        let witnesses = |votes: &BTreeMap<NodeId, u32>| -> Vec<Witness> {
            let votes = |node: &NodeId| votes.get(node).copied().unwrap_or(0);
            let witness = |(node, said): (&NodeId, &Candidacy)| Witness {
                votes: votes(node),
                idle: said.idle,
                up: said.up,
            };
            candidacies.iter().map(witness).collect()
        };
        let wait = candidacies.values().map(|said| said.wait).fold(self.rule.outlasted_by(), Duration::max);
        let known = candidacies.values().map(|candidacy| candidacy.known).chain([self.known]).max().flatten();
        let clear = |(votes, quorum): &(_, u32)| {
            lease::clear_at(entered_at, self.now, wait, *quorum, &witnesses(votes))
        };
        let mut clear_at = kinds.iter().map(clear).max().unwrap_or(self.now + wait);
        if bug!(RemovalCountsAsRelease: known.is_some_and(|term| left.contains(&term.node)); false) {
            clear_at = self.now;
        }
        let remembered =
            kinds.iter().all(|(votes, quorum)| lease::remembered(wait, *quorum, &witnesses(votes)));
        let hung = candidacies.iter().filter(|(_, said)| said.hung).map(|(node, _)| *node).collect();

        self.compare(&candidacies);
        for (id, candidacy) in &candidacies {
            let Some(node) = self.nodes.get_mut(id) else { continue };
            if !node.named {
                node.name.clone_from(&candidacy.name);
            }
            node.metadata.clone_from(&candidacy.metadata);
        }
        self.known = known;
        self.settled = Some(Settled {
            ring,
            members: members.clone(),
            candidacies,
            hung,
            wait,
            before: known,
            at: self.now,
            clear_at,
            remembered,
            term: None,
            elects_at: None,
        });
        self.judged.settled = true;
        self.count(&verdict);
        let recovered = self.fill();
        if self.judged.dc.is_some_and(|dc| !self.last_members.contains(&dc)) {
            self.since = Some(ring.seq);
        }
        self.last_members = members;
        // This node's application has recovered since its candidacy reported otherwise.
        let answers =
            !self.hung && self.settled.as_ref().is_some_and(|settled| settled.hung.contains(&self.me));
        let send = self.yield_to_preferred().or_else(|| answers.then(|| Message::Answers.encode()));
        // The metadata may have changed since this node's candidacy.
        let send = send.or_else(|| self.tell_metadata());
        self.review();
        let keep = Some(self.kept()).filter(|now| *now != kept);
        Outcome { recovered, send, keep, status: Some(self.judged.clone()), ..Outcome::default() }
    }

    /// Reports members with timeouts that differ from this node's, if the list has changed. These
    /// members do the same.
    fn compare(&mut self, candidacies: &BTreeMap<NodeId, Candidacy>) {
        let (token, wait) = (self.patience.as_millis(), self.rule.outlasted_by().as_millis());
        let clause = |(node, said): (&NodeId, &Candidacy)| {
            if said.token != self.patience {
                return Some(format!(
                    "node {node} has a token timeout of {} ms, this node has {token} ms: leases are \
                     guaranteed for equal timeouts only; give all nodes the same totem.token and node list",
                    said.token.as_millis()
                ));
            }
            (said.wait != self.rule.outlasted_by()).then(|| {
                format!(
                    "node {node} waits {} ms for a DC's lease to end, this node waits {wait} ms; give all \
                     nodes the same quorate.lease and quorate.rate_error",
                    said.wait.as_millis()
                )
            })
        };
        let differ: Vec<String> = candidacies.iter().filter_map(clause).collect();
        if differ != self.differ {
            differ.iter().for_each(|clause| warn!("{clause}"));
            self.differ = differ;
        }
    }

    /// Applies the verdict on the ring to the status. Returns `true` if the status has changed.
    fn count(&mut self, verdict: &Verdict) -> bool {
        self.learn_devices();
        let Some(settled) = &self.settled else { return false };
        for (id, votes) in self.quorum.votes_present() {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.votes = votes;
            }
        }
        self.device_decides = verdict.device_decides;
        let device = self.device_status(verdict.total_votes > self.quorum.total_of_members());
        let Verdict { total_votes, expected_votes, quorum, inquorate, differences, flags, .. } =
            verdict.clone();
        let (ring, quorate) = (settled.ring, inquorate.is_none());
        if differences != self.told {
            differences.iter().for_each(|difference| warn!(%ring, "not in force: {difference}"));
            self.told.clone_from(&differences);
        }
        let differences = differences.into_iter().chain(self.differ.iter().cloned()).collect();
        let status = Status {
            nodes: self.node_statuses(&settled.members),
            quorate,
            inquorate,
            total_votes,
            expected_votes,
            quorum,
            differences,
            flags,
            device,
            ..self.judged.clone()
        };
        if status == self.judged {
            return false;
        }
        info!(%ring, total_votes, ?expected_votes, ?quorum, quorate, "judged");
        self.judged = status;
        true
    }

    /// Returns the status while only the members are known.
    fn unsettled(&self, ring: Option<RingId>, members: &BTreeSet<NodeId>, cause: String) -> Status {
        Status {
            ring,
            nodes: self.node_statuses(members),
            inquorate: Some(if ring.is_some() { Inquorate::Unsettled } else { Inquorate::NoRing }),
            expected_votes: self.quorum.expected_votes(),
            flags: self.quorum.unsettled().flags,
            device: self.device_status(false),
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
            device: node.device,
            metadata: node.metadata.clone(),
        };
        self.nodes.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests;
