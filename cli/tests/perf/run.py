#!/usr/bin/env python3
"""
`quorate bench` beside real corosync, on this machine: turn and turn about, medians and ratios.

    run.py [--points N:SIZE:SENDERS,...] [--rounds N] [--seconds S] [--best COMMAND] [--markdown FILE]
           QUORATE COROSYNC_BENCH

QUORATE is the program, a release build. COROSYNC_BENCH is a command that takes N SIZE SENDERS SECONDS and prints one JSON
object: msgs_s and MB_s at the slowest receiver of a ring of corosync daemons and clients of libcpg, order_ok, and, if it
has them, raw_ring_plain_MB_s and raw_ring_gso_MB_s: what plain UDP multicast in turn, without order, does on the same hosts.
It must not touch anything but hosts of its own, and has to say what the middle one of three runs in one ring was, as
`quorate bench` does here: the first run finds nothing in memory. COMMAND is the same with the settings that make corosync fastest. Needs root. The exit code is 1 if somebody delivered in another order.

Members of quorate deliver in the process that sends and receives; corosync's clients are processes of their own: that is how
each is used. Whatever else the machine does is in the figures; the ratios are of the same minutes.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

POINTS = "3:64:all,3:1350:1,3:1350:all,3:16384:1,3:16384:all,3:65536:all,8:1350:all,8:16384:all"


def measure(command):
    """What a command prints as its last line; None, and the reason, if it prints nothing that can be read."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    lines = done.stdout.strip().splitlines()
    try:
        return json.loads(lines[-1]), None
    except (IndexError, ValueError):
        return None, (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]


def point(text):
    nodes, size, senders = text.split(":")
    return int(nodes), int(size), senders


def machine():
    model = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


def median(values):
    return statistics.median(values) if values else None


def cell(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def ratio(one, other):
    return "-" if not one or not other else f"{one / other:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    parser.add_argument("--points", default=POINTS, help=f"what to measure [{POINTS}]")
    parser.add_argument("--rounds", type=int, default=2, help="how often each, in turn [2]")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long members send [2]")
    parser.add_argument("--best", metavar="COMMAND", help="corosync with its best settings, too")
    parser.add_argument("--markdown", metavar="FILE", help="write the table to this file, too")
    parser.add_argument("quorate")
    parser.add_argument("corosync_bench")
    options = parser.parse_args()

    heads = ["nodes", "bytes", "senders", "quorate/s", "MB/s", "us each", "corosync/s", "MB/s", "us each", "times"]
    heads += ["raw gso MB/s", "of it"] + (["best corosync/s", "times"] if options.best else [])
    rows, order_kept = [], True
    for text in options.points.split(","):
        nodes, size, senders = point(text)
        ours, theirs, bests = [], [], []
        for _ in range(options.rounds):
            command = [options.quorate, "bench", "throughput", "--json", "--runs", "3"]
            command += ["--nodes", str(nodes), "--size", str(size), "--senders", senders]
            result, why = measure(command + ["--seconds", str(options.seconds)])
            if result is None:
                sys.exit(f"quorate at {text}: {why}")
            ours.append(result)
            for command, results in ((options.corosync_bench, theirs), (options.best, bests)):
                if command is None:
                    continue
                result, why = measure([command, str(nodes), str(size), senders, str(options.seconds)])
                if result is None:
                    print(f"{command} at {text}: {why}", file=sys.stderr)
                elif not result.get("msgs_s"):
                    print(f"{command} at {text}: it stalled", file=sys.stderr)
                else:
                    results.append(result)
        order_kept &= all(result["order_ok"] for result in ours)
        mine, others, best = (median([run["msgs_s"] for run in runs]) for runs in (ours, theirs, bests))
        my_mb, other_mb = (median([run["MB_s"] for run in runs]) for runs in (ours, theirs))
        raw = median([run["raw_ring_gso_MB_s"] for run in theirs if run.get("raw_ring_gso_MB_s")])
        # Of the whole machine, for each message at each member.
        my_cost = median([run["machine_us_per_delivery"] for run in ours])
        costs = [run["machine_busy_cores"] * 1e6 / run["msgs_s"] / nodes for run in theirs if run.get("machine_busy_cores")]
        rows.append([
            str(nodes), str(size), senders, cell(mine), cell(my_mb, 1), cell(my_cost, 1),
            cell(others), cell(other_mb, 1), cell(median(costs), 1), ratio(mine, others),
            cell(raw, 1), ratio(my_mb, raw),
        ] + ([cell(best), ratio(mine, best)] if options.best else []))
        print(f"{text}: {rows[-1][3]}/s, corosync {rows[-1][6]}/s, {rows[-1][9]} times, {' '.join(rows[-1][10:])}", flush=True)

    widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(len(heads))]
    print("\n" + machine())
    for row in [heads, *rows]:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths)))
    if options.markdown:
        lines = ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        pathlib.Path(options.markdown).write_text(f"{machine()}\n\n" + "\n".join(lines) + "\n")
    return 0 if order_kept else 1


if __name__ == "__main__":
    sys.exit(main())
