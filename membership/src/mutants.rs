//! Known bugs that can be put back, one at a time, to test whether the laboratory finds them.
//!
//! Each [`Mutant`] stands for a mistake that an implementation of Totem has made, or nearly made.
//! Where the mistake would be made, the code says `bug!(Name: wrong; right)`
//! ([`bug!`](crate::bug)). The correct code follows the semicolon. The macro
//! calls [`Mutant::is_active`], which is the constant `false` unless the crate is built with the
//! feature `mutants`, which compiles only in debug builds. So no bug can be switched on in a
//! production program.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` puts bugs back for tests: it is not for release builds");

use std::fmt;
use std::str::FromStr;

/// Puts a known bug back while its [`Mutant`](mutants::Mutant) is active. `bug!(Name: wrong;
/// right)` evaluates `wrong` then, and `right` otherwise.
#[doc(hidden)]
#[macro_export]
macro_rules! bug {
    ($name:ident: $wrong:expr; $right:expr) => {
        if $crate::mutants::Mutant::$name.is_active() { $wrong } else { $right }
    };
}

/// Declares the mutants, each with the historical bug that it stands for (corosync's history, B01
/// to B64) or `-`.
macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident = $bug:literal,)+) => {
        /// A bug that can be put back.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mutant {
            /// All mutants.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The mutants of replicas (crate `quorate`), whose tests find them.
            pub const OF_REPLICAS: &[Self] = &[
                Self::TransitionAcknowledged,
                Self::AgreedAcknowledged,
                Self::AnyStateLeads,
                Self::RestoredWithoutWrites,
                Self::AnySnapshotResumed,
                Self::OpenedByFew,
            ];

            /// The mutants of named leaders (crate `quorate`), whose tests find them.
            pub const OF_LEADERS: &[Self] =
                &[Self::LeaderDoesNotWait, Self::LeaderKeptUnasked, Self::LeaderReleasesFirst];

            /// Returns the number of the bug in corosync's history that the mutant stands for
            /// (`B31`), if there is one.
            pub fn bug(self) -> Option<&'static str> {
                let bug = match self { $(Self::$name => $bug),+ };
                (bug != "-").then_some(bug)
            }

            /// Returns a sentence that describes the bug.
            pub fn what(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii()),+ }
            }

            fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

mutants! {
    // The token.
    /// A copy of the last token is taken for a new one.
    CopyOfTokenAccepted = "-",
    /// A token that was meant for another member is accepted.
    TokenFromAnybody = "-",
    /// A copy of a token counts as a rotation and confirms the aru that it carries.
    CopyOfTokenConfirms = "B28",
    /// Retransmitting the token defers the moment at which it counts as lost.
    RetransmissionDefersLoss = "B30",
    /// A commit token that arrives twice makes the representative send the ring's first token
    /// twice.
    SecondFirstToken = "B13",
    /// A gathering node passes on the token of the ring that it has given up.
    GatherPassesTokenOn = "-",
    /// A lost token is not retransmitted.
    TokenNotRetransmitted = "-",
    /// The token circulates at full speed when there is nothing to do.
    TokenNeverHeld = "B36",
    /// A held token waits for its full time although there is something to send.
    HoldNeverCancelled = "B37",
    /// A member with something to send continues a token visit that is over.
    SentTokenTakenUp = "-",

    // The fields of the token.
    /// A single token's aru is enough for a message to count as safe.
    SafeAfterOneRotation = "-",
    /// A member that lacks messages does not lower the token's aru.
    AruNotLowered = "-",
    /// A member that did not lower aru raises it.
    AruRaisedByAnybody = "-",
    /// Messages are released as soon as this node has them.
    ReleasedAtOwnAru = "B08",
    /// A member asks only for what is missing below the highest number it has received.
    GapsUpToHighestReceived = "B31",
    /// aru stops for good at a gap with more than 1024 numbers behind it.
    AruStopsAtLongGap = "B32",
    /// Requests that no reachable member can serve are removed from the retransmit list.
    RequestStruckUnserved = "-",
    /// A member that answers a request answers it again each time, although the requester may not
    /// hear this member.
    SameOneAnswers = "-",
    /// When an entry of the retransmit list is served, the entries behind it are lost too.
    ServedRequestTakesTheRest = "B33",
    /// A message that has already been requested is requested again.
    RequestedTwice = "-",
    /// A visit retransmits one frame more than its quota.
    QuotaOffByOne = "B34",
    /// A visit sends more frames than the window has room for.
    WindowOffByOne = "-",
    /// A window that is overfull counts as empty.
    WindowUnderflow = "-",
    /// The frames that this member sent in the last rotation stay in the token's count.
    FccNotTakenBack = "-",
    /// Two members that can take more frames per rotation do not wait for the other members'
    /// announcements.
    WidenedUnasked = "-",
    /// A ring in which nothing has moved for long still takes its window for full.
    FullWindowBelieved = "-",
    /// A recovery continues while its flag is raised, even if no member has frames left.
    FlagBelieved = "-",
    /// A host's report that a member's process is gone is believed at once.
    HintNotChecked = "-",
    /// Strangers are given up as soon as members of the lost ring are.
    StrangersGivenUpSoon = "-",
    /// A commit token is accepted even if this node cannot send it to the next member, whose
    /// address it does not know.
    CommitTokenToStranger = "-",
    /// A retransmitted frame names the retransmitting member as its sender.
    RetransmittedAsOwn = "B27",

    // Numbers that wrap.
    /// The highest number received is determined without regard to the wrap.
    WrapUnsafeHigh = "-",
    /// Whether a message is safe is judged without regard to the wrap.
    WrapUnsafeSafe = "-",
    /// The beginning of the recovered messages is determined without regard to the wrap.
    WrapUnsafeRecovery = "-",
    /// The end of the recovered messages is determined without regard to the wrap.
    WrapUnsafeInstall = "B15",

    // Delivery.
    /// A message is delivered in the ring although one before it is missing.
    DeliveredPastHole = "-",
    /// Safe messages are delivered as agreed ones.
    SafeAsAgreed = "-",
    /// When the ring ends, messages that are not known to be safe are delivered in it.
    UnsafeDeliveredBeforeTransitional = "B07",
    /// Messages that other members have delivered in the ring are not taken for safe when it ends.
    HighDeliveredForgotten = "-",
    /// All messages behind a hole are delivered in the transitional configuration.
    NoSenderFilterBehindHole = "B07",
    /// Messages behind a hole are discarded when the ring ends, whatever their sender.
    DiscardedBehindHole = "B07",
    /// The messages that a failed recovery promised to deliver are forgotten.
    ObligationsForgotten = "-",
    /// The messages that a failed recovery promised to deliver are not announced.
    ObligationsNotShared = "-",

    // Recovery.
    /// A member of the old ring moves along from it although it restarted in between.
    TransitionalByIdOnly = "B06",
    /// A member recovers only the messages behind its own gap, not those that others lack.
    RecoveredFromOwnAru = "-",
    /// Members that received all messages they know of count as complete, although others know of
    /// more.
    ReceivedFlagKept = "-",
    /// The mark for "this member set the flag" survives its use, and clears other members' flags.
    RetransFlagMarkKept = "B09",
    /// The ring is installed as soon as this member has everything.
    InstalledBeforeEverybodyHasAll = "-",
    /// Recovered frames are released as soon as this node has them.
    RecoveryReleasesAtOwnAru = "B08",
    /// At most 206 frames are recovered.
    RecoveryQueueTooShort = "B10",
    /// A recovered frame is inserted with the header of the frame that carried it.
    OuterLengthKept = "B11",
    /// A recovered frame is attributed to the sender of its carrier.
    CarrierTakenForSender = "B27",
    /// A frame leaves no room for a second header, so it does not fit when it is recovered.
    NoRoomForSecondHeader = "B12",
    /// A failed recovery leaves the new ring's id behind.
    FailedRecoveryKeepsRingId = "B02",
    /// A failed recovery leaves a zero ring id behind.
    FailedRecoveryZeroesRingId = "B05",
    /// A failed commit overwrites the old ring's id.
    FailedCommitOverwritesOldRing = "B04",
    /// Frames of the old ring are inserted after its state was written into the commit token.
    FramesTakenInCommit = "-",

    // Ring ids.
    /// The stored ring sequence number is not read at the start.
    RecordNotRead = "B01",
    /// A ring is named to others before its number is durable.
    SentBeforeStored = "-",
    /// The ring sequence numbers of other nodes are not learnt.
    RingSeqNotLearnt = "-",
    /// A commit token of an earlier ring is accepted.
    StaleCommitTokenAccepted = "B02",

    // Identity.
    /// A node that has just started leaves when its id is claimed at another address, whatever the
    /// node list says.
    YouthDecides = "-",
    /// A frame of a ring is accepted from an address of a non-member.
    FramesFromAnybody = "-",
    /// A gathering node adds each stranger that it hears, and each time it may be a different one.
    StrangersDelayAgreement = "-",
    /// A JOIN is refused as a whole if it names a node that is not listed.
    JoinRefusedWhole = "-",
    /// Node lists that other nodes announce are ignored.
    NodeListsIgnored = "-",
    /// A node that a ring was formed without is always readmitted at once.
    NoBackOff = "-",
    /// A member whose host refuses datagrams twice is taken for gone, however short the refusals
    /// last.
    EvidenceOfAMoment = "-",
    /// Members probe only the next member.
    ProbesGoOneWay = "-",
    /// A member that still waits for a held token has to show itself as early as a member that
    /// misses it.
    TokenMissedAtOnce = "-",
    /// A member that is asked for a sign of life does not answer.
    QuestionUnanswered = "-",
    /// A suspected member is probed while it is being asked, which uses up its host's refusals.
    SuspectsProbed = "-",
    /// A suspected member is forgotten before its host may send the next refusal.
    SuspicionForgotten = "-",
    /// A corosync daemon may hold the token without limit.
    ForeignHoldAwaited = "-",
    /// Any ring number in a JOIN or a commit token is believed.
    AnyRingSeqBelieved = "-",

    // Gathering.
    /// Lists of nodes are never equal.
    ListsNeverEqual = "B18",
    /// A list that shares one node with another counts as contained in it.
    SubsetAfterFirstHit = "B20",
    /// The nodes that members call failed are not adopted.
    FailedNotMerged = "-",
    /// A node that is called failed calls its accuser failed.
    AccusationsAnswered = "B16",
    /// Every node that disagrees when the consensus timeout ends is called failed, whether heard or
    /// not.
    AllWhoDifferAccused = "B16",
    /// A node that is called failed believes it.
    BelievesItselfFailed = "B25",
    /// A node that leaves is not called failed.
    LeaverNotFailed = "B19",
    /// LEAVE is sent only once.
    LeaveSaidOnce = "-",
    /// A JOIN from before the ring ends it.
    StaleJoinEndsRing = "B24",
    /// A node that was paused takes the others for silent.
    StallForgotten = "B24",
    /// No member looks for other rings.
    MergeDetectNeverSent = "-",
    /// A ring is formed before all agree.
    CommitBeforeConsensus = "-",

    /// A node that announces another cluster is heard nevertheless.
    OtherClusterHeard = "-",

    // Messages and frames.
    /// The last fragment of a message is marked as continued.
    FragmentEndMissing = "B41",
    /// Each fragment after the first begins where the first ended.
    FragmentOffsetForgotten = "B42",
    /// A message that was cut by a ring change continues in the next ring.
    CutMessageGoesOn = "B40",
    /// The first message of a member after a restart is appended to its unfinished one.
    AppendedToUnfinished = "B45",
    /// A fragment from one sender discards the unfinished messages of all others.
    ThrowAwayForAll = "B44",
    /// A message without content is accepted and lost.
    EmptyMessageLost = "B47",

    // Synchronisation of a new ring.
    /// Applications send before the sync is done.
    SentBeforeSynced = "B39",
    /// A barrier counts for all later stages.
    BarriersKept = "-",
    /// A member of both rings neither left nor joined, although it restarted in between.
    JoinedByDifference = "B60",

    // Quorum and election.
    /// Half of the votes are enough.
    HalfIsQuorate = "B51",
    /// As many votes are expected as are present.
    ExpectedVotesFollowMembers = "B55",
    /// The expected votes of an inquorate member count in a quorate ring.
    ExpectedFromInquorate = "B50",
    /// Half of an odd number of votes, rounded down, is a tie.
    TieBreakOdd = "-",
    /// A tie is broken when a cluster starts.
    TieBreakAtStart = "-",
    /// A node that starts does not wait for all.
    StartsWithoutAll = "-",
    /// A node that lost quorum does not wait for all again.
    WaitNotRearmed = "-",
    /// Votes of members that left stop being expected at once.
    LastManFallsAtOnce = "-",
    /// A ring without quorum stops expecting the members that left.
    LastManFallsInquorate = "-",
    /// Any two nodes of a larger cluster are quorate.
    TwoNodeOfMany = "-",
    /// Members with different options make one ring.
    OptionsNotCompared = "B52",
    /// Votes count as members state them, regardless of the agreed votes and of the lists.
    ForeignVotesCount = "-",
    /// A ring's proposal alone counts before members have stored it.
    AgreedUnstored = "-",
    /// The quorum device's votes count where members agree on the votes.
    DeviceVotesAgree = "-",
    /// A ring that is quorate by the quorum device only has a term.
    DeviceGrantsTerms = "-",
    /// A new ring does not wait for the quorum device, whose votes still count.
    DeviceNotAwaited = "-",
    /// A ring counts as quorate until its members have reported, if the previous ring was quorate.
    QuorumKeptInNewRing = "B57",
    /// A node that has lost its ring and finds no other still reports that it is quorate.
    StaleView = "-",
    /// Quorum is also reported in a transitional configuration.
    QuorumKeptInTransition = "-",
    /// The old ring's DC remains DC in the new ring until its members have reported.
    DcKeptInNewRing = "-",
    /// The status names the previous ring.
    StatusOfOldRing = "B57",
    /// Each member elects itself.
    EachElectsItself = "-",
    /// A ring without quorum has a term.
    TermWithoutQuorum = "-",
    /// An incumbent keeps its term.
    TermKeptByIncumbent = "-",

    // The lease.
    /// The lease runs from the receipt of the token that has completed a rotation.
    LeaseFromReceipt = "-",
    /// The lease runs from the token's last transmission, although it was a retransmission.
    LeaseFromResend = "-",
    /// Clocks are assumed to run at the same rate.
    LeaseWithoutRateError = "-",
    /// A new DC does not wait until the leases of earlier rings are over.
    NoWaitInNewRing = "-",
    /// An incumbent keeps its lease, whichever nodes have been DC meanwhile.
    LeaseKeptUnasked = "-",
    /// A DC that was removed counts as a DC that has handed over.
    RemovalCountsAsRelease = "-",
    /// Terms are counted in memory only.
    TermNotPersisted = "-",
    /// A DC continues in a ring without quorum.
    DcKeptWithoutQuorum = "-",
    /// A DC that has given up its role acts until its lease expires.
    ReleasedDcGoesOn = "-",
    /// A DC whose application hangs keeps the role.
    HungKeepsRole = "-",

    // The replica.
    /// A write that is delivered after its ring broke is acknowledged.
    TransitionAcknowledged = "-",
    /// Writes are agreed messages, which are acknowledged before others have received them.
    AgreedAcknowledged = "-",
    /// A ring continues the newest state of its members, although others may have a newer one.
    AnyStateLeads = "-",
    /// A member that has received a snapshot skips the writes since.
    RestoredWithoutWrites = "-",
    /// A snapshot that a ring change has cut is continued, although the ring continues another
    /// state.
    AnySnapshotResumed = "-",
    /// The members that have a state open the ring, although they are too few to keep it.
    OpenedByFew = "-",

    // Named leaders.
    /// A leader for a name does not wait until earlier leases are over.
    LeaderDoesNotWait = "-",
    /// A leader for a name continues in a new ring, whichever members have led meanwhile.
    LeaderKeptUnasked = "-",
    /// A leader releases a name and acts until the others have been told.
    LeaderReleasesFirst = "-",
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The error for an unknown mutant name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no mutant {0:?}")]
pub struct UnknownMutant(String);

impl FromStr for Mutant {
    type Err = UnknownMutant;

    fn from_str(name: &str) -> Result<Self, UnknownMutant> {
        let named = Self::ALL.iter().copied().find(|mutant| mutant.name() == name);
        named.ok_or_else(|| UnknownMutant(name.to_owned()))
    }
}

#[cfg(not(feature = "mutants"))]
impl Mutant {
    /// Returns `false`, because the feature `mutants` is off.
    #[inline(always)]
    pub const fn is_active(self) -> bool {
        false
    }
}

#[cfg(feature = "mutants")]
pub use switch::Active;

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Mutant {
        /// Returns `true` if this bug is active on this thread.
        #[inline]
        pub fn is_active(self) -> bool {
            ACTIVE.get() == Some(self)
        }

        /// Puts the bug back for all nodes that run on this thread, until the guard is dropped.
        #[must_use = "the bug is gone again when this is dropped"]
        pub fn activate(self) -> Active {
            Active { before: ACTIVE.replace(Some(self)) }
        }
    }

    /// The guard of an active mutant.
    #[derive(Debug)]
    pub struct Active {
        before: Option<Mutant>,
    }

    impl Drop for Active {
        fn drop(&mut self) {
            ACTIVE.set(self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_are_known_by_name() {
        for &mutant in Mutant::ALL {
            assert_eq!(mutant.to_string().parse(), Ok(mutant));
            assert!(mutant.what().ends_with('.'), "{mutant}: {}", mutant.what());
        }
        assert_eq!("Batman".parse::<Mutant>().unwrap_err().to_string(), "there is no mutant \"Batman\"");
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn without_the_feature_no_bug_can_be_put_back() {
        const { assert!(!Mutant::CopyOfTokenAccepted.is_active()) };
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_bug_is_put_back_for_as_long_as_its_guard_lives() {
        let mutant = Mutant::CopyOfTokenAccepted;
        let guard = mutant.activate();
        assert!(mutant.is_active() && !Mutant::SafeAsAgreed.is_active());
        assert!(!std::thread::spawn(move || mutant.is_active()).join().unwrap(), "on this thread only");
        drop(guard);
        assert!(!mutant.is_active());
    }
}
