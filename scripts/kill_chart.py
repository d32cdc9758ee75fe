"""Draws runs of `scripts/kill-demo`: one HTML page with inline SVG, without script or outside resource.

For each run a column with three charts over time, one above the other: operations answered a second, operations refused a
second, and p99.9 of the latency on a logarithmic scale. The kill and the return are vertical lines. Columns share their
scales, so that runs can be compared by eye.
"""

from html import escape

WIDTH = 560  # of a column
LEFT, RIGHT = 58, 12
HEIGHT, GAP = 132, 34
TOP = 26
LATENCY_MS = [0.1, 1, 10, 100, 1_000, 10_000, 100_000]

STYLE = """
:root { --paper: #ffffff; --ink: #1c2330; --soft: #5d6778; --line: #dde2ea; --good: #1a7f5a; --bad: #c8372d; --slow: #2f5fd0 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #10151d; --ink: #e6ebf2; --soft: #9aa6b8; --line: #2a3342; --good: #46c493; --bad: #ff7a6b; --slow: #7ea6ff }
}
* { box-sizing: border-box }
body { margin: 0; padding: 20px; background: var(--paper); color: var(--ink); font: 14px/1.45 system-ui, sans-serif }
h1 { font-size: 20px; margin: 0 0 2px } h2 { font-size: 15px; margin: 0 0 8px }
p { margin: 0 0 14px; color: var(--soft) }
.runs { display: flex; flex-wrap: wrap; gap: 24px } .run { flex: 0 1 560px; min-width: 0 }
svg { display: block; width: 100%; height: auto }
text { font: 11px system-ui, sans-serif; fill: var(--soft) } text.title { font-size: 12px; fill: var(--ink) }
text.event { fill: var(--bad) }
.grid { stroke: var(--line) } .mark { stroke: var(--bad); stroke-dasharray: 4 3 }
.answered { fill: none; stroke: var(--good); stroke-width: 1.5 } .refused { fill: var(--bad); shape-rendering: crispEdges }
.latency { fill: none; stroke: var(--slow); stroke-width: 1.5 }
table { border-collapse: collapse; margin: 10px 0 0; width: 100%; table-layout: fixed }
td { padding: 6px 10px 6px 0; vertical-align: top; color: var(--soft); font-size: 12px }
td b { display: block; font-size: 19px; color: var(--ink); font-variant-numeric: tabular-nums } td b.bad { color: var(--bad) }
"""


def page(runs, how):
    """The page, and the size in pixels of a window that shows it whole."""
    columns = "".join(column(run, scales_of(runs)) for run in runs)
    html = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>A node is killed</title><style>{STYLE}</style>"
        "<h1>A node is killed with -9 under load, and comes back empty</h1>"
        f"<p>{escape(how)}.</p><div class=runs>{columns}</div></html>"
    )
    # A narrow page wraps its head into more lines.
    return html, 40 + len(runs) * WIDTH + (len(runs) - 1) * 24, 760 if len(runs) > 1 else 830


def scales_of(runs):
    """Seconds, operations a second, and the decades of latency that all runs fit in."""
    intervals = [interval for run in runs for interval in run["result"]["timeline"]["intervals"]]
    per_second = 1000 / runs[0]["result"]["timeline"]["interval_ms"]
    seconds = max(len(run["result"]["timeline"]["intervals"]) for run in runs) / per_second
    rate = max([interval["answered"] + interval["refused"] for interval in intervals] + [1]) * per_second
    times = [interval["p99_9_ms"] for interval in intervals if interval["answered"]] or [1]
    low = max([mark for mark in LATENCY_MS if mark <= min(times)] or LATENCY_MS[:1])
    high = min([mark for mark in LATENCY_MS if mark >= max(times)] or LATENCY_MS[-1:])
    return seconds, round_up(rate * 1.1), low, max(high, low * 10)


def round_up(rate):
    """The next of 1, 2, 4, 6, 8 times a power of ten: its half is round too."""
    step = 1
    while True:
        for factor in (1, 2, 4, 6, 8):
            if factor * step >= rate:
                return factor * step
        step *= 10


def column(run, scales):
    seconds, rate, low, high = scales
    timeline = run["result"]["timeline"]
    step = timeline["interval_ms"] / 1000
    intervals = timeline["intervals"]

    def x(second):
        return LEFT + (WIDTH - LEFT - RIGHT) * second / seconds

    def linear(bottom, value):
        return bottom - HEIGHT * min(value / rate, 1)

    def logarithmic(bottom, value):
        from math import log10
        share = (log10(max(value, low)) - log10(low)) / (log10(high) - log10(low))
        return bottom - HEIGHT * min(share, 1)

    bottoms = [TOP + HEIGHT + place * (HEIGHT + GAP) for place in range(3)]
    parts = []
    rate_marks = [(rate * share, f"{rate * share:,.0f}") for share in (0, 0.5, 1)]
    latency_marks = [(mark, f"{mark:g} ms" if mark < 1000 else f"{mark / 1000:g} s") for mark in LATENCY_MS if low <= mark <= high]
    charts = [("operations answered a second", rate_marks, linear), ("operations refused a second", rate_marks, linear),
              ("p99.9 of the answered, from when they were due", latency_marks, logarithmic)]
    for bottom, (title, marks, y) in zip(bottoms, charts):
        parts.append(f"<text class=title x={LEFT} y={bottom - HEIGHT - 8}>{title}</text>")
        for value, label in marks:
            at = y(bottom, value)
            parts.append(f"<path class=grid d='M{LEFT} {at:.1f}H{WIDTH - RIGHT}'/>"
                         f"<text x={LEFT - 6} y={at + 4:.1f} text-anchor=end>{label}</text>")
    for name, second in run["events"].items():
        at = x(second)
        strokes = "".join(f"M{at:.1f} {bottom - HEIGHT}V{bottom}" for bottom in bottoms)
        parts.append(f"<path class=mark d='{strokes}'/>"
                     f"<text class=event x={at + 4:.1f} y={TOP + 10}>{'kill -9' if name == 'kill' else 'started again'}</text>")
    for second in range(0, round(seconds) + 1, 10 if seconds > 20 else 5 if seconds > 8 else 1):
        parts.append(f"<text x={x(second):.1f} y={bottoms[2] + 16} text-anchor=middle>{second} s</text>")
    answered = [(x((place + 0.5) * step), linear(bottoms[0], each["answered"] / step)) for place, each in enumerate(intervals)]
    parts.append(f"<path class=answered d='{line(answered)}'/>")
    for place, each in enumerate(intervals):
        if each["refused"]:
            top = min(linear(bottoms[1], each["refused"] / step), bottoms[1] - 2)
            width = max(x(step) - x(0), 2)
            parts.append(f"<rect class=refused x={x(place * step):.2f} y={top:.1f} width={width:.2f} height={bottoms[1] - top:.1f} />")
    for stretch in stretches(intervals):
        dots = [(x((place + 0.5) * step), logarithmic(bottoms[2], each["p99_9_ms"])) for place, each in stretch]
        parts.append(f"<path class=latency d='{line(dots)}'/>")
    svg = f"<svg viewBox='0 0 {WIDTH} {bottoms[2] + 24}' role=img aria-label='{escape(run['title'])}'>{''.join(parts)}</svg>"
    return f"<div class=run><h2>{escape(run['title'])}</h2>{svg}{table(run['counts'])}</div>"


def stretches(intervals):
    """Intervals beside each other in which something was answered, with their places."""
    stretch = []
    for place, each in enumerate(intervals):
        if each["answered"]:
            stretch.append((place, each))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def line(dots):
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in dots)


def table(counts):
    cells = [
        (f"{counts['acknowledged']:,}", "writes acknowledged", False),
        (f"{counts['lost']:,}", "of them lost", counts["lost"] > 0),
        (f"{counts['refused']:,}", f"of {counts['answered'] + counts['refused']:,} operations refused", False),
        (f"{counts['seconds_refusing']:g} s", "in which any was refused", False),
    ]
    if counts["unreadable"]:
        cells.append((f"{counts['unreadable']:,}", "keys unreadable", True))
    row = "".join(f"<td><b{' class=bad' if bad else ''}>{value}</b>{label}</td>" for value, label, bad in cells)
    return f"<table><tr>{row}</table>"
