//! Group membership and totally ordered multicast, compatible on the wire with corosync 3.1
//! (Totem's single ring).
//!
//! A few processes on a few hosts want to agree on the members of their group and to see the same
//! messages in the same order, while hosts crash, restart, stall, and lose contact with each other.
//! Totem (Amir, Moser, Melliar-Smith, Agarwal, Ciarfella, ACM TOCS 1995) does this with a token
//! that circulates on a logical ring. The member that has the token numbers and multicasts its
//! messages, requests the ones it lacks, and passes the token on. When the token is lost or another
//! node appears, the members form a new ring. They bring into it the messages of the old ring that
//! only some of them received.
//!
//! # Guarantees
//! Every member sees a sequence of *configurations* and of the messages in them (extended virtual
//! synchrony; Moser, Amir, Melliar-Smith, Agarwal 1994):
//!
//! - **One order.** The messages of a ring have a single order. Each member delivers a prefix of it
//!   in the ring, without gaps. A message never moves to another ring.
//! - **[Agreed](Guarantee::Agreed)** messages are delivered as soon as all earlier ones have been.
//!   **[Safe](Guarantee::Safe)** messages are delivered only when every member of the ring has
//!   received them, so no member can act on one that the others will never see. (corosync treats
//!   safe messages as agreed. Our members wait for corosync members too, but those deliver a safe
//!   message as soon as it is agreed.)
//! - **Virtual synchrony.** Members that move together from one ring to the next have delivered the
//!   same messages of the old ring, in the same order. The [transitional
//!   configuration](Event::Transitional) divides these messages at the same point for all of them.
//!   The messages behind that point could not be shown to have reached the whole old ring, only the
//!   members that move together.
//! - **Self-delivery.** A member delivers its own messages, in order. Messages that it could not
//!   send before a ring change go out in the next ring. A message is either rejected at once
//!   ([`MulticastError`]) or delivered at its sender, unless the sender is gone.
//! - **Process groups.** Processes [join](Totem::join_group) and leave groups. At the same point of
//!   a ring's order all its members have the same [lists](GroupChange) of each group's processes.
//!   The groups are those of corosync's libcpg. Sending to a group and receiving its messages does
//!   not require joining it: every node has every group's messages, and the application picks the
//!   ones it wants. However, corosync daemons pass messages on to their processes only from nodes
//!   that have a process in the group.
//! - **Ring ids are unique** and increase, over restarts too, provided that the node's
//!   [record](Stored) is kept.
//! - **Every change has its [cause](Cause)**, which prints as a sentence.
//!
//! # Not guaranteed
//! - A message above 1 MiB less 1 KiB is sent in parts, as libcpg does. If a node joins after a
//!   corosync process has sent the first part, the node loses the message.
//! - Members do not learn of a change at the same *time*. Both sides of a split have a ring, and
//!   quorum decides which of them may act (crate `quorate-election`).
//! - A node whose link works in only one direction costs its ring a change now and then.
//! - Messages travel in clear text. Any process that can reach the port can read and disturb the
//!   ring, so the network must be trusted. Encryption with a key comes later.
//! - A member that lies can stop or split the ring. Totem is not Byzantine fault tolerant.
//!
//! # States
//! ```text
//!          token lost · a JOIN · a stranger heard
//!      ┌──────────────────────────────────────────────────────┐
//!      ▼                                                      │
//!   GATHER ───────────────▶ COMMIT ───────────▶ RECOVERY ─────────────▶ OPERATIONAL
//!   find nodes     all      collect   token     forward       recovery   order messages
//!      ▲           agree    states    complete  missing       complete       │
//!      │                       │                  │  frames                  │ leave
//!      └───────────────────────┴──────────────────┘                          ▼
//!        token lost · a JOIN of a member                                   LEFT
//! ```
//!
//! # The core
//! [`Totem`] is the protocol without input or output. Time, datagrams and messages go in;
//! datagrams, events and deadlines come out ([`Core`]). The same calls give the same results. The
//! crate `quorate` drives it on tokio, over real sockets, and the simulators run it too.

pub mod config;
mod core;
mod device;
mod event;
mod groups;
mod id;
#[doc(hidden)]
pub mod mutants;
mod notice;
pub mod path;
mod seq;
mod stats;
mod stored;
mod sync;
mod time;
mod totem;
pub mod wire;
mod words;

pub use config::{Config, ConfigError, Metadata, MetadataError, TotemConfig};
pub use core::{Core, CoreView, GroupRequest, Input};
pub use device::{DeviceError, DeviceRequest, DeviceState};
pub use event::{Cause, Delivery, Event, Guarantee, Regular, Service, ServiceMessage, Transitional};
pub use groups::{GroupChange, GroupError, GroupReason, Parting, Process};
pub use id::{Group, GroupNameError, NodeId, ParseIdError, RingId};
pub use notice::{Notice, Notices, Sighting};
pub use seq::Seq;
pub use stats::{Counter, Refusal, Stats};
pub use stored::Stored;
pub use time::Time;
pub use totem::{Destination, MulticastError, Origin, Phase, RingView, Snapshot, Totem, Transmit};
