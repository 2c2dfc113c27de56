//! A transport over turmoil's sockets.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use quorate_membership::transport::Transport;
use quorate_membership::{Destination, NodeId, Origin, Transmit};
use turmoil::net::UdpSocket;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 192, 0, 1);
/// A group is joined at the port of the joining socket, and two sockets cannot share a port: so tokens have another.
const GROUP_PORT: u16 = 5405;
const HOME_PORT: u16 = 5404;
/// Longer than any UDP datagram.
const LONGEST: usize = 1 << 16;

/// Who lives where: one node a host, one address a host.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    addresses: BTreeMap<NodeId, IpAddr>,
    ids: BTreeMap<IpAddr, NodeId>,
}

impl Hosts {
    pub(super) fn new(addresses: BTreeMap<NodeId, IpAddr>) -> Self {
        let ids = addresses.iter().map(|(&id, &address)| (address, id)).collect();
        Self { addresses, ids }
    }
}

/// Multicast and unicast on turmoil's network, of the host on which it is bound.
#[derive(Debug)]
pub(super) struct SimulatedUdp {
    multicasts: UdpSocket,
    unicasts: UdpSocket,
    hosts: Hosts,
    buffer: Box<[u8]>,
}

impl SimulatedUdp {
    pub(super) async fn bind(hosts: Hosts) -> io::Result<Self> {
        let multicasts = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, GROUP_PORT)).await?;
        multicasts.join_multicast_v4(GROUP, Ipv4Addr::UNSPECIFIED)?;
        // It is the receiving port's option that counts.
        multicasts.set_multicast_loop_v4(false)?;
        let unicasts = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, HOME_PORT)).await?;
        Ok(Self { multicasts, unicasts, hosts, buffer: vec![0; LONGEST].into_boxed_slice() })
    }

    /// All there is: the network delivers at the beginning of a tick, so what was sent before a token is here if the
    /// token is.
    fn take(&mut self, batch: &mut Vec<(Origin, Bytes)>) -> io::Result<()> {
        for socket in [&self.multicasts, &self.unicasts] {
            loop {
                match socket.try_recv_from(&mut self.buffer) {
                    Ok((length, source)) => {
                        let peer = self.hosts.ids.get(&source.ip()).copied();
                        batch.push((Origin { peer }, Bytes::copy_from_slice(&self.buffer[..length])));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

impl Transport for SimulatedUdp {
    async fn send(&mut self, batch: &mut VecDeque<Transmit>) -> io::Result<()> {
        for Transmit { to, datagram } in batch.drain(..) {
            let address = match to {
                Destination::Everyone => SocketAddr::from((GROUP, GROUP_PORT)),
                Destination::Member(id) => match self.hosts.addresses.get(&id) {
                    Some(&address) => SocketAddr::new(address, HOME_PORT),
                    None => continue,
                },
            };
            self.unicasts.try_send_to(&datagram, address)?;
        }
        Ok(())
    }

    async fn recv(&mut self, batch: &mut Vec<(Origin, Bytes)>) -> io::Result<()> {
        let before = batch.len();
        loop {
            self.take(batch)?;
            if batch.len() > before {
                return Ok(());
            }
            tokio::select! {
                biased;
                ready = self.multicasts.readable() => ready?,
                ready = self.unicasts.readable() => ready?,
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

    fn id(node: u32) -> NodeId {
        NodeId::new(node).unwrap()
    }

    fn transmit(to: Destination, text: &'static str) -> Transmit {
        Transmit { to, datagram: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn multicasts_come_first_and_own_ones_not_at_all_but_own_unicasts_do() {
        const TICK: Duration = Duration::from_millis(1);
        let mut builder = turmoil::Builder::new();
        builder.min_message_latency(TICK).max_message_latency(TICK);
        let mut sim = builder.build();
        let addresses = (1..=2).map(|node| (id(node), sim.lookup(format!("node{node}")))).collect();
        let hosts = Hosts::new(addresses);
        let heard = Rc::new(RefCell::new(Vec::new()));
        for node in 1..=2 {
            let (hosts, heard) = (hosts.clone(), Rc::clone(&heard));
            sim.client(format!("node{node}"), async move {
                let mut udp = SimulatedUdp::bind(hosts).await?;
                tokio::time::sleep(TICK).await;
                if node == 1 {
                    let mut batch = VecDeque::from([
                        transmit(Destination::Member(id(2)), "token"),
                        transmit(Destination::Member(id(1)), "to myself"),
                        transmit(Destination::Member(id(9)), "to nobody"),
                        transmit(Destination::Everyone, "frame 1"),
                        transmit(Destination::Everyone, "frame 2"),
                    ]);
                    udp.send(&mut batch).await?;
                    assert!(batch.is_empty());
                }
                tokio::time::sleep(5 * TICK).await;
                let mut batch = Vec::new();
                udp.recv(&mut batch).await?;
                for (origin, datagram) in batch {
                    let text = String::from_utf8(datagram.to_vec())?;
                    heard.borrow_mut().push(format!("{node} from {:?}: {text}", origin.peer));
                }
                Ok(())
            });
        }
        sim.run().unwrap();
        assert_eq!(
            *heard.borrow(),
            [
                "1 from Some(1): to myself",
                "2 from Some(1): frame 1",
                "2 from Some(1): frame 2",
                "2 from Some(1): token",
            ]
        );
    }
}
