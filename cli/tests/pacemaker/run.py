#!/usr/bin/env python3
"""
Runs an unmodified Pacemaker on Quorate nodes, beside the same on corosync, in network namespaces.

    run.py [--rounds N] [--only WORDS] QUORATE

QUORATE is the program. Each scenario starts three nodes with Pacemaker on each, and kills, stops or
replaces some. The script prints the times, from the signal until a survivor shows the change, and
exits with 1 if a check failed. It needs root, iproute2, and Debian's corosync, libcpg-dev, gcc,
pacemaker, resource-agents and crmsh. If one is missing, it says so and does nothing.

Fencing is switched off, because the hosts have no power switch.
"""

import argparse
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "namespaces"), str(HERE.parent / "interop")]

from cluster import Cluster, dc, online, runs_on
from guide import the_guides_resources_fail_over
from lab import Failed
from replacement import a_node_dies_again_and_again, nodes_are_replaced

def one_resource_fails_over(cluster, table):
    """The host of Pacemaker's DC is killed, a host is shut down, and quorum is lost."""
    everyone = list(cluster.hosts)
    table.note("start until a DC", cluster.start_everything())
    for name, value in [("stonith-enabled", "false"), ("no-quorum-policy", "stop")]:
        cluster.run_on(1, "crm_attribute", "-n", name, "-v", value)
    resource = '<primitive id="d" class="ocf" provider="pacemaker" type="Dummy"/>'
    cluster.run_on(1, "cibadmin", "-C", "-o", "resources", "-X", resource)
    cluster.until(1, runs_on, "the resource runs")

    # The DC's host dies, with the resource on it.
    text = cluster.run_on(1, "crm_mon", "-1", "-n")
    first = dc(text)
    if runs_on(text) != first:
        cluster.run_on(1, "crm_resource", "-r", "d", "--move", "-N", f"n{first}")
        cluster.until(1, lambda text: runs_on(text) == first, "the resource at the DC")
        cluster.run_on(1, "crm_resource", "-r", "d", "--clear")
    others = [host for host in everyone if host != first]
    crashed = cluster.crash(first)
    elected = cluster.until(others[0], lambda text: dc(text) in others, "another DC")
    table.note("kill until a new DC", elected - crashed)
    moved = cluster.until(others[0], lambda text: runs_on(text) in others, "the resource runs elsewhere")
    table.note("kill until the resource runs", moved - crashed)

    # It comes back.
    came = time.monotonic()
    cluster.start_host(first)
    cluster.start_pacemaker(first)
    back = cluster.until(others[0], lambda text: online(text) == everyone, "all nodes again")
    table.note("start until online", back - came)

    # The resource's host is shut down. It may still be moving to the one that came back.
    cluster.run_on(others[0], "crm_resource", "--wait", "--timeout=60s")
    place = runs_on(cluster.run_on(others[0], "crm_mon", "-1", "-n"))
    others = [host for host in everyone if host != place]
    stopped = cluster.shut_down(place)
    moved = cluster.until(others[0], lambda text: runs_on(text) in others, "the resource moved")
    table.note("shutdown until the resource runs", moved - stopped)

    # Without quorum, nothing runs.
    cluster.crash(others[1])
    cluster.until(others[0], lambda text: dc(text) is None and runs_on(text) is None, "nothing runs without quorum")
    cluster.start_host(others[1])
    cluster.start_pacemaker(others[1])
    cluster.until(others[0], lambda text: dc(text) and runs_on(text), "the resource runs again with quorum")


class Table:
    """Times by what was timed, for each kind of node."""

    def __init__(self):
        self.times = {}
        self.kinds = ""

    def note(self, what, seconds):
        self.times.setdefault(what, {}).setdefault(self.kinds, []).append(seconds)

    def print(self):
        print(f"\n{'':<42}{'Quorate, s':>20}{'corosync, s':>20}")
        for what, by_kind in self.times.items():
            cells = (spread(by_kind.get(kinds, [])) for kinds in ("CCC", "RRR"))
            print(f"{what:<42}" + "".join(f"{cell:>20}" for cell in cells))


def spread(times):
    if not times:
        return ""
    return f"{statistics.median(times):.1f}" + (f", at most {max(times):.1f}" if len(times) > 1 else "")


def missing():
    if os.geteuid() != 0:
        return "root"
    programs = ["ip", "corosync", "corosync-cfgtool", "gcc", "nsenter", "pacemakerd", "crm_mon", "crm"]
    wanted = [program for program in programs if not shutil.which(program)]
    files = {
        "libcpg-dev": "/usr/include/corosync/cpg.h",
        "resource-agents": "/usr/lib/ocf/resource.d/heartbeat/IPaddr2",
        "pacemaker-resource-agents": "/usr/lib/ocf/resource.d/pacemaker/Stateful",
    }
    wanted += [package for package, file in files.items() if not pathlib.Path(file).exists()]
    return ", ".join(wanted)


# The scenarios, the kinds of their nodes (C is Quorate, R is corosync), and how often each is played
# if not as often as asked for. Quorate and corosync take turns.
SCENARIOS = [
    (one_resource_fails_over, "CCC", None),
    (one_resource_fails_over, "RRR", None),
    (the_guides_resources_fail_over, "CCC", None),
    (the_guides_resources_fail_over, "RRR", None),
    (nodes_are_replaced, "RRR", 1),
    (a_node_dies_again_and_again, "CCC", 1),
    (a_node_dies_again_and_again, "RRR", 1),
]


def play(options, scenario, kinds, name, table):
    """Plays a scenario once. Returns the number of failures."""
    table.kinds = kinds
    started, verdict = time.monotonic(), "ok"
    with tempfile.TemporaryDirectory(prefix="quorate-pacemaker-") as directory:
        cluster = Cluster(options, kinds, directory)
        try:
            with cluster:
                try:
                    scenario(cluster, table)
                finally:
                    for host in cluster.nodes:
                        cluster.kill_pacemaker(host)
        except (Failed, OSError, subprocess.SubprocessError) as failure:
            verdict = f"FAILED: {failure}"
            print("\n".join(cluster.last_words(4)))
    print(f"{name}: {time.monotonic() - started:.0f} s, {verdict}", flush=True)
    return verdict != "ok"


def main():
    parser = argparse.ArgumentParser(description="Pacemaker on Quorate nodes, beside the same on corosync.")
    parser.add_argument("quorate", type=pathlib.Path, metavar="QUORATE", help="the program")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="how often for each kind of node [1]")
    parser.add_argument("--only", default="", metavar="WORDS", help="only scenarios whose name has these words")
    options = parser.parse_args()
    if wanted := missing():
        print(f"skipped: needs {wanted}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    table, failed = Table(), 0
    with tempfile.TemporaryDirectory(prefix="quorate-pacemaker-") as programs:
        options.cpg = pathlib.Path(programs) / "cpg"
        source = HERE.parent / "interop" / "cpg.c"
        subprocess.run(["gcc", "-std=gnu11", "-O2", "-o", options.cpg, source, "-lcpg"], check=True)
        for scenario, kinds, rounds in SCENARIOS:
            name = scenario.__name__.replace("_", " ") + f" ({kinds})"
            if options.only in name:
                for _ in range(options.rounds if rounds is None else rounds):
                    failed += play(options, scenario, kinds, name, table)
    table.print()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
