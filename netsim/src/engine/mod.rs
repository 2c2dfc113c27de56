//! What runs a scenario.

pub(crate) mod turmoil;
