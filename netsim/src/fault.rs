//! The faults of a simulated run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use quorate_membership::wire::Message;
use quorate_membership::{Guarantee, Phase};
use serde::{Deserialize, Serialize};

use crate::Scenario;

/// An event that happens to nodes or to the network between them. Nodes are numbered from 1.
///
/// A cut also drops the datagrams that are in flight on it. Each fault prints as a sentence and can
/// be parsed from it. See [`Scenario`] for the format. The turmoil engine supports
/// the faults up to [`Fault::Drift`], and rejects the others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Fault {
    /// A node crashes. Only its stored record survives. A crash at time 0 means that the node has
    /// not been started yet.
    Crash(u32),
    /// A node starts with the record of its last life. A running node crashes first.
    Restart(u32),
    /// The network splits into these parts, regardless of its state before. The nodes that are not
    /// named form another part.
    Partition(Vec<Vec<u32>>),
    /// Datagrams of one node no longer reach another. The opposite direction is not affected.
    CutOneWay {
        /// The sender that is cut off.
        from: u32,
        /// The receiver.
        to: u32,
    },
    /// All nodes reach each other again, and all disturbances end that have an end.
    Heal,

    /// Two nodes no longer reach each other.
    Cut(u32, u32),
    /// Two nodes reach each other again.
    Mend(u32, u32),
    /// Individual datagrams are disturbed for a while.
    Disturb {
        /// The duration.
        lasts: Duration,
        /// The kind of disturbance.
        trouble: Trouble,
        /// The kind of datagrams that are affected.
        kind: Kind,
        /// The sender of the affected datagrams. `None`: every node.
        from: Option<u32>,
        /// The receiver of the affected datagrams. `None`: every node.
        to: Option<u32>,
    },
    /// The application of a node hangs. If it acts as DC, it hangs between the check that it may
    /// act and the act. It sends no heartbeat and does nothing, and later continues where it
    /// stopped. The node itself and its other work continue meanwhile.
    Hang {
        /// The node.
        node: u32,
        /// The duration.
        lasts: Duration,
    },
    /// An operator asks a node to give up the role of DC. The node may refuse, for instance because
    /// it does not have the role. That is not a failure.
    Release(u32),
    /// A node's stored record is lost. The node makes a new one from the wall clock at its next
    /// start.
    LoseRecord(u32),
    /// A node's disk is slow to complete each write.
    SlowDisk {
        /// The node.
        node: u32,
        /// The time that a write takes.
        each: Duration,
        /// The duration.
        lasts: Duration,
    },
    /// A node's disk is full. Its record is written when there is space again. Until then, the node
    /// only enters rings that the last record covers.
    FullDisk {
        /// The node.
        node: u32,
        /// The duration.
        lasts: Duration,
    },
    /// A node's clock runs at a wrong rate from now on.
    Drift {
        /// The node.
        node: u32,
        /// The error of the rate, in parts per million. It is negative if the clock is slow.
        ppm: i32,
    },

    /// A single datagram is lost, delayed or duplicated, regardless of its receiver.
    Catch {
        /// The kind of datagram.
        kind: Kind,
        /// The number of datagrams of this kind that pass first.
        after: u32,
        /// The fate of the datagram.
        fate: Fate,
    },
    /// Datagrams from earlier in this run arrive again. They may be from other lives and rings.
    Replay(u32),
    /// Datagrams arrive from another cluster that uses the same group and port.
    Foreign(u32),
    /// Datagrams of one node never reach another again, even after [`Fault::Heal`] or calm. The
    /// property that is still promised is L7.
    Deafen {
        /// The sender that is cut off.
        from: u32,
        /// The receiver.
        to: u32,
    },
    /// The firewall of a node's host rejects incoming datagrams. It reports to the senders of
    /// unicasts that no process listens there. Nodes heed that with `failure_evidence`.
    Reject {
        /// The node.
        node: u32,
        /// The duration.
        lasts: Duration,
    },
    /// A node receives a datagram that no node has sent.
    Forge {
        /// The receiver.
        to: u32,
        /// The claimed sender.
        of: u32,
        /// The content.
        says: Forged,
    },
    /// A node receives a report, apparently from another node's host, that no process listens
    /// there. If nodes accept such reports
    /// ([`Scenario::by_evidence`](crate::Scenario::by_evidence)), hosts send them about crashed
    /// nodes. This one may be false.
    Lie {
        /// The receiver.
        to: u32,
        /// The node that the report calls gone.
        of: u32,
    },

    /// A node leaves cleanly.
    Leave(u32),
    /// A node's stored record is replaced by the previous one, as if restored from a backup. The
    /// protocol does not protect against that. Its promises about ring ids and terms do not hold
    /// then.
    RollBackRecord(u32),
    /// A node gets another configuration file, which takes effect at its next start. At time 0, the
    /// node has the file from the beginning. The nodes with a file then start as if they had agreed
    /// on it long ago, and the others as if they had never been in a ring.
    File {
        /// The node.
        node: u32,
        /// The listed nodes and their votes.
        voters: BTreeMap<u32, u32>,
        /// Whether the file sets `wait_for_all`.
        waits: bool,
    },
    /// A node pauses while its clock runs (SIGSTOP, starvation). Incoming datagrams wait in its
    /// receive buffer.
    Pause {
        /// The node.
        node: u32,
        /// The duration.
        lasts: Duration,
    },
    /// A node pauses together with its clock (a virtual machine that is suspended).
    Freeze {
        /// The node.
        node: u32,
        /// The duration.
        lasts: Duration,
    },
    /// A node is slow to handle each datagram. Its timers run late.
    Slow {
        /// The node.
        node: u32,
        /// The time that a datagram takes.
        each: Duration,
        /// The duration.
        lasts: Duration,
    },
    /// A node's address is removed from its interface. The node receives nothing from other nodes,
    /// and its datagrams reach none of them.
    LoseAddress(u32),
    /// A node's address is back.
    RegainAddress(u32),
    /// A node's application reads no events.
    Unread {
        /// The node.
        node: u32,
        /// The duration.
        lasts: Duration,
    },
    /// A node's application sends many messages at once.
    Send {
        /// The node.
        node: u32,
        /// The number of messages.
        count: u32,
        /// The length of each message in bytes.
        length: usize,
        /// The guarantee of the messages.
        guarantee: Guarantee,
    },
    /// A fault happens once, when a node next reaches a given point.
    When {
        /// The node that reaches the point.
        node: u32,
        /// The point.
        point: Point,
        /// The fault.
        then: Box<Fault>,
    },
}

/// The content of a forged datagram.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Forged {
    /// A JOIN from an address that is in no node list, as if a stranger used the node's id.
    Claim,
    /// A JOIN from the node's own address, with a ring sequence number that no ring ever reaches.
    JoinNumber,
    /// A commit token from the node's own address, with a number that no ring ever reaches.
    CommitNumber,
    /// The next frame of the receiver's ring, from an address that belongs to none of its members.
    Frame,
}

impl Forged {
    /// All contents, with their names.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Claim, "claim to be"),
        (Self::JoinNumber, "join with an absurd number of"),
        (Self::CommitNumber, "commit token with an absurd number of"),
        (Self::Frame, "frame of"),
    ];
}

/// A disturbance of a datagram on its way to one receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The datagram is lost, with this probability.
    Lose(Share),
    /// The datagram is lost while its link is bad. Each link turns bad from time to time,
    /// independently of the others. The durations are random, with the averages given here.
    LoseInBursts {
        /// The average time that a link is bad.
        bad: Duration,
        /// The average time that a link is good.
        good: Duration,
    },
    /// The datagram is lost if it is longer than this, in bytes, as on a path with a smaller MTU.
    LoseAbove(usize),
    /// The datagram arrives twice.
    Duplicate {
        /// The probability.
        share: Share,
        /// The longest delay of the second copy.
        within: Duration,
    },
    /// The datagram arrives late, so that others overtake it.
    Delay {
        /// The probability.
        share: Share,
        /// The longest delay.
        by: Duration,
    },
    /// Bits of the datagram are flipped, as if no checksum were verified.
    Flip {
        /// The probability.
        share: Share,
        /// The largest number of bits that are flipped.
        bits: u32,
    },
    /// The datagram arrives truncated, or with bytes appended, with this probability.
    Resize(Share),
}

/// A probability, in millionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Share(pub u32);

impl Share {
    /// Returns a share of `percent` %.
    pub const fn percent(percent: u32) -> Self {
        Self(percent * 10_000)
    }
}

/// A kind of datagram.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Every datagram.
    Any,
    /// Datagrams to all nodes.
    Multicast,
    /// Datagrams to a single node.
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
    /// All kinds, with their names, plural and singular.
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

    /// Returns the kind of a message.
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

    /// Returns `true` if this kind covers a datagram of kind `kind`.
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

/// The fate of one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The datagram is lost.
    Lost,
    /// The datagram arrives this much later.
    Late(Duration),
    /// The datagram arrives, and a second copy this much later.
    Twice(Duration),
}

/// A point in the life of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// The protocol enters this state.
    Enters(Phase),
    /// A datagram of this kind is about to be sent. If the node crashes at this point, the datagram
    /// is never sent.
    Sends(Kind),
    /// A datagram of this kind has just been sent.
    HasSent(Kind),
    /// The record is about to be stored. If the node crashes at this point, the record is not
    /// stored.
    Stores,
    /// The record has just been stored.
    HasStored,
}

impl Point {
    pub(crate) const PHASES: [Phase; 5] =
        [Phase::Gather, Phase::Commit, Phase::Recovery, Phase::Operational, Phase::Left];
}

impl Fault {
    /// The most messages or datagrams of one fault.
    const MOST: u32 = 100_000;

    /// Returns an error if a run has no room for the fault.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (count, length) = match self {
            Self::Send { count, length, .. } => (*count, *length),
            Self::Replay(count) | Self::Foreign(count) => (*count, 0),
            Self::When { then, .. } => return then.check(),
            _ => return Ok(()),
        };
        if count > Self::MOST {
            return Err(format!("`{self}`: at most {} at once", Self::MOST));
        }
        if length > Scenario::MAX_PAYLOAD {
            return Err(format!("`{self}`: at most {} bytes", Scenario::MAX_PAYLOAD));
        }
        Ok(())
    }

    /// Returns the nodes that the fault names.
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

    /// Returns the same fault for renumbered nodes, or `None` if it names a node that is gone.
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

    /// Returns the class of the fault in a few words, for counting.
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

/// Prints the share in percent.
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
