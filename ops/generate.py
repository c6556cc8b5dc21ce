#!/usr/bin/env python3
"""Writes what is made from ops/dashboards.py and ops/prometheus/rules.yml; with --check only compares.

    ops/generate.py                      write
    ops/generate.py --check              exit with 1 if a file is not up to date
    ops/generate.py --runbook ADDRESS    put the address of the runbook into all alerts, and write; docs/runbook.md is the default
"""

import json
import re
import sys
from pathlib import Path

import dashboards
from dashboards import DASHBOARDS, LINES, STACK, STATES, STAT, TABLE

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "ops" / "prometheus" / "rules.yml"
RULES_TEST = RULES.with_name("rules_test.yml")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SELECTED = 'namespace=~"$namespace",job=~"$job"'


def selected(expr):
    """The expression with the labels that the variables select, in every series of it."""
    expr = re.sub(r"\b((?:otpost|process)_\w+)(\{([^}]*)\})?", with_labels, expr)
    # Many alerts have no job.
    expr = expr.replace("ALERTS{", 'ALERTS{namespace=~"$namespace",')
    return expr.replace("[r]", "[$__rate_interval]")


def with_labels(found):
    name, labels = found[1], found[3]
    return f"{name}{{{SELECTED}{',' + labels if labels else ''}}}"


def steps(thresholds):
    """Green, orange, red; None leaves a colour out."""
    colours = [{"color": "green", "value": None}]
    colours += [{"color": colour, "value": value} for colour, value in zip(("orange", "red"), thresholds) if value is not None]
    return {"mode": "absolute", "steps": colours}


def colours():
    """Words that mean the same in every panel have the same colour."""
    words = {"sent": "green", "delivered": "green", "verified": "green", "failed": "red", "undelivered": "red", "rejected": "orange", "unknown": "purple"}
    return [
        {"matcher": {"id": "byName", "options": word}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]}
        for word, colour in words.items()
    ]


def panel(number, kind, title, unit, description, queries, thresholds):
    defaults = {"unit": unit, "min": 0, "thresholds": steps(thresholds)}
    made = {"id": number, "title": title, "description": description, "datasource": SOURCE}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    if kind == STAT:
        defaults |= {"color": {"mode": "thresholds"}, "noValue": "0"}
        made |= {"type": "stat", "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}}
    elif kind in (LINES, STACK):
        custom = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
        if kind == STACK:
            custom |= {"fillOpacity": 40, "stacking": {"mode": "normal", "group": "A"}}
        if len(steps(thresholds)["steps"]) > 1:
            custom |= {"thresholdsStyle": {"mode": "dashed"}}
        defaults |= {"custom": custom, "color": {"mode": "palette-classic"}}
        made |= {"type": "timeseries", "options": {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}}
    elif kind == STATES:
        defaults |= {"custom": {"fillOpacity": 80, "lineWidth": 0}, "color": {"mode": "thresholds"}, "thresholds": steps((None, 1))}
        made |= {"type": "state-timeline", "options": {"showValue": "never", "mergeValues": True, "rowHeight": 0.8, "legend": legend | {"showLegend": False}}}
    elif kind == TABLE:
        hidden = {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": {"Value": "processes"}}}
        made |= {"type": "table", "options": {"showHeader": True}, "transformations": [hidden]}
    made["fieldConfig"] = {"defaults": defaults, "overrides": colours() if kind == STACK else []}
    made["targets"] = [target(at, kind, *query) for at, query in enumerate(queries)]
    return made


def target(at, kind, expr, legend):
    made = {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": selected(expr), "legendFormat": legend or "__auto"}
    return made | ({"instant": True, "range": False, "format": "table"} if kind == TABLE else {"range": True})


def panels(rows):
    made, y, number = [], 0, 0
    for title, row in rows:
        number += 1
        made.append({"id": number, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
        y, x = y + 1, 0
        height = 4 if row[0][1] == STAT else 8
        for name, kind, unit, width, description, queries, *thresholds in row:
            number += 1
            if x + width > 24:
                x, y = 0, y + height
            one = panel(number, kind, name, unit, description, queries, thresholds[0] if thresholds else (None, None))
            made.append(one | {"gridPos": {"h": height, "w": width, "x": x, "y": y}})
            x += width
        y += height
    return made


def variable(name, label, query):
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name}, "definition": query,
        "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(name):
    title, description, rows = DASHBOARDS[name]
    sources = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}
    firing = {
        "name": "Alerts", "enable": True, "iconColor": "red", "datasource": SOURCE, "titleFormat": "{{alertname}}", "step": "60s",
        "expr": 'ALERTS{alertname=~"Otpost.*",alertstate="firing",namespace=~"$namespace"}',
    }
    links = {"type": "dashboards", "title": "otpost", "tags": ["otpost"], "asDropdown": False, "includeVars": True, "keepTime": True}
    return {
        "uid": f"otpost-{name}", "title": title, "description": description, "tags": ["otpost"], "schemaVersion": 39, "version": 1,
        "editable": True, "graphTooltip": 1, "refresh": "30s", "time": {"from": "now-3h", "to": "now"}, "timezone": "browser",
        "templating": {"list": [
            sources,
            variable("namespace", "Namespace", "label_values(otpost_build_info, namespace)"),
            variable("job", "Job", 'label_values(otpost_build_info{namespace=~"$namespace"}, job)'),
        ]},
        "annotations": {"list": [firing]}, "links": [links], "panels": panels(rows),
    }


def compact(value, depth=0):
    """JSON with a line for each panel's part, so that a difference can be read."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) + depth <= 130 or not isinstance(value, (dict, list)) or not value:
        return text
    inner, outer = " " * (depth + 1), " " * depth
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(key)}: {compact(part, depth + 1)}" for key, part in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{outer}}}"
    return "[\n" + ",\n".join(inner + compact(part, depth + 1) for part in value) + f"\n{outer}]"


def prometheus_rule():
    """The rules as an object of the Prometheus operator."""
    groups = RULES.read_text().split("\ngroups:\n", 1)[1]
    head = """# Written by ops/generate.py from ops/prometheus/rules.yml. Your Prometheus may select rules by a label: add it in the overlay.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: otpost
spec:
  groups:
"""
    return head + "".join(f"  {line}\n" if line else "\n" for line in groups.splitlines())


def with_runbook(text, address):
    """The rules, or their tests, with this address of the runbook in each alert."""
    return re.sub(r"(runbook_url: )\S*(#otpost\w+)", lambda found: found[1] + address + found[2], text)


def files():
    made = {ROOT / "ops" / "grafana" / "dashboards" / f"{name}.json": compact(dashboard(name)) + "\n" for name in dashboards.DASHBOARDS}
    made[ROOT / "k8s" / "components" / "prometheus-rule" / "prometheus-rule.yaml"] = prometheus_rule()
    made[ROOT / "k8s" / "chart" / "files" / "rules.yml"] = RULES.read_text()
    return made


def main():
    if sys.argv[1:2] == ["--runbook"] and re.fullmatch(r"[\w./:~%?=&+-]+", "".join(sys.argv[2:])):
        for path in (RULES, RULES_TEST):
            path.write_text(with_runbook(path.read_text(), sys.argv[2]))
    elif sys.argv[1:] not in ([], ["--check"]):
        raise SystemExit(__doc__)
    if sys.argv[1:] == ["--check"]:
        stale = [path.relative_to(ROOT) for path, text in files().items() if not path.exists() or path.read_text() != text]
        for path in stale:
            print(f"{path} is not up to date: ops/generate.py writes it")
        raise SystemExit(1 if stale else 0)
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
