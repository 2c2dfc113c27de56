//! Checks that this node's datagrams have the source address that its peers expect.
//!
//! Every few seconds the node sends a datagram to its own port, with a number that no other host
//! knows. Address translation on this host changes its source like that of any other datagram.
//! Peers cannot distinguish datagrams with a changed source from a stranger's.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// The check of the source address.
#[derive(Debug)]
pub(super) struct Echo {
    datagram: [u8; Self::LENGTH],
    /// The expected source address.
    source: SocketAddr,
    home: SocketAddr,
    next_at: Instant,
}

impl Echo {
    const MAGIC: [u8; 4] = *b"QRE1";
    const LENGTH: usize = 20;
    const EVERY: Duration = Duration::from_secs(10);

    /// # Errors
    /// If the system has no random numbers.
    pub(super) fn new(source: SocketAddr, home: SocketAddr) -> io::Result<Self> {
        let mut datagram = [0; Self::LENGTH];
        let (magic, number) = datagram.split_at_mut(Self::MAGIC.len());
        magic.copy_from_slice(&Self::MAGIC);
        getrandom(number, GetRandomFlags::empty())?;
        Ok(Self { datagram, source, home, next_at: Instant::now() })
    }

    /// Sends the datagram when it is due. It may get lost.
    pub(super) fn send(&mut self, outgoing: &UdpSocket, now: Instant) {
        if now >= self.next_at {
            self.next_at = now + Self::EVERY;
            let _ = outgoing.try_send_to(&self.datagram, self.home);
        }
    }

    /// Recognizes the datagram. Returns `Some(true)` if it came from the expected address,
    /// `Some(false)` if not, and `None` for other datagrams.
    pub(super) fn take(&self, datagram: &[u8], source: SocketAddr) -> Option<bool> {
        (datagram == self.datagram).then_some(source == self.source)
    }
}
