"""The answers of nodes that have lost their ring: quorum and leases end with the ring."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

from daemon import until
from lab import GRACE, Failed, address, timeouts, token_timeout


def said(lab, host):
    """Returns the current answer of a node."""
    return json.loads(lab.nodes[host].status("--json"))["status"]


def without_ring(lab, host, since, table, at_most=0):
    """Waits until a node reports by itself that it has no ring.

    That may take the token timeout from `since`, or `at_most`.
    """
    node = lab.nodes[host]
    with lab.news:
        lab.news.wait_for(lambda: not node.view.quorate, 3 * timeouts(lab))
        view = node.view
    if view.quorate or view.settled:
        raise Failed(f"node {host} still says: {view}")
    table.time("told", view.at - since, at_most or token_timeout(len(lab.hosts)) + GRACE)


def never_quorate(lab, host, seconds):
    """Asks a node repeatedly, in every way there is, and checks that it is never quorate."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = said(lab, host)
        if status["quorate"] or status["term"] or status["lease"] != "none":
            raise Failed(f"node {host} says that it is quorate: {status}")
        code = lab.run("quorum", "--socket", lab.nodes[host].socket).returncode
        if code != 2:
            raise Failed(f"quorate quorum of node {host} ends with {code}")
        if lab.run("status", "--quorate", "--socket", lab.nodes[host].socket).returncode != 1:
            raise Failed(f"quorate status --quorate of node {host} does not end with 1")


def a_node_that_loses_its_address_is_not_quorate(lab, table):
    lab.start_ring()
    words = lab.directory / "watch-1"
    with open(words, "w") as out:
        lab.start([lab.quorate, "watch", "--socket", lab.nodes[1].socket], stdout=out, stderr=out)
    until("the watch begins", lambda: "quorum: votes 3 of 3" in words.read_text())
    # An idle member had the token within the last hold time.
    lost = time.monotonic()
    subprocess.run(["ip", "-n", f"{lab.prefix}1", "address", "flush", "dev", "e0"], check=True)
    without_ring(lab, 1, lost, table)
    until("the watch tells of it", lambda: re.search("NO quorum: .*no ring", words.read_text()))
    table.time("quorate watch told", time.monotonic() - lost, token_timeout(len(lab.hosts)) + 2 * GRACE)
    lab.agreement([2, 3], patience=3 * timeouts(lab))
    never_quorate(lab, 1, 4)
    # Its messages to itself do not use the network, so it knows that it is alone.
    lab.agreement([1], quorate=False, patience=3 * timeouts(lab))
    subprocess.run(["ip", "-n", f"{lab.prefix}1", "address", "add", f"{address(1)}/24", "dev", "e0"], check=True)
    subprocess.run(["ip", "-n", f"{lab.prefix}1", "route", "replace", "224.0.0.0/4", "dev", "e0"], check=True)
    back = time.monotonic()
    table.time("back", lab.agreement(lab.hosts, patience=6 * timeouts(lab)) - back, 4 * timeouts(lab))


def start_first(lab, host, environment=()):
    """Forms a ring of all nodes. The record of this one has the lowest ring numbers."""
    lab.start_node(host, environment=environment)
    lab.agreement([host], quorate=False, patience=3 * timeouts(lab))
    for other in lab.hosts:
        if other != host:
            lab.start_node(other)
    lab.agreement(lab.hosts, patience=10 * timeouts(lab))


def outruns_its_record(lab, table):
    """Node 2 restarts until ring numbers exceed the record of node 3, which cannot be written."""
    lab.nodes[2].terminate()
    lab.nodes[2].process.wait(timeout=10)
    lab.start_node(2)
    restarted = time.monotonic()
    without_ring(lab, 3, restarted, table, timeouts(lab))
    lab.agreement([1, 2], patience=6 * timeouts(lab))
    log = lab.nodes[3].log.read_text()
    table.row("its log says why", "", "cannot store the record" in log or "the disk has not stored the record" in log)
    notices = [notice["text"] for notice in json.loads(lab.nodes[3].status("--json"))["notices"]]
    table.row("its status says why", "", any("waits for its disk and joins no new ring" in text for text in notices))
    rings = len(lab.nodes[1].rings)
    never_quorate(lab, 3, 4)
    changes = len(lab.nodes[1].rings) - rings
    table.row(f"{changes} ring changes of the others in 4 s", "2", changes <= 2)


def a_node_whose_disk_is_full_is_not_quorate_without_a_ring(lab, table):
    """Another node restarts until ring numbers exceed the record, which cannot be written."""
    state = lab.directory / "state-3"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=755", "quorate-state", state], check=True)
    try:
        start_first(lab, 3)
        fill = state / "fill"
        with contextlib.suppress(OSError), open(fill, "wb", buffering=0) as file:
            while True:
                file.write(bytes(512))
        outruns_its_record(lab, table)
        fill.unlink()
        space = time.monotonic()
        table.time("back", lab.agreement(lab.hosts, patience=6 * timeouts(lab)) - space, 4 * timeouts(lab))
    finally:
        for node in lab.nodes.values():
            node.kill()
            node.process.wait()
        subprocess.run(["umount", state], check=True)


def a_node_whose_disk_stands_still_is_not_quorate(lab, table):
    """The disk gets stuck while the node runs. Then another node restarts."""
    environment, _, stuck = lab.shim()
    start_first(lab, 3, environment)
    stuck.touch()
    outruns_its_record(lab, table)
    stuck.unlink()
    goes = time.monotonic()
    table.time("back", lab.agreement(lab.hosts, patience=6 * timeouts(lab)) - goes, 4 * timeouts(lab))


def a_dc_that_stood_still_says_so_when_it_is_asked(lab, table):
    """It is asked while it is stopped. The answer is the first thing that it does afterwards."""
    lab.start_ring()
    for _ in range(3):
        lab.agreement(lab.hosts, patience=6 * timeouts(lab))
        dc = lab.nodes[1].view.dc
        others = [host for host in lab.hosts if host != dc]
        os.kill(lab.nodes[dc].process.pid, signal.SIGSTOP)
        asked = lab.start(
            [lab.quorate, "status", "--json", "--socket", lab.nodes[dc].socket],
            stdout=subprocess.PIPE,
            text=True,
        )
        lab.agreement(others, patience=3 * timeouts(lab))
        old = lab.terms[dc]
        os.kill(lab.nodes[dc].process.pid, signal.SIGCONT)
        answer, _ = asked.communicate(timeout=10)
        status = json.loads(answer)["status"]
        stale = status["lease"] == "held" or status["quorate"] and status["dc"] == dc
        table.row(f"DC {dc}, lease {status['lease']}, quorate {status['quorate']}", "", not stale)
        term = status["term"] and int(status["term"]["fencing_token"])
        # It may answer when it is already in a ring again, in which a later term has begun.
        table.row("it does not tell the old term", "", term is None or term > old)
        held = polls = 0
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            polls += 1
            held += said(lab, dc)["lease"] == "held"
        table.row(f"it holds the lease in {held} of {polls} polls after it", "0", held == 0)
        went_on = time.monotonic()
        lab.agreement(lab.hosts, patience=3 * timeouts(lab))
        table.time("one ring", time.monotonic() - went_on, timeouts(lab))


def a_stalled_dc_that_a_peer_does_not_hear_holds_no_lease(lab, table):
    lab.start_ring()
    dc = lab.nodes[1].view.dc
    other = dc % 3 + 1
    lab.netns("cutway", dc, other)
    os.kill(lab.nodes[dc].process.pid, signal.SIGSTOP)
    time.sleep(4)
    os.kill(lab.nodes[dc].process.pid, signal.SIGCONT)
    holds = lambda host: said(lab, host)["lease"] == "held"
    both = polls = 0
    end = time.monotonic() + 8
    while time.monotonic() < end:
        polls += 1
        # Asked before and after the others, because a role that is handed over meanwhile is not
        # an error.
        both += holds(dc) and any(holds(host) for host in lab.hosts if host != dc) and holds(dc)
    table.row(f"two held a lease in {both} of {polls} polls", "0", both == 0)


def a_node_that_one_peer_does_not_hear_is_quorate_in_a_ring_only(lab, table):
    lab.start_ring()
    lab.netns("cutway", 3, 1)
    seen = time.monotonic()
    stale = polls = 0
    end = seen + 10
    while time.monotonic() < end:
        asked = time.monotonic()
        status = said(lab, 3)
        rings = [said(lab, host)["ring"] for host in (1, 2)]
        polls += 1
        if status["ring"] in rings:
            seen = asked
        stale += status["quorate"] and asked - seen > token_timeout(len(lab.hosts)) + GRACE
    table.row(f"quorate alone in {stale} of {polls} polls", "0", stale == 0)


SCENARIOS = [
    (a_node_that_loses_its_address_is_not_quorate, 3),
    (a_node_whose_disk_is_full_is_not_quorate_without_a_ring, 3),
    (a_node_whose_disk_stands_still_is_not_quorate, 3),
    (a_dc_that_stood_still_says_so_when_it_is_asked, 3),
    (a_stalled_dc_that_a_peer_does_not_hear_holds_no_lease, 3),
    (a_node_that_one_peer_does_not_hear_is_quorate_in_a_ring_only, 3),
]
