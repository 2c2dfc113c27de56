//! The known state of the messages of a run while it continues: which were accepted, the place that
//! each got, and the lives that have had it.

use std::collections::{BTreeMap, VecDeque};

use quorate_membership::{Group, Guarantee, NodeId, RingId, Seq};

use crate::history::{Content, Life, MessageId, Record, What};

/// An upper bound on how far a member can be behind another in a ring. Beyond it, the other one
/// would have to keep more frames than its window holds.
pub(super) const LAG: u32 = 1 << 14;

/// The known state of the messages. It forgets messages that can no longer be delivered. Except for
/// one number per life, it does not grow with the length of the run.
#[derive(Default)]
pub(super) struct Messages {
    /// The number of messages that each life's ring has accepted.
    accepted: BTreeMap<Life, u64>,
    senders: BTreeMap<Life, Sender>,
    had: BTreeMap<Life, BTreeMap<Life, Numbers>>,
    /// The last message delivered to each life, in the ring that it is in.
    last: BTreeMap<Life, (RingId, MessageId)>,
    /// The number of starts of each node.
    starts: BTreeMap<NodeId, u32>,
}

/// The known state of a message.
#[derive(Default)]
pub(super) struct Message {
    /// The message as accepted; `None` if its sender never sent it.
    pub(super) sent: Option<Sent>,
    /// The place of its first delivery.
    pub(super) place: Option<(RingId, Seq)>,
}

/// A message as it was accepted.
pub(super) struct Sent {
    pub(super) group: Group,
    pub(super) guarantee: Guarantee,
    pub(super) content: Content,
    /// The last message that its sender had been delivered, and the ring of that message.
    pub(super) cause: Option<(RingId, MessageId)>,
}

/// The latest messages of a sender.
#[derive(Default)]
struct Sender {
    /// The number of the first known message.
    first: u64,
    messages: VecDeque<Message>,
}

impl Sender {
    fn entry(&mut self, number: u64) -> Option<&mut Message> {
        if self.messages.is_empty() || number >= self.first + self.messages.len() as u64 + u64::from(LAG) {
            self.messages.clear();
            self.first = number;
        }
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        if index >= self.messages.len() {
            self.messages.resize_with(index + 1, Message::default);
        }
        let forgotten = self.messages.len().saturating_sub(LAG as usize);
        self.messages.drain(..forgotten);
        self.first += forgotten as u64;
        self.messages.get_mut(index.checked_sub(forgotten)?)
    }
}

/// A set of numbers that is nearly a sequence, stored as its runs, first to last.
#[derive(Default)]
struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let before = self.0.range_mut(..number).next_back();
        match before {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => drop(self.0.insert(number, number)),
        }
    }

    fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    fn last(&self) -> Option<u64> {
        self.0.last_key_value().map(|(_, last)| *last)
    }
}

impl Messages {
    /// The number of later lives after which a life is forgotten, because it can no longer matter.
    const LIVES: u32 = 16;

    /// Returns the number of messages that a sender's ring has accepted.
    pub(super) fn accepted(&self, sender: Life) -> u64 {
        self.accepted.get(&sender).copied().unwrap_or_default()
    }

    /// Returns the known state of a message, if it is recent enough.
    pub(super) fn get(&self, message: MessageId) -> Option<&Message> {
        let sender = self.senders.get(&message.sender)?;
        sender.messages.get(usize::try_from(message.number.checked_sub(sender.first)?).ok()?)
    }

    /// Returns `true` if this message was delivered to `life`.
    pub(super) fn has_had(&self, life: Life, message: MessageId) -> bool {
        let numbers = self.had.get(&life).and_then(|had| had.get(&message.sender));
        numbers.is_some_and(|numbers| numbers.contains(message.number))
    }

    /// Returns `true` if this message is known not to have been delivered to `life`.
    pub(super) fn lacks(&self, life: Life, message: MessageId) -> bool {
        let known =
            |life: Life| self.starts.get(&life.node).is_none_or(|starts| !Self::is_old(life, *starts));
        known(life) && known(message.sender) && !self.has_had(life, message)
    }

    fn is_old(life: Life, starts: u32) -> bool {
        life.start + Self::LIVES <= starts
    }

    /// Returns the latest message of a sender that was delivered to `life`.
    pub(super) fn latest(&self, life: Life, sender: Life) -> Option<u64> {
        self.had.get(&life)?.get(&sender)?.last()
    }

    /// Updates the state after all properties have checked the record.
    pub(super) fn learn(&mut self, life: Life, record: &Record) {
        match &record.what {
            What::Started => {
                self.starts.insert(life.node, life.start);
                let is_old = |other: &Life| other.node == life.node && Self::is_old(*other, life.start);
                self.senders.retain(|sender, _| !is_old(sender));
                self.had.retain(|life, _| !is_old(life));
                self.had.values_mut().for_each(|had| had.retain(|sender, _| !is_old(sender)));
            }
            What::Crashed | What::Regular(_) => drop(self.last.remove(&life)),
            What::Accepted { message, group, guarantee, content } => {
                self.accepted.insert(message.sender, message.number);
                let cause = self.last.get(&life).copied();
                let sender = self.senders.entry(message.sender).or_default();
                if let Some(known) = sender.entry(message.number) {
                    let (group, guarantee, content) = (group.clone(), *guarantee, *content);
                    known.sent = Some(Sent { group, guarantee, content, cause });
                }
            }
            What::Delivered(delivered) => {
                let Some(message) = delivered.message else { return };
                self.last.insert(life, (delivered.ring, message));
                self.had.entry(life).or_default().entry(message.sender).or_default().insert(message.number);
                let sender = self.senders.entry(message.sender).or_default();
                if let Some(known) = sender.entry(message.number) {
                    known.place.get_or_insert((delivered.ring, delivered.seq));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_remember_holes_and_take_no_room_for_runs() {
        let mut numbers = Numbers::default();
        for number in [5, 6, 7, 9, 10, 6] {
            numbers.insert(number);
        }
        let held: Vec<u64> = (0..12).filter(|&number| numbers.contains(number)).collect();
        assert_eq!(held, [5, 6, 7, 9, 10]);
        assert_eq!((numbers.0.len(), numbers.last()), (2, Some(10)));
    }

    #[test]
    fn old_lives_are_forgotten() {
        let life = |node, start| Life { node: NodeId::new(node).unwrap(), start };
        let mut messages = Messages::default();
        let message = MessageId { sender: life(2, 1), number: 1 };
        let started = |life| Record { at: Duration::ZERO, life: Some(life), what: What::Started };
        messages.learn(life(2, 1), &started(life(2, 1)));
        assert!(messages.lacks(life(1, 1), message));
        messages.learn(life(2, 17), &started(life(2, 17)));
        assert!(!messages.lacks(life(1, 1), message));
    }

    #[test]
    fn a_sender_is_known_by_its_latest_messages() {
        let mut sender = Sender::default();
        for number in 1..=3 * u64::from(LAG) {
            assert!(sender.entry(number).is_some());
        }
        assert_eq!(sender.messages.len(), LAG as usize);
        assert!(sender.entry(2 * u64::from(LAG)).is_none(), "forgotten");
        assert!(sender.entry(2 * u64::from(LAG) + 1).is_some());
    }
}
