#!/usr/bin/env python3
"""Draws panels of the overview, and the alerts that fired, from the data of a running Prometheus, into docs/images.

    ops/pictures.py --prometheus http://127.0.0.1:9090 --start 2026-11-30T20:00:00Z --end 2026-11-30T20:12:00Z --rate 30s

The pictures follow the reader's light or dark scheme.
"""

import argparse
import json
import urllib.parse
import urllib.request
from datetime import datetime
from html import escape
from pathlib import Path

from dashboards import LINES, OVERVIEW, STACK, STATES
from generate import ROOT, selected

PANELS = ["Requests ended", "Not sent, by reason", "Queue", "Time in the queue", "Sending paused", "Dead letters"]
WIDTH, HEIGHT, LEFT, TOP, GAP = 420, 130, 46, 22, 34
POINTS = 120
STYLE = """
text{font:11px sans-serif;fill:#3c4043}.title{font-weight:600;font-size:12px;fill:#202124}.back{fill:#fff}.axis{stroke:#dadce0;fill:none}
.s0{--c:#1a73e8}.s1{--c:#d93025}.s2{--c:#188038}.s3{--c:#e37400}.s4{--c:#9334e6}.s5{--c:#007b83}.s6{--c:#b06000}.s7{--c:#5f6368}
.line{fill:none;stroke:var(--c);stroke-width:1.5}.area{fill:var(--c);fill-opacity:.45}.bar{fill:var(--c)}
.name{paint-order:stroke;stroke:#fff;stroke-width:3;stroke-linejoin:round}
@media(prefers-color-scheme:dark){text{fill:#bdc1c6}.title{fill:#e8eaed}.back{fill:#17181a}.name{stroke:#17181a}.axis{stroke:#3c4043}
.s0{--c:#8ab4f8}.s1{--c:#f28b82}.s2{--c:#81c995}.s3{--c:#fcad70}.s4{--c:#c58af9}.s5{--c:#78d9ec}.s6{--c:#fdd663}.s7{--c:#9aa0a6}}
"""


class Prometheus:
    def __init__(self, address, start, end, rate):
        self.address, self.start, self.end, self.rate = address.rstrip("/"), start, end, rate
        self.step = max((end - start) / POINTS, 1)

    def range(self, expr):
        """Each series as its labels and its points (seconds since the start, value)."""
        expr = expr.replace("$namespace", ".*").replace("$job", ".*").replace("$__rate_interval", self.rate)
        query = urllib.parse.urlencode({"query": expr, "start": self.start, "end": self.end, "step": self.step})
        with urllib.request.urlopen(f"{self.address}/api/v1/query_range?{query}", timeout=30) as answer:
            result = json.load(answer)["data"]["result"]
        return [(one["metric"], [(at - self.start, float(value)) for at, value in one["values"] if value != "NaN"]) for one in result]


# Colours with a meaning; other series take those that are left.
COLOURS = {"sent": 2, "delivered": 2, "failed": 1, "undelivered": 1, "rejected": 3, "unknown": 4}


def coloured(series):
    """Each series with its colour."""
    left = [colour for colour in range(8) if colour not in {COLOURS.get(name) for name, _ in series}]
    return [(COLOURS[name] if name in COLOURS else left.pop(0), name, points) for name, points in series]


def named(legend, labels):
    for name, value in labels.items():
        legend = legend.replace("{{" + name + "}}", value)
    return " ".join(legend.replace("{{", "").replace("}}", "").split()) or "all"


def panel_of(title):
    return next(one for _, row in OVERVIEW for one in row if one[0] == title)


def shown(value, unit):
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    return (f"{value:,.0f}" if value >= 1000 else f"{value:.3g}") + {"reqps": "/s", "ops": "/s", "s": " s"}.get(unit, "")


class Panel:
    def __init__(self, x, y, title, span, height=HEIGHT):
        self.x, self.y, self.span, self.height = x, y, span, height
        self.parts = [f'<text class="title" x="{x}" y="{y - 8}">{escape(title)}</text>']
        self.parts.append(f'<path class="axis" d="M{x} {y}V{y + height}H{x + WIDTH}"/>')
        for minute in range(0, int(span // 60) + 1, max(1, round(span / 60 / 6))):
            anchor = ' text-anchor="end"' if minute * 60 > 0.95 * span else ""
            self.parts.append(f'<text x="{self.at(minute * 60):.0f}" y="{y + height + 13}"{anchor}>{minute} min</text>')

    def at(self, second):
        return self.x + WIDTH * second / self.span

    def scale(self, most, unit):
        self.most = most or 1
        self.parts.append(f'<text x="{self.x - 4}" y="{self.y + 9}" text-anchor="end">{shown(self.most, unit)}</text>')
        self.parts.append(f'<text x="{self.x - 4}" y="{self.y + self.height}" text-anchor="end">0</text>')

    def height_of(self, value):
        return self.y + self.height * (1 - value / self.most)

    def legend(self, series):
        x = self.x + WIDTH
        for colour, name, _ in reversed(series):
            x -= 6.2 * len(name) + 18
            self.parts.append(f'<rect class="bar s{colour}" x="{x:.0f}" y="{self.y - 16}" width="8" height="8"/>')
            self.parts.append(f'<text x="{x + 11:.0f}" y="{self.y - 8}">{escape(name)}</text>')

    def lines(self, series, unit):
        self.scale(max((value for _, _, points in series for _, value in points), default=0), unit)
        for colour, _, points in series:
            path = " ".join(f"{self.at(second):.1f},{self.height_of(value):.1f}" for second, value in points)
            self.parts.append(f'<polyline class="line s{colour}" points="{path}"/>')

    def stack(self, series, unit):
        seconds = sorted({second for _, _, points in series for second, _ in points})
        values = [dict(points) for _, _, points in series]
        self.scale(max((sum(one.get(second, 0) for one in values) for second in seconds), default=0), unit)
        base = dict.fromkeys(seconds, 0.0)
        for (colour, _, _), one in zip(series, values):
            top = {second: base[second] + one.get(second, 0) for second in seconds}
            path = [f"{self.at(second):.1f},{self.height_of(top[second]):.1f}" for second in seconds]
            path += [f"{self.at(second):.1f},{self.height_of(base[second]):.1f}" for second in reversed(seconds)]
            self.parts.append(f'<polygon class="area s{colour}" points="{" ".join(path)}"/>')
            base = top

    def bars(self, series, step):
        height = min(self.height / max(len(series), 1), 18)
        for at, (colour, name, points) in enumerate(series):
            y = self.y + at * height
            for second, value in points:
                if value > 0:
                    width = min(WIDTH * step / self.span + 0.3, self.x + WIDTH - self.at(second))
                    self.parts.append(f'<rect class="bar s{colour}" x="{self.at(second):.1f}" y="{y + 2:.1f}" width="{width:.1f}" height="{height - 4:.1f}"/>')
            self.parts.append(f'<text class="name" x="{self.x + 4}" y="{y + height / 2 + 4:.1f}">{escape(name)}</text>')


def drawn(source, title, x, y):
    _, kind, unit, _, _, queries, *_ = panel_of(title)
    series = [(named(legend, labels), points) for expr, legend in queries for labels, points in source.range(selected(expr))]
    series = sorted((one for one in series if any(value for _, value in one[1])), key=lambda one: one[0])[:8]
    series = coloured(series)
    panel = Panel(x, y, title, source.end - source.start)
    if kind == STATES:
        panel.bars(series, source.step)
    elif kind == STACK:
        panel.stack(series, unit)
        panel.legend(series)
    elif kind == LINES:
        panel.lines(series, unit)
        panel.legend(series)
    return panel.parts


def picture(name, title, parts, width, height):
    text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
    text += '<rect class="back" width="100%" height="100%"/>\n' + "\n".join(parts) + "\n</svg>\n"
    (ROOT / "docs" / "images" / name).write_text(text)


def alerts(source):
    """Each alert of otpost that fired, with the time in which it did."""
    found = source.range('max by (alertname) (ALERTS{alertname=~"Otpost.*",alertstate="firing"})')
    series = sorted(((labels["alertname"], points) for labels, points in found), key=lambda one: one[1][0][0])
    height = 18 * max(len(series), 1)
    panel = Panel(LEFT, TOP + 6, "Alerts that fired", source.end - source.start, height)
    panel.bars([(at % 8, name, points) for at, (name, points) in enumerate(series)], source.step)
    return panel.parts, height + TOP + GAP


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def draw(source):
    parts = []
    for at, title in enumerate(PANELS):
        x, y = LEFT + at % 2 * (WIDTH + LEFT + 10), TOP + 6 + at // 2 * (HEIGHT + GAP + 14)
        parts += drawn(source, title, x, y)
    rows = (len(PANELS) + 1) // 2
    picture("overview.svg", "The dashboard overview", parts, 2 * (WIDTH + LEFT) + 30, rows * (HEIGHT + GAP + 14) + TOP)
    parts, height = alerts(source)
    picture("alerts.svg", "The alerts that fired", parts, WIDTH + LEFT + 20, height)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--start", type=instant, required=True)
    parser.add_argument("--end", type=instant, required=True)
    parser.add_argument("--rate", default="1m", help="interval of rates")
    chosen = parser.parse_args()
    draw(Prometheus(chosen.prometheus, chosen.start, chosen.end, chosen.rate))


if __name__ == "__main__":
    main()
