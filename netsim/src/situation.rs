//! Named situations that a run may reach. Each has to occur now and then, or the simulator tests
//! nothing.

use std::fmt;

use quorate_membership::Phase;
use serde::{Serialize, Serializer};

use crate::fault::Kind;

/// Declares the situations that need no data, each with its name.
macro_rules! situations {
    ($($situation:ident = $name:literal,)*) => {
        /// A named situation. Prints as a clause: "a ring lost its token".
        ///
        /// [`Summary::situations`](crate::Summary::situations) counts how often each occurred.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[non_exhaustive]
        pub enum Situation {
            $(#[doc = concat!("\"", $name, "\"")] $situation,)*
            /// The network lost a token.
            TokenDropped {
                /// Whether the receiver is the ring's representative.
                to_representative: bool,
                /// The state of the receiver.
                phase: Phase,
            },
            /// The network lost a commit token.
            CommitTokenDropped {
                /// Whether this was its second rotation.
                second: bool,
                /// Where it was lost.
                hop: Hop,
            },
            /// A datagram of this kind came to a node in this state.
            Received {
                /// The state of the receiver.
                phase: Phase,
                /// The kind of the datagram.
                kind: Kind,
            },
        }

        /// The situations that need no data.
        const PLAIN: &[(Situation, &str)] = &[$((Situation::$situation, $name),)*];
    };
}

situations! {
    RingOfAll = "a ring of all",
    RingOfOne = "a ring of one",
    TokenLost = "a ring lost its token",
    RepresentativeLostToken = "the representative lost its token",
    CommitTokenLost = "a commit token was lost",
    RecoveryTokenLost = "the token of a recovery was lost",
    RecoveryGivenUp = "a recovery was given up",
    CommitGivenUp = "a commit was given up",
    ThreeAttempts = "three attempts at a ring in a row",
    SixAttempts = "six attempts at a ring in a row",
    SilentNodeFailed = "consensus needed a silent one named failed",
    TwoRingsMerged = "a ring merged two rings",
    ThreeRingsMerged = "a ring merged three rings",
    BothMergingRingsHadMembers = "both of two merging rings had members",
    SameRingNumberTried = "two representatives tried the same ring sequence number",
    RestartUndetected = "a member restarted within a ring's detection time",
    RestartAfterRing = "a member restarted after its ring had gone on",
    MemberLeft = "a member left in order",
    DeclaredFailed = "a member was told failed by another",
    HostReportedDeath = "a host said that a member is gone",
    FalseReportBelieved = "a lie about a member was believed",
    FailedToReceive = "a member failed to receive",
    ForeignRingHeard = "a node was heard on another ring",
    FramesRecovered = "old frames were carried into a new ring",
    ManyFramesRecovered = "many old frames were carried into a new ring",
    TransitionalDelivery = "messages were delivered in a transitional configuration",
    TransitionalSafeDelivery = "a safe message was delivered in a transitional configuration",
    RegularSafeDelivery = "a safe message was delivered in a regular configuration",
    TransitionalHole = "a hole in a transitional configuration",
    NumbersWrapped = "numbers wrapped",
    NumbersWrappedInRecovery = "numbers wrapped while a ring was recovered",
    FramesRequested = "a token asked for frames",
    RequestListFull = "a token's list of wanted frames was full",
    FrameResent = "a frame was sent again",
    WindowFull = "a window was full",
    AruHeldBack = "one member held back aru",
    TokenResent = "a token was sent again",
    CommitTokenResent = "a commit token was sent again",
    JoinWithoutOthers = "a JOIN named all others failed",
    EmptyMessage = "a message of no bytes",
    FragmentedMessage = "a message longer than a frame",
    MegabyteMessage = "a message of a megabyte",
    MessagesWaited = "messages waited over a ring change",
    StallNoticed = "a node stood still and noticed it",
    QuorumLost = "quorum was lost",
    QuorumRegained = "quorum came back",
    DcChanged = "the DC changed",
    DcStayed = "the DC stayed over a ring change",
    HungDcReplaced = "the DC's application hung and another took over",
    DcReleased = "a DC released its role and another acted without waiting",
    DcPreempted = "a higher priority preempted",
    RingEndedInSync = "a ring ended before its members had spoken",
    ApplicationFellBehind = "an application fell behind for good",
    ReceiveBufferOverflowed = "a receive buffer overflowed",
    WindowWidened = "all members could take more than the configured window",
    RecordMissing = "a node started without its record",
    RecordWaited = "a record waited for the disk",
    MessageCut = "a message was cut in the middle by a ring change",
    RingLostForLong = "a node lost its ring and had no other in time",
    NumbersWrappedInFormation = "numbers wrapped in a ring that was being formed",
    TwoRecoveriesGivenUp = "two recoveries in a row were given up",
    ThreeRecoveriesGivenUp = "three recoveries in a row were given up",
    TwoRingsRecovered = "two old rings had frames to carry into a new one",
}

/// A part of a rotation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hop {
    /// From the representative.
    First,
    /// Between other members.
    Middle,
    /// To the representative.
    Last,
}

impl Situation {
    /// The states in which a node receives something.
    pub(crate) const PHASES: [Phase; 4] = [Phase::Gather, Phase::Commit, Phase::Recovery, Phase::Operational];

    /// The kinds of datagrams that are counted by the receiver's state.
    pub(crate) const KINDS: [Kind; 6] =
        [Kind::Token, Kind::Frame, Kind::Join, Kind::Commit, Kind::Probe, Kind::HoldCancel];

    /// Returns all situations.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::named().chain(Self::received())
    }

    /// Returns all situations except for datagrams received.
    pub(crate) fn named() -> impl Iterator<Item = Self> {
        let tokens = [true, false].into_iter().flat_map(|to_representative| {
            Self::PHASES.map(|phase| Self::TokenDropped { to_representative, phase })
        });
        let commit_tokens = [false, true].into_iter().flat_map(|second| {
            [Hop::First, Hop::Middle, Hop::Last].map(|hop| Self::CommitTokenDropped { second, hop })
        });
        PLAIN.iter().map(|(situation, _)| *situation).chain(tokens).chain(commit_tokens)
    }

    /// Returns the situations in which a datagram is received.
    pub(crate) fn received() -> impl Iterator<Item = Self> {
        let all = |phase| Self::KINDS.map(|kind| Self::Received { phase, kind });
        Self::PHASES.into_iter().flat_map(all)
    }
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenDropped { to_representative, phase } => {
                let to = if *to_representative { "the representative" } else { "another" };
                write!(f, "the network lost a token to {to}")?;
                match phase {
                    Phase::Operational => Ok(()),
                    phase => write!(f, " in {phase}"),
                }
            }
            Self::CommitTokenDropped { second, hop } => {
                let place = match hop {
                    Hop::First => "first hop",
                    Hop::Middle => "way",
                    Hop::Last => "last hop",
                };
                let rotation = if *second { "second" } else { "first" };
                write!(f, "the network lost a commit token on its {place}, {rotation} rotation")
            }
            Self::Received { phase, kind } => write!(f, "a {} came in {phase}", kind.name(false)),
            plain => {
                let name = PLAIN.iter().find(|(situation, _)| situation == plain);
                f.write_str(name.map_or("", |(_, name)| name))
            }
        }
    }
}

/// As its name.
impl Serialize for Situation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_situation_has_one_name() {
        let names: BTreeSet<String> = Situation::all().map(|situation| situation.to_string()).collect();
        assert_eq!(names.len(), Situation::all().count());
        assert!(names.contains("the network lost a token to another in gather"));
        assert!(names.contains("the network lost a token to the representative"));
        assert!(names.contains("the network lost a commit token on its way, second rotation"));
        assert!(names.contains("a hold cancel came in operational"));
    }
}
