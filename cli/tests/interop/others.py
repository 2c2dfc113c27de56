"""Programs that others wrote for corosync, from Debian's packages, on a real node or on ours."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import time

from lab import Failed

# Commands, with the code that they end with and what they have to print.
COMMANDS = [
    ("pcs quorum status", 0, "Quorate: +Yes"),
    ("pcs status corosync", 0, r"n1\b.*n2\b"),
    ("pcs quorum config", 0, "Options:"),
    ("pcs cluster corosync", 0, "cluster_name: namespaces"),
    ("pcs quorum expected-votes 2", 0, ""),
    ("pcs quorum device status", 1, "corosync-qdevice"),
    ("crm corosync get quorum.provider", 0, "corosync_votequorum"),
    ("crm corosync show", 0, "cluster_name: namespaces"),
    ("crm corosync status ring", 0, "LINK ID|RING ID"),
    ("crm corosync status quorum", 0, "Quorate: +Yes"),
]

# `crm corosync status` asks systemd first.
SYSTEMCTL = """#!/bin/sh
[ "$1" = is-active ] && echo active
exit 0
"""

FENCE_VIRTD = """
fence_virtd {
    listener = "tcp";
    backend = "cpg";
    module_path = "%s";
}
listeners {
    tcp {
        address = "127.0.0.1";
        key_file = "%s";
        port = "1229";
    }
}
backends {
    cpg {
        uri = "test:///default";
    }
}
groups {
    group {
        ip = "127.0.0.1";
        uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f";
    }
}
"""

EXPORTER = "ha_cluster_exporter"


# The crate with Rust's bindings of corosync's libraries.
MANIFEST = """
[package]
name = "bindings"
version = "0.0.0"
edition = "2024"

[dependencies]
rust-corosync = "=3.2.0"

[workspace]
"""


def missing():
    """Returns the packages that this machine lacks."""
    wanted = {
        "pcs": "pcs",
        "crm": "crmsh",
        "corosync-notifyd": "corosync-notifyd",
        "fence_virtd": "fence-virtd",
        EXPORTER: "prometheus-hacluster-exporter",
    }
    libraries = ("cfg", "cmap", "cpg", "quorum", "votequorum")
    headers = {f"lib{name}-dev": pathlib.Path(f"/usr/include/corosync/{name}.h") for name in libraries}
    lacking = [package for program, package in wanted.items() if not shutil.which(program)]
    return lacking + [package for package, header in headers.items() if not header.exists()]


def built(directory):
    """Builds the program that uses the bindings, and returns it."""
    (directory / "src").mkdir()
    (directory / "Cargo.toml").write_text(MANIFEST)
    shutil.copy(pathlib.Path(__file__).with_name("rust_corosync.rs"), directory / "src" / "main.rs")
    target = directory / "target"
    subprocess.run(["cargo", "build", "--quiet", "--target-dir", target], cwd=directory, check=True)
    return target / "debug" / "bindings"


def bindings_work(node, program):
    """Rust's bindings of corosync's libraries."""
    code, text = node.run("timeout", 30, program)
    if code or "all calls work" not in text:
        raise Failed(f"the program with rust-corosync ended on {node} with {code}:\n{text[-1500:]}")


def commands_run(node, directory):
    """pcs and crmsh, which run corosync's tools and read its files."""
    (directory / "systemctl").write_text(SYSTEMCTL)
    (directory / "systemctl").chmod(0o755)
    path = f"PATH={directory}:{os.environ['PATH']}"
    for command, code, prints in COMMANDS:
        ended, text = node.run("env", path, *command.split())
        if ended != code or not re.search(prints, text, re.DOTALL):
            raise Failed(f"{command} ended on {node} with {ended}:\n{text[-1500:]}")


def exporter_sees_quorum(node, directory):
    """The exporter for Prometheus parses what corosync's tools print."""
    with running(node, directory, EXPORTER, "--web.listen-address", "127.0.0.1:9664"):
        wanted = ["ha_cluster_corosync_quorate 1", 'ha_cluster_scrape_success{collector="corosync"} 1']
        script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9664/metrics').read().decode())"
        wait(lambda: all(want in node.run("python3", "-c", script)[1] for want in wanted), f"metrics of {node}")


def fence_virtd_joins_its_group(node, directory):
    """fence_virtd finds the hosts of virtual machines through a process group."""
    [modules] = pathlib.Path("/usr/lib").glob("*/fence-virt")
    (directory / "key").write_bytes(bytes(4096))
    (directory / "fence_virt.conf").write_text(FENCE_VIRTD % (modules, directory / "key"))
    with running(node, directory, "fence_virtd", "-F", "-f", directory / "fence_virt.conf"):
        wait(lambda: "fence-agents" in node.run("corosync-cpgtool")[1], f"fence_virtd on {node}")
    wait(lambda: "fence-agents" not in node.run("corosync-cpgtool")[1], f"the end of fence_virtd on {node}")


@contextlib.contextmanager
def notifyd(node, directory):
    """Runs corosync-notifyd, and returns a function that waits until it has told something."""
    with running(node, directory, "stdbuf", "-oL", "corosync-notifyd", "-f", "-o") as log:
        read = 0

        def tells(words):
            nonlocal read
            wait(lambda: words in log.read_text()[read:], f"notifyd on {node} to say {words!r}")
            read = len(log.read_text())

        # It says so when it has connected.
        tells("is now quorate")
        yield tells


@contextlib.contextmanager
def running(node, directory, *command):
    """Runs a program on a node's machine during the `with` block. Returns its log."""
    path = directory / f"{pathlib.Path(str(command[0])).name}-{node.host}.log"
    with open(path, "w") as log:
        process = node.lab.start(node.on(*command), stdout=log, stderr=subprocess.STDOUT)
    try:
        yield path
        if process.poll() is not None:
            raise Failed(f"{command[0]} ended on {node} with {process.returncode}:\n{path.read_text()[-1500:]}")
    except Failed as failure:
        raise Failed(f"{failure}\n{path.read_text()[-1500:]}") from None
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait(condition, what, patience=30):
    until = time.monotonic() + patience
    while not condition():
        if time.monotonic() > until:
            raise Failed(f"waited {patience} s for {what}")
        time.sleep(0.1)
