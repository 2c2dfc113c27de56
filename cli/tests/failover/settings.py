#!/usr/bin/env python3
"""
Measures the benefits and costs of timeout settings. `docs/performance.md` has the table.

    settings.py [--tries N] [--idle SECONDS] [--load SECONDS] [--settings WORD]
                [--measure WHAT,...] [--json FILE] NAME=DIR...

DIR has release builds of the programs `quorate` and `singleton`. Several directories are measured
in turn, one round each, so one run can compare the state before and after a change. Each setting is
measured on three hosts made of network namespaces, over real IP multicast:

- kill:  the time from `kill -9` of the DC to the first claim of another node at the address
         (example `singleton`), and to the new ring;
- cut:   the same when the DC's host is cut off from all others;
- idle:  processor time and datagrams of a node in a ring without messages, and once more with
         `token: 1000` in rings of other sizes, compared with corosync if it is installed
         (`--sizes`);
- pause: how long the DC or another node may be paused (SIGSTOP) so that the DC keeps its lease in
         all of ten tries;
- load:  how often the DC loses its lease while members send and twice as many programs as there are
         processors want to run.

The figures include everything else that the machine does. The script needs root and iproute2.
Without root it says so and does nothing.
"""

import argparse
import json
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

from run import NODES, Failover
from lab import Failed, Lab, corosync_conf, node_list

sys.path.append(str(pathlib.Path(__file__).parent.parent / "perf"))

import corosync

# Name, lines of the section `totem`, lines of the section `quorate`.
SETTINGS = [
    ("the defaults", "", ""),
    ("token: 1000", "token: 1000", ""),
    ("token: 300, token_coefficient: 0", "token: 300\n  token_coefficient: 0", ""),
    ("the same, lease: 150", "token: 300\n  token_coefficient: 0", "lease: 150"),
    ("token: 200, token_coefficient: 0, hold: 15, lease: 60", "token: 200\n  token_coefficient: 0\n  hold: 15", "lease: 60"),
]
ROUND = 5
# The lengths of pauses that are tried, in hundredths of a second.
PAUSES = [2, 4, 6, 8, 10, 12, 15, 18, 21, 24, 27, 30, 40, 60, 90, 120, 150, 200]


# The setting for rings of other sizes.
USUAL = SETTINGS[1]


def conf(setting, hosts):
    _, totem, quorate = setting
    text = corosync_conf(nodelist=node_list({host: host for host in hosts}))
    text = text.replace("  token: 1000\n", f"  {totem}\n" if totem else "")
    return text.replace("quorate {\n", f"quorate {{\n  {quorate}\n" if quorate else "quorate {\n")


class Claimed(Failover):
    """Three members of `singleton` with one setting."""

    def __init__(self, program, directory, setting):
        options = argparse.Namespace(singleton=program / "singleton")
        super().__init__(options, directory)
        self.conf = self.write("corosync.conf", conf(setting, NODES))


class Ring(Lab):
    """`nodes` instances of `quorate node` with one setting."""

    def __init__(self, program, directory, setting, nodes=len(NODES)):
        super().__init__(program / "quorate", nodes, directory, prefix="qs")
        self.conf = self.write("corosync.conf", conf(setting, self.hosts))

    def leases(self, host):
        """Returns the lease states that a node has logged since it started."""
        return re.findall(r"lease=(\w+)", (self.directory / f"node-{host}.log").read_text(errors="replace"))

    def dc(self):
        """Waits until a DC acts, and returns it."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for host in self.hosts:
                if self.leases(host)[-1:] == ["Held"]:
                    return host
            time.sleep(0.02)
        raise Failed("no node acts as DC")

    def revoked(self):
        """Returns how often a held lease was lost."""
        told = [self.leases(host) for host in self.hosts]
        return sum(
            before == "Held" != after for leases in told for before, after in zip(leases, leases[1:])
        )


def takeovers(program, setting, how, tries):
    """Returns the times in milliseconds until another node acted, and until the new ring stood."""
    found = []
    with tempfile.TemporaryDirectory(prefix="quorate-settings-") as directory:
        with Claimed(program, directory, setting) as lab:
            lab.start_all()
            for _ in range(tries):
                dc = lab.whole()
                time.sleep(1 + lab.random.random())
                if how == "kill":
                    at = lab.nodes[dc].send(signal.SIGKILL)
                else:
                    at = plug(lab, dc, "down")
                found.append(takeover(lab, dc, at))
                if how == "kill":
                    lab.start_node(dc)
                else:
                    time.sleep(0.5)
                    plug(lab, dc, "up")
                lab.whole()
    return found


def takeover(lab, dc, at):
    """Returns the milliseconds from `at` until another node acted, and until it had a new ring."""
    survivors = [host for host in NODES if host != dc]
    lab.until(lambda: lab.address.first_by_another(dc, at), f"another node than {dc} acts")
    claim = lab.address.first_by_another(dc, at)

    def ring():
        return next((then for then, members in lab.nodes[claim.node].rings if then >= at and members == survivors), None)

    lab.until(ring, f"node {claim.node} tells of its ring")
    return 1000 * (claim.at - at), 1000 * (ring() - at)


def plug(lab, host, state):
    """Unplugs a host's cable from the switch, or plugs it in again. Returns the time."""
    command = lab.on("switch", "ip", "link", "set", f"v{host}", state)
    before = time.monotonic()
    subprocess.run(command, check=True)
    return (before + time.monotonic()) / 2


def idle(program, setting, nodes, seconds):
    with tempfile.TemporaryDirectory(prefix="quorate-settings-") as directory:
        with Ring(program, directory, setting, nodes) as lab:
            lab.start_ring()
            lab.dc()
            for node in lab.nodes.values():
                node.watcher.kill()
            return at_rest(lab, seconds)


def idle_corosync(nodes, seconds):
    with tempfile.TemporaryDirectory(prefix="quorate-settings-") as directory:
        with corosync.Ring(corosync.Programs(directory), nodes, directory) as lab:
            lab.start_all()
            return at_rest(lab, seconds)


def at_rest(lab, seconds):
    """Returns a node's processor use in percent, and the datagrams and bytes it sends a second."""
    time.sleep(2)

    def used():
        ticks = packets = size = 0
        for host in lab.hosts:
            fields = pathlib.Path(f"/proc/{pid(lab, host)}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            for name in ("packets", "bytes"):
                command = lab.on(host, "cat", f"/sys/class/net/e0/statistics/tx_{name}")
                number = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                if name == "packets":
                    packets += number
                else:
                    size += number
        return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), packets, size

    before = used()
    time.sleep(seconds)
    took, cpu, packets, size = (now - then for now, then in zip(used(), before))
    nodes = len(lab.hosts)
    return 100 * cpu / took / nodes, packets / took / nodes, size / took / nodes


def pid(lab, host):
    """Returns the id of the node's process, which replaces `ip netns exec`."""
    return lab.nodes[host].process.pid


def pause(program, setting):
    """Returns the longest pause, in seconds, that cost the DC its lease in none of ten tries."""
    survived = 0
    with tempfile.TemporaryDirectory(prefix="quorate-settings-") as directory:
        with Ring(program, directory, setting) as lab:
            lab.start_ring()
            for hundredths in PAUSES:
                for number in range(10):
                    dc = lab.dc()
                    before = lab.revoked()
                    host = dc if number % 2 else dc % 3 + 1
                    time.sleep(0.2 + 0.013 * number)
                    lab.nodes[host].process.send_signal(signal.SIGSTOP)
                    time.sleep(hundredths / 100)
                    lab.nodes[host].process.send_signal(signal.SIGCONT)
                    time.sleep(0.3)
                    if lab.revoked() > before:
                        return survived
                survived = hundredths / 100
    return survived


def load(program, setting, seconds, busy, log):
    """Returns how often a lease was lost, and how often a ring."""
    with tempfile.TemporaryDirectory(prefix="quorate-settings-") as directory:
        with Ring(program, directory, setting) as lab:
            lab.start_ring()
            lab.dc()
            rings = [len(node.rings) for node in lab.nodes.values()]
            before, began = lab.revoked(), time.monotonic()
            spin = ["sh", "-c", "while :; do :; done"]
            for _ in range(busy):
                lab.start(spin)
            say = "while :; do for i in 1 2 3 4 5; do echo some words; done; sleep 0.01; done"
            for host in lab.hosts:
                speaker = lab.start(["sh", "-c", say], stdout=subprocess.PIPE)
                lab.start(
                    [lab.quorate, "cat", "load", "--socket", lab.nodes[host].socket],
                    stdin=speaker.stdout,
                    stdout=subprocess.DEVNULL,
                )
            while time.monotonic() < began + seconds:
                time.sleep(min(60, max(0, began + seconds - time.monotonic())))
                took = time.monotonic() - began
                changed = sum(len(node.rings) - count for node, count in zip(lab.nodes.values(), rings))
                log(
                    f"    {setting[0]}: {took:.0f} s: {lab.revoked() - before} leases lost, {changed} rings, "
                    f"load {os.getloadavg()[0]:.1f}"
                )
            return lab.revoked() - before, changed


def show(values, digits=0):
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} / {max(values):.{digits}f}"


def main():
    parser = argparse.ArgumentParser(description="Measures the benefits and costs of timeout settings.")
    parser.add_argument("programs", nargs="+", metavar="NAME=DIR", help="where release builds are")
    parser.add_argument("--tries", type=int, default=20, help="kills and cuts of each setting [20]")
    parser.add_argument("--idle", type=float, default=30, metavar="SECONDS", help="how long to look at an idle ring [30]")
    parser.add_argument("--sizes", default="3,8", metavar="N,...", help="sizes of idle rings compared with corosync [3,8]")
    parser.add_argument("--load", type=float, default=300, metavar="SECONDS", help="how long the load lasts [300]")
    parser.add_argument("--busy", type=int, default=2 * os.cpu_count(), metavar="N", help="programs that compete with the load [two per processor]")
    parser.add_argument("--settings", default="", metavar="WORD", help="only settings whose name has this word")
    parser.add_argument("--measure", default="kill,cut,idle,pause,load", metavar="WHAT,...", help="what to measure [all]")
    parser.add_argument("--json", metavar="FILE", help="write all that was measured to this file, too")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("ip"):
        print("skipped: needs root and iproute2")
        return 0
    # The logs contain what happens to leases.
    os.environ["RUST_LOG"] = "info"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    programs = {name: pathlib.Path(path) for name, _, path in (word.partition("=") for word in options.programs)}
    settings = [setting for setting in SETTINGS if options.settings in setting[0]]
    wanted = options.measure.split(",")
    found = {}

    def log(text):
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def measure(what, setting, name, function, *arguments):
        try:
            value = function(programs[name], setting, *arguments)
        except Failed as why:
            log(f"    {name}, {setting[0]}, {what}: {why}")
            return None
        log(f"    {name}, {setting[0]}, {what}: {value}, load {os.getloadavg()[0]:.1f}")
        return value

    try:
        for setting in settings:
            for how in ("kill", "cut"):
                for done in range(0, options.tries if how in wanted else 0, ROUND):
                    for name in programs:
                        tries = min(ROUND, options.tries - done)
                        values = measure(how, setting, name, takeovers, how, tries)
                        found.setdefault((setting[0], name, how), []).extend(values or [])
            for name in programs:
                if "idle" in wanted:
                    nodes = len(NODES)
                    found[setting[0], name, "idle"] = measure("idle", setting, name, idle, nodes, options.idle)
                if "pause" in wanted:
                    found[setting[0], name, "pause"] = measure("pause", setting, name, pause)
                if "load" in wanted:
                    found[setting[0], name, "load"] = measure("load", setting, name, load, options.load, options.busy, log)
        sizes = [int(size) for size in options.sizes.split(",") if size] if "idle" in wanted else []
        for nodes in sizes:
            for name in programs:
                what = f"idle, {nodes} nodes"
                found[USUAL[0], name, what] = measure(what, USUAL, name, idle, nodes, options.idle)
            if shutil.which("corosync"):
                found[USUAL[0], "corosync", f"idle, {nodes} nodes"] = idle_corosync(nodes, options.idle)
    except KeyboardInterrupt:
        print("stopped")
        return 130

    print("\n| settings | program | kill -9: acts, ms | ring, ms | cut off: acts, ms | ring, ms |", end="")
    print(f" idle, % | datagrams/s | B/s | pause, s | lost in {options.load:.0f} s |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for setting in settings:
        for name in programs:
            row = [setting[0], name]
            for how in ("kill", "cut"):
                values = found.get((setting[0], name, how), [])
                row += [show([total for total, _ in values]), show([ring for _, ring in values])]
            usage = found.get((setting[0], name, "idle"))
            row += [f"{usage[0]:.2f}", f"{usage[1]:.1f}", f"{usage[2]:.0f}"] if usage else ["-"] * 3
            rest, lost = found.get((setting[0], name, "pause")), found.get((setting[0], name, "load"))
            row += ["-" if rest is None else f"{rest:.2f}", "-" if lost is None else str(lost[0])]
            print(f"| {' | '.join(row)} |")
    print(f"\n| idle, {USUAL[0]} | program | processor, % | datagrams/s | B/s |")
    print("|---:|---|---:|---:|---:|")
    for nodes in sizes:
        for name in [*programs, "corosync"]:
            if usage := found.get((USUAL[0], name, f"idle, {nodes} nodes")):
                print(f"| {nodes} | {name} | {usage[0]:.2f} | {usage[1]:.1f} | {usage[2]:.0f} |")
    if options.json:
        lines = [{"setting": key[0], "program": key[1], "what": key[2], "found": value} for key, value in found.items()]
        pathlib.Path(options.json).write_text(json.dumps(lines, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
