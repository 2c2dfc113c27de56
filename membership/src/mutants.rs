//! Known bugs that can be put back, one at a time, to see whether the laboratory finds them.
//!
//! Each [`Mutant`] stands for a mistake that an implementation of Totem has made, or nearly made. Where it would be
//! made, the code asks [`Mutant::is_active`], which is the constant `false` unless the crate is built with the feature
//! `mutants`; and with that feature it builds only as a debug build. So no bug can be switched on in a program that
//! anybody runs.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` puts bugs back for tests: it is not for release builds");

use std::fmt;
use std::str::FromStr;

/// Declares the mutants, each with the historical bug it stands for (corosync's history, B01 to B64) or `-`.
macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident = $bug:literal,)+) => {
        /// A bug that can be put back.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The number of the bug in corosync's history that it stands for, if there is one: `B31`.
            pub fn bug(self) -> Option<&'static str> {
                let bug = match self { $(Self::$name => $bug),+ };
                (bug != "-").then_some(bug)
            }

            /// What it does wrong, in a sentence.
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
    /// A token that was for another member is accepted.
    TokenFromAnybody = "-",
    /// A copy of a token counts as a rotation: it confirms the aru that it says.
    CopyOfTokenConfirms = "B28",
    /// Sending the token again puts off the moment at which it is lost.
    RetransmissionDefersLoss = "B30",
    /// A commit token that comes twice makes the representative send the ring's first token twice.
    SecondFirstToken = "B13",
    /// A gathering node passes on the token of the ring that it has given up.
    GatherPassesTokenOn = "-",
    /// A lost token is not sent again.
    TokenNotRetransmitted = "-",
    /// The token goes round at full speed when there is nothing to do.
    TokenNeverHeld = "B36",
    /// A held token waits out its time though there is something to send.
    HoldNeverCancelled = "B37",
    /// Who has something to send goes on with a visit of the token that is over.
    SentTokenTakenUp = "-",

    // What the token says.
    /// One token's aru is enough to call a message safe.
    SafeAfterOneRotation = "-",
    /// A member that lacks messages leaves the token's aru as it is.
    AruNotLowered = "-",
    /// A member that did not lower aru raises it.
    AruRaisedByAnybody = "-",
    /// Messages are given up once this node has them.
    ReleasedAtOwnAru = "B08",
    /// A member asks only for what is missing below the highest number it has received.
    GapsUpToHighestReceived = "B31",
    /// aru stops for good at a gap with more than 1024 numbers behind it.
    AruStopsAtLongGap = "B32",
    /// What nobody at hand can send again is struck off the retransmit list.
    RequestStruckUnserved = "-",
    /// A member that answers a request answers it again each time, though the one who asks may not hear it.
    SameOneAnswers = "-",
    /// When an entry of the retransmit list is served, those behind it are lost too.
    ServedRequestTakesTheRest = "B33",
    /// A message that is already asked for is asked for again.
    RequestedTwice = "-",
    /// A visit retransmits one frame more than it may.
    QuotaOffByOne = "B34",
    /// A visit sends more than the window leaves.
    WindowOffByOne = "-",
    /// A window that is more than full counts as empty.
    WindowUnderflow = "-",
    /// What this member sent in the last rotation stays in the token's count.
    FccNotTakenBack = "-",
    /// Two members that can take more frames a rotation do not wait for what the others say.
    WidenedUnasked = "-",
    /// A ring in which nothing has moved for long goes on believing that its window is full.
    FullWindowBelieved = "-",
    /// A recovery goes on for as long as the flag is up that says that somebody has something left.
    FlagBelieved = "-",
    /// A host is believed at once that says that a member's process is gone.
    HintNotChecked = "-",
    /// Strangers are given up as soon as members of the ring that was lost.
    StrangersGivenUpSoon = "-",
    /// A frame that is sent again says that it comes from who sends it again.
    RetransmittedAsOwn = "B27",

    // Numbers that wrap.
    /// The highest number received is found without regard to the wrap.
    WrapUnsafeHigh = "-",
    /// Whether a message is safe is judged without regard to the wrap.
    WrapUnsafeSafe = "-",
    /// Where the recovered messages begin is found without regard to the wrap.
    WrapUnsafeRecovery = "-",
    /// Where the recovered messages end is judged without regard to the wrap.
    WrapUnsafeInstall = "B15",

    // Delivery.
    /// A message is delivered in the ring though one before it is missing.
    DeliveredPastHole = "-",
    /// Safe messages are delivered as agreed ones.
    SafeAsAgreed = "-",
    /// When the ring ends, what is not known to be safe is delivered in it.
    UnsafeDeliveredBeforeTransitional = "B07",
    /// What others have delivered of the ring is not taken for safe when it ends.
    HighDeliveredForgotten = "-",
    /// Behind a hole, everything that is there is delivered in the transitional configuration.
    NoSenderFilterBehindHole = "B07",
    /// What lies behind a hole is discarded when the ring ends, whoever sent it.
    DiscardedBehindHole = "B07",
    /// What a failed recovery promised to deliver is forgotten.
    ObligationsForgotten = "-",
    /// Nobody is told what a failed recovery promised to deliver.
    ObligationsNotShared = "-",

    // Recovery.
    /// Whoever was in the old ring comes along from it, though it restarted in between.
    TransitionalByIdOnly = "B06",
    /// A member brings along only what lies behind its own gap, not what others lack.
    RecoveredFromOwnAru = "-",
    /// Members that received all they know of count as having all, though others know of more.
    ReceivedFlagKept = "-",
    /// The mark "it was me who set the flag" survives its use, and clears other members' flags.
    RetransFlagMarkKept = "B09",
    /// The ring stands as soon as this member has everything.
    InstalledBeforeEverybodyHasAll = "-",
    /// Recovered frames are given up once this node has them.
    RecoveryReleasesAtOwnAru = "B08",
    /// At most 206 frames are recovered.
    RecoveryQueueTooShort = "B10",
    /// A recovered frame is taken in with the header of the frame that carried it.
    OuterLengthKept = "B11",
    /// A recovered frame is taken for its carrier's.
    CarrierTakenForSender = "B27",
    /// A frame leaves no room for a second header, so it does not fit when it is recovered.
    NoRoomForSecondHeader = "B12",
    /// A failed recovery leaves the new ring's id behind.
    FailedRecoveryKeepsRingId = "B02",
    /// A failed recovery leaves a zero ring id behind.
    FailedRecoveryZeroesRingId = "B05",
    /// A commit that came to nothing overwrites the old ring's id.
    FailedCommitOverwritesOldRing = "B04",
    /// Frames of the old ring are taken in after the commit token was told what is there.
    FramesTakenInCommit = "-",

    // Ring ids.
    /// The stored ring sequence number is not read at the start.
    RecordNotRead = "B01",
    /// A ring is named to others before its number is durable.
    SentBeforeStored = "-",
    /// The ring sequence numbers of others are not learnt.
    RingSeqNotLearnt = "-",
    /// A commit token of an earlier ring is accepted.
    StaleCommitTokenAccepted = "B02",

    // Who is who.
    /// A node that has just started leaves when its id is claimed at another address, whatever the node list says.
    YouthDecides = "-",
    /// A frame of a ring is taken from an address that belongs to none of its members.
    FramesFromAnybody = "-",
    /// A node that gathers adds each stranger that it hears, which may be another one each time.
    StrangersDelayAgreement = "-",
    /// A JOIN is refused whole if it names one node that is not listed.
    JoinRefusedWhole = "-",
    /// A node that a ring was formed without is let in again at once, each time.
    NoBackOff = "-",
    /// A member whose host refuses twice what is sent to it is gone, however short that lasts.
    EvidenceOfAMoment = "-",
    /// Members probe the next one only.
    ProbesGoOneWay = "-",
    /// A member that still waits for a held token has to show itself as soon as one that misses it.
    TokenMissedAtOnce = "-",
    /// A member that is asked whether it is there says nothing.
    QuestionUnanswered = "-",
    /// A corosync daemon holds the token for as long as it likes.
    ForeignHoldAwaited = "-",
    /// Any ring number that is said in a JOIN or a commit token is believed.
    AnyRingSeqBelieved = "-",

    // Gathering.
    /// No two lists of nodes are ever equal.
    ListsNeverEqual = "B18",
    /// A list that shares one node with another counts as contained in it.
    SubsetAfterFirstHit = "B20",
    /// Whom members call failed is not taken over.
    FailedNotMerged = "-",
    /// A node that is called failed calls its accuser failed.
    AccusationsAnswered = "B16",
    /// Whoever believes something else when the consensus timeout ends is called failed, heard or not.
    AllWhoDifferAccused = "B16",
    /// A node that is called failed believes it.
    BelievesItselfFailed = "B25",
    /// A node that leaves is not called failed.
    LeaverNotFailed = "B19",
    /// LEAVE is said once.
    LeaveSaidOnce = "-",
    /// A JOIN from before the ring ends it.
    StaleJoinEndsRing = "B24",
    /// A node that stood still takes the others for silent.
    StallForgotten = "B24",
    /// Nobody looks for other rings.
    MergeDetectNeverSent = "-",
    /// A ring is formed before all agree.
    CommitBeforeConsensus = "-",

    /// Who announces another cluster is heard all the same.
    OtherClusterHeard = "-",

    // Messages and frames.
    /// The last fragment of a message says that it goes on.
    FragmentEndMissing = "B41",
    /// Each fragment after the first begins where the first ended.
    FragmentOffsetForgotten = "B42",
    /// A message that was cut by a ring change goes on in the next ring.
    CutMessageGoesOn = "B40",
    /// What a member says first after a restart is appended to what it left unfinished.
    AppendedToUnfinished = "B45",
    /// A fragment of one sender throws away the unfinished messages of all others.
    ThrowAwayForAll = "B44",
    /// A message without content is accepted and lost.
    EmptyMessageLost = "B47",

    // The new ring's first words.
    /// Applications speak before the sync is done.
    SentBeforeSynced = "B39",
    /// A barrier counts for all stages to come.
    BarriersKept = "-",
    /// Who was in both rings did neither leave nor join, though it restarted in between.
    JoinedByDifference = "B60",

    // Quorum and election.
    /// Half of the votes are enough.
    HalfIsQuorate = "B51",
    /// As many votes are expected as are present.
    ExpectedVotesFollowMembers = "B55",
    /// What an inquorate member expects counts in a quorate ring.
    ExpectedFromInquorate = "B50",
    /// Half of an odd number of votes, rounded down, is a tie.
    TieBreakOdd = "-",
    /// A tie is broken when a cluster starts.
    TieBreakAtStart = "-",
    /// A node that starts does not wait for all.
    StartsWithoutAll = "-",
    /// A node that lost quorum does not wait for all again.
    WaitNotRearmed = "-",
    /// Those who left are no longer expected at once.
    LastManFallsAtOnce = "-",
    /// A ring without quorum no longer expects those who left.
    LastManFallsInquorate = "-",
    /// Any two of many nodes are quorate.
    TwoNodeOfMany = "-",
    /// Members with different options make one ring.
    OptionsNotCompared = "B52",
    /// Votes count as members say, whatever was agreed on, and whoever has listed them.
    ForeignVotesCount = "-",
    /// What a ring proposes counts alone before members have stored it.
    AgreedUnstored = "-",
    /// A ring counts as quorate until its members have spoken, if the one before it was.
    QuorumKeptInNewRing = "B57",
    /// A node that has lost its ring, and finds no other, goes on to say that it is quorate.
    StaleView = "-",
    /// Quorum is told of in a transitional configuration, too.
    QuorumKeptInTransition = "-",
    /// The DC of the old ring is that of the new one until its members have spoken.
    DcKeptInNewRing = "-",
    /// The status names the ring before.
    StatusOfOldRing = "B57",
    /// Each member elects itself.
    EachElectsItself = "-",
    /// A ring without quorum has a term.
    TermWithoutQuorum = "-",
    /// An incumbent keeps its term.
    TermKeptByIncumbent = "-",

    // The lease.
    /// The lease runs from the receipt of the token that has gone round.
    LeaseFromReceipt = "-",
    /// The lease runs from the token's last transmission, though it was sent again.
    LeaseFromResend = "-",
    /// Clocks are taken to run alike.
    LeaseWithoutRateError = "-",
    /// A new DC does not wait until the leases of earlier rings are over.
    NoWaitInNewRing = "-",
    /// An incumbent goes on under its lease, whoever else has been DC meanwhile.
    LeaseKeptUnasked = "-",
    /// A DC that was removed counts as one that has handed over.
    RemovalCountsAsRelease = "-",
    /// Terms are counted in memory.
    TermNotPersisted = "-",
    /// A DC goes on in a ring without quorum.
    DcKeptWithoutQuorum = "-",
    /// A DC that has given up its role acts until its lease is over.
    ReleasedDcGoesOn = "-",
    /// A DC whose application hangs keeps the role.
    HungKeepsRole = "-",
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no mutant of this name.
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
    /// Whether this bug is to be made. It is not: the feature `mutants` is off.
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
        /// Whether this bug is to be made, on this thread.
        #[inline]
        pub fn is_active(self) -> bool {
            ACTIVE.get() == Some(self)
        }

        /// Puts the bug back, for all nodes that run on this thread, until the guard is dropped.
        #[must_use = "the bug is gone again when this is dropped"]
        pub fn activate(self) -> Active {
            Active { before: ACTIVE.replace(Some(self)) }
        }
    }

    /// While it lives, so does the mutant.
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
