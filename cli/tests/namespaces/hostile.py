"""Hosts that do not belong: clones, forgers, floods, firewalls and one-way links."""

import contextlib
import functools
import json
import pathlib
import struct
import subprocess
import sys
import time

from addresses import says
from lab import GROUP, PORT, Failed, address, alone, consensus_timeout, corosync_conf, readmission, timeouts, token_timeout

MAGIC, VERSION = 0xC070, 3
TOKEN, MULTICAST, MERGE_DETECT, JOIN, COMMIT = range(5)

# The start of a script that runs on the forger's host. It defines `send(datagram, to, source)`,
# with any source address.
FORGER = """
import socket, struct, sys, time
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
def send(payload, to, source):
    udp = struct.pack(">HHHH", {port} - 1, {port}, 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 1, 17, 0)
    raw.sendto(head + socket.inet_aton(source) + socket.inet_aton(to) + udp, (to, 0))
""".format(port=PORT)


def header(kind, node):
    return struct.pack("<HBBBII", MAGIC, VERSION, kind, 0, node, 0)


def ring_id(representative, seq):
    return struct.pack("<IQ", representative, seq)


def join(node, nodes, ring_seq):
    ids = struct.pack(f"<{len(nodes)}I", *nodes)
    return header(JOIN, node) + struct.pack("<IIIQ", node, len(nodes), 0, ring_seq) + ids


def merge_detect(node, seq=1):
    return header(MERGE_DETECT, node) + struct.pack("<I", node) + ring_id(node, seq)


def commit(node, ring_seq, nodes):
    """Returns a commit token in which no member has written anything yet."""
    ids = struct.pack(f"<{len(nodes)}I", *nodes)
    counts = struct.pack("<Iii", 0, 0, len(nodes))
    return header(COMMIT, node) + struct.pack("<I", 1) + ring_id(nodes[0], ring_seq) + counts + ids + bytes(24 * len(nodes))


def forge(lab, host, seconds, every, datagrams):
    """Starts to send these datagrams (payload, destination, source) from a host.

    The process ends by itself.
    """
    sends = "\n".join(f"    send({payload!r}, {to!r}, {source!r})" for payload, to, source in datagrams)
    script = FORGER + f"end = time.monotonic() + {seconds}\nwhile time.monotonic() < end:\n{sends}\n    time.sleep({every})\n"
    return lab.start(lab.on(host, sys.executable, "-c", script, address(host)))


def ring_changes(lab, hosts):
    return sum(len(lab.nodes[host].rings) for host in hosts)


def log_lines(lab, host):
    return len(lab.nodes[host].log.read_text(errors="replace").splitlines())


def memory(lab, host):
    """Returns the resident memory of a node's process in MiB."""
    text = pathlib.Path(f"/proc/{lab.nodes[host].process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024


def answer(lab, host):
    return json.loads(lab.nodes[host].status("--json"))


def start_three(lab):
    """Starts a ring on the first three hosts. The fourth host is the stranger's."""
    for host in (1, 2, 3):
        lab.start_node(host, lab.three)
    return lab.agreement((1, 2, 3), patience=10 * token_timeout(3))


def with_a_stranger(scenario):
    """Gives the scenario a configuration that lists the first three hosts."""

    @functools.wraps(scenario)
    def played(lab, table):
        nodes = "".join(
            f"  node {{\n    ring0_addr: {address(host)}\n    name: n{host}\n    nodeid: {host}\n  }}\n" for host in (1, 2, 3)
        )
        lab.three = lab.write("three.conf", corosync_conf(nodelist=f"nodelist {{\n{nodes}}}\n"))
        scenario(lab, table)

    return played


@with_a_stranger
def a_clone_does_not_evict_the_true_node(lab, table):
    """The clone starts twice, the second time before its port forwards. The true node restarts."""
    start_three(lab)
    before, lines = ring_changes(lab, (1, 3)), log_lines(lab, 2)

    def waits():
        says(lab, 4, f"no interface has this node's address {address(2)}; bring the interface up")
        status = answer(lab, 4)["status"]
        others = [node["id"] for node in status["nodes"] if node["online"] and node["id"] != 2]
        ok = not others and not status["quorate"] and status["lease"] == "none"
        table.row("the clone is alone, and not quorate", "", ok)

    for forwards in (True, False):
        if not forwards:
            lab.netns("cut", 4, "1,2,3")
        clone = lab.start_node(4, lab.three, "--name", "n2", name=f"clone-{forwards}")
        waits()
        lab.netns("heal")
        time.sleep(2)
        waits()
        if forwards:
            clone.terminate()
            table.row(f"the clone ended with {clone.process.wait(timeout=10)}", "0", clone.process.returncode == 0)
    table.row(f"{ring_changes(lab, (1, 3)) - before} ring changes by the clone", "0", ring_changes(lab, (1, 3)) == before)
    new = log_lines(lab, 2) - lines
    table.row(f"{new} log lines of the true node", "2", new <= 2)
    lab.nodes[2].terminate()
    lab.nodes[2].process.wait(timeout=10)
    started = time.monotonic()
    lab.start_node(2, lab.three)
    table.time("the true node is back", lab.agreement((1, 2, 3), patience=3 * token_timeout(3)) - started, token_timeout(3))
    waits()
    new = log_lines(lab, 4)
    table.row(f"{new} log lines of the clone", "10", new <= 10)


@with_a_stranger
def forged_claims_make_no_starting_node_leave(lab, table):
    start_three(lab)
    claims = [(merge_detect(node), GROUP, address(4)) for node in (1, 2, 3)]
    forger = forge(lab, 4, 60, 0.02, claims)
    lab.nodes[2].terminate()
    lab.nodes[2].process.wait(timeout=10)
    lines = log_lines(lab, 1)
    started = time.monotonic()
    lab.start_node(2, lab.three)
    table.time("restarted meanwhile", lab.agreement((1, 2, 3), patience=3 * token_timeout(3)) - started, token_timeout(3))
    time.sleep(3)
    new = log_lines(lab, 1) - lines
    table.row(f"{new} log lines in {time.monotonic() - started:.0f} s", "12", new <= 12)
    named = any(notice.get("source", "").startswith(address(4)) for notice in answer(lab, 1)["notices"] if notice.get("source"))
    table.row("the source is named", "", named)
    for host in (1, 2, 3):
        lab.nodes[host].terminate()
    for host in (1, 2, 3):
        lab.nodes[host].process.wait(timeout=10)
    started = time.monotonic()
    start_three(lab)
    table.time("all restarted meanwhile", time.monotonic() - started, 2 * token_timeout(3))
    table.row("the claims go on", "", forger.poll() is None)
    rings = ring_changes(lab, (1, 2, 3))
    forger.terminate()
    forger.wait()
    time.sleep(1)
    lab.agreement((1, 2, 3), patience=1)
    changes = ring_changes(lab, (1, 2, 3)) - rings
    table.row(f"{changes} ring changes as the claims end", "0", changes == 0)


@with_a_stranger
def forged_ring_numbers_do_no_lasting_harm(lab, table):
    """JOINs and commit tokens have absurd numbers, a member has an empty disk, then all restart."""
    start_three(lab)
    forged = [(join(3, [1, 2, 3], 1 << 62), GROUP, address(3))]
    forged += [(commit(3, 1 << 63, [1, 2, 3]), address(1), address(3))] * 10
    forge(lab, 4, 1, 0.01, forged).wait()
    # A status from before that, or from between two rings, does not count.
    time.sleep(2 * timeouts(lab))
    lab.agreement((1, 2, 3), patience=timeouts(lab))
    table.seen("one ring after it")
    lab.nodes[3].terminate()
    lab.nodes[3].process.wait(timeout=10)
    for path in (lab.directory / "state-3").iterdir():
        path.unlink()
    lab.start_node(3, lab.three)
    lab.agreement((1, 2, 3), patience=10 * timeouts(lab))
    table.seen("a member with an empty disk is back")
    for host in (1, 2, 3):
        lab.nodes[host].terminate()
        lab.nodes[host].process.wait(timeout=10)
    start_three(lab)
    table.seen("one ring after all have restarted")


@alone
@with_a_stranger
def a_flood_of_junk_costs_no_ring(lab, table):
    start_three(lab)
    before, lines = ring_changes(lab, (1, 2, 3)), log_lines(lab, 3)
    forge(lab, 4, 4, 0, [(b"x" * 200, to, address(4)) for to in (address(3), GROUP)]).wait()
    time.sleep(1)
    changes, new = ring_changes(lab, (1, 2, 3)) - before, log_lines(lab, 3) - lines
    table.row(f"{changes} ring changes", "0", changes == 0)
    table.row(f"{new} log lines", "1 to 5", 1 <= new <= 5)
    lab.agreement((1, 2, 3), patience=1)


@contextlib.contextmanager
def filtered(lab, host, rule):
    """Applies a rule to what reaches the ring's ports on a host."""
    ports = f"udp dport {PORT - 1}-{PORT}"
    lab.nft(
        host,
        "add table inet fw",
        "add chain inet fw in { type filter hook input priority 0; policy accept; }",
        f"add rule inet fw in iifname e0 {ports} {rule}",
    )
    try:
        yield
    finally:
        subprocess.run(lab.on(host, "nft", "delete", "table", "inet", "fw"), check=True)


def a_firewall_that_rejects_for_a_moment_costs_no_ring(lab, table):
    """The firewall rejects or drops. In the end it rejects one member for seconds.

    The others have a ring meanwhile.
    """
    lab.start_ring()
    dc = lab.nodes[1].view.dc
    for what, seconds in (("reject", 0.05), ("reject", 0.2), ("drop", 0.05), ("drop", 0.5), ("reject", 0.5)):
        before = ring_changes(lab, lab.hosts)
        with filtered(lab, dc, what):
            time.sleep(seconds)
        time.sleep(1)
        changes = ring_changes(lab, lab.hosts) - before
        table.row(f"{changes} ring changes, {what} for {1000 * seconds:.0f} ms", "0", changes == 0)
    table.row("the same DC", "", lab.nodes[1].view.dc == dc)
    # The node that passes the token to the DC.
    sender = (dc - 2) % 3 + 1
    before = ring_changes(lab, lab.hosts)
    with filtered(lab, dc, f"ip saddr {address(sender)} reject"):
        end, samples, good = time.monotonic() + 8, 0, 0
        while time.monotonic() < end:
            views = [node.view for node in lab.nodes.values()]
            rings = [view.ring for view in views if view.settled and view.quorate]
            good += any(rings.count(ring) > 1 for ring in rings)
            samples += 1
            time.sleep(0.05)
    table.row(f"one sender rejected: a ring for {100 * good // samples} % of the time", "50 %", 2 * good >= samples)
    changes = ring_changes(lab, lab.hosts) - before
    table.seen(f"{changes} ring changes of three nodes")
    # A status from before that does not count.
    time.sleep(0.3)
    healed = time.monotonic()
    lab.agreement(lab.hosts, patience=2 * readmission(3))
    table.time("one ring", time.monotonic() - healed, readmission(3))


def a_link_that_carries_one_way_leaves_the_others_a_ring(lab, table):
    """Node 1 does not hear node 3."""
    lab.start_ring()
    lab.netns("cutway", 3, 1)
    time.sleep(token_timeout(3) + 2 * consensus_timeout(3))
    samples = good = 0
    end = time.monotonic() + 15
    while time.monotonic() < end:
        views = [lab.nodes[host].view for host in (1, 2)]
        good += all(view.settled and view.quorate for view in views) and views[0].ring == views[1].ring
        samples += 1
        time.sleep(0.05)
    table.row(f"a ring for {100 * good // samples} % of the time", "50 %", good * 2 >= samples)
    healed = time.monotonic()
    lab.netns("heal")
    table.time("one ring", lab.agreement(lab.hosts, patience=2 * readmission(3)) - healed, readmission(3))


def member_list(lab, hosts):
    return [lab.address_id(host) for host in hosts]


def start_without_a_list(lab):
    """Starts a ring on the first three hosts, which learn of each other from JOINs."""
    conf = lab.write("no-list.conf", corosync_conf())
    for host in (1, 2, 3):
        lab.start_node(host, conf, "--expected-votes", "3")
    ids = member_list(lab, (1, 2, 3))
    lab.agreement((1, 2, 3), ids=ids, patience=10 * token_timeout(3))
    return ids


# Another part of such a script. `ring()` waits for a merge detect or a frame, and returns the ring,
# the number of the frame, and the whole datagram.
EAR = """
import socket, struct, time
ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
ear.bind(({group!r}, {port}))
ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton({group!r}) + socket.inet_aton(sys.argv[1]))
ear.settimeout(10)
def ring():
    while True:
        heard = ear.recv(65536)
        if len(heard) >= 29 and heard[3] == 2: return heard[17:29], 0, heard
        if len(heard) >= 37 and heard[3] == 1: return heard[25:37], struct.unpack_from("<I", heard, 17)[0], heard
def frame(node, ring, seq, payload, fragment=0, continued=0):
    head = struct.pack("<HBBBII", 0xc070, 3, 1, 2, node, 0) + struct.pack("<III", node, seq, 0) + ring + bytes(8)
    return head + struct.pack("<HHBBHH", 0, 0, fragment, continued, 1, len(payload)) + payload
def message(body):
    return struct.pack("<HH", 1, 1) + b"a" + body
""".format(group=GROUP, port=PORT)


def attack(lab, host, script, **names):
    """Starts a Python script on a host.

    The script can use `send`, `ring`, `frame`, `message` and these names.
    """
    given = "".join(f"{name} = {value!r}\n" for name, value in {"GROUP": GROUP, "OWN": address(host), **names}.items())
    return lab.start(lab.on(host, sys.executable, "-c", FORGER + EAR + given + script, address(host)))


def ends(attack, patience=20):
    """Waits until an attack ends by itself."""
    if code := attack.wait(patience):
        raise Failed(f"the attacking script ended with {code}")


def one_ring_again(lab, table, what, ids=None):
    """Checks that the members form one ring within the bound after an attack.

    A status from before that does not count.
    """
    time.sleep(0.3)
    ended = time.monotonic()
    lab.agreement((1, 2, 3), ids=ids, patience=2 * readmission(3))
    table.time(f"one ring after {what}", time.monotonic() - ended, readmission(3))


def a_stranger_delivers_no_message_in_a_members_name(lab, table):
    """There is no node list. The stranger sends the next number as soon as it receives a frame."""
    ids = start_without_a_list(lab)
    before = ring_changes(lab, (1, 2, 3))
    readers = [lab.nodes[host].cat("a", "--stay", stdout=subprocess.PIPE, text=True) for host in (1, 2, 3)]
    forger = attack(
        lab,
        4,
        """
while True:
    heard, seq, whole = ring()
    if b"TRIGGER" in whole:
        for ahead in range(1, 4):
            name = struct.pack("<II", 1, 0) + b"a".ljust(128, b"\\0")
            text = b"FORGED"
            body = struct.pack("<iiii", 0x20003, 0, 184 + len(text), 0) + name
            body += struct.pack("<IIIIIIQ", len(text), 0, 4242, 0, NODE, 0, 0) + text
            send(frame(NODE, heard, seq + ahead, message(body)), GROUP, OWN)
        break
""",
        NODE=ids[1],
    )
    time.sleep(0.5)
    for host, text in ((1, "TRIGGER"), (3, "LAST")):
        done = subprocess.run(
            [lab.quorate, "cat", "a", "--socket", lab.nodes[host].socket], input=f"{text}\n", text=True,
            stdout=subprocess.DEVNULL, timeout=20,
        )
        table.row(f"{text} sent: exit code {done.returncode}", "0", done.returncode == 0)
        time.sleep(0.3)
    ends(forger)
    for reader in readers:
        texts = []
        for line in reader.stdout:
            event = json.loads(line)
            texts += [event["payload"]] if event["event"] == "deliver" else []
            if texts[-1:] == ["LAST"]:
                break
        table.row(f"delivered {texts}", "", texts == ["TRIGGER", "LAST"])
    changes = ring_changes(lab, (1, 2, 3)) - before
    table.row(f"{changes} ring changes", "0", changes == 0)
    named = any(str(notice.get("source", "")).startswith(address(4)) for notice in answer(lab, 1)["notices"])
    table.row("the source is named", "", named)


@alone
def frames_and_merge_detects_of_a_stranger_leave_a_ring(lab, table):
    """There is no node list, and the stranger never asks to join."""
    ids = start_without_a_list(lab)
    resident = {host: memory(lab, host) for host in (1, 2, 3)}

    def lasts(what, script, share=100, seconds=2):
        before = ring_changes(lab, (1, 2, 3))
        forger = attack(lab, 4, f"end = time.monotonic() + {seconds}\nwhile time.monotonic() < end:\n{script}", IDS=ids)
        samples = good = 0
        while forger.poll() is None:
            views = [lab.nodes[host].view for host in (1, 2, 3)]
            good += all(view.settled and view.quorate for view in views) and len({view.ring for view in views}) == 1
            samples += 1
            time.sleep(0.02)
        ends(forger)
        changes = ring_changes(lab, (1, 2, 3)) - before
        table.row(f"{what}: a ring for {100 * good // samples} %, {changes} changes", f"{share} %", 100 * good >= share * samples)

    lasts("frames ahead", """
    heard, seq, _ = ring()
    for n in range(3): send(frame(IDS[n], heard, seq + 300, message(b"x" * 60)), GROUP, OWN)
""")
    lasts("leaves in members' names", """
    for n in range(3): send(struct.pack("<HBBBII", 0xc070, 3, 3, 0, 0, 0) + struct.pack("<IIIQ", IDS[n], 3, 1, 1 << 41)
        + struct.pack("<4I", *IDS, IDS[n]), GROUP, OWN)
    time.sleep(0.01)
""")
    lasts("messages without end", """
    heard, seq, _ = ring()
    for n in range(100):
        body = struct.pack("<iiii", 0x20003, 0, 1 << 30, 0) + bytes(1200)
        send(frame(IDS[n % 3], heard, seq + n, message(body), n % 255 + 1, n % 255), GROUP, OWN)
""")
    lasts("messages without end, in long frames", """
    heard, seq, _ = ring()
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.bind((OWN, {PORT} - 1))
    out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(OWN))
    for n in range(50):
        body = struct.pack("<iiii", 0x20003, 0, 1 << 30, 0) + bytes(60000)
        out.sendto(frame(IDS[n % 3], heard, seq + n, message(body), n % 255 + 1, n % 255), (GROUP, {PORT}))
""".replace("{PORT}", f"{PORT}"))
    # An unknown node may be on a ring to merge with, once.
    lasts("merge detects of nodes without number", """
    node = int(time.monotonic() * 1e6) % (1 << 31) | 1
    send(struct.pack("<HBBBIIIIQ", 0xc070, 3, 2, 0, node, 0, node, node, 1), GROUP, OWN)
    time.sleep(0.05)
""", share=60, seconds=4)
    one_ring_again(lab, table, "all of it", ids)
    grown = max(memory(lab, host) - resident[host] for host in (1, 2, 3))
    table.row(f"memory: {grown:.0f} MiB more", "64 MiB", grown <= 64)


@alone
@with_a_stranger
def forged_refusals_cost_no_ring_unless_in_a_members_name(lab, table):
    """A thousand ICMP 'port unreachable' messages about members arrive every second."""
    start_three(lab)
    script = """
import itertools
def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
end = time.monotonic() + 2
while time.monotonic() < end:
    for to, about in ((1, 2), (2, 3), (3, 1)):
        said = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 85, 0, 0, 64, 17, 0, socket.inet_aton(NET % to), socket.inet_aton(NET % about))
        said += struct.pack(">HHHH", PORT - 1, PORT, 65, 0)
        icmp = struct.pack(">BBHI", 3, 3, 0, 0) + said
        icmp = icmp[:2] + struct.pack(">H", checksum(icmp)) + icmp[4:]
        source = NET % about if SPOOF else OWN
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0, socket.inet_aton(source), socket.inet_aton(NET % to))
        raw.sendto(head + icmp, (NET % to, 0))
    time.sleep(0.001)
"""
    net = address(0).removesuffix("0") + "%d"
    before = ring_changes(lab, (1, 2, 3))
    ends(attack(lab, 4, script, NET=net, PORT=PORT, SPOOF=False))
    time.sleep(0.5)
    changes = ring_changes(lab, (1, 2, 3)) - before
    table.row(f"{changes} ring changes, from the forger's own address", "0", changes == 0)
    ends(attack(lab, 4, script, NET=net, PORT=PORT, SPOOF=True))
    one_ring_again(lab, table, "those in members' names")


@alone
@with_a_stranger
def damaged_and_forged_datagrams_do_no_lasting_harm(lab, table):
    """Random datagrams of every kind arrive.

    From an address that is not listed, they cost no ring. In members' names, they cost no ring for
    long.
    """
    start_three(lab)
    resident = {host: memory(lab, host) for host in (1, 2, 3)}
    kinds = """
import random
R = random.Random(1)
def ids(nodes): return b"".join(struct.pack("<I", node) for node in nodes)
def header(kind, node): return struct.pack("<HBBBII", 0xc070, 3, kind, 2 if kind == 1 else 0, node, 0)
def join(node, proc, failed, seq, leave=False, counts=None):
    counts = counts or (len(proc), len(failed))
    return header(3, 0 if leave else node) + struct.pack("<IIIQ", node, *counts, seq) + ids(proc) + ids(failed)
def datagram(n, heard, seq):
    node, odd = R.choice([1, 2, 3]), R.choice([0, 1, 2**32, 2**43, 2**62, 2**63 - 1, 2**64 - 1])
    many = R.choice([[node] * 340, list(range(1, 341)), [R.getrandbits(32) for _ in range(340)]])
    own = struct.unpack("<IQ", heard)
    rtr = b"".join(struct.pack("<IQI", *own, R.getrandbits(32)) for _ in range(40))
    return [
        lambda: R.randbytes(R.choice([0, 1, 12, 13, 57, 200, 1400])),
        lambda: struct.pack("<HBB", 0xc070, 3, n % 7) + R.randbytes(R.randrange(1400)),
        lambda: join(node, [1, 2, 3], [], odd),
        lambda: join(node, [1, 2, 3], [node], odd, True),
        lambda: join(node, [1, 2, 3], [R.choice([1, 2, 3])], own[1]),
        lambda: join(node, many, [], 1000),
        lambda: join(node, [1, 2, 3], many, 1000),
        lambda: join(node, [1, 2, 3], [], 1000, counts=(2**32 - 1, 2**31)),
        lambda: header(0, node) + struct.pack("<IIII", seq, R.getrandbits(32), seq, 0) + heard + struct.pack("<IIii", 0, 2**32 - 1, 1, 40) + rtr,
        lambda: header(4, node) + struct.pack("<IIQIii", 1, node, odd, 0, R.choice([-1, 0, 3]), R.choice([-1, 3, 2**31 - 1])) + ids([1, 2, 3]) + bytes(72),
        lambda: header(2, node) + struct.pack("<IIQ", node, R.choice([0, 1, 2, 3]), odd),
        lambda: header(5, node) + heard,
        lambda: frame(node, heard, R.getrandbits(32), message(R.randbytes(50))),
        lambda: frame(node, heard, seq + n % 500, message(struct.pack("<iiii", 0x20003, 0, 1 << 30, 0) + bytes(1300)), n % 255 + 1, n % 255),
    ][n % 14]()
heard, seq, _ = ring()
end, n = time.monotonic() + 3, 0
while time.monotonic() < end:
    whole = datagram(n, heard, seq)
    bytes_ = bytearray(whole[:R.randrange(len(whole) + 1)] if n % 5 == 0 else whole)
    if bytes_ and n % 7 == 0: bytes_[R.randrange(len(bytes_))] = R.choice([0, 0xff, 0x7f, R.randrange(256)])
    source = NET % R.choice([1, 2, 3]) if SPOOF else OWN
    for to in (GROUP, NET % 1, NET % 2, NET % 3): send(bytes(bytes_), to, source)
    n += 1
    time.sleep(0.0005)
"""
    net = address(0).removesuffix("0") + "%d"
    before = ring_changes(lab, (1, 2, 3))
    ends(attack(lab, 4, kinds, NET=net, SPOOF=False))
    time.sleep(0.5)
    changes = ring_changes(lab, (1, 2, 3)) - before
    table.row(f"{changes} ring changes, from an address that is not listed", "0", changes == 0)
    ends(attack(lab, 4, kinds, NET=net, SPOOF=True))
    one_ring_again(lab, table, "those in members' names")
    grown = max(memory(lab, host) - resident[host] for host in (1, 2, 3))
    table.row(f"memory: {grown:.0f} MiB more", "64 MiB", grown <= 64)
    for host in (1, 2, 3):
        lab.nodes[host].terminate()
        lab.nodes[host].process.wait(timeout=10)
    start_three(lab)
    table.seen("one ring after all have restarted")


SCENARIOS = [
    (a_clone_does_not_evict_the_true_node, 4),
    (forged_claims_make_no_starting_node_leave, 4),
    (forged_ring_numbers_do_no_lasting_harm, 4),
    (a_flood_of_junk_costs_no_ring, 4),
    (a_firewall_that_rejects_for_a_moment_costs_no_ring, 3),
    (a_link_that_carries_one_way_leaves_the_others_a_ring, 3),
    (a_stranger_delivers_no_message_in_a_members_name, 4),
    (frames_and_merge_detects_of_a_stranger_leave_a_ring, 4),
    (forged_refusals_cost_no_ring_unless_in_a_members_name, 4),
    (damaged_and_forged_datagrams_do_no_lasting_harm, 4),
]
