//! One member's part in leading for names, as a fold over the events of its ring. It uses neither
//! the network nor a clock: the time and the node's lease are arguments.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use quorate_election::{Event, NodeLease, Status, Term};
use quorate_membership::{Delivery, Group, GroupChange, NodeId, Process, RingId, Time, bug};
use tokio::sync::watch;
use tracing::error;

use super::message::{Begins, Candidacy, Message, Release};
use super::table::{Holder, Table};
use super::{Leader, Leaders, LeadersStatus, Name, Preference, Stand, StandError};

/// One member's part.
#[derive(Debug)]
pub(super) struct Fold {
    me: NodeId,
    pid: u32,
    group: Group,
    /// Whether this has followed a ring from its beginning.
    has_ring: bool,
    /// Whether this process is in the group.
    has_joined: bool,
    /// The nodes with a process in the group, and the process that speaks for each: the one with
    /// the lowest id.
    members: BTreeMap<NodeId, u32>,
    /// The leaders of the ring. `None` before the ring has been synchronised, and once it is over.
    table: Option<Table>,
    /// Whether this member has spoken in the ring.
    has_spoken: bool,
    /// The names that this member stands for, or has stood for and still leads for.
    mine: BTreeMap<Name, Mine>,
    /// The last tenure of each name that this member has given up in this ring.
    given_up: BTreeMap<Name, u32>,
    /// Whether the others have to be told what this member stands for.
    must_stand: bool,
    /// Whether a message that tells it is under way. There is one at a time, however often a member
    /// changes its mind.
    is_telling: bool,
    /// The tenures that this member has given up and not told the others of.
    released: Vec<Release>,
    /// The released tenures that can be told: a message with the current candidacies precedes them.
    ready: Vec<Release>,
    /// The tenures that have to end while guards exist.
    ending: Vec<(Name, Tenure)>,
    /// The number of times that this member has stood for a name.
    stands: u64,
    /// Whether the status may have changed since it was last asked for.
    has_changed: bool,
    /// Messages that were ignored.
    rejected: u64,
    /// Whether no event follows.
    ended: bool,
}

/// A name that this member stands for.
#[derive(Debug)]
struct Mine {
    preference: Preference,
    /// The number of the decision to stand for it. `None` if the member no longer does.
    stands: Option<u64>,
    /// This member's tenure. That of an earlier ring is one that it may continue.
    tenure: Option<Tenure>,
    /// Whether the tenure ends as soon as there are no more guards. Nothing more is done in it.
    ends: bool,
    /// The number of guards.
    guards: usize,
    /// The tenure under which the application may act.
    told: watch::Sender<Option<Tenure>>,
}

/// A time in which this member leads for a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tenure {
    pub(super) term: Term,
    /// The time from which all earlier leases are over. `None` if this is not known, because the
    /// ring is over.
    acts_at: Option<Time>,
    begins: Begins,
    /// How long the lease of this tenure is outlasted.
    pub(super) wait: Duration,
}

/// The circumstances of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) time: Time,
    /// The lease of the node, as it was last published.
    pub(super) lease: Option<NodeLease>,
}

impl Tenure {
    /// Returns `true` if this member may act.
    pub(super) fn holds(&self, now: Now) -> bool {
        let begun = bug!(LeaderDoesNotWait: true; self.acts_at.is_some_and(|at| at <= now.time));
        let is_of = |lease: &NodeLease| lease.ring.seq == self.term.ring_seq;
        begun && now.lease.is_some_and(|lease| is_of(&lease) && now.time < lease.until)
    }

    /// Returns when the member may act, if only time keeps it from that.
    pub(super) fn begins_at(&self, now: Now) -> Option<Time> {
        self.acts_at.filter(|at| now.time < *at)
    }
}

impl Fold {
    pub(super) fn new(me: NodeId, pid: u32, group: Group) -> Self {
        Self {
            me,
            pid,
            group,
            has_ring: false,
            has_joined: false,
            members: BTreeMap::new(),
            table: None,
            has_spoken: false,
            mine: BTreeMap::new(),
            given_up: BTreeMap::new(),
            must_stand: false,
            is_telling: false,
            released: Vec::new(),
            ready: Vec::new(),
            ending: Vec::new(),
            stands: 0,
            has_changed: true,
            rejected: 0,
            ended: false,
        }
    }

    /// Handles an event.
    pub(super) fn handle(&mut self, event: &Event, now: Now) {
        match event {
            _ if self.ended => {}
            // Nothing that comes now is decided in the same way by all members.
            Event::Transitional(_) => self.leave_ring(),
            Event::Regular(_) => self.has_ring = true,
            Event::Synced(ring) => {
                self.has_ring = true;
                self.table = Some(Table::new(*ring, self.members.keys().copied().collect()));
            }
            Event::GroupChange(change) if change.group == self.group => self.change_group(change, now),
            Event::Status(status) if status.settled => {
                self.speak(status, now);
                self.follow(now);
            }
            Event::Deliver(delivery) if delivery.group == self.group => self.deliver(delivery, now),
            _ => {}
        }
    }

    /// Handles a change of the group's processes.
    fn change_group(&mut self, change: &GroupChange, now: Now) {
        // In descending order, so that the lowest process remains.
        let processes = change.members.iter().rev();
        self.members = processes.map(|process| (process.node, process.pid)).collect();
        let own = Process { node: self.me, pid: self.pid };
        let is_member = change.members.contains(&own);
        let why = match is_member {
            // The others wait for a member that never speaks.
            true if !self.has_ring => "events of the node were taken before; open it when the node starts",
            true if self.members.get(&self.me) != Some(&self.pid) => {
                "another process of this node is in the group; a node takes part once"
            }
            _ => "",
        };
        if !why.is_empty() {
            error!(group = %self.group, "this node takes part in leading no more: {why}");
        }
        // A process that is taken out, also because its node leaves, loses its names to others.
        let is_out = !is_member && self.has_joined;
        self.has_joined = is_member;
        if is_out || !why.is_empty() {
            return self.end();
        }
        if let Some(table) = &mut self.table {
            table.set_members(self.members.keys().copied().collect());
            self.follow(now);
        }
    }

    /// The ring is over. Tenures stay, because the next ring may let them continue.
    fn leave_ring(&mut self) {
        self.table = None;
        self.has_spoken = false;
        (self.must_stand, self.is_telling) = (false, false);
        self.given_up.clear();
        self.released.clear();
        self.ready.clear();
        // The next ring waits for the leases of this one, so that these need no release.
        for mine in self.mine.values_mut().filter(|mine| mine.ends || mine.stands.is_none()) {
            mine.end();
            mine.ends = false;
        }
        self.forget();
        self.has_changed = true;
    }

    /// Tells the others, once in a ring, what this member stands for and for which names it
    /// continues to lead.
    fn speak(&mut self, status: &Status, now: Now) {
        let Some(ring) = self.table.as_ref().map(|table| table.ring) else { return };
        let Some(lease) = now.lease.filter(|lease| lease.ring == ring && status.ring == Some(ring)) else {
            return;
        };
        if mem::replace(&mut self.has_spoken, true) {
            return;
        }
        // No other member can have led for these names since.
        let continues = |tenure: &Tenure| {
            let is_last = lease.continues == Some(tenure.term.ring_seq);
            bug!(LeaderKeptUnasked: true; is_last)
        };
        for mine in self.mine.values_mut() {
            if !mine.tenure.as_ref().is_some_and(continues) {
                mine.end();
            }
        }
        self.must_stand = true;
    }

    fn deliver(&mut self, delivery: &Delivery, now: Now) {
        let Some(table) = &mut self.table else { return };
        let from = delivery.from;
        let speaks = self.members.get(&from) == Some(&delivery.pid);
        let Some(message) = Message::decode(&delivery.payload).filter(|_| speaks) else {
            self.rejected += 1;
            self.has_changed = true;
            return;
        };
        if message.ring() != table.ring {
            return;
        }
        match message {
            Message::Stands { candidacies, leads, .. } => {
                table.hear(from, &candidacies, &leads);
                self.is_telling &= from != self.me;
            }
            Message::Releases { released, .. } => {
                table.release(from, &released);
                if from == self.me {
                    self.given_up.retain(|name, _| released.iter().all(|known| *known.name != **name));
                }
            }
        }
        self.follow(now);
    }

    /// Brings this member's tenures in line with the table.
    fn follow(&mut self, now: Now) {
        self.has_changed = true;
        let Some(table) = &self.table else { return };
        let ring = table.ring;
        let lease = now.lease.filter(|lease| lease.ring == ring);
        let is_mine = |name: &Name, holder: &Holder| {
            holder.node == self.me && self.given_up.get(name).is_none_or(|last| *last < holder.place)
        };
        let held: Vec<(Name, Holder, bool)> = table
            .holders()
            .filter(|&(name, ref holder)| is_mine(name, holder))
            .map(|(name, holder)| (Name::clone(name), holder, table.is_moving(name)))
            .collect();
        for (name, mine) in &mut self.mine {
            // A tenure of an earlier ring waits until this member has spoken.
            let is_of_ring = |tenure: Tenure| tenure.term.ring_seq == ring.seq || table.has_heard(self.me);
            if mine.tenure.is_some_and(is_of_ring)
                && table.holder(name).is_none_or(|holder| !is_mine(name, &holder))
            {
                mine.end();
            }
        }
        for (name, holder, moves) in held {
            let mine = self.mine.entry(Name::clone(&name)).or_default();
            let term = Term { ring_seq: ring.seq, hand_over: holder.place, node: self.me };
            let is_new = mine.tenure.is_none_or(|tenure| tenure.term != term || tenure.acts_at.is_none());
            if is_new && !mine.ends {
                let before = mine.tenure.and_then(|tenure| tenure.acts_at);
                let acts_at = lease.map(|lease| match (before, holder.begins) {
                    (Some(before), _) => before.min(lease.clear_at),
                    (None, Begins::AtOnce) => now.time,
                    (None, Begins::WithRing) => lease.clear_at,
                    (None, Begins::AfterLease) => now.time + lease.wait,
                });
                let wait = lease.map(|lease| lease.wait).unwrap_or_default();
                mine.begin(Tenure { term, acts_at, begins: holder.begins, wait });
            }
            let wants = mine.stands.is_some() && mine.preference.priority > 0;
            if (moves || !wants) && !mine.ends {
                self.give_up(&name, now);
            }
        }
    }

    /// Ends a tenure in this ring. The others are told once no guard is left.
    fn give_up(&mut self, name: &Name, now: Now) {
        let Some(mine) = self.mine.get_mut(name) else { return };
        let Some(tenure) = mine.tenure else { return };
        mine.ends = true;
        bug!(LeaderReleasesFirst: (); {
            mine.told.send_replace(None);
        });
        if mine.guards == 0 || bug!(LeaderReleasesFirst: true; false) {
            self.release(name, tenure.term, now);
        } else {
            self.ending.push((Name::clone(name), tenure));
        }
    }

    /// Tells the others that a tenure is over.
    pub(super) fn release(&mut self, name: &Name, term: Term, now: Now) {
        let ring = self.table.as_ref().map(|table| table.ring);
        let Some(mine) = self.mine.get_mut(name).filter(|mine| mine.ends) else { return };
        let Some(tenure) = mine.tenure.take_if(|tenure| tenure.term == term) else { return };
        mine.ends = false;
        bug!(LeaderReleasesFirst: (); {
            mine.told.send_replace(None);
        });
        if ring.is_some_and(|ring| ring.seq == term.ring_seq) {
            let is_clear = tenure.acts_at.is_some_and(|at| at <= now.time);
            let begins = if is_clear { Begins::AtOnce } else { tenure.begins };
            self.given_up.insert(Name::clone(name), term.hand_over);
            self.released.push(Release { name: name.to_string(), place: term.hand_over, begins });
        }
        self.forget();
    }

    /// Stands for a name. Returns it, and a receiver of the tenure under which the application may
    /// act.
    pub(super) fn stand(
        &mut self,
        name: &str,
        preference: Preference,
    ) -> Result<(Stand, watch::Receiver<Option<Tenure>>), StandError> {
        if !self.mine.contains_key(name) && self.mine.len() >= Leaders::MAX_NAMES {
            return Err(StandError::TooMany);
        }
        let name = Name::from(name);
        let mine = self.mine.entry(Name::clone(&name)).or_default();
        if mine.stands.is_some() {
            return Err(StandError::Stands);
        }
        self.stands += 1;
        let number = self.stands;
        (mine.stands, mine.preference) = (Some(number), preference);
        self.must_stand = self.has_spoken;
        Ok((Stand { name, number }, mine.told.subscribe()))
    }

    /// Changes the preference for a name that this member stands for.
    pub(super) fn prefer(&mut self, stand: &Stand, preference: Preference, now: Now) {
        if let Some(mine) = self.mine.get_mut(&stand.name).filter(|mine| mine.stands == Some(stand.number)) {
            mine.preference = preference;
            self.must_stand = self.has_spoken;
            self.follow(now);
        }
    }

    /// No longer stands for a name.
    pub(super) fn withdraw(&mut self, stand: &Stand, now: Now) {
        if self.mine.get(&stand.name).is_some_and(|mine| mine.stands == Some(stand.number)) {
            self.give_back(&stand.name, now);
        }
    }

    fn give_back(&mut self, name: &Name, now: Now) {
        let Some(mine) = self.mine.get_mut(name) else { return };
        mine.stands = None;
        self.must_stand = self.has_spoken;
        let ring = self.table.as_ref().map(|table| table.ring.seq);
        if mine.tenure.is_some_and(|tenure| Some(tenure.term.ring_seq) != ring) {
            mine.end();
        } else if mine.tenure.is_none() {
            // Wakes those that wait for a guard.
            mine.told.send_replace(None);
        } else if !mine.ends {
            self.give_up(name, now);
        }
        self.forget();
    }

    /// No longer stands for any name.
    pub(super) fn withdraw_all(&mut self, now: Now) {
        let names: Vec<Name> = self.mine.keys().map(Name::clone).collect();
        names.iter().for_each(|name| self.give_back(name, now));
    }

    /// Returns `true` if this is still what the member stands for.
    pub(super) fn stands_for(&self, stand: &Stand) -> bool {
        self.mine.get(&stand.name).is_some_and(|mine| mine.stands == Some(stand.number))
    }

    /// Returns `true` if this member stands for nothing, and all members know that it has given up
    /// what it had.
    pub(super) fn has_resigned(&self) -> bool {
        let is_known = |table: &Table| {
            !self.has_message()
                && !self.is_telling
                && self.given_up.is_empty()
                && table.holders().all(|(_, holder)| holder.node != self.me)
        };
        let stands = self.mine.values().any(|mine| mine.stands.is_some());
        self.ended || !stands && self.table.as_ref().is_some_and(is_known)
    }

    /// Returns the tenure of a name, if this member may act in it. There is a guard more then.
    pub(super) fn take_guard(&mut self, stand: &Stand, now: Now) -> Option<Tenure> {
        let is_of = |mine: &&mut Mine| mine.stands == Some(stand.number) && !mine.ends;
        let mine = self.mine.get_mut(&stand.name).filter(is_of)?;
        let tenure = mine.tenure.filter(|tenure| tenure.holds(now))?;
        mine.guards += 1;
        Some(tenure)
    }

    /// A guard is dropped.
    pub(super) fn drop_guard(&mut self, name: &Name, now: Now) {
        let Some(mine) = self.mine.get_mut(name) else { return };
        mine.guards -= 1;
        if let Some(tenure) = mine.tenure.filter(|_| mine.ends && mine.guards == 0) {
            self.release(name, tenure.term, now);
        }
        self.forget();
    }

    /// Removes the names that this member has nothing more to do with.
    fn forget(&mut self) {
        self.mine.retain(|_, mine| mine.stands.is_some() || mine.tenure.is_some() || mine.guards > 0);
    }

    /// Returns the tenures that have to end although guards exist, since this was last called.
    pub(super) fn take_ending(&mut self) -> Vec<(Name, Tenure)> {
        mem::take(&mut self.ending)
    }

    /// Returns `true` if there is a message to send.
    pub(super) fn has_message(&self) -> bool {
        let tells = if self.must_stand { !self.is_telling } else { !self.released.is_empty() };
        tells || !self.ready.is_empty()
    }

    /// Returns the next message to send. A member tells the others what it stands for before it
    /// releases a name, which would come back to it otherwise.
    pub(super) fn next_message(&mut self) -> Option<Bytes> {
        let ring: RingId = self.table.as_ref()?.ring;
        if !self.must_stand {
            self.ready.append(&mut self.released);
        }
        if !self.ready.is_empty() {
            let later = self.ready.split_off(self.ready.len().min(Leaders::MAX_NAMES));
            let released = mem::replace(&mut self.ready, later);
            return Some(Message::Releases { ring, released }.encode());
        }
        if self.must_stand && !self.is_telling {
            (self.must_stand, self.is_telling) = (false, true);
            self.ready = mem::take(&mut self.released);
            let standing = self.mine.iter().filter(|(_, mine)| mine.stands.is_some());
            let candidacies = standing.map(|(name, mine)| mine.preference.candidacy(name)).collect();
            let leads = self.mine.iter().filter(|(_, mine)| mine.stands.is_some() && !mine.ends);
            let leads =
                leads.filter(|(_, mine)| mine.tenure.is_some_and(|tenure| tenure.term.ring_seq != ring.seq));
            let leads = leads.map(|(name, _)| name.to_string()).collect();
            return Some(Message::Stands { ring, candidacies, leads }.encode());
        }
        None
    }

    /// Returns the status, if it may have changed since this was last called.
    pub(super) fn changed(&mut self) -> Option<LeadersStatus> {
        mem::take(&mut self.has_changed).then(|| self.status())
    }

    pub(super) fn status(&self) -> LeadersStatus {
        let (rejected, ended) = (self.rejected, self.ended);
        let Some(table) = &self.table else {
            return LeadersStatus { rejected, ended, ..LeadersStatus::default() };
        };
        let leader = |holder: Holder| Leader {
            node: holder.node,
            term: Term { ring_seq: table.ring.seq, hand_over: holder.place, node: holder.node },
        };
        LeadersStatus {
            leaders: table.holders().map(|(name, holder)| (name.to_string(), leader(holder))).collect(),
            awaits: table.silent(),
            rejected,
            ended,
        }
    }

    /// This member takes no part any more.
    pub(super) fn end(&mut self) {
        self.leave_ring();
        (self.ended, self.has_changed) = (true, true);
        self.mine.values_mut().for_each(Mine::end);
    }
}

impl Preference {
    fn candidacy(self, name: &Name) -> Candidacy {
        Candidacy { name: name.to_string(), priority: self.priority, weight: self.weight }
    }
}

impl Default for Mine {
    fn default() -> Self {
        Self {
            preference: Preference::default(),
            stands: None,
            tenure: None,
            ends: false,
            guards: 0,
            told: watch::Sender::new(None),
        }
    }
}

impl Mine {
    fn begin(&mut self, tenure: Tenure) {
        self.tenure = Some(tenure);
        self.told.send_replace(Some(tenure));
    }

    /// Ends a tenure without a release: the next leader waits for its lease.
    fn end(&mut self) {
        self.tenure = None;
        self.told.send_replace(None);
    }
}
