"""otpost with servers that can fail: a Redis of its own, a way to RabbitMQ that can be cut, and a fake Twilio.

Every name starts with a random prefix and is deleted at the end; only processes started here are stopped. The environment of
the processes holds nothing of the caller's.
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from amqp import Amqp, Refused
from fake_twilio import ACCOUNT, CALLBACK, TOKEN, FakeTwilio

ROOT = Path(__file__).resolve().parents[2]
AMQP_URL = os.environ.get("OTPOST_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
# Mobile ranges of Colombia in which every seven digits are a valid number.
RANGES = [*range(300, 306), *range(310, 324)]


class Failure(Exception):
    pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def missing(*programs):
    """A sentence about a program that is not installed."""
    return next((f"skipped, as {program} is not to be had here" for program in programs if not shutil.which(program)), None)


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return found


def numbers():
    """Distinct valid numbers."""
    start = secrets.randbelow(1000)
    for at in range(10**6):
        yield f"+57{RANGES[at % len(RANGES)]}{6_000_000 + start + at // len(RANGES) * 109}"


def key():
    return base64.b64encode(secrets.token_bytes(32)).decode()


class Way:
    """Passes bytes on to a server, until it is cut."""

    def __init__(self, host, port):
        self.target, self.open, self.listener = (host, port), set(), None
        self.port = free_port()
        self.mend()

    def mend(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def cut(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for one in list(self.open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self.target)
                self.open |= {client, server}
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self.copy, args=(one, other), daemon=True).start()

    def copy(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            self.open.discard(end)


class Process:
    def __init__(self, command, environment, log, folder):
        self.log = log
        with open(log, "ab") as output:
            self.child = subprocess.Popen(command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def stop(self, with_signal=signal.SIGTERM):
        if self.child.poll() is None:
            self.child.send_signal(with_signal)
            try:
                self.child.wait(40)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
                raise Failure(f"a process did not end within 40 s: {self.log}") from None


class Stage:
    """A context manager; leaving it stops and deletes everything."""

    def __init__(self, binary, amqp_url=AMQP_URL, **settings):
        self.binary, self.amqp_url, self.processes = str(binary), amqp_url, []
        self.prefix = f"otpost-incidents-{secrets.token_hex(4)}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.prefix}-"))
        self.twilio, self.redis, self.redis_port = FakeTwilio(), None, free_port()
        self.numbers, self.jwt_secret = numbers(), secrets.token_urlsafe(48)
        place = amqp_url.rpartition("@")[2].partition("/")[0].partition(":")
        self.way = Way(place[0], int(place[2] or 5672))
        self.settings = {
            "PATH": os.environ["PATH"],
            "ENVIRONMENT": "production",
            "AMQP_URL": amqp_url.replace("@" + "".join(place), f"@127.0.0.1:{self.way.port}"),
            "AMQP_PREFIX": self.prefix,
            "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}",
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "TWILIO_FROM_NUMBER": "+15005550006",
            "TWILIO_API_BASE_URL": f"http://127.0.0.1:{self.twilio.port}",
            "TWILIO_STATUS_CALLBACK_URL": CALLBACK,
            "SMS_BRAND": "MeStore",
            "SMS_MAX_PER_HOUR": "0",
            "EMAIL_OTP_ENABLED": "false",
            "OTP_SECRET_KEYS": f"k1:{key()}",
            "OTP_RECIPIENT_KEY": key(),
            "JWT_SECRET": self.jwt_secret,
            "JWT_AUDIENCE": "otpost",
            "LOG_FORMAT": "json",
            **settings,
        }

    def __enter__(self):
        try:
            self.start_redis()
            self.run("topology")
            self.amqp = Amqp(self.amqp_url)
            # Results need a queue; no program reads this one, so it keeps ten and then ends.
            self.amqp.declare(f"{self.prefix}.reader", {"x-max-length": 10, "x-expires": 1_800_000})
            self.amqp.bind(f"{self.prefix}.reader", f"{self.prefix}.results", "#")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, _error, _trace):
        for process in self.processes:
            process.child.kill()
            process.child.wait()
        if self.redis:
            self.redis.kill()
            self.redis.wait()
        with contextlib.suppress(OSError, Refused):
            broker = Amqp(self.amqp_url)
            for name in ("send-sms", "send-sms-delayed", "send-email", "dead-letters", "audit", "reader"):
                broker.delete_queue(f"{self.prefix}.{name}")
            for name in ("requests", "results", "dead"):
                broker.delete_exchange(f"{self.prefix}.{name}")
            broker.close()
        if kind is None:
            shutil.rmtree(self.folder)
        else:
            print(f"the logs are kept in {self.folder}")

    def start_redis(self):
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.redis_port), "--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.redis = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until(lambda: self.redis_cli("ping") == "PONG", 10, "Redis answers")

    def redis_cli(self, *arguments):
        done = subprocess.run(["redis-cli", "-p", str(self.redis_port), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def run(self, *arguments, **settings):
        """What a command prints, errors included."""
        done = subprocess.run(
            [self.binary, *arguments], env=self.settings | settings, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr

    def start(self, command, ops_port=None, ready=True, **settings):
        """A process that is ready."""
        ops_port, http_port = ops_port or free_port(), free_port()
        ports = {"OPS_ADDR": f"127.0.0.1:{ops_port}", "HTTP_ADDR": f"127.0.0.1:{http_port}"}
        log = self.folder / f"{command}-{ops_port}.log"
        process = Process([self.binary, command], self.settings | ports | settings, log, self.folder)
        process.ops_port, process.http_port = ops_port, http_port
        self.processes.append(process)
        if ready:
            wait_until(lambda: self.is_ready(process), 30, f"{command} is ready")
        return process

    def is_ready(self, process):
        if process.child.poll() is not None:
            raise Failure(f"a process ended: {process.log.read_text()[-2000:]}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get(process.ops_port, "/readyz")[0] == 200
        return False

    def get(self, port, path):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def post(self, port, path, body, scope):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token(scope)}"}
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def token(self, scope):
        def part(value):
            return base64.urlsafe_b64encode(value).rstrip(b"=")

        claims = {"sub": "incidents", "scope": scope, "aud": "otpost", "exp": int(time.time()) + 600}
        signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
        return (signed + b"." + part(hmac.new(self.jwt_secret.encode(), signed, hashlib.sha256).digest())).decode()

    def request(self, to=None, confirm=True, **fields):
        """Publishes a request; its id."""
        request_id = secrets.token_hex(8)
        body = {"request_id": request_id, "to": to or next(self.numbers), **fields}
        self.publish(json.dumps(body).encode(), request_id, confirm)
        return request_id

    def publish(self, body, message_id="", confirm=True):
        self.amqp.publish(f"{self.prefix}.requests", "send-sms", body, message_id)
        if confirm:
            self.amqp.confirm()
