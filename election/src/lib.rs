//! Quorum and DC election, as folds over the ring's ordered events.
//!
//! The ring ([`quorate_membership`]) delivers the same events in the same order to all its members.
//! An election therefore needs no negotiation. When a ring forms, each member sends one message
//! with its votes ([`Quorum`]) and one that describes it as a candidate ([`Candidacy`]). Once all
//! members have sent theirs, each member evaluates the same list and finds the same DC, the
//! designated controller, which acts for all. No timer decides, no votes are cast for candidates,
//! and a ring with quorum has its DC at once. [`Election`] is this fold; it does no I/O of its own.
//!
//! # Election policy
//! The derived order of [`Candidacy`] is the whole policy. It prefers, in this order:
//!
//! 1. the incumbent of the latest quorate ring,
//! 2. the highest priority set by the operator,
//! 3. the lowest feature version,
//! 4. the longest membership in the ring,
//! 5. the lowest id.
//!
//! A node that joins, comes back, or returns from the smaller side of a partition therefore never
//! deposes the DC. The exception is `preempt`: if the operator sets it, the DC hands over to a node
//! of higher priority. A corosync daemon in the ring contributes its votes and is never elected.
//!
//! A cluster that starts elects as soon as all expected votes are present, and at the latest when
//! the DC-to-be has waited for the `dc_deadtime`.
//!
//! # Acting as DC
//! A DC acts under a lease, which ends before another DC's lease can begin. An application waits
//! for the lease, and checks it again just before each act (`Dc::guard` and `Guard::check` of the
//! crate `quorate`). [`assumptions`] explains what this rests on and what is not promised.
//!
//! # Acknowledging messages
//! A service that replicates state applies every message, in order. It acknowledges a message only
//! if the message was sent as safe and is delivered while the last [`Status`] is quorate. When a
//! ring breaks, each side delivers its last messages without quorum
//! ([`Delivery::transitional`](quorate_membership::Delivery::transitional)). A service applies
//! these messages, because the other side may have acknowledged them, but does not acknowledge
//! them, because the other side may never see them. When the sides meet, the state of the quorate
//! side replaces everything that a side without quorum has applied. The decision to apply a message
//! must not depend on the status: a withdrawal of quorum follows this node's clock, and other
//! members may not see it at that place in the order.
//!
//! # Guarantees
//! - At any point of a ring's order there is at most one DC, and it is a member. All members name
//!   the same DC with the same term, and agree on the quorum and on the reason if there is none.
//! - When the ring ends, quorum and DC are withdrawn ([`Status::settled`]) before its last messages
//!   are delivered, those of the transitional configuration. If they return, they do so before any
//!   application message of the new ring.
//! - When no token arrives for the token timeout, quorum and DC are withdrawn at that moment,
//!   wherever that is in the order. They return with the token or with another ring. `Dc::status`
//!   of the crate `quorate` reports this even before the process has noticed.
//! - Only a ring that is quorate by its members' votes has a [`Term`]. Terms rise strictly, across
//!   the whole cluster and across restarts, provided that any two such rings share a member (a
//!   static set of votes, and all nodes expect their sum) and every voter keeps its stored record.
//! - No two nodes may act at the same time ([`Status::lease`]), provided that clocks stay within
//!   the rate error and keep running while a node is paused.
//! - A ring without quorum shows a DC, as operators are used to. It has no term and must not act.
//!
//! # Not guaranteed
//! The members agree on which nodes have votes, whatever their files say; [`two_parts`] has the
//! argument. With `two_node`, `last_man_standing`, `auto_tie_breaker` without `wait_for_all`, or
//! fewer expected votes than there are, two rings without a common member can both be quorate.
//! Terms and leases then lose their guarantees. The module [`quorum`] describes each option. A
//! quorum device that gives its votes to two parts at once makes both quorate, too, but terms and
//! leases do not depend on it.

#[doc = include_str!("../what-the-dc-may-assume.md")]
pub mod assumptions {}
#[doc = include_str!("../two-parts.md")]
pub mod two_parts {}
mod candidacy;
mod codec;
mod election;
mod event;
mod lease;
mod member;
mod message;
pub mod quorum;
mod status;
mod term;

pub use candidacy::Candidacy;
pub use codec::DecodeError;
pub use election::{Election, Outcome, ReleaseError, Say};
pub use event::Event;
pub use lease::{LeaseRule, NodeLease};
pub use member::Member;
pub use quorum::{
    Ballot, Dated, DeviceOutcome, Electorate, Inquorate, NoElectorate, Quorum, Record, Tie, Verdict,
};
pub use status::{DeviceStatus, Lease, NodeStatus, Status, Vacancy};
pub use term::{InvalidTerm, Term};
