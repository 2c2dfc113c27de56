#!/usr/bin/env python3
"""
`quorate bench` beside real corosync, on this machine: turn and turn about, medians and ratios.

    run.py [--points N:SIZE:SENDERS,...] [--rounds N] [--seconds S] [--best] [--latency] [--transport T] [--markdown FILE] QUORATE

QUORATE is the program, a release build. Measured beside it are corosync's daemons as they are by default, used through
libcpg; with `--best` also with the setting that makes them fastest; and plain UDP multicast in turn, 50 datagrams at a time, without
order, with the same offload (`raw gso`), before and after each of corosync's rings: all on hosts of the same kind, network
namespaces on a bridge. A rate is the middle one of three runs in one ring, since the first finds nothing in memory, and then
the median of the rounds. With `--latency`, the time until a message is back at its sender is measured instead.

Members of quorate deliver in the process that sends and receives; corosync's clients are processes of their own: that is how
each is used. Whatever else the machine does is in the figures; the ratios are of the same minutes.

Needs root, Debian's corosync 3.1, libcpg-dev and gcc, iproute2, nftables and tcpdump; if one is missing, it says so and does
nothing. Where corosync forms no ring, stalls or delivers in different orders, there is a dash, and stderr has the reason; the
exit code is 1 if Quorate cannot be measured.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from corosync import FASTEST, HERE, Failed, Programs, Ring

POINTS = (
    "3:64:1,3:64:all,3:1350:1,3:1350:all,3:16384:1,3:16384:all,3:65536:1,3:65536:all,"
    "8:64:1,8:64:all,8:1350:1,8:1350:all,8:16384:1,8:16384:all,8:65536:1,8:65536:all"
)
RUNS = 3

# What is done to a ring of three, for its latency: who sends, how many, and how long he waits between two.
PINGS = [
    ("one at a time, from the first", 1, 5000, 0),
    ("one at a time, from the last", 3, 5000, 0),
    ("every 200 ms, from the first", 1, 20, 200_000),
    ("every 200 ms, from the last", 3, 20, 200_000),
]
LOADED = "every 0.3 ms, from the last, others send 1350 bytes at half of corosync's most"
LOADED_PINGS, LOADED_PAUSE = 2000, 300


class Unmeasured(Exception):
    """There is something wrong with Quorate."""


def bench(options, *arguments):
    """What `quorate bench` prints."""
    command = [options.quorate, "bench", *map(str, arguments), "--json"]
    command += ["--totem", f"transport={options.transport}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        printed, why = process.communicate(timeout=600)
    except BaseException:
        # It takes its hosts with it.
        process.terminate()
        process.communicate()
        raise
    if process.returncode:
        raise Unmeasured(f"quorate bench {' '.join(map(str, arguments))}: {why.strip()}")
    return json.loads(printed)


def middle(results, key="msgs_s"):
    return sorted(results, key=lambda result: result[key])[len(results) // 2]


def corosync(options, nodes, size, senders, totem=""):
    """The middle run of a ring of daemons, and the raw ceiling; without what there was none of."""
    found, raws = {}, []
    with Ring(options.programs, nodes, options.directory, totem, options.transport) as ring:
        try:
            raws.append(ring.raw(senders))
            ring.start_all()
            found = middle([ring.throughput(size, senders, options.seconds) for _ in range(RUNS)])
        except Failed as why:
            print(f"    corosync, {nodes} nodes, {size} bytes, {senders} senders: {why}", file=sys.stderr)
        ring.end_all()
        with contextlib.suppress(Failed):
            raws.append(ring.raw(senders))
    return found | ({"raw_MB_s": statistics.mean(raws)} if raws else {})


def median(results, key):
    values = [result[key] for result in results if key in result]
    return statistics.median(values) if values else None


def cell(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def ratio(one, other):
    return "-" if not one or not other else f"{one / other:.1f}"


def throughput(options):
    """The table's heads, and its rows as they are measured."""
    heads = ["nodes", "bytes", "senders", "quorate/s", "MB/s", "us each", "corosync/s", "MB/s", "us each", "times"]
    yield heads + ["raw gso MB/s", "of it"] + ["best corosync/s", "times"] * options.best
    for point in options.points.split(","):
        nodes, size, senders = point.split(":")
        nodes, size, count = int(nodes), int(size), int(nodes) if senders == "all" else int(senders)
        load = ["--nodes", nodes, "--size", size, "--senders", senders, "--runs", RUNS, "--seconds", options.seconds]
        ours, theirs, bests = [], [], []
        for _ in range(options.rounds):
            ours.append(bench(options, "throughput", *load))
            theirs.append(corosync(options, nodes, size, count))
            if options.best:
                bests.append(corosync(options, nodes, size, count, FASTEST))
        mine, others, best = (median(results, "msgs_s") for results in (ours, theirs, bests))
        raw = median(theirs + bests, "raw_MB_s")
        row = [str(nodes), str(size), senders]
        for results in (ours, theirs):
            row += [cell(median(results, "msgs_s")), cell(median(results, "MB_s"), 1)]
            row.append(cell(median(results, "machine_us_per_delivery"), 1))
        row += [ratio(mine, others), cell(raw, 1), ratio(median(ours, "MB_s"), raw)]
        yield row + [cell(best), ratio(mine, best)] * options.best


def latency(options):
    yield ["what", "quorate p50, us", "p99", "corosync p50, us", "p99", "p50 of it", "p99 of it"]
    found = {name: ([], []) for name in [name for name, *_ in PINGS] + [LOADED]}
    for _ in range(options.rounds):
        half = None
        try:
            with Ring(options.programs, 3, options.directory, transport=options.transport) as ring:
                ring.start_all()
                for name, sender, count, pause in PINGS:
                    found[name][1].append(ring.ping(sender, count, pause))
                half = middle([ring.throughput(1350, 3, options.seconds) for _ in range(RUNS)])["msgs_s"] / 2
                found[LOADED][1].append(ping_under_load(ring, half))
        except Failed as why:
            print(f"    corosync: {why}", file=sys.stderr)
        for name, sender, count, pause in PINGS:
            ping = ["--from", sender, "--count", count, "--pause", pause / 1000]
            found[name][0].append(bench(options, "latency", *ping))
        if half:
            load = ["--from", 3, "--count", LOADED_PINGS, "--pause", LOADED_PAUSE / 1000, "--load", half]
            found[LOADED][0].append(bench(options, "latency", *load))
    for name, (ours, theirs) in found.items():
        keys = ("lat_p50_us", "lat_p99_us")
        mine, others = ([median(results, key) for key in keys] for results in (ours, theirs))
        yield [name, *map(cell, mine), *map(cell, others), *map(part, mine, others)]


def ping_under_load(ring, rate):
    """As `quorate bench latency --load` does it: the two others send, from before the first message until after the last."""
    seconds = 1.0 + LOADED_PINGS * 2e-3

    def ping():
        began = time.monotonic()
        time.sleep(0.5)
        took = ring.ping(3, LOADED_PINGS, LOADED_PAUSE)
        if time.monotonic() - began > seconds:
            raise Failed("the load was over before the pings were")
        return took

    return ring.throughput(1350, 2, seconds, rate, ping)["meanwhile"]


def part(one, other):
    return "-" if not one or not other else f"{one / other:.2f}"


def machine():
    model = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


def missing():
    """What is not here and has to be, as the tests with real daemons say."""
    spec = importlib.util.spec_from_file_location("interop", HERE.parent / "interop" / "run.py")
    interop = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(interop)
    return interop.missing()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    parser.add_argument("--points", default=POINTS, help=f"what to measure [{POINTS}]")
    parser.add_argument("--rounds", type=int, default=2, help="how often each, in turn [2]")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long members send [1]")
    parser.add_argument("--best", action="store_true", help="corosync with its fastest setting, too")
    parser.add_argument("--transport", choices=["udp", "udpu"], default="udp", help="of both [udp]")
    parser.add_argument("--latency", action="store_true", help="measure latency, not throughput")
    parser.add_argument("--markdown", metavar="FILE", help="write the table to this file, too")
    parser.add_argument("quorate", metavar="QUORATE", help="the program")
    options = parser.parse_args()
    if wanted := missing():
        print(f"skipped: needs {wanted}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)

    rows, code = [], 0
    with tempfile.TemporaryDirectory(prefix="quorate-perf-") as directory:
        try:
            options.directory, options.programs = directory, Programs(directory)
            for row in (latency if options.latency else throughput)(options):
                rows.append(row)
                print("  ".join(row), flush=True)
        except KeyboardInterrupt:
            print("stopped")
            return 130
        except Unmeasured as why:
            print(why, file=sys.stderr)
            code = 1
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    print("\n" + machine())
    for row in rows:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths)))
    if options.markdown:
        heads, *rows = rows
        lines = [f"| {' | '.join(row)} |" for row in rows]
        table = [f"| {' | '.join(heads)} |", "|" + "---:|" * len(heads), *lines]
        pathlib.Path(options.markdown).write_text(f"{machine()}\n\n" + "\n".join(table) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
