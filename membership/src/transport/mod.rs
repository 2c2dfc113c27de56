//! The ways a datagram can go. A transport knows addresses, the core knows node ids.

mod echo;
mod interfaces;
mod local;
mod multicast;
mod names;
mod offload;
mod peers;
mod udp;

pub use udp::{BindError, Lost, Udp};

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::{NodeId, Notice, Origin, Transmit};

/// Batches of datagrams, in and out.
pub trait Transport: Send + 'static {
    /// Sends the batch in order, emptying it. A datagram that cannot be sent is lost, as on the network; an error is
    /// for a transport that is beyond use.
    fn send(&mut self, batch: &mut VecDeque<Transmit>) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits for datagrams and appends all there are, up to a bound of the transport's choice. Of those that had
    /// arrived, multicasts come before unicasts: a token must not overtake the frames sent before it. Own multicasts
    /// never come back. What a node sends to itself is not sent by way of a transport.
    ///
    /// Ready without any if a member's host has refused what was sent to it ([`Transport::refused`]).
    ///
    /// Cancel safe: a dropped future has taken nothing.
    fn recv(&mut self, batch: &mut Vec<(Origin, Bytes)>) -> impl Future<Output = io::Result<()>> + Send;

    /// A member whose host has said, since it was last asked for, that nobody listens there any more. A transport that is
    /// not told such things has none.
    fn refused(&mut self) -> Option<NodeId> {
        None
    }

    /// The next case that an operator should know of, and the source address that it is about, if it is about one. The
    /// driver asks for it several times a second.
    fn notice(&mut self) -> Option<(Notice, Option<SocketAddr>)> {
        None
    }

    /// The installed ring has these members now. Without a node list, their addresses stay as they are for as long as they
    /// are in it.
    fn set_members(&mut self, _members: &BTreeSet<NodeId>) {}

    /// Bytes of multicasts that may wait to be received before any is lost, with what the system adds to each, if there is such
    /// a bound: what a node can take in a rotation follows from it
    /// ([`largest_window`](crate::config::TotemConfig::largest_window)).
    fn receive_buffer(&self) -> Option<usize> {
        None
    }
}
