//! The datagrams of the captures in `tests/captures`: little-endian pcap, Ethernet, IPv4, no fragments.

use std::fs;
use std::path::Path;

use bytes::Bytes;

/// The captures by name, in order, each with its UDP payloads.
pub(crate) fn captures() -> Vec<(String, Vec<Bytes>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let mut paths: Vec<_> = fs::read_dir(directory)
        .expect("the captures are part of the package")
        .map(|entry| entry.expect("readable directory").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            (name, datagrams(&fs::read(path).expect("readable file")))
        })
        .collect()
}

fn datagrams(file: &[u8]) -> Vec<Bytes> {
    const ETHERNET: usize = 14;
    let le32 = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("4 bytes")) as usize;
    assert_eq!((le32(0), le32(20)), (0xa1b2_c3d4, 1), "a pcap file of Ethernet frames");
    let mut datagrams = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let length = le32(at + 8);
        assert_eq!(length, le32(at + 12), "frames are captured whole");
        let frame = &file[at + 16..at + 16 + length];
        at += 16 + length;
        if frame[12..14] != [8, 0] || frame[ETHERNET + 9] != 17 {
            continue;
        }
        let ip = &frame[ETHERNET..];
        assert_eq!(ip[6] & 0x3f, 0, "no fragments");
        let udp = &ip[usize::from(ip[0] & 15) * 4..];
        let end = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
        datagrams.push(Bytes::copy_from_slice(&udp[8..end]));
    }
    datagrams
}
