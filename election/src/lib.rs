//! Quorum and the election of a DC, as folds over the ring's ordered events.
//!
//! The ring ([`quorate_membership`]) gives all its members the same events in the same order. So an election is not a
//! conversation: whenever a ring is formed, each member says once how many votes it has ([`Quorum`]) and what it is
//! ([`Candidacy`]); when all have spoken, each looks at the same list and finds the same DC, the designated controller,
//! which acts for all. No timer decides, no vote is counted, and a ring with quorum has its DC at once. [`Election`] is
//! that fold, without input or output of its own.
//!
//! # Who is elected
//! The derived order of [`Candidacy`] is the whole policy: the incumbent of the latest quorate ring; then the highest
//! operator's priority; the lowest feature version; the longest in the ring; the lowest id. So a node that joins, comes
//! back, or returns from the smaller side of a partition never deposes the DC; unless the operator wants that (`preempt`), and
//! then the DC hands over to the node of higher priority. A corosync daemon in the ring has its votes and is never elected.
//!
//! A cluster that starts elects as soon as all expected votes are there, and at the latest when the one that is to be DC has
//! waited for the `dc_deadtime`.
//!
//! # Who may act
//! A DC acts under a lease, which ends before another's can begin. [`Dc::guard`] waits for it, [`Guard::check`] asks again just
//! before each act. [`assumptions`] says what that rests on, and what is not promised.
//!
//! # What may be acknowledged
//! A service that replicates a state makes every message, in its order, and acknowledges what was sent as safe and is
//! delivered while the last [`Status`] is quorate. Where a ring broke, each side is delivered its last messages without
//! quorum ([`Delivery::transitional`](quorate_membership::Delivery::transitional)): they are made, since the other side may
//! have acknowledged them, and not acknowledged, since it may never see them. What a side without quorum has made is replaced
//! by the state of the other one when they meet. Whether a message is made must not depend on the status: a withdrawal is of
//! this node's clock, and other members may not see it at that place.
//!
//! # Embedding
//! ```
//! # #[cfg(feature = "tokio")]
//! # mod embedding {
//! use std::error::Error;
//!
//! use quorate_election::spawn;
//! use quorate_membership::{Config, transport::Transport};
//!
//! async fn serve(config: Config, transport: impl Transport) -> Result<(), Box<dyn Error>> {
//!     // Who wants to see more than who may act takes the events.
//!     let (_node, _, dc) = spawn(config, transport, "/var/lib/my-service").await?;
//!     loop {
//!         let guard = dc.guard().await?;
//!         while let Ok(term) = guard.check() {
//!             println!("acting as DC, fencing token {term}");
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! # Guarantees
//! - At any point of a ring's order there is at most one DC; it is a member; all members name the same one, with the
//!   same term, and agree on the quorum and on why there is none.
//! - When the ring is over, quorum and DC are withdrawn ([`Status::settled`]) before its last messages are delivered, those of
//!   the transitional configuration, and come back, if they do, before any application's message in the new ring.
//! - When no token comes for the token timeout, they are withdrawn at that moment, wherever that is in the order, and come
//!   back with the token or with another ring. [`Dc::status`] says so even while the process has not noticed yet.
//! - Only a quorate ring has a [`Term`]. Terms rise strictly, all over the cluster and over restarts, as long as any two
//!   quorate rings share a member (a static set of votes, all nodes expecting their sum) and every voter keeps its stored
//!   record.
//! - No two nodes may act at one time ([`Status::lease`]), as long as clocks are no more wrong than the rate error and go on while
//!   a node stands still.
//! - A ring without quorum shows a DC, as operators are used to, but it has no term and must not act.
//!
//! # Not guaranteed
//! Which nodes have votes, members agree on, whatever their files say: [`two_parts`] has the argument. With `two_node`, `last_man_standing`, `auto_tie_breaker` without `wait_for_all`, or fewer expected votes than there are,
//! two rings without a common member can be quorate: then neither terms nor leases are what they promise. The module
//! [`quorum`] says what each option does. Nor is there a quorum device.

#[doc = include_str!("../what-the-dc-may-assume.md")]
pub mod assumptions {}
#[doc = include_str!("../two-parts.md")]
pub mod two_parts {}
mod candidacy;
mod codec;
#[cfg(feature = "tokio")]
mod dc;
#[cfg(feature = "tokio")]
mod driver;
mod election;
mod lease;
#[cfg(feature = "tokio")]
mod member;
mod message;
pub mod quorum;
mod status;

pub use candidacy::Candidacy;
pub use codec::DecodeError;
#[cfg(feature = "tokio")]
pub use dc::{Dc, Guard, Revoked};
#[cfg(feature = "tokio")]
pub use driver::spawn;
pub use election::{Election, Outcome, ReleaseError, Say};
pub use lease::LeaseRule;
#[cfg(feature = "tokio")]
pub use member::{Event, Member};
pub use quorum::{Ballot, Dated, Electorate, Inquorate, NoElectorate, Quorum, Record, Tie, Verdict};
pub use status::{Lease, NodeStatus, Status, Term, Vacancy};
