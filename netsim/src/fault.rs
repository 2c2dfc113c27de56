//! What goes wrong, and when.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use quorate_membership::wire::Message;
use quorate_membership::{Guarantee, Phase};
use serde::{Deserialize, Serialize};

/// Something that happens to nodes or to the network between them. Nodes are named by their numbers, from 1.
///
/// A cut loses what is under way on it, too. Each fault prints as a sentence, and is read from it again; see
/// [`Scenario`](crate::Scenario) for the format. The turmoil engine knows those down to [`Fault::Release`]; the others it refuses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Fault {
    /// A node stops dead. Its stored record survives, nothing else does. At time 0, it has not been started yet.
    Crash(u32),
    /// A node starts, with the record that its last life left; one that runs crashes first.
    Restart(u32),
    /// The network falls into these parts, whatever it was before; nodes that are not named are a part of their own.
    Partition(Vec<Vec<u32>>),
    /// What one node sends no longer reaches another; the way back stays as it is.
    CutOneWay {
        /// Who is not heard.
        from: u32,
        /// Who does not hear.
        to: u32,
    },
    /// Everybody hears everybody again, and no datagram is disturbed any more.
    Heal,

    /// Two nodes no longer hear each other.
    Cut(u32, u32),
    /// Two nodes hear each other again.
    Mend(u32, u32),
    /// For a while, something happens to single datagrams.
    Disturb {
        /// For how long.
        lasts: Duration,
        /// What happens.
        trouble: Trouble,
        /// To which datagrams.
        kind: Kind,
        /// Of whom; `None`: of all.
        from: Option<u32>,
        /// On the way to whom; `None`: to all.
        to: Option<u32>,
    },
    /// The application of a node hangs, between finding that it may act as DC and acting, if it may: it gives no sign of life
    /// and does nothing, then goes on where it was. Its node, and what else it does, go on.
    Hang {
        /// Whose.
        node: u32,
        /// For how long.
        lasts: Duration,
    },
    /// An operator asks a node to give up the role of DC. That it refuses, because it has none for instance, is no failure.
    Release(u32),

    /// One datagram meets its fate, wherever it goes.
    Catch {
        /// Which kind of datagram.
        kind: Kind,
        /// How many of this kind pass before.
        after: u32,
        /// What becomes of it.
        fate: Fate,
    },
    /// Datagrams that were sent in this run, now or in other lives and rings, come again.
    Replay(u32),
    /// Datagrams of another cluster, on the same group and port, come in.
    Foreign(u32),
    /// What one node sends never reaches another again: no [`Fault::Heal`] and no calm mends that. What is promised then
    /// is L7.
    Deafen {
        /// Who is not heard.
        from: u32,
        /// Who does not hear.
        to: u32,
    },
    /// The firewall of a node's host rejects what comes in: it says that no process listens there.
    Reject {
        /// Whose.
        node: u32,
        /// For how long.
        lasts: Duration,
    },
    /// A datagram that no node has sent comes to a node.
    Forge {
        /// Who gets it.
        to: u32,
        /// In whose name it is.
        of: u32,
        /// What it says.
        says: Forged,
    },
    /// A node is told, in the name of another one's host, that no process listens there. Where nodes believe such things
    /// ([`Scenario::by_evidence`](crate::Scenario::by_evidence)), hosts say so of nodes that have crashed; this one may lie.
    Lie {
        /// Who is told.
        to: u32,
        /// Of whom.
        of: u32,
    },

    /// A node leaves in order.
    Leave(u32),
    /// A node's stored record is lost: what there is when it starts next is a new one, made from the wall clock.
    LoseRecord(u32),
    /// A node's stored record becomes the one before it, as if put back from a backup. Nothing protects against that; what
    /// is promised of ring ids and terms is not promised then.
    RollBackRecord(u32),
    /// A node is given another configuration file: it counts from its next start on. At time 0 the node has it from the
    /// beginning, and those that have one then have long agreed on it; others have never been in a ring.
    File {
        /// Whose.
        node: u32,
        /// Whom it lists, with how many votes.
        voters: BTreeMap<u32, u32>,
        /// Whether it says `wait_for_all`.
        waits: bool,
    },
    /// A node stands still while its clock runs (SIGSTOP, starvation); what comes in waits in its receive buffer.
    Pause {
        /// Who.
        node: u32,
        /// For how long.
        lasts: Duration,
    },
    /// A node stands still, and its clock too (a virtual machine that is suspended).
    Freeze {
        /// Who.
        node: u32,
        /// For how long.
        lasts: Duration,
    },
    /// A node takes its time for each datagram; its timers run late.
    Slow {
        /// Who.
        node: u32,
        /// How long a datagram takes.
        each: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// A node's disk takes its time for each write.
    SlowDisk {
        /// Whose.
        node: u32,
        /// How long a write takes.
        each: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// A node's disk is full: its record is written when there is space again, and until then it takes part in no ring that the
    /// last one does not cover.
    FullDisk {
        /// Whose.
        node: u32,
        /// For how long.
        lasts: Duration,
    },
    /// A node's address is gone from its interface: what it sends goes nowhere, not even to itself, and nothing comes in.
    LoseAddress(u32),
    /// The address is back.
    RegainAddress(u32),
    /// A node's application takes no events.
    Unread {
        /// Whose.
        node: u32,
        /// For how long.
        lasts: Duration,
    },
    /// From now on, a node's clock is this much too fast, in millionths.
    Drift {
        /// Whose.
        node: u32,
        /// How much; negative: too slow.
        ppm: i32,
    },
    /// A node's application sends many messages at once.
    Send {
        /// Who.
        node: u32,
        /// How many.
        count: u32,
        /// Their length in bytes.
        length: usize,
        /// How.
        guarantee: Guarantee,
    },
    /// From now on, once: when a node gets to this point, something goes wrong.
    When {
        /// Who has to get there.
        node: u32,
        /// To which point.
        point: Point,
        /// What goes wrong.
        then: Box<Fault>,
    },
}

/// What a forged datagram says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Forged {
    /// A JOIN from an address that is in no node list: somebody else uses this id.
    Claim,
    /// A JOIN from the node's own address, with a ring sequence number that no ring comes to.
    JoinNumber,
    /// A commit token from the node's own address, with such a number.
    CommitNumber,
    /// The next frame of the receiver's ring, from an address that belongs to none of its members.
    Frame,
}

impl Forged {
    /// All of them, with their names.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Claim, "claim to be"),
        (Self::JoinNumber, "join with an absurd number of"),
        (Self::CommitNumber, "commit token with an absurd number of"),
        (Self::Frame, "frame of"),
    ];
}

/// What can happen to a datagram on its way to one receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// It is lost, with this probability.
    Lose(Share),
    /// It is lost while its link is bad: now and then, each link for itself, lengths drawn about these.
    LoseInBursts {
        /// How long a link is bad.
        bad: Duration,
        /// How long it is good.
        good: Duration,
    },
    /// It is lost if it is longer than this, in bytes: a smaller MTU on the way.
    LoseAbove(usize),
    /// It comes twice, with this probability.
    Duplicate {
        /// How often.
        share: Share,
        /// The second copy comes this much later at most.
        within: Duration,
    },
    /// It comes later, with this probability: others overtake it.
    Delay {
        /// How often.
        share: Share,
        /// By this much at most.
        by: Duration,
    },
    /// Bits are flipped, as where nobody checks a checksum.
    Flip {
        /// How often.
        share: Share,
        /// How many bits, at most.
        bits: u32,
    },
    /// It comes cut short, or with bytes behind it.
    Resize(Share),
}

/// How often: parts of a million.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Share(pub u32);

impl Share {
    /// So many of 100.
    pub const fn percent(percent: u32) -> Self {
        Self(percent * 10_000)
    }
}

/// Kinds of datagrams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// All of them.
    Any,
    /// Those to everybody.
    Multicast,
    /// Those to one node.
    Unicast,
    /// Tokens.
    Token,
    /// Frames.
    Frame,
    /// JOINs and LEAVEs.
    Join,
    /// Commit tokens.
    Commit,
    /// Probes for other rings.
    Probe,
    /// Hold cancels.
    HoldCancel,
}

impl Kind {
    /// All of them, with their names, plural and singular.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::Any, "datagrams", "datagram"),
        (Self::Multicast, "multicasts", "multicast"),
        (Self::Unicast, "unicasts", "unicast"),
        (Self::Token, "tokens", "token"),
        (Self::Frame, "frames", "frame"),
        (Self::Join, "joins", "join"),
        (Self::Commit, "commit tokens", "commit token"),
        (Self::Probe, "probes", "probe"),
        (Self::HoldCancel, "hold cancels", "hold cancel"),
    ];

    /// What a message is.
    pub(crate) fn of(message: &Message) -> Self {
        match message {
            Message::Token(_) => Self::Token,
            Message::Multicast(_) => Self::Frame,
            Message::MergeDetect(_) => Self::Probe,
            Message::Join(_) => Self::Join,
            Message::Commit(_) => Self::Commit,
            Message::HoldCancel(_) => Self::HoldCancel,
        }
    }

    /// Whether a datagram is of this kind.
    pub(crate) fn includes(self, kind: Self, to_everyone: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Multicast => to_everyone,
            Self::Unicast => !to_everyone,
            _ => self == kind,
        }
    }

    pub(crate) fn name(self, plural: bool) -> &'static str {
        Self::ALL
            .iter()
            .find(|(kind, ..)| *kind == self)
            .map_or("", |(_, many, one)| if plural { many } else { one })
    }
}

/// What becomes of one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is lost.
    Lost,
    /// It comes this much later.
    Late(Duration),
    /// It comes, and once more this much later.
    Twice(Duration),
}

/// A point in the life of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// The protocol enters this state.
    Enters(Phase),
    /// A datagram of this kind is about to be sent: if the node crashes at this point, it never is.
    Sends(Kind),
    /// A datagram of this kind has just been sent.
    HasSent(Kind),
    /// The record is to be stored: if the node crashes at this point, it is not.
    Stores,
    /// The record has just been stored.
    HasStored,
}

impl Point {
    pub(crate) const PHASES: [Phase; 5] =
        [Phase::Gather, Phase::Commit, Phase::Recovery, Phase::Operational, Phase::Left];
}

impl Fault {
    /// The nodes it names.
    pub(crate) fn nodes(&self) -> Vec<u32> {
        match self {
            Self::Crash(node)
            | Self::Restart(node)
            | Self::Leave(node)
            | Self::Release(node)
            | Self::LoseRecord(node)
            | Self::RollBackRecord(node)
            | Self::LoseAddress(node)
            | Self::RegainAddress(node)
            | Self::FullDisk { node, .. }
            | Self::Reject { node, .. }
            | Self::File { node, .. }
            | Self::Hang { node, .. }
            | Self::Pause { node, .. }
            | Self::Freeze { node, .. }
            | Self::Slow { node, .. }
            | Self::SlowDisk { node, .. }
            | Self::Unread { node, .. }
            | Self::Drift { node, .. }
            | Self::Send { node, .. } => vec![*node],
            Self::Partition(parts) => parts.concat(),
            Self::CutOneWay { from: a, to: b }
            | Self::Cut(a, b)
            | Self::Mend(a, b)
            | Self::Deafen { from: a, to: b }
            | Self::Forge { to: a, of: b, .. }
            | Self::Lie { to: a, of: b } => vec![*a, *b],
            Self::Disturb { from, to, .. } => from.iter().chain(to).copied().collect(),
            Self::When { node, then, .. } => [vec![*node], then.nodes()].concat(),
            Self::Heal | Self::Catch { .. } | Self::Replay(_) | Self::Foreign(_) => Vec::new(),
        }
    }

    /// The same where nodes have other numbers; `None` if it names one that is not there any more.
    pub(crate) fn renumbered(&self, number: &impl Fn(u32) -> Option<u32>) -> Option<Self> {
        let mut fault = self.clone();
        match &mut fault {
            Self::Crash(node)
            | Self::Restart(node)
            | Self::Leave(node)
            | Self::Release(node)
            | Self::LoseRecord(node)
            | Self::RollBackRecord(node)
            | Self::LoseAddress(node)
            | Self::RegainAddress(node)
            | Self::FullDisk { node, .. }
            | Self::Reject { node, .. }
            | Self::Hang { node, .. }
            | Self::Pause { node, .. }
            | Self::Freeze { node, .. }
            | Self::Slow { node, .. }
            | Self::SlowDisk { node, .. }
            | Self::Unread { node, .. }
            | Self::Drift { node, .. }
            | Self::Send { node, .. } => *node = number(*node)?,
            Self::File { node, voters, .. } => {
                *node = number(*node)?;
                let kept = voters.iter().filter_map(|(&node, &votes)| Some((number(node)?, votes)));
                *voters = kept.collect();
            }
            Self::Partition(parts) => {
                for part in &mut *parts {
                    *part = part.iter().filter_map(|node| number(*node)).collect();
                }
                parts.retain(|part| !part.is_empty());
            }
            Self::CutOneWay { from: a, to: b }
            | Self::Cut(a, b)
            | Self::Mend(a, b)
            | Self::Deafen { from: a, to: b }
            | Self::Forge { to: a, of: b, .. }
            | Self::Lie { to: a, of: b } => {
                (*a, *b) = (number(*a)?, number(*b)?);
            }
            Self::Disturb { from, to, .. } => {
                for end in [from, to].into_iter().flatten() {
                    *end = number(*end)?;
                }
            }
            Self::When { node, then, .. } => {
                *node = number(*node)?;
                **then = then.renumbered(number)?;
            }
            Self::Heal | Self::Catch { .. } | Self::Replay(_) | Self::Foreign(_) => {}
        }
        Some(fault)
    }

    /// What kind of fault it is, for counting: a few words.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Crash(_) => "crash",
            Self::Restart(_) => "restart",
            Self::Partition(_) => "partition",
            Self::CutOneWay { .. } => "one-way cut",
            Self::Heal => "heal",
            Self::Cut(..) => "cut of two nodes",
            Self::Mend(..) => "mend",
            Self::Hang { .. } => "hung application",
            Self::Release(_) => "release of the role",
            Self::Disturb { trouble, kind, .. } => match (trouble, kind) {
                (Trouble::Lose(_), Kind::Any) => "loss",
                (Trouble::Lose(_), _) => "loss by kind",
                (Trouble::LoseInBursts { .. }, _) => "loss in bursts",
                (Trouble::LoseAbove(_), _) => "loss by size",
                (Trouble::Duplicate { .. }, _) => "duplication",
                (Trouble::Delay { share, .. }, _) if *share >= Share::percent(20) => "reordering",
                (Trouble::Delay { .. }, _) => "delay spikes",
                (Trouble::Flip { .. }, _) => "bit flips",
                (Trouble::Resize(_), _) => "cut or padded datagrams",
            },
            Self::Catch { kind: Kind::Token, .. } => "one token caught",
            Self::Catch { kind: Kind::Commit, .. } => "one commit token caught",
            Self::Catch { .. } => "one datagram caught",
            Self::Replay(_) => "replay",
            Self::Foreign(_) => "foreign cluster",
            Self::Deafen { .. } => "one-way cut for good",
            Self::Reject { .. } => "rejecting firewall",
            Self::Forge { .. } => "forged datagram",
            Self::Lie { .. } => "forged refusal",
            Self::Leave(_) => "leave",
            Self::LoseRecord(_) => "record lost",
            Self::RollBackRecord(_) => "record rolled back",
            Self::File { .. } => "other configuration file",
            Self::Pause { .. } => "pause",
            Self::Freeze { .. } => "freeze",
            Self::Slow { .. } => "slow node",
            Self::SlowDisk { .. } => "slow disk",
            Self::FullDisk { .. } => "full disk",
            Self::LoseAddress(_) => "address lost",
            Self::RegainAddress(_) => "address back",
            Self::Unread { .. } => "slow consumer",
            Self::Drift { .. } => "clock drift",
            Self::Send { .. } => "burst of messages",
            Self::When { .. } => "fault at a point",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(node) => write!(f, "node {node} crashes"),
            Self::Restart(node) => write!(f, "node {node} starts again"),
            Self::Partition(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| format!("{part:?}")).collect();
                write!(f, "partition {}", parts.join(" | "))
            }
            Self::CutOneWay { from, to } => write!(f, "node {to} no longer hears node {from}"),
            Self::Heal => write!(f, "the network heals"),
            Self::Cut(a, b) => write!(f, "nodes {a} and {b} no longer hear each other"),
            Self::Mend(a, b) => write!(f, "nodes {a} and {b} hear each other again"),
            Self::Disturb { lasts, trouble, kind, from, to } => {
                write!(f, "for {lasts:?} {trouble} of {}", kind.name(true))?;
                from.iter().try_for_each(|node| write!(f, " from node {node}"))?;
                to.iter().try_for_each(|node| write!(f, " to node {node}"))
            }
            Self::Hang { node, lasts } => write!(f, "the application of node {node} hangs for {lasts:?}"),
            Self::Release(node) => write!(f, "node {node} is asked to give up the role"),
            Self::Catch { kind, after, fate } => {
                write!(f, "the next {}", kind.name(false))?;
                if *after > 0 {
                    write!(f, " but {after}")?;
                }
                match fate {
                    Fate::Lost => write!(f, " is lost"),
                    Fate::Late(by) => write!(f, " is late by {by:?}"),
                    Fate::Twice(after) => write!(f, " comes again after {after:?}"),
                }
            }
            Self::Replay(count) => write!(f, "{count} old datagrams come again"),
            Self::Foreign(count) => write!(f, "{count} datagrams of another cluster come in"),
            Self::Deafen { from, to } => write!(f, "node {to} never hears node {from} again"),
            Self::Reject { node, lasts } => {
                write!(f, "the firewall of node {node} rejects what comes in for {lasts:?}")
            }
            Self::Forge { to, of, says } => write!(f, "node {to} gets a forged {says} node {of}"),
            Self::Lie { to, of } => write!(f, "node {to} is told that node {of} is gone"),
            Self::Leave(node) => write!(f, "node {node} leaves"),
            Self::LoseRecord(node) => write!(f, "node {node} loses its record"),
            Self::RollBackRecord(node) => write!(f, "node {node} gets back an older record"),
            Self::File { node, voters, waits } => {
                write!(f, "node {node} gets a file that lists")?;
                for (node, votes) in voters {
                    match votes {
                        1 => write!(f, " {node}")?,
                        _ => write!(f, " {node}:{votes}")?,
                    }
                }
                if *waits { write!(f, " and waits for all") } else { Ok(()) }
            }
            Self::Pause { node, lasts } => write!(f, "node {node} pauses for {lasts:?}"),
            Self::Freeze { node, lasts } => write!(f, "node {node} freezes for {lasts:?}"),
            Self::Slow { node, each, lasts } => {
                write!(f, "node {node} takes {each:?} a datagram for {lasts:?}")
            }
            Self::SlowDisk { node, each, lasts } => {
                write!(f, "node {node} takes {each:?} a write for {lasts:?}")
            }
            Self::FullDisk { node, lasts } => write!(f, "the disk of node {node} is full for {lasts:?}"),
            Self::LoseAddress(node) => write!(f, "node {node} loses its address"),
            Self::RegainAddress(node) => write!(f, "node {node} has its address again"),
            Self::Unread { node, lasts } => write!(f, "node {node} reads no events for {lasts:?}"),
            Self::Drift { node, ppm } => write!(f, "the clock of node {node} drifts by {ppm} ppm"),
            Self::Send { node, count, length, guarantee } => {
                write!(f, "node {node} sends {count} {guarantee} messages of {length} bytes")
            }
            Self::When { node, point, then } => write!(f, "when node {node} {point}: {then}"),
        }
    }
}

impl fmt::Display for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::ALL.iter().filter(|(forged, _)| forged == self).try_for_each(|(_, name)| f.write_str(name))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lose(share) => write!(f, "lose {share} %"),
            Self::LoseInBursts { bad, good } => write!(f, "lose bursts of {bad:?} every {good:?}"),
            Self::LoseAbove(bytes) => write!(f, "lose all above {bytes} bytes"),
            Self::Duplicate { share, within } => write!(f, "duplicate {share} % within {within:?}"),
            Self::Delay { share, by } => write!(f, "delay {share} % by up to {by:?}"),
            Self::Flip { share, bits } => write!(f, "flip up to {bits} bits in {share} %"),
            Self::Resize(share) => write!(f, "cut or pad {share} %"),
        }
    }
}

/// In percent.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 10_000.0)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enters(phase) => write!(f, "enters {phase}"),
            Self::Sends(kind) => write!(f, "sends a {}", kind.name(false)),
            Self::HasSent(kind) => write!(f, "has sent a {}", kind.name(false)),
            Self::Stores => write!(f, "stores its record"),
            Self::HasStored => write!(f, "has stored its record"),
        }
    }
}
