#!/usr/bin/env python3
"""
Measures acknowledged writes to a replica beside puts into etcd, on this machine and in one run.

    etcd.py [--sizes BYTES,...] [--writers N] QUORATE_LAB

QUORATE_LAB is the program `quorate-lab`. Three servers of etcd run on the loopback interface with
their defaults and their data in DIRECTORY (a temporary one). It needs Debian's etcd-server. If it is
missing, the script says so and does nothing.

The two do not promise the same. A put is on disk at a majority of the servers when etcd answers. A
write to a replica is in memory at a majority of the members.
"""

import argparse
import contextlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

PORTS = {1: (23791, 23801), 2: (23792, 23802), 3: (23793, 23803)}


@contextlib.contextmanager
def etcd(directory):
    """Runs three servers, and yields their addresses."""
    cluster = ",".join(f"e{n}=http://127.0.0.1:{peer}" for n, (_, peer) in PORTS.items())
    servers = []
    try:
        for n, (client, peer) in PORTS.items():
            options = {
                "name": f"e{n}",
                "data-dir": directory / f"e{n}",
                "listen-client-urls": f"http://127.0.0.1:{client}",
                "advertise-client-urls": f"http://127.0.0.1:{client}",
                "listen-peer-urls": f"http://127.0.0.1:{peer}",
                "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
                "initial-cluster": cluster,
                "log-level": "error",
            }
            words = [f"--{name}={value}" for name, value in options.items()]
            servers.append(subprocess.Popen(["etcd", *words], stdin=subprocess.DEVNULL))
        for client, _ in PORTS.values():
            wait_for(f"http://127.0.0.1:{client}/health")
        yield [f"127.0.0.1:{client}" for client, _ in PORTS.values()]
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()


def wait_for(url):
    until = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(url, timeout=1) as answer:
                if b'"true"' in answer.read():
                    return
        if time.monotonic() > until:
            sys.exit(f"etcd does not answer at {url}")
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description="Writes to a replica beside puts into etcd.")
    parser.add_argument("lab", type=pathlib.Path, metavar="QUORATE_LAB", help="the program")
    parser.add_argument("--sizes", default="64,1350", metavar="BYTES", help="sizes of writes [64,1350]")
    parser.add_argument("--writers", default="1,64", metavar="N", help="writers at each member [1,64]")
    options = parser.parse_args()
    if not shutil.which("etcd"):
        print("skipped: needs etcd-server")
        return 0
    print(subprocess.run(["etcd", "--version"], capture_output=True, text=True).stdout.splitlines()[0])
    with tempfile.TemporaryDirectory(prefix="quorate-etcd-") as directory, etcd(pathlib.Path(directory)) as servers:
        for size in options.sizes.split(","):
            for writers in options.writers.split(","):
                words = [word for server in servers for word in ("--etcd", server)]
                command = [options.lab, "bench", "replica", "--size", size, "--writers", writers, *words]
                if subprocess.run(command).returncode:
                    return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
