#!/usr/bin/env python3
"""
How rings grow, as a picture: what `quorate bench scale --json` and `quorate sim scale --json` have measured.

    curves.py BENCH.json SIM.json PICTURE.svg

BENCH.json is of members on one machine, SIM.json of bare members in simulated time. Dashed is the model of a rotation: n times
the latency.
"""

import argparse
import json
import math
import pathlib

WIDTH, HEIGHT, MARGIN = 380, 250, 48
SIZES = (2, 4, 8, 16, 32, 64, 128, 384)
COLOURS = {"machine": "#b5442c", "simulated": "#1f6f8b", "model": "#888888"}


def panels(bench, sim):
    """Title, and for each curve its kind and its points: members, value."""
    bench, sim = bench["rings"], sim["rings"]

    def points(rings, value):
        return [(ring["n"], value(ring)) for ring in rings]

    def model(first, rings):
        return [(ring["n"], first[1] * ring["n"] / first[0]) for ring in (rings[0], rings[-1])]

    simulated = points(sim, lambda ring: ring["rotation_ms"])
    return [
        ("started at once until one ring, ms", [
            ("machine", points(bench, lambda ring: ring["form_p50_ms"])),
            ("simulated", points(sim, lambda ring: ring["form_ms"])),
        ]),
        ("a rotation of the token, ms", [
            ("machine", points(bench, lambda ring: 1e3 / ring["load_rotations_s"])),
            ("simulated", simulated), ("model", model(simulated[0], sim)),
        ]),
        ("kill -9 until a ring without it, ms", [
            ("machine", points(bench, lambda ring: ring["kill_p50_ms"])),
            ("simulated", points(sim, lambda ring: ring["kill_ms"])),
        ]),
        ("a member idles: us of processor a second", [
            ("machine", points(bench, lambda ring: ring["idle_cpu"] * 1e6)),
            ("simulated", points(sim, lambda ring: ring["idle"]["cpu_us"])),
        ]),
        ("a member's part of the start: us of processor", [
            ("simulated", points(sim, lambda ring: ring["form"]["cpu_us"])),
        ]),
        ("a member's memory, MiB", [("machine", points(bench, lambda ring: ring["resident_mib"]))]),
    ]


def panel(title, curves):
    # A cost that is lost in the noise has no place on these scales.
    curves = [(kind, [point for point in curve if point[1] > 0]) for kind, curve in curves]
    values = [math.log10(value) for _, curve in curves for _, value in curve] or [0]
    left, right = math.log2(SIZES[0]), math.log2(SIZES[-1])
    bottom, top = math.floor(min(values)), math.ceil(max(values))
    top = max(top, bottom + 1)

    def place(n, value):
        across = (math.log2(n) - left) / (right - left)
        up = (math.log10(value) - bottom) / (top - bottom)
        return MARGIN + across * (WIDTH - MARGIN - 16), HEIGHT - 32 - up * (HEIGHT - 72)

    drawn = [f'<text x="{MARGIN}" y="20" class="title">{title}</text>']
    for power in range(bottom, top + 1):
        _, y = place(2 ** left, 10 ** power)
        drawn.append(f'<line x1="{MARGIN}" x2="{WIDTH - 16}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        drawn.append(f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{10 ** power:g}</text>')
    for n in SIZES:
        x, _ = place(n, 10 ** bottom)
        drawn.append(f'<text x="{x:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{n}</text>')
    for kind, curve in curves:
        places = [place(n, value) for n, value in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dashes = ' stroke-dasharray="5 4"' if kind == "model" else ""
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[kind]}" stroke-width="1.6"{dashes}/>')
        if kind != "model":
            drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{COLOURS[kind]}"/>' for x, y in places]
    return drawn


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    parser.add_argument("bench", help="of `quorate bench scale --json`, members on one machine")
    parser.add_argument("sim", help="of `quorate sim scale --json`, bare members in simulated time")
    parser.add_argument("picture", help="the SVG that is written")
    options = parser.parse_args()
    bench, sim = (json.loads(pathlib.Path(name).read_text()) for name in (options.bench, options.sim))

    drawn = panels(bench, sim)
    width, height = 2 * WIDTH, math.ceil(len(drawn) / 2) * HEIGHT + 30
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11" fill="#444">',
        "<style>.title{font-size:13px;fill:#111}.grid{stroke:#ddd}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for at, (title, curves) in enumerate(drawn):
        lines.append(f'<g transform="translate({at % 2 * WIDTH} {at // 2 * HEIGHT})">')
        lines += [*panel(title, curves), "</g>"]
    legend = [
        ("machine", "members on one machine"),
        ("simulated", f"in simulated time, {sim['latency_us']} us a datagram"),
        ("model", "n times the latency; across: members"),
    ]
    for at, (kind, text) in enumerate(legend):
        x = MARGIN + at * 230
        lines.append(f'<circle cx="{x}" cy="{height - 16}" r="4" fill="{COLOURS[kind]}"/>')
        lines.append(f'<text x="{x + 9}" y="{height - 12}">{text}</text>')
    lines.append("</svg>")
    pathlib.Path(options.picture).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
