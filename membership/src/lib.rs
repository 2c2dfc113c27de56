//! Group membership and totally ordered multicast: Totem's single ring, compatible on the wire with corosync 3.1.
//!
//! A few processes on a few hosts want to agree on who is in the group, and to see the same messages in the same
//! order, while hosts crash, restart, stall, and lose sight of each other. Totem (Amir, Moser, Melliar-Smith, Agarwal,
//! Ciarfella, ACM TOCS 1995) does it with a token that goes round a logical ring: who has it numbers its messages and
//! multicasts them, says what it lacks, and passes it on. When the token is lost, or somebody new is heard, the
//! members find a new ring, and bring along into it what some had received of the old one and others had not.
//!
//! # Guarantees
//! What every member is told is a sequence of *configurations* and of messages in them (extended virtual synchrony;
//! Moser, Amir, Melliar-Smith, Agarwal 1994):
//!
//! - **One order.** Messages of a ring have one order. What a member delivers in the ring is a prefix of it, without a
//!   gap; a message never moves to another ring.
//! - **[Agreed](Guarantee::Agreed)** messages are delivered as soon as everything before them has been.
//!   **[Safe](Guarantee::Safe)** ones only when every member of the ring has received them, so that no member can have
//!   acted on one that the others will never see. (corosync's safe messages are agreed ones; among corosync members a
//!   safe message waits for them too, but they deliver it as soon as it is agreed.)
//! - **Virtual synchrony.** Members that go from one ring to the same next one have delivered the same messages in the
//!   old, in the same order, and divided alike by its [transitional configuration](Event::Transitional): in it come
//!   the messages that could not be shown to have reached all of the old ring, only those who come along.
//! - **Self-delivery.** A member delivers its own messages, in order; what it could not send before a ring change goes
//!   out in the next ring. A message is refused at once ([`MulticastError`]) or delivered at its sender, or the sender
//!   is gone.
//! - **Process groups.** Processes [join](Node::join) groups and leave them, and at the same point of a ring's order all
//!   its members have the same [lists](GroupChange) of who is in which. The groups are those of corosync's libcpg. To
//!   send to a group, or to be told what is sent, one need not join: every node has every group's messages, and the
//!   application takes those it wants. But daemons of corosync pass on messages to their processes only from nodes
//!   that have a process in the group.
//! - **Ring ids are unique** and rise, over restarts too, as long as the node's [record](Stored) is kept.
//! - **Every change has its [cause](Cause)**, and prints it as a sentence.
//!
//! # Not guaranteed
//! - A message above 1 MiB less 1 KiB goes in two parts, as libcpg sends it. Parts that a corosync process sent before a
//!   node came are lost to that node, and the message with them.
//! - Members are not told of a change at the same *time*. Two sides of a split each have a ring; which of them may act
//!   is a matter of quorum (crate `quorate-election`).
//! - A node that others hear but that does not hear them, or the reverse, costs its ring a change now and then.
//! - Messages travel in clear text. Whoever can reach the port can read and disturb the ring; the network has to be a
//!   trusted one. A key comes later.
//! - A member that lies can stop or split the ring. Totem is not Byzantine.
//!
//! # States
//! ```text
//!          token lost · a JOIN · a stranger heard
//!      ┌──────────────────────────────────────────────────────┐
//!      ▼                                                      │
//!   GATHER ───────────────▶ COMMIT ───────────▶ RECOVERY ─────────────▶ OPERATIONAL
//!   who is there?  all      who has   token     bring along   everybody  order messages
//!      ▲           agree      what?   complete  what others   has all        │
//!      │                       │                  │  lack                    │ leave
//!      └───────────────────────┴──────────────────┘                          ▼
//!        token lost · a JOIN of a member                                   LEFT
//! ```
//!
//! # Embedding
//! ```no_run
//! use quorate_membership::{Config, Event, Group, Guarantee, NodeId, spawn, transport::Udp};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new(NodeId::new(1).ok_or("node ids begin with 1")?); // on this host; or config::load
//! let transport = Udp::bind(&config)?;
//! let (node, mut events) = spawn(config, transport, "/var/lib/my-service").await?;
//!
//! let group: Group = "orders".parse()?;
//! node.multicast(&group, Guarantee::Safe, "hello".into()).await?; // waits while the ring is full
//! while let Some(event) = events.next().await {
//!     match event {
//!         Event::Regular(ring) => println!("members {:?}: {}", ring.members, ring.why()),
//!         Event::Deliver(message) => println!("{}: {:?}", message.from, message.payload),
//!         Event::Stalled(time) => println!("this process stood still for {time:?}"),
//!         Event::Left(cause) => println!("out: {cause}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//! Events that are not taken slow the ring down, then end this node's part in it
//! ([`unread_limit`](TotemConfig::unread_limit)): nothing is dropped silently.
//!
//! # The core alone
//! [`Totem`] is the protocol without input or output: time, datagrams and messages go in, datagrams, events and
//! deadlines come out, and the same calls give the same results. It builds without tokio
//! (`default-features = false`), and is what the simulators run.

pub mod config;
#[cfg(feature = "tokio")]
pub mod driver;
mod event;
mod groups;
mod id;
#[doc(hidden)]
pub mod mutants;
mod notice;
mod seq;
mod stats;
mod store;
mod sync;
mod time;
mod totem;
#[cfg(feature = "tokio")]
pub mod transport;
pub mod wire;

pub use config::{Config, ConfigError, TotemConfig};
#[cfg(feature = "tokio")]
pub use driver::{Clock, Core, Events, Node, SpawnError, run, spawn};
pub use event::{Cause, Delivery, Event, Guarantee, Regular, Service, ServiceMessage, Transitional};
pub use groups::{GroupChange, GroupError, GroupReason, Parting, Process};
pub use id::{Group, GroupNameError, NodeId, ParseIdError, RingId};
pub use notice::{Notice, Notices, Sighting};
pub use seq::Seq;
pub use stats::{Refusal, Stats};
pub use store::Stored;
#[cfg(feature = "tokio")]
pub use store::{Memory, Store};
pub use time::Time;
pub use totem::{Destination, MulticastError, Origin, Phase, RingView, Snapshot, Totem, Transmit};
