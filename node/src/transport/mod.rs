//! Sockets, which send and receive packets. They know addresses; the [`Path`] gives these a
//! meaning.

mod echo;
mod interfaces;
mod offload;
mod own;
mod resolver;
mod udp;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};

use quorate_membership::Notice;
pub use quorate_membership::path::{Packet, Path, PathError};

pub(crate) use self::resolver::Resolver;
pub use self::udp::{BindError, Udp};

/// Sockets that send and receive batches of packets.
pub trait Sockets: Send + 'static {
    /// Returns the address at which this node receives packets for it alone.
    fn home(&self) -> SocketAddr;

    /// Sends the packets in order, and empties the batch. A packet that cannot be sent is lost, as
    /// on the network. An error means that the sockets are unusable.
    ///
    /// Cancel safe: if the future is dropped, the batch holds the packets that were not sent.
    fn send(&mut self, batch: &mut VecDeque<Packet>) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits for packets and appends those that have arrived, up to a bound of the sockets' choice.
    /// Packets for a group come before a packet for this node alone that arrived after them: a
    /// token must not overtake the frames sent before it. One batch costs one wake-up.
    ///
    /// Also ready, without a packet, if there is [`News`].
    ///
    /// Cancel safe: a dropped future has taken no packet.
    fn recv(&mut self, batch: &mut Vec<Packet>) -> impl Future<Output = io::Result<()>> + Send;

    /// Returns what the sockets have noticed. The driver calls this several times a second.
    fn poll_news(&mut self) -> Option<News> {
        None
    }

    /// Returns the number of packets that could not be sent.
    fn unsent(&self) -> u64 {
        0
    }

    /// Returns the receive buffer for packets to everyone in bytes, including the system's overhead
    /// per datagram. Returns `None` if there is no such bound. The largest window of this node is
    /// derived from it ([`largest_window`](crate::TotemConfig::largest_window)).
    fn receive_buffer(&self) -> Option<usize> {
        None
    }
}

/// Something that sockets notice and that is not a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum News {
    /// The host at this address reported that no socket receives there.
    Refused(IpAddr),
    /// The system did not send a packet to this address, for the reason with this error number.
    Unsent(SocketAddr, i32),
    /// Something for the operator, about a datagram from this address if there is one.
    Notice(Notice, Option<SocketAddr>),
}
