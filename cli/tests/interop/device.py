"""A quorum device: corosync's own qdevice and qnetd, with real nodes and with ours.

Hosts 1 and 2 run a node and an unmodified corosync-qdevice each. Host 3 runs an unmodified
corosync-qnetd. The steps are the same for both kinds of nodes. After each step, the output of
`corosync-quorumtool -s` on each living node is recorded, and the two kinds have to print the same.
"""

import itertools
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import programs
from lab import Failed, address, consensus_timeout, corosync_conf, node_list, token_timeout
from peers import peer

SERVER = 3

# The section of a device. Its heartbeat is 0.8 times the timeout, and 0.8 times the sync timeout
# during a synchronization. qdevice and qnetd reject heartbeats below a second.
DEVICE = """\
  wait_for_all: 0
  device {{
    model: net
{votes}    timeout: {timeout}
    sync_timeout: {sync_timeout}
    net {{
      host: {server}
      algorithm: {algorithm}
      tls: off
    }}
  }}
"""

# In milliseconds. A short timeout keeps the test short.
TIMEOUT, SYNC_TIMEOUT = 2000, 3000

# The time for which nothing may change before an output is recorded, in seconds.
STEADY = 1.0

# The longest times that steps may take, in seconds. The machine may be busy.
TOLD = 3.0
LOST = 3 * (token_timeout(2) + consensus_timeout(2)) + TOLD
JOINED = 30.0
# A device without a connection to the server waits for a random time before it connects again.
CONNECTED = 30.0

# Starts qdevice on a node's machine, and qnetd on a host with its own /run.
QDEVICE = "mkdir -p /run/corosync-qdevice; exec corosync-qdevice -f"
QNETD = "mount --bind {run} /run; mkdir -p /run/corosync-qnetd; exec corosync-qnetd -f -s off"

# Lines that may differ: patterns of the step, of corosync's line and of ours, and the reason. A
# missing line counts as empty.
ALLOWED = [
    (
        "node 1 (alone, no device|started alone.*)",
        "(Expected votes:  |Highest expected:) 2",
        "(Expected votes:  |Highest expected:) 3",
        "a Quorate node expects the device's votes from the start, so that it never expects fewer",
    ),
    (
        "node 2 killed, node 1's device stopped",
        "Total votes:      2",
        "Total votes:      3",
        "a Quorate node shows the votes of the old ring until those of the new one are counted",
    ),
]

# The letters of the nodes for each value of `--kind`.
KINDS = {"both": "RC", "corosync": "R", "quorate": "C"}


class Pair:
    """Two nodes, their devices, the devices' server, and what the nodes printed."""

    def __init__(self, lab, row, kind):
        """`kind` has the letter of both nodes, or one for each of them."""
        self.lab, self.row, self.kind = lab, row, kind
        self.devices = {}
        self.server = None
        # What was printed: the step, the node or device, the text, and the changes that led to it.
        # The changes are not compared, because they differ between runs.
        self.printed = []

    def configure(self, algorithm, timeout=TIMEOUT):
        # As pcs does, which writes no votes for lms. Then the device has one vote fewer than there
        # are nodes.
        votes = "    votes: 1\n" if algorithm == "ffsplit" else ""
        device = DEVICE.format(
            votes=votes,
            timeout=timeout,
            sync_timeout=SYNC_TIMEOUT,
            server=address(SERVER),
            algorithm=algorithm,
        )
        conf = corosync_conf(quorum=device, nodelist=node_list({host: host for host in (1, 2)}))
        self.lab.conf = self.lab.write("corosync.conf", conf)

    def start_node(self, host):
        """Starts a node without its device. Returns the time."""
        at = time.monotonic()
        self.lab.start_host(host, self.kind[(host - 1) % len(self.kind)])
        return at

    def start_device(self, host):
        """Starts the device of a living node. Returns the time."""
        at = time.monotonic()
        with open(self.lab.directory / f"qdevice-{host}.log", "a") as log:
            command = self.lab.nodes[host].on("sh", "-e", "-c", QDEVICE)
            self.devices[host] = self.lab.start(command, stdout=log, stderr=log)
        return at

    def start_server(self):
        """Starts the server on its host, and waits until it listens. Returns the time of the start.

        The connection of a device that is started earlier is refused, and the device then pauses.
        """
        at = time.monotonic()
        run = self.lab.directory / "run-qnetd"
        run.mkdir(exist_ok=True)
        script = QNETD.format(run=run)
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", script]
        with open(self.lab.directory / "qnetd.log", "a") as log:
            self.server = self.lab.start(self.lab.on(SERVER, *command), stdout=log, stderr=log)
        listening = self.lab.on(SERVER, "ss", "-Hltn", "sport = :5403")
        while not subprocess.run(listening, check=True, capture_output=True).stdout:
            if self.server.poll() is not None or time.monotonic() > at + TOLD:
                raise Failed("corosync-qnetd does not listen")
            time.sleep(0.02)
        return at

    def kill_server(self):
        """Kills the server. Returns the time."""
        at = time.monotonic()
        self.server.kill()
        self.server.wait()
        return at

    def signal_device(self, host, number):
        """Sends a signal to a device. Returns the time."""
        at = time.monotonic()
        self.devices[host].send_signal(number)
        return at

    def device_ends(self, host, step):
        """Waits until a device has ended, and records its exit code."""
        code = self.devices.pop(host).wait(timeout=10)
        self.note(step, f"device of node {host}", f"exit code {code}")

    def note(self, step, by, text, changes=()):
        self.printed.append((step, by, text, changes))

    def knew(self, at):
        """Returns a time for the row: that of the real nodes, and that of ours."""
        return (at, None) if self.kind == "R" else (None, at)

    def quorumtool(self, host):
        code, text = self.lab.nodes[host].run("corosync-quorumtool", "-s")
        return f"{text.rstrip()}\nexit code {code}"

    def see(self, step, wanted, since, within, keeps=()):
        """Waits until the nodes show what is wanted, and records what they print.

        `wanted` has the total of votes, whether the node is quorate, and the flags of its device,
        for each living node. The nodes have to show it `within` seconds after `since`, and then
        nothing may change for a second. The nodes in `keeps` have to be quorate all the time.
        """
        changes = {host: [] for host in wanted}
        before, changed = dict.fromkeys(wanted, []), since
        while True:
            texts = {host: self.quorumtool(host) for host in wanted}
            now = time.monotonic()
            self.lab.look_after_daemons()
            seen = {host: summary(text) for host, text in texts.items()}
            for host, text in texts.items():
                if (lines := normal(text)) != before[host]:
                    when = f"{now - since:6.2f} s  {seen[host]:<10}"
                    changes[host].append(f"{when}  {news(lines, before[host])}".rstrip())
                    before[host], changed = lines, now
            if lost := [host for host in keeps if " yes " not in seen[host]]:
                raise Failed(f"{self}, {step}: nodes {lost} lost quorum: {changes}")
            if seen == wanted and now - changed >= STEADY:
                break
            if now > since + within + STEADY:
                why = f"after {within} s nodes show {seen}, not {wanted}"
                raise Failed(f"{self}, {step}: {why}: {changes}")
            time.sleep(0.1)
        for host, text in texts.items():
            self.note(step, f"node {host}", text, changes[host])
        self.row.time(step, within, since, self.knew(changed))

    def end(self):
        """Ends all programs, so that the other kind finds hosts on which nothing runs."""
        for process in (*self.devices.values(), self.server):
            if process:
                process.kill()
                process.wait()
        for host in (1, 2):
            if self.lab.nodes[host].expected:
                self.lab.kill(host)

    def write(self, path, name):
        """Appends everything that was printed to a file."""
        with open(path, "a") as file:
            for step, by, text, changes in self.printed:
                way = "".join(f"    {change}\n" for change in changes)
                file.write(f"=== {name}, {self}: {step}: {by}\n{way}{text}\n\n")

    def __str__(self):
        return " and ".join({"R": "corosync", "C": "Quorate"}[letter] for letter in self.kind)


def summary(text):
    """Returns the total of votes, `yes` or `no` for the quorum, and the flags of the own device.

    While no device was ever registered, there is no column of flags.
    """
    if "Qdevice Name" not in text:
        text = re.sub(r"^( +\d+ +\d+)", r"\1 -", text, flags=re.MULTILINE)
    wanted = (r"^Total votes: +(\d+)", r"^Quorate: +(\w+)", r"^ +\d+ +\d+ +(\S+) .*\(local\)")
    found = [re.search(pattern, text, re.MULTILINE) for pattern in wanted]
    if None in found:
        return text.splitlines()[0]
    total, quorate, flags = (match[1] for match in found)
    return f"{total} {quorate.lower()} {flags.removesuffix(',NMW')}"


def normal(text):
    """Returns the lines of what `corosync-quorumtool -s` printed, without date and ring id."""
    text = re.sub(r"^(Date|Ring ID):.*$", r"\1: _", text, flags=re.MULTILINE)
    return [line.rstrip() for line in text.splitlines()]


def news(lines, before):
    """Returns the lines that were not there before, except those of the first output."""
    if len(before) < 2:
        return ""
    return ", ".join(" ".join(line.split()) for line in lines if line not in before)


def compare(theirs, ours):
    """Checks that both kinds printed the same at each step, except for the lines in `ALLOWED`."""
    differences = []
    for (step, by, text, _), (_, _, our_text, _) in zip(theirs, ours, strict=True):
        pairs = itertools.zip_longest(normal(text), normal(our_text), fillvalue="")
        differences += [
            f"{step}, {by}: corosync {line!r}, Quorate {our_line!r}"
            for line, our_line in pairs
            if line != our_line and not allowed(step, line, our_line)
        ]
    if differences:
        raise Failed("corosync-quorumtool -s differs:\n" + "\n".join(differences))


def allowed(*words):
    return any(all(map(re.fullmatch, patterns, words)) for *patterns, _ in ALLOWED)


def on_each_kind(steps):
    """Plays steps with each kind of node on the same hosts, and compares what the nodes printed."""

    def played(lab, row, *arguments):
        printed = {}
        for kind in KINDS[row.options.kind]:
            pair = Pair(lab, row, kind)
            try:
                steps(pair, *arguments)
            finally:
                if path := row.options.outputs:
                    pair.write(path, " ".join([steps.__name__.replace("_", " "), *arguments]))
            pair.end()
            printed[kind] = pair.printed
        if len(printed) > 1:
            compare(printed["R"], printed["C"])

    played.__name__ = steps.__name__
    return played


# What the nodes show while both devices vote (see `Pair.see`).
BOTH = {1: "3 yes A,V", 2: "3 yes A,V"}


def form(pair):
    """Starts both nodes, the server and both devices."""
    at = pair.start_node(1)
    pair.see("node 1 alone, no device", {1: "1 no -"}, at, JOINED)
    at = pair.start_node(2)
    pair.see("both nodes, no device", {1: "2 yes -", 2: "2 yes -"}, at, JOINED)
    pair.start_server()
    at = pair.start_device(1)
    pair.see("node 1's device votes", {1: "3 yes A,V", 2: "2 yes NR"}, at, CONNECTED, keeps=[1, 2])
    at = pair.start_device(2)
    pair.see("both devices vote", BOTH, at, CONNECTED, keeps=[1, 2])


def lose_node_2(pair):
    at = pair.lab.kill(2)
    pair.see("node 2 killed", {1: "2 yes A,V"}, at, LOST, keeps=[1])
    pair.device_ends(2, "node 2 killed")


def bring_node_2_back(pair):
    at = pair.start_node(2)
    pair.see("node 2 back, no device", {1: "3 yes A,V", 2: "2 yes NR"}, at, JOINED, keeps=[1])
    at = pair.start_device(2)
    pair.see("node 2 back, its device votes", BOTH, at, CONNECTED, keeps=[1, 2])


@on_each_kind
def a_device_keeps_the_quorum_of_the_last_node(pair):
    pair.configure("ffsplit")
    form(pair)
    lose_node_2(pair)


@on_each_kind
def a_device_votes_in_each_situation(pair, algorithm):
    """Nodes, devices and the server are killed and return, and the nodes are cut off."""
    pair.configure(algorithm)
    form(pair)
    lose_node_2(pair)
    bring_node_2_back(pair)

    at = time.monotonic()
    pair.lab.netns("cut", 1, 2)
    pair.see("nodes cut off from each other", {1: "2 yes A,V", 2: "1 no A,NV"}, at, LOST, keeps=[1])
    at = time.monotonic()
    pair.lab.netns("heal")
    pair.see("healed", BOTH, at, JOINED, keeps=[1])

    at = pair.kill_server()
    pair.see("server killed", {1: "2 yes A,NV", 2: "2 yes A,NV"}, at, TOLD, keeps=[1, 2])
    at = pair.lab.kill(2)
    pair.see("node 2 killed without a server", {1: "1 no A,NV"}, at, LOST)
    pair.device_ends(2, "node 2 killed without a server")
    at = pair.start_server()
    pair.see("server back", {1: "2 yes A,V"}, at, CONNECTED)
    bring_node_2_back(pair)

    at = pair.signal_device(1, signal.SIGKILL)
    silent = {1: "2 yes NA,NV", 2: "3 yes A,V"}
    pair.see("node 1's device killed", silent, at, TIMEOUT / 1000 + TOLD, keeps=[1, 2])
    pair.device_ends(1, "node 1's device killed")
    at = pair.start_device(1)
    pair.see("node 1's device back", BOTH, at, CONNECTED, keeps=[1, 2])
    at = pair.signal_device(1, signal.SIGTERM)
    pair.see("node 1's device ended", {1: "2 yes NR", 2: "3 yes A,V"}, at, TOLD, keeps=[1, 2])
    pair.device_ends(1, "node 1's device ended")

    for host in (1, 2):
        pair.lab.kill(host)
    pair.device_ends(2, "both nodes killed")
    # Without `votes`, the expected votes include the device's from the start. With `votes`, they
    # include it once the members and the device have more votes than the node list.
    at = pair.start_node(1)
    pair.see("node 1 started alone", {1: "1 no -"}, at, JOINED)
    at = pair.start_device(1)
    pair.see("node 1 started alone, its device votes", {1: "2 yes A,V"}, at, CONNECTED)


@on_each_kind
def a_stopped_device_holds_up_the_ring_for_its_sync_timeout(pair):
    # The timeout has to be longer than the loss of a node takes. Otherwise the device counts as
    # dead when the synchronization starts, and the ring does not wait for it.
    pair.configure("ffsplit", timeout=10_000)
    form(pair)
    lose_node_2(pair)
    bring_node_2_back(pair)

    step = "node 2 killed, node 1's device stopped"
    pair.signal_device(1, signal.SIGSTOP)
    at = pair.lab.kill(2)
    # A Quorate node learns of the death from the host, and does not wait for the token.
    lost = token_timeout(2) if pair.kind == "R" else 0.0
    ring = lost + consensus_timeout(2) if pair.kind == "R" else 0.0
    time.sleep(ring + SYNC_TIMEOUT / 2000)
    # The synchronization is under way. The node answers corosync-quorumtool, but the ring carries
    # no messages, so a process joins its group only afterwards.
    pair.note(step, "node 1", pair.quorumtool(1))
    client = peer(pair.lab, 1, "late")
    joins = lambda: client.me in client.members
    pair.lab.wait(joins, lambda: f"{client} is not in its group")
    joined = time.monotonic()
    longest = ring + SYNC_TIMEOUT / 1000 + TOLD
    pair.row.time("a process joins a group", longest, at, pair.knew(joined))
    # A token that was on its way to the killed node is lost after its timeout, at the earliest.
    if joined - at < lost + SYNC_TIMEOUT / 1000:
        raise Failed(f"{pair}, {step}: a process joined a group {joined - at:.2f} s after the kill")
    pair.see("stopped device given up", {1: "1 no NA,NV"}, joined, TOLD)
    client.finish()
    pair.device_ends(2, step)
    at = pair.signal_device(1, signal.SIGCONT)
    pair.see("node 1's device continues", {1: "2 yes A,V"}, at, CONNECTED)


def a_device_serves_nodes_of_both_kinds(lab, row):
    """A corosync node and a Quorate node keep quorum in turn, each by its device."""
    pair = Pair(lab, row, "RC")
    pair.configure("ffsplit")
    form(pair)
    for dead, alive in ((2, 1), (1, 2)):
        at = lab.kill(dead)
        pair.see(f"node {dead} killed", {alive: "2 yes A,V"}, at, LOST, keeps=[alive])
        pair.device_ends(dead, f"node {dead} killed")
        at = pair.start_node(dead)
        pair.see(f"node {dead} back", {dead: "2 yes NR", alive: "3 yes A,V"}, at, JOINED, keeps=[alive])
        at = pair.start_device(dead)
        pair.see(f"node {dead}'s device votes", BOTH, at, CONNECTED, keeps=[1, 2])
    pair.end()


def corosyncs_test_device_gives_its_vote(lab, row):
    """corosync's own test program for a quorum device gives its vote, and ends."""
    if wanted := programs.missing():
        raise Failed(f"corosync's test programs need {', '.join(wanted)}")
    pair = Pair(lab, row, "C")
    pair.configure("ffsplit")
    for host in (1, 2):
        pair.start_node(host)
    pair.see("both nodes, no device", {1: "2 yes -", 2: "2 yes -"}, time.monotonic(), JOINED)
    with tempfile.TemporaryDirectory(prefix="quorate-programs-") as directory:
        programs.build(pathlib.Path(directory))
        programs.DEVICE.run(lab.nodes[1], pathlib.Path(directory))
    pair.end()
