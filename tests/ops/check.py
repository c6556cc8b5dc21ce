"""Runs the checks by name, all without arguments. A check that cannot run here says so and counts as skipped."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "ops"
sys.path[:0] = [str(OPS), str(OPS / "incidents")]
import alerts as run_of_alerts  # noqa: E402
import generate  # noqa: E402
import shown  # noqa: E402

RULES = OPS / "prometheus" / "rules.yml"
TESTS = OPS / "prometheus" / "rules_test.yml"
DASHBOARDS = sorted((OPS / "grafana" / "dashboards").glob("*.json"))
RUNBOOK = ROOT / "docs" / "runbook.md"
METRICS = ROOT / "docs" / "metrics.md"
BINARY = ROOT / "target" / "debug" / "otpost"
NAME = re.compile(r"\b(otpost_[a-z_]+|process_(?:cpu_seconds|resident_memory|open_fds|max_fds|start_time)[a-z_]*)")
# Of these a process has no series before it has spoken with RabbitMQ, Redis or an OTLP collector, or has taken another provider.
LATER = ("otpost_broker_", "otpost_provider_failovers_", "otpost_store_operation_duration_", "otpost_trace_")
PARTS = ("Meaning", "Check", "Act", "Escalate")


class Skipped(Exception):
    pass


def promtool(*arguments):
    if not shutil.which("promtool"):
        raise Skipped("promtool is not to be had here")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    return [] if done.returncode == 0 else (done.stdout + done.stderr).splitlines()


def rules():
    """The text of each alert by its name."""
    parts = re.split(r"^ +- alert: ", RULES.read_text(), flags=re.M)[1:]
    return {part.split("\n", 1)[0]: part for part in parts}


def current():
    """The dashboards and the copies of the rules are those that ops/generate.py writes."""
    done = subprocess.run([sys.executable, OPS / "generate.py", "--check"], capture_output=True, text=True)
    yield from (done.stdout + done.stderr).splitlines()


def alerts():
    """promtool accepts the alerts and the configuration of Prometheus, and each alert fires and does not fire as its test says."""
    yield from promtool("check", "config", "--lint-fatal", str(OPS / "prometheus" / "prometheus.yml"))
    yield from promtool("test", "rules", str(TESTS))


def tested():
    """Each alert is expected by a test, which also expects none at another time."""
    for test in TESTS.read_text().split("\n  - name: ")[1:]:
        if "exp_samples: []" not in test and "needs neither" not in test and "by a request that ended" not in test:
            yield f"the test {test.splitlines()[0]!r} never expects silence"
    expected = set(re.findall(r'alertname="(Otpost\w+)"', TESTS.read_text()))
    yield from (f"{name} has no test" for name in sorted(rules().keys() - expected))


def runbook():
    """Each alert has its entry, with all parts, in the order of the rules; the address of each leads there."""
    page = RUNBOOK.read_text()
    entries = dict(re.findall(r"^### (Otpost\w+)\n(.*?)(?=^##|\Z)", page, re.M | re.S))
    if list(entries) != list(rules()):
        yield f"alerts without an entry, or entries without an alert, or another order: {sorted(entries.keys() ^ rules().keys())}"
    for name, text in entries.items():
        yield from (f"{name}: no {part}" for part in PARTS if f"**{part}**" not in text)
    bases = set()
    for name, text in rules().items():
        base, _, entry = re.search(r"runbook_url: (\S*)", text + "runbook_url: ")[1].partition("#")
        bases.add(base)
        if entry != name.lower():
            yield f"{name}: its runbook_url is not its entry's"
    if len(bases) > 1:
        yield f"the runbook has several addresses: {sorted(bases)}"


def addressed():
    """ops/generate.py --runbook changes the address of every alert, in the tests too, and nothing else."""
    for file in (RULES, TESTS):
        text = file.read_text()
        there = generate.with_runbook(text, "https://wiki.example/runbook")
        if there.count("runbook_url: https://wiki.example/runbook#otpost") != text.count("runbook_url: "):
            yield f"{file.name}: an address is left out"
        if generate.with_runbook(there, text.partition("runbook_url: ")[2].partition("#")[0]) != text:
            yield f"{file.name}: the old address does not give the old file"


def incidents():
    """The run of incidents names alerts that exist, and promtool accepts its rules; each cause in the runbook is made to happen."""
    expected = {alert for _, _, _, alerts in run_of_alerts.INCIDENTS for alert in alerts}
    yield from (f"{alert} is no alert" for alert in sorted(expected - rules().keys()))
    yield from (f"no incident is made of: {name}" for name, _ in shown.rows() if not hasattr(shown.Incidents, shown.method(name)))
    yield from (f"no words are shown of: {name}" for name, words in shown.rows() if not words)
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as scaled:
        scaled.write(run_of_alerts.scaled(RULES.read_text()))
        scaled.flush()
        yield from promtool("check", "rules", scaled.name)


def dashboards():
    """Each dashboard has its own uid, each panel its place, a description, a unit, and expressions that Prometheus reads."""
    uids, expressions = [], []
    for file in DASHBOARDS:
        board = json.loads(file.read_text())
        uids.append(board["uid"])
        taken = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            place = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            if place & taken or at["x"] + at["w"] > 24:
                yield f"{file.name}: {panel['title']} lies on another panel"
            taken |= place
            if panel["type"] == "row":
                continue
            if not panel.get("description") or not panel["fieldConfig"]["defaults"].get("unit") or not panel["targets"]:
                yield f"{file.name}: {panel['title']} has no description, unit or expression"
            expressions += [target["expr"] for target in panel["targets"]]
        numbers = [panel["id"] for panel in board["panels"]]
        if len(set(numbers)) != len(numbers):
            yield f"{file.name}: a panel's id is used twice"
    if len(set(uids)) != len(uids) or len(uids) < 4:
        yield f"uids: {uids}"
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as recorded:
        lines = ["groups:", "- name: dashboards", "  rules:"]
        for at, expression in enumerate(expressions):
            lines += [f"  - record: x{at}", f"    expr: {json.dumps(expression.replace('$__rate_interval', '5m'))}"]
        recorded.write("\n".join(lines))
        recorded.flush()
        yield from promtool("check", "rules", recorded.name)


def named():
    """The metrics that alerts, dashboards and runbook name, with the labels that they match or group by."""
    texts = {"rules.yml": RULES.read_text(), "runbook.md": RUNBOOK.read_text()}
    for file in DASHBOARDS:
        targets = [target["expr"] for panel in json.loads(file.read_text())["panels"] for target in panel.get("targets", [])]
        texts[file.name] = "\n".join(targets)
    for place, text in texts.items():
        for found in NAME.finditer(re.sub(r"#.*", "", text) if place == "rules.yml" else text):
            labels = re.match(r"\{([^}]*)\}", text[found.end():]) if place != "rules.yml" else None
            yield place, found[1], set(re.findall(r"([a-z_]+) ?(?:=|!)", labels[1])) if labels else set()


def base(name):
    return re.sub(r"_(bucket|count|sum)$", "", name)


def documented():
    """Each of these is in the table of docs/metrics.md, with its labels."""
    if not METRICS.exists():
        raise Skipped("docs/metrics.md is not there")
    rows = dict(re.findall(r"^\| `((?:otpost|process)_[a-z_]+)` \| \w+ \|([^|]*)\|", METRICS.read_text(), re.M))
    for place, name, labels in named():
        if base(name) not in rows and name not in rows:
            yield f"{place}: {name} is not in docs/metrics.md"
            continue
        row = rows.get(base(name), rows.get(name))
        unknown = {label for label in labels - {"namespace", "job", "instance", "le"} if f"`{label}`" not in row}
        yield from (f"{place}: {name} has no label {label}" for label in sorted(unknown))


def awaited(process, pattern):
    return next((found[1] for line in process.stdout if (found := re.search(pattern, line))), None)


def served():
    """Each of these is in the metrics of a running `otpost dev` that has sent a message."""
    if not BINARY.exists():
        raise Skipped("target/debug/otpost is not built")
    environment = {"PATH": os.environ["PATH"], "HTTP_ADDR": "127.0.0.1:0", "OPS_ADDR": "127.0.0.1:0"}
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(
        [BINARY, "dev"], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            address = awaited(process, r"metrics +(http://\S+)")
            token = awaited(process, r"TOKEN=(\S+)")
            url = awaited(process, r"(http://\S+/send-verification-sms)")
            if not url:
                yield "otpost dev does not start"
                return
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            urllib.request.urlopen(urllib.request.Request(url, b'{"otp_type":"SMS"}', headers), timeout=20).close()
            with urllib.request.urlopen(address, timeout=10) as answer:
                text = answer.read().decode()
        finally:
            process.kill()
    there = set(re.findall(r"^# TYPE (\S+)", text, re.M)) | set(re.findall(r"^([a-z_]+)[ {]", text, re.M))
    for place, name in sorted({(place, name) for place, name, _ in named() if not name.startswith(LATER)}):
        if not {name, base(name), name.removesuffix("_total"), name.removesuffix("_info")} & there:
            yield f"{place}: otpost dev does not serve {name}"


CHECKS = [current, tested, runbook, addressed, incidents, dashboards, documented, served, alerts]


def run(check):
    try:
        found = sorted(set(check()))
    except Skipped as reason:
        print(f"skip  {check.__name__}: {reason}")
        return "skipped"
    print(f"{'FAIL' if found else 'ok'}  {check.__name__}")
    for problem in found:
        print(f"      {problem}")
    return "failed" if found else "passed"


def main(names):
    unknown = set(names) - {check.__name__ for check in CHECKS}
    if unknown:
        raise SystemExit(f"no such check: {', '.join(sorted(unknown))}")
    results = [run(check) for check in CHECKS if not names or check.__name__ in names]
    counts = {result: results.count(result) for result in ("passed", "failed", "skipped")}
    print(", ".join(f"{count} {result}" for result, count in counts.items()))
    raise SystemExit(1 if counts["failed"] else 0)


main(sys.argv[1:])
