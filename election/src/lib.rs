//! Quorum and the election of a DC, as folds over the ring's ordered events.
#![doc = "\n\nThe front page is written with the integration of the parts."]

mod status;

pub use status::{NodeStatus, Status, Term};
