//! Disturbances of single datagrams, the same on either engine.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Micros, micros, noise, stream};
use crate::Fault;
use crate::fault::{Kind, Share, Trouble};
use crate::history::Content;

/// A [`Fault::Disturb`] in progress. Hosts are counted from 0.
#[derive(Debug)]
pub(super) struct Disturbance {
    pub(super) class: &'static str,
    pub(super) until: Micros,
    trouble: Trouble,
    kind: Kind,
    from: Option<usize>,
    to: Option<usize>,
    rng: ChaCha8Rng,
    /// For bursts, the state of each link: whether it is bad, and until when.
    links: BTreeMap<(usize, usize), (bool, Micros)>,
}

/// A datagram as it reaches a receiver.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) at: Micros,
    pub(super) bytes: Bytes,
    pub(super) damaged: bool,
}

impl Disturbance {
    /// Begins the disturbance. Returns `None` if the fault is of another kind.
    pub(super) fn begin(fault: &Fault, seed: u64, now: Micros) -> Option<Self> {
        let Fault::Disturb { lasts, trouble, kind, from, to } = fault else { return None };
        // The disturbance has its own random stream, so its draws stay the same when other faults
        // are added or removed.
        let name = Content::of(&format!("{now} {fault}").into());
        let host = |node: u32| node as usize - 1;
        Some(Self {
            class: fault.class(),
            until: now.saturating_add(micros(*lasts)),
            trouble: *trouble,
            kind: *kind,
            from: from.map(host),
            to: to.map(host),
            rng: stream(seed, name.hash),
            links: BTreeMap::new(),
        })
    }

    /// Returns `true` if it may affect such a datagram, provided that the datagram goes to the
    /// right host.
    pub(super) fn concerns(&self, from: usize, kind: Kind, to_everyone: bool) -> bool {
        self.from.is_none_or(|host| host == from) && self.kind.includes(kind, to_everyone)
    }

    /// Applies itself to the copies of a datagram that [concerns](Self::concerns) it. Returns
    /// `true` if it affected any.
    pub(super) fn work(&mut self, from: usize, to: usize, now: Micros, copies: &mut Vec<Copy>) -> bool {
        if self.to.is_some_and(|host| host != to) {
            return false;
        }
        let trouble = self.trouble;
        match trouble {
            Trouble::Lose(share) if self.meets(share) => copies.clear(),
            Trouble::LoseInBursts { bad, good } if self.is_bad(from, to, now, micros(bad), micros(good)) => {
                copies.clear();
            }
            Trouble::LoseAbove(bytes) if copies.iter().any(|copy| copy.bytes.len() > bytes) => copies.clear(),
            Trouble::Duplicate { share, within } if self.meets(share) => {
                let Some(Copy { at, bytes, damaged }) = copies.first() else { return false };
                let at = at + self.rng.random_range(0..=micros(within));
                copies.push(Copy { at, bytes: bytes.clone(), damaged: *damaged });
            }
            Trouble::Delay { share, by } if self.meets(share) => {
                let by = self.rng.random_range(0..=micros(by));
                copies.iter_mut().for_each(|copy| copy.at += by);
            }
            Trouble::Flip { share, bits } if self.meets(share) => {
                let bits = self.rng.random_range(1..=bits.max(1));
                self.damage(copies, |rng, bytes| flip(rng, bytes, bits));
            }
            Trouble::Resize(share) if self.meets(share) => self.damage(copies, resize),
            _ => return false,
        }
        true
    }

    fn meets(&mut self, share: Share) -> bool {
        self.rng.random_range(0..1_000_000) < share.0
    }

    fn damage(&mut self, copies: &mut [Copy], damage: impl Fn(&mut ChaCha8Rng, &mut BytesMut)) {
        for copy in copies {
            let mut bytes = BytesMut::from(&copy.bytes[..]);
            damage(&mut self.rng, &mut bytes);
            *copy = Copy { at: copy.at, bytes: bytes.freeze(), damaged: true };
        }
    }

    fn is_bad(&mut self, from: usize, to: usize, now: Micros, bad: Micros, good: Micros) -> bool {
        let rng = &mut self.rng;
        let mut draw = |is_bad: bool| rng.random_range(0..=2 * if is_bad { bad } else { good }) + 1;
        let (is_bad, until) = self.links.entry((from, to)).or_insert_with(|| (false, now + draw(false)));
        while *until <= now {
            *is_bad = !*is_bad;
            *until += draw(*is_bad);
        }
        *is_bad
    }
}

/// Flips bits, about half of them in the headers, where they have the most effect.
fn flip(rng: &mut ChaCha8Rng, bytes: &mut BytesMut, bits: u32) {
    for _ in 0..bits {
        let reach = if rng.random() { bytes.len() } else { bytes.len().min(64) };
        if reach > 0 {
            let place = rng.random_range(0..reach);
            bytes[place] ^= 1 << rng.random_range(0..8);
        }
    }
}

fn resize(rng: &mut ChaCha8Rng, bytes: &mut BytesMut) {
    match rng.random_range(0..3) {
        0 => bytes.truncate(rng.random_range(0..=bytes.len())),
        1 => {
            let more = rng.random_range(1..100);
            bytes.extend_from_slice(&noise(rng, more));
        }
        _ => {
            // Two datagrams in one.
            let copy = bytes.clone();
            bytes.extend_from_slice(&copy);
        }
    }
}
