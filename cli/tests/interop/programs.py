"""corosync's own test programs, built from Debian's source package and run on a node."""

import os
import pathlib
import re
import subprocess
import tarfile

from lab import Failed

SOURCES = pathlib.Path("/etc/apt/sources.list.d/debian.sources")
LIBRARIES = [f"-l{name}" for name in "cpg cfg cmap quorum votequorum sam corosync_common qb z pthread".split()]


class Program:
    """A test program: how long it runs, the code it ends with, and what its output has to contain.

    Many loop for ever. `timeout` ends these, with 124.
    """

    def __init__(self, command, *, seconds=8, code=124, prints="", never="(?!)"):
        self.name, *self.arguments = command.split()
        self.seconds, self.code = seconds, code
        self.prints, self.never = re.compile(prints, re.DOTALL), re.compile(never)

    def run(self, node, directory):
        """Runs the program on a node's machine. Raises what is wrong with its end or its output."""
        command = ["timeout", self.seconds, "stdbuf", "-oL", directory / self.name, *self.arguments]
        code, text = node.run(*command)
        if code != self.code or not self.prints.search(text) or self.never.search(text):
            raise Failed(f"{self.name} ended on {node} with {code}:\n{text[-1500:]}")


# Not here: programs for zero-copy messages, which a Quorate node does not have, and cpghum, which
# prints nothing in a short time.
PROGRAMS = [
    Program("testquorum", prints="quorate *= *1"),
    Program("testquorummodel", prints="quorate *= *1"),
    Program("testvotequorum1", prints="node votes *1"),
    Program("testcpg -i", seconds=15, code=0, prints="Finalize"),
    Program("testcpg2", seconds=15, code=0, prints=r"local_get: (\d+)\s+confchg nodeid \1\s"),
    Program("cpgverify", seconds=5, prints="HASH", never="incorrect hash"),
    Program("cpgbound", prints="msg size 10251"),
    Program("cpgbench", seconds=12, prints="messages received"),
    Program("stress_cpgfdget", seconds=60, code=0, prints="PASS"),
    Program("stress_cpgcontext", seconds=60, code=0, prints="PASS"),
    Program("testcfg", seconds=15, code=0, prints="denying"),
    Program("testsam", seconds=45, prints="hc send"),
]

# A quorum device. It polls for an old ring first.
DEVICE = Program("testvotequorum2 -F 1 -p 3", seconds=15, code=0, prints="alive cast-vote")


def build(directory):
    """Fetches and builds the programs in a directory."""
    sources = directory / "source.sources"
    sources.write_text(re.sub("^Types: .*", "Types: deb-src", SOURCES.read_text(), flags=re.MULTILINE))
    lists = directory / "lists"
    (lists / "partial").mkdir(parents=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-"]
    apt += ["-o", f"Dir::State::lists={lists}", "-o", "APT::Sandbox::User=root"]
    subprocess.run([*apt, "update"], check=True, capture_output=True)
    # A mirror may lack the signature of the archive. The archive itself is enough.
    done = subprocess.run(
        [*apt, "source", "--download-only", "corosync"], cwd=directory, capture_output=True, text=True
    )
    archives = list(directory.glob("corosync_*.orig.tar.*z"))
    if not archives:
        raise Failed(f"corosync's source package was not fetched: {done.stderr[-500:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(directory, filter="data")
    [source] = directory.glob("corosync-*/")
    (directory / "config.h").write_text("#define HAVE_CRC32 1\n")
    for program in [*PROGRAMS, DEVICE]:
        compiler = ["gcc", "-w", "-O1", f"-I{directory}", f"-I{source / 'include'}", "-o", directory / program.name]
        subprocess.run([*compiler, source / "test" / f"{program.name}.c", *LIBRARIES], check=True)


def missing():
    """Returns what the programs need and this machine lacks."""
    headers = {
        "corosync/cfg.h": "libcfg-dev",
        "corosync/cmap.h": "libcmap-dev",
        "corosync/quorum.h": "libquorum-dev",
        "corosync/votequorum.h": "libvotequorum-dev",
        "corosync/sam.h": "libsam-dev",
        "qb/qbdefs.h": "libqb-dev",
        "zlib.h": "zlib1g-dev",
    }
    wanted = [package for header, package in headers.items() if not os.path.exists(f"/usr/include/{header}")]
    return wanted if SOURCES.exists() else [*wanted, str(SOURCES)]
