//! Random runs: loss, delay, duplication, cuts, crashes, restarts and pauses under load. Calm
//! follows, and one ring must form.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_membership::wire::{self, Message};
use quorate_membership::{Guarantee, Seq};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Fate, Lab, ms, node};

/// Performs one run. Panics with the name of the violated property.
pub fn chaos(seed: u64) {
    let mut lab = Lab::new(seed);
    let mut liar = lab.heeds_evidence(seed);
    let n = lab.rng.random_range(2..=5u32);
    lab.config.window_size = lab.rng.random_range(4..60);
    lab.config.max_messages = lab.rng.random_range(1..=17);
    lab.config.miss_count_const = lab.rng.random_range(1..=5);
    if lab.rng.random_bool(0.3) {
        lab.config.first_seq = Seq::new(u32::MAX - lab.rng.random_range(0..200));
    }
    if lab.rng.random_bool(0.2) {
        lab.disk = ms(lab.rng.random_range(1..100));
    }
    let all: Vec<u32> = (1..=n).collect();
    for &id in &all {
        lab.start(id);
        if lab.rng.random_bool(0.1) {
            lab.config.window_size = lab.rng.random_range(4..60);
            lab.config.miss_count_const = lab.rng.random_range(1..=5);
        }
    }
    for _ in 0..lab.rng.random_range(5..25) {
        lab.lies(liar.as_mut(), n);
        something_happens(&mut lab, n);
        let pause = lab.rng.random_range(0..450);
        lab.run(ms(pause));
    }
    lab.calm();
    let stays_down = lab.rng.random_bool(0.3);
    let core: Vec<u32> = all.iter().copied().filter(|&id| lab.is_up(id)).collect();
    let core = if stays_down && !core.is_empty() { core } else { all };
    for &id in &core {
        if !lab.is_up(id) {
            lab.crash(id);
            lab.start(id);
        }
    }
    lab.settles(&core);
    lab.wakes(&core);
    lab.forgets_the_past(&core);
    lab.leaves(&core);
    lab.run(ms(200));
    lab.at_rest = true;
    lab.check();
}

/// Performs a run that is wilder than `chaos`: faults every few milliseconds, faults that affect
/// one kind of datagram, and nodes that pause or leave.
pub fn tempest(seed: u64) {
    let mut lab = Lab::new(seed);
    let mut liar = lab.heeds_evidence(seed);
    let n = lab.rng.random_range(2..=7u32);
    lab.config.window_size = lab.rng.random_range(4..80);
    lab.config.max_messages = lab.rng.random_range(1..=40);
    lab.config.miss_count_const = lab.rng.random_range(1..=5);
    lab.config.seqno_unchanged_const = lab.rng.random_range(1..=30);
    if lab.rng.random_bool(0.2) {
        lab.config.first_seq = Seq::new(u32::MAX - lab.rng.random_range(0..300));
    }
    for id in 1..=n {
        lab.start(id);
    }
    let mut up: BTreeSet<u32> = (1..=n).collect();
    let longest = if lab.rng.random_bool(0.5) { 30 } else { 400 };
    for _ in 0..lab.rng.random_range(10..60) {
        lab.lies(liar.as_mut(), n);
        let id = lab.rng.random_range(1..=n);
        match lab.rng.random_range(0..13) {
            0 => {
                let share = lab.rng.random_range(0.0..0.5);
                let kind = lab.rng.random_range(0..5);
                lab.filter(move |_, _, message, rng| {
                    let hit = match message {
                        Message::Token(_) => kind == 0,
                        Message::Multicast(_) => kind == 1,
                        Message::Join(_) => kind == 2,
                        Message::Commit(_) => kind == 3,
                        _ => kind == 4,
                    };
                    if hit && rng.random_bool(share) { Fate::Drop } else { Fate::Deliver }
                });
            }
            1 => {
                let bound = lab.rng.random_range(1..400);
                lab.filter(move |_, _, _, rng| match rng.random_range(0..6) {
                    0 => Fate::Delay(ms(rng.random_range(0..bound))),
                    1 => Fate::Duplicate(ms(rng.random_range(0..bound))),
                    _ => Fate::Deliver,
                });
            }
            2 => {
                let (a, b): (Vec<u32>, Vec<u32>) = (1..=n).partition(|_| lab.rng.random_bool(0.5));
                lab.cut(&a, &b);
            }
            3 | 4 => lab.calm(),
            5 => {
                if up.remove(&id) {
                    lab.crash(id);
                } else {
                    up.insert(id);
                    lab.start(id);
                }
            }
            6 => {
                let other = lab.rng.random_range(1..=n);
                lab.cut_one_way(id, other);
            }
            7 => {
                let length = lab.rng.random_range(0..700);
                lab.stall(id, ms(length));
            }
            8 => {
                if lab.rng.random_bool(0.3) && up.remove(&id) {
                    lab.leave(id);
                    let pause = lab.rng.random_range(0..50);
                    lab.run(ms(pause));
                    lab.crash(id);
                }
            }
            _ => {
                for _ in 0..lab.rng.random_range(1..40) {
                    let id = lab.rng.random_range(1..=n);
                    let guarantee =
                        if lab.rng.random_bool(0.4) { Guarantee::Safe } else { Guarantee::Agreed };
                    let length = if lab.rng.random_bool(0.1) { 9000 } else { lab.rng.random_range(0..800) };
                    if up.contains(&id) {
                        lab.send_numbered(id, guarantee, length);
                    }
                }
            }
        }
        let pause = lab.rng.random_range(0..longest);
        lab.run(ms(pause));
    }
    lab.calm();
    for id in 1..=n {
        if up.insert(id) {
            lab.start(id);
        }
    }
    lab.until_ring(&(1..=n).collect::<Vec<_>>());
    lab.run(ms(3000));
    lab.at_rest = true;
    lab.check();
}

fn something_happens(lab: &mut Lab, n: u32) {
    let id = lab.rng.random_range(1..=n);
    match lab.rng.random_range(0..16) {
        0 | 1 => {
            let share = lab.rng.random_range(0.0..0.3);
            lab.lose(share);
        }
        2 | 3 => {
            let bound = if lab.rng.random_bool(0.1) { 3000 } else { lab.rng.random_range(1..150) };
            lab.filter(move |_, _, _, rng| match rng.random_range(0..10) {
                0 => Fate::Delay(ms(rng.random_range(0..bound.min(150)))),
                1 => Fate::Duplicate(ms(rng.random_range(0..bound))),
                _ => Fate::Deliver,
            });
        }
        11 => {
            // Frames take longer than tokens.
            let bound = lab.rng.random_range(1..400);
            lab.filter(move |_, _, message, rng| match message {
                Message::Multicast(_) if rng.random_bool(0.2) => Fate::Delay(ms(rng.random_range(0..bound))),
                Message::Token(_) if rng.random_bool(0.01) => Fate::Drop,
                _ => Fate::Deliver,
            });
        }
        4 => {
            let split = lab.rng.random_range(1..=n);
            let (a, b): (Vec<u32>, Vec<u32>) = (1..=n).partition(|&id| id <= split);
            lab.cut(&a, &b);
        }
        5 | 6 => lab.calm(),
        7 | 8 => {
            if lab.is_up(id) && lab.rng.random_bool(0.8) {
                lab.crash(id);
            } else if lab.is_up(id) {
                lab.leave(id);
            } else {
                lab.crash(id);
                lab.start(id);
            }
        }
        12 => stumble(lab, n),
        9 => {
            let other = lab.rng.random_range(1..=n);
            lab.cut_one_way(id, other);
        }
        10 if lab.is_up(id) => {
            let length = lab.rng.random_range(1..600);
            lab.stall(id, ms(length));
        }
        _ => {
            for _ in 0..lab.rng.random_range(1..30) {
                let id = lab.rng.random_range(1..=n);
                let guarantee = if lab.rng.random_bool(0.4) { Guarantee::Safe } else { Guarantee::Agreed };
                let length = if lab.rng.random_bool(0.1) { 5000 } else { lab.rng.random_range(0..800) };
                if lab.is_up(id) {
                    lab.send_numbered(id, guarantee, length);
                }
            }
        }
    }
}

/// Starts a ring change while members have received different parts of what was sent.
fn stumble(lab: &mut Lab, n: u32) {
    let (lost, late) = (lab.rng.random_range(0.0..0.5), lab.rng.random_range(0.0..0.5));
    let deaf = lab.rng.random_range(1..=n);
    lab.filter(move |_, to, message, rng| match message {
        Message::Multicast(_) if to == node(deaf) || rng.random_bool(lost) => Fate::Drop,
        Message::Multicast(_) if rng.random_bool(late) => Fate::Delay(ms(rng.random_range(0..150))),
        Message::Commit(_) if rng.random_bool(0.3) => Fate::Drop,
        _ => Fate::Deliver,
    });
    let sender = lab.rng.random_range(1..=n);
    for id in [sender, lab.rng.random_range(1..=n)] {
        for _ in 0..lab.rng.random_range(1..40) {
            if lab.is_up(id) {
                lab.send_numbered(id, Guarantee::Safe, 100);
            }
        }
    }
    let pause = lab.rng.random_range(0..10);
    lab.run(ms(pause));
    match lab.rng.random_range(0..4) {
        0 => {
            let (a, b): (Vec<u32>, Vec<u32>) = (1..=n).partition(|_| lab.rng.random_bool(0.5));
            lab.cut(&a, &b);
        }
        1 => lab.cuts.clear(),
        2 => lab.crash(sender),
        _ => {
            lab.crash(sender);
            lab.start(sender);
        }
    }
}

impl Lab {
    /// Makes nodes believe refusals in half of the runs, and returns the generator for false
    /// refusals in those runs. It is separate, so that the other half of the runs draws the same
    /// numbers as before this existed.
    fn heeds_evidence(&mut self, seed: u64) -> Option<ChaCha8Rng> {
        (seed % 2 == 1).then(|| {
            self.config.failure_evidence = true;
            self.config.probe = ms(20);
            ChaCha8Rng::seed_from_u64(seed ^ 0x11a5)
        })
    }

    fn lies(&mut self, liar: Option<&mut ChaCha8Rng>, n: u32) {
        let Some(rng) = liar else { return };
        if rng.random_bool(0.8) {
            return;
        }
        let [to, of] = [0; 2].map(|_| rng.random_range(1..=n));
        for _ in 0..rng.random_range(1..=3) {
            if self.is_up(to) {
                self.refuse(node(to), node(of));
            }
        }
    }

    /// Checks that these nodes recover once all faults are over. They form one ring in time (L1),
    /// deliver what they accepted (L4), and are quiet after that (L2, T8).
    pub fn settles(&mut self, all: &[u32]) {
        // A datagram that is in flight for longer than a fault lasts would itself be a fault.
        let until = self.now + ms(100);
        self.flying.retain(|&(at, _), _| at <= until);
        // A node that was left out may have to wait.
        let form = self.ring_within(all.len() as u32);
        let waits = all.iter().map(|id| self.totem_of(*id).longest_wait(self.now, self.now + form));
        let bound = form + waits.max().unwrap_or_default();
        let took = self.until_ring(all);
        assert!(took <= bound, "L1: one ring took {took:?}, bound {bound:?}");
        self.run(ms(1000));
        for id in all {
            let outstanding = self.hosts[&node(*id)].watch.outstanding();
            assert!(outstanding == 0, "L4: {outstanding} messages of node {id} never came");
        }
        let delivered: BTreeSet<u32> =
            all.iter().map(|&id| self.totem_of(id).snapshot().ring.delivered.get()).collect();
        assert_eq!(delivered.len(), 1, "L4: the members have delivered up to {delivered:?}");
        let counted = |lab: &mut Self| {
            let each: Vec<_> = all
                .iter()
                .map(|&id| lab.totem(id).stats().clone())
                .map(|s| (s.rings, s.retransmits))
                .collect();
            (lab.regular(all[0]).members.clone(), each)
        };
        let (members, before) = counted(self);
        let tokens = self.tokens;
        self.run(ms(500));
        let rotations = (self.tokens - tokens) / all.len() as u64;
        assert_eq!((members, before), counted(self), "L2: a ring that stands is not quiet");
        let hold = self.config.hold.as_millis() as u64;
        assert!(rotations <= 500 / hold + 2, "T8: {rotations} rotations in 500 ms, hold {hold} ms");
        assert_eq!(
            self.regular(all[0]).members,
            all.iter().copied().map(node).collect::<BTreeSet<_>>(),
            "L1: all"
        );
    }

    /// Checks that a held token moves on at once when there is something to send (L4, B37).
    fn wakes(&mut self, all: &[u32]) {
        for &id in all {
            self.send_numbered(id, Guarantee::Safe, 10);
            let sent_at = self.now;
            let came = |lab: &Self| {
                all.iter().all(|&each| lab.hosts[&node(each)].watch.last_from() == Some(node(id)))
            };
            while !came(self) {
                assert!(self.now - sent_at < ms(5), "L4: an idle ring takes long to wake");
                self.run(ms(1));
            }
            self.run(ms(200));
        }
    }

    /// Checks that old datagrams of members change nothing when they arrive again (L2, F27). Old
    /// datagrams of strangers would, since a clear-text datagram does not show when it was sent.
    fn forgets_the_past(&mut self, all: &[u32]) {
        let rings = |lab: &mut Self| all.iter().map(|&id| lab.totem(id).stats().gathers).collect::<Vec<_>>();
        let before = rings(self);
        for _ in 0..100 {
            let (from, to, datagram) = self.sample[self.rng.random_range(0..self.sample.len())].clone();
            let of_stranger = matches!(wire::decode(&datagram), Ok(Message::Multicast(frame)) if !all.contains(&frame.from.get()));
            if all.contains(&from.get()) && all.contains(&to.get()) && !of_stranger {
                self.receive(to, from, &datagram);
            }
        }
        self.run(ms(100));
        assert_eq!(before, rings(self), "L2: what a member said in the past ends the ring");
    }

    /// Checks that a leaving node announces it and that the others do not wait for it (L3).
    fn leaves(&mut self, all: &[u32]) {
        let Some((&leaver, rest)) = all.split_first() else { return };
        self.leave(leaver);
        if !rest.is_empty() {
            let took = self.until_ring(rest);
            let bound = self.config.merge + 5 * self.config.join + 2 * self.disk + ms(20);
            assert!(took <= bound, "L3: a ring without node {leaver} took {took:?}, bound {bound:?}");
        }
    }

    /// Returns the bound `T + 3 * form` (spec: time to one ring, with all messages of old rings
    /// recovered within a hundred rotations).
    pub fn ring_within(&self, n: u32) -> Duration {
        let config = &self.config;
        let rotation = self.latency * n;
        let form = config.merge + config.consensus + config.token + config.join + self.disk + rotation * 107;
        config.token + form * 3
    }
}
