//! One member's replica, as a fold over the events of its ring. It uses neither the network nor the
//! clock.

use std::error::Error;
use std::mem;

use bytes::Bytes;
use quorate_election::{Event, Status};
use quorate_membership::{Delivery, Group, NodeId, RingId, bug};
use tracing::error;

use super::message::{Message, Partial, Remembers, Transfer};
use super::round::Round;
use super::version::{Electorate, Version};
use super::{Closed, ReplicaStatus, State, WriteError};

/// A replica.
pub(super) struct Fold<S: State> {
    me: NodeId,
    /// The process that this member's messages come from.
    pid: u32,
    group: Group,
    pub(super) state: S,
    /// The version of the state when the member entered the ring. `None` if it is the initial one.
    version: Option<Version>,
    /// Whether the state is the leading one of this ring, and follows its writes.
    is_current: bool,

    /// The first ring since this member started.
    since: Option<RingId>,
    /// The ring. `None` before the first.
    round: Option<Round>,
    /// The ring that follows, between its transitional configuration and its regular one.
    next: Option<RingId>,
    /// How this member counted the votes when it last told the others. `None` before it did.
    told: Option<Option<Electorate>>,

    /// The snapshot that this member takes.
    taking: Option<Taking>,
    /// The snapshot that this member sends.
    sending: Option<Sending>,
    /// The number of snapshots that this member has announced.
    announced: u32,
    /// Whether this member has announced a snapshot and not finished sending it.
    is_busy: bool,
    /// Whether the first ring had begun before this replica was opened.
    is_late: bool,

    /// This member's writes that were applied after their ring broke, with their outputs. Whether
    /// others have applied them is known in the next ring.
    doubtful: Vec<(u64, S::Output)>,
    actions: Vec<Action<S::Output>>,
    /// Whether the status may have changed since it was last asked for.
    has_changed: bool,
    /// Messages that were ignored.
    rejected: u64,
}

/// An action that follows from an event.
pub(super) enum Action<O> {
    /// Multicast this control message.
    Say(Bytes),
    /// Multicast the parts of this snapshot, from this index on.
    Send(Transfer, Bytes, u32),
    /// A part that this member has sent has been delivered.
    Sent,
    /// Stop sending the parts of a snapshot.
    Stop,
    /// This is the outcome of the member's call with this number, with the output of a write.
    Answer(u64, Result<Option<O>, WriteError>),
    /// The member cannot continue, for this reason.
    Fail(Box<dyn Error + Send + Sync>),
}

/// A snapshot that is being received.
struct Taking {
    transfer: Transfer,
    parts: Vec<Bytes>,
    /// The writes since the snapshot.
    writes: Vec<Written>,
    /// The version to which this led when the member entered the ring. `None` if the snapshot was
    /// announced in this ring.
    version: Option<Version>,
    /// Whether this leads to the leading state of the ring, whose writes are collected here. Until
    /// that is known, nothing is added.
    follows: bool,
}

/// A snapshot that is being sent.
struct Sending {
    transfer: Transfer,
    snapshot: Bytes,
    /// The members to which the ring has resumed it.
    resumed: Vec<NodeId>,
}

/// A write that the ring has accepted.
struct Written {
    payload: Bytes,
    /// Its number, if it is this member's.
    number: Option<u64>,
    /// Whether it was delivered after the ring broke.
    transitional: bool,
}

/// The length of a part of a snapshot, in bytes. It is short so that no write waits for long.
pub(super) const PART: usize = 128 << 10;

impl<S: State> Fold<S> {
    /// The number of a message that no caller waits for.
    const HAVE_SPOKEN: u64 = u64::MAX;

    pub(super) fn new(me: NodeId, pid: u32, group: Group, initial: S) -> Self {
        Self {
            me,
            pid,
            group,
            state: initial,
            version: None,
            is_current: false,
            since: None,
            round: None,
            next: None,
            told: None,
            taking: None,
            sending: None,
            announced: 0,
            is_busy: false,
            is_late: false,
            doubtful: Vec::new(),
            actions: Vec::new(),
            has_changed: true,
            rejected: 0,
        }
    }

    /// Handles an event, and returns what follows from it, in order.
    pub(super) fn handle(&mut self, event: &Event) -> Vec<Action<S::Output>> {
        match event {
            Event::Transitional(transitional) => {
                self.give_up();
                self.next = Some(transitional.ring);
                if let Some(round) = &mut self.round {
                    round.end(transitional.ring);
                }
            }
            Event::Regular(regular) => self.enter(Round::new(regular.ring, regular.members.clone())),
            Event::Status(status) if status.settled => self.count(status),
            Event::Deliver(delivery) if delivery.group == self.group => self.deliver(delivery),
            _ => {}
        }
        self.has_changed |= !matches!(event, Event::Deliver(_));
        mem::take(&mut self.actions)
    }

    /// Enters a ring with what is left of the previous one.
    fn enter(&mut self, round: Round) {
        self.since.get_or_insert(round.ring);
        if let Some(old) = self.round.replace(round) {
            let version = || old.version().cloned();
            if mem::take(&mut self.is_current) {
                self.version = version();
            }
            if let Some(taking) = self.taking.as_mut().filter(|taking| taking.follows) {
                taking.version = version();
                taking.follows = false;
            }
        }
        if let Some(sending) = &mut self.sending {
            sending.resumed.clear();
            self.actions.push(Action::Stop);
        }
        self.next = None;
        self.told = None;
        self.is_busy = false;
    }

    /// Tells the others how this member counts the votes, and in a new ring, what it remembers.
    fn count(&mut self, status: &Status) {
        let Some(ring) =
            self.round.as_ref().map(|round| round.ring).filter(|&ring| status.ring == Some(ring))
        else {
            if self.round.is_none() && !mem::replace(&mut self.is_late, true) {
                error!(
                    group = %self.group,
                    "events of the node were taken before this replica was opened, so it takes part from the \
                     next ring on; open it when the node starts"
                );
            }
            return;
        };
        let electorate = Electorate::of(status);
        if electorate.is_none() {
            self.give_up();
        }
        let message = match &self.told {
            Some(told) if *told == electorate => return,
            Some(_) => Message::Counts { ring, electorate: electorate.clone() },
            None => Message::Remembers(Remembers {
                ring,
                since: self.since.unwrap_or(ring),
                version: self.version.clone(),
                partial: self.taking.as_ref().and_then(Taking::partial),
                keeps: self.sending.as_ref().map(|sending| sending.transfer),
                electorate: electorate.clone(),
            }),
        };
        self.told = Some(electorate);
        self.say(&message);
    }

    fn say(&mut self, message: &Message) {
        self.actions.push(Action::Say(message.encode(&[])));
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let Some(round) = &mut self.round else { return };
        let from = delivery.from;
        let is_mine = from == self.me && delivery.pid == self.pid;
        let message = Message::decode(&delivery.payload).filter(|(message, _)| message.may_be_of(from));
        // Another process of this node may not speak for it.
        let Some((message, payload)) = message.filter(|_| is_mine || from != self.me) else {
            self.rejected += 1;
            self.has_changed = true;
            return;
        };
        match message {
            Message::Remembers(said) if said.ring == round.ring => {
                round.hear(from, said);
                self.judge();
                if is_mine {
                    self.bound_doubt();
                }
            }
            Message::Counts { ring, electorate } if ring == round.ring => {
                round.recount(from, electorate);
                self.judge();
            }
            Message::Holds { ring, transfer } if ring == round.ring => {
                round.receive(from, transfer);
                self.judge();
            }
            Message::Begins(transfer) if transfer.ring == round.ring => self.begin(transfer),
            Message::Part { transfer, index, is_last } => self.take(transfer, index, is_last, payload),
            Message::Write { number } => {
                let number = is_mine.then_some(number);
                self.write(Written { payload, number, transitional: self.next.is_some() });
            }
            Message::Confirm { number: Self::HAVE_SPOKEN } if is_mine => self.give_up(),
            Message::Confirm { number } if is_mine => self.confirm(number),
            // Sent in an earlier ring, or of no concern here.
            _ => {}
        }
    }

    /// A member has said something that may let the ring accept writes, or no longer.
    fn judge(&mut self) {
        self.has_changed = true;
        let Some(round) = &mut self.round else { return };
        let was_led = round.is_led();
        round.judge(self.next);
        if round.is_led() && !was_led {
            self.follow_lead();
        }
        let Some(round) = &self.round else { return };
        if round.is_open() && self.is_current && self.next.is_none() {
            for (number, output) in mem::take(&mut self.doubtful) {
                self.actions.push(Action::Answer(number, Ok(Some(output))));
            }
        }
        self.send_snapshots();
    }

    /// The ring continues a state, which this member has, or has in part, or not.
    fn follow_lead(&mut self) {
        let Some(round) = &self.round else { return };
        self.is_current = round.is_base(self.version.as_ref());
        if !self.is_current {
            self.sending = None;
            // Their state may not be that of the ring.
            let doubtful = mem::take(&mut self.doubtful);
            let answer = |(number, _)| Action::Answer(number, Err(WriteError::Unknown));
            self.actions.extend(doubtful.into_iter().map(answer));
        }
        match &mut self.taking {
            Some(taking) if bug!(AnySnapshotResumed: true; round.is_base(taking.version.as_ref())) => {
                taking.follows = true;
            }
            _ => self.abandon(),
        }
    }

    /// Lets calls whose outcome is in doubt wait for one more message. By the time that it has come
    /// back, the others have spoken, too.
    fn bound_doubt(&mut self) {
        let mut waiting = self.taking.iter().flat_map(|taking| &taking.writes);
        if !self.doubtful.is_empty() || waiting.any(|written| written.number.is_some()) {
            self.say(&Message::Confirm { number: Self::HAVE_SPOKEN });
        }
    }

    /// Answers the writes of earlier rings, whose outcome this ring does not tell.
    fn give_up(&mut self) {
        let doubtful = mem::take(&mut self.doubtful).into_iter().map(|(number, _)| number);
        let waiting = self.taking.iter_mut().flat_map(|taking| &mut taking.writes);
        let waiting = waiting.filter_map(|written| written.number.take());
        let answer = |number| Action::Answer(number, Err(WriteError::Unknown));
        self.actions.extend(doubtful.chain(waiting).map(answer));
    }

    fn write(&mut self, written: Written) {
        let accepted = self.round.as_mut().is_some_and(Round::write);
        let following = self.taking.as_mut().filter(|taking| taking.follows);
        match (accepted, written.number) {
            (true, _) if self.is_current => self.apply(written),
            (true, number) => match following {
                Some(taking) => taking.writes.push(written),
                // Others apply it, and this member does not learn with which output.
                None => self.actions.extend(number.map(|n| Action::Answer(n, Err(WriteError::Unknown)))),
            },
            // Members that move on to another ring may have seen it open before, and applied this.
            (false, Some(number)) if written.transitional => {
                self.actions.push(Action::Answer(number, Err(WriteError::Unknown)));
            }
            (false, Some(number)) => {
                let closed = self.closed().unwrap_or(Closed::Unsettled);
                self.actions.push(Action::Answer(number, Err(WriteError::Closed(closed))));
            }
            (false, None) => {}
        }
    }

    fn apply(&mut self, Written { payload, number, transitional }: Written) {
        let output = self.state.apply(&payload);
        let doubtful = bug!(TransitionAcknowledged: false; transitional);
        match number {
            Some(number) if doubtful => self.doubtful.push((number, output)),
            Some(number) => self.actions.push(Action::Answer(number, Ok(Some(output)))),
            None => {}
        }
    }

    /// Answers a reader, whose message has come behind all writes that were acknowledged before it
    /// was sent.
    fn confirm(&mut self, number: u64) {
        let outcome = self.closed().map_or(Ok(None), |closed| Err(WriteError::Closed(closed)));
        self.actions.push(Action::Answer(number, outcome));
    }

    /// A member takes a snapshot now.
    fn begin(&mut self, transfer: Transfer) {
        let Some(round) = &mut self.round else { return };
        let lacking = round.begin(transfer);
        if lacking.contains(&self.me) {
            self.abandon();
            self.has_changed = true;
            if self.is_current {
                // The others have not yet delivered that it has received another one.
                let ring = transfer.ring;
                self.say(&Message::Holds { ring, transfer });
            } else {
                self.taking = Some(Taking {
                    transfer,
                    parts: Vec::new(),
                    writes: Vec::new(),
                    version: None,
                    follows: true,
                });
            }
        }
        if transfer.from == self.me && self.is_current {
            self.is_busy = !lacking.is_empty();
            if self.is_busy {
                let snapshot = self.state.snapshot();
                let resumed = Vec::new();
                self.sending = Some(Sending { transfer, snapshot: snapshot.clone(), resumed });
                self.actions.push(Action::Send(transfer, snapshot, 0));
            }
        }
    }

    /// Drops what has been received of a snapshot, with the writes since.
    fn abandon(&mut self) {
        let writes = self.taking.take().map(|taking| taking.writes).unwrap_or_default();
        for number in writes.into_iter().filter_map(|written| written.number) {
            self.actions.push(Action::Answer(number, Err(WriteError::Unknown)));
        }
    }

    /// Sends snapshots to the members that need one.
    fn send_snapshots(&mut self) {
        let Some(round) = self.round.as_ref().filter(|_| self.is_current) else { return };
        if let Some(sending) = &mut self.sending {
            if !round.needs(sending.transfer) {
                self.sending = None;
                self.is_busy = false;
                self.actions.push(Action::Stop);
            } else {
                let resuming = round.resuming(sending.transfer);
                let is_new = |(node, _): &(NodeId, u32)| !sending.resumed.contains(node);
                let first = resuming.iter().map(|(_, next)| *next).min();
                if let Some(first) = first.filter(|_| resuming.iter().any(is_new)) {
                    self.is_busy = true;
                    self.actions.push(Action::Send(sending.transfer, sending.snapshot.clone(), first));
                }
                sending.resumed = resuming.into_iter().map(|(node, _)| node).collect();
            }
        }
        if !self.is_busy && round.sender() == Some(self.me) {
            self.is_busy = true;
            self.announced += 1;
            let transfer = Transfer { from: self.me, ring: round.ring, number: self.announced };
            self.say(&Message::Begins(transfer));
        }
    }

    /// Takes a part of a snapshot.
    fn take(&mut self, transfer: Transfer, index: u32, is_last: bool, part: Bytes) {
        if transfer.from == self.me {
            self.actions.push(Action::Sent);
            if is_last && self.sending.as_ref().is_some_and(|sending| sending.transfer == transfer) {
                self.is_busy = false;
                self.send_snapshots();
            }
        }
        // A part that comes before it is known whether the ring continues this state comes again.
        let Some(taking) = self.taking.as_mut().filter(|taking| taking.follows) else { return };
        // Parts come in order. After a ring change, some come twice.
        if taking.transfer != transfer || taking.parts.len() != index as usize {
            return;
        }
        taking.parts.push(part);
        self.has_changed = true;
        if is_last {
            self.restore();
        }
    }

    /// Replaces the state by a complete snapshot and the writes since.
    fn restore(&mut self) {
        let Some(taking) = self.taking.take() else { return };
        match S::restore(&taking.parts.concat()) {
            Ok(state) => self.state = state,
            Err(error) => return self.actions.push(Action::Fail(error)),
        }
        for written in bug!(RestoredWithoutWrites: Vec::new(); taking.writes) {
            self.apply(written);
        }
        self.is_current = true;
        if let Some(ring) = self.round.as_ref().map(|round| round.ring) {
            self.say(&Message::Holds { ring, transfer: taking.transfer });
            self.bound_doubt();
        }
    }

    /// Returns why this member does not accept writes now. `None` if it does.
    pub(super) fn closed(&self) -> Option<Closed> {
        let Some(round) = self.round.as_ref().filter(|_| self.next.is_none()) else {
            return Some(Closed::Unsettled);
        };
        round.closed(self.me).or((!self.is_current).then_some(Closed::CatchingUp))
    }

    /// Returns `true` unless the others take this member for one that has the leading state.
    #[cfg(test)]
    pub(super) fn is_as_said(&self) -> bool {
        let holds = |round: &Round| round.standing(self.me) == super::round::Standing::Holds;
        self.is_current || !self.round.as_ref().is_some_and(holds)
    }

    /// Returns `true` if this member counts for those that remember an earlier state.
    #[cfg(test)]
    pub(super) fn remembers(&self) -> bool {
        self.version.is_some()
            || self.is_current && self.round.as_ref().is_some_and(|round| round.version().is_some())
    }

    /// Returns the status, if it may have changed since the last call.
    pub(super) fn changed(&mut self) -> Option<ReplicaStatus> {
        mem::take(&mut self.has_changed).then(|| self.status())
    }

    pub(super) fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            closed: self.closed(),
            holders: self.round.as_ref().map_or(0, Round::holders),
            received: self.taking.as_ref().map(|taking| taking.parts.iter().map(Bytes::len).sum()),
            rejected: self.rejected,
        }
    }
}

impl Taking {
    /// Returns what is missing, for the other members. `None` if the ring in which the snapshot was
    /// announced did not tell what it leads to.
    fn partial(&self) -> Option<Partial> {
        let version = self.version.clone()?;
        Some(Partial { transfer: self.transfer, next: u32::try_from(self.parts.len()).ok()?, version })
    }
}
