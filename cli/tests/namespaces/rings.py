"""How rings form, change and carry messages."""

import functools
import itertools
import json
import re
import subprocess
import sys
import time
import zlib

import messages
from captures import second_decoding
from lab import GRACE, GROUP, Failed, address_v6, alone, corosync_conf, node_list, timeouts


def nodes_started_together_form_one_ring(lab, table):
    table.time("formed", lab.start_ring(), timeouts(lab))


def a_killed_dc_has_a_successor_and_comes_back(lab, table):
    lab.start_ring()
    dc = lab.nodes[1].view.dc
    survivors = [host for host in lab.hosts if host != dc]
    killed = lab.nodes[dc].kill()
    table.time("new DC on all", lab.agreement(survivors, patience=3 * timeouts(lab)) - killed, timeouts(lab))
    started = time.monotonic()
    lab.start_node(dc)
    table.time("back", lab.agreement(lab.hosts, patience=3 * timeouts(lab)) - started, timeouts(lab))


@alone
def nodes_that_are_asked_to_leave_cost_no_timeout(lab, table):
    """The DC leaves first, then the others from the last to the first, until one is left."""
    lab.start_ring()
    members = list(lab.hosts)
    leavers = [lab.nodes[1].view.dc]
    leavers += [host for host in reversed(members) if host not in leavers][:-1]
    for leaver in leavers:
        members.remove(leaver)
        quorate = len(members) > len(lab.hosts) // 2
        asked = lab.nodes[leaver].terminate()
        agreed = lab.agreement(members, quorate=quorate, patience=3 * timeouts(lab))
        table.time(f"new ring of {len(members)}", agreed - asked, GRACE)
        code = lab.nodes[leaver].process.wait(timeout=10)
        if code != 0:
            raise Failed(f"node {leaver} ended with {code}")


def what_was_cut_and_heals_is_one_ring_again(lab, table):
    lab.start_ring()
    middle = len(lab.hosts) // 2 + 1
    majority, minority = lab.hosts[:middle], lab.hosts[middle:]
    cut = time.monotonic()
    lab.netns("cut", ",".join(map(str, majority)), ",".join(map(str, minority)))
    patience = 3 * timeouts(lab)
    table.time("majority with quorum", lab.agreement(majority, patience=patience) - cut, timeouts(lab))
    lab.agreement(minority, quorate=False, patience=patience)
    for hosts, quorum in ((majority, "with quorum"), (minority, "WITHOUT quorum")):
        for host in hosts:
            text = lab.nodes[host].status()
            if not re.search(rf"^Current DC: n\d+ - partition {quorum}$", text, re.MULTILINE):
                raise Failed(f"quorate status of node {host} does not say `{quorum}`:\n{text}")
    table.seen("minority WITHOUT quorum")
    healed = time.monotonic()
    lab.netns("heal")
    table.time("one ring", lab.agreement(lab.hosts, patience=patience) - healed, timeouts(lab))


@alone
def all_deliver_the_same_messages_though_one_loses_datagrams(lab, table):
    lab.start_ring()
    lab.netns("loss", 2, 5)
    rings = [len(lab.nodes[host].rings) for host in lab.hosts]
    count = table.options.messages
    took, volume = messages.exchange(list(lab.nodes.values()), count, patience=max(120, count / 100))
    table.seen(f"{count} messages, {volume / 1e6:.0f} MB in {took:.1f} s, {count / took:.0f}/s")
    changes = sum(len(node.rings) for node in lab.nodes.values()) - sum(rings)
    table.row(f"{changes} ring changes", "0", changes == 0)


@alone
def a_capture_of_it_all_decodes(lab, table):
    """The capture has a formation, messages that are fragmented and packed, a crash and a leave."""
    path = lab.directory / "ring.pcap"
    with lab.capture(path):
        lab.start_ring()
        messages.exchange(list(lab.nodes.values()), 300, patience=60)
        lab.nodes[3].kill()
        lab.agreement(lab.hosts[:2], patience=3 * timeouts(lab))
        lab.nodes[2].terminate()
        lab.agreement(lab.hosts[:1], quorate=False, patience=3 * timeouts(lab))
    words = lab.tcpdump_log.read_text()
    captured, dropped = (int(re.search(rf"(\d+) packets {what}", words)[1]) for what in ("captured", "dropped by kernel"))
    done = lab.run("decode", path)
    if dropped:
        # Without the missing datagrams, a message may lack its beginning and cannot be decoded.
        table.row(f"inconclusive: {dropped} datagrams missing in the capture", "", done.returncode in (0, 1))
        return
    counts = dict(re.findall(r"^ *([a-z-]+) +(\d+)$", done.stdout, re.MULTILINE))
    kinds = {"join", "commit", "token", "multicast", "hold-cancel", "merge-detect", "leave"}
    if done.returncode or int(counts["datagrams"]) != captured or not kinds <= counts.keys():
        raise Failed(f"decode of {captured} datagrams ended with {done.returncode}: {counts} {done.stderr}")
    table.row(f"{captured} datagrams, refused: {counts['refused']}", "0", counts["refused"] == "0")
    if second := second_decoding(path):
        table.row("a second decoder reads it", "", second.returncode == 0)


def wall_clocks_that_step_cost_no_ring(lab, table):
    """Clocks step back and forth, to 1970, and by 126 years.

    Then a node without a record starts in 1970, and another one before 1970.
    """
    environment, clock, _ = lab.shim()
    for host in lab.hosts:
        lab.start_node(host, environment=environment if host == 3 else ())
    lab.agreement(lab.hosts, patience=3 * timeouts(lab))
    rings = len(lab.nodes[1].rings)
    for offset in (-3600, 86_400, -1_700_000_000, 4_000_000_000):
        clock.write_text(f"{offset}")
        time.sleep(0.5)
    changes = len(lab.nodes[1].rings) - rings
    table.row(f"{changes} ring changes", "0", changes == 0)
    for year, offset in (("1970", 0), ("1963", -200_000_000)):
        lab.nodes[3].terminate()
        lab.nodes[3].process.wait(timeout=10)
        (lab.directory / "state-3" / "quorate_3").unlink()
        clock.write_text(f"{round(offset - time.time())}")
        started = time.monotonic()
        lab.start_node(3, environment=environment)
        table.time(f"joined from {year}", lab.agreement(lab.hosts, patience=3 * timeouts(lab)) - started, timeouts(lab))


def sees(lab, host, wanted, patience):
    """Waits until the status of a host has what is wanted."""
    until = time.monotonic() + patience
    while not wanted(status := json.loads(lab.nodes[host].status("--json"))["status"]):
        if time.monotonic() > until:
            raise Failed(f"not in the status of node {host} after {patience} s: {status}")
        time.sleep(0.02)


def the_last_man_stands_whichever_goes_first(lab, table):
    """Nodes are killed or leave. Without a tie-breaker, two of three stand, with it the lowest."""
    window, patience = 0.3, 6
    orders = ((2, 3, 1), (3, 1, 2), (1, 2, 3))
    for how, order, tie_breaker in itertools.product(("kill", "terminate"), orders, (0, 1)):
        options = {
            "last_man_standing": 1,
            "last_man_standing_window": round(1000 * window),
            "wait_for_all": 1,
            "auto_tie_breaker": tie_breaker,
        }
        quorum = "".join(f"  {key}: {value}\n" for key, value in options.items())
        nodelist = node_list({host: host for host in lab.hosts})
        conf = lab.write("last-man.conf", corosync_conf(quorum=quorum, nodelist=nodelist))
        for host in lab.hosts:
            lab.start_node(host, conf)
        lab.agreement(lab.hosts, patience=3 * timeouts(lab))
        for host in lab.hosts:
            # The members agree on the options of their files after the ring has begun.
            sees(lab, host, lambda status: ("AutoTieBreaker" in status["flags"]) == bool(tie_breaker), patience)
        first, second, last = order
        getattr(lab.nodes[first], how)()
        lab.agreement([second, last], patience=3 * timeouts(lab))
        votes = ("total_votes", "expected_votes", "quorum")
        sees(lab, last, lambda status: [status[key] for key in votes] == [2, 2, 2], patience)
        quorate = bool(tie_breaker) and last < second
        getattr(lab.nodes[second], how)()
        lab.agreement([last], quorate=quorate, patience=3 * timeouts(lab))
        outcome = "quorate" if quorate else "not quorate"
        table.seen(f"{how} {first}, {second}, tie-breaker {tie_breaker}: {last} {outcome}")
        for node in lab.nodes.values():
            node.kill()
            node.process.wait()


def troubles_of_the_network_end_with_their_cause(lab, table):
    lab.start_ring()

    def switch(words):
        subprocess.run(["ip", "-n", f"{lab.prefix}switch", *words.split()], check=True)

    def on_all(words):
        for host in lab.hosts:
            subprocess.run(lab.on(host, "ip", *words.split()), check=True)

    def trouble(what, begin, end, lasts, harmless=False):
        rings = len(lab.nodes[1].rings)
        begin()
        lasts()
        end()
        # A status from before that does not count.
        time.sleep(0.3)
        ended = time.monotonic()
        lab.agreement(lab.hosts, patience=6 * timeouts(lab))
        table.time(f"{what}: one ring", time.monotonic() - ended, 3 * timeouts(lab))
        if harmless:
            changes = len(lab.nodes[1].rings) - rings
            table.row(f"{what}: {changes} ring changes", "0", changes == 0)

    def lose():
        for host in lab.hosts:
            lab.netns("loss", host, 30)

    trouble("30 % lost on all", lose, lambda: lab.netns("heal"), lambda: time.sleep(3))
    alone = lambda: [lab.agreement([host], quorate=False, patience=3 * timeouts(lab)) for host in lab.hosts]
    trouble("bridge down", lambda: switch("link set br0 down"), lambda: switch("link set br0 up"), alone)
    exchange = lambda: messages.exchange(list(lab.nodes.values()), 100, patience=60)
    small, large = (lambda: on_all("link set e0 mtu 576")), (lambda: on_all("link set e0 mtu 1500"))
    trouble("MTU of 576", small, large, exchange, harmless=True)
    snooping = "link set br0 type bridge mcast_snooping"
    watches = lambda: switch(f"{snooping} 1 mcast_querier 0 mcast_membership_interval 200")
    trouble("snooping without a querier", watches, lambda: switch(f"{snooping} 0"), lambda: time.sleep(3))


# Replaces the bridge. It passes each frame through `damaged()` and forwards it once for each delay
# that `later()` returns, in seconds.
SWITCH = """
import heapq, random, select, socket, sys, time
R = random.Random(1)
ports = []
for host in sys.argv[1:]:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    port.bind(("v" + host, 0))
    ports.append(port)
waiting, number = [], 0
print("switches", flush=True)
while True:
    pause = max(0, waiting[0][0] - time.monotonic()) if waiting else None
    for port in select.select(ports, [], [], pause)[0]:
        frame, source = port.recvfrom(65536)
        if source[2] == socket.PACKET_OUTGOING:
            continue
        for other in ports:
            for delay in later() if other is not port else ():
                number += 1
                heapq.heappush(waiting, (time.monotonic() + delay, number, other, damaged(frame)))
    while waiting and waiting[0][0] <= time.monotonic():
        _, _, port, frame = heapq.heappop(waiting)
        port.send(frame)
"""

# Like `netem delay 20ms 15ms reorder 25% duplicate 5%`.
DELAYS = """
def later():
    delays = [0 if R.random() < 0.25 else R.uniform(0.005, 0.035)]
    return delays * 2 if R.random() < 0.05 else delays
def damaged(frame): return frame
"""

# Like `netem corrupt 5%`, behind the Ethernet header.
DAMAGE = """
def later(): return [0]
def damaged(frame):
    if R.random() >= 0.05: return frame
    bits = bytearray(frame)
    bits[R.randrange(14, len(bits))] ^= 1 << R.randrange(8)
    return bytes(bits)
"""

# Makes a host compute the checksums of its datagrams. They are otherwise left to an interface that
# does not exist.
CHECKSUMS = """
import array, fcntl, socket, struct
wish = array.array("B", struct.pack("II", 0x17, 0))
request = struct.pack("16sP8x", b"e0", wish.buffer_info()[0])
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)
"""


@alone
def frames_late_twice_out_of_order_or_damaged_cost_no_ring(lab, table):
    """A script replaces the bridge, because the kernel may lack netem."""
    for host in lab.hosts:
        subprocess.run(lab.on(host, sys.executable, "-c", CHECKSUMS), check=True)
    lab.start_ring()

    def ports(*words):
        for host in lab.hosts:
            subprocess.run(["ip", "-n", f"{lab.prefix}switch", "link", "set", f"v{host}", *words], check=True)

    def wrong_checksums():
        """Returns the number of datagrams that the hosts have dropped as damaged."""
        total = 0
        for host in lab.hosts:
            text = subprocess.run(lab.on(host, "cat", "/proc/net/snmp"), check=True, capture_output=True, text=True).stdout
            names, counts = (line.split() for line in text.splitlines() if line.startswith("Udp: "))
            total += int(dict(zip(names, counts, strict=True))["InCsumErrors"])
        return total

    for what, how in (("late, twice and out of order", DELAYS), ("damaged", DAMAGE)):
        rings, wrong = sum(len(node.rings) for node in lab.nodes.values()), wrong_checksums()
        command = lab.on("switch", sys.executable, "-c", f"{how}{SWITCH}", *lab.hosts)
        switch = lab.start(command, stdout=subprocess.PIPE, text=True)
        if switch.stdout.readline() != "switches\n":
            raise Failed("the script in place of the bridge does not run")
        ports("nomaster")
        took, _ = messages.exchange(list(lab.nodes.values()), 100, patience=60)
        table.seen(f"{what}: 100 messages in {took:.1f} s")
        ports("master", "br0")
        switch.kill()
        switch.wait()
        lab.agreement(lab.hosts, patience=timeouts(lab))
        changes = sum(len(node.rings) for node in lab.nodes.values()) - rings
        table.row(f"{what}: {changes} ring changes", "0", changes == 0)
        wrong = wrong_checksums() - wrong
        table.row(f"{what}: {wrong} wrong checksums", "some" if how == DAMAGE else "0", (wrong > 0) == (how == DAMAGE))


def record(ring_seq):
    """Returns a record with a valid checksum."""
    text = f"quorate state 1\nring_seq {ring_seq}\nboots 3\n"
    return f"{text}crc32 {zlib.crc32(text.encode()):08x}\n"


def absurd_ring_numbers_in_a_record_keep_no_node_out(lab, table):
    for ring_seq, absurd in ((2**32 - 6, False), (2**53, True), (2**62 - 4, True), (2**63, True), (2**64 - 1, True)):
        state = lab.directory / "state-3"
        state.mkdir(exist_ok=True)
        (state / "quorate_3").write_text(record(ring_seq))
        for host in lab.hosts:
            lab.start_node(host)
        lab.agreement(lab.hosts, patience=3 * timeouts(lab))
        said = f"impossible ring number {ring_seq}: the stored record is lost" in lab.nodes[3].log.read_text()
        table.row(f"{ring_seq}: one ring", "", said == absurd)
        for node in lab.nodes.values():
            node.terminate()
            node.process.wait(timeout=10)


def without_multicast(scenario):
    """Plays a scenario with `transport: udpu` on a network that carries no multicast."""

    @functools.wraps(scenario)
    def played(lab, table):
        nodelist = node_list({host: host for host in lab.hosts})
        lab.conf = lab.write("corosync.conf", corosync_conf(transport="udpu", nodelist=nodelist))
        for host in lab.hosts:
            lab.netns("nomcast", host)
        scenario(lab, table)

    played.__name__ = f"{scenario.__name__}_without_multicast"
    return played


def over_ipv6(scenario, transport="udp"):
    """Plays a scenario with the IPv6 addresses of the hosts."""

    @functools.wraps(scenario)
    def played(lab, table):
        nodelist = node_list({host: host for host in lab.hosts}, address_v6)
        conf = corosync_conf(transport=transport, totem="  ip_version: ipv6\n", nodelist=nodelist)
        lab.conf = lab.write("corosync.conf", conf.replace(f"    mcastaddr: {GROUP}\n", ""))
        scenario(lab, table)

    played.__name__ = f"{scenario.__name__}_over_{transport}_and_ipv6"
    return played


# What each transport has to carry.
EVERYWHERE = [
    (nodes_started_together_form_one_ring, 3),
    (a_killed_dc_has_a_successor_and_comes_back, 3),
    (nodes_that_are_asked_to_leave_cost_no_timeout, 3),
    (what_was_cut_and_heals_is_one_ring_again, 3),
    (all_deliver_the_same_messages_though_one_loses_datagrams, 3),
]

SCENARIOS = [
    (nodes_started_together_form_one_ring, 3),
    (nodes_started_together_form_one_ring, 8),
    (a_killed_dc_has_a_successor_and_comes_back, 3),
    (a_killed_dc_has_a_successor_and_comes_back, 8),
    (nodes_that_are_asked_to_leave_cost_no_timeout, 3),
    (nodes_that_are_asked_to_leave_cost_no_timeout, 8),
    (what_was_cut_and_heals_is_one_ring_again, 3),
    (what_was_cut_and_heals_is_one_ring_again, 8),
    (all_deliver_the_same_messages_though_one_loses_datagrams, 3),
    (a_capture_of_it_all_decodes, 3),
    (troubles_of_the_network_end_with_their_cause, 3),
    (frames_late_twice_out_of_order_or_damaged_cost_no_ring, 3),
    (wall_clocks_that_step_cost_no_ring, 3),
    (the_last_man_stands_whichever_goes_first, 3),
    (absurd_ring_numbers_in_a_record_keep_no_node_out, 3),
]
SCENARIOS += [(without_multicast(scenario), hosts) for scenario, hosts in EVERYWHERE]
SCENARIOS += [(without_multicast(nodes_started_together_form_one_ring), 8)]
SCENARIOS += [(over_ipv6(scenario), hosts) for scenario, hosts in EVERYWHERE]
SCENARIOS += [(over_ipv6(scenario, "udpu"), hosts) for scenario, hosts in EVERYWHERE]
