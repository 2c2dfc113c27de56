//! Whether, once nothing goes wrong any more, all is well in the time that the timeouts promise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_election::{Inquorate, Lease, Vacancy};
use quorate_membership::{NodeId, Phase, RingId};

use super::host::{Host, Living};
use super::network::Network;
use super::{Micros, micros};
use crate::fault::Forged;
use crate::invariants::Violation;
use crate::{Electorate, Fault, Scenario};

/// How long it took after the calm began, and how long it may take at most.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Reached {
    /// One ring of all that are up (L1).
    pub ring: Goal,
    /// Quorum and a DC, the same for all, which may act (L5).
    pub dc: Goal,
    /// Every accepted message delivered at every member (L4).
    pub delivered: Goal,
}

/// Something that has to be reached in time.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Goal {
    /// How long it may take. Where datagrams are lost all the time, three times as long; but then it may exceptionally take
    /// ten times as long (L6).
    pub bound: Duration,
    /// How long it took; `None`: it never was.
    pub took: Option<Duration>,
}

impl Goal {
    fn within(bound: Micros) -> Self {
        Self { bound: Duration::from_micros(bound), took: None }
    }

    /// Takes note of whether it is reached now.
    fn look(&mut self, since: Micros, now: Micros, reached: bool) {
        if reached && self.took.is_none() {
            self.took = Some(Duration::from_micros(now - since));
        }
    }

    fn is_late(&self, since: Micros, now: Micros, lossy: bool) -> bool {
        let bound = micros(self.bound);
        self.took.is_none() && now - since > if lossy { bound * 10 / 3 } else { bound }
    }
}

/// The time after the calm began.
pub(super) struct Liveness {
    since: Micros,
    /// Who was up then and had not left: all of them can hear each other.
    core: BTreeSet<NodeId>,
    /// All nodes, if a majority of them is quorate and nothing else.
    cluster: Option<usize>,
    /// None of those who were up may be DC.
    vacant: bool,
    ring: Option<RingId>,
    pub(super) reached: Reached,
    /// When all was reached, and how long it then has to stay so.
    settled_at: Option<Micros>,
    /// Only the ring counts: bytes were changed, so anything may have been said.
    damaged: bool,
    /// Datagrams are lost all the time.
    lossy: bool,
    /// How long a ring is looked at that is quiet.
    patience: Micros,
    /// How long the last frames may still be sent again.
    echo: Micros,
    quiet: Option<Counters>,
    /// Where some do not hear each other for good, all that counts is that the others get on (L7).
    apart: Option<Apart>,
    /// When a member left then, and how long the others may take to form a ring without it (L3).
    left_at: Option<Micros>,
    leave_takes: Micros,
}

/// What does not change in a ring that stands and has nothing to do (L2).
#[derive(Clone, PartialEq, Eq, Debug)]
struct Counters(Vec<(NodeId, u64, u64)>);

impl Counters {
    /// Gatherings and frames sent again, of each.
    fn of(core: &[&Living]) -> Self {
        let one = |living: &&Living| {
            let stats = living.member.totem().stats();
            (living.life.node, stats.gathers, stats.retransmits)
        };
        Self(core.iter().map(one).collect())
    }
}

/// A cluster in which some links are cut for good, at least one way, but most nodes hear each other.
struct Apart {
    /// How many of those that are up are most.
    most: usize,
    from: Micros,
    until: Micros,
    /// Whether most were in one ring that stood when that was looked at last, when that was, and for how long since `from`.
    together: bool,
    looked_at: Micros,
    good: Micros,
}

impl Apart {
    fn look(&mut self, now: Micros, core: &[&Living]) {
        if self.together && now > self.from {
            self.good += now - self.looked_at.max(self.from);
        }
        self.looked_at = now;
        let mut rings: BTreeMap<RingId, usize> = BTreeMap::new();
        for snapshot in core.iter().map(|living| living.member.totem().snapshot()) {
            if snapshot.phase == Phase::Operational {
                *rings.entry(snapshot.ring.id).or_default() += 1;
            }
        }
        self.together = rings.values().any(|members| *members >= self.most);
    }
}

/// What the engine is to do after a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Go on: something is still to come.
    GoOn,
    /// All that had to come has come, and stayed. A member may leave, to see how the others take it.
    Settled(Option<NodeId>),
    /// Nothing more is to be seen.
    Over,
}

impl Liveness {
    pub(super) fn begin(now: Micros, hosts: &[Host], network: &Network, scenario: &Scenario) -> Self {
        let stays = |living: &Living| !living.leaves && phase(living) != Phase::Left;
        let up = |host: &&Host| host.living.as_ref().is_some_and(stays);
        let core: BTreeSet<NodeId> = hosts.iter().filter(up).map(|host| host.id).collect();
        let totem = &scenario.totem;
        let n = core.len() as u64;
        let hop = micros(scenario.world.latency) + 20;
        let rotation = n * hop;
        let frames =
            |nodes: u32| u64::from(totem.window_size.min(totem.max_messages.saturating_mul(nodes))).max(1);
        let capacity = u64::from(totem.netmtu).saturating_sub(100).max(1);
        // Frames that may have to be recovered of each old ring, by how many nodes, and frames that messages still to be sent
        // may take.
        let mut old: BTreeMap<RingId, (u64, u32)> = BTreeMap::new();
        let (mut queued, mut longest) = (0, 0);
        // Nodes that rings were formed without may have to wait until they are let in.
        let mut outcast = 0;
        for living in hosts.iter().filter_map(|host| host.living.as_ref()) {
            let snapshot = living.member.totem().snapshot();
            let (held, nodes) = old.entry(snapshot.ring.id).or_default();
            *held += u64::from(snapshot.ring.released.distance_to(snapshot.ring.high));
            *nodes += 1;
            let bytes = snapshot.queued as u64;
            let waiting: u64 = living.waiting.iter().map(|(_, length)| *length as u64 / capacity + 1).sum();
            let here = bytes / 300 + bytes / capacity + 1 + waiting;
            queued += here;
            longest = here.max(longest);
            outcast = micros(snapshot.longest_wait).max(outcast);
        }
        let (token, merge) = (micros(totem.token), micros(totem.merge));
        let join = micros(totem.join) + micros(totem.send_join);
        let disk = 2 * micros(scenario.world.disk);
        let recovery: u64 = old.values().map(|&(held, nodes)| held.div_ceil(frames(nodes))).sum();
        let form = merge + micros(totem.consensus) + token + join + disk + (7 + recovery) * rotation;
        // Who is no longer expected when it leaves says so first, and a DC hands over before it leaves, both in the order.
        let farewell = match scenario.electorate.quorum.allow_downscale {
            true => 2 * rotation + micros(totem.hold),
            false => 0,
        };
        // Members that have not heard a forged number refuse the first commit token that has it.
        let forged = scenario.timeline.iter().any(|(_, fault)| {
            matches!(fault, Fault::Forge { says: Forged::JoinNumber | Forged::CommitNumber, .. })
        });
        let refused = if forged { token } else { 0 };
        let leave_takes =
            farewell + merge + 4 * join + refused + disk + 12 * rotation + 2 * micros(totem.hold);
        // A damaged token may have asked for frames that nobody has: a ring lives with that for as long as it is patient.
        let stuck = match scenario.is_damaged() {
            true => u64::from(totem.fail_recv_const) * (rotation + micros(totem.hold)),
            false => 0,
        };
        let ring = token + 3 * form + stuck + outcast;
        // It is proven to be leased once the token has gone round twice more, held or not, after its wait for others.
        let acts = micros(scenario.lease_wait()) + micros(scenario.dc().deadtime) + 4 * rotation;
        let dc = ring + 3 * rotation + acts + 4 * micros(totem.hold);
        let delivered = ring
            + 3 * rotation
            + 2 * micros(totem.hold)
            + (queued.div_ceil(frames(core.len() as u32)).max(longest.div_ceil(frames(1))) + 4) * rotation;
        let up: Vec<usize> = core.iter().map(|node| node.get() as usize - 1).collect();
        // Of an even number, two halves may go on without each other.
        let most = up.len().div_ceil(2);
        let apart = network.apart(&up).map(|together| {
            // The waits of those that are left out have grown by then.
            let from = now + token + 2 * form + 40 * micros(totem.consensus);
            Apart {
                // If no majority can be together, there is nothing to demand.
                most: if together >= most { most } else { 1 },
                from,
                until: from + 120 * micros(totem.consensus),
                together: false,
                looked_at: now,
                good: 0,
            }
        });
        let vacant = core.iter().all(|node| scenario.dc_of(*node).priority == 0);
        let lossy = scenario.world.loss > 0;
        let times = if lossy { 3 } else { 1 };
        Self {
            since: now,
            core,
            cluster: (scenario.electorate == Electorate::default()
                && !scenario.voters().refiled
                && (!scenario.world.fresh || n as usize == hosts.len()))
            .then_some(hosts.len()),
            vacant,
            ring: None,
            reached: Reached {
                ring: Goal::within(times * ring),
                dc: Goal::within(times * dc),
                delivered: Goal::within(times * delivered),
            },
            settled_at: None,
            damaged: scenario.is_damaged(),
            lossy,
            patience: token + 2 * merge,
            echo: 2 * (rotation + micros(totem.hold)),
            quiet: None,
            apart,
            left_at: None,
            leave_takes,
        }
    }

    /// Whether those who hear each other have been in a ring for half of the time (L7).
    ///
    /// # Errors
    /// If not, when the time is over.
    fn look_apart(&mut self, now: Micros, hosts: &[Host]) -> Option<Result<Next, Violation>> {
        let apart = self.apart.as_mut()?;
        let core: Vec<&Living> = hosts
            .iter()
            .filter(|host| self.core.contains(&host.id))
            .filter_map(|host| host.living.as_ref())
            .collect();
        apart.look(now, &core);
        if now < apart.until {
            return Some(Ok(Next::GoOn));
        }
        let (good, of) = (apart.good, now - apart.from);
        if 2 * good >= of || self.damaged {
            return Some(Ok(Next::Over));
        }
        let [good, of] = [good, of].map(Duration::from_micros);
        let what = format!(
            "{} of {} nodes were in one ring for {good:?} of {of:?} only, and could always be; {}",
            apart.most,
            self.core.len(),
            describe(hosts)
        );
        Some(Err(Violation { property: "L7", at: Duration::from_micros(now), what }))
    }

    /// Whether all is well and has been for a while.
    ///
    /// # Errors
    /// If it should have been by now, or was and is no more.
    pub(super) fn look(&mut self, now: Micros, hosts: &[Host]) -> Result<Next, Violation> {
        if self.core.is_empty() {
            return Ok(Next::Over);
        }
        if let Some(next) = self.look_apart(now, hosts) {
            return next;
        }
        let core: Vec<&Living> = hosts
            .iter()
            .filter(|host| self.core.contains(&host.id))
            .filter_map(|host| host.living.as_ref())
            .collect();
        let ring = self.one_ring(&core);
        let wrong = |property, what: String| {
            let what = format!(
                "{what} {:?} after all was well; {}",
                Duration::from_micros(now - self.since),
                describe(hosts)
            );
            Err(Violation { property, at: Duration::from_micros(now), what })
        };
        if let Some(left_at) = self.left_at {
            if ring.is_none() && now - left_at > self.leave_takes {
                let took = Duration::from_micros(now - left_at);
                return wrong("L3", format!("no ring of {:?} {took:?} after a member left,", self.core));
            }
            return Ok(if ring.is_some() { Next::Over } else { Next::GoOn });
        }
        if let Some(before) = self.ring
            && ring != Some(before)
            && !self.lossy
        {
            // It may have been lost before the calm, and nobody had noticed yet. (Where datagrams are lost all the time, so
            // are rings, seldom: when a token and all its copies are. What was reached counts.)
            if now - self.since > micros(self.reached.ring.bound) {
                return wrong("L1", format!("ring {before} of {:?} did not last, and is gone", self.core));
            }
            let Reached { ring, dc, delivered } = &mut self.reached;
            [ring, dc, delivered].into_iter().for_each(|goal| goal.took = None);
            self.settled_at = None;
            self.quiet = None;
        }
        self.ring = ring;
        let (since, dc, delivered) = (self.since, self.one_dc(&core), delivered(&core));
        let Reached { ring: of_ring, dc: of_dc, delivered: of_messages } = &mut self.reached;
        of_ring.look(since, now, ring.is_some());
        of_dc.look(since, now, ring.is_some() && dc);
        of_messages.look(since, now, ring.is_some() && delivered);
        if self.reached.ring.is_late(since, now, self.lossy) {
            return wrong("L1", format!("no ring of {:?}", self.core));
        }
        if self.damaged {
            return Ok(if self.reached.ring.took.is_some() { Next::Over } else { Next::GoOn });
        }
        if self.reached.dc.is_late(since, now, self.lossy) {
            return wrong("L5", format!("no agreed DC of {:?}", self.core));
        }
        if self.reached.delivered.is_late(since, now, self.lossy) {
            return wrong("L4", "not all messages are delivered everywhere".to_owned());
        }
        if self.reached.dc.took.is_none() || self.reached.delivered.took.is_none() {
            return Ok(Next::GoOn);
        }
        if self.lossy {
            return Ok(Next::Over);
        }
        let settled_at = *self.settled_at.get_or_insert(now);
        if now < settled_at + self.echo {
            return Ok(Next::GoOn);
        }
        let counters = Counters::of(&core);
        let quiet = self.quiet.get_or_insert_with(|| counters.clone());
        if *quiet != counters {
            return wrong("L2", format!("a ring that stands is not quiet: {counters:?} after {quiet:?},"));
        }
        if now < settled_at + self.echo + self.patience {
            return Ok(Next::GoOn);
        }
        let leaver = self.core.iter().nth(now as usize % self.core.len()).copied();
        Ok(Next::Settled(leaver.filter(|_| self.core.len() > 1)))
    }

    /// A member leaves now.
    pub(super) fn leaves(&mut self, now: Micros, node: NodeId) {
        self.core.remove(&node);
        self.left_at = Some(now);
    }

    /// The ring of exactly these, if they are in one.
    fn one_ring(&self, core: &[&Living]) -> Option<RingId> {
        let first = core.first()?.member.totem().snapshot().ring.id;
        let all = core.len() == self.core.len()
            && core.iter().all(|living| {
                let snapshot = living.member.totem().snapshot();
                snapshot.phase == Phase::Operational
                    && snapshot.ring.id == first
                    && *snapshot.ring.members == self.core
            });
        all.then_some(first)
    }

    fn one_dc(&self, core: &[&Living]) -> bool {
        let Some(first) = core.first().and_then(|living| living.status.as_ref()) else { return false };
        // Where too many records were lost, a majority is not enough: more nodes have to be there.
        let forgotten = matches!(first.inquorate, Some(Inquorate::RecordsLost(_)));
        let quorate =
            self.cluster.map_or(first.quorate, |cluster| self.core.len() > cluster / 2 && !forgotten);
        let vacant = match first.vacant {
            Some(Vacancy::RecordsLost(_)) => true,
            Some(Vacancy::NoCandidate) => self.vacant,
            // Without quorum nobody says why.
            None => self.vacant && !first.quorate,
            Some(Vacancy::Starting { .. }) => false,
        };
        core.iter().all(|living| {
            living.status.as_ref().is_some_and(|status| {
                let named = (status.ring, status.dc, status.term, &status.vacant);
                let acts = quorate && status.dc == Some(living.life.node);
                status.settled
                    && named == (self.ring, first.dc, first.term, &first.vacant)
                    && (status.dc.is_some() || vacant)
                    && (status.quorate, status.term.is_some()) == (quorate, quorate && !vacant)
                    && (status.lease == Lease::Held) == acts
            })
        })
    }
}

fn phase(living: &Living) -> Phase {
    living.member.totem().snapshot().phase
}

/// Whether everybody has everything.
fn delivered(core: &[&Living]) -> bool {
    let Some(first) = core.first() else { return true };
    let up_to = first.member.totem().snapshot().ring.delivered;
    core.iter().all(|living| {
        let snapshot = living.member.totem().snapshot();
        living.waiting.is_empty()
            && living.delivered == living.accepted
            && snapshot.queued == 0
            && snapshot.ring.high == up_to
            && snapshot.ring.delivered == up_to
    })
}

/// Where everybody is.
fn describe(hosts: &[Host]) -> String {
    let one = |host: &Host| {
        let Some(living) = &host.living else { return format!("{} down", host.id) };
        let snapshot = living.member.totem().snapshot();
        let ring = snapshot.ring;
        format!(
            "{} {} {} {:?} seq {}/{}/{} own {}/{} queued {}",
            host.id,
            snapshot.phase,
            ring.id,
            ring.members,
            ring.delivered,
            ring.aru,
            ring.high,
            living.delivered,
            living.accepted,
            snapshot.queued
        )
    };
    hosts.iter().map(one).collect::<Vec<_>>().join("; ")
}
