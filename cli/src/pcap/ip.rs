//! UDP datagrams in IP packets, with fragments reassembled.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

const UDP: u8 = 17;
/// The number of fragmented datagrams that may be incomplete at a time. Beyond it, the oldest is
/// dropped.
const MAX_INCOMPLETE: usize = 64;
/// The most bytes that an IP packet can carry.
const MAX_LENGTH: usize = 65_535;

/// A UDP datagram.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) payload: Bytes,
    /// Whether the capture has only a part of it.
    pub(crate) cut: bool,
}

/// The content of an IP packet.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Datagram(Datagram),
    /// A fragment whose datagram is still incomplete.
    Fragment,
    /// Not UDP, or too short to tell.
    Other,
}

/// Fragmented packets with missing fragments, oldest first.
#[derive(Default)]
pub(crate) struct Fragments {
    incomplete: VecDeque<Incomplete>,
}

struct Incomplete {
    key: (IpAddr, IpAddr, u32),
    /// The fragments by offset.
    pieces: BTreeMap<usize, Vec<u8>>,
    /// The length of the whole, known once the last fragment is here.
    length: Option<usize>,
}

/// An IP packet without its headers.
struct Payload<'a> {
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    fragment: Option<Fragment>,
    bytes: &'a [u8],
}

struct Fragment {
    id: u32,
    offset: usize,
    more: bool,
}

impl Fragments {
    /// Finds the datagram in an IP packet, or the one that the packet completes.
    pub(crate) fn find(&mut self, packet: &[u8]) -> Found {
        let payload = match packet.first().map(|byte| byte >> 4) {
            Some(4) => ipv4(packet),
            Some(6) => ipv6(packet),
            _ => None,
        };
        let Some(payload) = payload.filter(|payload| payload.protocol == UDP) else { return Found::Other };
        let datagram = match &payload.fragment {
            None => udp(payload.from, payload.to, payload.bytes),
            Some(fragment) => match self.add(&payload, fragment) {
                Some(whole) => udp(payload.from, payload.to, &whole),
                None => return Found::Fragment,
            },
        };
        datagram.map_or(Found::Other, Found::Datagram)
    }

    /// Adds a fragment. Returns the whole once every piece is present.
    fn add(&mut self, payload: &Payload<'_>, fragment: &Fragment) -> Option<Vec<u8>> {
        let key = (payload.from, payload.to, fragment.id);
        let found = self.incomplete.iter().position(|incomplete| incomplete.key == key);
        let mut incomplete = found.and_then(|at| self.incomplete.remove(at)).unwrap_or(Incomplete {
            key,
            pieces: BTreeMap::new(),
            length: None,
        });
        if !fragment.more {
            incomplete.length = Some(fragment.offset + payload.bytes.len());
        }
        incomplete.pieces.insert(fragment.offset, payload.bytes.to_vec());
        if let Some(whole) = incomplete.whole() {
            return Some(whole);
        }
        if incomplete.pieces.values().map(Vec::len).sum::<usize>() <= MAX_LENGTH {
            self.incomplete.push_back(incomplete);
        }
        if self.incomplete.len() > MAX_INCOMPLETE {
            self.incomplete.pop_front();
        }
        None
    }
}

impl Incomplete {
    fn whole(&self) -> Option<Vec<u8>> {
        let length = self.length?;
        let mut whole = Vec::new();
        for (offset, piece) in &self.pieces {
            if *offset != whole.len() {
                return None;
            }
            whole.extend_from_slice(piece);
        }
        (whole.len() == length).then_some(whole)
    }
}

fn ipv4(packet: &[u8]) -> Option<Payload<'_>> {
    let (header, _) = packet.split_first_chunk::<20>()?;
    let [first, _, l0, l1, i0, i1, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let header_length = usize::from(first & 15) * 4;
    // The length is 0 in a packet that the network card was to segment.
    let length = match usize::from(u16::from_be_bytes([l0, l1])) {
        0 => packet.len(),
        length => length.min(packet.len()),
    };
    let flags = u16::from_be_bytes([f0, f1]);
    let more = flags & 0x2000 != 0;
    let offset = usize::from(flags & 0x1fff) * 8;
    let fragment =
        (more || offset != 0).then(|| Fragment { id: u32::from(u16::from_be_bytes([i0, i1])), offset, more });
    Some(Payload {
        from: Ipv4Addr::new(s0, s1, s2, s3).into(),
        to: Ipv4Addr::new(d0, d1, d2, d3).into(),
        protocol,
        fragment,
        bytes: packet.get(header_length..length)?,
    })
}

fn ipv6(packet: &[u8]) -> Option<Payload<'_>> {
    const OPTIONS: [u8; 3] = [0, 43, 60];
    const FRAGMENT: u8 = 44;
    let (header, rest) = packet.split_first_chunk::<40>()?;
    let [_, _, _, _, l0, l1, mut protocol, _, addresses @ ..] = *header;
    let (from, to) = addresses.split_first_chunk::<16>()?;
    let length = match usize::from(u16::from_be_bytes([l0, l1])) {
        0 => rest.len(),
        length => length.min(rest.len()),
    };
    let mut bytes = rest.get(..length)?;
    let mut fragment = None;
    while OPTIONS.contains(&protocol) || protocol == FRAGMENT {
        let [next, length, o0, o1, i0, i1, i2, i3] = *bytes.first_chunk()?;
        if protocol == FRAGMENT {
            let offset = u16::from_be_bytes([o0, o1]);
            fragment = Some(Fragment {
                id: u32::from_be_bytes([i0, i1, i2, i3]),
                offset: usize::from(offset & 0xfff8),
                more: offset & 1 != 0,
            });
            bytes = bytes.get(8..)?;
        } else {
            bytes = bytes.get((usize::from(length) + 1) * 8..)?;
        }
        protocol = next;
        if fragment.as_ref().is_some_and(|fragment| fragment.offset != 0) {
            break;
        }
    }
    Some(Payload {
        from: Ipv6Addr::from(*from).into(),
        to: Ipv6Addr::from(*to.first_chunk::<16>()?).into(),
        protocol,
        fragment,
        bytes,
    })
}

fn udp(from: IpAddr, to: IpAddr, bytes: &[u8]) -> Option<Datagram> {
    let ([s0, s1, d0, d1, l0, l1, _, _], rest) = bytes.split_first_chunk()?;
    let length = match usize::from(u16::from_be_bytes([*l0, *l1])) {
        0 => rest.len(),
        length => length.checked_sub(8)?,
    };
    let cut = length > rest.len();
    Some(Datagram {
        from: SocketAddr::new(from, u16::from_be_bytes([*s0, *s1])),
        to: SocketAddr::new(to, u16::from_be_bytes([*d0, *d1])),
        payload: Bytes::copy_from_slice(rest.get(..length).unwrap_or(rest)),
        cut,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an IPv4 packet with a UDP datagram's bytes from `offset` on.
    fn packet(id: u8, offset: u16, more: bool, bytes: &[u8]) -> Vec<u8> {
        let length = 20 + bytes.len() as u16;
        let flags = (offset / 8) | if more { 0x2000 } else { 0 };
        let [l0, l1] = length.to_be_bytes();
        let [f0, f1] = flags.to_be_bytes();
        let mut packet = vec![0x45, 0, l0, l1, 0, id, f0, f1, 1, UDP, 0, 0, 10, 0, 0, 1, 239, 0, 0, 1];
        packet.extend_from_slice(bytes);
        packet
    }

    /// Returns a UDP datagram of `length` bytes.
    fn datagram(length: u16) -> Vec<u8> {
        let [l0, l1] = (length + 8).to_be_bytes();
        let mut bytes = vec![0x15, 0x1c, 0x15, 0x1d, l0, l1, 0, 0];
        bytes.extend((0..length).map(|n| n as u8));
        bytes
    }

    #[test]
    fn a_datagram_is_found_in_a_packet() {
        let Found::Datagram(found) = Fragments::default().find(&packet(1, 0, false, &datagram(30))) else {
            panic!("a datagram");
        };
        assert_eq!((found.from.to_string().as_str(), found.to.port()), ("10.0.0.1:5404", 5405));
        assert_eq!((found.payload.len(), found.cut), (30, false));
    }

    #[test]
    fn fragments_in_any_order_make_a_datagram() {
        let whole = datagram(100);
        let mut fragments = Fragments::default();
        assert_eq!(fragments.find(&packet(1, 48, false, &whole[48..])), Found::Fragment);
        assert_eq!(fragments.find(&packet(2, 0, true, &whole[..16])), Found::Fragment);
        assert_eq!(fragments.find(&packet(1, 16, true, &whole[16..48])), Found::Fragment);
        let Found::Datagram(found) = fragments.find(&packet(1, 0, true, &whole[..16])) else {
            panic!("a datagram");
        };
        assert_eq!(found.payload, whole[8..]);
        assert_eq!(fragments.incomplete.len(), 1);
    }

    #[test]
    fn fragments_that_never_complete_are_given_up() {
        let mut fragments = Fragments::default();
        for id in 0..=u8::MAX {
            assert_eq!(fragments.find(&packet(id, 0, true, &[0; 64])), Found::Fragment);
        }
        assert_eq!(fragments.incomplete.len(), MAX_INCOMPLETE);
        for n in 0..3000 {
            fragments.find(&packet(0, 8 * n, true, &[0; 64]));
        }
        let held: usize = fragments.incomplete.iter().flat_map(|i| i.pieces.values()).map(Vec::len).sum();
        assert!(held <= MAX_LENGTH + MAX_INCOMPLETE * 64);
    }

    #[test]
    fn a_partly_captured_datagram_is_marked_as_cut() {
        let whole = packet(1, 0, false, &datagram(30));
        let Found::Datagram(found) = Fragments::default().find(&whole[..40]) else { panic!("a datagram") };
        assert_eq!((found.payload.len(), found.cut), (12, true));
        for length in 0..28 {
            assert_eq!(Fragments::default().find(&whole[..length]), Found::Other);
        }
    }

    #[test]
    fn ipv6_datagrams_are_found_behind_their_options() {
        let whole = datagram(30);
        let mut packet = vec![0x60, 0, 0, 0, 0, 54, 0, 1];
        packet.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        packet.extend_from_slice(&"ff15::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend_from_slice(&[44, 0, 0, 0, 0, 0, 0, 0]);
        let end = packet.len();
        packet.extend_from_slice(&[UDP, 0, 0, 1, 0, 0, 0, 7]);
        packet.extend_from_slice(&whole[..16]);
        packet[5] = 32;
        let mut fragments = Fragments::default();
        assert_eq!(fragments.find(&packet), Found::Fragment);
        packet.truncate(end);
        packet.extend_from_slice(&[UDP, 0, 0, 16, 0, 0, 0, 7]);
        packet.extend_from_slice(&whole[16..]);
        packet[5] = 16 + 22;
        let Found::Datagram(found) = fragments.find(&packet) else { panic!("a datagram") };
        assert_eq!(found.to.to_string(), "[ff15::1]:5405");
        assert_eq!(found.payload, whole[8..]);
    }
}
