"""A vendor that dies under load: its messages go to the other one, none is doubled without a doubt, and it gets its share back."""

import contextlib
import itertools
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import reference_sender
from harness import Gateway, Request, expect, get, mobile_numbers, percentile, say, statuses, wait_until

WORKERS = 2
TIMEOUT_SECONDS = 5
DEADLINE_SECONDS = 180
# Half of the messages are taken, and their answers are lost.
DEATH = {"message": "hang", "taken": 0.5, "lookup": "mixed", "check": "mixed"}
ACCEPTED_MIN = 0.995
SWITCH_SECONDS_MAX = 2
# After a return: until every breaker is closed, and for the share to grow.
PROBED_WITHIN, GROWS_WITHIN = 90, 30
SHARE_MIN = 0.95
# While one worker's share begins at a tenth the other has none.
FIRST_SHARE_MAX, FIRST_SECONDS = 0.5, 4
POLL_SECONDS = 0.2
BUCKET_SECONDS = 5
EXPLAINED_MAX = 400

PROVIDERS_FILE = """\
[[providers]]
kind = "twilio"
account_sid = "AC0123456789abcdef0123456789abcdef"
auth_token = "env:ACCOUNT_TOKEN"
senders = ["+15005550006"]
base_url = "http://127.0.0.1:{twilio}"

[[providers]]
name = "beta"
kind = "http"

[providers.authentication]
kind = "bearer"
secret = "env:BETA_KEY"

[providers.send]
url = "http://127.0.0.1:{beta}/messages"
json = {{ to = "{{{{ to }}}}", text = "{{{{ text }}}}" }}

[providers.check]
method = "GET"
url = "http://127.0.0.1:{beta}/account"

[providers.answers]
id = "json:/id"
code = "json:/code"
rules = [
  {{ status = 202, class = "accepted" }},
  {{ status = 429, class = "throttled" }},
]

[[routes]]
providers = ["twilio", "beta"]
"""


class Vendor:
    """A fake vendor in a process of its own, and its books."""

    def __init__(self, name, kind, folder):
        self.name = name
        self.record = folder / f"{name}.jsonl"
        self.record.touch()
        script = Path(__file__).with_name("fake_vendors.py")
        self.process = subprocess.Popen(
            [sys.executable, script, kind, self.record], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self.process.stdout.readline())

    def fail(self, fault):
        call = urllib.request.Request(f"http://127.0.0.1:{self.port}/fault", json.dumps(fault).encode())
        with urllib.request.urlopen(call, timeout=10):
            return time.time()

    def lines(self):
        return [json.loads(line) for line in self.record.read_text("utf-8").splitlines()]

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


class TwoVendors(Gateway):
    """A gateway whose messages go to a Twilio, which lists them, then to beta, which does not."""

    def __init__(self, options, **settings):
        super().__init__(options, **settings)
        self.vendors = []

    def start_twilio(self):
        self.vendors = start_vendors(self.folder)
        ports = {vendor.name: vendor.port for vendor in self.vendors}
        (self.folder / "providers.toml").write_text(PROVIDERS_FILE.format(**ports), "utf-8")

    def environment(self, ops_port, http_port):
        settings = super().environment(ops_port, http_port)
        return {name: value for name, value in settings.items() if not name.startswith("TWILIO_")} | {
            "PROVIDERS_FILE": str(self.folder / "providers.toml"),
            "PROVIDER_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
            "ACCOUNT_TOKEN": "e2a7076108fc0dd2b397274c07b3ee31",
            "BETA_KEY": "beta-0c1b7f9e",
        }

    def clean_up(self):
        super().clean_up()
        for vendor in self.vendors:
            vendor.stop()


def start_vendors(folder):
    return [Vendor("twilio", "twilio", folder), Vendor("beta", "own", folder)]


class Load:
    """Requests at a steady rate, each for a number of its own, until stopped."""

    def __init__(self, gateway, rate, numbers):
        self.requests = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=gateway.publish, args=(self.due(rate, numbers),))
        self.thread.start()

    def due(self, rate, numbers):
        began = time.monotonic()
        for nth in itertools.count():
            if self.stopping.wait(max(0, began + nth / rate - time.monotonic())):
                return
            deadline = time.time() + DEADLINE_SECONDS
            request = Request(next(numbers), not_after=datetime.fromtimestamp(deadline, timezone.utc).isoformat())
            request.deadline = deadline
            self.requests.append(request)
            yield request

    def wait_for(self, count, gateway, rate):
        def published():
            gateway.expect_running()
            return len(self.requests) >= count

        wait_until(published, 60 + 2 * count / rate, f"{count} requests published")

    def stop(self):
        self.stopping.set()
        self.thread.join(60)
        expect(not self.thread.is_alive(), "the publisher did not end")


class Watch:
    """Reads the metrics of workers a few times a second: when did the breaker of Twilio open and close, when did beta take a message?"""

    def __init__(self, workers):
        self.seen = {worker.name: [] for worker in workers}
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.follow, args=(workers,), daemon=True)
        self.thread.start()

    def follow(self, workers):
        while not self.stopping.wait(POLL_SECONDS):
            for worker in workers:
                with contextlib.suppress(OSError):
                    asked = time.time()
                    text = get(worker.ops_port, "/metrics")[1].decode()
                    self.seen[worker.name].append((asked, time.time(), breaker_is_open(text), taken_by_beta(text)))

    def openings(self, since):
        """For each worker: the last look that found Twilio's breaker closed, and the first that found it open."""
        found = {}
        for name, looks in self.seen.items():
            for (before, *_), (_, after, is_open, _) in itertools.pairwise(look for look in looks if look[1] >= since):
                if is_open:
                    found[name] = (before, after)
                    break
        return found

    def first_at_beta(self, name, since):
        before = next((taken for _, after, _, taken in reversed(self.seen[name]) if after < since), 0)
        return next((at for _, at, _, taken in self.seen[name] if at >= since and taken > before), None)

    def closed_for_good(self, since):
        """When the last breaker closed after `since`; `None` while one is open."""
        closings = []
        for looks in self.seen.values():
            if not looks or looks[-1][2]:
                return None
            closings.append(next((a[1] for b, a in itertools.pairwise(looks) if a[1] >= since and b[2] and not a[2]), since))
        return max(closings)

    def first_closing(self, since):
        looks = (pair for seen in self.seen.values() for pair in itertools.pairwise(seen))
        return min((a[0] for b, a in looks if a[1] >= since and b[2] and not a[2]), default=since)

    def stop(self):
        self.stopping.set()
        self.thread.join(20)


def series(text, name):
    """Labels and value of each series of a metric."""
    for labels, value in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE):
        yield dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)


def breaker_is_open(text):
    """Twilio's, if the series names a provider."""
    wanted = (value for labels, value in series(text, "otpost_circuit_breaker_open") if labels.get("provider", "twilio") == "twilio")
    return any(value == 1 for value in wanted)


def taken_by_beta(text):
    counts = series(text, "otpost_provider_request_duration_seconds_count")
    return sum(value for labels, value in counts if (labels.get("provider"), labels.get("result")) == ("beta", "accepted"))


class Post:
    """One call with a message, as its vendor saw it."""

    def __init__(self, vendor, line, answered):
        self.vendor = vendor
        self.at = line["at"]
        (self.code,) = re.findall(r"(?<!\d)\d{6}(?!\d)", line["text"])
        self.taken = line["what"] == "message"
        self.in_doubt = line.get("id") not in answered


def posts_by_number(vendors):
    posts = defaultdict(list)
    for vendor in vendors:
        lines = vendor.lines()
        answered = {line["id"] for line in lines if line["what"] == "answered"}
        for line in lines:
            if line["what"] in ("message", "call"):
                posts[line["to"]].append(Post(vendor.name, line, answered))
    for of_one in posts.values():
        of_one.sort(key=lambda post: post.at)
    return posts


class Books:
    """What became of each request, by the vendors' records and the results."""

    def __init__(self, requests, posts, results):
        self.requests = requests
        self.posts = posts
        self.status = {result.field("request_id"): result.field("status") for result in results}

    def taken(self, request):
        return [post for post in self.posts[request.to] if post.taken]

    def is_good(self, request):
        in_time = any(post.at <= request.deadline for post in self.taken(request))
        return in_time and self.status.get(request.request_id) == "sent"

    def more_than(self, most, what):
        return [request for request in self.requests if len(what(request)) > most]

    def codes(self, request):
        return {post.code for post in self.posts[request.to]}

    def at_both(self):
        return [request for request in self.requests if len({post.vendor for post in self.posts[request.to]}) > 1]

    def has_doubt_between(self, request):
        """Each call at another vendor comes after a call whose answer was lost."""
        posts = self.posts[request.to]
        changes = (earlier for earlier, later in itertools.pairwise(posts) if earlier.vendor != later.vendor)
        return all(earlier.in_doubt for earlier in changes)

    def phase(self, name, since, until):
        """A line of the table: the requests that were published then."""
        requests = [request for request in self.requests if since <= request.published_at < until]
        waits = [self.taken(r)[0].at - r.published_at for r in requests if self.taken(r)]
        shown = [f"{percentile(waits, share):8.2f}" for share in (0.5, 0.99, 1)] if waits else ["       –"] * 3
        at = Counter(post.vendor for request in requests for post in self.taken(request))
        good = sum(map(self.is_good, requests))
        share = f"{100 * good / len(requests):8.2f} %" if requests else "        –"
        twice = sum(len(self.taken(request)) > 1 for request in requests)
        return f"{name:<30}{len(requests):8}{share}{''.join(shown)}{at['twilio']:8}{at['beta']:8}{twice:8}"


HEADING = f"{'requests published':<30}{'count':>8}{'accepted':>10}{'p50 s':>8}{'p99 s':>8}{'max s':>8}{'twilio':>8}{'beta':>8}{'doubles':>8}"


def failover(options):
    """A vendor hangs under load and returns: accepted in time by the other one, within seconds, doubled only after a doubt."""
    numbers = mobile_numbers(1_000_000)
    faults = []
    with TwoVendors(options, WORKER_CONCURRENCY=str(options.slots)) as gateway:
        twilio = gateway.vendors[0]
        workers = gateway.start_workers(WORKERS)
        watch = Watch(workers)
        load = Load(gateway, options.rate, numbers)
        try:
            load.wait_for(options.requests // 2, gateway, options.rate)
            died_at = twilio.fail(DEATH)
            load.wait_for(options.requests, gateway, options.rate)
            returned_at = twilio.fail({})
            closed_at = wait_for_close(watch, returned_at, faults)
            load.wait_for(len(load.requests) + GROWS_WITHIN * options.rate, gateway, options.rate)
        finally:
            load.stop()
            ended_at = time.time()
        results = results_of(gateway, load.requests, faults)
        watch.stop()
        books = Books(load.requests, posts_by_number(gateway.vendors), results)
        opened = watch.openings(died_at)
        all_open_at = max((after for _, after in opened.values()), default=died_at)

        say(HEADING)
        say(books.phase("before the death", 0, died_at))
        say(books.phase("until every breaker was open", died_at, all_open_at))
        say(books.phase("while Twilio was dead", all_open_at, returned_at))
        say(books.phase("after its return", returned_at, ended_at + 1))
        say(books.phase("all", 0, ended_at + 1))
        say(f"statuses: {statuses(results)}")
        judge_books(books, faults)
        judge_doubts(gateway, books, faults)
        judge_switch(watch, opened, died_at, faults)
        judge_return(books, watch, returned_at, closed_at, ended_at, faults)
        gateway.stop_all()
        compare(options, gateway.folder, numbers, books, faults)
        expect(not faults, "\n  ".join(["", *faults]))


def wait_for_close(watch, returned_at, faults):
    deadline = time.monotonic() + PROBED_WITHIN
    while (closed_at := watch.closed_for_good(returned_at)) is None:
        if time.monotonic() > deadline:
            faults.append(f"a breaker of Twilio was still open {PROBED_WITHIN} s after its return")
            return None
        time.sleep(POLL_SECONDS)
    say(f"every breaker was closed {closed_at - returned_at:.1f} s after the return of Twilio")
    return closed_at


def results_of(gateway, requests, faults):
    """The first result of each request, waited for until the last deadline."""
    wanted = {request.request_id for request in requests}
    last = max(request.deadline for request in requests)
    while True:
        gateway.expect_running()
        results = gateway.results.terminal()
        found = {result.field("request_id"): result for result in reversed(results)}
        if found.keys() >= wanted or time.time() > last + 30:
            break
        time.sleep(0.2)
    time.sleep(2)
    if missing := len(wanted - found.keys()):
        faults.append(f"{missing} requests have no result")
    ends = defaultdict(set)
    for result in gateway.results.terminal():
        ends[result.field("request_id")].add((result.field("status"), result.field("provider_message_id")))
    if contradicting := [name for name, seen in ends.items() if len(seen) > 1]:
        faults.append(f"{len(contradicting)} requests have two different results")
    return list(found.values())


def judge_books(books, faults):
    good = sum(map(books.is_good, books.requests))
    share = good / len(books.requests)
    say(f"accepted inside the deadline: {good} of {len(books.requests)}, {100 * share:.2f} %")
    if share < ACCEPTED_MIN:
        faults.append(f"only {100 * share:.2f} % were accepted inside their deadline")
    for most, what, name in ((2, books.taken, "messages"), (1, books.codes, "codes")):
        if beyond := books.more_than(most, what):
            faults.append(f"{len(beyond)} requests have more than {most} {name}")
    if late := [r for r in books.requests if any(post.at > r.deadline for post in books.posts[r.to])]:
        faults.append(f"{len(late)} requests were posted after their deadline")
    for request in books.requests:
        if books.status.get(request.request_id) in ("failed", "rejected") and books.taken(request):
            faults.append(f"{request.request_id} ended as {books.status[request.request_id]} and has a message")
            break


def judge_doubts(gateway, books, faults):
    """By the vendors' books, and by the history that `otpost why` shows."""
    both = books.at_both()
    doubles = books.more_than(1, books.taken)
    say(f"at both vendors: {len(both)}; with two messages: {len(doubles)}")
    if undoubted := [request for request in both if not books.has_doubt_between(request)]:
        faults.append(f"{len(undoubted)} requests went to both vendors without a doubt")
    explained = both[:EXPLAINED_MAX]
    with ThreadPoolExecutor(2) as pool:
        timelines = list(pool.map(lambda request: timeline_of(gateway, request), explained))
    reasons = Counter(filter(None, map(reason_of, timelines)))
    say(f"their histories name: {dict(reasons)}")
    if unnamed := [r for r, timeline in zip(explained, timelines) if not names_the_doubt(timeline)]:
        faults.append(f"{len(unnamed)} histories do not show the doubt before the other vendor, such as that of {unnamed[0].request_id}")


def timeline_of(gateway, request):
    shown = json.loads(gateway.run("why", request.request_id, "--json"))
    return (shown[0] if isinstance(shown, list) else shown)["timeline"]


def reason_of(timeline):
    text = json.dumps(timeline)
    return next((word for word in ("doubt_unanswered", "breaker_open", "unreachable", "throttled") if word in text), None)


def names_the_doubt(timeline):
    """An attempt in doubt, then `doubt_unanswered`."""
    doubt = next((nth for nth, entry in enumerate(timeline) if entry.get("answer") == "in_doubt"), None)
    return doubt is not None and "doubt_unanswered" in json.dumps(timeline[doubt:])


def judge_switch(watch, opened, died_at, faults):
    """From a breaker's opening to the worker's first message at beta. Both bounds are the wider ones."""
    for name in watch.seen:
        if name not in opened:
            faults.append(f"the breaker of {name} did not open")
            continue
        before, after = opened[name]
        first = watch.first_at_beta(name, died_at)
        shown = "never" if first is None else f"{max(0, first - before):.2f} s"
        say(f"{name}: Twilio's breaker open {after - died_at:.1f} s after the death; to the first message at beta: {shown}")
        if first is None or first - before > SWITCH_SECONDS_MAX:
            faults.append(f"{name} did not switch within {SWITCH_SECONDS_MAX} s: {shown}")


def judge_return(books, watch, returned_at, closed_at, ended_at, faults):
    """Twilio is the own provider of every recipient: in the end it has all new messages, and not at once."""
    taken = sorted(((post.at, post.vendor) for r in books.requests for post in books.taken(r)), key=lambda one: one[0])

    def share(since, until):
        at = Counter(vendor for when, vendor in taken if since <= when < until)
        return at["twilio"] / max(1, sum(at.values())), sum(at.values())

    say(f"Twilio's share of the messages, by {BUCKET_SECONDS} s, from 10 s before its return:")
    start = returned_at - 10
    while start < ended_at:
        part, count = share(start, start + BUCKET_SECONDS)
        say(f"  {start - returned_at:+6.0f} s {count:6} messages {100 * part:6.1f} %  {'#' * round(40 * part)}")
        start += BUCKET_SECONDS
    if closed_at is None:
        return
    last, count = share(ended_at - 8, ended_at)
    if count == 0 or last < SHARE_MIN:
        faults.append(f"in the last seconds Twilio had {100 * last:.0f} % of the messages")
    first_closed = watch.first_closing(returned_at)
    first, count = share(first_closed, first_closed + FIRST_SECONDS)
    if first > FIRST_SHARE_MAX:
        faults.append(f"in the first {FIRST_SECONDS} s Twilio had {100 * first:.0f} % of the messages at once")


def compare(options, folder, numbers, books, faults):
    """The same load, fault and vendors for a sender that goes to beta on any exception."""
    (folder / "reference").mkdir()
    vendors = start_vendors(folder / "reference")
    try:
        twilio, beta = vendors
        wanted = [next(numbers) for _ in range(options.requests)]
        reference_sender.run(
            wanted, options.rate, twilio.port, beta.port, TIMEOUT_SECONDS, lambda: twilio.fail(DEATH), options.requests // 2
        )
        posts = posts_by_number(vendors)
    finally:
        for vendor in vendors:
            vendor.stop()
    taken = {to: [post for post in posts[to] if post.taken] for to in wanted}
    doubles = sum(len(of_one) > 1 for of_one in taken.values())
    ours = len(books.more_than(1, books.taken))
    say(f"{'sender':<42}{'requests':>9}{'accepted':>10}{'doubles':>9}")
    good = sum(map(books.is_good, books.requests))
    say(f"{'otpost':<42}{len(books.requests):9}{100 * good / len(books.requests):8.2f} %{ours:9}")
    accepted = sum(map(bool, taken.values()))
    say(f"{'retry at beta on any exception':<42}{len(wanted):9}{100 * accepted / len(wanted):8.2f} %{doubles:9}")
    if doubles <= ours:
        faults.append(f"the reference sender doubled only {doubles}: the fault shows nothing")
