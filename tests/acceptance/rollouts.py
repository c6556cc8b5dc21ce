"""A rollout under load, in the order of an orchestrator: a new process is ready before an old one gets SIGTERM."""

import contextlib
import http.client
import itertools
import json
import random
import secrets
import threading
import time
from collections import Counter

from harness import Gateway, Request, expect, expect_equal, mobile_numbers, say, statuses, token, wait_until

WORKERS, APIS, CLIENTS = 3, 2, 8
# Below PROVIDER_TIMEOUT_SECONDS, far above the time in which a process could end without waiting for it.
SLOWEST_ANSWER = "3"
# For so long a preStop hook keeps an API pod that gets no new requests from SIGTERM.
PRE_STOP_SECONDS = 1


class Traffic:
    """Requests from RabbitMQ at a steady rate, and over HTTP by clients that ask any open API."""

    def __init__(self, gateway, apis):
        self.gateway = gateway
        self.apis = list(apis)
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.numbers = mobile_numbers(1_000_000)
        self.published = []
        self.answers = []
        self.token = token("otp:send")
        self.threads = [threading.Thread(target=self.publish)]
        self.threads += [threading.Thread(target=self.send) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def number(self):
        with self.lock:
            return next(self.numbers)

    def publish(self):
        def requests():
            while not self.stopping.is_set():
                self.published.append(Request(self.number()))
                yield self.published[-1]

        self.gateway.publish(requests(), pace=0.02)

    def send(self):
        while not self.stopping.wait(0.1):
            with self.lock:
                api = random.choice(self.apis)
            try:
                answer = self.ask(api.http_port, self.number())
            except (OSError, http.client.HTTPException) as error:
                answer = f"no answer: {type(error).__name__}", None
            self.answers.append(answer)

    def ask(self, port, to):
        """What the answer says, and the id of the request."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": secrets.token_hex(8),
        }
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("POST", "/api/v1/otp/send", json.dumps({"to": to}), headers)
            answer = connection.getresponse()
            body = json.loads(answer.read())
            return f"{answer.status} {body.get('status') or body.get('code')}", body.get("request_id")

    def replace(self, old, fresh):
        with self.lock:
            self.apis.append(fresh)
            self.apis.remove(old)

    def stop(self):
        """The ids of all requests."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            expect(not thread.is_alive(), "a client did not end")
        return [request.request_id for request in self.published] + [name for _, name in self.answers if name]


def rollout(options):
    """All workers and APIs are replaced under load: nothing lost, nothing sent twice, no error over HTTP."""
    with Gateway(options, ("--slowest", SLOWEST_ANSWER), HTTP_SEND_WAIT_MS="5000") as gateway:
        workers = gateway.start_workers(WORKERS)
        apis = [gateway.start("http") for _ in range(APIS)]
        traffic = Traffic(gateway, apis)
        try:
            wait_until(lambda: len(gateway.results.terminal()) > 100, 60, "results before the rollout")
            drains = [replace_worker(gateway, worker) for worker in workers]
            for api in apis:
                replace_api(gateway, traffic, api)
            seen = len(gateway.results.terminal())
            wait_until(lambda: len(gateway.results.terminal()) > seen + 100, 60, "results after the rollout")
        finally:
            requests = traffic.stop()
        expect_each_once(gateway, requests)
        answers = Counter(said for said, _ in traffic.answers)
        expect_equal(set(answers), {"202 sent"}, "answers over HTTP")
        # With an answer of up to 3 s to each of many messages, a worker that waited for none would end at once.
        expect(max(drains) > 1, f"no worker drained: {drains}")
        say(f"{len(requests)} requests, {len(traffic.answers)} of them over HTTP: each sent once")
        say(f"{WORKERS} workers drained in {min(drains):.1f} to {max(drains):.1f} s; {APIS} APIs replaced without an error")


def replace_worker(gateway, old):
    gateway.start("worker")
    return gateway.retire(old)


def replace_api(gateway, traffic, old):
    traffic.replace(old, gateway.start("http"))
    time.sleep(PRE_STOP_SECONDS)
    gateway.retire(old)


def expect_each_once(gateway, requests):
    results = gateway.results.wait_for(len(requests), gateway, 120)
    expect_equal(set(statuses(results)), {"sent"}, "statuses")
    expect_equal({result.field("request_id") for result in results}, set(requests), "requests with a result")
    posts = Counter(post["To"] for post in gateway.posts())
    expect_equal(sum(posts.values()), len(requests), "POSTs")
    twice = list(itertools.islice((to for to, count in posts.items() if count > 1), 3))
    expect_equal(twice, [], "numbers that got two messages")
