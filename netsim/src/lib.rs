//! Placeholder.
mod engine;
mod fault;
pub mod history;
pub mod invariants;
mod observed;
mod scenario;

pub use fault::Fault;
pub use history::History;
pub use scenario::{Failure, Host, Load, Scenario};
