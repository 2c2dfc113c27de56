//! Group membership and totally ordered multicast: Totem's single ring.
#![doc = "\n\nThe front page is written with the integration of the parts."]

pub mod config;
#[cfg(feature = "tokio")]
pub mod driver;
mod event;
mod id;
mod seq;
mod stats;
mod store;
mod sync;
mod time;
mod totem;
#[cfg(feature = "tokio")]
pub mod transport;
pub mod wire;

pub use config::{Config, ConfigError};
#[cfg(feature = "tokio")]
pub use driver::{Clock, Core, Events, Node, SpawnError, run, spawn};
pub use event::{Cause, Delivery, Event, Guarantee, Regular, Service, ServiceMessage, Transitional};
pub use id::{Group, GroupNameError, NodeId, ParseIdError, RingId};
pub use seq::Seq;
pub use stats::{Refusal, Stats};
pub use store::Stored;
#[cfg(feature = "tokio")]
pub use store::{Memory, Store};
pub use time::Time;
pub use totem::{Destination, MulticastError, Origin, Totem, Transmit};
