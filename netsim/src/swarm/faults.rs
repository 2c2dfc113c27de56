//! The classes of faults, and how each is drawn.

use std::time::Duration;

use quorate_membership::{Guarantee, Phase};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::Draw;
use crate::Fault;
use crate::fault::{Fate, Kind, Point, Trouble};
use crate::history::MessageId;

type Class = fn(&mut Draw);

/// The engines that support a class of faults.
#[derive(PartialEq)]
enum Whom {
    /// Complete nodes on turmoil, as well as the core engine.
    All,
    /// The core engine only.
    Cores,
}

use Whom::{All, Cores};

/// All classes of faults, except for those that change bytes.
const CLASSES: &[(Whom, Class)] = &[
    (All, Draw::loss),
    (All, Draw::bursts_of_loss),
    (All, Draw::loss_by_kind),
    (All, Draw::loss_by_size),
    (All, Draw::duplication),
    (All, Draw::reordering),
    (All, Draw::spikes),
    (All, Draw::partitions),
    (All, Draw::one_way_cuts),
    (All, Draw::cuts_of_two),
    (All, Draw::flapping),
    (All, Draw::swizzle),
    (All, Draw::crashes),
    (All, Draw::lost_records),
    (Cores, Draw::crashes_at_points),
    (Cores, Draw::nested_changes),
    (Cores, Draw::leaves),
    (All, Draw::hangs),
    (All, Draw::releases),
    (Cores, Draw::slow_nodes),
    (All, Draw::slow_disks),
    (Cores, Draw::pauses),
    (Cores, Draw::freezes),
    (All, Draw::drift),
    (Cores, Draw::slow_consumers),
    (Cores, Draw::caught_tokens),
    (Cores, Draw::caught_commit_tokens),
    (Cores, Draw::replays),
    (Cores, Draw::foreigners),
    (Cores, Draw::bursts),
];

/// Returns the classes that complete nodes on turmoil support.
pub(super) fn of_nodes() -> impl Iterator<Item = Class> {
    CLASSES.iter().filter(|(whom, _)| *whom == All).map(|&(_, class)| class)
}

impl Draw {
    /// Draws the classes of faults. In most runs each class has the same probability. Some runs
    /// have only one class, a few have none, and a few change bytes.
    pub(super) fn trouble(&mut self) {
        match self.rng.random_range(0..100) {
            0..5 => {}
            5..15 => {
                if let Some((_, class)) = CLASSES.choose(&mut self.rng) {
                    class(self);
                }
            }
            15..20 => self.damage(),
            _ => {
                let share = *[0.1, 0.2, 0.35, 0.5].choose(&mut self.rng).unwrap_or(&0.2);
                for (_, class) in CLASSES {
                    if self.rng.random_bool(share) {
                        class(self);
                    }
                }
            }
        }
    }

    fn disturb(&mut self, at: Duration, lasts: Duration, trouble: Trouble, kind: Kind) {
        let from = self.one_in(4).then(|| self.node());
        let to = self.one_in(4).then(|| self.node()).filter(|to| from != Some(*to));
        self.at(at, Fault::Disturb { lasts, trouble, kind, from, to });
    }

    fn loss(&mut self) {
        for _ in 0..self.times(3) {
            let share = self.percent(&[0.1, 1.0, 5.0, 10.0, 30.0]);
            let (at, lasts) = (self.when(), self.tokens(0.5, 8.0));
            self.disturb(at, lasts, Trouble::Lose(share), Kind::Any);
        }
    }

    fn bursts_of_loss(&mut self) {
        let (bad, good) = (self.tokens(0.03, 1.0), self.tokens(1.0, 10.0));
        let (at, lasts) = (self.when(), self.tokens(10.0, 30.0));
        self.disturb(at, lasts, Trouble::LoseInBursts { bad, good }, Kind::Any);
    }

    fn loss_by_kind(&mut self) {
        for _ in 0..self.times(3) {
            let kinds: Vec<Kind> = Kind::ALL.iter().map(|(kind, ..)| *kind).collect();
            let kind = *kinds.choose(&mut self.rng).unwrap_or(&Kind::Frame);
            let share = self.percent(&[10.0, 30.0, 60.0, 100.0]);
            let (at, lasts) = (self.when(), self.tokens(0.3, 3.0));
            self.disturb(at, lasts, Trouble::Lose(share), kind);
        }
    }

    fn loss_by_size(&mut self) {
        let bytes = *[100, 300, 500, 1000, 1400].choose(&mut self.rng).unwrap_or(&500);
        let (at, lasts) = (self.when(), self.tokens(0.5, 5.0));
        self.disturb(at, lasts, Trouble::LoseAbove(bytes), Kind::Any);
    }

    fn duplication(&mut self) {
        for _ in 0..self.times(2) {
            let share = self.percent(&[1.0, 10.0, 50.0]);
            let within = if self.one_in(4) { self.ms(1000, 10_000) } else { self.ms(1, 300) };
            let (at, lasts) = (self.when(), self.tokens(2.0, 20.0));
            self.disturb(at, lasts, Trouble::Duplicate { share, within }, Kind::Any);
        }
    }

    fn reordering(&mut self) {
        let by = if self.one_in(3) { self.tokens(0.05, 0.5) } else { self.ms(1, 5) };
        let (at, lasts) = (self.when(), self.tokens(2.0, 10.0));
        let kind = *[Kind::Any, Kind::Multicast, Kind::Frame].choose(&mut self.rng).unwrap_or(&Kind::Any);
        let share = self.percent(&[20.0, 50.0, 100.0]);
        self.disturb(at, lasts, Trouble::Delay { share, by }, kind);
    }

    fn spikes(&mut self) {
        let (share, by) = (self.percent(&[0.5, 2.0, 5.0]), self.tokens(0.1, 3.0));
        let (at, lasts) = (self.when(), self.tokens(5.0, 20.0));
        self.disturb(at, lasts, Trouble::Delay { share, by }, Kind::Any);
    }

    fn partition(&mut self) -> Fault {
        let mut nodes: Vec<u32> = (1..=self.nodes).collect();
        let parts = match self.rng.random_range(0..4) {
            // A single node is cut off, perhaps the representative.
            0 => {
                let one = if self.one_in(2) { 1 } else { self.node() };
                nodes.retain(|node| *node != one);
                vec![vec![one], nodes]
            }
            1 => {
                nodes.shuffle(&mut self.rng);
                let rest = nodes.split_off(nodes.len() / 2);
                vec![nodes, rest]
            }
            2 => {
                let parts = self.rng.random_range(1..=self.nodes);
                let mut split = vec![Vec::new(); parts as usize];
                for node in nodes {
                    split[self.rng.random_range(0..parts) as usize].push(node);
                }
                split.retain(|part| !part.is_empty());
                split
            }
            _ => {
                let at = self.rng.random_range(0..nodes.len());
                let rest = nodes.split_off(at);
                vec![nodes, rest]
            }
        };
        Fault::Partition(parts.into_iter().filter(|part| !part.is_empty()).collect())
    }

    fn partitions(&mut self) {
        let mut at = self.when();
        for _ in 0..self.times(5) {
            let partition = self.partition();
            self.at(at, partition);
            at += self.tokens(0.1, 8.0);
            // Some partitions change directly from one to another.
            if !self.one_in(4) {
                self.at(at, Fault::Heal);
                at += self.tokens(0.1, 8.0);
            }
        }
        self.at(at, Fault::Heal);
    }

    fn one_way_cuts(&mut self) {
        for _ in 0..self.times(3) {
            let Some((from, to)) = self.two() else { return };
            let at = self.when();
            self.at(at, Fault::CutOneWay { from, to });
            let at = at + self.tokens(0.2, 8.0);
            self.at(at, Fault::Mend(from, to));
        }
    }

    /// Cuts links between pairs of nodes. Reachability is not transitive then: a bridge, a star, or
    /// a random graph.
    fn cuts_of_two(&mut self) {
        let at = self.when();
        let until = at + self.tokens(0.5, 10.0);
        for _ in 0..self.times(self.nodes) {
            if let Some((a, b)) = self.two() {
                self.at(at, Fault::Cut(a, b));
                self.at(until, Fault::Mend(a, b));
            }
        }
    }

    fn flapping(&mut self) {
        let Some((a, b)) = self.two() else { return };
        let period = self.tokens(0.2, 3.0);
        let mut at = self.when();
        for _ in 0..self.times(8) {
            self.at(at, Fault::Cut(a, b));
            self.at(at + period / 2, Fault::Mend(a, b));
            at += period;
        }
    }

    /// Cuts links one by one, and mends them in another order.
    fn swizzle(&mut self) {
        let mut links: Vec<(u32, u32)> = (0..self.times(8)).filter_map(|_| self.two()).collect();
        let mut at = self.when();
        for &(a, b) in &links {
            self.at(at, Fault::Cut(a, b));
            at += self.tokens(0.05, 1.0);
        }
        links.shuffle(&mut self.rng);
        for (a, b) in links {
            self.at(at, Fault::Mend(a, b));
            at += self.tokens(0.05, 1.0);
        }
    }

    fn restart_later(&mut self, node: u32, at: Duration) {
        if self.one_in(8) {
            return;
        }
        let pause = match self.rng.random_range(0..3) {
            0 => Duration::from_micros(1),
            1 => self.tokens(0.05, 1.0),
            _ => self.tokens(1.0, 8.0),
        };
        self.at(at + pause, Fault::Restart(node));
    }

    fn crashes(&mut self) {
        for _ in 0..self.times(4) {
            let (node, at) = (self.node(), self.when());
            self.at(at, Fault::Crash(node));
            self.restart_later(node, at);
        }
    }

    fn lost_records(&mut self) {
        let (node, at) = (self.node(), self.when());
        self.at(at, Fault::Crash(node));
        self.at(at + Duration::from_micros(1), Fault::LoseRecord(node));
        let at = at + self.tokens(0.05, 4.0);
        self.at(at, Fault::Restart(node));
    }

    fn point(&mut self) -> Point {
        let kinds = [Kind::Token, Kind::Frame, Kind::Join, Kind::Commit];
        let kind = *kinds.choose(&mut self.rng).unwrap_or(&Kind::Token);
        let phases = [Phase::Gather, Phase::Commit, Phase::Recovery, Phase::Operational];
        match self.rng.random_range(0..6) {
            0 => Point::Sends(kind),
            1 => Point::HasSent(kind),
            2 => Point::Stores,
            3 => Point::HasStored,
            _ => Point::Enters(*phases.choose(&mut self.rng).unwrap_or(&Phase::Recovery)),
        }
    }

    fn crashes_at_points(&mut self) {
        for _ in 0..self.times(3) {
            let (node, at, point) = (self.node(), self.when(), self.point());
            self.at(at, Fault::When { node, point, then: Box::new(Fault::Crash(node)) });
            let at = at + self.tokens(0.5, 6.0);
            self.at(at, Fault::Restart(node));
        }
    }

    /// Draws faults that happen while a ring is being formed because of a fault.
    fn nested_changes(&mut self) {
        let at = self.when();
        for n in 0..self.times(6) {
            let node = self.node();
            let phases = [Phase::Commit, Phase::Recovery, Phase::Recovery, Phase::Operational];
            let point = Point::Enters(*phases.choose(&mut self.rng).unwrap_or(&Phase::Recovery));
            let then = match self.rng.random_range(0..5) {
                0 => Fault::Crash(node),
                1 => Fault::Heal,
                2 => Fault::Catch { kind: Kind::Token, after: self.rng.random_range(0..8), fate: Fate::Lost },
                3 => Fault::Restart(self.node()),
                _ => self.partition(),
            };
            let crashed = matches!(then, Fault::Crash(_));
            self.at(at + Duration::from_micros(n.into()), Fault::When { node, point, then: Box::new(then) });
            if crashed {
                let at = at + self.tokens(1.0, 8.0);
                self.at(at, Fault::Restart(node));
            }
        }
        // A first fault has to trigger the others.
        let first = if self.one_in(2) { self.partition() } else { Fault::Restart(self.node()) };
        self.at(at + Duration::from_micros(10), first);
        let at = at + self.tokens(5.0, 15.0);
        self.at(at, Fault::Heal);
    }

    fn leaves(&mut self) {
        let at = self.when();
        for _ in 0..self.times(2) {
            let node = self.node();
            self.at(at, Fault::Leave(node));
            let at = at + self.tokens(0.1, 6.0);
            if !self.one_in(4) {
                self.at(at, Fault::Restart(node));
            }
        }
    }

    fn hangs(&mut self) {
        for _ in 0..self.times(4) {
            let (node, at, lasts) = (self.node(), self.when(), self.tokens(0.2, 10.0));
            self.at(at, Fault::Hang { node, lasts });
        }
    }

    /// Asks nodes to give up the role. The DC is not known here, so all nodes are asked one after
    /// the other.
    fn releases(&mut self) {
        for _ in 0..self.times(3) {
            let mut at = self.when();
            for node in 1..=self.nodes {
                self.at(at, Fault::Release(node));
                at += self.tokens(0.0001, 0.1);
            }
        }
    }

    fn slow_nodes(&mut self) {
        let (node, at, lasts) = (self.node(), self.when(), self.tokens(1.0, 10.0));
        let each = Duration::from_micros(*[20, 100, 500, 2000].choose(&mut self.rng).unwrap_or(&100));
        self.at(at, Fault::Slow { node, each, lasts });
    }

    fn slow_disks(&mut self) {
        for _ in 0..self.times(3) {
            let (node, at) = (self.node(), self.when());
            let (each, lasts) = (self.tokens(0.05, 2.0), self.tokens(2.0, 10.0));
            self.at(at, Fault::SlowDisk { node, each, lasts });
        }
    }

    fn pauses(&mut self) {
        for _ in 0..self.times(3) {
            let (node, at, lasts) = (self.node(), self.when(), self.tokens(0.1, 8.0));
            self.at(at, Fault::Pause { node, lasts });
        }
    }

    fn freezes(&mut self) {
        for _ in 0..self.times(2) {
            let (node, at, lasts) = (self.node(), self.when(), self.tokens(0.1, 8.0));
            self.at(at, Fault::Freeze { node, lasts });
        }
    }

    fn drift(&mut self) {
        for node in 1..=self.nodes {
            let ppm = *[-50_000, -500, 0, 500, 50_000].choose(&mut self.rng).unwrap_or(&0);
            self.at(Duration::from_micros(1), Fault::Drift { node, ppm });
        }
    }

    fn slow_consumers(&mut self) {
        let (node, at, lasts) = (self.node(), self.when(), self.tokens(1.0, 20.0));
        self.at(at, Fault::Unread { node, lasts });
    }

    fn fate(&mut self) -> Fate {
        match self.rng.random_range(0..4) {
            0 => Fate::Late(self.tokens(0.1, 2.0)),
            1 => Fate::Twice(self.tokens(0.01, 2.0)),
            _ => Fate::Lost,
        }
    }

    fn caught_tokens(&mut self) {
        for _ in 0..self.times(5) {
            let (at, after, fate) = (self.when(), self.rng.random_range(0..30), self.fate());
            self.at(at, Fault::Catch { kind: Kind::Token, after, fate });
        }
    }

    fn caught_commit_tokens(&mut self) {
        for _ in 0..self.times(5) {
            let (at, after, fate) = (self.when(), self.rng.random_range(0..3 * self.nodes), self.fate());
            self.at(at, Fault::Catch { kind: Kind::Commit, after, fate });
        }
    }

    fn replays(&mut self) {
        for _ in 0..self.times(5) {
            let (at, count) = (self.when(), self.rng.random_range(1..60));
            self.at(at, Fault::Replay(count));
        }
    }

    fn foreigners(&mut self) {
        for _ in 0..self.times(3) {
            let (at, count) = (self.when(), self.rng.random_range(1..40));
            self.at(at, Fault::Foreign(count));
        }
    }

    /// Draws messages of no bytes, one byte, about one frame, about two, and rarely a mebibyte.
    fn bursts(&mut self) {
        for _ in 0..self.times(3) {
            let lengths = [0, 1, 1270, 1271, 1272, 1300, 1400, 1401, 2700, 5000, 60_000];
            let length = *lengths.choose(&mut self.rng).unwrap_or(&0) + self.rng.random_range(0..60) / 20;
            let count = if length > 10_000 { 1 } else { self.rng.random_range(1..150) };
            let guarantee = if self.one_in(2) { Guarantee::Safe } else { Guarantee::Agreed };
            let (node, at) = (self.node(), self.when());
            self.at(at, Fault::Send { node, count, length, guarantee });
        }
        if self.one_in(8) {
            let (node, at) = (self.node(), self.when());
            let guarantee = Guarantee::Agreed;
            self.at(at, Fault::Send { node, count: 1, length: Self::MEGABYTE, guarantee });
        }
    }

    /// The payload that makes a message of 1 MiB with the checker's mark.
    pub(super) const MEGABYTE: usize = (1 << 20) - MessageId::MARK;
    pub(super) const MOST_UNREAD: usize = 4 << 20;

    fn damage(&mut self) {
        for _ in 0..self.times(4) {
            let share = self.percent(&[0.01, 0.1, 1.0, 5.0]);
            let trouble = match self.rng.random_range(0..3) {
                0 => Trouble::Resize(share),
                _ => Trouble::Flip { share, bits: self.rng.random_range(1..=8) },
            };
            let (at, lasts) = (self.when(), self.tokens(2.0, 20.0));
            self.disturb(at, lasts, trouble, Kind::Any);
        }
        if self.one_in(2) {
            self.partitions();
        }
        if self.one_in(2) {
            self.crashes();
        }
    }
}
