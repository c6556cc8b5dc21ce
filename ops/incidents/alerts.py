#!/usr/bin/env python3
"""Runs otpost through incidents under a real Prometheus, and compares the alerts that fire and resolve with those that must.

    ops/incidents/alerts.py --binary target/debug/otpost [--rate 30] [--pictures]

It needs `prometheus`, `redis-server` and a RabbitMQ. The rules are those of ops/prometheus/rules.yml with every time divided by ten; the
readings of the queues, every 10 s, are not. It takes 12 minutes. `--pictures` draws the data into docs/images.
"""

import argparse
import json
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pictures
from generate import RULES
from stage import ROOT, Failure, Stage, free_port, key, missing, wait_until

SECONDS = {"s": 1, "m": 60, "h": 3600}
DIVISOR = 10

# Incident: begin and end in seconds of the run, and for each alert the latest seconds to fire after the begin and to be resolved
# after the end. An alert that an incident leaves behind fires after its end: its first time counts from the begin, too.
INCIDENTS = [
    ("The provider refuses connections", 60, 230, {"OtpostCircuitBreakerOpen": (40, 60), "OtpostBacklogGrows": (170, 90), "OtpostBacklogAge": (260, 180)}),
    ("A message without a request id", 390, 430, {"OtpostDeadLetters": (20, 75)}),
    ("No worker runs", 470, 580, {"OtpostDown": (35, 25), "OtpostNoWorkers": (35, 25), "OtpostBacklogAge": (170, 120)}),
    ("A process with another code key", 660, 690, {"OtpostKeyMismatch": (30, 20)}),
]
END = 720


def scaled(rules):
    """The rules with every duration divided."""

    def shorter(found):
        seconds = int(found[2]) * SECONDS[found[3]] / DIVISOR
        assert seconds == int(seconds), found[0]
        return f"{found[1]}{int(seconds)}s"

    return re.sub(r"(for: |\[|offset )(\d+)([smh])\b", shorter, rules)


class Prometheus:
    def __init__(self, folder):
        self.folder, self.port, self.targets = folder, free_port(), {}
        self.address = f"http://127.0.0.1:{self.port}"
        (folder / "rules.yml").write_text(scaled(RULES.read_text()))
        (folder / "prometheus.yml").write_text(
            "global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\n"
            "rule_files: [rules.yml]\nscrape_configs:\n"
            "  - job_name: otpost\n    file_sd_configs: [{ files: [targets.json], refresh_interval: 1s }]\n"
        )
        self.write()
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{self.port}"]
        with open(folder / "prometheus.log", "wb") as log:
            self.child = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def scrape(self, name, port):
        self.targets[name] = port
        self.write()

    def forget(self, name):
        del self.targets[name]
        self.write()

    def write(self):
        groups = [{"targets": [f"127.0.0.1:{port}"], "labels": {"process": name}} for name, port in self.targets.items()]
        new = self.folder / "targets.new"
        new.write_text(json.dumps(groups))
        new.replace(self.folder / "targets.json")

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def fired(self, begin, end):
        """Each alert's times of firing, in seconds since the begin; None if it still fires at the end."""
        question = {"query": 'max by (alertname) (ALERTS{alertstate="firing"})', "start": begin, "end": end, "step": 1}
        with urllib.request.urlopen(f"{self.address}/api/v1/query_range?{urllib.parse.urlencode(question)}", timeout=30) as answer:
            result = json.load(answer)["data"]["result"]
        found = []
        for one in result:
            seconds = [round(at - begin) for at, _ in one["values"]]
            starts = [at for at in seconds if at - 1 not in seconds]
            for start in starts:
                last = start
                while last + 1 in seconds:
                    last += 1
                found.append((start, None if last >= end - begin - 1 else last + 1, one["metric"]["alertname"]))
        return sorted(found)


class Load(threading.Thread):
    """Publishes requests at an even rate."""

    def __init__(self, stage, rate):
        super().__init__(daemon=True)
        self.stage, self.pause, self.count, self.ended, self.lock = stage, 1 / rate, 0, threading.Event(), threading.Lock()
        self.fault = None

    def run(self):
        due = time.monotonic()
        try:
            while not self.ended.is_set():
                with self.lock:
                    self.stage.request(confirm=self.count % 10 == 9)
                self.count += 1
                due += self.pause
                time.sleep(max(0.0, due - time.monotonic()))
        except Exception as fault:  # noqa: BLE001 - the run reports it
            self.fault = fault


class Run:
    def __init__(self, stage, prometheus, rate):
        self.stage, self.prometheus, self.load = stage, prometheus, Load(stage, rate)
        self.workers = [stage.start("worker") for _ in range(2)]
        http = stage.start("http")
        stage.twilio.api_port = http.http_port
        for name, process in (("worker-1", self.workers[0]), ("worker-2", self.workers[1]), ("http-1", http)):
            prometheus.scrape(name, process.ops_port)
        wait_until(prometheus.is_ready, 30, "Prometheus is ready")

    def until(self, second):
        while time.time() < self.begin + second:
            if self.load.fault:
                raise Failure(f"the load ended: {self.load.fault}")
            time.sleep(0.1)

    def say(self, text):
        print(f"{time.time() - self.begin:6.1f} s  {text}", flush=True)

    def play(self):
        self.begin = time.time()
        self.load.start()
        acts = {
            INCIDENTS[0][0]: (self.stage.twilio.go, self.stage.twilio.come),
            INCIDENTS[1][0]: (self.dead_letter, self.drop),
            INCIDENTS[2][0]: (self.stop_workers, self.start_workers),
            INCIDENTS[3][0]: (self.start_stranger, self.stop_stranger),
        }
        for name, begin, end, _ in INCIDENTS:
            for second, act, word in ((begin, acts[name][0], "begins"), (end, acts[name][1], "ends")):
                self.until(second)
                self.say(f"{name}: {word}")
                act()
        self.until(END)
        self.load.ended.set()
        self.load.join()
        self.say(f"{self.load.count} requests, {self.stage.twilio.count} messages")

    def dead_letter(self):
        with self.load.lock:
            self.stage.publish(b'{"to":"+573001234567"}')

    def drop(self):
        self.say(self.stage.run("dead-letters", "drop", "--all", "--yes").strip())

    def stop_workers(self):
        for worker in self.workers:
            worker.stop()

    def start_workers(self):
        for worker in self.workers:
            self.stage.start("worker", worker.ops_port, ready=False)

    def start_stranger(self):
        self.stranger = self.stage.start("http", OTP_SECRET_KEYS=f"k1:{key()}")
        self.prometheus.scrape("http-2", self.stranger.ops_port)

    def stop_stranger(self):
        self.prometheus.forget("http-2")
        time.sleep(3)
        self.stranger.stop()


def compare(fired):
    """The faults, and each alert's row: incident, alert, begin, fired and resolved after begin and end."""
    faults, rows, left = [], [], list(fired)
    for incident, begin, end, alerts in INCIDENTS:
        for alert, (latest, over) in alerts.items():
            found = next((one for one in left if one[2] == alert and begin <= one[0] <= begin + latest), None)
            if not found:
                faults.append(f"{incident}: {alert} did not fire between {begin} s and {begin + latest} s")
                continue
            left.remove(found)
            rows.append((incident, begin, end, *found))
            if found[1] is None or found[1] > end + over:
                faults.append(f"{incident}: {alert} was not resolved by {end + over} s: {found[1]}")
    faults += [f"{alert} fired at {at} s until {until} s, and must not" for at, until, alert in left]
    return faults, rows


def table(rows):
    lines = ["| incident | from | to | alert | fires | resolved |", "|---|---|---|---|---|---|"]
    lines += [f"| {incident} | {begin} s | {end} s | {alert} | {at} s | {until} s |" for incident, begin, end, at, until, alert in rows]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=30, help="requests a second")
    parser.add_argument("--pictures", action="store_true", help="draw the data into docs/images")
    chosen = parser.parse_args()
    if why := missing("prometheus", "redis-server", "redis-cli"):
        print(f"{why}: no alert was made to fire")
        return
    with Stage(chosen.binary.resolve()) as stage:
        prometheus = Prometheus(stage.folder)
        try:
            run = Run(stage, prometheus, chosen.rate)
            run.play()
            end = time.time()
            faults, rows = compare(prometheus.fired(run.begin, end))
            out = ROOT / "target" / "incidents"
            out.mkdir(parents=True, exist_ok=True)
            (out / "alerts.md").write_text(table(rows) + "\n")
            print(table(rows))
            for fault in faults:
                print(f"FAIL  {fault}")
            if chosen.pictures:
                pictures.draw(pictures.Prometheus(prometheus.address, run.begin, end, "30s"))
        finally:
            prometheus.child.terminate()
            prometheus.child.wait()
        if faults:
            raise SystemExit(1)
        print("exactly the expected alerts fired and were resolved")


if __name__ == "__main__":
    main()
