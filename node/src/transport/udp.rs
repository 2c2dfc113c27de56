//! The common part of the transports over UDP: corosync's sockets and their use.
//!
//! `A` is the node's address, `p` its port, and `G:P` the group:
//!
//! | socket | bound to | for | address reuse |
//! |---|---|---|---|
//! | `multicasts` | `G:P` | receives multicasts | yes: nodes of a host may share a group |
//! | `unicasts` | `A:p` | receives tokens, sends nothing | no: a second node here is an error |
//! | `outgoing` | `A:(p-1)` | sends everything; its port identifies the node | no |

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::sockopt::{
    set_ip_multicast_if_with_ifindex, set_socket_recv_buffer_size_force, socket_recv_buffer_size,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::Transport;
use super::echo::Echo;
use super::interfaces::Interfaces;
use super::names::{Found, Names};
use super::offload::{FAILURES, News, Receiver, Sender};
use super::peers::Peers;
use quorate_membership::config::TransportKind;
use quorate_membership::wire::{Announced, ClusterTag, announced, claimed_sender};
use quorate_membership::{Config, Destination, NodeId, Notice, Origin, Transmit};

/// Multicasts after which a batch is complete.
const BATCH: usize = 64;
/// More multicasts than a receive buffer can hold. Once this many have been read, none is left that
/// was sent before a unicast that had arrived by then.
const BACKLOG: usize = 4096;
/// Longer than any UDP datagram.
const LONGEST: usize = 1 << 16;
/// The buffer size that corosync requests. The kernel limits it to `net.core.rmem_max` and
/// `wmem_max`.
const BUFFER: usize = 1 << 20;
/// The buffer size for multicasts, of which a rotation may bring many. With the privilege to
/// administer the network it is granted beyond `rmem_max`.
const MULTICAST_BUFFER: usize = 4 << 20;
/// The highest priority (`SO_PRIORITY`) that needs no privilege, so that tokens overtake all other
/// traffic.
const TOKEN_PRIORITY: u32 = 6;
/// Time for which a full send buffer may delay the ring before the rest of a batch counts as lost.
const SEND_WAIT: Duration = Duration::from_millis(100);
/// The shortest time between two notices of one kind.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// Time until another attempt to join the group.
const FOLLOW_AGAIN: Duration = Duration::from_secs(1);

/// A transport over UDP and IPv4: [`Udp::multicast`] between hosts, [`Udp::local`] within one.
///
/// A datagram that cannot be sent (no route, no buffer, a firewall, an interface that is down) is
/// lost, counted in [`Lost`], and logged at most once a second.
///
/// Sockets stay bound to the node's address, whatever happens to the interface. A node that has
/// lost its network is therefore alone and does not meet other nodes elsewhere. When the address
/// comes back, on the same interface or on another, [`Udp::multicast`] continues there.
#[derive(Debug)]
pub struct Udp {
    multicasts: UdpSocket,
    receiver: Receiver,
    unicasts: UdpSocket,
    outgoing: UdpSocket,
    sender: Sender,
    group: SocketAddrV4,
    /// The interface that has the node's address. `None` if the system does not report it, or if
    /// the transport stays within the host.
    place: Option<Place>,
    peers: Peers,
    cluster: Option<ClusterTag>,
    /// A unicast that has been read, and waits until the multicasts sent before it have been read,
    /// too.
    held: Option<(SocketAddrV4, Bytes)>,
    /// Multicasts read while `held` waited.
    passed: usize,
    /// Nodes whose hosts have refused a datagram.
    refused: VecDeque<NodeId>,
    buffer: Box<[u8]>,
    lost: Arc<Lost>,
    names: Names,
    echo: Option<Echo>,
    notices: VecDeque<(Notice, Option<SocketAddr>)>,
    /// The time of the last notice of an unsent datagram.
    noted_at: Option<Instant>,
}

/// Counters of datagrams that were not sent.
#[derive(Debug, Default)]
pub struct Lost {
    unsent: AtomicU64,
    unknown: AtomicU64,
}

impl Lost {
    /// Returns the number of datagrams that the system did not send.
    pub fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Returns the number of datagrams for members without a known address.
    pub fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }
}

/// The interface that has the node's address, and its use by the sockets.
#[derive(Debug)]
struct Place {
    interfaces: Interfaces,
    /// The interface on which the group is joined.
    joined: Option<u32>,
    /// The time of the next attempt, if the group could not be joined.
    again_at: Option<Instant>,
    /// The time of the last notice that no interface has the address.
    noted_at: Option<Instant>,
}

impl Place {
    /// Joins the group on the interface that has the address, and leaves it on any other. If no
    /// interface has the address, the group is joined on none.
    fn join(&mut self, multicasts: &UdpSocket, group: Ipv4Addr) -> io::Result<()> {
        let multicasts = SockRef::from(multicasts);
        let there = self.interfaces.having(self.joined);
        if let Some(index) = self.joined
            && (self.interfaces.has_lost(index) || there != Some(index))
        {
            // Fails if the interface is gone. Its membership is gone, too, in this case.
            let _ = multicasts.leave_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index));
            self.joined = None;
        }
        if let Some(index) = there.filter(|_| self.joined.is_none()) {
            multicasts.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
            self.joined = Some(index);
        }
        Ok(())
    }
}

/// The addresses of the sockets.
pub(super) struct Addresses {
    /// The node's address and port, `A:p`.
    pub(super) home: SocketAddrV4,
    /// The group's address and port, `G:P`.
    pub(super) group: SocketAddrV4,
    pub(super) ttl: u8,
    /// Whether other processes of this host receive the node's multicasts.
    pub(super) loopback: bool,
    /// The cluster whose JOINs are used to learn addresses.
    pub(super) cluster: Option<ClusterTag>,
}

impl Udp {
    /// Opens the configured transport (`totem.transport`) at the configured address.
    ///
    /// Must be called within a tokio runtime with IO enabled.
    ///
    /// # Errors
    /// If a socket cannot be opened. The message says what to do.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        match config.network.transport {
            TransportKind::Multicast => Self::multicast(config, super::multicast::own_address(config)?),
            TransportKind::Local => Self::local(config),
        }
    }

    /// Returns the counters of lost datagrams, which stay up to date.
    pub fn lost(&self) -> Arc<Lost> {
        Arc::clone(&self.lost)
    }

    /// Opens the sockets. With `interfaces` they follow the node's address, which no interface
    /// needs to have yet.
    pub(super) fn open(
        addresses: &Addresses,
        interfaces: Option<Interfaces>,
        peers: Peers,
        names: Names,
    ) -> Result<Self, BindError> {
        let &Addresses { home, group, ttl, loopback, cluster } = addresses;
        let absent = interfaces.as_ref().is_some_and(|interfaces| interfaces.having(None).is_none());
        let Some(source_port) = home.port().checked_sub(1).filter(|port| *port > 0) else {
            return Err(BindError::Port { port: home.port() });
        };
        if !group.ip().is_multicast() {
            return Err(BindError::NotAGroup { group: *group.ip() });
        }

        // Bound first, because it fails if a node already runs here.
        let unicasts = bound(home, |socket| {
            socket.set_freebind_v4(absent)?;
            socket.set_recv_buffer_size(BUFFER)?;
            // Optional, because some containers refuse it.
            let _ = socket.set_priority(TOKEN_PRIORITY);
            Ok(())
        })?;
        let outgoing = bound(SocketAddrV4::new(*home.ip(), source_port), |socket| {
            socket.set_freebind_v4(absent)?;
            socket.set_send_buffer_size(BUFFER)?;
            if !absent {
                socket.set_multicast_if_v4(home.ip())?;
            }
            socket.set_multicast_loop_v4(loopback)?;
            socket.set_multicast_ttl_v4(u32::from(ttl))
        })?;
        let multicasts = bound(group, |socket| {
            socket.set_recv_buffer_size(MULTICAST_BUFFER)?;
            let _ = set_socket_recv_buffer_size_force(socket, MULTICAST_BUFFER);
            socket.set_reuse_address(true)?;
            // Excludes groups that other processes of this host have joined on other interfaces.
            socket.set_multicast_all_v4(false)
        })?;
        let mut place =
            interfaces.map(|interfaces| Place { interfaces, joined: None, again_at: None, noted_at: None });
        match &mut place {
            Some(place) => place.join(&multicasts, *group.ip()),
            None => multicasts.join_multicast_v4(*group.ip(), *home.ip()),
        }
        .map_err(|source| BindError::Join { group: *group.ip(), interface: *home.ip(), source })?;

        let source = SocketAddrV4::new(*home.ip(), source_port);
        // Addresses are not translated within a host. Without random numbers the check is left out.
        let echo = if loopback { None } else { Echo::new(source, home).ok() };
        let receiver = Receiver::new(&multicasts).map_err(|source| BindError::Socket { source })?;
        let sender = Sender::new(&outgoing).map_err(|source| BindError::Socket { source })?;
        Ok(Self {
            multicasts,
            receiver,
            unicasts,
            outgoing,
            sender,
            group,
            place,
            peers,
            cluster,
            held: None,
            passed: 0,
            refused: VecDeque::new(),
            buffer: vec![0; LONGEST].into_boxed_slice(),
            lost: Arc::default(),
            names,
            echo,
            notices: VecDeque::new(),
            noted_at: None,
        })
    }

    /// Appends the multicasts that have arrived, and at most one unicast. The unicast is read first
    /// and appended last. By the time the multicast socket is read, it therefore has every
    /// multicast that was sent before a token.
    ///
    /// The sockets are read directly, whatever their readiness in tokio. tokio may have seen the
    /// token and not yet the frame before it.
    fn take(&mut self, batch: &mut Vec<(Origin, Bytes)>) -> io::Result<()> {
        if self.held.is_none() {
            self.passed = 0;
            self.held = self.next_unicast()?;
        }
        let Self { multicasts, receiver, peers, names, passed, cluster, .. } = self;
        let now = Instant::now();
        let mut origin = |peers: &mut Peers, source, datagram: &Bytes| {
            let claim = claim(datagram, *cluster);
            let origin = peers.origin(source, claim, now);
            if let Some((node, _)) = claim.filter(|_| origin.peer.is_none()) {
                // The datagram names a listed node and comes from another address.
                names.look_up(node);
            }
            origin
        };
        let before = *passed;
        let mut drained = false;
        while !drained && *passed - before < BATCH {
            drained = receiver.take(multicasts, |source, datagram| {
                *passed += 1;
                if !peers.is_own(source) {
                    batch.push((origin(peers, source, &datagram), datagram));
                }
            })?;
        }
        if (drained || self.passed >= BACKLOG)
            && let Some((source, datagram)) = self.held.take()
        {
            batch.push((origin(peers, source, &datagram), datagram));
        }
        Ok(())
    }

    /// Returns the next unicast, without the datagrams that this node sends to check its own source
    /// address.
    fn next_unicast(&mut self) -> io::Result<Option<(SocketAddrV4, Bytes)>> {
        while let Some((source, datagram)) = read(&self.unicasts, &mut self.buffer)? {
            match self.echo.as_ref().and_then(|echo| echo.take(&datagram, source)) {
                None => return Ok(Some((source, datagram))),
                Some(true) => {}
                Some(false) => {
                    let address = *self.peers.own_home().ip();
                    self.note(Notice::SourceRewritten { address }, Some(source.into()));
                }
            }
        }
        Ok(None)
    }

    /// Sends the first datagrams of a batch and removes them from it. Sends as many as fit into one
    /// call, at least one.
    async fn send_some(&mut self, deadline: &mut Option<Instant>, batch: &mut VecDeque<Transmit>) {
        let Some(&Transmit { to, .. }) = batch.front() else { return };
        let address = match to {
            Destination::Everyone => self.group,
            Destination::Member(id) => match self.peers.home(id) {
                Some(home) => home,
                None => {
                    batch.pop_front();
                    self.lost.unknown.fetch_add(1, Ordering::Relaxed);
                    return self.note_unsent(Some(id), None);
                }
            },
        };
        let count = self.sender.train(to_the_same(batch));
        let mut sent = self.send_train(deadline, address, batch, count).await;
        if sent.is_err() && self.hear_news() {
            // The error may have been about an earlier datagram, and this one was not sent.
            sent = self.send_train(deadline, address, batch, count).await;
        }
        match sent {
            Ok(()) => {}
            // No datagram of the train was sent, so each is sent by itself.
            Err(error) if count > 1 && error.kind() != io::ErrorKind::TimedOut => {
                return self.sender.take_apart();
            }
            Err(error) => self.lose(count, to, &error),
        }
        batch.drain(..count);
    }

    async fn send_train(
        &mut self,
        deadline: &mut Option<Instant>,
        to: SocketAddrV4,
        batch: &VecDeque<Transmit>,
        count: usize,
    ) -> io::Result<()> {
        match self.sender.send(&self.outgoing, to, to_the_same(batch).take(count)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent,
        }
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + SEND_WAIT);
        let room = self.outgoing.async_io(Interest::WRITABLE, || {
            self.sender.send(&self.outgoing, to, to_the_same(batch).take(count))
        });
        tokio::time::timeout_at(deadline, room).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
    }

    /// Collects the reports of hosts about earlier datagrams. Returns `true` if there were any.
    fn hear_news(&mut self) -> bool {
        let mut any = false;
        while let Ok(Some(news)) = self.sender.news(&self.outgoing) {
            any = true;
            // A bound suffices, because a node sends to few others at a time, and refusals are
            // repeated.
            if let News::Refused(address) = news
                && let Some(node) = self.peers.at(address).filter(|_| self.refused.len() < BATCH)
            {
                self.refused.push_back(node);
            }
        }
        any
    }

    /// Moves the group membership to the interface that has the node's address now.
    fn follow(&mut self) {
        let Some(place) = &mut self.place else { return };
        let before = place.joined;
        let address = *self.peers.own_home().ip();
        place.again_at = None;
        let followed = place.join(&self.multicasts, *self.group.ip()).and_then(|()| {
            let Some(index) = place.joined else { return Ok(()) };
            set_ip_multicast_if_with_ifindex(&self.outgoing, &Ipv4Addr::UNSPECIFIED, &address, index)?;
            if before != place.joined {
                tracing::info!("this node's address {address} is on {} now", place.interfaces.name(index));
            }
            Ok(())
        });
        if let Err(error) = followed {
            place.again_at = Some(Instant::now() + FOLLOW_AGAIN);
            tracing::warn!("the group cannot be joined where {address} is now: {error}; trying again");
        }
    }

    /// Handles a host name of the node list that has been resolved again. If its node has moved,
    /// replaces its address.
    fn note_found(&mut self, Found { node, addresses }: Found) {
        let known = self.peers.home(node).map(|home| *home.ip());
        if known.is_some_and(|known| addresses.contains(&known)) {
            return;
        }
        if let Some(address) = addresses.first().copied()
            && let Some(former) = self.peers.move_to(node, address)
        {
            let host = self.names.host(node).unwrap_or_default();
            tracing::info!("{host}, node {node}, is at {address} now, and was at {}", former.ip());
        }
    }

    fn lose(&mut self, count: usize, to: Destination, why: &io::Error) {
        self.lost.unsent.fetch_add(count as u64, Ordering::Relaxed);
        let node = match to {
            Destination::Member(node) => Some(node),
            Destination::Everyone => None,
        };
        // Our own timeout has no error number. It means that the send buffer stayed full.
        let errno = why.raw_os_error().unwrap_or_else(|| Errno::NOBUFS.raw_os_error());
        self.note_unsent(node, Some(errno));
    }

    fn note_unsent(&mut self, node: Option<NodeId>, errno: Option<i32>) {
        // Without an address nothing is sent, and another notice reports that.
        let absent = self.place.as_ref().is_some_and(|place| place.joined.is_none());
        let now = Instant::now();
        if !absent && self.noted_at.is_none_or(|at| now - at >= NOTE_EVERY) {
            self.noted_at = Some(now);
            self.note(Notice::Unsent { node, errno }, None);
        }
    }

    fn note(&mut self, notice: Notice, source: Option<SocketAddr>) {
        // Bounded, because notices may not be collected.
        if self.notices.len() < BATCH {
            self.notices.push_back((notice, source));
        }
    }

    /// Does periodic work.
    fn look_after(&mut self) {
        if self.place.is_none() && self.echo.is_none() {
            return;
        }
        let now = Instant::now();
        if self.place.as_ref().and_then(|place| place.again_at).is_some_and(|at| at <= now) {
            self.follow();
        }
        let address = *self.peers.own_home().ip();
        if let Some(place) = self.place.as_mut().filter(|place| place.joined.is_none()) {
            if place.noted_at.is_none_or(|at| now - at >= NOTE_EVERY) {
                place.noted_at = Some(now);
                self.note(Notice::NoAddress { address }, None);
            }
        } else if let Some(echo) = &mut self.echo {
            echo.send(&self.outgoing, now);
        }
    }
}

impl Transport for Udp {
    async fn send(&mut self, batch: &mut VecDeque<Transmit>) -> io::Result<()> {
        let mut deadline = None;
        while !batch.is_empty() {
            self.send_some(&mut deadline, batch).await;
        }
        Ok(())
    }

    async fn recv(&mut self, batch: &mut Vec<(Origin, Bytes)>) -> io::Result<()> {
        let before = batch.len();
        self.look_after();
        loop {
            self.take(batch)?;
            if batch.len() > before || !self.refused.is_empty() {
                return Ok(());
            }
            if self.held.is_some() {
                // A whole batch consisted of own multicasts, and more may follow.
                continue;
            }
            // Readiness is cleared before the sockets are read again, never after, so that no
            // arrival is missed.
            let Self { multicasts, unicasts, outgoing, place, names, .. } = self;
            tokio::select! {
                biased;
                news = poll_fn(|context| poll_news(place, names, context)) => match news? {
                    Some(found) => self.note_found(found),
                    None => self.follow(),
                },
                ready = outgoing.ready(Interest::ERROR) => {
                    ready?;
                    clear(outgoing, Interest::ERROR);
                    self.hear_news();
                }
                ready = poll_fn(|context| poll_either(multicasts, unicasts, context)) => ready?,
            }
        }
    }

    fn refused(&mut self) -> Option<NodeId> {
        self.refused.pop_front()
    }

    fn notice(&mut self) -> Option<(Notice, Option<SocketAddr>)> {
        self.notices.pop_front()
    }

    fn set_members(&mut self, members: &BTreeSet<NodeId>) {
        self.peers.set_members(members);
    }

    fn receive_buffer(&self) -> Option<usize> {
        socket_recv_buffer_size(&self.multicasts).ok()
    }
}

/// Returns the claimed sender of a datagram. Datagrams of another cluster are left out, because ids
/// are learnt within a cluster.
fn claim(datagram: &[u8], cluster: Option<ClusterTag>) -> Option<(NodeId, bool)> {
    let claimed = claimed_sender(datagram)?;
    match (announced(datagram), cluster) {
        (Announced::Cluster(other), Some(own)) if other != own => None,
        _ => Some(claimed),
    }
}

/// Returns the first datagrams of a batch that have the same destination.
fn to_the_same(batch: &VecDeque<Transmit>) -> impl Iterator<Item = &[u8]> {
    let first = batch.front().map(|first| first.to);
    batch.iter().take_while(move |other| Some(other.to) == first).map(|other| &other.datagram[..])
}

/// Ready if either socket is readable. Clears the readiness of both, because both are read then.
fn poll_either(one: &UdpSocket, other: &UdpSocket, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut any = Poll::Pending;
    for socket in [one, other] {
        if let Poll::Ready(ready) = socket.poll_recv_ready(context) {
            ready?;
            clear(socket, Interest::READABLE);
            any = Poll::Ready(Ok(()));
        }
    }
    any
}

/// Ready if an address of this host has changed, or if a name has been resolved. The latter returns
/// the result.
fn poll_news(
    place: &mut Option<Place>,
    names: &mut Names,
    context: &mut Context<'_>,
) -> Poll<io::Result<Option<Found>>> {
    if let Some(place) = place
        && let Poll::Ready(changed) = place.interfaces.poll_change(context)
    {
        return Poll::Ready(changed.map(|()| None));
    }
    names.poll_found(context).map(|found| Ok(Some(found)))
}

/// Makes tokio wait for the next arrival, or error, whatever it has seen before.
fn clear(socket: &UdpSocket, interest: Interest) {
    let nothing = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
    let _ = socket.try_io(interest, nothing);
}

/// Reads a datagram, if there is one. It is copied out of the buffer, so that the ring keeps only
/// as much memory as it has bytes.
fn read(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(SocketAddrV4, Bytes)>> {
    let mut failures = 0;
    loop {
        match rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _, Some(source))) => {
                if let Ok(source) = SocketAddrV4::try_from(source) {
                    return Ok(Some((source, Bytes::copy_from_slice(&buffer[..length]))));
                }
            }
            Ok((.., None)) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            // An error of the interface is reported once, in place of a datagram.
            Err(_) if failures < FAILURES => failures += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens a socket, sets its options and then binds it.
fn bound(
    address: SocketAddrV4,
    set_options: impl FnOnce(&Socket) -> io::Result<()>,
) -> Result<UdpSocket, BindError> {
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        set_options(&socket)?;
        Ok(socket)
    };
    let socket = open().map_err(|source| BindError::Socket { source })?;
    socket.bind(&SocketAddr::V4(address).into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::PortInUse { address },
        io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress { address: *address.ip() },
        io::ErrorKind::PermissionDenied => BindError::NotAllowed { address },
        _ => BindError::Socket { source },
    })?;
    UdpSocket::from_std(socket.into()).map_err(|source| BindError::Socket { source })
}

/// The reason why a transport could not be opened, with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process, most likely a node, has a socket with this address.
    #[error(
        "UDP port {port} of {ip} is in use: stop the other node or corosync there, \
         or set another mcastport (a node uses its port and the one below)",
        port = address.port(), ip = address.ip()
    )]
    PortInUse {
        /// The address and port.
        address: SocketAddrV4,
    },
    /// The address to bind is not one of this host's.
    #[error("no interface of this host has the address {address}: correct bindnetaddr or ring0_addr")]
    NoSuchAddress {
        /// The address.
        address: Ipv4Addr,
    },
    /// No interface is in the network that `bindnetaddr` names.
    #[error(
        "no interface of this host is in the network of {address}: correct bindnetaddr or ring0_addr, \
         or bring the interface up"
    )]
    NoSuchNetwork {
        /// The address in that network.
        address: Ipv4Addr,
    },
    /// The port is reserved for privileged users.
    #[error("{address} may not be bound by this user: set mcastport to 1025 or more, or run as root")]
    NotAllowed {
        /// The address and port.
        address: SocketAddrV4,
    },
    /// The interface does not support multicast.
    #[error(
        "group {group} cannot be joined on the interface of {interface}: bring it up, with multicast on \
         ({source})"
    )]
    Join {
        /// The group.
        group: Ipv4Addr,
        /// The interface's address.
        interface: Ipv4Addr,
        /// The system's error.
        source: io::Error,
    },
    /// `mcastaddr` is not a multicast address.
    #[error("mcastaddr {group} is not a multicast address; choose one from 239.0.0.0/8")]
    NotAGroup {
        /// The address.
        group: Ipv4Addr,
    },
    /// The address belongs to another family.
    #[error("{address} is not an IPv4 address, and this transport has no IPv6: give the IPv4 address")]
    NotIpv4 {
        /// The address.
        address: IpAddr,
    },
    /// The address is not a loopback address, and the transport stays within the host.
    #[error(
        "{address} is not a loopback address: transport `local` is for one host, at 127.0.0.1, 127.0.0.2, ..."
    )]
    NotLoopback {
        /// The address.
        address: Ipv4Addr,
    },
    /// `mcastport` is 0 or 1.
    #[error("port {port} has no port below it to send from: set mcastport to 2 or more")]
    Port {
        /// The port.
        port: u16,
    },
    /// Two nodes of the list have the same address and port.
    #[error("nodes {first} and {second} are both at {address}: give them different addresses or ports")]
    SharedAddress {
        /// The first of the two nodes.
        first: NodeId,
        /// The second of the two nodes.
        second: NodeId,
        /// Their address and port.
        address: SocketAddrV4,
    },
    /// The node list has this node at another address, where another process may run under its id.
    #[error(
        "node {node} is listed at {listed}, and would run at {home}: correct its ring0_addr, or give this process the id \
         of the node that is listed at its address"
    )]
    ListedElsewhere {
        /// This node.
        node: NodeId,
        /// The node's address in the list.
        listed: SocketAddrV4,
        /// The address at which it would run.
        home: SocketAddrV4,
    },
    /// The system did not open a socket, or refused an option.
    #[error("no socket can be had ({source}): is the limit of open files reached?")]
    Socket {
        /// The system's error.
        source: io::Error,
    },
    /// The system did not list its interfaces.
    #[error("the interfaces of this host cannot be listed ({source}): give ring0_addr as an exact address")]
    Interfaces {
        /// The system's error.
        source: io::Error,
    },
}

/// Returns the address if it is an IPv4 address, the only supported family.
pub(super) fn v4(address: IpAddr) -> Result<Ipv4Addr, BindError> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(BindError::NotIpv4 { address }),
    }
}
