#!/usr/bin/env python3
"""
Runs an unmodified Pacemaker on Quorate nodes, beside the same on corosync, in network namespaces.

    run.py [--rounds N] [--only KINDS] QUORATE

QUORATE is the program. Each round starts three nodes with Pacemaker on each, configures a resource,
kills the host of Pacemaker's DC, and starts it again. Then the resource's host is shut down. The
script prints the times, from the signal until a survivor shows the change, and exits with 1 if a
check failed. It needs root, iproute2, and Debian's corosync, libcpg-dev, gcc and pacemaker. If one
is missing, it says so and does nothing.

Fencing is switched off, because the hosts have no power switch.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "namespaces"), str(HERE.parent / "interop")]

from lab import Failed
from mixed import Mixed

# The longest wait, in seconds. Pacemaker waits 20 s for a DC before its first election.
PATIENCE = 90

# Gives Pacemaker its own files on a host, and starts it.
START = """
mkdir -p {dir}/pcmk/blackbox {dir}/pcmk/cib {dir}/pcmk/cores {dir}/pcmk/pengine {dir}/plog
mkdir -p /run/crm /run/resource-agents
chown -R hacluster:haclient {dir}/pcmk {dir}/plog /run/crm
chmod 750 {dir}/pcmk {dir}/pcmk/* /run/crm
mountpoint -q /var/lib/pacemaker || mount --bind {dir}/pcmk /var/lib/pacemaker
mountpoint -q /var/log/pacemaker || mount --bind {dir}/plog /var/log/pacemaker
cd /
export PCMK_logfacility=none
exec pacemakerd
"""


class Cluster(Mixed):
    """Hosts with Pacemaker on their nodes."""

    def __enter__(self):
        # hacluster has to reach its files below.
        self.directory.chmod(0o755)
        return super().__enter__()

    def start_pacemaker(self, host):
        node = self.nodes[host]
        own = self.directory / f"host-{host}"
        own.chmod(0o755)
        with open(self.directory / f"pacemaker-{host}.log", "a") as log:
            node.pacemakerd = self.start(node.on("sh", "-e", "-c", START.format(dir=own)), stdout=log, stderr=log)

    def start_host(self, host, kind=None):
        node = super().start_host(host, kind)
        node.pacemakerd = None
        return node

    def crash(self, host):
        """Kills everything of a node and of Pacemaker on a host. Returns the time."""
        node = self.nodes[host]
        network = os.readlink(f"/proc/{node.process.pid}/ns/net")
        at = self.kill(host)
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text()
                if os.readlink(process / "ns/net") == network and name.startswith("pacemaker"):
                    os.kill(int(process.name), signal.SIGKILL)
        return at

    def shut_down(self, host):
        """Stops Pacemaker and then the node on a host, as systemd does. Returns the time."""
        node = self.nodes[host]
        at = time.monotonic()
        node.pacemakerd.terminate()
        node.pacemakerd.wait(timeout=PATIENCE)
        node.expected = False
        code, text = node.run("corosync-cfgtool", "-H", "--force")
        # systemd sends SIGTERM once its command has ended.
        node.process.terminate()
        if code or node.process.wait(timeout=PATIENCE):
            raise Failed(f"corosync-cfgtool -H --force ended with {code}, {node.process.returncode}: {text}")
        return at

    def run_on(self, host, *command):
        code, text = self.nodes[host].run(*command)
        if code:
            raise Failed(f"{' '.join(command)} on host {host} ended with {code}: {text}")
        return text

    def until(self, host, condition, what):
        """Waits until what `crm_mon -1` shows on a host fulfils a condition. Returns the time."""
        until = time.monotonic() + PATIENCE
        text = ""
        while time.monotonic() < until:
            self.look_after_daemons()
            code, text = self.nodes[host].run("crm_mon", "-1", "-n")
            if code == 0 and condition(text):
                return time.monotonic()
            time.sleep(0.05)
        raise Failed(f"not after {PATIENCE} s on host {host}: {what}:\n{text}")


def dc(text):
    """Returns the host of Pacemaker's DC, if its partition has quorum."""
    found = re.search(r"Current DC: n(\d) .*partition with quorum", text)
    return int(found[1]) if found else None


def online(text):
    return sorted(int(node) for node in re.findall(r"Node n(\d): online", text))


def runs_on(text):
    """Returns the host on which the resource runs."""
    place = None
    for line in text.splitlines():
        if node := re.search(r"Node n(\d):", line):
            place = int(node[1])
        elif re.search(r"ocf:.*Dummy\).*Started", line):
            return place
    return None


def round(cluster, table):
    everyone = list(cluster.hosts)
    started = time.monotonic()
    for host in everyone:
        cluster.start_host(host)
    # One after the other, since Pacemaker takes a moment each.
    for host in everyone:
        cluster.start_pacemaker(host)
    whole = cluster.until(1, lambda text: dc(text) and online(text) == everyone, "all nodes, and a DC")
    table.note("start until a DC", whole - started)
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

    # The resource's host is shut down.
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
        print(f"\n{'':<36}{'Quorate, s':>20}{'corosync, s':>20}")
        for what, by_kind in self.times.items():
            cells = (spread(by_kind.get(kinds, [])) for kinds in ("CCC", "RRR"))
            print(f"{what:<36}" + "".join(f"{cell:>20}" for cell in cells))


def spread(times):
    if not times:
        return ""
    return f"{statistics.median(times):.1f}" + (f", at most {max(times):.1f}" if len(times) > 1 else "")


def missing():
    if os.geteuid() != 0:
        return "root"
    programs = ["ip", "corosync", "corosync-cfgtool", "gcc", "nsenter", "pacemakerd", "crm_mon"]
    wanted = [program for program in programs if not shutil.which(program)]
    if not pathlib.Path("/usr/include/corosync/cpg.h").exists():
        wanted.append("libcpg-dev")
    return ", ".join(wanted)


def main():
    parser = argparse.ArgumentParser(description="Pacemaker on Quorate nodes, beside the same on corosync.")
    parser.add_argument("quorate", type=pathlib.Path, metavar="QUORATE", help="the program")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="how often for each kind of node [1]")
    parser.add_argument("--only", default="", metavar="KINDS", help="only CCC (Quorate) or RRR (corosync)")
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
        for n, kinds in [(n, kinds) for n in range(1, options.rounds + 1) for kinds in ("CCC", "RRR")]:
            if options.only not in kinds:
                continue
            table.kinds = kinds
            started, verdict = time.monotonic(), "ok"
            with tempfile.TemporaryDirectory(prefix="quorate-pacemaker-") as directory:
                cluster = Cluster(options, kinds, directory)
                try:
                    with cluster:
                        try:
                            round(cluster, table)
                        finally:
                            for host in cluster.hosts:
                                if host in cluster.nodes and cluster.nodes[host].process.poll() is None:
                                    cluster.crash(host)
                except (Failed, OSError, subprocess.SubprocessError) as failure:
                    verdict, failed = f"FAILED: {failure}", failed + 1
                    print("\n".join(cluster.last_words(4)))
            print(f"round {n} on {'Quorate' if kinds == 'CCC' else 'corosync'}: {time.monotonic() - started:.0f} s, {verdict}", flush=True)
    table.print()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
