//! Quorum and the election of a DC, as folds over the ring's ordered events.
mod candidacy;
mod codec;
mod election;
pub mod quorum;
mod status;
pub use candidacy::Candidacy;
pub use codec::DecodeError;
pub use election::{Election, Outcome, Say};
pub use quorum::{Inquorate, Quorum, Verdict};
pub use status::{NodeStatus, Status, Term};
