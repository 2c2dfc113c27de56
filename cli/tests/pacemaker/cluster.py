"""Hosts with Pacemaker on their nodes, and what it shows of them."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time
import xml.etree.ElementTree

from lab import Failed
from mixed import Mixed

# The longest wait, in seconds. Pacemaker waits 20 s for a DC before its first election.
PATIENCE = 90

# Gives Pacemaker its own files on a host, and starts it.
START = """
mkdir -p {dir}/pcmk/blackbox {dir}/pcmk/cib {dir}/pcmk/cores {dir}/pcmk/pengine {dir}/plog
mkdir -p /run/crm /run/resource-agents {dir}/init.d
chown -R hacluster:haclient {dir}/pcmk {dir}/plog /run/crm
chmod 750 {dir}/pcmk {dir}/pcmk/* /run/crm
mountpoint -q /var/lib/pacemaker || mount --bind {dir}/pcmk /var/lib/pacemaker
mountpoint -q /var/log/pacemaker || mount --bind {dir}/plog /var/log/pacemaker
mountpoint -q /etc/init.d || mount --bind {dir}/init.d /etc/init.d
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
        at = self.kill(host)
        self.kill_pacemaker(host)
        return at

    def forget_address(self, host, address):
        """Removes an address from a host, if it has it."""
        subprocess.run(self.on(host, "ip", "address", "del", address, "dev", "eth0"), stderr=subprocess.DEVNULL)

    def kill_pacemaker(self, host):
        """Kills all processes of Pacemaker on a host."""
        network = os.stat(f"/run/netns/{self.prefix}{host}").st_ino
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text()
                if os.stat(process / "ns/net").st_ino == network and name.startswith("pacemaker"):
                    os.kill(int(process.name), signal.SIGKILL)

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

    def start_everything(self):
        """Starts the nodes and then Pacemaker, and waits for a DC. Returns the time that it took."""
        started = time.monotonic()
        for host in self.hosts:
            self.start_host(host)
        # One after the other, since Pacemaker takes a moment each.
        for host in self.hosts:
            self.start_pacemaker(host)
        return self.until_whole(1) - started

    def until_whole(self, host):
        """Waits until a host shows all nodes and a DC. Returns the time."""
        everyone = list(self.hosts)
        return self.until(host, lambda text: dc(text) and online(text) == everyone, "all nodes, and a DC")

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


    def places(self, host):
        """Returns the hosts of each resource in each role, as a host shows them."""
        shown = xml.etree.ElementTree.fromstring(self.run_on(host, "crm_mon", "-1", "--output-as=xml"))
        places = {}
        for resource in shown.iter("resource"):
            for node in resource.iter("node"):
                key = (resource.get("id").split(":")[0], resource.get("role"))
                places.setdefault(key, []).append(int(node.get("name").removeprefix("n")))
        return {key: sorted(hosts) for key, hosts in places.items()}

    def failures(self, host):
        """Returns the actions on resources that failed."""
        shown = xml.etree.ElementTree.fromstring(self.run_on(host, "crm_mon", "-1", "--output-as=xml"))
        return [failure.attrib for failure in shown.iter("failure")]

    def until_placed(self, host, wanted):
        """Waits until a host shows these resources at these places. Returns the time."""
        until = time.monotonic() + PATIENCE
        while (places := self.places(host)) != wanted:
            self.look_after_daemons()
            if time.monotonic() > until:
                raise Failed(f"after {PATIENCE} s host {host} shows the resources at {places}, not at {wanted}")
            time.sleep(0.05)
        return time.monotonic()


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
