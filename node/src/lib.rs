//! Group membership, totally ordered messages, quorum and a fenced leader, to embed in a service.
//!
//! The nodes of a cluster form a ring: they agree on its members, deliver the same messages in the
//! same order, and elect one of them, the DC, which acts for all while it has a quorum and a lease.
//! No server is needed beside the service. The ring is that of corosync 3.1, whose daemons can be
//! members of it.
//!
//! This crate runs the protocol on tokio, over real sockets, with a record on disk. The protocol
//! itself is in [`quorate_membership`] (the ring) and [`quorate_election`] (quorum, lease and DC),
//! whose pages say what is guaranteed and what is not. Their types are exported here.
//!
//! # A node
//! ```no_run
//! use quorate::{Config, Event, Group, Guarantee, Node};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let nodes = [(1, "10.0.0.1"), (2, "10.0.0.2"), (3, "10.0.0.3")];
//! let config = Config::of_cluster("my-service", 1, nodes)?; // or config::load(..), from_env()
//! let (node, mut events, _dc) =
//!     Node::builder(config).state_dir("/var/lib/my-service").start().await?;
//!
//! let group: Group = "orders".parse()?;
//! node.multicast(&group, Guarantee::Safe, "hello".into()).await?; // waits while the ring is full
//! while let Some(event) = events.next().await {
//!     match event {
//!         Event::Regular(ring) => println!("members {:?}: {}", ring.members, ring.why()),
//!         Event::Deliver(message) => println!("{}: {:?}", message.from, message.payload),
//!         Event::Status(status) => println!("quorate: {}, DC: {:?}", status.quorate, status.dc),
//!         Event::Left(cause) => println!("out: {cause}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//! If the application does not take its events, the ring slows down first. Past
//! [`unread_limit`](TotemConfig::unread_limit) this node leaves it. No event is dropped silently.
//!
//! # Acting as DC
//! ```no_run
//! # async fn act(_: u128) {}
//! # async fn serve(config: quorate::Config) -> Result<(), Box<dyn std::error::Error>> {
//! # use quorate::Node;
//! let (_node, _, dc) = Node::builder(config).state_dir("/var/lib/my-service").start().await?;
//! loop {
//!     let guard = dc.guard().await?; // until this node may act as DC
//!     while let Ok(term) = guard.check() {
//!         act(term.as_u128()).await; // hand it to the resource, which rejects lower terms
//!     }
//! }
//! # }
//! ```
//!
//! # More
//! - [`leaders`]: a leader for each of many names, spread over the members.
//! - [`replica`]: a state that all members have.
//! - [`Builder::metadata`]: what a node tells the others about itself, such as an address.
//! - [`config::from_env`]: nodes in containers, configured by environment variables.
//! - `metrics`, with the feature of that name: counters and gauges.
//!
//! The page `docs/embedding.md` of the repository leads from `cargo add` to a fenced leader and a
//! replicated state, and says how to store a term in a database, how to run on Kubernetes, and how
//! to test a service.

mod builder;
mod clock;
pub mod config;
mod dc;
mod driver;
pub mod leaders;
mod member;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod replica;
mod store;
pub mod transport;

pub use builder::{Builder, StartError};
pub use clock::Clock;
pub use dc::{Dc, Guard, Revoked};
pub use driver::{Events, Node, run};
pub use member::DcMember;
pub use quorate_election::{
    DeviceStatus, Event, Inquorate, InvalidTerm, Lease, NodeStatus, ReleaseError, Status, Term, Vacancy,
    assumptions, quorum, two_parts,
};
pub use quorate_membership::{
    Cause, Config, ConfigError, Core, Counter, Delivery, DeviceError, DeviceRequest, DeviceState, Group,
    GroupChange, GroupError, GroupNameError, GroupReason, Guarantee, Metadata, MetadataError, MulticastError,
    NodeId, Notice, Parting, Process, Refusal, Regular, RingId, Seq, Sighting, Stats, Time, Totem,
    TotemConfig, Transitional,
};
pub use store::{Memory, Store};
