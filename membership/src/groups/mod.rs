//! Process groups: which processes, on which nodes, are in which group.
//!
//! The groups are those of corosync's service `cpg`, and its processes can be in them too. A process joins and leaves
//! by a message on the ring, so that all members see it at the same place in the order. When the ring has changed, each
//! member says in the sync which processes it has; once all have spoken, each settles its list from that alone
//! ([`Groups::settle`]): who left with its node goes first, then who came with a new one joins, then who is no longer
//! named by its node is taken for dead. After that, the lists of all members are the same.
//!
//! Nobody has to join to send to a group or to be told what is sent: that is for the application to sort out
//! ([`Event::Deliver`](crate::Event::Deliver)). Real corosync daemons, though, hand a message to their processes only if
//! a process of the sender's node is in the group.

mod partial;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub(crate) use self::partial::{LONGEST_WHOLE, Partials};
use crate::wire::body::{Body, CpgMember, CpgProcess};
use crate::{Group, NodeId, Refusal, RingId};

/// A process that can be in groups, unique in the cluster. Ordered by node, then by process id, as corosync lists them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Process {
    /// The node that it runs on.
    pub node: NodeId,
    /// Its process id there, as it says itself.
    pub pid: u32,
}

/// As `node:pid`.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.pid)
    }
}

/// A group's members have changed, at this place in the order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupChange {
    /// The ring.
    pub ring: RingId,
    /// The group.
    pub group: Group,
    /// Its members after the change, in order.
    pub members: BTreeSet<Process>,
    /// Those that were not before.
    pub joined: BTreeSet<Process>,
    /// Those that are no more. Either this or `joined` is empty.
    pub left: BTreeSet<Process>,
    /// Why all of them joined, or left.
    pub reason: GroupReason,
}

/// As `group orders of 1.8: join 2:77, members 1:5 2:77`.
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

/// Why a group has changed: the reasons that corosync's clients are told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GroupReason {
    /// The process joined.
    Join,
    /// The process left.
    Leave,
    /// The process's node is no longer in the ring.
    NodeDown,
    /// The process's node came into the ring with the process in the group.
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

/// How a process goes out of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parting {
    /// It wants to.
    Left,
    /// It is dead, or its connection broke.
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

/// Why a process did not join or leave a group. Nothing is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    /// It is in the group already, or about to be.
    #[error("this process is in the group already")]
    AlreadyMember,
    /// It is not in the group, or about to leave it.
    #[error("this process is not in the group")]
    NotMember,
    /// It has left the group, but that is not yet delivered.
    #[error("this process is still leaving the group: try again once the others have seen it go")]
    StillLeaving,
    /// corosync's clients have room for no more members of one group.
    #[error("a group has at most {} members", Groups::MAX_MEMBERS)]
    GroupFull,
    /// This node has its processes in too many groups.
    #[error(
        "the processes of one node are in at most {} groups, each counted for each process",
        Groups::MAX_SEATS
    )]
    NodeFull,
    /// The node has left the ring.
    #[error("this node has left")]
    Left,
}

/// A process of one node in a group.
type Seat = (Group, u32);

/// All groups, as this node sees them.
#[derive(Clone, Hash)]
pub(crate) struct Groups {
    me: NodeId,
    /// Those that have members.
    members: BTreeMap<Group, BTreeSet<Process>>,
    /// This node's processes whose join, or leave, has not been delivered yet.
    joining: BTreeSet<Seat>,
    leaving: BTreeSet<Seat>,
    /// A process of this node has joined a group since it started.
    ever_joined: bool,
    /// Nodes that have not come along since the lists were settled last. A node can be back already.
    gone: BTreeSet<NodeId>,
    /// How many members the ring had whose lists were settled last.
    company: u32,
    /// What the members have said in this ring's sync.
    listed: BTreeMap<NodeId, BTreeSet<Seat>>,
}

impl Groups {
    /// The most members of one group: libcpg's programs write into tables of this size, without looking.
    pub(crate) const MAX_MEMBERS: usize = 128;
    /// The most seats of this node's own processes; its join list has to fit into a message.
    pub(crate) const MAX_SEATS: usize = 1024;
    /// The most seats that another node is believed to have.
    const MAX_SEATS_OF_OTHERS: usize = 16_384;

    pub(crate) fn new(me: NodeId) -> Self {
        Self {
            me,
            members: BTreeMap::new(),
            joining: BTreeSet::new(),
            leaving: BTreeSet::new(),
            ever_joined: false,
            gone: BTreeSet::new(),
            company: 0,
            listed: BTreeMap::new(),
        }
    }

    /// The members of a group, in order; `None` if there are none.
    pub(crate) fn members(&self, group: &Group) -> Option<&BTreeSet<Process>> {
        self.members.get(group)
    }

    /// All groups that have members.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Group, &BTreeSet<Process>)> {
        self.members.iter()
    }

    /// A process of this node wants to join: what to send.
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

    /// A process of this node leaves: what to send.
    pub(crate) fn leave(&mut self, group: &Group, pid: u32, parting: Parting) -> Result<Body, GroupError> {
        let seat = (group.clone(), pid);
        let member = self.joining.contains(&seat) || self.is_member(group, self.process(pid));
        if !member || self.leaving.contains(&seat) {
            return Err(GroupError::NotMember);
        }
        self.leaving.insert(seat);
        Ok(Body::CpgLeave(CpgProcess { group: group.clone(), pid, reason: parting.code() }))
    }

    /// This node leaves, so its processes do: what to send.
    pub(crate) fn leave_all(&mut self) -> Vec<Body> {
        let joining = self.joining.iter().cloned();
        let seats: BTreeSet<Seat> =
            self.seats(self.me).map(|(group, pid)| (group.clone(), pid)).chain(joining).collect();
        seats.iter().filter_map(|(group, pid)| self.leave(group, *pid, Parting::Left).ok()).collect()
    }

    /// Whether anybody can have heard of processes of this node.
    pub(crate) fn ever_joined(&self) -> bool {
        self.ever_joined
    }

    /// Whether a process of this node is in a group, or will be.
    pub(crate) fn any_local(&self) -> bool {
        !self.joining.is_empty() || self.seats(self.me).next().is_some()
    }

    /// A process joined, or left.
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
            // Said twice.
            (true, true) | (false, false) => None,
        })
    }

    /// A member said in the sync which processes it has.
    pub(crate) fn handle_join_list(&mut self, node: NodeId, members: Vec<CpgMember>) -> Result<(), Refusal> {
        let listed = self.listed.entry(node).or_default();
        if listed.len().saturating_add(members.len()) > Self::MAX_SEATS_OF_OTHERS {
            return Err(Refusal::TooMany);
        }
        listed.extend(members.into_iter().map(|CpgMember { pid, group }| (group, pid)));
        Ok(())
    }

    /// A new ring is installed, into which these nodes did not come along.
    pub(crate) fn begin_sync(&mut self, left: &BTreeSet<NodeId>) {
        self.gone.extend(left);
        self.listed.clear();
    }

    /// What this node says in the sync: who is gone, which all know and nobody acts on, and which processes it has.
    pub(crate) fn sync_messages(&self) -> Vec<Body> {
        let gone = self.gone.iter().copied().collect();
        let down = Body::CpgDownList { old_members: self.company, left: gone };
        let member = |(group, pid): (&Group, u32)| CpgMember { pid, group: group.clone() };
        let seats: Vec<CpgMember> = self.seats(self.me).map(member).collect();
        // corosync sends a list of nobody as well; its receivers log it.
        let down = (!self.gone.is_empty()).then_some(down);
        let up = (!seats.is_empty()).then_some(Body::CpgJoinList(seats));
        down.into_iter().chain(up).collect()
    }

    /// All members have said which processes they have: what changes, in corosync's order.
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
        self.company = u32::try_from(members.len()).unwrap_or(u32::MAX);
        changes
    }

    fn process(&self, pid: u32) -> Process {
        Process { node: self.me, pid }
    }

    fn is_member(&self, group: &Group, process: Process) -> bool {
        self.members(group).is_some_and(|members| members.contains(&process))
    }

    /// The seats of a node's processes.
    fn seats(&self, node: NodeId) -> impl Iterator<Item = (&Group, u32)> {
        let range = Process { node, pid: 0 }..=Process { node, pid: u32::MAX };
        self.members.iter().flat_map(move |(group, members)| {
            members.range(range.clone()).map(move |process| (group, process.pid))
        })
    }

    /// The members that this is true of, by group.
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
