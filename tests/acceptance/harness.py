"""What the scenarios share: a gateway of its own for each, and foreign clients of it.

Every name a gateway uses starts with a random prefix, and is deleted at the end; only processes started here are
stopped; every wait ends. Nothing here knows more of otpost than its published contract.
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pika
import redis

AUDIENCE = "otpost"
JWT_SECRET = "tztSCVvKmC4IxdO1oJhxRuk9ZOr2xOPzUYbDuLvN"
# Mobile ranges of Colombia in which every seven digits are a valid number.
MOBILE_RANGES = [*range(300, 306), *range(310, 324)]
TERMINAL = {"sent", "rejected", "failed", "unknown"}


class Failure(AssertionError):
    """The gateway broke a promise."""


def expect(truth, message):
    if not truth:
        raise Failure(message)


def expect_equal(seen, wanted, what):
    expect(seen == wanted, f"{what}: wanted {wanted}, saw {seen}")


def say(text):
    print(f"  {text}", flush=True)


def mobile_numbers(count):
    """Distinct valid numbers, clear of the ones that script the simulation's outcomes."""
    start = secrets.randbelow(1000)
    for index in range(count):
        mobile_range = MOBILE_RANGES[index % len(MOBILE_RANGES)]
        yield f"+57{mobile_range}{6_000_000 + start + index // len(MOBILE_RANGES) * 1009}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(0.02)


def json_or_none(body):
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


class Process:
    def __init__(self, command, env, log, cwd):
        self.name = log.stem
        self.log = log
        with open(log, "wb") as output:
            self.popen = subprocess.Popen(
                command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def tail(self):
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-15:])

    def expect_running(self):
        status = self.popen.poll()
        expect(status is None, f"{self.name} ended with {status}; the end of its log:\n{self.tail()}")

    def resident_mib(self, field="VmRSS"):
        """The process's resident memory now; with VmHWM, the most there ever was."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text("utf-8")
        return int(re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)[1]) / 1024

    def stop(self):
        """SIGTERM, as an orchestrator does it; SIGKILL only for one that does not heed it, which is a failure."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            status = self.popen.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} did not end within 40 s of SIGTERM:\n{self.tail()}") from None
        expect_equal(status, 0, f"exit status of {self.name} after SIGTERM")

    def kill(self):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()


class Gateway:
    """Fake Twilio, topology and processes under one prefix. A context manager: leaving it cleans up."""

    def __init__(self, options, twilio_options=(), **settings):
        self.options = options
        self.twilio_options = twilio_options
        self.prefix = f"otpost-acceptance-{secrets.token_hex(4)}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.prefix}-"))
        self.record = self.folder / "twilio.jsonl"
        self.settings = settings
        self.processes = []
        self.twilio = None
        self.twilio_port = None
        self.results = None
        self.dead_letters = None
        self.redis = redis.Redis.from_url(options.redis_url, socket_timeout=20)

    def __enter__(self):
        try:
            self.start_twilio()
            self.run("topology")
            self.results = Subscriber(self.options.amqp_url, exchange=self.name("results"))
            self.dead_letters = Subscriber(self.options.amqp_url, queue=self.name("dead-letters"))
        except BaseException:
            self.clean_up()
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self.stop_all()
        except Failure as failure:
            kind = failure
            raise
        finally:
            self.clean_up()
            if kind is None:
                shutil.rmtree(self.folder)
            else:
                print(f"  the logs are kept in {self.folder}", file=sys.stderr)

    def name(self, name):
        return f"{self.prefix}.{name}"

    def start_twilio(self):
        script = Path(__file__).with_name("fake_twilio.py")
        self.record.touch()
        self.twilio = subprocess.Popen(
            [sys.executable, script, self.record, *self.twilio_options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.twilio_port = int(self.twilio.stdout.readline())

    def environment(self, ops_port, http_port):
        """The whole of it: nothing of the caller's own environment changes what is tested."""

        def key(label):
            return base64.b64encode(hashlib.sha256(f"{self.prefix} {label}".encode()).digest()).decode()

        return {
            "ENVIRONMENT": "production",
            "AMQP_URL": self.options.amqp_url,
            "AMQP_PREFIX": self.prefix,
            "REDIS_URL": self.options.redis_url,
            "REDIS_PREFIX": self.prefix,
            "TWILIO_ACCOUNT_SID": "AC0123456789abcdef0123456789abcdef",
            "TWILIO_AUTH_TOKEN": "e2a7076108fc0dd2b397274c07b3ee31",
            "TWILIO_FROM_NUMBER": "+15005550006",
            "TWILIO_API_BASE_URL": f"http://127.0.0.1:{self.twilio_port}",
            "SMS_BRAND": "MeStore",
            "OTP_SECRET_KEYS": f"k1:{key('codes')}",
            "OTP_RECIPIENT_KEY": key("recipients"),
            "OTP_CALLER_CODES": "allow",
            "JWT_SECRET": JWT_SECRET,
            "JWT_AUDIENCE": AUDIENCE,
            "EMAIL_OTP_ENABLED": "false",
            "SMS_MAX_PER_HOUR": "0",
            "WORKER_CONCURRENCY": "64",
            "OPS_ADDR": f"127.0.0.1:{ops_port}",
            "HTTP_ADDR": f"127.0.0.1:{http_port}",
            "LOG_FORMAT": "json",
            **self.settings,
        }

    def run(self, *arguments):
        """A command that ends by itself, and its output."""
        env = self.environment(free_port(), free_port())
        command = [self.options.binary, *arguments]
        done = subprocess.run(
            command,
            env=env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
        expect(
            done.returncode == 0,
            f"otpost {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}",
        )
        return done.stdout

    def start(self, command):
        ops_port, http_port = free_port(), free_port()
        log = self.folder / f"{command}-{len(self.processes)}.log"
        env = self.environment(ops_port, http_port)
        process = Process([self.options.binary, command], env, log, self.folder)
        process.ops_port, process.http_port = ops_port, http_port
        self.processes.append(process)

        def ready():
            process.expect_running()
            with contextlib.suppress(OSError, http.client.HTTPException):
                return get(ops_port, "/readyz")[0] == 200
            return False

        wait_until(ready, 30, f"/readyz of {process.name}")
        return process

    def start_workers(self, count=3):
        return [self.start("worker") for _ in range(count)]

    def posts(self):
        """Everything the fake Twilio accepted so far."""
        return [json.loads(line) for line in self.record.read_text("utf-8").splitlines()]

    def codes(self):
        """Each number's codes, read from its texts as a person would."""
        codes = {}
        for post in self.posts():
            found = re.findall(r"(?<!\d)\d{6}(?!\d)", post["Body"])
            expect_equal(len(found), 1, f"codes that can be read from the text to {post['To'][:6]}…")
            codes.setdefault(post["To"], set()).add(found[0])
        return codes

    def publish(self, requests, pace=0.0):
        return publish(self.options.amqp_url, self.name("requests"), requests, pace)

    def expect_running(self):
        for process in self.processes:
            process.expect_running()

    def stop_all(self):
        for process in self.processes:
            process.stop()

    def retire(self, process):
        """Stops one for good; the seconds that it took."""
        began = time.monotonic()
        self.processes.remove(process)
        process.stop()
        return time.monotonic() - began

    def clean_up(self):
        for process in self.processes:
            process.kill()
        if self.twilio:
            self.twilio.stdin.close()
            self.twilio.wait(10)
        for subscriber in (self.results, self.dead_letters):
            if subscriber:
                subscriber.stop()
        connection = pika.BlockingConnection(parameters(self.options.amqp_url))
        channel = connection.channel()
        for queue in ("send-sms", "send-sms-delayed", "send-email", "dead-letters", "audit"):
            channel.queue_delete(self.name(queue))
        for exchange in ("requests", "results", "dead"):
            channel.exchange_delete(self.name(exchange))
        connection.close()
        keys = list(self.redis.scan_iter(match=f"*{self.prefix}*", count=1000))
        for start in range(0, len(keys), 1000):
            self.redis.unlink(*keys[start : start + 1000])
        self.redis.close()


def parameters(amqp_url):
    chosen = pika.URLParameters(amqp_url)
    chosen.socket_timeout = 10
    chosen.blocked_connection_timeout = 30
    return chosen


class Request:
    """One message to publish; `body` may be anything, to try what a careless service would send."""

    def __init__(self, to=None, request_id=None, body=None, correlation_id=None, **fields):
        self.to = to
        self.request_id = request_id or f"acc-{secrets.token_hex(8)}"
        if body is None:
            body = json.dumps({"request_id": self.request_id, "to": to, **fields}).encode()
        self.body = body
        self.correlation_id = correlation_id or f"corr-{secrets.token_hex(6)}"
        self.published_at = None


def publish(amqp_url, exchange, requests, pace):
    """Persistent, mandatory, confirmed; `pace` seconds apart. Raises if the broker does not take one."""
    connection = pika.BlockingConnection(parameters(amqp_url))
    channel = connection.channel()
    channel.confirm_delivery()
    for request in requests:
        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=2,
            timestamp=int(time.time()),
            correlation_id=request.correlation_id,
        )
        request.published_at = time.time()
        channel.basic_publish(exchange, "send-sms", request.body, properties, mandatory=True)
        if pace:
            time.sleep(pace)
    connection.close()


def publish_at_once(gateway, requests, connections=4):
    """The same over several connections, which is faster and closer to several services."""
    with ThreadPoolExecutor(connections) as pool:
        shares = [requests[start::connections] for start in range(connections)]
        list(pool.map(gateway.publish, shares))


class Message:
    def __init__(self, method, properties, body):
        self.key = method.routing_key
        self.properties = properties
        self.headers = properties.headers or {}
        self.raw = body
        self.body = json_or_none(body)
        self.at = time.time()

    def field(self, name):
        return self.body.get(name) if isinstance(self.body, dict) else None

    @property
    def terminal(self):
        return self.field("status") in TERMINAL

    @property
    def error_code(self):
        return (self.field("error") or {}).get("code")

    def everything(self):
        return f"{self.key} {self.properties} {self.raw.decode('utf-8', 'replace')}"


class Subscriber:
    """Collects what a results exchange or a queue gives, in a thread, until stopped."""

    def __init__(self, amqp_url, exchange=None, queue=None):
        self.messages = []
        self.connection = pika.BlockingConnection(parameters(amqp_url))
        channel = self.connection.channel()
        if exchange:
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queue, exchange, "#")
        channel.basic_consume(queue, self.on_message, auto_ack=True)
        self.channel = channel
        self.thread = threading.Thread(target=self.consume, daemon=True)
        self.thread.start()

    def on_message(self, _channel, method, properties, body):
        self.messages.append(Message(method, properties, body))

    def consume(self):
        with contextlib.suppress(pika.exceptions.AMQPError):
            self.channel.start_consuming()

    def stop(self):
        with contextlib.suppress(pika.exceptions.AMQPError):
            self.connection.add_callback_threadsafe(self.channel.stop_consuming)
            self.thread.join(10)
            self.connection.close()

    def terminal(self, since=0):
        return [message for message in self.messages[since:] if message.terminal]

    def wait_for(self, count, gateway, seconds, since=0, settle=2.0):
        """The terminal results from number `since` on: `count` of them, and no more when some time has passed."""
        deadline = time.monotonic() + seconds
        while len(self.messages) - since < count or len(self.terminal(since)) < count:
            gateway.expect_running()
            seen = len(self.messages) - since
            expect(time.monotonic() < deadline, f"{seen} of {count} results within {seconds} s")
            time.sleep(0.05)
        time.sleep(settle)
        results = self.terminal(since)
        expect_equal(len(results), count, "results")
        return results


def statuses(results):
    """How often each status, with the error's code, was seen."""
    return dict(Counter(" ".join(filter(None, [r.field("status"), r.error_code])) for r in results))


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def token(scope="otp:verify"):
    """An HS256 JWT made by hand: the gateway must understand what any other library makes."""

    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    claims = {"sub": "acceptance", "scope": scope, "aud": AUDIENCE, "exp": int(time.time()) + 600}
    signed = (
        part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()) + b"." + part(json.dumps(claims).encode())
    )
    return (signed + b"." + part(hmac.new(JWT_SECRET.encode(), signed, hashlib.sha256).digest())).decode()


class Verifier:
    """A back end that checks codes, on one connection a thread."""

    def __init__(self, port):
        self.port = port
        self.token = token()
        self.local = threading.local()

    def verify(self, to, code):
        """The answer's status and its JSON."""
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        body = json.dumps({"to": to, "otp_code": code})
        self.local.connection.request("POST", "/api/v1/otp/verify", body, headers)
        answer = self.local.connection.getresponse()
        return answer.status, json_or_none(answer.read()) or {}

    def verify_at_once(self, to, codes):
        """All of them started together, each on a connection of its own."""
        start = threading.Barrier(len(codes))

        def guess(code):
            start.wait(60)
            return self.verify(to, code)

        with ThreadPoolExecutor(len(codes)) as pool:
            return list(pool.map(guess, codes))


def verdicts(answers):
    """How often each status, with the problem's code, was answered."""
    return dict(Counter(f"{status} {body.get('code') or body.get('verified')}" for status, body in answers))
