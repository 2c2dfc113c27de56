"""Hosts that do not belong: clones, forgers, floods, firewalls and links that carry in one direction."""

import json
import struct
import subprocess
import sys
import time

from lab import GROUP, PORT, address, consensus_timeout, corosync_conf, timeouts, token_timeout

MAGIC, VERSION = 0xC070, 3
TOKEN, MULTICAST, MERGE_DETECT, JOIN, COMMIT = range(5)

# A forger's part of the script that runs on its host: `send(datagram, to, source)`, with any source address.
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
    """A commit token in which no member has written anything yet."""
    ids = struct.pack(f"<{len(nodes)}I", *nodes)
    counts = struct.pack("<Iii", 0, 0, len(nodes))
    return header(COMMIT, node) + struct.pack("<I", 1) + ring_id(nodes[0], ring_seq) + counts + ids + bytes(24 * len(nodes))


def forge(lab, host, seconds, every, datagrams):
    """Starts sending these, each a payload, a destination and a source, on a host; the process ends by itself."""
    sends = "\n".join(f"    send({payload!r}, {to!r}, {source!r})" for payload, to, source in datagrams)
    script = FORGER + f"end = time.monotonic() + {seconds}\nwhile time.monotonic() < end:\n{sends}\n    time.sleep({every})\n"
    return lab.start(lab.on(host, sys.executable, "-c", script, address(host)))


def ring_changes(lab, hosts):
    return sum(len(lab.nodes[host].rings) for host in hosts)


def log_lines(lab, host):
    return len(lab.nodes[host].log.read_text(errors="replace").splitlines())


def answer(lab, host):
    return json.loads(lab.nodes[host].status("--json"))


def start_three(lab):
    """A ring on the first three hosts; the fourth is the stranger's."""
    for host in (1, 2, 3):
        lab.start_node(host, lab.three)
    return lab.agreement((1, 2, 3), patience=10 * token_timeout(3))


def with_a_stranger(scenario):
    """Gives the scenario a configuration that lists the first three hosts."""

    def played(lab, table):
        nodes = "".join(
            f"  node {{\n    ring0_addr: {address(host)}\n    name: n{host}\n    nodeid: {host}\n  }}\n" for host in (1, 2, 3)
        )
        lab.three = lab.write("three.conf", corosync_conf(nodelist=f"nodelist {{\n{nodes}}}\n"))
        scenario(lab, table)

    played.__name__ = scenario.__name__
    return played


@with_a_stranger
def a_clone_does_not_evict_the_true_node(lab, table):
    """It comes up while its port does not forward yet; then the true node restarts."""
    start_three(lab)
    before = ring_changes(lab, (1, 3))
    lab.netns("cut", 4, "1,2,3")
    state = lab.directory / "clone"
    command = [lab.quorate, "node", "-c", lab.three, "--name", "n2", "--socket", lab.directory / "clone.sock", "--state-dir", state]
    with open(lab.directory / "clone.log", "w") as log:
        clone = lab.start(lab.on(4, *command), stdout=log, stderr=log)
    time.sleep(2)
    lab.netns("heal")
    time.sleep(2)
    table.row(f"{ring_changes(lab, (1, 3)) - before} ring changes by the clone", "0", ring_changes(lab, (1, 3)) == before)
    lab.nodes[2].terminate()
    lab.nodes[2].process.wait(timeout=10)
    started = time.monotonic()
    lab.start_node(2, lab.three)
    table.time("the true node is back", lab.agreement((1, 2, 3), patience=3 * token_timeout(3)) - started, token_timeout(3))
    if clone.poll() is None:
        clone.terminate()


@with_a_stranger
def forged_claims_make_no_starting_node_leave(lab, table):
    start_three(lab)
    claims = [(merge_detect(node), GROUP, address(4)) for node in (1, 2, 3)]
    forger = forge(lab, 4, 12, 0.02, claims)
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
    forger.terminate()


@with_a_stranger
def forged_ring_numbers_do_no_lasting_harm(lab, table):
    """JOINs and commit tokens with absurd numbers; a member with an empty disk; then all restart."""
    start_three(lab)
    forged = [(join(3, [1, 2, 3], 1 << 62), GROUP, address(3))]
    forged += [(commit(3, 1 << 63, [1, 2, 3]), address(1), address(3))] * 10
    forge(lab, 4, 1, 0.01, forged).wait()
    # A status from before it, or from between two rings, is none.
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


def a_firewall_that_rejects_for_a_moment_costs_no_ring(lab, table):
    lab.start_ring()
    dc = lab.nodes[1].view.dc
    for seconds in (0.05, 0.2):
        before = ring_changes(lab, lab.hosts)
        reject = f"add rule inet fw in iifname e0 udp dport {PORT - 1}-{PORT} reject"
        rules = f"add table inet fw\nadd chain inet fw in {{ type filter hook input priority 0; policy accept; }}\n{reject}\n"
        subprocess.run(lab.on(dc, "nft", "-f", "-"), input=rules, text=True, check=True)
        time.sleep(seconds)
        subprocess.run(lab.on(dc, "nft", "delete", "table", "inet", "fw"), check=True)
        time.sleep(1)
        changes = ring_changes(lab, lab.hosts) - before
        table.row(f"{changes} ring changes, rejected for {1000 * seconds:.0f} ms", "0", changes == 0)
    table.row("the same DC", "", lab.nodes[1].view.dc == dc)


def a_link_that_carries_one_way_leaves_the_others_a_ring(lab, table):
    """Node 3 is not heard by node 1."""
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
    bound = 8 * consensus_timeout(3) + timeouts(lab)
    table.time("one ring", lab.agreement(lab.hosts, patience=2 * bound) - healed, bound)


SCENARIOS = [
    (a_clone_does_not_evict_the_true_node, 4),
    (forged_claims_make_no_starting_node_leave, 4),
    (forged_ring_numbers_do_no_lasting_harm, 4),
    (a_flood_of_junk_costs_no_ring, 4),
    (a_firewall_that_rejects_for_a_moment_costs_no_ring, 3),
    (a_link_that_carries_one_way_leaves_the_others_a_ring, 3),
]
