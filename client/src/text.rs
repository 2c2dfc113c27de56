//! Answers and events as text for people, in layouts that cluster operators know.

mod changes;
mod cluster;
mod quorum;

pub use changes::Changes;
pub use cluster::{cluster, notices};
pub use quorum::quorum;
