#!/usr/bin/env python3
"""The stored results as a drawing and as a table.

    benches/plot.py         writes docs/performance.svg, prints the table as Markdown

`benches/run scale` measures what is drawn. Both quantities are told in a way that does not depend on how fast the
machine is: CPU as a multiple of what the floor spends on 500 connections, memory in bytes.
"""

import json
import math
import statistics
import sys
from pathlib import Path

from rows import ROWS

HERE = Path(__file__).resolve().parent

# The drawing's lines, and which of a pair each is.
SIDES = {"floor": 0, "server": 1}
WIDTH, HEIGHT = 860, 320


def main():
    results = stored(HERE / "results")
    if "scale" not in results:
        sys.exit("no results to draw; benches/run scale measures them")
    picture = HERE.parent / "docs/performance.svg"
    picture.write_text(drawing(series(results["scale"])))
    print(table(results))


def stored(folder):
    """All results by the name of their row."""
    results = (json.loads(path.read_text()) for path in sorted(folder.glob("*.json")))
    return {result["row"]: result for result in results}


def table(results):
    """Measures that have a target, in Markdown."""
    lines = ["| row | | measured | target |", "| --- | --- | --- | --- |"]
    for row in filter(results.get, ROWS):
        name = f"`{row}`"
        for measure in filter(lambda measure: measure["target"], results[row]["measures"]):
            measured = measure["text"] + ("" if measure["ok"] else " (missed)")
            lines.append(f"| {name} | {measure['name']} | {measured} | {measure['target']} |")
            name = ""
    return "\n".join(lines)


def series(scale):
    """`{figure: {side: {connections: median}}}`."""
    figures = {figure: {side: {} for side in SIDES} for figure in ["delivery_us", "busy_bytes"]}
    for size in sorted({run["connections"] for pair in scale["raw"] for run in pair}):
        for side, index in SIDES.items():
            runs = [pair[index] for pair in scale["raw"] if pair[index]["connections"] == size]
            for figure, lines in figures.items():
                lines[side][size] = statistics.median(run[figure] for run in runs)
    return figures


def drawing(figures):
    cost = figures["delivery_us"]
    unit = next(iter(cost["floor"].values()))
    cost = {side: {size: value / unit for size, value in line.items()} for side, line in cost.items()}
    panels = [
        panel(20, "CPU per delivery (floor at 500 connections = 1)", cost, "{:.2f}".format),
        panel(WIDTH / 2 + 20, "User memory per connection, bytes", figures["busy_bytes"], "{:,.0f}".format),
    ]
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">
<title>CPU per delivery and memory per connection, server and floor, over the number of connections</title>
<style>
svg {{ --ground: #ffffff; --text: #24292f; --quiet: #57606a; --grid: #d8dee4; --server: #0969da; --floor: #6e7781 }}
@media (prefers-color-scheme: dark) {{
  svg {{ --ground: #0d1117; --text: #e6edf3; --quiet: #9198a1; --grid: #30363d; --server: #58a6ff; --floor: #9198a1 }}
}}
text {{ font: 12px system-ui, sans-serif; fill: var(--quiet) }}
.title {{ font-size: 14px; font-weight: 600; fill: var(--text) }}
.grid {{ stroke: var(--grid) }}
path {{ fill: none; stroke-width: 2 }}
.server path {{ stroke: var(--server) }}
.floor path {{ stroke: var(--floor); stroke-dasharray: 5 4 }}
.server circle, .server text {{ fill: var(--server) }}
.floor circle, .floor text {{ fill: var(--floor) }}
.name {{ font-weight: 600 }}
</style>
<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="var(--ground)"/>
{"".join(panels)}</svg>
"""


def panel(left, title, lines, write):
    """One diagram: connections to the right, on a logarithmic scale, and the figure upwards from 0."""
    sizes = list(next(iter(lines.values())))
    top, bottom, start, width = 60, HEIGHT - 50, left + 50, WIDTH / 2 - 170
    step = nice_step(max(max(line.values()) for line in lines.values()))
    highest = step * math.ceil(max(max(line.values()) for line in lines.values()) / step)

    def x(size):
        return start + width * math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0])

    def y(value):
        return bottom - (bottom - top) * value / highest

    parts = [f'<text class="title" x="{left}" y="30">{title}</text>\n']
    for tick in range(round(highest / step) + 1):
        at = y(tick * step)
        parts.append(f'<line class="grid" x1="{start}" x2="{start + width}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{start - 8}" y="{at + 4:.1f}" text-anchor="end">{tick * step:,g}</text>\n')
    for size in sizes:
        parts.append(f'<text x="{x(size):.1f}" y="{bottom + 20}" text-anchor="middle">{size:,}</text>\n')
    parts.append(f'<text x="{start + width / 2:.1f}" y="{bottom + 38}" text-anchor="middle">connections</text>\n')
    for side, line in lines.items():
        points = [(x(size), y(value)) for size, value in line.items()]
        path = "L".join(f"{across:.1f} {up:.1f}" for across, up in points)
        across, up = points[-1]
        # Names stand beside the last points, and apart where those are close to each other.
        close = abs(y(lines["server"][sizes[-1]]) - y(lines["floor"][sizes[-1]])) < 16
        above = max(SIDES, key=lambda name: lines[name][sizes[-1]]) == side
        up += (-8 if above else 8) if close else 0
        parts.append(f'<g class="{side}"><path d="M{path}"/>')
        parts.extend(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3"/>' for across, up in points)
        name = f"{side} {write(line[sizes[-1]])}"
        parts.append(f'<text class="name" x="{across + 10:.1f}" y="{up + 4:.1f}">{name}</text></g>\n')
    return "".join(parts)


def nice_step(highest):
    """A step of 1, 2 or 5 times a power of ten that divides the axis into at most six."""
    power = 10 ** math.floor(math.log10(highest / 6))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * 6 >= highest)


if __name__ == "__main__":
    main()
