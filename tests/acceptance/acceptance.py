#!/usr/bin/env python3
"""A foreign client's view of the real binary: does otpost keep its promises to other people's programs?

    pip install -r requirements.txt
    python acceptance.py --binary PATH [bulk] [memory] [hammer] [guess] [poison] [secrets] [rollout] [scaler] [failover]

RabbitMQ and Redis must run (`--amqp-url`, `--redis-url`; loopback by default). Each scenario prints what it saw and
fails loudly; the exit status is 0 only if all of them held. Without names, all are run.
"""

import argparse
import os
import random
import secrets as chance
import sys
import time
import traceback
from pathlib import Path

import failover
import leaks
import rollouts
import scaler
from harness import (
    Failure,
    Gateway,
    Request,
    Verifier,
    expect,
    expect_equal,
    get,
    mobile_numbers,
    percentile,
    publish_at_once,
    say,
    statuses,
    verdicts,
)

# The resident memory of a worker, of which about 16 MiB are pages of the binary.
IDLE_MIB_MAX = 48
BUSY_MIB_MAX = 64


def bulk(options):
    """Many requests, three workers: exactly one result and one SMS each; a repeat gets the stored result."""
    count = options.messages
    with Gateway(options) as gateway:
        gateway.start_workers()
        requests = [Request(number) for number in mobile_numbers(count)]

        began = time.monotonic()
        publish_at_once(gateway, requests)
        results = gateway.results.wait_for(count, gateway, 60 + count / 100)
        say(f"{count} requests ended in {time.monotonic() - began:.1f} s, publishing and settling included")
        expect_first_results(requests, results)
        posts = gateway.posts()
        expect_equal(len(posts), count, "POSTs")
        expect_equal(len({post["To"] for post in posts}), count, "numbers that got an SMS")
        say(f"{count} results, each once, all sms.sent, none replayed; {count} POSTs, one a number")

        expect_codes_verify(gateway, random.sample(requests, min(20, count)))

        seen = len(gateway.results.messages)
        publish_at_once(gateway, requests)
        replays = gateway.results.wait_for(count, gateway, 60 + count / 100, since=seen)
        expect(
            all(replay.field("replayed") is True for replay in replays), "a repeat's result is not `replayed`"
        )
        first = {r.properties.message_id: r.field("provider_message_id") for r in results}
        again = {r.properties.message_id: r.field("provider_message_id") for r in replays}
        expect(
            first == again, "a replayed result has another message_id or provider_message_id than the first"
        )
        expect_equal(len(gateway.posts()), count, "POSTs after all requests were repeated")
        say(f"all published again: {count} replayed results, the same ids, no new POST")


def expect_first_results(requests, results):
    wanted = {f"{request.request_id}:sent": request for request in requests}
    ids = [result.properties.message_id for result in results]
    expect_equal(len(set(ids)), len(ids), "distinct message_ids")
    expect(set(ids) == set(wanted), f"{len(set(wanted) - set(ids))} results missing: {statuses(results)}")
    for result in results:
        request = wanted[result.properties.message_id]
        expect_equal(result.key, "sms.sent", "routing key")
        expect(not result.field("replayed"), f"{result.properties.message_id} is a replay")
        expect_equal(result.field("request_id"), request.request_id, "request_id")
        expect_equal(result.properties.correlation_id, request.correlation_id, "correlation_id")
        expect_equal(result.properties.delivery_mode, 2, "delivery_mode")
        for field in ("channel", "purpose", "to", "at"):
            expect(result.field(field), f"a result without `{field}`: {result.body}")


def expect_codes_verify(gateway, requests):
    http = gateway.start("http")
    verifier = Verifier(http.http_port)
    codes = gateway.codes()
    for request in requests:
        (code,) = codes[request.to]
        status, body = verifier.verify(request.to, code)
        expect(status == 200 and body.get("verified") is True, f"the code from the SMS: {status} {body}")
    say(f"{len(requests)} codes, read from their SMS, verified over HTTP")


def memory(options):
    """One worker's memory: little when idle, and little more after many requests."""
    count = options.messages
    with Gateway(options) as gateway:
        worker = gateway.start("worker")
        idle = worker.resident_mib()
        publish_at_once(gateway, [Request(number) for number in mobile_numbers(count)])
        gateway.results.wait_for(count, gateway, 60 + count / 100)
        peak = worker.resident_mib("VmHWM")
        say(f"{idle:.0f} MiB resident when idle, at most {peak:.0f} MiB in {count} requests")
        expect(idle <= IDLE_MIB_MAX, f"more than {IDLE_MIB_MAX} MiB when idle: {idle:.1f}")
        expect(peak <= BUSY_MIB_MAX, f"more than {BUSY_MIB_MAX} MiB when busy: {peak:.1f}")


def hammer(options):
    """Two hundred requests for one number at the same moment, over three workers."""
    with Gateway(options) as gateway:
        results = hammer_one_number(gateway)
        expect_equal(statuses(results), {"sent": 1, "rejected cooldown": 199}, "outcomes")
        expect_retry_after(results, "cooldown")
        expect_equal(len(gateway.posts()), 1, "POSTs")

    with Gateway(options, OTP_RESEND_COOLDOWN_SECONDS="0") as gateway:
        results = hammer_one_number(gateway)
        expect_equal(
            statuses(results), {"sent": 5, "rejected rate_limited": 195}, "outcomes without a cooldown"
        )
        expect_retry_after(results, "rate_limited")
        expect_equal(len(gateway.posts()), 5, "POSTs")
        (codes,) = gateway.codes().values()
        expect_equal(len(codes), 1, "different codes in the five texts")
        say("the five texts carry the same code")


def hammer_one_number(gateway):
    gateway.start_workers()
    (number,) = mobile_numbers(1)
    publish_at_once(gateway, [Request(number) for _ in range(200)], connections=8)
    results = gateway.results.wait_for(200, gateway, 60)
    say(f"200 requests for one number: {statuses(results)}")
    return results


def expect_retry_after(results, code):
    waits = [result.body["error"].get("retry_after") for result in results if result.error_code == code]
    expect(all(isinstance(after, int | float) and after > 0 for after in waits), f"{code} without retry_after")
    say(f"{code}: retry_after from {min(waits)} to {max(waits)} s")


def guess(options):
    """Guessing at full speed gets five tries; a right code works once, however many present it at once."""
    with Gateway(options) as gateway:
        gateway.start_workers(1)
        verifier = Verifier(gateway.start("http").http_port)
        guessed, shared = (Request(number) for number in mobile_numbers(2))
        gateway.publish([guessed, shared])
        gateway.results.wait_for(2, gateway, 30, settle=0.2)
        codes = gateway.codes()
        (right,), (shared_code,) = codes[guessed.to], codes[shared.to]

        wrong = [
            f"{number:06}" for number in random.sample(range(1_000_000), 501) if f"{number:06}" != right
        ][:500]
        answers = verifier.verify_at_once(guessed.to, wrong)
        say(f"500 wrong codes at once: {verdicts(answers)}")
        expect_equal(verdicts(answers), {"422 wrong_code": 5, "429 too_many_attempts": 495}, "verdicts")
        remaining = sorted(body.get("attempts_remaining") for status, body in answers if status == 422)
        expect_equal(remaining, [0, 1, 2, 3, 4], "attempts_remaining")
        status, body = verifier.verify(guessed.to, right)
        say(f"the right code after them: {status} {body.get('code')}")
        expect(
            status == 429 and body.get("code") == "too_many_attempts",
            f"the right code was answered {status} {body}",
        )

        answers = verifier.verify_at_once(shared.to, [shared_code] * 50)
        say(f"50 right codes at once: {verdicts(answers)}")
        expect_equal(verdicts(answers), {"200 True": 1, "409 code_used": 49}, "verdicts")


def poison(options):
    """What no service should send ends as a result or a dead letter with its reason, and delays no other request."""
    with Gateway(options) as gateway:
        gateway.start_workers()
        numbers = mobile_numbers(700)
        # The first messages of a process pay for its connections: they belong to neither side of the comparison.
        measure(gateway, [Request(next(numbers)) for _ in range(100)], [])
        without = measure(gateway, [Request(next(numbers)) for _ in range(200)], [])
        bad = [maker(next(numbers)) for maker in POISONS * 3]
        with_poison = measure(gateway, [Request(next(numbers)) for _ in range(200)], bad)

        for name, latencies in (("without", without), ("with", with_poison)):
            p50, p99 = percentile(latencies, 0.5) * 1000, percentile(latencies, 0.99) * 1000
            say(f"latency of 200 good ones {name} poison between them: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        expect_each_set_aside(gateway, bad)
        for share, factor, allowance in ((0.5, 1.5, 0.010), (0.99, 2.0, 0.100)):
            limit = percentile(without, share) * factor + allowance
            seen = percentile(with_poison, share)
            expect(seen <= limit, f"p{share * 100:.0f} with poison is {seen:.3f} s, over {limit:.3f} s")


class Poison(Request):
    """`ends` says how it must end: in a "result", as a "dead letter", or in either ("any"); with which error codes."""

    def __init__(self, name, body, ends, codes=("invalid_request",), request_id=None):
        super().__init__(
            request_id=request_id, body=body, correlation_id=f"poison-{name}-{chance.token_hex(6)}"
        )
        self.name, self.ends, self.codes = name, ends, codes


def with_id(name, body, ends, **more):
    """A poison that holds a readable request_id, put where `ID` stands in its body."""
    request_id = f"acc-{name}-{chance.token_hex(4)}"
    return Poison(name, body.replace(b"ID", request_id.encode()), ends, request_id=request_id, **more)


def nested(depth):
    return b'{"request_id":"ID","to":"x","deep":' + b"[" * depth + b"]" * depth + b"}"


def text(name, number):
    return f'{{"request_id":"{name}","to":"{number}"'.encode()


ANY_REFUSAL = ("invalid_request", "invalid_recipient")

# "any": where the request_id is lost in what is unreadable, the contract leaves it to the reader's strength.
POISONS = [
    lambda n: Poison("malformed", b'{"request_id": , not json', "dead letter"),
    lambda n: Poison("empty", b"", "dead letter"),
    lambda n: Poison("array", b"[1, 2, 3]", "dead letter"),
    lambda n: Poison("two-megabytes-of-nothing", b"x" * 2_000_000, "dead letter"),
    lambda n: with_id("two-megabytes", text("ID", n) + b',"user_name":"' + b"x" * 2_000_000 + b'"}', "any"),
    lambda n: with_id("number-as-number", b'{"request_id":"ID","to":573001234567}', "result"),
    lambda n: with_id("wrong-type", text("ID", n) + b',"purpose":["login"]}', "result"),
    lambda n: with_id("no-recipient", b'{"request_id":"ID"}', "result"),
    lambda n: Poison("no-request-id", b'{"to":"nobody"}', "dead letter"),
    lambda n: Poison("request-id-of-wrong-type", b'{"request_id":{"a":1},"to":"nobody"}', "dead letter"),
    lambda n: with_id(
        "bad-recipient", b'{"request_id":"ID","to":"abc"}', "result", codes=("invalid_recipient",)
    ),
    lambda n: with_id(
        "unknown-fields", text("ID", n) + b',"colour":"red","more":{"a":[1]}}', "result", codes=(None,)
    ),
    lambda n: with_id("invalid-utf-8", b'{"request_id":"ID","to":"\xff\xfe"}', "any", codes=ANY_REFUSAL),
    lambda n: Poison("invalid-utf-8-id", b'{"request_id":"\xff","to":"nobody"}', "dead letter"),
    lambda n: with_id("nested-5000-deep", nested(5000), "any", codes=ANY_REFUSAL),
    lambda n: Poison("nested-5000-deep-nothing", b"[" * 5000, "dead letter"),
]


def measure(gateway, good, bad):
    """Publishes good ones at an even pace with bad ones between; the seconds each good one took to its result."""
    mixed = list(good)
    for index, poisoned in enumerate(bad):
        mixed.insert((index + 1) * len(mixed) // (len(bad) + 1), poisoned)
    seen = len(gateway.results.messages)
    gateway.publish(mixed, pace=0.01)

    ended = {}
    deadline = time.monotonic() + 60
    while len(ended) < len(good):
        gateway.expect_running()
        expect(time.monotonic() < deadline, f"{len(ended)} of {len(good)} good requests ended within 60 s")
        time.sleep(0.05)
        ids = {request.request_id for request in good}
        found = gateway.results.terminal(since=seen)
        ended = {r.field("request_id"): r for r in found if r.field("request_id") in ids}
    expect_equal(statuses(ended.values()), {"sent": len(good)}, "good requests")
    return [ended[request.request_id].at - request.published_at for request in good]


def expect_each_set_aside(gateway, bad):
    deadline = time.monotonic() + 30
    while True:
        endings = [(poisoned, *endings_of(gateway, poisoned)) for poisoned in bad]
        if all(results or letters for _, results, letters in endings):
            break
        open_ones = sorted(
            {poisoned.name for poisoned, results, letters in endings if not results and not letters}
        )
        expect(time.monotonic() < deadline, f"neither a result nor a dead letter for: {open_ones}")
        gateway.expect_running()
        time.sleep(0.1)

    for poisoned, results, letters in endings:
        if poisoned.ends == "result":
            expect(results, f"{poisoned.name}: its request_id can be read, yet it has no result")
        if poisoned.ends == "dead letter":
            expect(letters and not results, f"{poisoned.name}: no dead letter, but {statuses(results)}")
        for result in results:
            expect(result.error_code in poisoned.codes, f"{poisoned.name}: {result.body}")
        for letter in letters:
            reasons = {
                key: value for key, value in letter.headers.items() if "reason" in key.lower() and value
            }
            expect(reasons, f"{poisoned.name}: a dead letter without its reason: {letter.headers}")
    for poisoned, results, letters in endings[: len(POISONS)]:
        say(f"{poisoned.name}: {statuses(results) or ''}{'dead letter' if letters else ''}")
    expect_equal(
        len(gateway.dead_letters.messages), sum(len(letters) for *_, letters in endings), "dead letters"
    )


def endings_of(gateway, poisoned):
    def is_its_own(message):
        return message.properties.correlation_id == poisoned.correlation_id

    results = [result for result in gateway.results.messages if result.terminal and is_its_own(result)]
    return results, [letter for letter in gateway.dead_letters.messages if is_its_own(letter)]


def secrets(options):
    """After a run with everything in it, no code and no full number can be found; every key has a TTL."""
    extra = {"RUST_LOG": options.rust_log} if options.rust_log else {}
    with Gateway(options, **extra) as gateway:
        gateway.start_workers()
        http = gateway.start("http")
        requests, expected = eventful_requests()
        publish_at_once(gateway, requests)
        publish_at_once(gateway, requests[:20])
        gateway.results.wait_for(expected + 20, gateway, 60)
        check_some_codes(gateway, Verifier(http.http_port))
        time.sleep(1)

        known = leaks.Known(gateway, requests)
        metrics = {p.name: get(p.ops_port, "/metrics")[1].decode() for p in gateway.processes}
        gateway.stop_all()
        found = leaks.in_messages(known, gateway.results.messages, "results")
        found += leaks.in_messages(known, gateway.dead_letters.messages, "dead letters")
        found += leaks.in_redis(known, gateway)
        for process in gateway.processes:
            found += leaks.in_log(known, process)
            found += leaks.in_text(known, metrics[process.name], f"the metrics of {process.name}")
        say(known.looked_at())
        for leak in found[:20]:
            say(f"LEAK {leak}")
        expect_equal(len(found), 0, "leaks")


def eventful_requests():
    """Requests that take every way there is, and how many results they end in."""
    numbers = mobile_numbers(330)
    good = [
        Request(next(numbers), user_name="Ana", client_ip="203.0.113.7", user_id=f"u-{i}") for i in range(20)
    ]
    good += [Request(next(numbers)) for _ in range(260)]
    own_code = [Request(next(numbers), code=f"{chance.randbelow(900_000) + 100_000}") for _ in range(20)]
    cooldown = [Request(request.to) for request in good[20:40]]
    refused = [
        Request("+576012345678"),
        Request("+14155550100"),
        Request("+5730012"),
        Request("not a number"),
    ]
    nameless = [
        Request(body=b'{"to": "somebody", "code": "%06d"}' % chance.randbelow(1_000_000)) for _ in range(5)
    ]
    requests = good + own_code + cooldown + refused
    return requests + nameless, len(requests)


def check_some_codes(gateway, verifier):
    codes = [(to, code) for to, codes in gateway.codes().items() for code in codes]
    for to, code in codes[:20]:
        verifier.verify(to, "000000" if code != "000000" else "111111")
        verifier.verify(to, code)
        verifier.verify(to, code)


SCENARIOS = {scenario.__name__: scenario for scenario in (bulk, memory, hammer, guess, poison, secrets, rollouts.rollout, scaler.scaler, failover.failover)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", required=True, type=lambda path: str(Path(path).resolve(strict=True)))
    parser.add_argument("--amqp-url", default=os.environ.get("OTPOST_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f"))
    parser.add_argument("--redis-url", default=os.environ.get("OTPOST_TEST_REDIS_URL", "redis://127.0.0.1:6379/0"))
    parser.add_argument("--messages", type=int, default=20_000, help="requests of the bulk scenario")
    parser.add_argument("--requests", type=int, default=10_000, help="requests of the failover scenario until the vendor returns")
    parser.add_argument("--slots", type=int, default=64, help="WORKER_CONCURRENCY of the failover scenario")
    parser.add_argument("--rate", type=int, default=100, help="requests a second of the failover scenario")
    parser.add_argument(
        "--rust-log", help="RUST_LOG of the secrets scenario; without it, the binary's default"
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    options = parser.parse_args()
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"unknown scenarios: {', '.join(sorted(unknown))}")

    failed = []
    for name in options.scenarios or SCENARIOS:
        print(f"{name}: {SCENARIOS[name].__doc__}", flush=True)
        try:
            SCENARIOS[name](options)
            print(f"{name}: held\n", flush=True)
        except Failure as failure:
            failed.append(name)
            print(f"{name}: FAILED: {failure}\n", flush=True)
        except Exception:
            # Not a promise broken but a client that could not go on: as loud, and the other scenarios still run.
            failed.append(name)
            print(f"{name}: FAILED:\n{traceback.format_exc()}", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
