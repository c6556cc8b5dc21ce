"""Workers by the word of the API's `/scale`: from two to as many as it allows and back, under load."""

import contextlib
import json
import threading
import time

from harness import Gateway, Request, expect, expect_equal, get, mobile_numbers, publish_at_once, say, wait_until
from rollouts import expect_each_once

FIRST, MOST = 2, 20
# With four slots and an answer of about half a second a worker sends seven a second.
SLOTS, SLOWEST_ANSWER = "4", "1"
# Between what one and what two workers are to carry.
STEADY_SECONDS = 1 / 8
BURST = 3_000
POLL_SECONDS = 3
# For so long the highest number counts before workers end.
STABILIZATION_SECONDS = 15


class SteadyRequests:
    """One request after another, until stopped."""

    def __init__(self, gateway, numbers):
        self.requests = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.publish, args=(gateway, numbers))
        self.thread.start()

    def publish(self, gateway, numbers):
        def requests():
            while not self.stopping.is_set():
                self.requests.append(Request(next(numbers)))
                yield self.requests[-1]

        gateway.publish(requests(), pace=STEADY_SECONDS)

    def stop(self):
        self.stopping.set()
        self.thread.join(60)
        expect(not self.thread.is_alive(), "the publisher did not end")
        return self.requests


class Orchestrator:
    """Starts and ends workers as the answer of an API says, as KEDA does it."""

    def __init__(self, gateway, api):
        self.gateway = gateway
        self.api = api
        self.workers = gateway.start_workers(FIRST)
        self.most = FIRST
        self.answers = []
        self.changes = []

    def ask(self):
        status, body = get(self.api.ops_port, "/scale")
        expect_equal(status, 200, "status of /scale")
        answer = json.loads(body)
        self.answers.append((time.monotonic(), answer))
        return answer

    def follow(self):
        answer = self.ask()
        since = time.monotonic() - STABILIZATION_SECONDS
        highest = max(answer["wanted"] for at, answer in self.answers if at >= since)
        present = len(self.workers)
        if answer["wanted"] > present:
            wanted = min(answer["wanted"], max(2 * present, present + 4))
            self.workers += self.gateway.start_workers(wanted - present)
        elif highest < present:
            for worker in self.workers[highest:]:
                self.gateway.retire(worker)
            del self.workers[highest:]
        self.most = max(self.most, len(self.workers))
        if len(self.workers) != present:
            self.changes.append(f"{present}→{len(self.workers)}")
        return answer

    def follow_until(self, condition, seconds, what):
        def step():
            if condition(self.follow()):
                return True
            time.sleep(POLL_SECONDS)
            return False

        began = time.monotonic()
        wait_until(step, seconds, what)
        return time.monotonic() - began


def text_messages(answer):
    return answer["channels"][0]


def scaler(options):
    """Two workers become twenty and two again by the word of /scale: nothing lost, nothing sent twice."""
    settings = {"WORKER_CONCURRENCY": SLOTS, "SCALE_MAX": str(MOST), "SCALE_BACKLOG_SECONDS": "10"}
    with Gateway(options, ("--slowest", SLOWEST_ANSWER), **settings) as gateway:
        numbers = mobile_numbers(1_000_000)
        apis = [gateway.start("http") for _ in range(2)]
        orchestrator = Orchestrator(gateway, apis[0])
        steady = SteadyRequests(gateway, numbers)
        try:
            orchestrator.follow_until(
                lambda answer: text_messages(answer)["rate"] > 5, 60, "a steady rate of two workers"
            )
            expect_equal(len(orchestrator.workers), FIRST, "workers before the burst")
            burst = [Request(next(numbers)) for _ in range(BURST)]
            publish_at_once(gateway, burst)
            grown = orchestrator.follow_until(lambda _: len(orchestrator.workers) == MOST, 120, f"{MOST} workers")
            expect_agreement(apis)
            caught_up = grown + orchestrator.follow_until(
                lambda answer: text_messages(answer)["ready"] == 0, 180, "an empty queue"
            )
            orchestrator.follow_until(lambda _: len(orchestrator.workers) == FIRST, 180, f"{FIRST} workers again")
        finally:
            requests = steady.stop()
        expect_each_once(gateway, [request.request_id for request in burst + requests])
        expect_equal(orchestrator.most, MOST, "most workers")
        say(f"{BURST} requests at once and {len(requests)} at a steady rate: each sent once")
        say(f"workers {', '.join(orchestrator.changes)}; {grown:.0f} s to {MOST}, {caught_up:.0f} s to an empty queue")


def expect_agreement(apis):
    """Both answer at one time, from one state: their numbers are those of the same seconds."""

    def agree():
        with contextlib.suppress(OSError):
            answers = [json.loads(get(api.ops_port, "/scale")[1]) for api in apis]
            return answers[0]["wanted"] == answers[1]["wanted"] and answers[0]["present"] == answers[1]["present"]
        return False

    wait_until(agree, 15, "two APIs that agree")
