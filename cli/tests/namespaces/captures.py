"""Captures, for a decoder that is not ours: the Python script that SECOND_DECODER in the environment names, if any."""

import os
import struct
import subprocess
import sys

# Of Ethernet, of IPv4 without options, of UDP; and the cluster's digest (`membership/src/wire/cluster.rs`).
ETHERNET, IP, UDP, DIGEST = 14, 20, 8, 12
# The types of what carries the digest: merge detection; JOIN and LEAVE.
ANNOUNCING = (2, 3)


def second_decoding(path, *flags):
    """What became of the second decoder, if there is one."""
    if decoder := os.environ.get("SECOND_DECODER"):
        as_corosync = path.with_suffix(".corosync.pcap")
        as_corosync.write_bytes(without_digests(path.read_bytes()))
        command = [sys.executable, decoder, *flags, as_corosync]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)


def without_digests(pcap):
    """
    A capture as if its clusters had not announced their digests.

    corosync does not read what stands behind its own fields; a decoder that checks lengths refuses it.
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
