"""Captures for an independent decoder: the Python script named by SECOND_DECODER, if set."""

import os
import struct
import subprocess
import sys

# The lengths of the headers of Ethernet, IPv4 without options and UDP, and of the cluster's digest
# (`membership/src/wire/cluster.rs`).
ETHERNET, IP, UDP, DIGEST = 14, 20, 8, 12
# The message types that carry the digest: merge detect, and JOIN and LEAVE.
ANNOUNCING = (2, 3)


def second_decoding(path, *flags):
    """Runs the second decoder, if there is one. Returns the ended process."""
    if decoder := os.environ.get("SECOND_DECODER"):
        as_corosync = path.with_suffix(".corosync.pcap")
        as_corosync.write_bytes(without_digests(path.read_bytes()))
        command = [sys.executable, decoder, *flags, as_corosync]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)


def without_digests(pcap):
    """
    Returns a capture without the digests that clusters announce.

    corosync does not read bytes after its own fields. A decoder that checks lengths rejects them.
    """
    out, at = bytearray(pcap[:24]), 24
    while at < len(pcap):
        seconds, fraction, captured, length = struct.unpack_from("<IIII", pcap, at)
        frame = bytearray(pcap[at + 16 : at + 16 + captured])
        at += 16 + captured
        (total,) = struct.unpack_from(">H", frame, ETHERNET + 2)
        digest = slice(ETHERNET + total - DIGEST, ETHERNET + total)
        if frame[ETHERNET + IP + UDP + 3] in ANNOUNCING and frame[digest].startswith(b"QRC1"):
            del frame[digest]
            struct.pack_into(">H", frame, ETHERNET + 2, total - DIGEST)
            struct.pack_into(">H", frame, ETHERNET + IP + 4, total - DIGEST - IP)
        out += struct.pack("<IIII", seconds, fraction, len(frame), length) + frame
    return out
