//! Tracks the interface that has this node's address, as reported by the kernel (rtnetlink(7)).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;

/// Changes of addresses (`RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`). An interface that is removed
/// loses its addresses first.
const ADDRESSES: u32 = 0x10 | 0x100;
/// Netlink aligns messages to this many bytes.
const ALIGNMENT: usize = 4;
/// The kernel fills at most this many bytes in one call.
const LONGEST: usize = 1 << 15;

/// The interfaces that have one address. Usually this is one or none, and briefly two while the
/// address moves.
#[derive(Debug)]
pub(super) struct Interfaces {
    socket: AsyncFd<OwnedFd>,
    address: IpAddr,
    having: BTreeSet<u32>,
    /// Interfaces that lost the address since the last call of `has_lost`.
    lost: BTreeSet<u32>,
    buffer: Box<[u8]>,
}

impl Interfaces {
    /// Requests the interfaces that have `address`, and notices from now on. The answer refers to
    /// the network namespace of the calling thread at this time.
    pub(super) fn with(address: IpAddr) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(net::AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        // With the process id 0, the kernel chooses one.
        net::bind(&socket, &SocketAddrNetlink::new(0, ADDRESSES))?;
        #[allow(deprecated, reason = "what replaces it is unsafe, and an `OwnedFd` keeps what that asks for")]
        let socket = AsyncFd::new(socket)?;
        let mut interfaces = Self {
            socket,
            address,
            having: BTreeSet::new(),
            lost: BTreeSet::new(),
            buffer: vec![0; LONGEST].into_boxed_slice(),
        };
        interfaces.ask()?;
        interfaces.read()?;
        Ok(interfaces)
    }

    /// Returns the interface that has the address. Prefers `preferred` if it is one of several.
    pub(super) fn having(&self, preferred: Option<u32>) -> Option<u32> {
        preferred.filter(|index| self.having.contains(index)).or_else(|| self.having.first().copied())
    }

    /// Returns `true` if this interface lost the address since the last call, even if it has it
    /// again. A call forgets the losses of all interfaces.
    pub(super) fn has_lost(&mut self, index: u32) -> bool {
        std::mem::take(&mut self.lost).contains(&index)
    }

    /// Returns the name of an interface.
    pub(super) fn name(&self, index: u32) -> String {
        net::netdevice::index_to_name(self.socket.get_ref(), index).unwrap_or_else(|_| format!("{index}"))
    }

    /// Ready when the kernel has reported a change of any address.
    pub(super) fn poll_change(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Poll::Ready(ready) = self.socket.poll_read_ready(context) else { return Poll::Pending };
        ready?.clear_ready();
        self.read()?;
        Poll::Ready(Ok(()))
    }

    /// Requests all addresses. The kernel answers at once.
    fn ask(&mut self) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family =
            if self.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetAddress(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.lost.append(&mut self.having);
        net::send(self.socket.get_ref(), &bytes, SendFlags::empty())?;
        Ok(())
    }

    /// Reads all pending messages from the kernel.
    fn read(&mut self) -> io::Result<()> {
        loop {
            match net::recv(self.socket.get_ref(), &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => self.take(length),
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => {}
                // Notices were lost, so request all addresses again.
                Err(Errno::NOBUFS) => self.ask()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Processes the messages in the first `length` bytes of the buffer. Messages that cannot be
    /// parsed are not about addresses.
    fn take(&mut self, length: usize) {
        let mut rest = &self.buffer[..length.min(LONGEST)];
        while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(there))
                    if is(&there, self.address) && is_usable(&there) =>
                {
                    self.having.insert(there.header.index);
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(gone))
                    if is(&gone, self.address) =>
                {
                    self.having.remove(&gone.header.index);
                    self.lost.insert(gone.header.index);
                }
                _ => {}
            }
            let taken = (message.header.length as usize).next_multiple_of(ALIGNMENT);
            match rest.get(taken..) {
                Some(more) if taken > 0 => rest = more,
                _ => break,
            }
        }
    }
}

/// Returns `true` if a message is about this address as the local end of a link. The other end of a
/// point-to-point link does not count.
fn is(message: &AddressMessage, address: IpAddr) -> bool {
    let local = |attribute: &_| matches!(attribute, AddressAttribute::Local(_));
    // IPv6 states the local end by itself only if there is another one.
    let own = match message.attributes.iter().any(local) {
        true => AddressAttribute::Local(address),
        false => AddressAttribute::Address(address),
    };
    message.attributes.contains(&own)
}

/// Returns `true` unless the kernel still looks for another host with this address (IPv6), or has
/// found one. It sends another message afterwards.
fn is_usable(message: &AddressMessage) -> bool {
    let flags = message.header.flags;
    let tentative = flags.contains(AddressHeaderFlags::Tentative);
    !flags.contains(AddressHeaderFlags::Dadfailed)
        && (!tentative || flags.contains(AddressHeaderFlags::Optimistic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loopback_interface_has_its_address() {
        let interfaces = Interfaces::with([127, 0, 0, 1].into()).unwrap();
        let index = interfaces.having(None).unwrap();
        assert_eq!(interfaces.name(index), "lo");
        assert_eq!(interfaces.having(Some(index + 1)), Some(index));
    }

    #[tokio::test]
    async fn no_interface_has_a_reserved_address() {
        assert_eq!(Interfaces::with([240, 0, 0, 1].into()).unwrap().having(None), None);
    }
}
