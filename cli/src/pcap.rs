//! Captures: the classic pcap format, and the UDP datagrams within.
//!
//! The file header, 24 bytes, in the byte order of the machine that wrote it:
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |    4 | magic: 0xa1b2c3d4 with microseconds, 0xa1b23c4d with nanoseconds |
//! |  20 |    2 | link type |
//!
//! Each packet:
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |    4 | seconds since 1970 |
//! |   4 |    4 | micro- or nanoseconds |
//! |   8 |    4 | bytes captured |
//! |  12 |    4 | bytes of the whole packet |
//! |  16 |   .. | the bytes captured |

mod ip;

use std::io::{self, Read};

pub(crate) use ip::{Datagram, Found, Fragments};

/// The longest packet that a capture program writes (libpcap's `MAXIMUM_SNAPLEN`).
const MAX_PACKET: u32 = 262_144;

/// A capture being read, packet by packet.
pub(crate) struct Capture<R> {
    input: R,
    big_endian: bool,
    nanoseconds: bool,
    link: Link,
}

/// The link layer around an IP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Ethernet,
    /// Linux's "any" interface.
    Cooked,
    Cooked2,
    /// A protocol family, in 4 bytes.
    Loopback,
    /// No link layer.
    Raw,
}

/// A captured packet.
pub(crate) struct Packet {
    /// The time of the capture, in nanoseconds since 1970.
    pub(crate) time: i128,
    bytes: Vec<u8>,
}

/// The reason why a capture cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error("this is a pcapng file; convert it with `tshark -F pcap -r FILE -w FILE.pcap`")]
    PcapNg,
    #[error("this is not a pcap file")]
    NotPcap,
    #[error("link type {0} is not supported; capture on Ethernet, Linux cooked, loopback or raw IP")]
    Link(u32),
    #[error("the capture ends within a packet")]
    Cut,
    #[error("the capture is damaged: a packet has a length of {0} bytes")]
    Damaged(u32),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<R: Read> Capture<R> {
    /// Reads the file header.
    pub(crate) fn new(mut input: R) -> Result<Self, CaptureError> {
        let mut magic = [0; 4];
        if fill(&mut input, &mut magic)? < magic.len() {
            return Err(CaptureError::NotPcap);
        }
        let (big_endian, nanoseconds) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (false, false),
            [0x4d, 0x3c, 0xb2, 0xa1] => (false, true),
            [0xa1, 0xb2, 0xc3, 0xd4] => (true, false),
            [0xa1, 0xb2, 0x3c, 0x4d] => (true, true),
            [0x0a, 0x0d, 0x0d, 0x0a] => return Err(CaptureError::PcapNg),
            _ => return Err(CaptureError::NotPcap),
        };
        let mut rest = [0; 20];
        if fill(&mut input, &mut rest)? < rest.len() {
            return Err(CaptureError::Cut);
        }
        let [.., a, b, c, d] = rest;
        // The upper half contains flags.
        let link = match number(big_endian, [a, b, c, d]) & 0xffff {
            0 | 108 => Link::Loopback,
            1 => Link::Ethernet,
            12 | 14 | 101 | 228 | 229 => Link::Raw,
            113 => Link::Cooked,
            276 => Link::Cooked2,
            other => return Err(CaptureError::Link(other)),
        };
        Ok(Self { input, big_endian, nanoseconds, link })
    }

    /// Returns the next packet; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Packet>, CaptureError> {
        let mut header = [0; 16];
        match fill(&mut self.input, &mut header)? {
            0 => return Ok(None),
            16 => {}
            _ => return Err(CaptureError::Cut),
        }
        let [s0, s1, s2, s3, f0, f1, f2, f3, l0, l1, l2, l3, ..] = header;
        let seconds = number(self.big_endian, [s0, s1, s2, s3]);
        let fraction = number(self.big_endian, [f0, f1, f2, f3]);
        let length = number(self.big_endian, [l0, l1, l2, l3]);
        if length > MAX_PACKET {
            return Err(CaptureError::Damaged(length));
        }
        let unit: i128 = if self.nanoseconds { 1 } else { 1000 };
        let time = i128::from(seconds) * 1_000_000_000 + i128::from(fraction) * unit;
        let mut bytes = vec![0; length as usize];
        if fill(&mut self.input, &mut bytes)? < bytes.len() {
            return Err(CaptureError::Cut);
        }
        Ok(Some(Packet { time, bytes }))
    }

    /// Returns the IP packet within; `None` if the packet has another protocol.
    pub(crate) fn ip<'a>(&self, packet: &'a Packet) -> Option<&'a [u8]> {
        const IP: [u16; 2] = [0x0800, 0x86dd];
        const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
        let bytes = packet.bytes.as_slice();
        let (mut protocol, mut rest) = match self.link {
            Link::Raw => return Some(bytes),
            Link::Loopback => return bytes.get(4..),
            Link::Ethernet => ethertype(bytes.get(12..)?)?,
            Link::Cooked => ethertype(bytes.get(14..)?)?,
            Link::Cooked2 => (ethertype(bytes)?.0, bytes.get(20..)?),
        };
        while VLAN.contains(&protocol) {
            (protocol, rest) = ethertype(rest.get(2..)?)?;
        }
        IP.contains(&protocol).then_some(rest)
    }
}

fn ethertype(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (ethertype, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*ethertype), rest))
}

fn number(big_endian: bool, bytes: [u8; 4]) -> u32 {
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

/// Reads until the buffer is full or the input ends. Returns the number of bytes read.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
