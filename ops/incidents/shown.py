#!/usr/bin/env python3
"""Makes each cause in docs/runbook.md happen to the real binary, and looks for the words that the table has.

    ops/incidents/shown.py --binary target/debug/otpost                 all incidents
    ops/incidents/shown.py --binary target/debug/otpost --print opted    those whose name contains a word, with all that is shown

It needs `redis-server` and a RabbitMQ, and for the memory alarm an installed RabbitMQ, of which it starts one of its own.
"""

import argparse
import re
import signal
import sys
import time
from pathlib import Path

from own_rabbit import OwnRabbit, is_installed
from stage import ROOT, Failure, Stage, key, missing, wait_until

PAGE = ROOT / "docs" / "runbook.md"
LANDLINE = "+576012345678"
READ_WITHIN = 45


class Skipped(Exception):
    pass


def until(show, words, seconds=READ_WITHIN):
    """What is shown, once it has all the words; the last of it if it never has."""
    deadline = time.monotonic() + seconds
    while True:
        shown = show()
        if all(word in shown for word in words) or time.monotonic() > deadline:
            return shown
        time.sleep(0.3)


class Incidents:
    """Each method makes one incident and returns what is shown of it. Its name is that of the cause."""

    def __init__(self, binary):
        self.binary = binary

    def stage(self, **settings):
        return Stage(self.binary, PROVIDER_TIMEOUT_SECONDS="4", **settings)

    def _nothing(self):
        """What is shown while all is well: no incident's words may be among it."""
        with self.stage() as stage:
            worker, http = stage.start("worker"), stage.start("http")
            stage.twilio.api_port = http.http_port
            request = stage.request()
            shown = until(lambda: stage.run("why", request), ["the provider reports: delivered"])
            shown += until(lambda: stage.run("status"), ["all is well"])
            for command in (["dead-letters", "list"], ["suppressions", "list"], ["check-number", next(stage.numbers)]):
                shown += stage.run(*command)
            return shown + worker.log.read_text() + http.log.read_text()

    def over_a_limit(self, words):
        with self.stage() as stage:
            stage.start("worker")
            to = next(stage.numbers)
            first = stage.request(to)
            wait_until(lambda: "ended as sent" in stage.run("why", first), 20, "the first request is sent")
            again = stage.request(to)
            return until(lambda: stage.run("why", again), words)

    def pumping(self, words):
        with self.stage(DEFENCE="enforce") as stage:
            stage.start("worker")
            for nth in range(90):
                stage.request(f"+573007654{nth:03}")
            wait_until(lambda: "+573007654" in stage.run("defence", "status"), 20, "the block is held")
            time.sleep(2)
            refused = stage.request("+573007654900")
            return until(lambda: stage.run("why", refused) + stage.run("defence", "status"), words)

    def a_landline(self, words):
        with self.stage() as stage:
            return until(lambda: stage.run("check-number", LANDLINE), words)

    def opted_out(self, words):
        with self.stage() as stage:
            stage.start("worker")
            to = next(stage.numbers)
            stage.twilio.next_to[to] = [(400, 21610)]
            request = stage.request(to)
            return until(lambda: stage.run("why", request) + stage.run("suppressions", "list"), words)

    def phone_off_or_unreachable(self, words):
        with self.stage() as stage:
            stage.start("worker")
            stage.twilio.api_port = stage.start("http").http_port
            to = next(stage.numbers)
            stage.twilio.reports[to] = ("undelivered", 30003)
            request = stage.request(to)
            return until(lambda: stage.run("why", request), words)

    def expired_in_a_backlog(self, words):
        with self.stage() as stage:
            # A request that is of use for a minute waits until half of it has gone by.
            late = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 33))
            request = stage.request(not_after=late)
            time.sleep(5)
            stage.start("worker")
            return until(lambda: stage.run("why", request), words)

    def credentials_refused_401(self, words):
        with self.stage() as stage:
            stage.start("worker")
            stage.twilio.everything = (401, 20003)
            stage.request()
            return until(lambda: stage.run("status"), words)

    def throttled_429(self, words):
        with self.stage() as stage:
            stage.start("worker")
            to = next(stage.numbers)
            stage.twilio.next_to[to] = [(429, 20429)]
            request = stage.request(to)
            return until(lambda: stage.run("why", request), words)

    def provider_silent(self, words):
        with self.stage() as stage:
            stage.start("worker")
            stage.twilio.silent.set()
            request = stage.request()
            return until(lambda: stage.run("why", request), words)

    def redis_down(self, words):
        with self.stage() as stage:
            stage.start("worker")
            stage.redis.kill()
            stage.redis.wait()
            return until(lambda: stage.run("status"), words)

    def redis_full(self, words):
        with self.stage() as stage:
            stage.start("worker")
            stage.redis_cli("config", "set", "maxmemory", "1")
            return until(lambda: stage.run("status"), words)

    def redis_read_only(self, words):
        with self.stage() as stage:
            stage.start("worker")
            stage.redis_cli("replicaof", "127.0.0.1", "1")
            return until(lambda: stage.run("status"), words)

    def rabbitmq_down(self, words):
        with self.stage() as stage:
            stage.start("worker")
            stage.way.cut()
            return until(lambda: stage.run("status"), words)

    def queue_deleted(self, words):
        with self.stage() as stage:
            worker = stage.start("worker")
            stage.amqp.delete_queue(f"{stage.prefix}.send-sms")
            return until(worker.log.read_text, words)

    def rabbitmq_s_memory_alarm(self, words):
        if not is_installed():
            raise Skipped("no RabbitMQ is installed here")
        with OwnRabbit() as rabbit, Stage(self.binary, rabbit.url) as stage:
            stage.start("worker")
            rabbit.control("set_vm_memory_high_watermark", "0.00001")
            stage.request(confirm=False)
            return until(lambda: stage.run("status"), words)

    def a_backlog(self, words):
        """One slot, and a provider that takes 3 s for an answer."""
        with self.stage(WORKER_CONCURRENCY="1", WORKER_PREFETCH="1") as stage:
            stage.start("worker")
            stage.twilio.slowness = 3
            for _ in range(30):
                stage.request()
            return until(lambda: stage.run("status"), words, 90)

    def no_consumers(self, words):
        with self.stage() as stage:
            worker = stage.start("worker")
            worker.stop()
            stage.request()
            return until(lambda: stage.run("status"), words)

    def a_poison_message(self, words):
        """Five workers are killed while they process it; the sixth dead-letters it. Each waits for the lease of the one before."""
        with self.stage() as stage:
            stage.twilio.silent.set()
            request = stage.request()
            for nth in range(5):
                worker = stage.start("worker", ready=False)
                taken = nth * ["taken over by another handler"] + ["it is being sent"][nth:]
                wait_until(lambda: self.count(stage.run("why", request), taken), 120, "a worker processes the message")
                worker.stop(signal.SIGKILL)
            stage.start("worker", ready=False)
            return until(lambda: stage.run("dead-letters", "list"), [*words, request], 120)

    @staticmethod
    def count(text, words):
        return all(text.count(word) >= words.count(word) for word in words)

    def an_unreadable_message(self, words):
        with self.stage() as stage:
            stage.start("worker")
            stage.publish(b'{"to":"+573001234567"}')
            return until(lambda: stage.run("dead-letters", "list"), words)

    def a_wrong_key(self, words):
        with self.stage() as stage:
            stage.start("worker")
            wait_until(lambda: "all is well" in stage.run("status"), 30, "the worker has reported")
            stage.start("http", ready=False, OTP_SECRET_KEYS=f"k1:{key()}")
            return until(lambda: stage.run("status"), words)

    def a_leaked_token(self, words):
        with self.stage() as stage:
            http = stage.start("http")
            for _ in range(5):
                stage.post(http.http_port, "/api/v1/sms/requests", {"to": next(stage.numbers)}, "otp:admin")
            return until(http.log.read_text, words)


def rows():
    """Each incident of the page: its name, and the words in backticks of the last cell."""
    table = PAGE.read_text().split("| cause | shown by | words |\n|---|---|---|\n")[1].split("\n\n")[0]
    cells = [line.split("|")[1:-1] for line in table.splitlines()]
    # What follows the first words of a cell is said of another case, or of another command.
    return [(name.strip(), re.findall(r"`([^`]+)`", re.split(r";|, or |: one |, and ", words)[0])) for name, _, words in cells]


def method(name):
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--print", action="store_true", help="all that is shown")
    parser.add_argument("names", nargs="*", help="words of incidents")
    chosen = parser.parse_args()
    if why := missing("redis-server", "redis-cli"):
        print(f"{why}: no incident was made")
        return
    incidents, known = Incidents(chosen.binary.resolve()), dict(rows())
    there = {name for name in vars(Incidents) if not name.startswith("_")} - {"stage", "count"}
    failed = [f"the page and this script name different incidents: {sorted(odd)}" for odd in [there ^ {method(name) for name in known}] if odd]
    well = incidents._nothing()
    failed += [f"{name}: {word!r} is shown while all is well" for name, words in known.items() for word in words if word in well]
    for name, words in known.items():
        if chosen.names and not any(word in name.lower() for word in chosen.names):
            continue
        try:
            shown = getattr(incidents, method(name))(words)
        except Skipped as reason:
            print(f"skip  {name}: {reason}", flush=True)
            continue
        except (Failure, OSError) as fault:
            shown = f"{type(fault).__name__}: {fault}"
        lacking = [word for word in words if word not in shown]
        print(f"{'FAIL' if lacking else 'ok'}  {name}", flush=True)
        if lacking or chosen.print:
            print(shown, flush=True)
        failed += [f"{name}: {word!r} is not shown" for word in lacking]
    for fault in failed:
        print(f"FAIL  {fault}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
