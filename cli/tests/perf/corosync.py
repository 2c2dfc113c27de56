"""Rings of real corosync daemons that are measured through libcpg, and what their hosts can do at best."""

import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path += [str(HERE.parent / "namespaces"), str(HERE.parent / "interop")]

from lab import Failed, Lab, corosync_conf, node_list
from mixed import Corosync

# How long daemons may take to become a ring.
PATIENCE = 60
# What a raw datagram holds, and how many are sent at a time.
RAW_SIZE, RAW_WINDOW, RAW_SECONDS = 1400, 50, 0.5

# The setting that makes corosync fastest, of those that were tried: frames of IP fragments.
FASTEST = "  netmtu: 60000\n"


class Programs:
    """The clients, compiled."""

    def __init__(self, directory):
        self.cpg = self.compiled(directory, HERE.parent / "interop" / "cpg.c", "-lcpg")
        self.load = self.compiled(directory, HERE / "load.c", "-lcpg")
        self.raw = self.compiled(directory, HERE / "raw.c")

    def compiled(self, directory, source, *libraries):
        program = pathlib.Path(directory) / source.stem
        flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra"]
        subprocess.run(["gcc", *flags, "-o", program, source, *libraries], check=True)
        return program


class Ring(Lab):
    """Hosts, and a daemon on each once they are started: as it is by default, but for what `totem` says."""

    hosts_are = ("offload",)
    system = ""

    def __init__(self, programs, hosts, directory, totem="", transport="udp"):
        super().__init__(None, hosts, tempfile.mkdtemp(dir=directory), prefix="qp")
        self.programs, self.cpg = programs, programs.cpg
        nodes = node_list({host: host for host in self.hosts})
        conf = corosync_conf(transport=transport, totem=totem, nodelist=nodes)
        self.conf = self.write("corosync.conf", conf)
        self.groups = itertools.count()

    def __exit__(self, *_):
        super().__exit__()
        shutil.rmtree(self.directory)

    def start_all(self):
        """One after another: of simultaneous starts, 3.1.7 itself aborts in about one of thirteen."""
        running = []
        for host in self.hosts:
            running.append(host)
            self.nodes[host] = Corosync(self, host)
            self.settle(running)

    def settle(self, hosts):
        views = lambda: [self.nodes[host].view for host in hosts]
        with self.news:
            if not self.news.wait_for(lambda: all(view and view.members == hosts for view in views()), PATIENCE):
                raise Failed(f"no ring of {hosts} in {PATIENCE} s: {'; '.join(map(str, views()))}")

    def end_all(self):
        for node in self.nodes.values():
            node.process.kill()
            node.process.wait()

    def client(self, host, *arguments):
        """Starts a client, which does what it is asked to and prints it."""
        command = self.nodes[host].on(self.programs.load, *arguments)
        return self.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def throughput(self, size, senders, seconds, rate=0.0, meanwhile=lambda: None):
        """
        What the slowest of the clients got, one on each host, of which so many send; as fast as they can, or at this rate,
        all together. While they do, `meanwhile` is called.
        """
        group = f"load{next(self.groups)}"
        clients = [
            self.client(
                host, "send", group, len(self.hosts), senders, int(host <= senders), size, seconds, rate / senders
            )
            for host in self.hosts
        ]
        other = meanwhile()
        got = [said(client, seconds + PATIENCE) for client in clients]
        if len({(one["delivered"], one["order"]) for one in got}) != 1:
            raise Failed("corosync's clients were told of different messages, or in a different order")
        slowest = min(got, key=lambda one: one["delivered"] / one["seconds"])
        rates = {key: slowest[name] / slowest["seconds"] for key, name in [("msgs_s", "delivered"), ("bytes_s", "bytes")]}
        busy = sum(one["busy"] for one in got) / len(got)
        deliveries_s = rates["msgs_s"] * len(self.hosts)
        return {
            "msgs_s": rates["msgs_s"],
            "MB_s": rates["bytes_s"] / 1e6,
            "machine_us_per_delivery": busy * 1e6 / deliveries_s,
            "meanwhile": other,
        }

    def ping(self, host, count, pause_us=0, size=64):
        return said(self.client(host, "ping", f"ping{next(self.groups)}", size, count, pause_us), PATIENCE)

    def raw(self, senders):
        """MB/s of plain multicasts in turn at the slowest host. Nothing else may run there."""
        start = time.monotonic_ns() + 500_000_000
        figures = [len(self.hosts), senders, RAW_SIZE, RAW_WINDOW, start, RAW_SECONDS]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        hosts = [self.start(self.on(host, self.programs.raw, host, *figures), **pipes) for host in self.hosts]
        got = [said(host, PATIENCE) for host in hosts]
        return min(one["received_s"] + one["sent_s"] for one in got) * RAW_SIZE / 1e6


def said(process, patience):
    """What a process prints in the end."""
    try:
        printed, why = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failed("it stalled") from None
    if process.returncode:
        raise Failed(why.strip() or f"a client ended with {process.returncode}")
    return json.loads(printed)
