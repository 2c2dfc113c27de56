//! Sends and receives many datagrams in one system call.
//!
//! Linux accepts a buffer of datagrams of equal length (the last may be shorter) and carries it as
//! one through most of its network stack (UDP segmentation offload). A receiver that requests it
//! gets such a buffer whole (receive offload). The datagrams on the wire are the same. If the
//! kernel or a network card lacks one of these, each call or buffer has one datagram.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6DontFrag;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::io::Errno;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use tokio::net::UdpSocket;

/// The longest UDP datagram, or train of datagrams, over IPv4.
const LONGEST: usize = 65_507;
/// Buffers that a call may fill.
const BUFFERS: usize = 16;
const BUFFER: usize = 1 << 16;
/// Bytes from which a buffer is handed on as it is. The contents of a less filled buffer are
/// copied, so that they keep only as much memory as they have bytes.
const FULL: usize = BUFFER / 2;
/// Consecutive errors after which a socket is unusable.
pub(super) const FAILURES: u32 = 8;
/// The most lent buffers that are tracked, to be reused once all parts of them have been dropped.
const LENT: usize = 64;

/// Reads datagrams, many at a time.
#[derive(Debug)]
pub(super) struct Receiver {
    state: UdpSocketState,
    buffers: [BytesMut; BUFFERS],
    metas: [RecvMeta; BUFFERS],
    lent: VecDeque<Bytes>,
}

impl Receiver {
    pub(super) fn new(socket: &UdpSocket) -> io::Result<Self> {
        Ok(Self {
            state: UdpSocketState::new(socket.into())?,
            buffers: std::array::from_fn(|_| BytesMut::zeroed(BUFFER)),
            metas: [RecvMeta::default(); BUFFERS],
            lent: VecDeque::new(),
        })
    }

    /// Passes the received datagrams to `into`, up to a bound. Returns `false` if there may be
    /// more.
    pub(super) fn take(
        &mut self,
        socket: &UdpSocket,
        mut into: impl FnMut(SocketAddr, Bytes),
    ) -> io::Result<bool> {
        let mut slices = self.buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut failures = 0;
        let filled = loop {
            match self.state.recv(socket.into(), &mut slices, &mut self.metas) {
                Ok(filled) => break filled,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                // An error of the interface is reported once, in place of a datagram.
                Err(_) if failures < FAILURES => failures += 1,
                Err(error) => return Err(error),
            }
        };
        for at in 0..filled {
            let RecvMeta { addr: source, len, stride, .. } = self.metas[at];
            let datagrams = self.filled(at, len);
            if len == 0 {
                // An empty datagram is passed on, too. It is refused, and counted, by the core.
                into(source, datagrams);
                continue;
            }
            let stride = stride.clamp(1, len);
            for start in (0..len).step_by(stride) {
                into(source, datagrams.slice(start..len.min(start + stride)));
            }
        }
        Ok(filled < BUFFERS)
    }

    /// Returns the contents of a buffer.
    fn filled(&mut self, at: usize, length: usize) -> Bytes {
        if length < FULL {
            return Bytes::copy_from_slice(&self.buffers[at][..length]);
        }
        let buffer = std::mem::replace(&mut self.buffers[at], spare(&mut self.lent)).freeze();
        let filled = buffer.slice(..length);
        if self.lent.len() < LENT {
            self.lent.push_back(buffer);
        }
        filled
    }
}

/// Returns an empty buffer. Reuses the one that was lent first, if it is free again.
fn spare(lent: &mut VecDeque<Bytes>) -> BytesMut {
    match lent.pop_front().map(Bytes::try_into_mut) {
        Some(Ok(buffer)) => buffer,
        Some(Err(still_lent)) => {
            // The next one may be free by the next time.
            lent.push_back(still_lent);
            BytesMut::zeroed(BUFFER)
        }
        None => BytesMut::zeroed(BUFFER),
    }
}

/// A report about an earlier datagram.
pub(super) enum Report {
    /// The host at this address has no socket there.
    Refused(IpAddr),
    /// Another error, such as no route, or a datagram that is too long.
    Other,
}

/// Sends datagrams, many at a time.
#[derive(Debug)]
pub(super) struct Sender {
    state: UdpSocketState,
    train: Vec<u8>,
    /// Whether a train has been refused. Each datagram is then sent by itself.
    apart: bool,
}

impl Sender {
    pub(super) fn new(socket: &UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(socket.into())?;
        // The crate forbids fragments, for a protocol that discovers the largest datagram by
        // itself. Ours are as long as `netmtu` allows, whatever the path.
        if socket.local_addr()?.is_ipv4() {
            set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::WANT)?;
        } else {
            set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::WANT)?;
            setsockopt(socket, Ipv6DontFrag, &false)?;
        }
        state.enable_transport_errors(socket.into())?;
        Ok(Self { state, train: Vec::new(), apart: false })
    }

    /// Returns the number of datagrams, from the first on, that fit into one call. They have the
    /// length of the first, and the last may be shorter.
    pub(super) fn train<'a>(&self, mut datagrams: impl Iterator<Item = &'a [u8]>) -> usize {
        let Some(length) = datagrams.next().map(<[u8]>::len) else { return 0 };
        let most = if self.apart { 1 } else { self.state.max_gso_segments() };
        let (mut count, mut sum) = (1, length);
        for datagram in datagrams {
            sum += datagram.len();
            if count >= most || sum > LONGEST || datagram.len() > length || datagram.is_empty() {
                break;
            }
            count += 1;
            if datagram.len() < length {
                break;
            }
        }
        count
    }

    /// Returns the network's report about an earlier datagram, if any. If no socket is bound to the
    /// destination port, it has the host's address. The kernel may report it in place of sending
    /// another datagram.
    pub(super) fn report(&self, socket: &UdpSocket) -> io::Result<Option<Report>> {
        let error = self.state.recv_transport_error(socket.into())?;
        Ok(error.map(|error| match error.addr {
            Some(from) if error.raw_errno == Errno::CONNREFUSED.raw_os_error() => Report::Refused(from.ip()),
            _ => Report::Other,
        }))
    }

    /// Stops using trains, after one was refused.
    pub(super) fn take_apart(&mut self) {
        self.apart = true;
    }

    /// Sends a single datagram or a train, if there is room.
    pub(super) fn send<'a>(
        &mut self,
        socket: &UdpSocket,
        to: SocketAddr,
        mut datagrams: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        let Some(first) = datagrams.next() else { return Ok(()) };
        self.train.clear();
        for (n, datagram) in datagrams.enumerate() {
            if n == 0 {
                self.train.extend_from_slice(first);
            }
            self.train.extend_from_slice(datagram);
        }
        let single = self.train.is_empty();
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: if single { first } else { &self.train },
            segment_size: (!single).then_some(first.len()),
            src_ip: None,
        };
        self.state.try_send(socket.into(), &transmit)
    }
}
