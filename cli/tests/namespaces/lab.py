"""Quorate nodes on hosts made of network namespaces, and the views of their clients."""

import contextlib
import ipaddress
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

NETNS = pathlib.Path(__file__).with_name("netns")
SHIM = pathlib.Path(__file__).with_name("shim.c")

GROUP, PORT = "239.192.77.1", 5405

# The values that corosync derives from `token: 1000`, in seconds.
TOKEN, TOKEN_COEFFICIENT = 1.0, 0.65


def token_timeout(nodes):
    return TOKEN + TOKEN_COEFFICIENT * max(0, nodes - 2)


def consensus_timeout(nodes):
    return 1.2 * token_timeout(nodes)


# The time that a change may take beyond the protocol's timeouts, in seconds.
GRACE = 0.2


def timeouts(lab):
    """Returns the time to notice that a member is lost, and to continue without it."""
    nodes = len(lab.hosts)
    return token_timeout(nodes) + consensus_timeout(nodes) + GRACE


def readmission(nodes):
    """
    Returns the time until a node that was left out of many rings is back, once it can return.

    It knows of all members, so it waits for at most a quarter of the longest wait, which is 32
    consensus timeouts.
    """
    return token_timeout(nodes) + 9 * consensus_timeout(nodes) + GRACE


class Failed(Exception):
    """An expectation was not met."""


def alone(scenario):
    """Marks a scenario that loads the processors, or whose bound another scenario could break."""
    scenario.alone = True
    return scenario


def address(host):
    return f"10.77.0.{host}"


def address_v6(host):
    return f"fd00:77::{host}"


def node_list(ids, address=address):
    """Returns the section `nodelist`. `ids` has the id of the node of each host."""
    nodes = "".join(
        f"  node {{\n    ring0_addr: {address(host)}\n    name: n{node}\n    nodeid: {node}\n  }}\n"
        for host, node in ids.items()
    )
    return f"nodelist {{\n{nodes}}}\n"


def corosync_conf(
    *, transport="udp", totem="", quorum="  wait_for_all: 0\n", network="10.77.0.0", nodelist=""
):
    """Returns a corosync.conf, optionally with further lines for `totem` and `quorum`.

    Unless other lines are given for `quorum`, a majority is enough even for the first start. Nodes
    with quorum elect at once, even if not all nodes are there.
    """
    return f"""\
totem {{
  version: 2
  cluster_name: namespaces
  transport: {transport}
  token: {round(TOKEN * 1000)}
  crypto_cipher: none
  crypto_hash: none
{totem}  interface {{
    ringnumber: 0
    bindnetaddr: {network}
    mcastaddr: {GROUP}
    mcastport: {PORT}
  }}
}}
quorum {{
  provider: corosync_votequorum
{quorum}}}
quorate {{
  dc_deadtime: 0
}}
{nodelist}"""


class Lab:
    """Hosts on one Ethernet, and their processes. The end of the `with` block removes them."""

    # Further options of the hosts (see `netns`).
    hosts_are = ()
    # Those whose `with` block has begun, and whether all of them are to end.
    running, stopping = set(), False

    def __init__(self, quorate, hosts, directory, prefix="quorate"):
        self.quorate = quorate
        self.hosts = range(1, hosts + 1)
        self.directory = pathlib.Path(directory)
        self.tcpdump_log = self.directory / "tcpdump.log"
        self.conf = self.write(
            "corosync.conf", corosync_conf(nodelist=node_list({host: host for host in self.hosts}))
        )
        self.prefix = f"{prefix}-{os.getpid()}-"
        self.processes = []
        self.nodes = {}
        self.readers = []
        self.terms = {}
        self.wrong = []
        # Guards what the readers of all clients have read, and is notified of news.
        self.news = threading.Condition()

    def __enter__(self):
        try:
            self.netns("up", len(self.hosts), *self.hosts_are)
            self.running.add(self)
            self.go_on()
        except BaseException:
            self.running.discard(self)
            self.netns("down")
            raise
        return self

    def go_on(self):
        if Lab.stopping:
            raise Failed("stopped")

    def stop(self):
        """Ends what the `with` block of another thread waits for."""
        with self.news:
            self.wrong.append("stopped")
            self.news.notify_all()
        for process in self.processes:
            process.kill()

    def __exit__(self, *_):
        self.running.discard(self)
        for process in self.processes:
            process.kill()
        self.netns("down")
        for process in self.processes:
            process.wait()
        for reader in self.readers:
            reader.join()
        for host in self.hosts:
            shutil.rmtree(self.etc(host), ignore_errors=True)
            shutil.rmtree(self.shared_memory(host), ignore_errors=True)

    def netns(self, *arguments):
        """Runs the script of that name with a command such as `cut` or `loss`."""
        environment = os.environ | {"LAB": self.prefix}
        done = subprocess.run(
            [NETNS, *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Failed(f"netns {' '.join(map(str, arguments))}: {done.stderr.strip()}")

    def on(self, host, *command):
        """Returns the command line that runs a command on a host, or on the `switch`.

        The switch sees everything that is sent.
        """
        return ["ip", "netns", "exec", f"{self.prefix}{host}", *map(str, command)]

    def nft(self, host, *rules):
        """Adds these nftables rules on a host."""
        subprocess.run(self.on(host, "nft", "-f", "-"), input="\n".join(rules), text=True, check=True)

    def etc(self, host):
        """Returns the directory of the files that replace those in /etc on a host."""
        return pathlib.Path(f"/etc/netns/{self.prefix}{host}")

    def shared_memory(self, host):
        """Returns the directory for what a host has in its /dev/shm, which outlives its nodes."""
        return pathlib.Path("/dev/shm") / f"{self.prefix}{host}"

    def write_etc(self, host, name, text):
        """Gives a host its own file in /etc.

        Running processes see it only if the file existed when they started.
        """
        self.etc(host).mkdir(parents=True, exist_ok=True)
        (self.etc(host) / name).write_text(text)

    def address_id(self, host):
        """Returns the node id that is derived from a host's address."""
        return int(ipaddress.IPv4Address(address(host)))

    def start(self, command, **options):
        """Starts a process that ends with the lab."""
        self.go_on()
        process = subprocess.Popen(command, **{"stdin": subprocess.DEVNULL, **options})
        self.processes.append(process)
        return process

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path

    def start_node(self, host, conf=None, *flags, name=None, environment=()):
        """Starts `quorate node` on a host, with the ring's configuration unless `conf` is given.

        `name` distinguishes its files from those of another node on the host. `environment` is
        added to the environment of this process.
        """
        former = self.nodes.get(host)
        if getattr(former, "is_ending", False):
            # It holds its record and its port until then.
            former.process.wait(timeout=10)
        node = Node(self, host, conf or self.conf, flags, name or host, environment)
        self.nodes[host] = node
        return node

    def start_ring(self):
        """Starts a node on every host. Returns the time until all of them agree."""
        started = time.monotonic()
        for host in self.hosts:
            self.start_node(host)
        return self.agreement(self.hosts, patience=10 * token_timeout(len(self.hosts))) - started

    def agreement(self, hosts, *, ids=None, quorate=True, patience):
        """
        Waits until the nodes of these hosts form one ring without others, with one DC.

        Returns the time when the last of them knew. `ids` are the ids of the nodes, if they differ
        from the hosts' numbers.
        """
        nodes = [self.nodes[host] for host in hosts]
        members = sorted(ids or hosts)

        def agreed():
            views = [node.view for node in nodes]
            return (
                all(view and view.is_of(members, quorate) for view in views)
                and len({(view.ring, view.dc) for view in views}) == 1
            )

        with self.news:
            there = self.news.wait_for(lambda: self.wrong or agreed(), patience)
            if self.wrong:
                raise Failed("; ".join(self.wrong))
            if not there:
                seen = "; ".join(f"node {node.host}: {node.view}" for node in nodes)
                raise Failed(f"after {patience:.1f} s nodes {members} are not one ring with one DC: {seen}")
            return max(node.view.at for node in nodes)

    def note_term(self, host, term):
        """Notes a term, and checks that fencing tokens never fall."""
        if term is not None:
            if term < self.terms.get(host, 0):
                self.wrong.append(f"node {host} told of term {self.terms[host]} and then of {term}")
            self.terms[host] = term

    def run(self, *arguments, host=None, user=None, timeout=60):
        """Runs the program under test to its end."""
        command = [self.quorate, *map(str, arguments)]
        if user:
            command = ["setpriv", "--reuid", user, "--regid", "65534", "--clear-groups", *command]
        if host:
            command = self.on(host, *command)
        try:
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired as still_running:
            raise Failed(f"{' '.join(map(str, arguments))} still ran after {timeout} s") from still_running

    def shim(self):
        """Builds the library that gives a node a wrong clock and a stuck disk (see `shim.c`).

        Returns the node's environment, the file with the error of the clock, and the file whose
        presence stops the disk.
        """
        library, clock, stuck = (self.directory / name for name in ("shim.so", "clock", "stuck"))
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SHIM], check=True)
        clock.write_text("0")
        return [f"LD_PRELOAD={library}", f"SHIM_CLOCK={clock}", f"SHIM_STUCK={stuck}"], clock, stuck

    @contextlib.contextmanager
    def capture(self, path):
        """Captures the bridge's datagrams in a pcap file during the `with` block."""
        # A buffer of 64 MiB, for 32000 frames: on a busy machine tcpdump may not run for a while.
        options = "--immediate-mode -B 65536 -s 2048 -U -i br0 -Z root".split()
        command = ["tcpdump", *options, "-w", path, "udp"]
        with open(self.tcpdump_log, "w") as log:
            tcpdump = self.start(self.on("switch", *command), stderr=log)
        while "listening on" not in self.tcpdump_log.read_text():
            if tcpdump.poll() is not None:
                raise Failed(f"tcpdump: {self.tcpdump_log.read_text().strip()}")
            time.sleep(0.01)
        yield
        # The last datagrams are still on their way to the file.
        time.sleep(0.2)
        tcpdump.send_signal(signal.SIGINT)
        tcpdump.wait()

    def last_words(self, lines=12):
        """Yields the ends of the nodes' logs, to find out what went wrong."""
        for path in sorted(self.directory.glob("*.log")):
            yield f"--- {path.name}"
            yield from path.read_text(errors="replace").splitlines()[-lines:]


class View:
    """The last status of a node, and its time."""

    def __init__(self, at, status):
        self.at = at
        self.ring = status["ring"]
        self.settled = status["settled"]
        self.quorate = status["quorate"]
        self.dc = status["dc"]
        self.term = int(status["term"]["fencing_token"]) if status["term"] else None
        self.online = [node["id"] for node in status["nodes"] if node["online"]]

    def is_of(self, members, quorate):
        return (
            self.settled
            and self.online == members
            and self.dc in self.online
            and self.quorate == quorate
            and (self.term is not None) == quorate
        )

    def __str__(self):
        quorum = "with" if self.quorate else "WITHOUT"
        settled = "" if self.settled else ", unsettled"
        return f"ring {self.ring} of {self.online} {quorum} quorum, DC {self.dc}{settled}"


class Node:
    """A `quorate node`, watched by a `quorate cat --status`."""

    def __init__(self, lab, host, conf, flags, name, environment):
        self.lab, self.host = lab, host
        self.socket = lab.directory / f"{name}.sock"
        self.log = lab.directory / f"node-{name}.log"
        # The last status and all rings that the watcher has read.
        self.view = None
        self.rings = []
        # Whether it was told to end.
        self.is_ending = False
        command = lab.on(
            host,
            "env",
            *environment,
            lab.quorate,
            "node",
            "-c",
            conf,
            "--socket",
            self.socket,
            "--state-dir",
            lab.directory / f"state-{name}",
            *flags,
        )
        with open(self.log, "a") as log:
            self.process = lab.start(command, stdout=log, stderr=log)
        self.wait_for_socket()
        # Its final message is in the node's log, too.
        self.watcher = self.cat(
            "status", "--status", "--stay", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        reader = threading.Thread(target=self.watch, args=[self.watcher])
        lab.readers.append(reader)
        reader.start()

    def wait_for_socket(self):
        # The socket of a killed node still exists, so only one that answers counts.
        for _ in range(1000):
            with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
                return client.connect(str(self.socket))
            if self.process.poll() is not None:
                raise Failed(f"node {self.host} ended: {self.log.read_text().strip()}")
            time.sleep(0.005)
        raise Failed(f"node {self.host} did not make its socket within 5 s")

    def cat(self, group, *flags, **options):
        """Starts a client of this node."""
        return self.lab.start([self.lab.quorate, "cat", group, "--socket", self.socket, *flags], **options)

    def watch(self, watcher):
        for line in watcher.stdout:
            now = time.monotonic()
            event = json.loads(line)
            with self.lab.news:
                if event["event"] == "regular":
                    self.rings.append(event["ring"])
                elif event["event"] == "status":
                    self.view = View(now, event)
                    self.lab.note_term(self.host, self.view.term)
                self.lab.news.notify_all()

    def status(self, *flags):
        """Returns the output of `quorate status`."""
        done = self.lab.run("status", "--socket", self.socket, *flags)
        if done.returncode:
            raise Failed(f"quorate status of node {self.host}: {done.stderr.strip()}")
        return done.stdout

    def kill(self):
        """Kills the process. Returns the time."""
        return self.end(signal.SIGKILL)

    def terminate(self):
        """Asks the process to leave. Returns the time."""
        return self.end(signal.SIGTERM)

    def end(self, number):
        at = time.monotonic()
        self.is_ending = True
        self.process.send_signal(number)
        return at
