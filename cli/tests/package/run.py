#!/usr/bin/env python3
"""
Takes a Debian 12 machine with Pacemaker from corosync to Quorate and back, with the package.

    run.py [--keep ROOT] PACKAGE

PACKAGE is the Debian package. The machine is a container with systemd, made of Debian's packages,
without a network. The script prints each command that it runs there. It exits with 1 if a check
failed. It needs root, debootstrap, systemd-container and access to Debian's packages. If one is
missing, it says so and does nothing. With --keep, the machine's files stay, and the next run uses
them.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# The longest wait, in seconds. Pacemaker waits 20 s for a DC before its first election.
PATIENCE = 90

# Without a terminal, dpkg shows no progress.
APT = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]

PACKAGES = "systemd,systemd-sysv,dbus,corosync,pacemaker,pacemaker-cli-utils"

CONFIGURATION = """
totem {
    version: 2
    cluster_name: debian
    transport: %s
    crypto_cipher: none
    crypto_hash: none
}
nodelist {
    node {
        ring0_addr: 127.0.0.1
        name: node1
        nodeid: 1
    }
}
quorum {
    provider: corosync_votequorum
}
logging {
    to_syslog: yes
}
"""


class Failed(Exception):
    """A check that failed."""


class Machine:
    """A running Debian 12."""

    def __init__(self, root):
        self.root = root
        # A scenario that failed, or an earlier run, may have left these.
        subprocess.run(["chroot", root, "dpkg", "--purge", "quorate"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.write("/etc/default/corosync", "")
        self.write("/etc/corosync/corosync.conf", CONFIGURATION % "udpu")
        self.nspawn = subprocess.Popen(
            ["systemd-nspawn", "--quiet", f"--directory={root}", "--machine=quorate-package", "--register=no",
             "--keep-unit", "--private-network", "--console=pipe", "--boot"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        try:
            self.until("the system to start", lambda: self.first() and self.ask("systemctl", "is-active", "pacemaker") == "active")
            # A Pacemaker that is stopped before it has a DC may take minutes to stop.
            self.serves("corosync")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # The first signal shuts the system down in order.
        self.nspawn.terminate()
        try:
            self.nspawn.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait()

    def first(self):
        """Returns the id of the machine's first process, if it runs."""
        children = pathlib.Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
        return children[0] if children else None

    def write(self, path, text):
        (self.root / path.lstrip("/")).write_text(text)

    def run(self, *command):
        """Runs a command. Returns its exit code and what it printed."""
        enter = ["nsenter", f"--target={self.first()}", "--all", "--root", "--wd"]
        done = subprocess.run(
            [*enter, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)
        return done.returncode, done.stdout.strip()

    def ask(self, *command):
        return self.run(*command)[1]

    def do(self, *command):
        """Runs a command that has to succeed, and shows it. Returns what it printed."""
        print(f"$ {' '.join(command)}", flush=True)
        code, text = self.run(*command)
        print("".join(f"  {line}\n" for line in text.splitlines()), end="", flush=True)
        if code:
            raise Failed(f"{' '.join(command)} ended with {code}")
        return text

    def until(self, what, condition):
        until = time.monotonic() + PATIENCE
        while not condition():
            if self.nspawn.poll() is not None:
                raise Failed(f"the machine has stopped while waiting for {what}")
            if time.monotonic() > until:
                raise Failed(f"waited {PATIENCE} s for {what}")
            time.sleep(0.2)

    def daemon(self):
        """Returns the program that corosync.service runs now."""
        pid = self.ask("systemctl", "show", "--property=MainPID", "--value", "corosync")
        with contextlib.suppress(OSError):
            # The file of a running program may have been removed.
            return pathlib.Path(os.readlink(f"/proc/{self.outside(pid)}/exe").removesuffix(" (deleted)")).name
        return None

    def outside(self, pid):
        """Returns the id that a process of the machine has outside of it."""
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                text = status.read_text()
                ids = re.search(r"^NSpid:\s+(.*)$", text, re.M)[1].split()
                same = os.readlink(status.parent / "ns/pid") == os.readlink(f"/proc/{self.first()}/ns/pid")
                if same and ids[-1] == pid:
                    return ids[0]
        return None

    def serves(self, program):
        """Waits until Pacemaker has a DC and a quorum on this program."""
        self.until(f"{program} to run", lambda: self.daemon() == program)
        # The DC is stored. That the node is online is not.
        shown = re.compile(r"Current DC: node1 .*partition with quorum.*Online: \[ node1 \]", re.DOTALL)
        self.until(f"Pacemaker's DC on {program}", lambda: shown.search(self.ask("crm_mon", "-1")))
        check("Quorate:          Yes" in self.do("corosync-quorumtool", "-s"), "no quorum")


def check(condition, what):
    if not condition:
        raise Failed(what)


def there_and_back(machine, package):
    """From corosync to Quorate and back, as README says."""
    # Nothing is removed, and nothing but this package is installed.
    simulated = machine.do("apt-get", "install", "--simulate", package)
    check("Remv" not in simulated and simulated.count("Inst ") == 1, "other packages change")
    # Pacemaker runs, so nothing is restarted.
    check("systemctl restart corosync" in machine.do(*APT, "install", package), "no advice")
    check(machine.daemon() == "corosync", "corosync was stopped")
    machine.do("quorate", "config", "check", "/etc/corosync/corosync.conf")
    machine.do("systemctl", "restart", "corosync")
    machine.serves("quorate")
    check("node1" in machine.do("quorate", "status"), "the node is not shown")
    check(machine.ask("systemctl", "is-enabled", "corosync") == "enabled", "the service is not enabled")
    check(machine.ask("systemctl", "is-active", "pacemaker") == "active", "Pacemaker has not come back")
    check("listens at" in machine.ask("journalctl", "--unit=corosync", "--boot"), "nothing is in the journal")

    # A stop ends both in order.
    machine.do("systemctl", "stop", "corosync")
    result = machine.ask("systemctl", "show", "--property=Result", "--value", "corosync")
    check(result == "success" and machine.daemon() is None, f"the service stopped with {result}")
    machine.do("systemctl", "start", "pacemaker")
    machine.serves("quorate")

    machine.do(*APT, "remove", "quorate")
    check(machine.daemon() == "quorate", "Quorate was stopped")
    machine.do("systemctl", "restart", "corosync")
    machine.serves("corosync")


def without_pacemaker(machine, package):
    """Without Pacemaker, the package itself restarts the service."""
    machine.do("systemctl", "stop", "pacemaker")
    machine.do(*APT, "install", package)
    machine.until("quorate to run", lambda: machine.daemon() == "quorate")
    machine.do(*APT, "remove", "quorate")
    machine.until("corosync to run", lambda: machine.daemon() == "corosync")


def what_quorate_cannot_do(machine, package):
    """What Quorate cannot do as corosync does stops nothing that runs, and is said."""
    machine.do("systemctl", "stop", "pacemaker")
    machine.write("/etc/corosync/corosync.conf", CONFIGURATION % "knet")
    machine.do("systemctl", "restart", "corosync")
    said = machine.do(*APT, "install", package)
    check("knet" in said and "will not start as things are" in said, "the transport is not named")
    check(machine.daemon() == "corosync", "corosync was stopped")
    machine.do(*APT, "remove", "quorate")
    machine.until("corosync to run", lambda: machine.daemon() == "corosync")

    machine.write("/etc/corosync/corosync.conf", CONFIGURATION % "udpu")
    machine.write("/etc/default/corosync", 'COROSYNC_OPTIONS="-p"\n')
    said = machine.do(*APT, "install", package)
    check("COROSYNC_OPTIONS=-p" in said, "corosync's options are ignored")
    check(machine.daemon() == "corosync", "corosync was stopped")
    code, _ = machine.run("systemctl", "restart", "corosync")
    said = machine.ask("journalctl", "--unit=corosync", "--boot")
    check(code != 0 and "COROSYNC_OPTIONS=-p" in said, "corosync's options are ignored")
    machine.write("/etc/default/corosync", "")
    machine.do("systemctl", "restart", "corosync")
    machine.until("quorate to run", lambda: machine.daemon() == "quorate")

    # The record stays as long as a node runs. Without it, the node could repeat a ring.
    machine.do("systemctl", "start", "pacemaker")
    check("its record stays" in machine.do(*APT, "purge", "quorate"), "the record of a node that runs was removed")
    check((machine.root / "var/lib/quorate").is_dir(), "the record of a node that runs was removed")


def build(root):
    print("a Debian 12 machine is made", flush=True)
    debian = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root]
    subprocess.run(debian, check=True, stdout=subprocess.DEVNULL)


def missing():
    if os.geteuid() != 0:
        return "root"
    wanted = [program for program in ("debootstrap", "systemd-nspawn", "nsenter") if not shutil.which(program)]
    return ", ".join(wanted)


def main():
    parser = argparse.ArgumentParser(description="From corosync to Quorate and back on a Debian machine.")
    parser.add_argument("package", type=pathlib.Path, metavar="PACKAGE", help="the Debian package")
    parser.add_argument("--keep", type=pathlib.Path, metavar="ROOT", help="keep the machine's files here")
    options = parser.parse_args()
    if wanted := missing():
        print(f"skipped: needs {wanted}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="quorate-package-") as directory:
        root = options.keep or pathlib.Path(directory) / "root"
        if not (root / "usr/sbin/pacemakerd").exists():
            build(root)
        inside = f"/root/{options.package.name}"
        shutil.copy(options.package, root / inside.lstrip("/"))
        for scenario in (there_and_back, without_pacemaker, what_quorate_cannot_do):
            print(f"\n=== {scenario.__doc__}", flush=True)
            started, verdict = time.monotonic(), "ok"
            try:
                with Machine(root) as machine:
                    try:
                        scenario(machine, inside)
                    except Failed:
                        print(machine.ask("journalctl", "--boot", "--unit=corosync", "--unit=pacemaker", "--lines=40"))
                        raise
            except (Failed, OSError, subprocess.SubprocessError) as failure:
                verdict, failed = f"FAILED: {failure}", failed + 1
            print(f"=== {time.monotonic() - started:.0f} s, {verdict}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
