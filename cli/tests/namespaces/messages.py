"""Many messages from all nodes at once. All clients have to see what was sent."""

import base64
import collections
import contextlib
import hashlib
import json
import random
import subprocess
import threading
import time

from lab import Failed

KIB, MIB = 1 << 10, 1 << 20


def sizes(count, chance):
    """Returns message lengths in random order.

    One in ten thousand is 1 MiB, one in a hundred up to 64 KiB, the others up to 1 KiB.
    """
    huge = max(1, count // 10_000)
    large = count // 100 - huge
    lengths = [MIB] * huge + [chance.randint(0, 64 * KIB) for _ in range(large)]
    lengths += [chance.randint(0, KIB) for _ in range(count - len(lengths))]
    chance.shuffle(lengths)
    return lengths


def digest(payload):
    return hashlib.blake2b(payload, digest_size=16).digest()


class Client:
    """A `quorate cat` that sends messages of one guarantee and sees those of all clients."""

    def __init__(self, node, guarantee, lengths, seed):
        self.node, self.guarantee = node, guarantee
        self.lengths, self.chance = lengths, random.Random(seed)
        # Digests of the payloads sent and of the lines of the messages seen, each in its order.
        self.sent, self.seen = [], []
        # Digests of the messages by sender. Only the last client parses the lines and has them.
        self.payloads = None
        self.configurations = 0
        flags = ["--safe"] if guarantee == "safe" else []
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = node.cat("load", *flags, **pipes)
        self.threads = [threading.Thread(target=self.read), threading.Thread(target=self.send)]

    def __str__(self):
        return f"the {self.guarantee} client of node {self.node.host}"

    def send(self):
        text = bytes(self.chance.choices(range(0x20, 0x7F), k=2 * MIB))
        binary = self.chance.randbytes(2 * MIB).replace(b"\n", b"\0")
        try:
            for length in self.lengths:
                source = binary if self.chance.random() < 0.1 else text
                start = self.chance.randrange(MIB)
                payload = source[start : start + length]
                self.sent.append(digest(payload))
                self.process.stdin.write(payload + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            # The client has ended. Its stderr has the reason.
            pass

    def read(self):
        for line in self.process.stdout:
            if not line.startswith(b'{"event":"deliver"'):
                self.configurations += 1
                continue
            if self.payloads is not None:
                event = json.loads(line)
                text = event.get("payload")
                payload = base64.b64decode(event["payload_base64"]) if text is None else text.encode()
                self.payloads[event["from"], event["guarantee"]].append(digest(payload))
            self.seen.append(digest(line))

    def finish(self):
        """Ends the input. The client succeeds if everything that it sent was delivered."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        code = self.process.wait()
        for thread in self.threads:
            thread.join()
        if code != 0:
            raise Failed(f"{self} ended with {code}: {self.process.stderr.read().decode().strip()}")


def exchange(nodes, count, patience):
    """
    Sends messages from two clients of each node at once, one for each guarantee.

    Returns the time until all had seen all of them, and the bytes of payload.
    """
    lengths = sizes(count, random.Random(count))
    senders = [(node, guarantee) for node in nodes for guarantee in ("agreed", "safe")]
    clients = [
        Client(node, guarantee, lengths[i :: len(senders)], seed=i)
        for i, (node, guarantee) in enumerate(senders)
    ]
    clients[-1].payloads = collections.defaultdict(list)

    started = time.monotonic()

    def wait(condition, what):
        while not all(condition(client) for client in clients):
            for client in clients:
                if client.process.poll() is not None:
                    client.finish()
                    raise Failed(f"{client} ended before its input did")
            if time.monotonic() - started > patience:
                raise Failed(f"{what} not within {patience} s: {progress(clients)}")
            time.sleep(0.02)

    for client in clients:
        client.threads[0].start()
    wait(lambda client: client.configurations, "all clients joined")
    started = time.monotonic()
    for client in clients:
        client.threads[1].start()
    wait(lambda client: len(client.seen) >= count, "all messages came")
    took = time.monotonic() - started
    for client in clients:
        client.finish()
    compare(clients)
    return took, sum(lengths)


def progress(clients):
    return ", ".join(
        f"{client} has sent {len(client.sent)} and seen {len(client.seen)}" for client in clients
    )


def compare(clients):
    """Checks that all saw the same: every message once, in the order of its client."""
    reference = clients[-1]
    foreign = reference.payloads.keys() - {(client.node.host, client.guarantee) for client in clients}
    if foreign:
        raise Failed(f"messages came that no client sent: {foreign}")
    for client in clients:
        pairs = zip(client.seen, reference.seen, strict=False)
        difference = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
        if difference is not None:
            raise Failed(f"message {difference} is not the same for {client} and for {reference}")
        if len(client.seen) != len(reference.seen):
            raise Failed(f"{client} saw {len(client.seen)} messages, {reference} {len(reference.seen)}")
        arrived = reference.payloads[client.node.host, client.guarantee]
        if arrived != client.sent:
            sent, came = collections.Counter(client.sent), collections.Counter(arrived)
            raise Failed(
                f"what {client} sent is not what came: {(sent - came).total()} lost, "
                f"{(came - sent).total()} too many{', the order differs' if sent == came else ''}"
            )
