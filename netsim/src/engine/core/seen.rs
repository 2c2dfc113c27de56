//! Records of a member after each input: what it received, knows, keeps and sends.

use std::rc::Rc;

use quorate::DcMember;
use quorate_membership::wire::Message;
use quorate_membership::{Destination, Phase, RingId, RingView, Seq};

use super::Engine;
use super::network::Packet;
use crate::history::{Frame, Holds, Inside, Standing, What};

/// The observed state of a core, to detect what an input has changed.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Seen {
    pub(super) phase: Phase,
    tokens: u64,
    originated: u64,
    ring: Stability,
    forming: Option<Stability>,
    /// The limits for frames, in a rotation and at a visit.
    limits: (u32, u32),
}

#[derive(Clone, Copy, PartialEq)]
struct Stability {
    id: RingId,
    safe: Seq,
    released: Seq,
    held: usize,
}

impl Seen {
    pub(super) fn of(member: &DcMember, originated: u64) -> Self {
        let snapshot = member.totem().snapshot();
        let stability = |ring: RingView<'_>| Stability {
            id: ring.id,
            safe: ring.safe,
            released: ring.released,
            held: ring.held,
        };
        Self {
            phase: snapshot.phase,
            tokens: member.totem().stats().tokens,
            originated,
            ring: stability(snapshot.ring),
            forming: snapshot.forming.map(stability),
            limits: (snapshot.window, snapshot.visit),
        }
    }
}

impl Engine {
    /// Records what the last input changed. Returns the new phase if it has changed.
    pub(super) fn observe(&mut self, index: usize, input: Option<&Rc<Packet>>) -> Option<Phase> {
        let now = self.now;
        let living = self.hosts[index].living.as_mut()?;
        let before = living.seen;
        let seen = Seen::of(&living.member, before.originated);
        if seen == before {
            return None;
        }
        living.seen = seen;
        let life = living.life;
        let message = input.and_then(|packet| packet.message.as_ref());
        match message {
            Some(Message::Token(token)) if seen.tokens > before.tokens => {
                living.weigh = seen.tokens.is_multiple_of(16);
                self.record(life, What::Inside(Inside::Token(Box::new(token.clone()))));
            }
            Some(Message::Multicast(frame)) => {
                let grew = |before: Option<Stability>, now: Option<Stability>| match (before, now) {
                    (Some(before), Some(now)) => before.id == now.id && now.held > before.held,
                    _ => false,
                };
                let installed = grew(Some(before.ring), Some(seen.ring));
                let forming = grew(before.forming, seen.forming);
                if forming || (installed && frame.ring == seen.ring.id) {
                    self.record(life, What::Inside(Inside::Received(Frame::of(frame))));
                }
                if installed
                    && frame.encapsulated
                    && let Ok(inner) = frame.inner()
                {
                    self.record(life, What::Inside(Inside::Received(Frame::of(&inner))));
                }
            }
            _ => {}
        }
        // The ring that was being formed may have been installed by this same input (seed 1340).
        let installed = Some(seen.ring);
        let rings =
            [(Some(before.ring), installed), (before.forming, seen.forming), (before.forming, installed)];
        for (before, now) in rings {
            if let (Some(before), Some(now)) = (before, now)
                && before.id == now.id
                && (before.safe, before.released) != (now.safe, now.released)
            {
                let (ring, safe, released) = (now.id, now.safe, now.released);
                self.record(life, What::Inside(Inside::Stable { ring, safe, released }));
            }
        }
        if seen.limits != before.limits {
            let (ring, (window, visit)) = (seen.ring.id, seen.limits);
            self.record(life, What::Inside(Inside::Limits { ring, window, visit }));
        }
        if seen.phase == before.phase {
            return None;
        }
        let living = self.hosts[index].living.as_ref()?;
        let ring = living.member.totem().snapshot().ring;
        let phase = Inside::Phase {
            from: before.phase,
            to: seen.phase,
            ring: Standing { ring: ring.id, aru: ring.aru, high: ring.high, delivered: ring.delivered },
            timer: living.member.totem().poll_timeout().map(|due| due - living.show(now)),
        };
        self.record(life, What::Inside(phase));
        Some(seen.phase)
    }

    /// Returns the record of sending this message.
    pub(super) fn inside(&mut self, index: usize, to: Destination, message: &Message) -> Option<Inside> {
        let to = match to {
            Destination::Member(node) => Some(node),
            Destination::Everyone => None,
        };
        match message {
            Message::Token(token) => Some(Inside::TokenSent { to: to?, token: Box::new(token.clone()) }),
            Message::Commit(token) => Some(Inside::CommitSent { to: to?, token: Box::new(token.clone()) }),
            Message::Join(join) => Some(Inside::JoinSent(Box::new(join.clone()))),
            Message::Multicast(frame) => {
                let living = self.hosts[index].living.as_mut()?;
                // The originator counts its frames in `this_seqno`.
                let first =
                    frame.from == living.life.node && u64::from(frame.this_seqno) >= living.seen.originated;
                if first {
                    living.seen.originated = u64::from(frame.this_seqno) + 1;
                }
                let frame = Frame::of(frame);
                Some(if first { Inside::Numbered(frame) } else { Inside::Resent(frame) })
            }
            Message::MergeDetect(_) | Message::HoldCancel(_) => None,
        }
    }

    /// Records that the member considers its application hung, or no longer does.
    pub(super) fn note_hung(&mut self, index: usize) {
        let Some(living) = &mut self.hosts[index].living else { return };
        let hung = living.member.is_hung();
        if std::mem::replace(&mut living.hung, hung) != hung {
            let life = living.life;
            self.record(life, What::Hung(hung));
        }
    }

    /// Records how much the member does and keeps. Small amounts, and amounts that were recorded
    /// recently, are omitted.
    pub(super) fn weigh(&mut self, index: usize, sent: u32, told: u32) {
        const LITTLE: u32 = 50;
        let Some(living) = &mut self.hosts[index].living else { return };
        let life = living.life;
        let holds = std::mem::take(&mut living.weigh).then(|| {
            let snapshot = living.member.totem().snapshot();
            Holds {
                frames: snapshot.ring.held + snapshot.forming.map_or(0, |ring| ring.held),
                queued: snapshot.queued,
                unread: snapshot.unread,
                unsent: snapshot.unsent,
                all_delivered: snapshot.phase == Phase::Operational
                    && snapshot.ring.delivered == snapshot.ring.high,
            }
        });
        if let Some(holds) = holds {
            self.record(life, What::Inside(Inside::Holds(holds)));
        }
        if sent.max(told) > LITTLE {
            self.record(life, What::Inside(Inside::Worked { sent, told }));
        }
    }
}
