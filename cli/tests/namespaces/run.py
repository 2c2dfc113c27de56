#!/usr/bin/env python3
"""
Tests the program over real sockets: nodes in network namespaces find each other by IP multicast.

    run.py [--messages N] [--repeat N] [--only WORD] [--jobs N] QUORATE

QUORATE is the program. The script prints measurements and their bounds. It exits with 1 if a check
failed. Most scenarios mostly wait, and two of them run at once. Those that load the processors run
alone afterwards. It needs root, iproute2, nftables, tcpdump and a C compiler. Without root it says
so and does nothing.

SECOND_DECODER in the environment names a Python script that also decodes the captures.
"""

import argparse
import concurrent.futures
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import addresses
import containers
import daemon
import electorates
import hostile
import metrics
import refusals
import rings
import views
from lab import Failed, Lab

# Each scenario gets hosts on which nothing runs yet, and the table for its measurements.
SCENARIOS = (
    rings.SCENARIOS
    + addresses.SCENARIOS
    + refusals.SCENARIOS
    + containers.SCENARIOS
    + daemon.SCENARIOS
    + views.SCENARIOS
    + metrics.SCENARIOS
    + electorates.SCENARIOS
    + hostile.SCENARIOS
)


class Table:
    """The measurements of a scenario, and whether they are within their bounds."""

    def __init__(self, options, scenario):
        self.options = options
        self.scenario = scenario
        self.lines = []
        self.passed = 0
        self.failed = []

    def row(self, measure, bound, ok):
        if ok:
            self.passed += 1
        else:
            self.failed.append(f"{self.scenario}: {measure}")
        self.lines.append(f"{self.scenario:<70}  {measure:<44}  {bound:>8}  {'ok' if ok else 'FAILED'}")

    def time(self, what, seconds, at_most):
        self.row(f"{what}: {1000 * seconds:.0f} ms", f"{1000 * at_most:.0f} ms", seconds <= at_most)

    def seen(self, what):
        self.row(what, "", True)

    def note(self, text):
        self.lines += [f"    {line}" for line in text.splitlines()]


def play(options, number, scenario, hosts):
    """Plays a scenario on fresh hosts. A failure is reported and does not stop the others."""
    table = Table(options, f"{scenario.__name__.replace('_', ' ')} ({hosts})")
    with tempfile.TemporaryDirectory(prefix="quorate-lab-") as directory:
        # A node that runs as another user has to find the program and its configuration.
        os.chmod(directory, 0o755)
        lab = Lab(shutil.copy(options.quorate, directory), hosts, directory, prefix=f"quorate-{number}")
        try:
            with lab:
                scenario(lab, table)
        except (Failed, OSError, subprocess.SubprocessError) as failure:
            table.row("did not end well", "", False)
            table.note(f"{failure}")
            table.note("\n".join(lab.last_words()))
    return table


def play_all(options, scenarios, jobs):
    """Plays scenarios, at most `jobs` at once. Yields the table of each as it ends."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as threads:
        try:
            playing = [threads.submit(play, options, number, *scenario) for number, scenario in scenarios]
            for played in concurrent.futures.as_completed(playing):
                yield played.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            Lab.stopping = True
            for lab in list(Lab.running):
                lab.stop()
            raise


def main():
    parser = argparse.ArgumentParser(description="Nodes in network namespaces, over real IP multicast.")
    parser.add_argument("quorate", type=pathlib.Path, metavar="QUORATE", help="the program")
    parser.add_argument(
        "--messages", type=int, default=10_000, metavar="N", help="how many in the message test [10000]"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="how often to play everything [1]")
    parser.add_argument("--only", default="", metavar="WORD", help="only scenarios whose name has this word")
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="how many scenarios that mostly wait run at once [2]"
    )
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("ip"):
        print("skipped: needs root and iproute2")
        return 0
    # Handled like an interrupt: processes are ended, and everything created is removed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)

    chosen = [
        (number, (scenario, hosts))
        for number, (scenario, hosts) in enumerate(SCENARIOS * options.repeat)
        if options.only in scenario.__name__.replace("_", " ")
    ]
    apart = [(number, played) for number, played in chosen if getattr(played[0], "alone", False)]
    together = [(number, played) for number, played in chosen if not getattr(played[0], "alone", False)]
    tables = []
    try:
        for table in itertools.chain(play_all(options, together, options.jobs), play_all(options, apart, 1)):
            print("\n".join(table.lines), flush=True)
            tables.append(table)
    except KeyboardInterrupt:
        print("stopped")
        return 130
    passed, failed = sum(table.passed for table in tables), [line for table in tables for line in table.failed]
    for failure in failed:
        print(f"FAILED {failure}")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
