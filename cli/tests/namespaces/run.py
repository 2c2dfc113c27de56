#!/usr/bin/env python3
"""
The program over real sockets: nodes in network namespaces that find each other by real IP multicast.

    run.py [--messages N] [--repeat N] [--only WORD] QUORATE

QUORATE is the program. Prints what was measured and what it may be; the exit code is 1 if anything was not as it
has to be. Needs root, iproute2, nftables and tcpdump; if it is not root, it says so and does nothing.

SECOND_DECODER in the environment names a Python script that is to decode the captures, too.
"""

import argparse
import ipaddress
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import messages
from lab import Failed, Lab, address, consensus_timeout, corosync_conf, node_list, token_timeout

# What a change may take beyond the protocol's timeouts, in seconds.
GRACE = 0.2


def timeouts(lab):
    """How long it takes to see that a member is lost, and to go on without it."""
    nodes = len(lab.hosts)
    return token_timeout(nodes) + consensus_timeout(nodes) + GRACE


# The scenarios. Each is given hosts on which nothing runs yet, and the table for what it measures.


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


def nodes_that_are_asked_to_leave_cost_no_timeout(lab, table):
    """The DC first, then the others from the last to the first, until one is left."""
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


def all_deliver_the_same_messages_though_one_loses_datagrams(lab, table):
    lab.start_ring()
    lab.netns("loss", 2, 5)
    rings = [len(lab.nodes[host].rings) for host in lab.hosts]
    count = table.options.messages
    took, volume = messages.exchange(list(lab.nodes.values()), count, patience=max(120, count / 100))
    table.seen(f"{count} messages, {volume / 1e6:.0f} MB in {took:.1f} s, {count / took:.0f}/s")
    changes = sum(len(node.rings) for node in lab.nodes.values()) - sum(rings)
    table.row(f"{changes} ring changes", "0", changes == 0)


def a_capture_of_it_all_decodes(lab, table):
    """A formation, messages that are cut and packed, a crash and a leave."""
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
        # What is missing in the capture is not there to be decoded: a message may lack its beginning.
        table.row(f"inconclusive: {dropped} datagrams missing in the capture", "", done.returncode in (0, 1))
        return
    counts = dict(re.findall(r"^ *([a-z-]+) +(\d+)$", done.stdout, re.MULTILINE))
    kinds = {"join", "commit", "token", "multicast", "hold-cancel", "merge-detect", "leave"}
    if done.returncode or int(counts["datagrams"]) != captured or not kinds <= counts.keys():
        raise Failed(f"decode of {captured} datagrams ended with {done.returncode}: {counts} {done.stderr}")
    table.row(f"{captured} datagrams, refused: {counts['refused']}", "0", counts["refused"] == "0")
    if decoder := os.environ.get("SECOND_DECODER"):
        second = subprocess.run([sys.executable, decoder, path], capture_output=True, text=True)
        table.row("a second decoder reads it", "", second.returncode == 0)


def what_cannot_work_ends_in_one_line_that_says_what_to_do(lab, table):
    good = lab.conf.read_text()
    lab.start_node(2)

    def ends(what, advice, conf, *flags, **where):
        conf = lab.write("refused.conf", conf) if isinstance(conf, str) else conf
        ends_with_advice(lab, table, what, advice, conf, *flags, **where)

    def with_timeouts(lines):
        return good.replace("token: 1000", lines)

    ends("misspelt value", r"conf:5: totem\.token must be a whole number", with_timeouts("token: 1 s"))
    ends("brace left out", r"conf:\d+: .*add the missing `}`", good.replace("}\nquorum", "\nquorum"))
    ends(
        "values that disagree",
        r"consensus \(90 ms\) must .* totem\.join \(100 ms\)",
        with_timeouts("join: 100\n  consensus: 90"),
    )
    ends("not in the list", "add a node .* --name", corosync_conf(nodelist=node_list({2: 2})))
    ends("no such interface", "no interface .*bindnetaddr.* 10.77.0.1", corosync_conf(network="10.99.0.0"))
    ends("no such file", "cannot be read .* -c FILE", lab.directory / "absent.conf")
    ends("a directory", "cannot be read .* -c FILE", lab.directory)
    secret = lab.write("secret.conf", good)
    secret.chmod(0o600)
    ends("unreadable file", "let this user read it", secret, user="nobody")
    ends("port in use", "UDP port 5405 .* stop the other node .* mcastport", lab.conf, host=2)
    ends(
        "socket in use",
        "stop it, or name another path with --socket",
        lab.conf,
        "--socket",
        lab.nodes[2].socket,
    )


def a_newcomer_whose_listed_id_is_taken_gives_up(lab, table):
    """Its node list says that node 2 is on its own host; those of the ring, that it is on host 2."""
    lab.start_node(1)
    lab.start_node(2)
    lab.agreement([1, 2], patience=timeouts(lab))
    conf = lab.write("other.conf", corosync_conf(nodelist=node_list({1: 1, 3: 2})))
    ends_with_advice(lab, table, "node 2 again", "id 2.* an id of its own", conf, host=3)
    lab.agreement([1, 2], patience=timeouts(lab))


def a_newcomer_whose_generated_id_is_taken_gives_up(lab, table):
    """There are no node lists, and two addresses differ only in the bit that `clear_node_high_bit` clears."""
    ids = [int(ipaddress.IPv4Address(address(host))) for host in (1, 2)]
    without_list = {"totem": "  clear_node_high_bit: yes\n", "nodelist": ""}
    conf = lab.write("no-list.conf", corosync_conf(**without_list))
    for host in (1, 2):
        lab.start_node(host, conf, "--expected-votes", "2")
    lab.agreement([1, 2], ids=ids, patience=timeouts(lab))
    subprocess.run(lab.on(3, "ip", "address", "add", "138.77.0.2/24", "dev", "e0"), check=True)
    conf = lab.write("other.conf", corosync_conf(**without_list, network="138.77.0.0"))
    ends_with_advice(lab, table, "the same address", f"id {ids[1]}.* an id of its own", conf, host=3)
    lab.agreement([1, 2], ids=ids, patience=timeouts(lab))


def ends_with_advice(lab, table, what, advice, conf, *flags, host=1, user=None):
    """A node is refused: it ends by itself, and its last words, in one line, say what to do."""
    if "--socket" not in flags:
        flags += ("--socket", lab.directory / "refused.sock")
    done = lab.run(
        "node", "-c", conf, "--state-dir", lab.directory / "state-refused", *flags, host=host, user=user
    )
    *log, last = done.stderr.splitlines() or [""]
    told = last.startswith("quorate: ") and not any(line.startswith("quorate: ") for line in log)
    table.row(
        f"{what}: exit code {done.returncode}", "1", done.returncode == 1 and told and re.search(advice, last)
    )
    table.note(last)


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
    (what_cannot_work_ends_in_one_line_that_says_what_to_do, 2),
    (a_newcomer_whose_listed_id_is_taken_gives_up, 3),
    (a_newcomer_whose_generated_id_is_taken_gives_up, 3),
]


class Table:
    """What was measured, and whether it is as it has to be."""

    def __init__(self, options):
        self.options = options
        self.scenario = ""
        self.passed = self.failed = 0

    def row(self, measure, bound, ok):
        self.passed, self.failed = self.passed + bool(ok), self.failed + (not ok)
        print(f"{self.scenario:<70}  {measure:<44}  {bound:>8}  {'ok' if ok else 'FAILED'}", flush=True)

    def time(self, what, seconds, at_most):
        self.row(f"{what}: {1000 * seconds:.0f} ms", f"{1000 * at_most:.0f} ms", seconds <= at_most)

    def seen(self, what):
        self.row(what, "", True)

    def note(self, text):
        for line in text.splitlines():
            print(f"    {line}", flush=True)


def play(scenario, hosts, table):
    """Plays a scenario on fresh hosts. That it fails is told, and is no reason not to play the others."""
    table.scenario = f"{scenario.__name__.replace('_', ' ')} ({hosts})"
    with tempfile.TemporaryDirectory(prefix="quorate-lab-") as directory:
        # A node that runs as another user has to find the program and its configuration.
        os.chmod(directory, 0o755)
        lab = Lab(shutil.copy(table.options.quorate, directory), hosts, directory)
        try:
            with lab:
                scenario(lab, table)
        except (Failed, OSError, subprocess.SubprocessError) as failure:
            table.row("did not end well", "", False)
            table.note(f"{failure}")
            table.note("\n".join(lab.last_words()))


def main():
    parser = argparse.ArgumentParser(description="Nodes in network namespaces, over real IP multicast.")
    parser.add_argument("quorate", type=pathlib.Path, metavar="QUORATE", help="the program")
    parser.add_argument(
        "--messages", type=int, default=10_000, metavar="N", help="in the message test [10000]"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="play everything so often [1]")
    parser.add_argument("--only", default="", metavar="WORD", help="only scenarios whose name has this word")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("ip"):
        print("skipped: needs root and iproute2")
        return 0
    # Ends as an interrupt does: what was started is ended, what was made is removed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)

    table = Table(options)
    try:
        for scenario, hosts in SCENARIOS * options.repeat:
            if options.only in scenario.__name__.replace("_", " "):
                play(scenario, hosts, table)
    except KeyboardInterrupt:
        print("stopped")
        return 130
    print(f"{table.passed} passed, {table.failed} failed")
    return 1 if table.failed or not table.passed else 0


if __name__ == "__main__":
    sys.exit(main())
