//! Reads the datagrams of the captures in `tests/captures`: little-endian pcap, Ethernet, IPv4, no
//! fragments.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bytes::Bytes;
use quorate_membership::wire::Multicast;
use quorate_membership::wire::packing::Packet;
use quorate_membership::{Destination, NodeId, Time};

/// A UDP datagram that was sent between the nodes. The last byte of a node's address is its id.
#[derive(Clone)]
pub(crate) struct Datagram {
    /// The time by the clock of the machine that recorded it.
    pub(crate) at: Time,
    pub(crate) from: NodeId,
    pub(crate) to: Destination,
    pub(crate) payload: Bytes,
}

/// Returns the captures by name, in order, each with its UDP payloads.
pub(crate) fn captures() -> Vec<(String, Vec<Bytes>)> {
    let mut paths: Vec<_> = fs::read_dir(directory())
        .expect("the captures are part of the package")
        .map(|entry| entry.expect("readable directory").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            let payloads = capture(&name).into_iter().map(|datagram| datagram.payload);
            (name, payloads.collect())
        })
        .collect()
}

/// Returns the datagrams of the capture with this name.
pub(crate) fn capture(name: &str) -> Vec<Datagram> {
    datagrams(&fs::read(directory().join(name).with_extension("pcap")).expect("readable file"))
}

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures"))
}

fn datagrams(file: &[u8]) -> Vec<Datagram> {
    const ETHERNET: usize = 14;
    let le32 = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("4 bytes"));
    assert_eq!((le32(0), le32(20)), (0xa1b2_c3d4, 1), "a pcap file of Ethernet frames");
    let mut datagrams = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let time = Time::from_micros(u64::from(le32(at)) * 1_000_000 + u64::from(le32(at + 4)));
        let length = le32(at + 8) as usize;
        assert_eq!(length, le32(at + 12) as usize, "frames are captured whole");
        let frame = &file[at + 16..at + 16 + length];
        at += 16 + length;
        if frame[12..14] != [8, 0] || frame[ETHERNET + 9] != 17 {
            continue;
        }
        let ip = &frame[ETHERNET..];
        assert_eq!(ip[6] & 0x3f, 0, "no fragments");
        let node = |at: usize| NodeId::new(ip[at].into()).expect("no node's address ends in 0");
        let udp = &ip[usize::from(ip[0] & 15) * 4..];
        let end = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
        datagrams.push(Datagram {
            at: time,
            from: node(15),
            to: if ip[16] >= 224 { Destination::Everyone } else { Destination::Member(node(19)) },
            payload: Bytes::copy_from_slice(&udp[8..end]),
        });
    }
    datagrams
}

/// Reassembles each sender's messages. Each frame counts once.
#[derive(Default)]
pub(crate) struct Assembly {
    seen: BTreeSet<(u64, NodeId, u32)>,
    pieces: BTreeMap<NodeId, (u8, Vec<u8>)>,
}

impl Assembly {
    /// Returns the messages that end in this frame.
    pub(crate) fn take(&mut self, frame: &Multicast) -> Vec<Bytes> {
        let packet = Packet::decode(&frame.payload).unwrap();
        assert_eq!(packet.encode(), frame.payload);
        if !self.seen.insert((frame.ring.seq, frame.ring.representative, frame.seq.get())) {
            return Vec::new();
        }
        let (fragment, begun) = self.pieces.entry(frame.from).or_default();
        assert_eq!(packet.continuation, *fragment, "{frame:?}");
        *fragment = packet.fragmented;
        let mut messages = Vec::new();
        for (i, piece) in packet.pieces.iter().enumerate() {
            begun.extend_from_slice(piece);
            if i + 1 < packet.pieces.len() || packet.fragmented == 0 {
                messages.push(std::mem::take(begun).into());
            }
        }
        messages
    }

    /// Returns `true` if all messages that have begun have ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.values().all(|(_, piece)| piece.is_empty())
    }
}
