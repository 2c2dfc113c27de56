//! Which interface has this node's address, as the kernel reports it from the start on (rtnetlink(7)).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;

/// Changes of IPv4 addresses (`RTMGRP_IPV4_IFADDR`). An interface that is removed loses its addresses first.
const ADDRESSES: u32 = 0x10;
/// Netlink aligns messages to this many bytes.
const ALIGNMENT: usize = 4;
/// The kernel fills at most this many bytes in one call.
const LONGEST: usize = 1 << 15;

/// The interfaces that have one address: as a rule one or none, for a moment two while the address moves.
#[derive(Debug)]
pub(super) struct Interfaces {
    socket: AsyncFd<OwnedFd>,
    address: Ipv4Addr,
    having: BTreeSet<u32>,
    /// Those that lost the address since they were last asked for.
    lost: BTreeSet<u32>,
    buffer: Box<[u8]>,
}

impl Interfaces {
    /// Asks the kernel which interface has `address`, and for notices from now on. The answer is about the network
    /// namespace of the calling thread, and stays so.
    pub(super) fn with(address: Ipv4Addr) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(net::AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        // The process id 0 has the kernel choose one.
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

    /// The interface that has the address: `preferred`, if it does.
    pub(super) fn having(&self, preferred: Option<u32>) -> Option<u32> {
        preferred.filter(|index| self.having.contains(index)).or_else(|| self.having.first().copied())
    }

    /// Whether this interface lost the address since this was last asked, even if it has it again.
    pub(super) fn has_lost(&mut self, index: u32) -> bool {
        std::mem::take(&mut self.lost).contains(&index)
    }

    /// The name of an interface.
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

    /// Asks for all addresses. The kernel answers at once.
    fn ask(&mut self) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetAddress(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.lost.append(&mut self.having);
        net::send(self.socket.get_ref(), &bytes, SendFlags::empty())?;
        Ok(())
    }

    /// Takes all that the kernel has sent.
    fn read(&mut self) -> io::Result<()> {
        loop {
            match net::recv(self.socket.get_ref(), &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => self.take(length),
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => {}
                // Notices were lost.
                Err(Errno::NOBUFS) => self.ask()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes the messages in the first `length` bytes of the buffer. What is not understood is not about addresses.
    fn take(&mut self, length: usize) {
        let mut rest = &self.buffer[..length.min(LONGEST)];
        while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(there))
                    if is(&there, self.address) =>
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

/// Whether a message is about this address. The other end of a point-to-point link is not.
fn is(message: &AddressMessage, address: Ipv4Addr) -> bool {
    message.attributes.contains(&AddressAttribute::Local(IpAddr::V4(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loopback_interface_has_its_address() {
        let interfaces = Interfaces::with(Ipv4Addr::LOCALHOST).unwrap();
        let index = interfaces.having(None).unwrap();
        assert_eq!(interfaces.name(index), "lo");
        assert_eq!(interfaces.having(Some(index + 1)), Some(index));
    }

    #[tokio::test]
    async fn no_interface_has_a_reserved_address() {
        assert_eq!(Interfaces::with([240, 0, 0, 1].into()).unwrap().having(None), None);
    }
}
