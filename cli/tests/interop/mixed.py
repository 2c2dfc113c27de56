"""Rings of real corosync daemons and Quorate nodes, on hosts made of network namespaces."""

import contextlib
import json
import pathlib
import re
import signal
import subprocess
import threading
import time

from lab import Failed, Lab

# The longest wait for a change, in seconds, on a machine that is busy with other things.
PATIENCE = 60

# Starts a node with its own host name, files and sockets, as if on its own machine.
OWN_MACHINE = """
hostname n{host}
mount --bind {dir}/lib /var/lib/corosync
mount --bind {dir}/log /var/log/corosync
mount --bind {dir}/etc /etc/corosync
mount --bind {shm} /dev/shm
mount --bind {dir}/run /run
exec {command}
"""


# What is added to the configuration of each real daemon.
ITS_OWN_CONF = """
logging {
  to_stderr: yes
  to_syslog: no
  timestamp: hires
}
"""
# A daemon with real-time priority may leave no processor for the clients of the others.
NO_PRIORITY = """
system {
  sched_rr: no
  priority: 0
}
"""


class Aborted(Failed):
    """A real daemon ended by itself."""


class Mixed(Lab):
    """
    A lab. `kinds` has a letter for each host: `R` (real daemon), `Q` (Quorate node), `C` (Quorate
    node that is seen through corosync's clients) or `D` (no node, but the server of devices).
    """

    # The section `system` of each daemon's configuration.
    system = NO_PRIORITY

    def __init__(self, options, kinds, directory):
        super().__init__(options.quorate, len(kinds), directory, prefix="qi")
        self.kinds = dict(zip(self.hosts, kinds))
        self.cpg = options.cpg
        self.capture_file = self.directory / "ring.pcap"
        # Whether a daemon can have received anything from a Quorate node.
        self.quorate_heard = False

    def start_host(self, host, kind=None):
        """Starts the host's kind of node, or another kind."""
        self.kinds[host] = kind or self.kinds[host]
        self.quorate_heard |= self.kinds[host] != "R"
        match self.kinds[host]:
            case "R":
                self.nodes[host] = Corosync(self, host)
            case "C":
                self.nodes[host] = Serving(self, host)
            case _:
                self.start_node(host)
        return self.nodes[host]

    def start_all(self, *hosts, dc=None):
        """Starts hosts one after another, so that each daemon is up before the next one starts.

        Returns when the last one was started, and when both kinds of nodes knew of it.
        """
        running = []
        for host in hosts or self.hosts:
            started = time.monotonic()
            self.start_host(host)
            running.append(host)
            joined = self.settle(running, dc=dc or self.first_ours(running))
        return started, joined

    def first_ours(self, hosts):
        """Returns the first Quorate node among these hosts."""
        return next((host for host in hosts if self.kinds[host] in "QC"), None)

    def only(self, kinds, hosts=None):
        return [host for host in hosts or self.hosts if self.kinds[host] in kinds]

    def look_after_daemons(self):
        for host, node in self.nodes.items():
            if node.expected and node.process.poll() is not None:
                kind = Aborted if self.kinds[host] == "R" else Failed
                raise kind(f"{node} ended by itself, with {node.process.returncode}")

    def settle(self, hosts, *, dc):
        """
        Waits until these hosts form one ring without others, with its sync done and with this DC.

        `dc` is `None` if no node can be DC. Returns when the last real and the last Quorate node
        knew of the ring.
        """
        hosts = sorted(hosts)
        quorate = len(hosts) > len(self.hosts) // 2

        def settled():
            views = {host: self.nodes[host].view for host in hosts}
            for host, view in views.items():
                if not view:
                    return False
                if self.kinds[host] in "RC" and view.members != hosts:
                    return False
                if self.kinds[host] == "Q" and not (view.is_of(hosts, quorate) and view.dc == dc):
                    return False
            return len({view.ring for view in views.values()}) == 1

        self.wait(settled, lambda: f"hosts {hosts} are not one ring with DC {dc}: {self.views(hosts)}")
        assert (dc is None) == (not self.only("QC", hosts))
        knew = {host: self.nodes[host].view.at for host in hosts}
        return [max((knew[host] for host in self.only(kinds, hosts)), default=None) for kinds in ("R", "QC")]

    def wait(self, condition, what, patience=PATIENCE):
        """Waits for a condition on what the clients report. `what` describes its absence."""
        until = time.monotonic() + patience
        while True:
            with self.news:
                if self.news.wait_for(condition, timeout=0.2):
                    break
                if self.wrong:
                    raise Failed("; ".join(self.wrong))
            self.look_after_daemons()
            if time.monotonic() > until:
                raise Failed(f"after {patience} s {what()}")
        self.look_after_daemons()

    def views(self, hosts):
        return "; ".join(f"{self.nodes[host]}: {self.nodes[host].view}" for host in hosts)

    def start_node(self, host, *arguments):
        node = super().start_node(host, *arguments)
        node.expected = True
        return node

    def end(self, host, number):
        """Ends the node on a host. Returns the time."""
        node = self.nodes[host]
        node.expected = False
        return node.end(number)

    def kill(self, host):
        at = self.end(host, signal.SIGKILL)
        self.nodes[host].process.wait(timeout=PATIENCE)
        return at

    def terminate(self, host):
        at = self.end(host, signal.SIGTERM)
        code = self.nodes[host].process.wait(timeout=PATIENCE)
        if code != 0:
            raise Failed(f"{self.nodes[host]} ended with {code} when asked to leave")
        return at

    def compare_quorum(self, real, ours):
        """Checks that `corosync-quorumtool -s` and `quorate status` on two hosts agree."""
        theirs = self.nodes[real].quorum()
        status = json.loads(self.nodes[ours].status("--json"))["status"]
        members = [node for node in status["nodes"] if node["online"]]
        said = {
            "ring": status["ring"],
            "quorate": status["quorate"],
            "expected": status["expected_votes"],
            "total": status["total_votes"],
            "quorum": status["quorum"],
            "members": {node["id"]: (node["votes"], node["name"]) for node in members},
        }
        if said != theirs:
            raise Failed(f"quorate status says {said}, corosync-quorumtool {theirs}")

    def assert_dc_text(self, host):
        """Checks that the text of `quorate status` names the DC that this lab waited for last."""
        dc = self.nodes[host].view.dc
        text = self.nodes[host].status()
        stated = re.search(r"^Current DC: (\S+)", text, re.MULTILINE)[1]
        if stated != (f"n{dc}" if dc else "NONE"):
            raise Failed(f"node {host} states `Current DC: {stated}`, not {dc}")


class Corosync:
    """A real daemon, watched by a client that receives every ring when its sync is done."""

    # The program, as it is called in a list of processes.
    program = "corosync"

    def __init__(self, lab, host):
        self.lab, self.host = lab, host
        self.expected = True
        self.view = None
        self.rings = []
        self.log = lab.directory / f"{self.program}-{host}.log"
        own = lab.directory / f"host-{host}"
        for name in ("etc", "lib", "log", "run"):
            (own / name).mkdir(parents=True, exist_ok=True)
        (own / "etc" / "corosync.conf").write_text(lab.conf.read_text() + ITS_OWN_CONF + lab.system)
        shm = lab.shared_memory(host)
        shm.mkdir(exist_ok=True)
        shm.chmod(0o1777)
        script = OWN_MACHINE.format(host=host, dir=own, shm=shm, command=self.command())
        command = lab.on(host, "unshare", "--mount", "--uts", "--propagation", "private", "sh", "-e", "-c", script)
        with open(self.log, "a") as log:
            self.process = lab.start(command, stdout=log, stderr=log, cwd=own)
        comm = pathlib.Path(f"/proc/{self.process.pid}/comm")
        for _ in range(6000):
            if self.process.poll() is not None:
                raise Aborted(f"{self} ended at once, with {self.process.returncode}")
            with contextlib.suppress(OSError):
                if comm.read_text() == f"{self.program}\n":
                    break
            time.sleep(0.005)
        else:
            raise Failed(f"{self} was not started within 30 s")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        watcher = lab.start(self.on(lab.cpg, "watch"), text=True, **pipes)
        reader = threading.Thread(target=self.watch, args=[watcher])
        lab.readers.append(reader)
        reader.start()

    def __str__(self):
        return f"the {self.program} of host {self.host}"

    def command(self):
        """Returns the command line that starts it on its own machine."""
        return "corosync -f"

    def on(self, *command):
        """Returns the command line that runs a command on this node's machine."""
        return ["nsenter", "-t", str(self.process.pid), "-m", "-n", "-u", "--", *map(str, command)]

    def run(self, *command):
        done = subprocess.run(
            self.on(*command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
        return done.returncode, done.stdout + done.stderr

    def watch(self, watcher):
        for line in watcher.stdout:
            now = time.monotonic()
            kind, *rest = line.split()
            if kind == "ring":
                with self.lab.news:
                    self.rings.append(rest[0])
                    self.view = RealView(now, rest[0], sorted(map(int, rest[1:])))
                    self.lab.news.notify_all()

    def quorum(self):
        """Returns the output of `corosync-quorumtool -s`."""
        code, text = self.run("corosync-quorumtool", "-s")
        fields = dict(re.findall(r"^([A-Z][A-Za-z ]+): +(.*?) *$", text, re.MULTILINE))
        try:
            members = re.findall(r"^ +(\d+) +(\d+) (\S+)", text.split("Nodeid")[1], re.MULTILINE)
            if ("Quorate" in fields["Flags"].split()) != (fields["Quorate"] == "Yes"):
                raise Failed(f"corosync-quorumtool -s contradicts itself:\n{text}")
            return {
                "ring": fields["Ring ID"],
                "quorate": fields["Quorate"] == "Yes",
                "expected": int(fields["Expected votes"]),
                "total": int(fields["Total votes"]),
                "quorum": int(fields["Quorum"].split()[0]),
                "members": {int(node): (int(votes), name) for node, votes, name in members},
            }
        except (KeyError, IndexError) as missing:
            raise Failed(f"corosync-quorumtool -s ended with {code}, without {missing}:\n{text}") from missing

    def end(self, number):
        at = time.monotonic()
        self.process.send_signal(number)
        return at


class Serving(Corosync):
    """A Quorate node that serves corosync's clients, watched and asked like a real daemon."""

    program = "quorate"

    def command(self):
        program = pathlib.Path(self.lab.quorate).resolve()
        files = "-c /etc/corosync/corosync.conf --state-dir /var/lib/corosync --socket /run/quorate.sock"
        return f"{program} node --serve-corosync-clients {files}"


class RealView:
    """The last ring that a daemon reported, and the time."""

    def __init__(self, at, ring, members):
        self.at, self.ring, self.members = at, ring, members

    def __str__(self):
        return f"ring {self.ring} of {self.members}"
