"""Captures for an independent decoder: the Python script named by SECOND_DECODER, if set."""

import os
import struct
import subprocess
import sys

# The lengths of the headers of Ethernet, IPv4 without options and UDP.
ETHERNET, IP, UDP = 14, 20, 8
# The message types with an announcement: merge detect, and JOIN and LEAVE.
ANNOUNCING = (2, 3)
# The beginnings of its parts (`membership/src/wire/announcement.rs`).
PARTS = (b"QRC1", b"QRL1")


def second_decoding(path, *flags):
    """Runs the second decoder, if there is one. Returns the ended process."""
    if decoder := os.environ.get("SECOND_DECODER"):
        as_corosync = path.with_suffix(".corosync.pcap")
        as_corosync.write_bytes(without_announcements(path.read_bytes()))
        command = [sys.executable, decoder, *flags, as_corosync]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)


def without_announcements(pcap):
    """
    Returns a capture without the cluster and the node list that nodes announce.

    corosync does not read bytes after its own fields. A decoder that checks lengths rejects them.
    """
    out, at = bytearray(pcap[:24]), 24
    while at < len(pcap):
        seconds, fraction, captured, length = struct.unpack_from("<IIII", pcap, at)
        frame = bytearray(pcap[at + 16 : at + 16 + captured])
        at += 16 + captured
        (total,) = struct.unpack_from(">H", frame, ETHERNET + 2)
        found = [frame.find(part) for part in PARTS if part in frame]
        if frame[ETHERNET + IP + UDP + 3] in ANNOUNCING and found:
            announced = slice(min(found), ETHERNET + total)
            total = announced.start - ETHERNET
            del frame[announced]
            struct.pack_into(">H", frame, ETHERNET + 2, total)
            struct.pack_into(">H", frame, ETHERNET + IP + 4, total - IP)
        out += struct.pack("<IIII", seconds, fraction, len(frame), length) + frame
    return out
