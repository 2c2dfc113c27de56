//! The leaders of a ring: who stands for which name, and who leads.
//!
//! The table is a fold over messages in the ring's order, so it is the same at every member. It
//! says which member leads for a name, but not whether that member may act yet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::{NodeId, RingId};

use super::message::{Begins, Candidacy, Release};
use super::{Name, Preference};

/// The names of a ring, and their leaders.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) ring: RingId,
    /// The number of changes so far. A tenure is numbered by the change that began it.
    changes: u32,
    /// The nodes that take part.
    members: BTreeSet<NodeId>,
    /// What each node stands for, by its last message in this ring.
    stands: BTreeMap<NodeId, BTreeMap<Name, Preference>>,
    holders: BTreeMap<Name, Holder>,
    /// The names whose holders have to give them up, and the nodes that get them next.
    moving: BTreeMap<Name, NodeId>,
    /// The names without a leader whose last one has vanished in this ring. The next leader waits
    /// for that one's lease. For other names, it waits only for the leases of earlier rings.
    vanished: BTreeSet<Name>,
}

/// The node that leads for a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Holder {
    pub(super) node: NodeId,
    /// The change that began the tenure.
    pub(super) place: u32,
    pub(super) begins: Begins,
}

impl Table {
    pub(super) fn new(ring: RingId, members: BTreeSet<NodeId>) -> Self {
        Self {
            ring,
            changes: 0,
            members,
            stands: BTreeMap::new(),
            holders: BTreeMap::new(),
            moving: BTreeMap::new(),
            vanished: BTreeSet::new(),
        }
    }

    /// Records what a node stands for and, from its first message, the names that it continues to
    /// lead for. The claims in a first message are trusted, because a member knows whether another
    /// one can have led since.
    pub(super) fn hear(&mut self, from: NodeId, candidacies: &[Candidacy], leads: &[String]) {
        self.count();
        let names: BTreeMap<Name, Preference> =
            candidacies.iter().map(|said| (Name::from(said.name.as_str()), said.into())).collect();
        let held = leads.iter().filter_map(|name| names.get_key_value(name.as_str()));
        let held: Vec<Name> = held.map(|(name, _)| Name::clone(name)).collect();
        if self.stands.insert(from, names).is_none() && !self.is_over() {
            let holder = Holder { node: from, place: self.changes, begins: Begins::WithRing };
            for name in held {
                self.holders.entry(name).or_insert(holder);
            }
        }
        self.fill();
    }

    /// Records that a node has given up names.
    pub(super) fn release(&mut self, from: NodeId, released: &[Release]) {
        self.count();
        for Release { name, place, begins } in released {
            let name: &str = name;
            if self.holders.get(name).is_none_or(|held| held.node != from || held.place != *place) {
                continue;
            }
            let Some((name, _)) = self.holders.remove_entry(name) else { continue };
            let next = self.moving.remove(&name).filter(|&next| self.stand(next, &name).is_some());
            let next = next.filter(|_| !self.is_over());
            match next {
                Some(node) => {
                    let holder = Holder { node, place: self.changes, begins: *begins };
                    self.holders.insert(name, holder);
                }
                None if *begins == Begins::AfterLease => drop(self.vanished.insert(name)),
                None => {}
            }
        }
        self.fill();
    }

    /// Records the nodes that take part now. A node that no longer takes part has vanished, and its
    /// names have lost their leader.
    pub(super) fn set_members(&mut self, members: BTreeSet<NodeId>) {
        self.count();
        self.holders.retain(|name, holder| {
            let stays = members.contains(&holder.node);
            if !stays {
                self.moving.remove(name);
                self.vanished.insert(Name::clone(name));
            }
            stays
        });
        self.stands.retain(|node, _| members.contains(node));
        self.members = members;
        self.fill();
    }

    fn count(&mut self) {
        self.changes = self.changes.saturating_add(1);
    }

    /// Returns `true` if no tenure can begin in this ring any more, because terms would not rise.
    fn is_over(&self) -> bool {
        self.changes == u32::MAX
    }

    /// Gives each name without a leader to the best candidate, once all members have spoken, and
    /// plans which names move to other members.
    fn fill(&mut self) {
        if self.is_over() || !self.members.iter().all(|node| self.stands.contains_key(node)) {
            return;
        }
        let names: BTreeSet<Name> = self.candidates().flat_map(|(_, names)| names.keys()).cloned().collect();
        let mut loads = self.loads();
        for name in names {
            if self.holders.contains_key(&name) {
                continue;
            }
            let Some((node, preference)) = best(&self.candidates_for(&name), &loads) else { continue };
            *loads.entry(node).or_default() += preference.load();
            let begins = if self.vanished.remove(&name) { Begins::AfterLease } else { Begins::WithRing };
            self.holders.insert(name, Holder { node, place: self.changes, begins });
        }
        self.plan(loads);
    }

    /// Plans which names move, until no further move is an improvement.
    fn plan(&mut self, mut loads: BTreeMap<NodeId, u64>) {
        let mut settled: Vec<Settled> = self.holders.iter().filter_map(|named| self.settled(named)).collect();
        while let Some((place, to, preference)) = next_move(&settled, &loads) {
            let Settled { name, leader, .. } = settled.swap_remove(place);
            *loads.entry(leader).or_default() -= self.load_of(leader, &name);
            *loads.entry(to).or_default() += preference.load();
            self.moving.insert(name, to);
        }
    }

    /// Returns a name if it may move. A name that its leader no longer stands for may not, because
    /// it is about to be released.
    fn settled(&self, (name, holder): (&Name, &Holder)) -> Option<Settled> {
        let preference = self.stand(holder.node, name).filter(|_| !self.moving.contains_key(name))?;
        let others = self.candidates_for(name).into_iter().filter(|(node, _)| *node != holder.node);
        Some(Settled { name: Name::clone(name), leader: holder.node, preference, others: others.collect() })
    }

    /// Returns the members that stand for a name and may lead, in the order of their ids.
    fn candidates_for(&self, name: &str) -> Vec<(NodeId, Preference)> {
        self.members.iter().filter_map(|&node| Some((node, self.stand(node, name)?))).collect()
    }

    /// Returns the total weight of each member's names after all planned moves.
    fn loads(&self) -> BTreeMap<NodeId, u64> {
        let mut loads = BTreeMap::new();
        for (name, holder) in &self.holders {
            let node = self.moving.get(name).copied().unwrap_or(holder.node);
            *loads.entry(node).or_default() += self.load_of(node, name);
        }
        loads
    }

    fn load_of(&self, node: NodeId, name: &str) -> u64 {
        self.stand(node, name).unwrap_or_default().load()
    }

    /// Returns a member's preference for a name that it stands for.
    fn stand(&self, node: NodeId, name: &str) -> Option<Preference> {
        let preference = self.stands.get(&node)?.get(name).copied();
        preference.filter(|preference| preference.priority > 0 && self.members.contains(&node))
    }

    fn candidates(&self) -> impl Iterator<Item = (NodeId, &BTreeMap<Name, Preference>)> {
        self.members.iter().filter_map(|node| Some((*node, self.stands.get(node)?)))
    }

    /// Returns the leader of a name.
    pub(super) fn holder(&self, name: &str) -> Option<Holder> {
        self.holders.get(name).copied()
    }

    /// Returns all names that have a leader.
    pub(super) fn holders(&self) -> impl Iterator<Item = (&Name, Holder)> {
        self.holders.iter().map(|(name, holder)| (name, *holder))
    }

    /// Returns `true` if the leader of this name has to give it up.
    pub(super) fn is_moving(&self, name: &str) -> bool {
        self.moving.contains_key(name)
    }

    /// Returns `true` if this node has spoken in this ring.
    pub(super) fn has_heard(&self, node: NodeId) -> bool {
        self.stands.contains_key(&node)
    }

    /// Returns the members that have not spoken in this ring.
    pub(super) fn silent(&self) -> BTreeSet<NodeId> {
        self.members.iter().copied().filter(|node| !self.stands.contains_key(node)).collect()
    }
}

/// A name that may move to another member. There may be thousands of names, so the candidates of
/// each are looked up once for all moves.
struct Settled {
    name: Name,
    leader: NodeId,
    /// The preference of the leader.
    preference: Preference,
    others: Vec<(NodeId, Preference)>,
}

/// Returns the index of the next name to move, the member that it moves to, and that member's
/// preference. The member is a candidate of higher priority, or one of the same priority whose load
/// with the name is still below the leader's present load.
fn next_move(settled: &[Settled], loads: &BTreeMap<NodeId, u64>) -> Option<(usize, NodeId, Preference)> {
    let load = |node: NodeId| loads.get(&node).copied().unwrap_or(0);
    let improves = |(place, named): (usize, &Settled)| {
        let (to, preference) = best(&named.others, loads)?;
        let (before, after) = (named.preference.priority, preference.priority);
        let balances = after == before && load(to) + preference.load() < load(named.leader);
        (after > before || balances).then_some((place, to, preference))
    };
    // Moves to a higher priority come first, then those from the member with the highest load.
    let moves = settled.iter().enumerate().filter_map(improves);
    moves.max_by_key(|&(place, _, preference)| {
        let named = &settled[place];
        let is_preferred = preference.priority > named.preference.priority;
        (is_preferred, load(named.leader), Reverse(&*named.name))
    })
}

/// Returns the candidate that is to lead: the one with the highest priority, then the lowest load,
/// then the lowest id.
fn best(candidates: &[(NodeId, Preference)], loads: &BTreeMap<NodeId, u64>) -> Option<(NodeId, Preference)> {
    candidates.iter().copied().max_by_key(|(node, preference)| {
        (preference.priority, Reverse(loads.get(node).copied().unwrap_or(0)), Reverse(*node))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> NodeId {
        NodeId::new(n).expect("not 0")
    }

    fn ids(nodes: impl IntoIterator<Item = u32>) -> BTreeSet<NodeId> {
        nodes.into_iter().map(id).collect()
    }

    fn table(members: u32) -> Table {
        Table::new(RingId { seq: 8, representative: id(1) }, ids(1..=members))
    }

    fn stands_for(name: &str, priority: u32, weight: u32) -> Candidacy {
        Candidacy { name: name.to_owned(), priority, weight }
    }

    fn jobs(count: u32) -> Vec<Candidacy> {
        (0..count).map(|n| stands_for(&format!("job {n}"), 1, 1)).collect()
    }

    fn counts(table: &Table) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for (_, holder) in table.holders() {
            *counts.entry(holder.node.get()).or_default() += 1;
        }
        counts
    }

    /// Makes the leaders give up all names that have to move. Returns the number of these names.
    fn move_all(table: &mut Table) -> usize {
        let moving: Vec<(Name, Holder)> = table
            .holders()
            .filter(|(name, _)| table.is_moving(name))
            .map(|(name, holder)| (Name::clone(name), holder))
            .collect();
        for (name, holder) in &moving {
            let release = Release { name: name.to_string(), place: holder.place, begins: Begins::AtOnce };
            table.release(holder.node, &[release]);
        }
        moving.len()
    }

    #[test]
    fn names_are_spread_evenly_once_all_members_have_spoken() {
        let mut table = table(3);
        for node in 1..=2 {
            table.hear(id(node), &jobs(9), &[]);
            assert_eq!(table.holders().count(), 0);
        }
        assert_eq!(table.silent(), ids([3]));
        table.hear(id(3), &jobs(9), &[]);
        assert_eq!(counts(&table), [(1, 3), (2, 3), (3, 3)].into());
        assert!(table.holders().all(|(_, holder)| holder.begins == Begins::WithRing));
    }

    #[test]
    fn a_leader_of_an_earlier_ring_continues_at_once() {
        let mut table = table(2);
        table.hear(id(2), &jobs(2), &["job 0".to_owned(), "job 1".to_owned(), "not stood for".to_owned()]);
        assert_eq!(counts(&table), [(2, 2)].into());
        // Node 1's claim comes too late. Node 1 has no load, so a name moves to it.
        table.hear(id(1), &jobs(2), &["job 0".to_owned()]);
        assert_eq!(counts(&table), [(2, 2)].into());
        assert_eq!(move_all(&mut table), 1);
        assert_eq!(counts(&table), [(1, 1), (2, 1)].into());
        assert!(table.holders().any(|(_, holder)| holder.node == id(1) && holder.begins == Begins::AtOnce));
    }

    #[test]
    fn a_new_member_gets_its_share_and_no_name_moves_twice() {
        let mut table = table(5);
        let mine = |node: u32| (0..25).map(|n| format!("job {}", n * 4 + node - 1)).collect::<Vec<_>>();
        for node in 1..=4 {
            table.hear(id(node), &jobs(100), &mine(node));
        }
        table.hear(id(5), &jobs(100), &[]);
        assert_eq!(counts(&table), [(1, 25), (2, 25), (3, 25), (4, 25)].into(), "until they are released");
        assert_eq!(move_all(&mut table), 20);
        assert_eq!(counts(&table), [(1, 20), (2, 20), (3, 20), (4, 20), (5, 20)].into());
        assert_eq!(move_all(&mut table), 0);
    }

    #[test]
    fn priority_comes_before_load_and_weight_is_balanced() {
        let mut table = table(2);
        let preferred: Vec<Candidacy> = (0..4).map(|n| stands_for(&format!("job {n}"), 2, 1)).collect();
        table.hear(id(1), &jobs(4), &[]);
        table.hear(id(2), &preferred, &[]);
        assert_eq!(counts(&table), [(2, 4)].into());

        let mut table = Table::new(table.ring, ids([1, 2]));
        let weights = [
            stands_for("heavy", 1, 3),
            stands_for("l1", 1, 1),
            stands_for("l2", 1, 1),
            stands_for("l3", 1, 1),
        ];
        table.hear(id(1), &weights, &[]);
        table.hear(id(2), &weights, &[]);
        assert_eq!(counts(&table), [(1, 1), (2, 3)].into());
    }

    #[test]
    fn a_candidate_without_priority_never_leads() {
        let mut table = table(2);
        table.hear(id(1), &[stands_for("job", 0, 1)], &[]);
        table.hear(id(2), &[], &[]);
        assert_eq!(table.holder("job"), None);
        table.hear(id(2), &[stands_for("job", 1, 1)], &[]);
        assert_eq!(table.holder("job").map(|holder| holder.node), Some(id(2)));
    }

    #[test]
    fn a_name_moves_to_a_candidate_of_higher_priority() {
        let mut table = table(2);
        table.hear(id(1), &jobs(1), &[]);
        table.hear(id(2), &[], &[]);
        let first = table.holder("job 0").expect("a leader");
        table.hear(id(2), &[stands_for("job 0", 9, 1)], &[]);
        assert!(table.is_moving("job 0") && table.holder("job 0") == Some(first));
        assert_eq!(move_all(&mut table), 1);
        let second = table.holder("job 0").expect("a leader");
        assert!(second.node == id(2) && second.place > first.place && second.begins == Begins::AtOnce);
    }

    #[test]
    fn a_vanished_members_names_wait_for_its_lease() {
        let mut table = table(2);
        table.hear(id(1), &jobs(2), &[]);
        table.hear(id(2), &jobs(2), &[]);
        table.set_members(ids([1]));
        assert_eq!(counts(&table), [(1, 2)].into());
        let begins: Vec<Begins> = table.holders().map(|(_, holder)| holder.begins).collect();
        assert!(begins.contains(&Begins::AfterLease) && begins.contains(&Begins::WithRing));
        // The wait still applies if the name is passed on before it is over.
        let (name, holder) =
            table.holders().find(|(_, holder)| holder.begins == Begins::AfterLease).expect("one");
        let release = Release { name: name.to_string(), place: holder.place, begins: holder.begins };
        table.hear(id(1), &[], &[]);
        table.release(id(1), std::slice::from_ref(&release));
        assert_eq!(table.holder(&release.name), None);
        table.hear(id(1), &jobs(2), &[]);
        assert_eq!(table.holder(&release.name).map(|holder| holder.begins), Some(Begins::AfterLease));
    }

    #[test]
    fn a_move_to_a_member_that_has_gone_ends_elsewhere() {
        let mut table = table(2);
        table.hear(id(1), &jobs(2), &["job 0".to_owned(), "job 1".to_owned()]);
        table.hear(id(2), &jobs(2), &[]);
        let moving = table.holders().find(|(name, _)| table.is_moving(name));
        let (name, holder) = moving.map(|(name, holder)| (name.to_string(), holder)).expect("one moves");
        table.set_members(ids([1]));
        table.release(id(1), &[Release { name, place: holder.place, begins: Begins::AtOnce }]);
        assert_eq!(counts(&table), [(1, 2)].into());
    }

    #[test]
    fn the_maximum_number_of_names_is_spread_evenly() {
        let mut table = table(5);
        let all = jobs(2000);
        let mine = |node: u32| -> Vec<String> {
            (0..2000).filter(|n| n % 3 + 1 == node).map(|n| format!("job {n}")).collect()
        };
        for node in 1..=3 {
            table.hear(id(node), &all, &mine(node));
        }
        for node in 4..=5 {
            table.hear(id(node), &all, &[]);
        }
        assert_eq!(move_all(&mut table), 800);
        assert_eq!(counts(&table), (1..=5).map(|node| (node, 400)).collect());
    }

    #[test]
    fn no_tenure_begins_when_terms_can_no_longer_rise() {
        let mut table = table(1);
        table.changes = u32::MAX - 2;
        table.hear(id(1), &jobs(1), &[]);
        let holder = table.holder("job 0").expect("a leader");
        assert_eq!(holder.place, u32::MAX - 1);
        table.release(
            id(1),
            &[Release { name: "job 0".to_owned(), place: holder.place, begins: Begins::AtOnce }],
        );
        assert_eq!(table.holder("job 0"), None);
        table.hear(id(1), &jobs(2), &[]);
        assert_eq!(table.holders().count(), 0);
    }

    #[test]
    fn a_release_of_another_tenure_is_ignored() {
        let mut table = table(1);
        table.hear(id(1), &jobs(1), &[]);
        let holder = table.holder("job 0").expect("a leader");
        let release = |place| [Release { name: "job 0".to_owned(), place, begins: Begins::AtOnce }];
        table.release(id(1), &release(holder.place + 1));
        table.release(id(2), &release(holder.place));
        assert_eq!(table.holder("job 0"), Some(holder));
    }
}
