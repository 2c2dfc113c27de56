//! Liveness: once nothing goes wrong any more, the cluster has to recover in the time that the
//! timeouts promise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_election::{Inquorate, Lease, Vacancy};
use quorate_membership::{NodeId, Phase, RingId, Totem};

use super::host::{Host, Living};
use super::network::Network;
use super::{Micros, micros};
use crate::fault::Forged;
use crate::invariants::Violation;
use crate::{Electorate, Fault, Scenario};

/// The goals after the beginning of the calm.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Reached {
    /// One ring of all nodes that are up (L1).
    pub ring: Goal,
    /// Quorum, and a DC that all nodes agree on and that may act (L5).
    pub dc: Goal,
    /// Every accepted message delivered at every member (L4).
    pub delivered: Goal,
}

/// A goal that has to be reached in time.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Goal {
    /// The time allowed. If datagrams are lost all the time, three times as long is allowed, and in
    /// exceptional cases ten times as long (L6). If more than eight nodes have long been calling
    /// each other failed, the time of two more rings is allowed.
    pub bound: Duration,
    /// The time it took. `None`: the goal was not reached.
    pub took: Option<Duration>,
}

impl Goal {
    fn within(bound: Micros) -> Self {
        Self { bound: Duration::from_micros(bound), took: None }
    }

    /// Records the time if the goal is reached now.
    fn look(&mut self, since: Micros, now: Micros, reached: bool) {
        if reached && self.took.is_none() {
            self.took = Some(Duration::from_micros(now - since));
        }
    }
}

/// The check after the beginning of the calm.
pub(super) struct Liveness {
    since: Micros,
    /// The nodes that were up at that time and had not left. All of them can reach each other.
    core: BTreeSet<NodeId>,
    /// The number of nodes, if exactly a majority of them is quorate.
    cluster: Option<usize>,
    /// Whether none of the nodes that were up may be DC.
    vacant: bool,
    ring: Option<RingId>,
    pub(super) reached: Reached,
    /// The time at which all goals were reached. They then have to last for `echo` and `patience`.
    settled_at: Option<Micros>,
    /// Whether only the ring counts. If bytes were changed, any message may have been sent.
    damaged: bool,
    /// Whether datagrams are lost all the time.
    lossy: bool,
    /// The time that goals may take beyond their bounds.
    grace: Micros,
    /// The time for which a quiet ring is watched.
    patience: Micros,
    /// The time during which the last frames may still be sent again.
    echo: Micros,
    quiet: Option<Counters>,
    /// The check for clusters with permanent cuts. It requires only that the other nodes make
    /// progress (L7).
    apart: Option<Apart>,
    /// The time at which a member left after all goals were reached.
    left_at: Option<Micros>,
    /// The time that the others may take to form a ring without that member (L3).
    leave_takes: Micros,
}

/// Counters that do not change in a stable ring without work (L2).
#[derive(Clone, PartialEq, Eq, Debug)]
struct Counters(Vec<(NodeId, u64, u64)>);

impl Counters {
    /// Returns each node's counts of gatherings and of frames sent again.
    fn of(core: &[&Living]) -> Self {
        let one = |living: &&Living| {
            let stats = living.member.totem().stats();
            (living.life.node, stats.gathers, stats.retransmits)
        };
        Self(core.iter().map(one).collect())
    }
}

/// A cluster in which some links are cut for good, in at least one direction, but most nodes reach
/// each other.
struct Apart {
    /// The number of live nodes that counts as most of them.
    most: usize,
    from: Micros,
    until: Micros,
    /// Whether most nodes were in one stable ring at the last look.
    together: bool,
    /// The time of the last look.
    looked_at: Micros,
    /// The time since `from` during which most nodes were in one stable ring.
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

/// The engine's next step after a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Continue, because something is still to come.
    GoOn,
    /// Everything that had to be reached has been reached, and lasted. A member may leave, to test
    /// how the others handle it.
    Settled(Option<NodeId>),
    /// End the run, because nothing is left to check.
    Over,
}

/// The largest lead of an implausible ring number that members follow.
const LEAD: u64 = 1 << 12;

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
        // For each old ring, the frames that may have to be recovered and the number of nodes. Also
        // the frames that messages which are still to be sent may take.
        let mut old: BTreeMap<RingId, (u64, u32)> = BTreeMap::new();
        let (mut queued, mut longest) = (0, 0);
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
        }
        let (token, merge) = (micros(totem.token), micros(totem.merge));
        let join = micros(totem.join) + micros(totem.send_join);
        let disk = 2 * micros(scenario.world.disk);
        let recovery: u64 = old.values().map(|&(held, nodes)| held.div_ceil(frames(nodes))).sum();
        let form = merge + micros(totem.consensus) + token + join + disk + (7 + recovery) * rotation;
        // With `allow_downscale`, a leaving node announces first that it is no longer expected. A
        // DC hands over before it leaves. Both are ordered messages.
        let farewell = match scenario.electorate.quorum.allow_downscale {
            true => 2 * rotation + micros(totem.hold),
            false => 0,
        };
        // Members that have not received a number far above theirs refuse the first commit token
        // that carries it. It was forged, or is that of a node whose record was lost.
        let unheard = scenario.timeline.iter().any(|(_, fault)| {
            matches!(
                fault,
                Fault::Forge { says: Forged::JoinNumber | Forged::CommitNumber, .. } | Fault::LoseRecord(_)
            )
        });
        let refused = if unheard { token } else { 0 };
        let leave_takes =
            farewell + merge + 4 * join + refused + disk + 12 * rotation + 2 * micros(totem.hold);
        // A damaged token may have requested frames that no member has. The ring tolerates that
        // until its patience ends.
        let stuck = match scenario.is_damaged() {
            true => u64::from(totem.fail_recv_const) * (rotation + micros(totem.hold)),
            false => 0,
        };
        let formed = token + 3 * form + stuck;
        // Many nodes that have long been calling each other failed may need more rings until all
        // agree (seeds 60077 and 80591).
        let lives = hosts.iter().filter_map(|host| host.living.as_ref());
        let accusations: BTreeSet<_> =
            lives.filter_map(|living| living.member.totem().snapshot().failed).collect();
        let grace = if core.len() > 8 && accusations.len() > 2 { 2 * form } else { 0 };
        // Nodes that were left out of rings may be left out once more, and have to wait then.
        let wait =
            |living: &Living| living.member.totem().longest_wait(living.show(now), living.show(now + formed));
        let waits = hosts.iter().filter_map(|host| host.living.as_ref()).map(wait);
        let ring = formed + micros(waits.max().unwrap_or_default());
        // The wait for other leases comes first. The new lease is proven once the token has
        // completed two more rotations, held or not.
        let acts = micros(scenario.lease_wait()) + micros(scenario.dc().deadtime) + 4 * rotation;
        let dc = ring + 3 * rotation + acts + 4 * micros(totem.hold);
        let delivered = ring
            + 3 * rotation
            + 2 * micros(totem.hold)
            + (queued.div_ceil(frames(core.len() as u32)).max(longest.div_ceil(frames(1))) + 4) * rotation;
        let up: Vec<usize> = core.iter().map(|node| node.get() as usize - 1).collect();
        // An even number of nodes may split into two halves without each other.
        let most = up.len().div_ceil(2);
        // A node whose number is far above the plausible ones is not followed, so it stays alone.
        let numbers = || {
            let lives = hosts.iter().filter_map(|host| host.living.as_ref());
            lives.map(|living| living.member.totem().snapshot().attempted)
        };
        let followed = numbers().min().unwrap_or(0).max(Totem::MAX_RING_SEQ / 2) + LEAD;
        let ahead = numbers().filter(|number| *number > followed).count();
        let alone = (ahead > 0).then(|| up.len().saturating_sub(ahead));
        let apart = network.apart(&up).or(alone).map(|together| {
            // By then, the waits of nodes that were left out have grown.
            let from = now + token + 2 * form + 40 * micros(totem.consensus);
            Apart {
                // If no majority can be together, nothing is required.
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
            grace,
            patience: token + 2 * merge,
            echo: 2 * (rotation + micros(totem.hold)),
            quiet: None,
            apart,
            left_at: None,
            leave_takes,
        }
    }

    /// Checks whether the nodes that reach each other have been in one ring for half of the time
    /// (L7).
    ///
    /// # Errors
    /// If they have not when the time is over.
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
            "{} of {} nodes were in one ring for only {good:?} of {of:?}, though they always could be; {}",
            apart.most,
            self.core.len(),
            describe(hosts)
        );
        Some(Err(Violation { property: "L7", at: Duration::from_micros(now), what }))
    }

    fn is_late(&self, goal: &Goal, now: Micros) -> bool {
        let bound = micros(goal.bound);
        let bound = if self.lossy { bound * 10 / 3 } else { bound };
        goal.took.is_none() && now - self.since > bound + self.grace
    }

    /// Checks whether all is well and has been for a while.
    ///
    /// # Errors
    /// If it should be by now and is not, or no longer is.
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
                "{what} {:?} after the trouble ended; {}",
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
            // The token may have been lost before the calm without any node noticing yet. If
            // datagrams are lost all the time, a ring is also lost now and then, when a token and
            // all its copies are. Goals that were reached still count.
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
        if self.is_late(&self.reached.ring, now) {
            return wrong("L1", format!("no ring of {:?}", self.core));
        }
        if self.damaged {
            return Ok(if self.reached.ring.took.is_some() { Next::Over } else { Next::GoOn });
        }
        if self.is_late(&self.reached.dc, now) {
            return wrong("L5", format!("no agreed DC of {:?}", self.core));
        }
        if self.is_late(&self.reached.delivered, now) {
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
            return wrong("L2", format!("a settled ring is not quiet: {counters:?} after {quiet:?},"));
        }
        if now < settled_at + self.echo + self.patience {
            return Ok(Next::GoOn);
        }
        let leaver = self.core.iter().nth(now as usize % self.core.len()).copied();
        Ok(Next::Settled(leaver.filter(|_| self.core.len() > 1)))
    }

    /// Records that a member leaves now.
    pub(super) fn leaves(&mut self, now: Micros, node: NodeId) {
        self.core.remove(&node);
        self.left_at = Some(now);
    }

    /// Returns the ring of exactly these nodes, if they are in one.
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
        // If too many records were lost, a majority is not enough, and more nodes have to be
        // present.
        let forgotten = matches!(first.inquorate, Some(Inquorate::RecordsLost(_)));
        let quorate =
            self.cluster.map_or(first.quorate, |cluster| self.core.len() > cluster / 2 && !forgotten);
        let vacant = match first.vacant {
            Some(Vacancy::RecordsLost(_)) => true,
            Some(Vacancy::NoCandidate) => self.vacant,
            // Without quorum, no node reports the reason.
            None => self.vacant && !first.quorate,
            Some(_) => false,
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

/// Returns `true` if all nodes have delivered everything.
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

/// Describes the state of all nodes.
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
