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
//! back, or returns from the smaller side of a partition never deposes the DC. A corosync daemon in the ring has its
//! votes and is never elected.
//!
//! # Embedding
//! ```
//! # #[cfg(feature = "tokio")]
//! # mod embedding {
//! use std::error::Error;
//!
//! use quorate_election::{Event, spawn};
//! use quorate_membership::{Config, transport::Transport};
//!
//! async fn serve(config: Config, transport: impl Transport) -> Result<(), Box<dyn Error>> {
//!     let me = config.node;
//!     let (_node, mut events, _latest) = spawn(config, transport, "/var/lib/my-service").await?;
//!     while let Some(event) = events.next().await {
//!         match event {
//!             Event::Status(status) => match status.term {
//!                 Some(term) if term.node == me => println!("acting as DC, fencing token {term}"),
//!                 Some(term) => println!("node {} is DC", term.node),
//!                 None => println!("nobody may act: {:?}", status.inquorate),
//!             },
//!             Event::Ring(event) => println!("{event:?}"),
//!         }
//!     }
//!     Ok(())
//! }
//! # }
//! ```
//!
//! # Guarantees
//! - At any point of a ring's order there is at most one DC; it is a member; all members name the same one, with the
//!   same term, and agree on the quorum and on why there is none.
//! - When the ring changes, quorum and DC are withdrawn ([`Status::settled`]) before anything is delivered in the new
//!   ring, and come back, if they do, before any application's message in it.
//! - Only a quorate ring has a [`Term`]. Terms of quorate rings rise strictly, all over the cluster and over restarts, as
//!   long as any two quorate rings share a member (a static set of votes, all nodes expecting their sum) and every
//!   voter keeps its stored record. Real corosync voters do not promise the latter: they start at ring 0 again
//!   when their record is lost.
//! - A ring without quorum shows a DC, as operators are used to, but it has no term and must not act.
//!
//! # Not guaranteed
//! *Two DCs may act at the same time.* The members of a ring that broke notice it at different times: the majority
//! can have elected its new DC while the old one, cut off or stopped, still believes in its ring, for as long as the
//! detection takes (token timeout and consensus timeout; longer if it was stopped). There is no lease yet that would
//! end the old tenure in time. What makes late acts harmless is a resource that checks: hand it the term
//! ([`Term::as_u128`]) with every act and let it refuse any lower than the highest it has seen. Even the lease will
//! not make that superfluous, since no check before an act is one with it.
//!
//! Nor is there yet: a priority from the configuration, a hand-over within a ring, waiting for all expected nodes when
//! a cluster starts, and what the module [`quorum`] lists.

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
pub use quorum::{Inquorate, Quorum, Verdict};
pub use status::{Lease, NodeStatus, Status, Term, Vacancy};
