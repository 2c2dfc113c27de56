#!/usr/bin/env python3
"""
Plays recorded quorum cases in mixed rings.

Every other node is `quorate`, the others are real corosync daemons, each on its own host (network
namespaces on a bridge). After each step, all nodes have to report what was recorded.

Needs root, iproute2, nftables and corosync 3.1 with transport udp. Cases that our nodes
deliberately decide differently are left out, and so are cases recorded only from a simulator.

  run.py QUORATE [CASE...]        all cases, or these; QUORATE is the program
  --file FILE                     the cases (default: netsim/tests/data/quorum-cases.json)
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
NETNS = HERE.parent / "namespaces" / "netns"
CASES = HERE.parents[2] / "netsim/tests/data/quorum-cases.json"

# Cases that are decided differently: see the crate `quorate-election`, module `quorum`.
DECIDED = {
    "2node-3-listed",
    "2node-3-listed-three-way",
    "2node-3-listed-2-1",
    "atb-list-cold-start-half",
    "atb-3-wfa-survivor",
    "lms-4-slow",
}

# The window that was used in all recordings, whatever the case says, in milliseconds.
WINDOW = 5000
# The time within which all nodes have to report what was recorded, in seconds.
PATIENCE = 20


class Failed(Exception):
    """An expectation was not met."""


class Died(Exception):
    """A corosync daemon ended by itself. 3.1.7 can fail an assertion if several start at once."""


def corosync_conf(config):
    votes = config["quorum_votes"]
    quorum = dict(config["quorum"])
    if "last_man_standing_window" in quorum:
        quorum["last_man_standing_window"] = WINDOW
    lines = "".join(f"  {key}: {value}\n" for key, value in quorum.items())
    nodes = "".join(
        f"  node {{\n    ring0_addr: 10.77.0.{node}\n    name: n{node}\n    nodeid: {node}\n"
        f"    quorum_votes: {votes.get(str(node), 1)}\n  }}\n"
        for node in config["nodes"]
    )
    return (
        "totem {\n  version: 2\n  cluster_name: quorum\n  transport: udp\n  token: 1000\n  token_coefficient: 0\n"
        "  crypto_cipher: none\n  crypto_hash: none\n  interface {\n    ringnumber: 0\n    bindnetaddr: 10.77.0.0\n"
        "    mcastaddr: 239.192.77.9\n    mcastport: 5405\n  }\n}\n"
        "logging {\n  to_stderr: yes\n  to_syslog: no\n}\n"
        f"quorum {{\n  provider: corosync_votequorum\n{lines}}}\nnodelist {{\n{nodes}}}\n"
    )


class Lab:
    """The hosts of one case. The end of the `with` block removes them."""

    def __init__(self, quorate, config, directory):
        self.quorate, self.config, self.directory = quorate, config, pathlib.Path(directory)
        self.prefix = f"qq{os.getpid()}-"
        self.part = {node: 0 for node in config["nodes"]}
        self.processes = {}
        self.all = []

    def __enter__(self):
        self.netns("up", max(self.config["nodes"]))
        return self

    def __exit__(self, *_):
        for process in self.all:
            if process.poll() is None:
                process.kill()
        self.netns("down")
        for process in self.all:
            process.wait()

    def netns(self, *arguments):
        environment = os.environ | {"LAB": self.prefix}
        command = [str(NETNS), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"netns {arguments}: {done.stderr.strip()}")

    @staticmethod
    def is_ours(node):
        return node % 2 == 1

    def home(self, node):
        return self.directory / f"n{node}"

    def start(self, node):
        home = self.home(node)
        shutil.rmtree(home, ignore_errors=True)
        for name in ("etc", "lib", "run", "log", "state"):
            (home / name).mkdir(parents=True)
        (home / "etc/corosync.conf").write_text(corosync_conf(self.config))
        inside = ["ip", "netns", "exec", f"{self.prefix}{node}"]
        if self.is_ours(node):
            command = [*inside, self.quorate, "node", "-c", home / "etc/corosync.conf"]
            command += ["--name", f"n{node}", "--socket", home / "sock", "--state-dir", home / "state"]
        else:
            script = (
                f"hostname n{node}; mount --bind {home}/lib /var/lib/corosync; mount --bind {home}/log /var/log/corosync;"
                f"mount --bind {home}/etc /etc/corosync; mount -t tmpfs shm /dev/shm; mount --bind {home}/run /run;"
                "exec corosync -f"
            )
            command = [*inside, "unshare", "-m", "-u", "--propagation", "private", "bash", "-c", script]
        with open(home / "out", "w") as out:
            process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.processes[node] = process
        self.all.append(process)

    def end(self, node, number):
        process = self.processes.pop(node)
        process.send_signal(number)
        process.wait(timeout=20)

    def partition(self):
        """Makes each host drop datagrams of other parts.

        The rules of a host change at once, so that parts that stay separate never meet.
        """
        for node, part in self.part.items():
            apart = [other for other, of in self.part.items() if of != part]
            drop = "".join(
                f'add rule inet lab arriving iifname "e0" ether saddr 02:77:00:00:{n >> 8:02x}:{n & 255:02x} drop\n'
                for n in apart
            )
            rules = (
                "add table inet lab\ndelete table inet lab\nadd table inet lab\n"
                f"add chain inet lab arriving {{ type filter hook input priority 0; }}\n{drop}"
            )
            command = ["ip", "netns", "exec", f"{self.prefix}{node}", "nft", "-f", "-"]
            done = subprocess.run(command, input=rules, capture_output=True, text=True)
            if done.returncode:
                raise Failed(f"nft on host {node}: {done.stderr.strip()}")

    def do(self, action):
        verb, *words = action.split()
        nodes = lambda word: [int(node) for node in word.split(",")]
        if verb == "start":
            for node in self.config["nodes"]:
                self.start(node)
        elif verb in ("down", "leave"):
            for word in words:
                for node in nodes(word):
                    self.end(node, signal.SIGKILL if verb == "down" else signal.SIGTERM)
        elif verb in ("up", "split"):
            moved = []
            for word in words:
                part, _, listed = word.rpartition(":")
                for node in nodes(listed):
                    self.part[node] = int(part or 0)
                    moved.append(node)
            self.partition()
            if verb == "up":
                for node in moved:
                    self.start(node)
        elif verb == "join":
            into, *others = map(int, words)
            self.part = {node: into if part in others else part for node, part in self.part.items()}
            self.partition()
        elif verb == "wait":
            window = self.config["quorum"].get("last_man_standing_window")
            ms = int(words[0])
            time.sleep((max(ms, ms * WINDOW / window) if window else ms) / 1000)
        else:
            raise Failed(f"`{action}` is not an action")

    def says(self, node):
        """Returns a node's report of the votes, or `None` if it gives none."""
        if self.is_ours(node):
            command = [self.quorate, "quorum", "--json", "--socket", self.home(node) / "sock"]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            if done.returncode not in (0, 2) or not done.stdout:
                return None
            said = json.loads(done.stdout)["quorum"]
            members = [member["id"] for member in said["members"]]
            keys = ("quorate", "expected_votes", "quorum", "total_votes", "flags")
            return members, *(said[key] for key in keys)
        # The process is `ip netns exec`, then unshare, bash, and finally corosync.
        process = self.processes[node]
        if process.poll() is not None:
            last = (self.home(node) / "out").read_text(errors="replace").strip().splitlines()[-1:]
            raise Died(f"corosync of node {node} died: {' '.join(last)}")
        pid = process.pid
        command = ["nsenter", "-t", str(pid), "-m", "-n", "-u", "--", "corosync-quorumtool", "-s"]
        done = subprocess.run(command, capture_output=True, text=True)
        field = lambda name: re.search(rf"^{name}: *(.*)$", done.stdout, re.M)
        if not field("Expected votes"):
            return None
        number = lambda name: int(field(name)[1].split()[0])
        members = sorted(int(node) for node in re.findall(r"^ +(\d+) +\d+ \S+", done.stdout, re.M))
        quorate, flags = field("Quorate")[1] == "Yes", field("Flags")[1].split()
        return members, quorate, number("Expected votes"), number("Quorum"), number("Total votes"), flags

    def differences(self, step):
        wrong = []
        for partition in step["partitions"]:
            for node in partition["members"]:
                of = lambda value: value[str(node)] if isinstance(value, dict) else value
                keys = ("quorate", "expected_votes", "quorum", "total_votes", "flags")
                expected = (partition["members"], *(of(partition[key]) for key in keys))
                got = self.says(node)
                if got != expected:
                    kind = "quorate" if self.is_ours(node) else "corosync"
                    wrong.append(f"node {node} ({kind})\n    expected  {expected}\n    got       {got}")
        return wrong


def run(quorate, case):
    with tempfile.TemporaryDirectory(prefix="quorate-qq-") as directory, Lab(quorate, case["config"], directory) as lab:
        for n, step in enumerate(case["steps"], 1):
            lab.do(step["do"])
            deadline = time.monotonic() + PATIENCE
            while wrong := lab.differences(step):
                if time.monotonic() > deadline:
                    raise Failed(f"step {n} ({step['do']}):\n  " + "\n  ".join(wrong))
                time.sleep(0.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quorate")
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--file", type=pathlib.Path, default=CASES)
    arguments = parser.parse_args()
    cases = [
        case
        for case in json.loads(arguments.file.read_text())["cases"]
        if (case["id"] in arguments.cases)
        or not (arguments.cases or case["id"] in DECIDED or case.get("start_fails") or "simulator" in case["engine"])
    ]
    agreed, began = 0, time.monotonic()
    for case in cases:
        try:
            for attempt in range(4):
                try:
                    run(os.path.abspath(arguments.quorate), case)
                    break
                except Died as died:
                    print(f"{case['id']}: {died}; once more", flush=True)
                    if attempt == 3:
                        raise Failed("corosync died each time") from died
            agreed += 1
            print(f"{case['id']}: {len(case['steps'])} steps agree", flush=True)
        except (Failed, subprocess.TimeoutExpired) as failed:
            print(f"{case['id']}: {failed}", flush=True)
    print(f"{agreed} of {len(cases)} cases agree, {time.monotonic() - began:.0f} s")
    return 0 if agreed == len(cases) else 1


if __name__ == "__main__":
    sys.exit(main())
