#!/usr/bin/env python3
"""
Measures the time from the loss of a DC until another node acts.

The example `singleton` runs on three hosts made of network namespaces, over real IP multicast, with
`token: 1000`. A fourth host is the address that the DC claims.

    run.py [--tries N] [--long-lease-tries N] [--stop SECONDS] [--watch SECONDS] [--only WORD]
           SINGLETON

SINGLETON is the example's program (`cargo build --release -p quorate-examples`). The script prints
the breakdown of each try, medians and worst cases, and the bound of the lease rule. It exits with 1
if a check failed. It needs root and iproute2. Without root it says so and does nothing.

All times are from the monotonic clock that the processes of a machine share:

- detection: until the first survivor has given up its ring, according to its log (`gather`);
- membership: from there until the successor has installed the ring of the survivors;
- election: from there until the successor knows that it is DC, and its term;
- lease wait: from there until its first claim is accepted at the address.

The lease rule (election/what-the-dc-may-assume.md): the successor acts once it is elected and
L(1+ρ) have passed since the survivors last had a token of the old ring. They had it at most one
hold time after the DC was lost, because a token that another member held at that moment goes around
as far as it can. So the successor has to act within max(T + C, L(1+ρ)) + h of the loss of the DC. T
is the token timeout, C the consensus timeout, L the length of the lease, ρ its rate error and h the
hold time.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "namespaces"))

from lab import Failed, Lab, address, consensus_timeout, corosync_conf, node_list, token_timeout

NODES = (1, 2, 3)
ADDRESS_HOST, ADDRESS_PORT = 4, 7007

# The defaults with these timeouts, in seconds. With a longer lease, the hold time is that of
# corosync, which is an upper bound.
RATE_ERROR = 0.01
DEFAULT_LEASE, DEFAULT_HOLD = 0.3, 0.06
LONGEST_HOLD = (int(int(1000 * token_timeout(len(NODES)) / 4.2) * 0.8) - 10) / 1000

# What the formation of a ring on a busy machine may take beyond the protocol's timeouts, and beyond
# the lease, in seconds.
GRACE, LEASE_GRACE = 0.2, 0.05
# The time for which the host of a killed process has to refuse datagrams, in seconds, after the token
# was missed. `quorate.probe` is 8 ms.
REFUSALS = 0.02
# What the election may take after the membership change, in seconds.
ELECTION = 0.05
# The longest wait for a change, in seconds, on a machine that is busy with other things.
PATIENCE = 30

PACEMAKER = (
    "Pacemaker 2.1.5 on corosync 3.1.7, the same timeouts, until a survivor shows the new DC: 4.3 s\n"
    "    (4.25, 4.32 and 5.95 s in three tries, including 4.1 to 5.1 s until the membership; recorded, not run here)"
)


class Failover(Lab):
    """Three members, and the address on its own host."""

    def __init__(self, options, directory, *, lease=None, careless=False):
        super().__init__(options.singleton, ADDRESS_HOST, directory, prefix="qf")
        conf = corosync_conf(nodelist=node_list({host: host for host in NODES}))
        if lease:
            conf = conf.replace("quorate {\n", f"quorate {{\n  lease: {round(1000 * lease)}\n")
        self.conf = self.write("corosync.conf", conf)
        self.flags = ["--careless"] if careless else []
        self.lease = lease or DEFAULT_LEASE
        self.hold = LONGEST_HOLD if lease else DEFAULT_HOLD
        # The time that a successor waits.
        self.wait = self.lease * (1 + RATE_ERROR)
        self.random = random.Random(1)

    def start_all(self):
        self.address = Address(self)
        for host in NODES:
            self.start_node(host)
        return self.whole()

    def start_node(self, host):
        self.nodes[host] = Member(self, host)

    def until(self, condition, what, patience=PATIENCE):
        """Waits until the output of the processes fulfils a condition."""
        with self.news:
            if not self.news.wait_for(lambda: self.wrong or condition(), patience):
                raise Failed(f"not after {patience} s: {what}: {self.seen()}")
        if self.wrong:
            raise Failed(self.wrong[0])

    def seen(self):
        return "; ".join(f"node {host}: {node.status}" for host, node in self.nodes.items())

    def whole(self):
        """Waits for one ring of all whose DC holds the address under its term. Returns the DC."""

        def is_whole():
            views = [node.status for node in self.nodes.values()]
            return (
                all(view and view.online == list(NODES) for view in views)
                and len({(view.ring, view.term) for view in views}) == 1
                and self.address.accepted
                and self.address.accepted[-1].term == views[0].term
            )

        self.until(is_whole, "three nodes in one ring whose DC holds the address")
        return self.nodes[1].status.dc


class Process:
    """A process whose output is read line by line."""

    def __init__(self, lab, name, host, *arguments):
        self.lab, self.name = lab, name
        self.log = lab.directory / f"{name}.log"
        environment = os.environ | {"RUST_LOG": "info,quorate_membership::totem=debug"}
        with open(self.log, "a") as log:
            command = lab.on(host, lab.quorate, *arguments)
            self.process = lab.start(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        reader = threading.Thread(target=self.read)
        lab.readers.append(reader)
        reader.start()

    def read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            with self.lab.news:
                self.hear(event.pop("event"), event.pop("at_us") / 1e6, event)
                self.lab.news.notify_all()

    def send(self, number):
        """Sends a signal. Returns the time."""
        at = time.monotonic()
        self.process.send_signal(number)
        return at


class Member(Process):
    """A `singleton node`."""

    def __init__(self, lab, host):
        self.rings = []
        self.statuses = []
        flags = ["-c", lab.conf, "--address", f"{address(ADDRESS_HOST)}:{ADDRESS_PORT}", *lab.flags]
        super().__init__(lab, f"node-{host}", host, "node", *flags, "--state-dir", lab.directory / f"state-{host}")

    def hear(self, event, at, said):
        if event == "ring":
            self.rings.append((at, said["members"]))
        elif event == "status":
            self.statuses.append(View(at, said))

    @property
    def status(self):
        return self.statuses[-1] if self.statuses else None

    def gathers(self):
        """Returns the times at which it gave up a ring, or an attempt at one."""
        return [float(at) for at in re.findall(r"^\[ *(\S+)\] DEBUG \S+: gather", self.log.read_text(), re.MULTILINE)]


class View:
    """A status that a member reported, and the time."""

    def __init__(self, at, status):
        self.at = at
        self.ring = status["ring"] and "{representative}.{seq:x}".format(**status["ring"])
        self.dc = status["dc"]
        self.term = int(status["term"]["fencing_token"]) if status["term"] else None
        self.online = [node["id"] for node in status["nodes"] if node["online"]]

    def __str__(self):
        return f"ring {self.ring} of {self.online}, DC {self.dc}, term {self.term}"


class Claim:
    def __init__(self, at, said):
        self.at, self.node, self.term = at, said["node"], int(said["term"])


class Address(Process):
    """The `singleton address`, with the claims that it accepted and refused."""

    def __init__(self, lab):
        # The first accepted claim of each holder and term.
        self.accepted = []
        self.refused = []
        super().__init__(lab, "address", ADDRESS_HOST, "address", "--listen", f"{address(ADDRESS_HOST)}:{ADDRESS_PORT}")

    def hear(self, event, at, said):
        if event == "malformed":
            return self.lab.wrong.append(f"the address was sent what is no claim, by {said['from']}")
        claim = Claim(at, said)
        if event == "accepted":
            highest = max((earlier.term for earlier in self.accepted), default=-1)
            if claim.term <= highest:
                self.lab.wrong.append(f"a claim of node {claim.node} under {claim.term} was accepted after {highest}")
            self.accepted.append(claim)
        elif event == "refused":
            self.refused.append(claim)

    def first_by_another(self, than, since):
        claims = (claim for claim in self.accepted if claim.at >= since and claim.node != than)
        return next(claims, None)

    def late(self, term):
        """Returns the number of refused claims under a term."""
        return sum(claim.term == term for claim in self.refused)


class Takeover:
    """The succession of a DC that was lost at the time `at`."""

    def __init__(self, lab, dc, at, refused=False):
        # With `refused`, the DC's host reports that its process is gone.
        self.lab, self.dc, self.at, self.refused = lab, dc, at, refused
        survivors = [host for host in NODES if host != dc]
        lab.until(lambda: lab.address.first_by_another(dc, at), f"another node than {dc} acts", 60)
        claim = lab.address.first_by_another(dc, at)
        self.successor, self.acts_at = claim.node, claim.at
        # The claim may arrive before the log lines that led to it, since a separate thread
        # writes the log.
        lab.until(lambda: None not in self.moments(survivors), f"node {self.successor} says why it acts", 5)
        moments = self.moments(survivors)
        self.gathers_at, self.installs_at, self.elected_at = moments
        self.parts = {
            "detection": self.gathers_at - at,
            "membership": self.installs_at - self.gathers_at,
            "election": self.elected_at - self.installs_at,
            "lease wait": self.acts_at - self.elected_at,
            "total": self.acts_at - at,
            "bound": self.bound,
        }

    def moments(self, survivors):
        """Returns when the survivors gave up the ring, had the next one, and had the new DC.

        Returns `None` if that has not happened yet.
        """
        node = self.lab.nodes[self.successor]
        gathers = (then for host in survivors for then in self.lab.nodes[host].gathers() if then >= self.at)
        elections = (view.at for view in node.statuses if view.at >= self.at and view.dc == self.successor and view.term)
        rings = (then for then, members in node.rings if then >= self.at and members == survivors)
        return [next(moments, None) for moments in (iter(sorted(gathers)), rings, elections)]

    @property
    def bound(self):
        """Returns the time within which the successor has to act, by timeouts and lease rule."""
        timeouts = token_timeout(len(NODES)) + consensus_timeout(len(NODES))
        return max(timeouts, self.lab.wait) + self.lab.hold + GRACE

    def wrong(self):
        """Returns descriptions of what is wrong."""
        if self.parts["total"] > self.bound:
            yield f"acts {1000 * (self.parts['total'] - self.bound):.0f} ms after the bound"
        slow = self.parts["detection"] - (self.lab.hold + REFUSALS + GRACE)
        if self.refused and slow > 0:
            yield f"noticed {1000 * slow:.0f} ms after its host's refusals had lasted long enough"
        late = self.acts_at - max(self.elected_at, self.at + self.lab.hold + self.lab.wait)
        if late > LEASE_GRACE:
            yield f"acts {1000 * late:.0f} ms after the lease rule allows it"
        # Its lease ran from a token that it had sent up to two rotations before. Each of them
        # contains a hold time.
        early = self.at + self.lab.lease * (1 - RATE_ERROR) - 2 * self.lab.hold - GRACE - self.acts_at
        if early > 0:
            yield f"acts {1000 * early:.0f} ms before the old lease can be over"


class Table:
    """The measurements, and whether they are within their bounds."""

    COLUMNS = ("detection", "membership", "election", "lease wait", "total", "bound")

    def __init__(self):
        self.failed = 0

    def say(self, text):
        print(text, flush=True)

    def title(self, text):
        self.say(f"\n{text}\n")
        self.say(f"{'':<24}" + "".join(f"{column:>12}" for column in self.COLUMNS) + "   [ms]")

    def parts(self, name, parts, wrong=()):
        wrong = list(wrong)
        cells = "".join(f"{1000 * parts[column]:12.1f}" for column in self.COLUMNS)
        self.say(f"{name:<24}{cells}{'   FAILED: ' + '; '.join(wrong) if wrong else ''}")
        self.failed += len(wrong)

    def takeover(self, name, takeover):
        self.parts(f"{name}: node {takeover.dc} to {takeover.successor}", takeover.parts, takeover.wrong())

    def summary(self, takeovers):
        def over(of):
            return {column: of([takeover.parts[column] for takeover in takeovers]) for column in self.COLUMNS}

        median = over(statistics.median)
        slow = median["election"] > ELECTION
        self.parts("median", median, [f"the election may take {1000 * ELECTION:.0f} ms"] if slow else [])
        self.parts("worst", over(max))

    def check(self, what, ok):
        self.failed += not ok
        self.say(f"    {what}: {'ok' if ok else 'FAILED'}")


def kill_the_dc(lab, table, tries):
    """Kills the DC `tries` times and restarts it each time."""
    lab.start_all()
    takeovers = []
    for n in range(1, tries + 1):
        dc = lab.whole()
        # A random moment within the hold time of an idle ring.
        time.sleep(0.5 + lab.random.random())
        takeover = Takeover(lab, dc, lab.nodes[dc].send(signal.SIGKILL), refused=True)
        table.takeover(f"{n}", takeover)
        takeovers.append(takeover)
        lab.start_node(dc)
        lab.whole()
    table.summary(takeovers)


def stop_the_dc(lab, table, options):
    """Stops the DC for a while, and checks what it does when it continues."""
    dc = lab.start_all()
    term = lab.address.accepted[-1].term
    # A careless one has just asked, and does not ask again for a hundred claims.
    time.sleep(1)
    stopped = lab.nodes[dc].send(signal.SIGSTOP)
    try:
        takeover = Takeover(lab, dc, stopped)
        table.takeover("stop", takeover)
        time.sleep(max(0, stopped + options.stop - time.monotonic()))
        before = lab.address.late(term)
    finally:
        goes_on = lab.nodes[dc].send(signal.SIGCONT)
    time.sleep(options.watch)
    lab.whole()
    with lab.news:
        accepted = [claim for claim in lab.address.accepted if claim.at >= takeover.acts_at and claim.term <= term]
        late, holder = lab.address.late(term) - before, lab.address.accepted[-1].node
    table.say(f"    node {dc} was stopped for {goes_on - stopped:.1f} s, and was watched for {options.watch:.0f} s afterwards")
    table.check(f"{len(accepted)} claims under its old term accepted", not accepted)
    table.check(f"node {takeover.successor} acts, node {holder} in the end", takeover.successor == holder)
    return late, before


def killed(table, options, directory):
    table.title(f"kill -9 of the DC, {options.tries} tries")
    with Failover(options, directory) as lab:
        kill_the_dc(lab, table, options.tries)
    table.say(f"\n    {PACEMAKER}")


def killed_with_a_long_lease(table, options, directory):
    """The default lease ends before the ring is formed. A longer one has to be waited for."""
    if not options.long_lease_tries:
        return
    lease = 5.0
    table.title(f"kill -9 of the DC, `lease: {round(1000 * lease)}`, {options.long_lease_tries} tries")
    with Failover(options, directory, lease=lease) as lab:
        kill_the_dc(lab, table, options.long_lease_tries)


def stopped(table, options, directory):
    table.title(f"SIGSTOP of the DC for {options.stop:.0f} s")
    with Failover(options, directory) as lab:
        late, before = stop_the_dc(lab, table, options)
    # The DC may have been stopped between the question and the claim.
    table.check(f"{late + before} late claims refused: it asks before each, so it does not act", late <= 1 and not before)


def stopped_and_careless(table, options, directory):
    table.title(f"SIGSTOP of a careless DC for {options.stop:.0f} s")
    with Failover(options, directory, careless=True) as lab:
        late, before = stop_the_dc(lab, table, options)
    table.check(f"{late} late claims refused: it acted, but the address refused", late > 0 and not before)


SCENARIOS = [killed, killed_with_a_long_lease, stopped, stopped_and_careless]


def main():
    parser = argparse.ArgumentParser(description="Measures the time from the loss of a DC until another node acts.")
    parser.add_argument("singleton", type=pathlib.Path, metavar="SINGLETON", help="the example's program")
    parser.add_argument("--tries", type=int, default=20, metavar="N", help="how often to kill the DC [20]")
    parser.add_argument("--long-lease-tries", type=int, default=5, metavar="N", help="how often with a long lease [5]")
    parser.add_argument("--stop", type=float, default=30, metavar="SECONDS", help="how long the DC is stopped [30]")
    parser.add_argument("--watch", type=float, default=5, metavar="SECONDS", help="how long to watch it afterwards [5]")
    parser.add_argument("--only", default="", metavar="WORD", help="only scenarios whose name has this word")
    options = parser.parse_args()
    if options.tries < 1:
        parser.error("--tries: at least 1")
    if options.stop < token_timeout(len(NODES)) + consensus_timeout(len(NODES)) + 1:
        parser.error("--stop: no node takes over in less than 5 s")
    if os.geteuid() != 0 or not shutil.which("ip"):
        print("skipped: needs root and iproute2")
        return 0
    # Handled like an interrupt: processes are ended, and everything created is removed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)

    table = Table()
    table.say(f"bound: max(T + C, L(1+ρ)) + h, plus {1000 * GRACE:.0f} ms to form the ring on a busy machine")
    try:
        for scenario in SCENARIOS:
            if options.only not in scenario.__name__.replace("_", " "):
                continue
            with tempfile.TemporaryDirectory(prefix="quorate-failover-") as directory:
                try:
                    scenario(table, options, directory)
                except (Failed, OSError, subprocess.SubprocessError) as failure:
                    table.check(f"{scenario.__name__}: {failure}", False)
                    logs = sorted(pathlib.Path(directory).glob("*.log"))
                    for log in logs:
                        table.say("\n".join([f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-12:]]))
    except KeyboardInterrupt:
        print("stopped")
        return 130
    print(f"\n{f'{table.failed} FAILED' if table.failed else 'all as it has to be'}")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
