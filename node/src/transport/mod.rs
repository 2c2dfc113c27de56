//! Transports for datagrams. A transport uses addresses, and the core uses node ids.

mod echo;
mod interfaces;
mod local;
mod multicast;
mod names;
mod offload;
mod peers;
mod udp;

pub use quorate_membership::{Destination, Origin, Transmit};
pub use udp::{BindError, Lost, Udp};

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;

use quorate_membership::{NodeId, Notice};

/// A transport that sends and receives batches of datagrams.
pub trait Transport: Send + 'static {
    /// Sends the batch in order, and empties it. A datagram that cannot be sent is lost, as on the
    /// network. An error means that the transport is unusable.
    fn send(&mut self, batch: &mut VecDeque<Transmit>) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits for datagrams and appends those that have arrived, up to a bound of the transport's
    /// choice. Among these, multicasts come before unicasts, because a token must not overtake the
    /// frames sent before it. Own multicasts never come back. Datagrams of a node to itself do not
    /// use a transport.
    ///
    /// Also ready, without a datagram, if a member's host has refused one ([`Transport::refused`]).
    ///
    /// Cancel safe: a dropped future has taken no datagram.
    fn recv(&mut self, batch: &mut Vec<(Origin, Bytes)>) -> impl Future<Output = io::Result<()>> + Send;

    /// Returns the next member whose host has reported that no socket receives there any more. A
    /// transport without such reports returns `None`.
    fn refused(&mut self) -> Option<NodeId> {
        None
    }

    /// Returns the next notice for the operator, and the source address that it is about, if any.
    /// The driver calls this several times a second.
    fn notice(&mut self) -> Option<(Notice, Option<SocketAddr>)> {
        None
    }

    /// Sets the members of the installed ring. Without a node list, the transport keeps their
    /// addresses while they are members.
    fn set_members(&mut self, _members: &BTreeSet<NodeId>) {}

    /// Returns the receive buffer for multicasts in bytes, including the system's overhead per
    /// datagram. Returns `None` if there is no such bound. The largest window of this node is
    /// derived from it ([`largest_window`](quorate_membership::config::TotemConfig::largest_window)).
    fn receive_buffer(&self) -> Option<usize> {
        None
    }
}
