//! Sockets on turmoil's network.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate::transport::{Packet, Sockets};
use quorate_membership::{NodeId, wire};
use turmoil::net::UdpSocket;

use crate::Fault;
use crate::engine::disturb::{Copy, Disturbance};
use crate::engine::{Micros, micros};
use crate::fault::Kind;
use crate::observed::Log;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 192, 0, 1);
/// The port of the group and of tokens.
pub(super) const PORT: u16 = 5405;
/// The port at which tokens really arrive, and which everything is sent from. A group is joined at
/// the port of the joining socket, and two sockets cannot share a port.
const UNICAST_PORT: u16 = PORT - 1;
/// The size of the receive buffer, larger than any UDP datagram.
const LONGEST: usize = 1 << 16;

/// The addresses of the nodes, with one node and one address a host, and the disturbances between
/// them.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    addresses: BTreeMap<NodeId, IpAddr>,
    ids: BTreeMap<IpAddr, NodeId>,
    air: Air,
}

impl Hosts {
    pub(super) fn new(addresses: BTreeMap<NodeId, IpAddr>, air: Air) -> Self {
        let ids = addresses.iter().map(|(&id, &address)| (address, id)).collect();
        Self { addresses, ids, air }
    }
}

/// The disturbances of single datagrams, for all hosts.
#[derive(Clone, Debug)]
pub(super) struct Air {
    seed: u64,
    /// The time that a datagram takes.
    latency: Duration,
    disturbances: Arc<Mutex<Vec<Disturbance>>>,
}

impl Air {
    pub(super) fn new(seed: u64, latency: Duration) -> Self {
        Self { seed, latency, disturbances: Arc::default() }
    }

    fn disturbances(&self) -> MutexGuard<'_, Vec<Disturbance>> {
        self.disturbances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn disturb(&self, fault: &Fault, now: Duration) {
        self.disturbances().extend(Disturbance::begin(fault, self.seed, micros(now)));
    }

    pub(super) fn clear(&self) {
        self.disturbances().clear();
    }

    /// Returns the copies that a datagram which is just arriving turns into.
    fn pass(&self, from: NodeId, to: NodeId, now: Micros, bytes: Bytes, to_everyone: bool) -> Vec<Copy> {
        let (from, to) = (from.get() as usize - 1, to.get() as usize - 1);
        let mut disturbances = self.disturbances();
        disturbances.retain(|disturbance| disturbance.until > now);
        let mut copies = vec![Copy { at: now, bytes, damaged: false }];
        if disturbances.is_empty() || from == to {
            return copies;
        }
        let kind = wire::decode(&copies[0].bytes).map_or(Kind::Any, |message| Kind::of(&message));
        for disturbance in disturbances.iter_mut() {
            if disturbance.concerns(from, kind, to_everyone) {
                disturbance.work(from, to, now, &mut copies);
            }
        }
        copies
    }
}

/// Multicast and unicast on turmoil's network, for the host on which it is bound.
pub(super) struct SimulatedUdp {
    id: NodeId,
    multicasts: UdpSocket,
    unicasts: UdpSocket,
    hosts: Hosts,
    /// Datagrams that are to arrive later, by time and order. Each has a flag that is set for
    /// multicasts.
    late: BTreeMap<(Micros, u64), (bool, Packet)>,
    came_late: u64,
    buffer: Box<[u8]>,
    log: Log,
}

fn now() -> Micros {
    micros(turmoil::sim_elapsed().unwrap_or_default())
}

impl SimulatedUdp {
    pub(super) async fn bind(id: NodeId, hosts: Hosts, log: Log) -> io::Result<Self> {
        let multicasts = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        multicasts.join_multicast_v4(GROUP, Ipv4Addr::UNSPECIFIED)?;
        // The option of the receiving port is the one that counts.
        multicasts.set_multicast_loop_v4(false)?;
        let unicasts = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, UNICAST_PORT)).await?;
        let buffer = vec![0; LONGEST].into_boxed_slice();
        Ok(Self { id, multicasts, unicasts, hosts, late: BTreeMap::new(), came_late: 0, buffer, log })
    }

    /// Takes everything that has arrived. The network delivers at the beginning of a tick, so
    /// datagrams that were sent before a token are here if the token is.
    fn take(&mut self, batch: &mut Vec<Packet>) -> io::Result<()> {
        let now = now();
        let still_late = self.late.split_off(&(now + 1, 0));
        let arrived = std::mem::replace(&mut self.late, still_late);
        for (to_everyone, socket) in [(true, &self.multicasts), (false, &self.unicasts)] {
            let due = arrived.values().filter(|(of, ..)| *of == to_everyone);
            batch.extend(due.map(|(_, packet)| packet.clone()));
            loop {
                let (length, source) = match socket.try_recv_from(&mut self.buffer) {
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                let bytes = Bytes::copy_from_slice(&self.buffer[..length]);
                let peer = self.hosts.ids.get(&source.ip()).copied();
                let from = peer.unwrap_or(self.id);
                for Copy { at, bytes, .. } in self.hosts.air.pass(from, self.id, now, bytes, to_everyone) {
                    let packet = Packet { address: source, datagram: bytes };
                    if at <= now {
                        batch.push(packet);
                    } else {
                        self.came_late += 1;
                        self.late.insert((at, self.came_late), (to_everyone, packet));
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes down the datagrams that have arrived, if datagrams are kept.
    fn note_arrivals(&self, packets: &[Packet]) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let mut history = self.log.write();
        let Some(traffic) = history.traffic() else { return };
        for Packet { address, datagram } in packets {
            if let Some(from) = self.hosts.ids.get(&address.ip()) {
                traffic.arrived(at, self.hosts.air.latency, *from, self.id, datagram);
            }
        }
    }

    /// Returns the time until the next late datagram arrives.
    fn wait(&self) -> Duration {
        let next = self.late.keys().next().map(|(at, _)| Duration::from_micros(at.saturating_sub(now())));
        next.unwrap_or(Duration::MAX)
    }
}

impl Sockets for SimulatedUdp {
    fn home(&self) -> SocketAddr {
        SocketAddr::new(self.hosts.addresses[&self.id], PORT)
    }

    async fn send(&mut self, batch: &mut VecDeque<Packet>) -> io::Result<()> {
        for Packet { address, datagram } in batch.drain(..) {
            let port = if address.ip().is_multicast() { PORT } else { UNICAST_PORT };
            self.unicasts.try_send_to(&datagram, SocketAddr::new(address.ip(), port))?;
        }
        Ok(())
    }

    async fn recv(&mut self, batch: &mut Vec<Packet>) -> io::Result<()> {
        let before = batch.len();
        loop {
            self.take(batch)?;
            if batch.len() > before {
                self.note_arrivals(&batch[before..]);
                return Ok(());
            }
            tokio::select! {
                biased;
                ready = self.multicasts.readable() => ready?,
                ready = self.unicasts.readable() => ready?,
                () = tokio::time::sleep(self.wait()), if !self.late.is_empty() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::History;

    fn id(node: u32) -> NodeId {
        NodeId::new(node).unwrap()
    }

    fn packet(address: impl Into<IpAddr>, text: &'static str) -> Packet {
        Packet {
            address: SocketAddr::new(address.into(), PORT),
            datagram: Bytes::from_static(text.as_bytes()),
        }
    }

    #[test]
    fn multicasts_come_first_and_are_not_looped_back() {
        const TICK: Duration = Duration::from_millis(1);
        let mut builder = turmoil::Builder::new();
        builder.min_message_latency(TICK).max_message_latency(TICK);
        let mut sim = builder.build();
        let [one, two] = [1, 2].map(|node| sim.lookup(format!("node{node}")));
        let addresses = [(id(1), one), (id(2), two)].into();
        let hosts = Hosts::new(addresses, Air::new(0, TICK));
        let heard = Rc::new(RefCell::new(Vec::new()));
        for node in 1..=2 {
            let (hosts, heard) = (hosts.clone(), Rc::clone(&heard));
            sim.client(format!("node{node}"), async move {
                let mut udp = SimulatedUdp::bind(id(node), hosts, Log::new(History::default())).await?;
                tokio::time::sleep(TICK).await;
                if node == 1 {
                    let mut batch = VecDeque::from([
                        packet(two, "token"),
                        packet(GROUP, "frame 1"),
                        packet(GROUP, "frame 2"),
                    ]);
                    udp.send(&mut batch).await?;
                    assert!(batch.is_empty());
                    return Ok(());
                }
                tokio::time::sleep(5 * TICK).await;
                let mut batch = Vec::new();
                udp.recv(&mut batch).await?;
                for Packet { address, datagram } in batch {
                    let text = String::from_utf8(datagram.to_vec())?;
                    heard.borrow_mut().push(format!("{node} from {}: {text}", address.ip() == one));
                }
                Ok(())
            });
        }
        sim.run().unwrap();
        assert_eq!(*heard.borrow(), ["2 from true: frame 1", "2 from true: frame 2", "2 from true: token"]);
    }
}
