//! Many datagrams in one system call.
//!
//! Linux takes a buffer of datagrams of equal length (the last may be shorter), and carries it as one through most of its
//! network stack (UDP segmentation offload); a receiver that asks for it gets such a buffer whole (receive offload). What is
//! on the wire is the same. Where the kernel, or a network card, has neither, there is a datagram a call, or a buffer.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use bytes::{Bytes, BytesMut};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::io::Errno;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use tokio::net::UdpSocket;

/// The longest that a UDP datagram, or a train of them, may be over IPv4.
const LONGEST: usize = 65_507;
/// Buffers that a call may fill.
const BUFFERS: usize = 16;
const BUFFER: usize = 1 << 16;
/// A buffer with so much in it is handed on as it is; of one with less, a copy is, which keeps no more memory alive than it
/// has bytes.
const FULL: usize = BUFFER / 2;
/// After so many errors in a row, a socket is beyond use.
pub(super) const FAILURES: u32 = 8;
/// Buffers handed on that are looked after, to be filled again once nobody has a part of them.
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

    /// Hands over what is there, up to a bound; `false`: there may be more.
    pub(super) fn take(
        &mut self,
        socket: &UdpSocket,
        mut into: impl FnMut(SocketAddrV4, Bytes),
    ) -> io::Result<bool> {
        let mut slices = self.buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut failures = 0;
        let filled = loop {
            match self.state.recv(socket.into(), &mut slices, &mut self.metas) {
                Ok(filled) => break filled,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                // What had happened to the interface is told once, instead of a datagram.
                Err(_) if failures < FAILURES => failures += 1,
                Err(error) => return Err(error),
            }
        };
        for at in 0..filled {
            let RecvMeta { addr: SocketAddr::V4(source), len, stride, .. } = self.metas[at] else { continue };
            let datagrams = self.filled(at, len);
            if len == 0 {
                // A datagram all the same, which is refused where such things are counted.
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

    /// What is in a buffer.
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

/// An empty buffer: the one lent first, if it is back.
fn spare(lent: &mut VecDeque<Bytes>) -> BytesMut {
    match lent.pop_front().map(Bytes::try_into_mut) {
        Some(Ok(buffer)) => buffer,
        Some(Err(still_lent)) => {
            // The next one may be back by the next time.
            lent.push_back(still_lent);
            BytesMut::zeroed(BUFFER)
        }
        None => BytesMut::zeroed(BUFFER),
    }
}

/// What became of a datagram.
pub(super) enum News {
    /// The host at this address has no socket there.
    Refused(Ipv4Addr),
    /// No route, too long, and the like.
    Other,
}

/// Sends datagrams, many at a time.
#[derive(Debug)]
pub(super) struct Sender {
    state: UdpSocketState,
    train: Vec<u8>,
    /// Trains have been refused: they are taken apart from now on.
    apart: bool,
}

impl Sender {
    pub(super) fn new(socket: &UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(socket.into())?;
        // The crate forbids fragments, for a protocol that looks for the largest datagram by itself. Ours are as long as
        // `netmtu` says, whatever the path.
        set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::WANT)?;
        state.enable_transport_errors(socket.into())?;
        Ok(Self { state, train: Vec::new(), apart: false })
    }

    /// How many of these, from the first on, can go in one call: as many as are as long as the first, and one more that is
    /// shorter.
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

    /// What the network has said of an earlier datagram, if it has: for a port that no socket is bound to, the address. The
    /// kernel may say it in place of sending another one.
    pub(super) fn news(&self, socket: &UdpSocket) -> io::Result<Option<News>> {
        let error = self.state.recv_transport_error(socket.into())?;
        Ok(error.map(|error| match error.addr {
            Some(SocketAddr::V4(from)) if error.raw_errno == Errno::CONNREFUSED.raw_os_error() => {
                News::Refused(*from.ip())
            }
            _ => News::Other,
        }))
    }

    /// No more trains: one was refused.
    pub(super) fn take_apart(&mut self) {
        self.apart = true;
    }

    /// Sends the datagrams of a train, or one, if there is room.
    pub(super) fn send<'a>(
        &mut self,
        socket: &UdpSocket,
        to: SocketAddrV4,
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
            destination: SocketAddr::V4(to),
            ecn: None,
            contents: if single { first } else { &self.train },
            segment_size: (!single).then_some(first.len()),
            src_ip: None,
        };
        self.state.try_send(socket.into(), &transmit)
    }
}
