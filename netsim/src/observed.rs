//! A member whose every act is recorded in the history.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate::DcMember;
use quorate_election::Event;
use quorate_membership::{
    Cause, Core, CoreView, Group, GroupError, GroupRequest, Guarantee, Input, MulticastError, NodeId, Stored,
    Time, Transmit,
};

use crate::history::{Content, Delivered, History, Life, MessageId, What};

/// The history of a run, which all members share and write to.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<History>>);

impl Log {
    pub(crate) fn new(history: History) -> Self {
        Self(Arc::new(Mutex::new(history)))
    }

    pub(crate) fn write(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self) -> History {
        std::mem::take(&mut *self.write())
    }
}

/// The core that the driver runs in a simulation: the member itself, with an observer in between.
/// The observer sees what the core does at the moment when it happens, whatever the application
/// reads. It also adds a mark to each payload, which identifies the message.
pub(crate) struct Observed {
    member: DcMember,
    life: Life,
    /// The simulated time of the last input. The member's own clock may drift.
    at: Duration,
    accepted: u64,
    hung: bool,
    /// Bytes of removed marks that have not been reported to the ring as taken yet.
    unmarked: usize,
    log: Log,
}

impl Observed {
    pub(crate) fn new(member: DcMember, life: Life, began_at: Duration, log: Log) -> Self {
        Self { member, life, at: began_at, accepted: 0, hung: false, unmarked: 0, log }
    }

    fn note_time(&mut self) {
        self.at = turmoil::sim_elapsed().unwrap_or(self.at);
    }

    fn record(&self, what: What) {
        self.log.write().record(self.at, self.life, what);
    }

    /// Removes the mark from a delivered message, and records the event.
    fn observe(&mut self, event: &mut Event) {
        let (what, unmarked) = what(event);
        self.unmarked += unmarked;
        self.record(what);
    }
}

/// Returns the record of an event, and the length of the mark that was removed from its message.
pub(crate) fn what(event: &mut Event) -> (What, usize) {
    let what = match event {
        Event::Status(status) => What::Status(status.clone()),
        Event::GroupChange(change) => What::GroupChange(Box::new(change.clone())),
        Event::Transitional(transitional) => What::Transitional(transitional.clone()),
        Event::Regular(regular) => What::Regular(regular.clone()),
        Event::Synced(ring) => What::Synced(*ring),
        Event::Stalled(length) => What::Stalled(*length),
        Event::Left(cause) => What::Left(cause.clone()),
        Event::Deliver(delivery) => {
            let marked = delivery.payload.len();
            let message = MessageId::unmark(&mut delivery.payload);
            let unmarked = marked - delivery.payload.len();
            let delivered = Delivered {
                message,
                ring: delivery.ring,
                seq: delivery.seq,
                from: delivery.from,
                group: delivery.group.clone(),
                guarantee: delivery.guarantee,
                transitional: delivery.transitional,
                content: Content::of(&delivery.payload),
            };
            return (What::Delivered(delivered), unmarked);
        }
        _ => unreachable!("an event that the history has no record for: {event:?}"),
    };
    (what, 0)
}

impl Core for Observed {
    type Event = Event;

    fn multicast(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        guarantee: Guarantee,
        payload: &Bytes,
    ) -> Result<(), MulticastError> {
        self.note_time();
        let message = MessageId { sender: self.life, number: self.accepted + 1 };
        self.member.multicast(now, pid, group, guarantee, &message.mark(payload))?;
        self.accepted += 1;
        self.record(What::Accepted {
            message,
            group: group.clone(),
            guarantee,
            content: Content::of(payload),
        });
        Ok(())
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        let hung = self.member.is_hung();
        if std::mem::replace(&mut self.hung, hung) != hung {
            self.record(What::Hung(hung));
        }
        let transmit = self.member.poll_transmit()?;
        self.log.write().sent(self.at, self.life, &transmit);
        Some(transmit)
    }

    fn poll_event(&mut self) -> Option<Event> {
        let mut event = self.member.poll_event()?;
        self.observe(&mut event);
        Some(event)
    }

    fn handle(&mut self, now: Time, input: Input<'_>) {
        self.note_time();
        let input = match input {
            Input::Consumed(cost) => Input::Consumed(cost + std::mem::take(&mut self.unmarked)),
            _ => input,
        };
        self.member.handle(now, input);
    }

    fn change_group(&mut self, now: Time, change: GroupRequest<'_>) -> Result<(), GroupError> {
        self.note_time();
        self.member.change_group(now, change)
    }

    fn must_store(&self) -> Option<Stored> {
        self.member.must_store()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.member.poll_timeout()
    }

    fn view(&self) -> CoreView<'_> {
        self.member.view()
    }

    fn cost(event: &Event) -> usize {
        DcMember::cost(event)
    }
    fn left(event: &Event) -> Option<&Cause> {
        DcMember::left(event)
    }
}

/// Without this, a panic in the driver's task would go unnoticed.
impl Drop for Observed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.record(What::Panicked);
        }
    }
}

impl MessageId {
    pub(crate) const MARK: usize = 16;

    pub(crate) fn mark(self, payload: &Bytes) -> Bytes {
        let mut marked = BytesMut::with_capacity(Self::MARK + payload.len());
        marked.put_u32(self.sender.node.get());
        marked.put_u32(self.sender.start);
        marked.put_u64(self.number);
        marked.extend_from_slice(payload);
        marked.freeze()
    }

    fn unmark(payload: &mut Bytes) -> Option<Self> {
        if payload.len() < Self::MARK {
            return None;
        }
        let mut mark = payload.split_to(Self::MARK);
        let node = NodeId::new(mark.get_u32())?;
        let sender = Life { node, start: mark.get_u32() };
        Some(Self { sender, number: mark.get_u64() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_removed_as_it_was_added() {
        let sender = Life { node: NodeId::new(7).unwrap(), start: 2 };
        let message = MessageId { sender, number: 1 << 40 };
        let mut payload = message.mark(&Bytes::from_static(b"hello"));
        assert_eq!(MessageId::unmark(&mut payload), Some(message));
        assert_eq!(payload, "hello");
        assert_eq!(MessageId::unmark(&mut payload), None);
    }
}
