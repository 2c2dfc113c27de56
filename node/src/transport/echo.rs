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
        if now < self.next_at {
            return;
        }
        match outgoing.try_send_to(&self.datagram, self.home) {
            // The runtime does not know at once that a new socket takes datagrams. The first check
            // would then come ten seconds late.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => self.next_at = now + Self::EVERY,
        }
    }

    /// Recognizes the datagram. Returns `Some(true)` if it came from the expected address,
    /// `Some(false)` if not, and `None` for other datagrams.
    pub(super) fn take(&self, datagram: &[u8], source: SocketAddr) -> Option<bool> {
        (datagram == self.datagram).then_some(source == self.source)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic")]

    use super::*;

    /// On a runtime of one thread, a new socket takes nothing before the first wait.
    #[tokio::test]
    async fn the_first_check_is_sent_once_the_socket_takes_it() {
        let any = "127.0.0.1:0";
        let (outgoing, home) = (UdpSocket::bind(any).await.unwrap(), UdpSocket::bind(any).await.unwrap());
        let (source, home_address) = (outgoing.local_addr().unwrap(), home.local_addr().unwrap());
        let mut echo = Echo::new(source, home_address).unwrap();
        let now = Instant::now();
        echo.send(&outgoing, now);
        outgoing.writable().await.unwrap();
        echo.send(&outgoing, now);
        echo.send(&outgoing, now);
        let mut buffer = [0; 64];
        let received = tokio::time::timeout(Duration::from_secs(5), home.recv_from(&mut buffer)).await;
        let (length, from) = received.unwrap().unwrap();
        assert_eq!(echo.take(&buffer[..length], from), Some(true));
        assert_eq!(echo.take(&buffer[..length], home_address), Some(false), "another source");
        assert!(home.try_recv_from(&mut buffer).is_err(), "the next one is due in ten seconds");
    }
}
