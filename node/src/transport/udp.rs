//! The common part of the transports over UDP: corosync's sockets and their use.
//!
//! `A` is the node's address, `p` its port, and `G:P` the group:
//!
//! | socket | bound to | for | address reuse |
//! |---|---|---|---|
//! | `multicasts` | `G:P` | receives multicasts | yes: nodes of a host may share a group |
//! | `unicasts` | `A:p` | receives tokens, sends nothing | no: a second node here is an error |
//! | `outgoing` | `A:(p-1)` | sends everything; its port identifies the node | no |
//! | `ways` | `A:*` | without a group, each sends to one node | no |

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::config::TransportKind;
use quorate_membership::{Config, Destination, Notice};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::sockopt::{
    set_ip_multicast_if_with_ifindex, set_socket_recv_buffer_size_force, socket_recv_buffer_size,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::io::{Interest, Ready};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::echo::Echo;
use super::interfaces::Interfaces;
use super::offload::{FAILURES, Receiver, Report, Sender};
use super::{News, Packet, Path, PathError, Sockets, own};

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
/// The most reports that are read before a packet counts as lost.
const REPORTS: usize = 8;
/// Time for which nothing waits for a buffer that stayed full for so long.
const FULL: Duration = Duration::from_secs(10);
/// The shortest time between two notices of one kind.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// Time until another attempt to join the group.
const FOLLOW_AGAIN: Duration = Duration::from_secs(1);

/// Sockets over UDP, for all transports (`totem.transport`).
///
/// A datagram that cannot be sent (no route, no buffer, a firewall, an interface that is down) is
/// lost, counted, and logged at most once a second.
///
/// Sockets stay bound to the node's address, whatever happens to the interface. A node that has
/// lost its network is therefore alone and does not meet other nodes elsewhere. When the address
/// comes back, on the same interface or on another, the node continues there.
#[derive(Debug)]
pub struct Udp {
    /// The group, if the transport uses one.
    group: Option<Group>,
    /// Receives what is for this node alone; without a group, everything.
    unicasts: UdpSocket,
    /// Reads `unicasts` if there is no group.
    all: Option<Receiver>,
    /// Sends everything if there is a group.
    outgoing: Way,
    /// Without a group, the sockets that send to one node each. A host that does not answer holds
    /// what is sent to it in the sender's buffer, which must not block what goes to others.
    ways: BTreeMap<SocketAddr, Way>,
    /// The most of them. Nodes may move, again and again, and each new address needs another one.
    most_ways: usize,
    /// The number of times that any of them was used.
    uses: u64,
    home: SocketAddr,
    /// The interface that has the node's address. `None` if the system does not report it, or if
    /// the node stays within the host.
    place: Option<Place>,
    /// A unicast that has been read, and waits until the multicasts sent before it have been read,
    /// too.
    held: Option<Packet>,
    /// Multicasts read while `held` waited.
    passed: usize,
    buffer: Box<[u8]>,
    unsent: u64,
    echo: Option<Echo>,
    news: VecDeque<News>,
    /// The time of the last notice of an unsent datagram.
    noted_at: Option<Instant>,
}

/// A socket that sends.
#[derive(Debug)]
struct Way {
    socket: UdpSocket,
    sender: Sender,
    /// The number of the last use, of all uses of ways.
    used: u64,
    /// Its buffer stayed full, so nothing waits for room in it until then.
    full_until: Option<Instant>,
}

impl Way {
    fn new(socket: UdpSocket) -> Result<Self, BindError> {
        let sender = Sender::new(&socket).map_err(|source| BindError::Socket { source })?;
        Ok(Self { socket, sender, used: 0, full_until: None })
    }

    /// Appends the hosts that have refused an earlier datagram. Returns `true` if there was any
    /// report.
    fn hear_reports(&self, refused: &mut Vec<IpAddr>) -> bool {
        match self.sender.report(&self.socket) {
            Ok(Some(Report::Refused(address))) => refused.push(address),
            Ok(Some(Report::Other)) => {}
            Ok(None) | Err(_) => return false,
        }
        true
    }

    /// Sends the first `count` packets of a batch. Waits for room until the deadline, which all
    /// packets of a batch share.
    async fn send(
        &mut self,
        deadline: &mut Option<Instant>,
        to: SocketAddr,
        batch: &VecDeque<Packet>,
        count: usize,
    ) -> io::Result<()> {
        let Self { socket, sender, full_until, used: _ } = self;
        match sender.send(socket, to, to_the_same(batch).take(count)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent,
        }
        let now = Instant::now();
        if full_until.is_some_and(|until| now < until) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let deadline = *deadline.get_or_insert(now + SEND_WAIT);
        let room =
            socket.async_io(Interest::WRITABLE, || sender.send(socket, to, to_the_same(batch).take(count)));
        let sent = tokio::time::timeout_at(deadline, room).await;
        sent.unwrap_or_else(|elapsed| {
            *full_until = Some(Instant::now() + FULL);
            Err(elapsed.into())
        })
    }
}

/// Returns `true` if the system may send the datagrams of a train one by one.
fn is_about_trains(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    errno.is_some_and(|errno| [Errno::INVAL, Errno::IO, Errno::MSGSIZE, Errno::OPNOTSUPP].contains(&errno))
}

/// A group that the node receives multicasts of.
#[derive(Debug)]
struct Group {
    address: SocketAddr,
    multicasts: UdpSocket,
    receiver: Receiver,
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
    /// Returns `true` if no interface has the node's address.
    fn is_absent(&self) -> bool {
        self.interfaces.having(None).is_none()
    }

    /// Joins the group on the interface that has the address, and leaves it on any other. If no
    /// interface has the address, the group is joined on none.
    fn join(&mut self, multicasts: &UdpSocket, group: IpAddr) -> io::Result<()> {
        let multicasts = SockRef::from(multicasts);
        let at = InterfaceIndexOrAddress::Index;
        let there = self.interfaces.having(self.joined);
        if let Some(index) = self.joined
            && (self.interfaces.has_lost(index) || there != Some(index))
        {
            // Fails if the interface is gone. Its membership is gone, too, in this case.
            let _ = match group {
                IpAddr::V4(group) => multicasts.leave_multicast_v4_n(&group, &at(index)),
                IpAddr::V6(group) => multicasts.leave_multicast_v6(&group, index),
            };
            self.joined = None;
        }
        if let Some(index) = there.filter(|_| self.joined.is_none()) {
            match group {
                IpAddr::V4(group) => multicasts.join_multicast_v4_n(&group, &at(index))?,
                IpAddr::V6(group) => multicasts.join_multicast_v6(&group, index)?,
            }
            self.joined = Some(index);
        }
        Ok(())
    }
}

impl Udp {
    /// Opens the sockets of the configured transport, and makes the path over them.
    ///
    /// With IP multicast, a host has one node per group. The kernel's own loopback is off, as with
    /// corosync, so a second node on the same host would not be heard. Within a host, nodes are
    /// distinguished by loopback addresses (127.0.0.1, 127.0.0.2, ..., all of which exist on Linux)
    /// or by ports (`nodelist.node.port`), at least two apart, because a node sends from the port
    /// below its own.
    ///
    /// If this node is listed, and no interface has its address yet, the sockets wait for it, and
    /// send and receive nothing until then.
    ///
    /// Must be called within a tokio runtime with IO enabled.
    ///
    /// # Errors
    /// If a socket cannot be opened. The message says what to do.
    pub fn bind(config: &Config) -> Result<(Self, Path), BindError> {
        let home = own::home(config)?;
        let path = Path::new(config, home)?;
        let within_host = config.network.transport == TransportKind::Local;
        let interfaces = if within_host { None } else { follow(home.ip()) };
        let absent = interfaces.as_ref().is_some_and(|interfaces| interfaces.having(None).is_none());
        if absent && own::listed(config) != Some(home.ip()) {
            return Err(BindError::NoSuchAddress { address: home.ip() });
        }
        let mut udp = Self::open(home, path.group(), config.network.ttl, within_host, interfaces)?;
        udp.most_ways = 2 * config.nodes.len().max(1);
        for address in path.addresses(Destination::Everyone) {
            udp.way(address)?;
        }
        Ok((udp, path))
    }

    /// Opens the sockets. With `interfaces` they follow the node's address, which no interface
    /// needs to have yet. With `loopback`, other processes of this host receive the multicasts.
    fn open(
        home: SocketAddr,
        group: Option<SocketAddr>,
        ttl: u8,
        loopback: bool,
        interfaces: Option<Interfaces>,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::Socket { source };
        let absent = interfaces.as_ref().is_some_and(|interfaces| interfaces.having(None).is_none());
        let Some(source_port) = home.port().checked_sub(1).filter(|port| *port > 0) else {
            return Err(BindError::Port { port: home.port() });
        };
        if let Some(group) = group.filter(|group| !group.ip().is_multicast()) {
            return Err(BindError::NotAGroup { group: group.ip() });
        }

        // Bound first, because it fails if a node already runs here.
        let unicasts = bound(home, |socket| {
            freebind(socket, home, absent)?;
            if group.is_some() {
                socket.set_recv_buffer_size(BUFFER)?;
                // Optional, because some containers refuse it.
                let _ = socket.set_priority(TOKEN_PRIORITY);
                return Ok(());
            }
            socket.set_recv_buffer_size(MULTICAST_BUFFER)?;
            let _ = set_socket_recv_buffer_size_force(socket, MULTICAST_BUFFER);
            Ok(())
        })?;
        let source = SocketAddr::new(home.ip(), source_port);
        let outgoing = bound(source, |socket| {
            freebind(socket, home, absent)?;
            socket.set_send_buffer_size(BUFFER)?;
            if group.is_none() {
                return Ok(());
            }
            match home.ip() {
                IpAddr::V4(address) => {
                    if !absent {
                        socket.set_multicast_if_v4(&address)?;
                    }
                    socket.set_multicast_loop_v4(loopback)?;
                    socket.set_multicast_ttl_v4(u32::from(ttl))
                }
                IpAddr::V6(_) => {
                    socket.set_multicast_loop_v6(loopback)?;
                    socket.set_multicast_hops_v6(u32::from(ttl))
                }
            }
        })?;
        let outgoing = Way::new(outgoing)?;
        let place =
            interfaces.map(|interfaces| Place { interfaces, joined: None, again_at: None, noted_at: None });
        let all = if group.is_none() { Some(Receiver::new(&unicasts).map_err(failed)?) } else { None };
        // Addresses are not translated within a host. Without random numbers the check is left out.
        let echo = if loopback { None } else { Echo::new(source, home).ok() };
        let mut udp = Self {
            group: None,
            unicasts,
            all,
            outgoing,
            ways: BTreeMap::new(),
            most_ways: usize::MAX,
            uses: 0,
            home,
            place,
            held: None,
            passed: 0,
            buffer: vec![0; LONGEST].into_boxed_slice(),
            unsent: 0,
            echo,
            news: VecDeque::new(),
            noted_at: None,
        };
        if let Some(address) = group {
            udp.join(address)?;
        }
        Ok(udp)
    }

    /// Opens the socket for a group, and joins the group on the interface that has the node's
    /// address.
    fn join(&mut self, address: SocketAddr) -> Result<(), BindError> {
        let failed = |source| BindError::Socket { source };
        let multicasts = bound(address, |socket| {
            socket.set_recv_buffer_size(MULTICAST_BUFFER)?;
            let _ = set_socket_recv_buffer_size_force(socket, MULTICAST_BUFFER);
            socket.set_reuse_address(true)?;
            // Excludes groups that other processes of this host have joined on other interfaces.
            match address {
                SocketAddr::V4(_) => socket.set_multicast_all_v4(false),
                SocketAddr::V6(_) => socket.set_multicast_all_v6(false),
            }
        })?;
        let receiver = Receiver::new(&multicasts).map_err(failed)?;
        self.group = Some(Group { address, multicasts, receiver });
        self.join_where_the_address_is().map_err(|source| BindError::Join {
            group: address.ip(),
            interface: self.home.ip(),
            source,
        })
    }

    /// Joins the group, and sends to it, on the interface that has the node's address.
    fn join_where_the_address_is(&mut self) -> io::Result<()> {
        let Self { group, place, outgoing, home, .. } = self;
        let outgoing = &outgoing.socket;
        let Some(Group { address, multicasts, .. }) = group else { return Ok(()) };
        let Some(place) = place else {
            return match (address.ip(), home.ip()) {
                (IpAddr::V4(group), IpAddr::V4(home)) => multicasts.join_multicast_v4(group, home),
                (IpAddr::V6(group), _) => {
                    let index = interface_index(home.ip())?;
                    SockRef::from(outgoing).set_multicast_if_v6(index)?;
                    multicasts.join_multicast_v6(&group, index)
                }
                (IpAddr::V4(_), IpAddr::V6(_)) => Err(io::ErrorKind::InvalidInput.into()),
            };
        };
        place.join(multicasts, address.ip())?;
        match (place.joined, home.ip()) {
            (None, _) => Ok(()),
            (Some(index), IpAddr::V4(home)) => {
                Ok(set_ip_multicast_if_with_ifindex(outgoing, &Ipv4Addr::UNSPECIFIED, &home, index)?)
            }
            (Some(index), IpAddr::V6(_)) => SockRef::from(outgoing).set_multicast_if_v6(index),
        }
    }

    /// Appends the multicasts that have arrived, and at most one unicast. The unicast is read first
    /// and appended last. By the time the multicast socket is read, it therefore has every
    /// multicast that was sent before a token. Without a group, everything arrives in one queue.
    ///
    /// The sockets are read directly, whatever their readiness in tokio. tokio may have seen the
    /// token and not yet the frame before it.
    fn take(&mut self, batch: &mut Vec<Packet>) -> io::Result<()> {
        if let Some(all) = &mut self.all {
            let before = batch.len();
            while batch.len() - before < BATCH
                && !all.take(&self.unicasts, |address, datagram| batch.push(Packet { address, datagram }))?
            {
            }
            let mut at = before;
            while at < batch.len() {
                if self.is_echo(&batch[at]) {
                    batch.remove(at);
                } else {
                    at += 1;
                }
            }
            return Ok(());
        }
        if self.held.is_none() {
            self.passed = 0;
            self.held = self.next_unicast()?;
        }
        let Some(Group { multicasts, receiver, .. }) = &mut self.group else { return Ok(()) };
        let before = batch.len();
        let mut drained = false;
        while !drained && batch.len() - before < BATCH {
            drained =
                receiver.take(multicasts, |address, datagram| batch.push(Packet { address, datagram }))?;
        }
        self.passed += batch.len() - before;
        if drained || self.passed >= BACKLOG {
            batch.extend(self.held.take());
        }
        Ok(())
    }

    /// Returns the next unicast.
    fn next_unicast(&mut self) -> io::Result<Option<Packet>> {
        while let Some(packet) = read(&self.unicasts, &mut self.buffer)? {
            if !self.is_echo(&packet) {
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }

    /// Returns `true` if this node sent the packet to check its own source address. Notes whether
    /// it came from there.
    fn is_echo(&mut self, packet: &Packet) -> bool {
        let Packet { address: source, datagram } = packet;
        let echo = self.echo.as_ref().and_then(|echo| echo.take(datagram, *source));
        if echo == Some(false) {
            let address = self.home.ip();
            self.note(News::Notice(Notice::SourceRewritten { address }, Some(*source)));
        }
        echo.is_some()
    }

    /// Sends the first packets of a batch and removes them from it. Sends as many as fit into one
    /// call, at least one.
    async fn send_some(&mut self, deadline: &mut Option<Instant>, batch: &mut VecDeque<Packet>) {
        let Some(&Packet { address, .. }) = batch.front() else { return };
        if self.place.as_ref().is_some_and(Place::is_absent) {
            // IPv6 would send all the same, from an address that may be another host's by now.
            let count = batch.len();
            batch.clear();
            return self.lose(count, address, &Errno::ADDRNOTAVAIL.into());
        }
        let way = match self.way(address) {
            Ok(way) => way,
            Err(error) => {
                batch.pop_front();
                return self.lose(1, address, &io::Error::other(error));
            }
        };
        let count = way.sender.train(to_the_same(batch));
        let mut reports = Vec::new();
        let mut sent = way.send(deadline, address, batch, count).await;
        // The error may have been about an earlier datagram, and this one was not sent.
        for _ in 0..REPORTS {
            if sent.is_ok() || !way.hear_reports(&mut reports) {
                break;
            }
            sent = way.send(deadline, address, batch, count).await;
        }
        let apart = match &sent {
            // No datagram of the train was sent, so each is sent by itself.
            Err(error) if count > 1 && is_about_trains(error) => {
                way.sender.take_apart();
                true
            }
            _ => false,
        };
        reports.into_iter().for_each(|address| self.note(News::Refused(address)));
        if apart {
            return;
        }
        if let Err(error) = sent {
            self.lose(count, address, &error);
        }
        batch.drain(..count);
    }

    /// Returns the socket that sends to this address. It is made if a listed node has moved there.
    fn way(&mut self, to: SocketAddr) -> Result<&mut Way, BindError> {
        if self.group.is_some() {
            return Ok(&mut self.outgoing);
        }
        self.uses += 1;
        if self.ways.len() >= self.most_ways && !self.ways.contains_key(&to) {
            let longest_unused =
                self.ways.iter().min_by_key(|(_, way)| way.used).map(|(&address, _)| address);
            self.ways.remove(&longest_unused.unwrap_or(to));
        }
        let way = match self.ways.entry(to) {
            Entry::Occupied(way) => way.into_mut(),
            Entry::Vacant(free) => {
                // Nodes know each other by address, whatever the port. The address itself was bound
                // when this node started.
                let socket = bound(SocketAddr::new(self.home.ip(), 0), |socket| {
                    freebind(socket, self.home, true)?;
                    socket.set_send_buffer_size(BUFFER)
                });
                free.insert(socket.and_then(Way::new)?)
            }
        };
        way.used = self.uses;
        Ok(way)
    }

    /// Waits for an arrival, a report, or a change of this host's addresses. Readiness is cleared
    /// before the sockets are read again, never after, so that no arrival is missed.
    async fn wait(&mut self) -> io::Result<Woken> {
        let Self { group, unicasts, outgoing, ways, place, .. } = self;
        let multicasts = group.as_ref().map(|group| &group.multicasts);
        let mut reports: Vec<_> =
            ways.values().map(|way| (way, Box::pin(way.socket.ready(Interest::ERROR)))).collect();
        tokio::select! {
            biased;
            changed = poll_fn(|context| poll_change(place, context)) => changed.map(|()| Woken::Changed),
            ready = outgoing.socket.ready(Interest::ERROR) => {
                clear(&outgoing.socket, Interest::ERROR);
                ready.map(|_| Woken::Report)
            }
            ready = poll_fn(|context| poll_reports(&mut reports, context)) => ready.map(|()| Woken::Report),
            ready = poll_fn(|context| poll_either(multicasts, unicasts, context)) => {
                ready.map(|()| Woken::Arrival)
            }
        }
    }

    /// Collects the reports of hosts about earlier datagrams.
    fn hear_reports(&mut self) {
        let mut reports = Vec::new();
        for way in [&self.outgoing].into_iter().chain(self.ways.values()) {
            while reports.len() < BATCH && way.hear_reports(&mut reports) {}
        }
        reports.into_iter().for_each(|address| self.note(News::Refused(address)));
    }

    /// Moves the group membership to the interface that has the node's address now.
    fn follow(&mut self) {
        let Some(place) = &mut self.place else { return };
        let before = place.joined;
        place.again_at = None;
        let followed = self.join_where_the_address_is();
        let (Some(place), address) = (&mut self.place, self.home.ip()) else { return };
        match (followed, place.joined) {
            (Ok(()), Some(index)) if before != place.joined => {
                tracing::info!("this node's address {address} is now on {}", place.interfaces.name(index));
            }
            (Ok(()), _) => {}
            (Err(error), _) => {
                place.again_at = Some(Instant::now() + FOLLOW_AGAIN);
                tracing::warn!("cannot join the group on the interface of {address}: {error}; trying again");
            }
        }
    }

    fn lose(&mut self, count: usize, to: SocketAddr, why: &io::Error) {
        self.unsent += count as u64;
        // Our own timeout has no error number. It means that the send buffer stayed full.
        let errno = why.raw_os_error().unwrap_or_else(|| Errno::NOBUFS.raw_os_error());
        // Without an address nothing is sent, and another notice reports that.
        let absent = self.place.as_ref().is_some_and(Place::is_absent);
        let now = Instant::now();
        if !absent && self.noted_at.is_none_or(|at| now - at >= NOTE_EVERY) {
            self.noted_at = Some(now);
            self.note(News::Unsent(to, errno));
        }
    }

    fn note(&mut self, news: News) {
        // Bounded, because news may not be collected. Refusals are repeated.
        if self.news.len() < BATCH {
            self.news.push_back(news);
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
        let address = self.home.ip();
        if let Some(place) = self.place.as_mut().filter(|place| place.is_absent()) {
            if place.noted_at.is_none_or(|at| now - at >= NOTE_EVERY) {
                place.noted_at = Some(now);
                self.note(News::Notice(Notice::NoAddress { address }, None));
            }
        } else if let Some(echo) = &mut self.echo {
            echo.send(&self.outgoing.socket, now);
        }
    }
}

impl Sockets for Udp {
    fn home(&self) -> SocketAddr {
        self.home
    }

    async fn send(&mut self, batch: &mut VecDeque<Packet>) -> io::Result<()> {
        let mut deadline = None;
        while !batch.is_empty() {
            self.send_some(&mut deadline, batch).await;
        }
        Ok(())
    }

    async fn recv(&mut self, batch: &mut Vec<Packet>) -> io::Result<()> {
        let before = batch.len();
        self.look_after();
        loop {
            self.take(batch)?;
            if batch.len() > before || !self.news.is_empty() {
                return Ok(());
            }
            match self.wait().await? {
                Woken::Changed => self.follow(),
                Woken::Report => self.hear_reports(),
                Woken::Arrival => {}
            }
        }
    }

    fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    fn unsent(&self) -> u64 {
        self.unsent
    }

    fn receive_buffer(&self) -> Option<usize> {
        let socket = self.group.as_ref().map_or(&self.unicasts, |group| &group.multicasts);
        socket_recv_buffer_size(socket).ok()
    }
}

/// Follows the interface that has this address, if the kernel reports it.
fn follow(address: IpAddr) -> Option<Interfaces> {
    Interfaces::with(address)
        .inspect_err(|error| {
            tracing::warn!(
                "cannot watch for address changes: {error}; restart this node after such a change"
            );
        })
        .ok()
}

/// Returns the first packets of a batch that have the same destination.
fn to_the_same(batch: &VecDeque<Packet>) -> impl Iterator<Item = &[u8]> {
    let first = batch.front().map(|first| first.address);
    batch.iter().take_while(move |other| Some(other.address) == first).map(|other| &other.datagram[..])
}

/// The reason for which a wait ended.
enum Woken {
    Changed,
    Report,
    Arrival,
}

/// Ready if one of the sockets has a report. Clears its readiness, because all reports are read
/// then.
fn poll_reports<F: Future<Output = io::Result<Ready>> + Unpin>(
    reports: &mut [(&Way, F)],
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    for (way, report) in reports {
        if let Poll::Ready(ready) = Pin::new(report).poll(context) {
            clear(&way.socket, Interest::ERROR);
            return Poll::Ready(ready.map(drop));
        }
    }
    Poll::Pending
}

/// Ready if either socket is readable. Clears the readiness of both, because both are read then.
fn poll_either(
    one: Option<&UdpSocket>,
    other: &UdpSocket,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut any = Poll::Pending;
    for socket in one.into_iter().chain([other]) {
        if let Poll::Ready(ready) = socket.poll_recv_ready(context) {
            ready?;
            clear(socket, Interest::READABLE);
            any = Poll::Ready(Ok(()));
        }
    }
    any
}

/// Ready if an address of this host has changed.
fn poll_change(place: &mut Option<Place>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    match place {
        Some(place) => place.interfaces.poll_change(context),
        None => Poll::Pending,
    }
}

/// Makes tokio wait for the next arrival, or error, whatever it has seen before.
fn clear(socket: &UdpSocket, interest: Interest) {
    let nothing = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
    let _ = socket.try_io(interest, nothing);
}

/// Reads a datagram, if there is one. It is copied out of the buffer, so that the ring keeps only
/// as much memory as it has bytes.
fn read(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    let mut failures = 0;
    loop {
        match rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _, Some(source))) => {
                if let Ok(address) = SocketAddr::try_from(source) {
                    let datagram = Bytes::copy_from_slice(&buffer[..length]);
                    return Ok(Some(Packet { address, datagram }));
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
    address: SocketAddr,
    set_options: impl FnOnce(&Socket) -> io::Result<()>,
) -> Result<UdpSocket, BindError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        set_options(&socket)?;
        Ok(socket)
    };
    let socket = open().map_err(|source| BindError::Socket { source })?;
    socket.bind(&address.into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::PortInUse { address },
        io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress { address: address.ip() },
        io::ErrorKind::PermissionDenied => BindError::NotAllowed { address },
        _ => BindError::Socket { source },
    })?;
    UdpSocket::from_std(socket.into()).map_err(|source| BindError::Socket { source })
}

/// Lets a socket have an address that no interface has yet.
fn freebind(socket: &Socket, address: SocketAddr, absent: bool) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(absent),
        SocketAddr::V6(_) => socket.set_freebind_v6(absent),
    }
}

/// Returns the index of the interface that has this address.
fn interface_index(address: IpAddr) -> io::Result<u32> {
    let mut interfaces = if_addrs::get_if_addrs()?.into_iter();
    let there = interfaces.find(|interface| interface.ip() == address);
    there.and_then(|interface| interface.index).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// The reason why sockets could not be opened, with a remedy.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process, most likely a node, has a socket with this address.
    #[error(
        "UDP port {port} of {ip} is in use; stop the other node or corosync there, or set another mcastport \
         (a node uses its port and the one below)",
        port = address.port(), ip = address.ip()
    )]
    PortInUse {
        /// The address and port.
        address: SocketAddr,
    },
    /// The address to bind is not one of this host's.
    #[error("no interface of this host has the address {address}; correct bindnetaddr or ring0_addr")]
    NoSuchAddress {
        /// The address.
        address: IpAddr,
    },
    /// No interface is in the network that `bindnetaddr` names.
    #[error(
        "no interface of this host is in the network of {address}; correct bindnetaddr or ring0_addr, or \
         bring the interface up"
    )]
    NoSuchNetwork {
        /// The address in that network.
        address: IpAddr,
    },
    /// The port is reserved for privileged users.
    #[error("this user may not bind {address}; set mcastport to 1025 or more, or run as root")]
    NotAllowed {
        /// The address and port.
        address: SocketAddr,
    },
    /// The interface does not support multicast.
    #[error(
        "cannot join group {group} on the interface of {interface}: {source}; bring it up with multicast \
         enabled"
    )]
    Join {
        /// The group.
        group: IpAddr,
        /// The interface's address.
        interface: IpAddr,
        /// The system's error.
        source: io::Error,
    },
    /// `mcastaddr` is not a multicast address.
    #[error("mcastaddr {group} is not a multicast address; choose one such as 239.192.0.1 or ff15::1")]
    NotAGroup {
        /// The address.
        group: IpAddr,
    },
    /// `mcastport` is 0 or 1.
    #[error("port {port} has no port below it to send from; set mcastport to 2 or more")]
    Port {
        /// The port.
        port: u16,
    },
    /// The configuration has no path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The system did not open a socket, or refused an option.
    #[error("cannot open a socket: {source}; check the limit on open files")]
    Socket {
        /// The system's error.
        source: io::Error,
    },
    /// The system did not list its interfaces.
    #[error("cannot list the interfaces of this host: {source}; set ring0_addr to an exact address")]
    Interfaces {
        /// The system's error.
        source: io::Error,
    },
}

/// As [`Display`](fmt::Display), because `main` and `unwrap` print this.
impl fmt::Debug for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
