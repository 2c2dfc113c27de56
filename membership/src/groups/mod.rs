//! Process groups, and the processes of all nodes that are in them.
//!
//! These are the groups of corosync's service `cpg`, so processes of corosync nodes can be in them
//! too. A process joins or leaves by a message on the ring, and all members see the change at the
//! same place in the order.
//!
//! After a ring change, each member lists its own processes in the sync. Once all lists are
//! complete, each member updates its groups from them alone ([`Groups::settle`]), in three steps:
//!
//! 1. Processes of nodes that left the ring are removed.
//! 2. Listed processes that are not in their group yet are added.
//! 3. Processes that their node no longer lists are taken for dead and removed.
//!
//! All members then have the same groups.
//!
//! A process can send to a group without being in it, and every node delivers the messages of all
//! groups. The application filters them ([`Event::Deliver`](crate::Event::Deliver)). corosync
//! daemons, in contrast, deliver a message to their processes only if a process of the sender's
//! node is in the group.

mod partial;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub(crate) use self::partial::{LONGEST_WHOLE, Partials, parts};
use crate::wire::body::{Body, CpgMember, CpgProcess};
use crate::{Group, NodeId, Refusal, RingId};

/// A process that can be in groups, unique in the cluster.
///
/// Processes are ordered by node, then by process id, which is the order of corosync's lists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Process {
    /// The node that the process runs on.
    pub node: NodeId,
    /// The process id on that node, as the process itself states it.
    pub pid: u32,
}

/// Formats the process as `node:pid`.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.pid)
    }
}

/// A change of a group's members, at its place in the order of messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupChange {
    /// The ring in which the group changed.
    pub ring: RingId,
    /// The group that has changed.
    pub group: Group,
    /// All members of the group after the change.
    pub members: BTreeSet<Process>,
    /// The members that were not in the group before the change.
    pub joined: BTreeSet<Process>,
    /// The processes that are no longer in the group. Either this or `joined` is empty.
    pub left: BTreeSet<Process>,
    /// The reason, which is the same for all processes that joined or left.
    pub reason: GroupReason,
}

/// Formats the change as `group orders of 1.8: join 2:77, members 1:5 2:77`.
impl fmt::Display for GroupChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {} of {}: {}", self.group, self.ring, self.reason)?;
        for process in self.joined.iter().chain(&self.left) {
            write!(f, " {process}")?;
        }
        f.write_str(", members")?;
        self.members.iter().try_for_each(|process| write!(f, " {process}"))
    }
}

/// The reason for a change of a group's members, as corosync reports it to its clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GroupReason {
    /// The process joined.
    Join,
    /// The process left.
    Leave,
    /// The process's node is no longer in the ring.
    NodeDown,
    /// The process's node entered the ring with the process already in the group.
    NodeUp,
    /// The process died.
    ProcessDown,
}

impl fmt::Display for GroupReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::NodeDown => "nodedown",
            Self::NodeUp => "nodeup",
            Self::ProcessDown => "procdown",
        })
    }
}

/// The way in which a process leaves a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parting {
    /// The process asked to leave.
    Left,
    /// The process died, or its connection broke.
    Died,
}

impl Parting {
    fn code(self) -> u32 {
        match self {
            Self::Left => CpgProcess::LEAVE,
            Self::Died => CpgProcess::PROCESS_DOWN,
        }
    }
}

/// The error for a process that cannot join or leave a group. No message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The process is in the group already, or its join is not delivered yet.
    #[error("this process is already in the group")]
    AlreadyMember,
    /// The process is not in the group, or it has already asked to leave.
    #[error("this process is not in the group")]
    NotMember,
    /// The process has asked to leave the group, and its leave is not delivered yet.
    #[error("this process is still leaving the group; try again once its leave is delivered")]
    StillLeaving,
    /// The group has as many members as corosync's clients have room for.
    #[error("the group is full; it may have at most {} members", Groups::MAX_MEMBERS)]
    GroupFull,
    /// The processes of this node are in the maximum number of groups.
    #[error(
        "the processes of this node are already in {} groups, the maximum, counted for each process",
        Groups::MAX_SEATS
    )]
    NodeFull,
    /// This node has left the ring, or is leaving it.
    #[error("this node has left the ring")]
    Left,
}

/// A group and the id of a process in it. The node follows from the context.
type Seat = (Group, u32);

/// All groups, as known to this node.
#[derive(Clone, Hash)]
pub(crate) struct Groups {
    me: NodeId,
    /// The members of each group. Groups without members are left out.
    members: BTreeMap<Group, BTreeSet<Process>>,
    /// This node's processes whose join has not been delivered yet.
    joining: BTreeSet<Seat>,
    /// This node's processes whose leave has not been delivered yet.
    leaving: BTreeSet<Seat>,
    /// Whether a process of this node has asked to join a group since the node started.
    ever_joined: bool,
    /// The nodes that left the ring since the groups were settled last. Some of them may already be
    /// back.
    gone: BTreeSet<NodeId>,
    /// The number of members of the ring in which the groups were settled last.
    old_members: u32,
    /// The processes that each member has listed in this ring's sync.
    listed: BTreeMap<NodeId, BTreeSet<Seat>>,
}

impl Groups {
    /// The maximum number of members of one group. Programs that use libcpg write the members into
    /// tables of this size without a bounds check.
    pub(crate) const MAX_MEMBERS: usize = 128;
    /// The maximum number of seats of this node's processes. Their join list must fit into one
    /// message.
    pub(crate) const MAX_SEATS: usize = 1024;
    /// The maximum number of seats accepted from any other node.
    const MAX_SEATS_OF_OTHERS: usize = 16_384;

    pub(crate) fn new(me: NodeId) -> Self {
        Self {
            me,
            members: BTreeMap::new(),
            joining: BTreeSet::new(),
            leaving: BTreeSet::new(),
            ever_joined: false,
            gone: BTreeSet::new(),
            old_members: 0,
            listed: BTreeMap::new(),
        }
    }

    /// Returns the members of a group, or `None` if it has none.
    pub(crate) fn members(&self, group: &Group) -> Option<&BTreeSet<Process>> {
        self.members.get(group)
    }

    /// Returns all groups that have members.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Group, &BTreeSet<Process>)> {
        self.members.iter()
    }

    /// Records that a process of this node joins a group, and returns the message to send.
    pub(crate) fn join(&mut self, group: &Group, pid: u32) -> Result<Body, GroupError> {
        let seat = (group.clone(), pid);
        if self.leaving.contains(&seat) {
            return Err(GroupError::StillLeaving);
        }
        if self.joining.contains(&seat) || self.is_member(group, self.process(pid)) {
            return Err(GroupError::AlreadyMember);
        }
        let joining = self.joining.iter().filter(|(other, _)| other == group).count();
        if self.members(group).map_or(0, BTreeSet::len) + joining >= Self::MAX_MEMBERS {
            return Err(GroupError::GroupFull);
        }
        if self.seats(self.me).count() + self.joining.len() >= Self::MAX_SEATS {
            return Err(GroupError::NodeFull);
        }
        self.joining.insert(seat);
        self.ever_joined = true;
        Ok(Body::CpgJoin(CpgProcess { group: group.clone(), pid, reason: CpgProcess::JOIN }))
    }

    /// Records that a process of this node leaves a group, and returns the message to send.
    pub(crate) fn leave(&mut self, group: &Group, pid: u32, parting: Parting) -> Result<Body, GroupError> {
        let seat = (group.clone(), pid);
        let member = self.joining.contains(&seat) || self.is_member(group, self.process(pid));
        if !member || self.leaving.contains(&seat) {
            return Err(GroupError::NotMember);
        }
        self.leaving.insert(seat);
        Ok(Body::CpgLeave(CpgProcess { group: group.clone(), pid, reason: parting.code() }))
    }

    /// Makes all processes of this node leave their groups, and returns the messages to send.
    pub(crate) fn leave_all(&mut self) -> Vec<Body> {
        let joining = self.joining.iter().cloned();
        let seats: BTreeSet<Seat> =
            self.seats(self.me).map(|(group, pid)| (group.clone(), pid)).chain(joining).collect();
        seats.iter().filter_map(|(group, pid)| self.leave(group, *pid, Parting::Left).ok()).collect()
    }

    /// Returns `true` if other members may know of processes of this node.
    pub(crate) fn ever_joined(&self) -> bool {
        self.ever_joined
    }

    /// Returns `true` if a process of this node is in a group or about to join one.
    pub(crate) fn any_local(&self) -> bool {
        !self.joining.is_empty() || self.seats(self.me).next().is_some()
    }

    /// Handles a delivered join or leave, and returns the change if there is one.
    pub(crate) fn handle_process(
        &mut self,
        ring: RingId,
        node: NodeId,
        process: CpgProcess,
        joins: bool,
    ) -> Result<Option<GroupChange>, Refusal> {
        let CpgProcess { group, pid, reason } = process;
        let seat = (group, pid);
        let process = Process { node, pid };
        if node == self.me {
            if joins {
                self.joining.remove(&seat)
            } else {
                self.leaving.remove(&seat)
            };
        }
        let who = BTreeSet::from([process]);
        Ok(match (joins, self.is_member(&seat.0, process)) {
            (true, false) if self.seats(node).count() >= Self::MAX_SEATS_OF_OTHERS => {
                return Err(Refusal::TooMany);
            }
            (true, false) => Some(self.add(ring, &seat.0, who, GroupReason::Join)),
            (false, true) if reason == CpgProcess::PROCESS_DOWN => {
                Some(self.remove(ring, &seat.0, who, GroupReason::ProcessDown))
            }
            (false, true) => Some(self.remove(ring, &seat.0, who, GroupReason::Leave)),
            // A repeated join or leave.
            (true, true) | (false, false) => None,
        })
    }

    /// Adds to the processes that a member lists in the sync.
    pub(crate) fn handle_join_list(&mut self, node: NodeId, members: Vec<CpgMember>) -> Result<(), Refusal> {
        let listed = self.listed.entry(node).or_default();
        if listed.len().saturating_add(members.len()) > Self::MAX_SEATS_OF_OTHERS {
            return Err(Refusal::TooMany);
        }
        listed.extend(members.into_iter().map(|CpgMember { pid, group }| (group, pid)));
        Ok(())
    }

    /// Begins the sync of a new ring. The nodes in `left` were in this node's previous ring and did
    /// not follow it into the new one.
    pub(crate) fn begin_sync(&mut self, left: &BTreeSet<NodeId>) {
        self.gone.extend(left);
        self.listed.clear();
    }

    /// Returns the messages that this node sends in the sync: the nodes that left, and its own
    /// processes. All members know of the former already, so that message has no effect.
    pub(crate) fn sync_messages(&self) -> Vec<Body> {
        let gone = self.gone.iter().copied().collect();
        let down = Body::CpgDownList { old_members: self.old_members, left: gone };
        let member = |(group, pid): (&Group, u32)| CpgMember { pid, group: group.clone() };
        let seats: Vec<CpgMember> = self.seats(self.me).map(member).collect();
        // corosync sends an empty down list too, and its receivers log it.
        let down = (!self.gone.is_empty()).then_some(down);
        let up = (!seats.is_empty()).then_some(Body::CpgJoinList(seats));
        down.into_iter().chain(up).collect()
    }

    /// Updates the groups after all members have listed their processes. Returns the changes in
    /// corosync's order.
    pub(crate) fn settle(&mut self, ring: RingId, members: &BTreeSet<NodeId>) -> Vec<GroupChange> {
        let mut changes = Vec::new();
        let gone = std::mem::take(&mut self.gone);
        for (group, left) in self.select(|process| gone.contains(&process.node)) {
            changes.push(self.remove(ring, &group, left, GroupReason::NodeDown));
        }

        let mut up: BTreeMap<&Group, BTreeSet<Process>> = BTreeMap::new();
        let mut listed = std::mem::take(&mut self.listed);
        listed.retain(|node, _| *node != self.me && members.contains(node));
        for (&node, seats) in &listed {
            for (group, pid) in seats {
                let process = Process { node, pid: *pid };
                if !self.is_member(group, process) {
                    up.entry(group).or_default().insert(process);
                }
            }
        }
        for (group, joined) in up {
            changes.push(self.add(ring, group, joined, GroupReason::NodeUp));
        }

        let me = self.me;
        let is_listed = |group: &Group, process: &Process| {
            process.node == me
                || listed
                    .get(&process.node)
                    .is_some_and(|seats| seats.contains(&(group.clone(), process.pid)))
        };
        let dead: Vec<(Group, Process)> = self
            .members
            .iter()
            .flat_map(|(group, members)| members.iter().map(move |process| (group, process)))
            .filter(|(group, process)| !is_listed(group, process))
            .map(|(group, process)| (group.clone(), *process))
            .collect();
        for (group, process) in dead {
            changes.push(self.remove(ring, &group, BTreeSet::from([process]), GroupReason::ProcessDown));
        }
        self.old_members = u32::try_from(members.len()).unwrap_or(u32::MAX);
        changes
    }

    fn process(&self, pid: u32) -> Process {
        Process { node: self.me, pid }
    }

    fn is_member(&self, group: &Group, process: Process) -> bool {
        self.members(group).is_some_and(|members| members.contains(&process))
    }

    /// Returns the seats of a node's processes.
    fn seats(&self, node: NodeId) -> impl Iterator<Item = (&Group, u32)> {
        let range = Process { node, pid: 0 }..=Process { node, pid: u32::MAX };
        self.members.iter().flat_map(move |(group, members)| {
            members.range(range.clone()).map(move |process| (group, process.pid))
        })
    }

    /// Returns the members of each group for which `is_meant` returns `true`. Groups without such a
    /// member are left out.
    fn select(&self, is_meant: impl Fn(&Process) -> bool) -> Vec<(Group, BTreeSet<Process>)> {
        let meant = |members: &BTreeSet<Process>| {
            members.iter().copied().filter(|process| is_meant(process)).collect()
        };
        let groups = self.members.iter().map(|(group, members)| (group.clone(), meant(members)));
        groups.filter(|(_, meant): &(_, BTreeSet<Process>)| !meant.is_empty()).collect()
    }

    fn add(
        &mut self,
        ring: RingId,
        group: &Group,
        joined: BTreeSet<Process>,
        reason: GroupReason,
    ) -> GroupChange {
        let members = self.members.entry(group.clone()).or_default();
        members.extend(&joined);
        GroupChange {
            ring,
            group: group.clone(),
            members: members.clone(),
            joined,
            left: BTreeSet::new(),
            reason,
        }
    }

    fn remove(
        &mut self,
        ring: RingId,
        group: &Group,
        left: BTreeSet<Process>,
        reason: GroupReason,
    ) -> GroupChange {
        let members = self.members.entry(group.clone()).or_default();
        members.retain(|process| !left.contains(process));
        let members = members.clone();
        if members.is_empty() {
            self.members.remove(group);
        }
        GroupChange { ring, group: group.clone(), members, joined: BTreeSet::new(), left, reason }
    }
}

#[cfg(test)]
mod tests;
