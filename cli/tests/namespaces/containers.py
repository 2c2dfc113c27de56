"""Nodes that are configured by environment variables only, where no multicast passes."""

import json
import pathlib
import re
import subprocess
import time

from lab import GRACE, Failed, address, token_timeout

MANIFEST = pathlib.Path(__file__).parents[3] / "docs" / "kubernetes.yaml"
HTTP = 8080

# Sends a request from a host, and prints the status, the text and the place to go to.
ASK = """
import http.client, json, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=5)
connection.request(sys.argv[2], sys.argv[3], sys.argv[4] or None)
answer = connection.getresponse()
print(json.dumps([answer.status, answer.read().decode(), answer.headers.get("location")]))
"""


class Pods:
    """The pods of the manifest, one on each host."""

    def __init__(self, lab, quorate):
        self.lab = lab
        text = MANIFEST.read_text()
        self.command = json.loads(re.search(r"command: (\[.*\])", text)[1])
        self.program = pathlib.Path(quorate).with_name(self.command[0])
        if not self.program.exists():
            raise Failed(f"{self.program} is not there; cargo build -p quorate-examples --bin {self.command[0]}")
        self.values = dict(re.findall(r'- \{name: ([A-Z_]+), value: "?([^"}]*)"?\}', text))
        self.fields = dict(re.findall(r"- name: ([A-Z_]+)\n +valueFrom: \{fieldRef: \{fieldPath: ([\w.]+)\}\}", text))
        self.addresses = {host: address(host) for host in lab.hosts}
        self.running = {}
        for host in lab.hosts:
            lab.write_etc(host, "hosts", "127.0.0.1 localhost\n")

    def name(self, host):
        return f"jobs-{host - 1}"

    def announce(self, *hosts):
        """Makes the names of these pods known to all."""
        lines = "".join(f"{self.addresses[host]} {self.name(host)}.jobs\n" for host in hosts)
        for host in self.lab.hosts:
            self.lab.write_etc(host, "hosts", f"127.0.0.1 localhost\n{lines}")

    def start(self, host):
        own = {"metadata.name": self.name(host), "status.podIP": self.addresses[host]}
        # The volumes.
        state = self.lab.directory / f"state{host}"
        places = {"STATE": state, "TABLE": self.lab.directory / "orders.sqlite"}
        environment = self.values | {name: own[field] for name, field in self.fields.items()} | places
        variables = [f"{name}={value}" for name, value in environment.items()]
        with open(self.lab.directory / f"pod{host}.log", "a") as log:
            command = self.lab.on(host, "env", "-i", *variables, self.program, *self.command[1:])
            self.running[host] = self.lab.start(command, stdout=log, stderr=log)

    def readdress(self, host, new):
        """Gives a pod's host another address."""
        for words in (f"address del {self.addresses[host]}/24 dev e0", f"address add {new}/24 dev e0"):
            subprocess.run(self.lab.on(host, "ip", *words.split()), check=True)
        self.addresses[host] = new

    def ask(self, host, method, path, body=""):
        """Sends a request to a pod, from its own host. Returns `None` if it does not answer."""
        at = f"{self.addresses[host]}:{HTTP}"
        command = self.lab.on(host, "python3", "-c", ASK, at, method, path, body)
        done = subprocess.run(command, capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def ready(self, *hosts, patience):
        """Waits until these pods are ready. Returns how long that took."""
        began = time.monotonic()
        while not all((self.ask(host, "GET", "/ready") or [0])[0] == 200 for host in hosts):
            if time.monotonic() - began > patience:
                logs = [(self.lab.directory / f"pod{host}.log").read_text()[-500:] for host in hosts]
                raise Failed(f"pods {hosts} are not ready after {patience} s: {logs}")
            time.sleep(0.05)
        return time.monotonic() - began

    def leader(self, host, patience=30):
        """Returns the host of the leader, as a pod says it."""
        by_address = {f"{at}:{HTTP}": host for host, at in self.addresses.items()}
        until = time.monotonic() + patience
        while time.monotonic() < until:
            _, text, _ = self.ask(host, "GET", "/") or (0, "", None)
            told = re.search(r"leader (\S+),", text)
            if told and told[1] in by_address and by_address[told[1]] in self.running:
                return by_address[told[1]]
            time.sleep(0.05)
        raise Failed(f"pod {host} knows of no leader")

    def order(self, host, patience=10):
        """Orders something at a pod, which says where the leader is. Returns how long that took."""
        began = time.monotonic()
        while time.monotonic() - began < patience:
            status, _, place = self.ask(host, "POST", "/orders", "a book") or (0, "", None)
            if status == 307:
                to = next(pod for pod, at in self.addresses.items() if f"//{at}:" in place)
                status, _, _ = self.ask(to, "POST", "/orders", "a book") or (0, "", None)
            if status == 201:
                return time.monotonic() - began
            time.sleep(0.05)
        raise Failed(f"no order was taken within {patience} s")


def pods_find_each_other_by_their_environment(lab, table):
    """The command and the variables of docs/kubernetes.yaml. A name exists once its pod does."""
    for host in lab.hosts:
        lab.netns("nomcast", host)
    pods = Pods(lab, table.options.quorate)
    table.row(f"the manifest: {' '.join(pods.command)}", "", len(pods.values) >= 4 and len(pods.fields) == 2)
    pods.announce(1)
    pods.start(1)
    time.sleep(1)
    pods.announce(*lab.hosts)
    for host in lab.hosts[1:]:
        pods.start(host)
    # Names are looked up every 5 s.
    patience = 5 + 10 * token_timeout(3)
    table.time("all are ready", pods.ready(*lab.hosts, patience=patience), patience)
    for host in lab.hosts:
        table.time(f"order at pod {host}", pods.order(host), 5)

    leader = pods.leader(1)
    pods.running.pop(leader).kill()
    others = [host for host in lab.hosts if host != leader]
    table.time("order after the leader was killed", pods.order(others[0]), 5)
    # Its next pod has another address.
    pods.readdress(leader, f"10.77.0.{100 + leader}")
    pods.announce(*lab.hosts)
    pods.start(leader)
    table.time("a pod with another address is ready", pods.ready(leader, patience=patience), patience)
    table.time("order at it", pods.order(leader), 5)

    # All are started elsewhere at the same time.
    for host in lab.hosts:
        pods.running.pop(host).kill()
    for host in lab.hosts:
        pods.readdress(host, f"10.77.0.{200 + host}")
    for host in lab.hosts:
        pods.start(host)
    time.sleep(1)
    pods.announce(*lab.hosts)
    table.time("all have another address", pods.ready(*lab.hosts, patience=patience), patience)
    began = time.monotonic()
    pods.running[1].terminate()
    code = pods.running.pop(1).wait(timeout=10)
    table.time(f"a pod that is stopped ends with {code}", time.monotonic() - began, 1 + GRACE)
    table.time("order at another one", pods.order(2), 5)


SCENARIOS = [(pods_find_each_other_by_their_environment, 3)]
