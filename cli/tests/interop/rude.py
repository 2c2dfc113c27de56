#!/usr/bin/env python3
"""
A client of a node's sockets for corosync's programs that does not behave.

    rude.py connects N        connects and goes, N times
    rude.py strangers N       sends something else than a handshake, N times
    rude.py garbage N SEED    sends N requests of random bytes, to each service
    rude.py damage N SEED     overwrites parts of its memory at random, on N connections
    rude.py vanish            joins a group, begins a request, and goes
    rude.py silent SECONDS    joins a group and reads nothing
    rude.py strangers_wait N  makes N connections as another user, says nothing, and prints how many
                              the node has kept after a second
    rude.py flood             sends its own group more than it reads, and prints what its library
                              would make of it

It speaks libqb by itself, since libqb's own client would not do any of this.
"""

import contextlib
import mmap
import os
import random
import select
import socket
import struct
import sys
import time

SERVICES = ("cmap", "cfg", "cpg", "quorum", "votequorum")
MAX_MESSAGE = 1 << 20
BEING_WRITTEN, COMMITTED = 0xA110CED0, 0xA1A1A1A1


class Client:
    """A connection. Raises `ConnectionError` if the node has ended it, or does not let it in."""

    def __init__(self, service):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(b"\0" + service.encode().ljust(107, b"\0"))
        self.socket.sendall(struct.pack("<i4xi4xI4x", -1, 24, MAX_MESSAGE))
        answer = b""
        while len(answer) < 12328:
            part = self.socket.recv(12328 - len(answer))
            if not part:
                raise ConnectionError("no answer")
            answer += part
        error = struct.unpack_from("<i", answer, 16)[0]
        if error:
            raise ConnectionError(os.strerror(-error))
        paths = [answer[at : answer.index(b"\0", at)].decode() for at in (40, 4136, 8232)]
        self.header, self.data = (self.map(f"{paths[0]}-{part}") for part in ("header", "data"))
        self.words = len(self.data) // 4

    def map(self, path):
        with open(path, "r+b") as file:
            return mmap.mmap(file.fileno(), 0)

    def request(self, content, mark=COMMITTED):
        """Puts a request into the memory and announces it."""
        at = struct.unpack_from("<I", self.header, 0)[0]
        chunk = struct.pack("<II", len(content), mark) + content
        for n in range(0, len(chunk), 4):
            place = 4 * ((at + n // 4) % self.words)
            self.data[place : place + 4] = chunk[n : n + 4].ljust(4, b"\0")
        struct.pack_into("<I", self.header, 0, (at + 2 + (len(content) + 3) // 4) % self.words)
        # The semaphore is 0 now, since the node has read all earlier requests.
        struct.pack_into("<I", self.header, 8208, 1)
        self.socket.sendall(b"\1")

    def join(self, group=b"rude"):
        name = struct.pack("<I4x", len(group)) + group.ljust(128, b"\0")
        self.request(struct.pack("<i4xi4x", 0, 168) + name + struct.pack("<I4xI4x", os.getpid(), 0))

    def drain(self):
        """Waits until the node has read everything, or has ended the connection."""
        for _ in range(5000):
            if struct.unpack_from("<I", self.header, 8208)[0] == 0:
                return
            if select.select([self.socket], [], [], 0.001)[0] and not self.socket.recv(4096):
                raise ConnectionError("ended")

    def close(self):
        self.socket.close()


def connects(count):
    for n in range(int(count)):
        Client(SERVICES[n % len(SERVICES)]).close()


def strangers(count):
    for n in range(int(count)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
            stranger.settimeout(10)
            stranger.connect(b"\0" + SERVICES[n % len(SERVICES)].encode().ljust(107, b"\0"))
            with contextlib.suppress(ConnectionError):
                stranger.sendall(os.urandom(24 + n % 100))
                if stranger.recv(1):
                    raise SystemExit("a stranger was answered")


def garbage(count, seed):
    chance = random.Random(seed)
    for service in SERVICES:
        client = Client(service)
        for _ in range(int(count)):
            body = chance.randbytes(chance.choice([0, 4, 8, 100, 152, 264, 280, 1000]))
            stated = chance.choice([16 + len(body)] * 6 + [0, -1, 1 << 30])
            kind = chance.randrange(-3, 20)
            if (service, kind) == ("cfg", 3):
                continue  # That would be a shutdown, to which the node is bound.
            request = struct.pack("<i4xi4x", kind, stated) + body
            try:
                client.request(request)
                client.drain()
            except OSError:
                client = Client(service)
        client.close()


def damage(count, seed):
    chance = random.Random(seed)
    for n in range(int(count)):
        client = Client(SERVICES[n % len(SERVICES)])
        with contextlib.suppress(OSError):
            client.request(struct.pack("<i4xi4x", 4, 16))
            for _ in range(20):
                memory = chance.choice([client.header, client.data])
                at = 4 * chance.randrange(min(len(memory), 8252) // 4)
                struct.pack_into("<I", memory, at, chance.choice([0, 1, 7, 0x7FFFFFFF, 0xFFFFFFFF, COMMITTED]))
                client.socket.sendall(b"\1")
        client.close()


def vanish():
    client = Client("cpg")
    client.join()
    client.drain()
    client.request(struct.pack("<i4xi4x", 2, 40) + bytes(24), BEING_WRITTEN)
    os._exit(0)


def silent(seconds):
    client = Client("cpg")
    client.join()
    time.sleep(float(seconds))


def strangers_wait(count):
    os.setgid(65534)
    os.setuid(65534)
    sockets = []
    for n in range(int(count)):
        sockets.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sockets[-1].settimeout(10)
        sockets[-1].connect(b"\0" + SERVICES[n % len(SERVICES)].encode().ljust(107, b"\0"))
    time.sleep(1)
    gone = select.select(sockets, [], [], 0)[0]
    print(len(sockets) - len(gone))


def flood():
    """Sends until its library would refuse, then asks for its node, and then reads."""
    client = Client("cpg")
    client.join(b"flood")
    client.drain()
    head = struct.pack("<i4xi4x8xI4xI4x", 2, 40 + 100_000, 0, 100_000)
    for sent in range(1000):
        if struct.unpack_from("<I", client.header, 8240)[0] == 2:
            break
        client.request(head + bytes(100_000))
        client.drain()
    else:
        raise SystemExit("its multicasts were never refused")
    client.request(struct.pack("<i4xi4x", 4, 16))
    client.drain()
    print("refused after", sent)


if __name__ == "__main__":
    modes = {f.__name__: f for f in (connects, strangers, garbage, damage, vanish, silent, strangers_wait, flood)}
    modes[sys.argv[1]](*sys.argv[2:])
