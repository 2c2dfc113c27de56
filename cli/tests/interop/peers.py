"""Clients of both kinds of nodes in one group: what they send, and what each of them sees."""

import base64
import collections
import contextlib
import json
import random
import struct
import subprocess
import threading
import zlib

from lab import Failed

# The names of libcpg's reasons.
REASONS = {"1": "join", "2": "leave", "3": "nodedown", "4": "nodeup", "5": "procdown"}


class Peer:
    """A client of a node, in a group. It identifies messages by sender, length and CRC."""

    def __init__(self, lab, host, group):
        self.lab, self.host = lab, host
        self.group = group
        self.me = None
        self.sent, self.seen = [], []
        # `firsts` has the first message of each process after each ring change, `heard` the
        # processes whose messages came since the last ring change.
        self.firsts, self.heard = set(), set()
        # The group's members, and its changes: which processes left and joined, why, and before
        # which message.
        self.members = set()
        self.changes = []
        self.returned = 0
        self.process = self.start()
        self.reader = threading.Thread(target=self.read)
        lab.readers.append(self.reader)
        self.reader.start()

    def __str__(self):
        return f"the client of {self.lab.nodes[self.host]}"

    def read(self):
        for line in self.process.stdout:
            # A killed client may leave an incomplete line.
            if line.endswith(b"\n"):
                with self.lab.news:
                    self.handle(line)
                    self.lab.news.notify_all()
        with self.lab.news:
            self.lab.news.notify_all()

    def see(self, node, pid, length, crc):
        self.seen.append((node, pid, length, crc))
        self.returned += (node, pid) == self.me
        if (node, pid) not in self.heard:
            self.heard.add((node, pid))
            self.firsts.add(self.seen[-1])

    def see_ring(self):
        self.heard.clear()

    def see_change(self, members, left, joined):
        self.members = set(members)
        self.changes.append((left, joined, len(self.seen)))

    def send(self, payload):
        self.sent.append((len(payload), zlib.crc32(payload)))
        self.process.stdin.write(self.framed(payload))

    def flush(self):
        self.process.stdin.flush()

    def together(self, other):
        """Returns what it saw, cut where it learned that the other's node is gone."""
        gone = [at for left, _, at in self.changes if (*other.me, "nodedown") in left]
        cuts = [0, *gone, len(self.seen)]
        return [self.seen[start:end] for start, end in zip(cuts, cuts[1:])]

    def finish(self):
        """Ends the input. The client succeeds if everything that it sent was delivered to it."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            code = self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self} has sent {len(self.sent)}, and saw {self.returned} of them again") from None
        self.reader.join()
        if code != 0:
            raise Failed(f"{self} ended with {code}: {self.process.stderr.read().decode().strip()}")
        mine = [message[2:] for message in self.seen if message[:2] == self.me]
        if mine != self.sent:
            raise Failed(f"{self} sent {len(self.sent)} messages, and saw {len(mine)} of its own, not the same")


PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


class DaemonsDiffer(Failed):
    """The clients of two real daemons saw different messages."""


class CpgPeer(Peer):
    """A C program that uses libcpg."""

    def is_real(self):
        return self.lab.kinds[self.host] == "R"

    def start(self):
        return self.lab.start(self.lab.nodes[self.host].on(self.lab.cpg, self.group), **PIPES)

    def framed(self, payload):
        return struct.pack("<I", len(payload)) + payload

    def handle(self, line):
        kind, *rest = line.decode().split()
        if kind == "deliver":
            node, pid, length, crc = rest
            self.see(int(node), int(pid), int(length), int(crc, 16))
        elif kind == "ring":
            self.see_ring()
        elif kind == "group":
            parts = {"-": [], "+": []}
            for part in rest:
                if part[0] in parts:
                    node, pid, reason = part[1:].split(":")
                    parts[part[0]].append((int(node), int(pid), REASONS[reason]))
            members = [tuple(map(int, part.split(":"))) for part in rest if part[0] not in parts]
            self.see_change(members, parts["-"], parts["+"])
        elif kind == "ready":
            self.me = tuple(map(int, rest))


class CatPeer(Peer):
    """A `quorate cat`, on a Quorate node."""

    def start(self):
        process = self.lab.nodes[self.host].cat(self.group, **PIPES)
        self.me = (self.host, process.pid)
        return process

    def framed(self, payload):
        return payload + b"\n"

    def handle(self, line):
        event = json.loads(line)
        if event["event"] == "deliver":
            text = event.get("payload")
            payload = base64.b64decode(event["payload_base64"]) if text is None else text.encode()
            self.see(event["from"], event["pid"], len(payload), zlib.crc32(payload))
        elif event["event"] == "regular":
            self.see_ring()
        elif event["event"] == "group":
            process = lambda member: (member["node"], member["pid"])
            why = lambda members: [(*process(member), event.get("reason")) for member in members]
            self.see_change(map(process, event["members"]), why(event["left"]), why(event["joined"]))


def peer(lab, host, group="load"):
    return (CpgPeer if lab.kinds[host] in "RC" else CatPeer)(lab, host, group)


def gather(lab, peers):
    """Waits until all of these see each other in the group, and no other process."""

    def together():
        everybody = {peer.me for peer in peers}
        return None not in everybody and all(peer.members == everybody for peer in peers)

    def seen():
        return "; ".join(f"{peer} {peer.me} sees {sorted(peer.members)}" for peer in peers)

    lab.wait(together, lambda: f"the clients do not see each other in the group: {seen()}")


def exchange(lab, lengths, patience):
    """Sends messages of these lengths from a client on each node, all at once.

    Returns how many all of them have seen.
    """
    peers = [peer(lab, host) for host in lab.hosts]
    gather(lab, peers)
    shares = [lengths[i :: len(peers)] for i in range(len(peers))]
    senders = [threading.Thread(target=send_all, args=pair) for pair in zip(peers, shares)]
    for sender in senders:
        sender.start()
    lab.wait(
        lambda: all(len(peer.seen) >= len(lengths) for peer in peers),
        lambda: f"not all messages came: {progress(peers)}",
        patience,
    )
    for sender in senders:
        sender.join()
    for peer_ in peers:
        peer_.finish()
    for peer_ in peers:
        if peer_.seen != peers[0].seen:
            raise Failed(f"{peer_} and {peers[0]} {difference(peer_.seen, peers[0].seen)}")
    return len(lengths)


def progress(peers):
    return "; ".join(f"{peer_} has sent {len(peer_.sent)} and seen {len(peer_.seen)}" for peer_ in peers)


def send_all(peer, lengths):
    chance = random.Random(peer.host)
    letters = bytes(chance.choices(range(0x20, 0x7F), k=2 << 20))
    with contextlib.suppress(BrokenPipeError, ValueError):
        for length in lengths:
            start = chance.randrange(1 << 20)
            peer.send(letters[start : start + length])
        peer.flush()


# Longer messages go in several frames.
FRAME = 1300


class Load:
    """Clients that send all the time while hosts come and go.

    A message contains its sender and its number.
    """

    # The messages in flight of each client. This lets the ring set the pace.
    UNDER_WAY = 20

    def __init__(self, lab):
        self.lab = lab
        self.running = {}
        self.peers = []
        # The clients whose hosts were killed.
        self.lost = []

    def add(self, host):
        """Starts a client on a host."""
        peer_ = peer(self.lab, host)
        self.lab.wait(
            lambda: peer_.me in peer_.members or peer_.process.poll() is not None,
            lambda: f"{peer_} is not in the group",
        )
        stop = threading.Event()
        thread = threading.Thread(target=self.pump, args=[peer_, stop])
        self.running[host] = (peer_, stop, thread)
        self.peers.append(peer_)
        thread.start()
        return peer_

    def pump(self, peer_, stop):
        chance = random.Random(f"{peer_.me}")
        letters = bytes(chance.choices(range(0x20, 0x7F), k=64 << 10))
        lab = self.lab
        while not stop.is_set() and peer_.process.poll() is None:
            with lab.news:
                free = lab.news.wait_for(lambda: len(peer_.sent) - peer_.returned < self.UNDER_WAY, timeout=0.1)
            if not free:
                continue
            size = chance.choice([0, 40, 400, 1400, 1500, 5000, 20_000])
            payload = f"{peer_.me}/{len(peer_.sent)} ".encode() + letters[:size]
            try:
                peer_.send(payload)
                peer_.flush()
            except (BrokenPipeError, ValueError):
                return

    def flows(self, more=20):
        """Waits until every client has seen `more` new messages of every client."""
        peers = [peer_ for peer_, _, _ in self.running.values()]
        before = {peer_: collections.Counter(message[:2] for message in peer_.seen) for peer_ in peers}

        def flowed():
            for peer_ in peers:
                now = collections.Counter(message[:2] for message in peer_.seen)
                if any(now[other.me] < before[peer_][other.me] + more for other in peers):
                    return False
            return True

        self.lab.wait(flowed, lambda: f"messages do not flow: {progress(peers)}")

    def remove(self, host):
        """Ends a client cleanly: it got all its messages, and the others see it leave the group."""
        peer_ = self.stop(host)
        peer_.finish()
        self.is_told(peer_, "leave")

    def lose(self, host):
        """Records that the host of a client was killed. Returns the client."""
        peer_ = self.stop(host)
        self.lost.append(peer_)
        return peer_

    def stop(self, host):
        peer_, stop, thread = self.running.pop(host)
        stop.set()
        thread.join()
        return peer_

    def is_told(self, gone, reason):
        """Waits until every client knows that this one left the group, and for which reason."""
        peers = [peer_ for peer_, _, _ in self.running.values()]
        told = lambda peer_: any((*gone.me, reason) in left for left, _, _ in peer_.changes)
        missing = lambda: [f"{peer_}: {peer_.changes[-3:]}" for peer_ in peers if not told(peer_)]
        self.lab.wait(lambda: all(map(told, peers)), lambda: f"no `{reason}` of {gone} {gone.me} at {missing()}")

    def finish(self):
        """Ends all clients. Returns the number of messages sent."""
        for host in list(self.running):
            self.remove(host)
        return sum(len(peer_.sent) for peer_ in self.peers)

    def check_order(self):
        """
        Checks the order of messages. From the first to the last message that two clients both saw,
        they saw the same messages in the same order, each once. The messages of a sender come in
        its order, without gaps. If the nodes of two clients were separated, this holds before and
        after.
        """
        for peer_ in self.peers:
            if len(set(peer_.seen)) != len(peer_.seen):
                raise Failed(f"{peer_} saw a message twice")
        for i, one in enumerate(self.peers):
            for other in self.peers[:i]:
                self.check_same(one, other)
        for sender in self.peers:
            for peer_ in self.peers:
                sent = iter(sender.sent)
                for seen in peer_.together(sender):
                    self.check_follows(sender, sent, peer_, seen)

    def parted(self):
        """Returns pairs of hosts of which one was told that the other is gone, but it was not."""
        living = [peer_ for peer_ in self.peers if peer_ not in self.lost]
        return {
            tuple(sorted((peer_.host, other.host)))
            for peer_ in self.peers
            for other in living
            if len(peer_.together(other)) > 1
        }

    def check_same(self, one, other):
        last = -1
        others = other.together(one)
        for mine in one.together(other):
            shared = [(at, theirs) for at, theirs in enumerate(others) if set(mine) & set(theirs)]
            if len(shared) > 1 or any(at <= last for at, _ in shared):
                raise Failed(f"{one} and {other} saw the same messages both before and after their separation")
            for last, theirs in shared:
                common = set(mine) & set(theirs)
                seen = [
                    self.without_begun(peer_, between(messages, common), common)
                    for peer_, messages in ((one, mine), (other, theirs))
                ]
                if seen[0] != seen[1]:
                    real = isinstance(one, CpgPeer) and isinstance(other, CpgPeer)
                    kind = DaemonsDiffer if real and one.is_real() and other.is_real() else Failed
                    raise kind(f"{one} and {other} {difference(*seen)}")

    def check_follows(self, sender, sent, peer_, seen):
        """Checks that the sender's messages in `seen` are a gapless part of the rest of `sent`."""
        came = [message[2:] for message in seen if message[:2] == sender.me]
        if came and (came[0] not in sent or any(next(sent, None) != message for message in came[1:])):
            raise Failed(f"{peer_} did not see what {sender} sent in its order")

    def without_begun(self, peer_, messages, common):
        """
        Returns the messages without those that corosync had begun when the ring changed.

        corosync continues a long message in the next ring. A node that has its first part from the
        previous ring gets the whole message. A node that was absent does not, although no node may
        have been told of its absence. Such a message is the first one of its sender.
        """
        real = {peer_.me for peer_ in self.peers if isinstance(peer_, CpgPeer)}
        begun = lambda message: (
            message[:2] in real and message[2] > FRAME and message in peer_.firsts and message not in common
        )
        return [message for message in messages if not begun(message)]


def between(messages, common):
    inside = [i for i, message in enumerate(messages) if message in common]
    return messages[inside[0] : inside[-1] + 1]


def difference(one, other):
    pairs = enumerate(zip(one, other, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
    return (
        f"differ from message {place} on, of {len(one)} and {len(other)}: "
        f"{one[place : place + 3]} and {other[place : place + 3]}"
    )
