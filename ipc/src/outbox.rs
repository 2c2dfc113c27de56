//! Messages that wait to be sent to a client.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pace::Pace;

/// A message to a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outgoing {
    Event(Bytes),
    /// The answer to a request that could not be answered at once.
    Response(Bytes),
}

impl Outgoing {
    /// Returns what the message takes of [`Outbox::LIMIT`].
    fn cost(&self) -> usize {
        const BESIDE: usize = 64;
        let (Self::Event(content) | Self::Response(content)) = self;
        content.len() + BESIDE
    }
}

/// The messages that the services have for a client and its connection has not taken. The services
/// never wait for a client. One that does not read its events in time is disconnected.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
    overflowed: bool,
    pace: Pace,
    counts: Counts,
}

/// The counters of an outbox, for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// The messages that have not reached the client's memory.
    pub(crate) waiting: u32,
    /// The events and the responses that have.
    pub(crate) dispatched: u64,
    pub(crate) responses: u64,
    /// Whether the client's multicasts are refused, and how often that began.
    pub(crate) is_slowed: bool,
    pub(crate) slowed: u64,
}

/// The client has left too many events unread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the client has left more than {} MiB of events unread", Outbox::LIMIT >> 20)]
pub(crate) struct Overflow;

impl Outbox {
    /// The most bytes that wait for a client.
    const LIMIT: usize = 64 << 20;

    pub(crate) fn event(&self, event: Bytes) {
        self.push(Outgoing::Event(event));
    }

    pub(crate) fn response(&self, response: Bytes) {
        self.push(Outgoing::Response(response));
    }

    fn push(&self, outgoing: Outgoing) {
        let mut queue = self.lock();
        queue.bytes += outgoing.cost();
        if queue.bytes > Self::LIMIT {
            queue.overflowed = true;
            queue.waiting.clear();
        }
        if !queue.overflowed {
            queue.waiting.push_back(outgoing);
            queue.counts.waiting += 1;
        }
        // A batch of messages wakes the connection once.
        let first = queue.waiting.len() <= 1;
        drop(queue);
        if first {
            self.news.notify_one();
        }
    }

    /// Waits for messages. Cancel safe.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Moves the waiting messages to `taken`.
    pub(crate) fn take(&self, taken: &mut VecDeque<Outgoing>) -> Result<(), Overflow> {
        let mut queue = self.lock();
        if queue.overflowed {
            return Err(Overflow);
        }
        taken.append(&mut queue.waiting);
        Ok(())
    }

    /// Notes that messages have reached the client's memory.
    pub(crate) fn sent(&self, messages: impl IntoIterator<Item = Outgoing>) {
        let (mut bytes, mut events, mut responses) = (0, 0, 0);
        for message in messages {
            bytes += message.cost();
            match message {
                Outgoing::Event(_) => events += 1,
                Outgoing::Response(_) => responses += 1,
            }
        }
        let mut queue = self.lock();
        queue.bytes -= bytes;
        queue.counts.waiting -= events + responses;
        queue.counts.dispatched += u64::from(events);
        queue.counts.responses += u64::from(responses);
    }

    /// Takes note of whether the client has read events since the last call, or could not have.
    /// Returns `true` if its library is to refuse its multicasts now.
    pub(crate) fn look(&self, has_read: bool) -> bool {
        let unread = self.lock().bytes;
        self.pace(|pace, now| {
            pace.look(now, unread, has_read);
            pace.wants_word()
        })
    }

    /// Takes note of a message that came whole.
    pub(crate) fn short(&self) {
        self.pace(Pace::short);
    }

    /// Returns `true` if a message of the client that comes in parts may begin.
    pub(crate) fn begins_long(&self) -> bool {
        self.pace(Pace::begins_long)
    }

    /// Takes note of a later part of it.
    pub(crate) fn goes_on(&self) {
        self.pace(Pace::goes_on);
    }

    fn pace<R>(&self, step: impl FnOnce(&mut Pace, Instant) -> R) -> R {
        let mut queue = self.lock();
        let result = step(&mut queue.pace, Instant::now());
        let (is_refused, counts) = (queue.pace.is_refused(), &mut queue.counts);
        counts.slowed += u64::from(is_refused && !counts.is_slowed);
        counts.is_slowed = is_refused;
        result
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Sets to 0 what only rises.
    pub(crate) fn clear_counts(&self) {
        let counts = &mut self.lock().counts;
        (counts.dispatched, counts.responses, counts.slowed) = (0, 0, 0);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_in_order() {
        let outbox = Outbox::default();
        outbox.event(Bytes::from_static(b"one"));
        outbox.response(Bytes::from_static(b"two"));
        let mut taken = VecDeque::new();
        outbox.take(&mut taken).unwrap();
        assert_eq!(
            taken,
            [Outgoing::Event(Bytes::from_static(b"one")), Outgoing::Response(Bytes::from_static(b"two"))]
        );
    }

    #[test]
    fn a_client_that_reads_nothing_overflows_and_holds_no_memory() {
        let outbox = Outbox::default();
        let event = Bytes::from(vec![0; 1 << 20]);
        (0..63).for_each(|_| outbox.event(event.clone()));
        assert_eq!(outbox.take(&mut VecDeque::new()), Ok(()), "taken, but not sent");
        (0..2).for_each(|_| outbox.event(event.clone()));
        assert_eq!(outbox.take(&mut VecDeque::new()), Err(Overflow));
        assert!(outbox.queue.lock().unwrap().waiting.is_empty());
    }
}
