//! Serves corosync's local clients on a Quorate node.
//!
//! Programs that use libcmap, libcfg, libcpg, libquorum or libvotequorum, Pacemaker among them,
//! connect to a node as they connect to a corosync daemon: on the same sockets, over libqb's
//! transports, with the same requests and events. Nothing in them is changed.
//!
//! ```no_run
//! use quorate::{Config, Node};
//!
//! # async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
//! let sockets = quorate_ipc::Sockets::bind()?; // fails if a corosync daemon runs
//! let node = Node::builder(config.clone()).state_dir("/var/lib/quorate").start();
//! let (node, mut events, _dc) = node.await?;
//! let clients = sockets.serve(node, &config, quorate_ipc::keys(&config, []), 256);
//! while let Some(event) = events.next().await {
//!     clients.handle(&event);
//! }
//! clients.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is served
//! - **cmap**: reading, writing, iterating and tracking, with corosync's read-only keys. The map of
//!   the counters has those of the ring that this node counts too, and those of each connection.
//! - **quorum** and **votequorum**: both models, tracking, the state of every node, changes of
//!   votes by an operator, and the quorum device.
//! - **cfg**: nodes, addresses, the state of nodes, killing one, the vote on a shutdown, and
//!   reading the configuration again.
//! - **cpg**: joining, leaving, messages up to 16 MiB, members and iteration.
//!
//! Messages above 16 MiB are refused as too long.
//!
//! Messages go over libqb's shared memory, or over its datagram sockets if the key
//! `system.qb_ipc_type` is `socket`. Pacemaker refuses the latter.
//!
//! # Trust
//! Clients are let in as by corosync: root, the group root, and users and groups that a `uidgid`
//! section or the key `uidgid.uid.N` or `uidgid.gid.N` names. The process must run as root, because
//! Pacemaker accepts no other server. A client that is let in can truncate the files that it shares
//! with this process, which ends the process with SIGBUS. corosync has the same exposure.
//!
//! # Bounds
//! Once more than 16 MiB of events wait for a client, its multicasts are refused with
//! `CS_ERR_TRY_AGAIN` until fewer than 8 MiB do. A client that still reads nothing may send again
//! every 100 ms, because some clients read only after they have sent. A client that leaves 64 MiB
//! of events unread is disconnected. The ring never waits for a client. A message above
//! 1 MiB comes in parts and is kept until it is whole, so each client can make the process keep
//! 16 MiB.

#[cfg(not(all(target_os = "linux", target_endian = "little", target_pointer_width = "64")))]
compile_error!("libqb's memory is laid out here as on 64-bit little-endian Linux");

mod code;
mod front;
mod keys;
mod layout;
mod outbox;
mod pace;
mod qb;
mod services;
mod sockets;

pub use keys::keys;
pub use services::Value;
pub use sockets::{BindError, Clients, Sockets};
