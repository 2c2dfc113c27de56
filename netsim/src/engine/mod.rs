//! What runs a scenario.

pub(crate) mod core;
pub(crate) mod turmoil;
