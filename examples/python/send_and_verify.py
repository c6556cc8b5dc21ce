"""Requests a code over RabbitMQ, and verifies the typed code over HTTP.

    python send_and_verify.py YOUR_NUMBER
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timezone
from http.client import HTTPException

import pika
from pika.exceptions import AMQPConnectionError, AMQPError, ChannelClosedByBroker, UnroutableError

AMQP_URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
AMQP_PREFIX = os.environ.get("AMQP_PREFIX", "otpost")
OTPOST_URL = os.environ.get("OTPOST_URL", "http://127.0.0.1:8080").rstrip("/")
OTPOST_TOKEN = os.environ.get("OTPOST_TOKEN")
REPLY_TO = "amq.rabbitmq.reply-to"  # no queue to declare: replies come to this channel
ANSWER_WITHIN = 120  # seconds; an attempt in doubt is reconciled before it is answered
REPEAT = "the same request_id may be published again, and sends nothing twice"


def connect() -> pika.BlockingConnection:
    try:
        broker = pika.URLParameters(AMQP_URL)
        return pika.BlockingConnection(broker)
    except (ValueError, IndexError):
        raise ConnectionError("AMQP_URL is not a RabbitMQ URL") from None
    except (AMQPConnectionError, OSError):
        at = f"{broker.host}:{broker.port}"  # not the whole URL: it holds a password
        raise ConnectionError(f"RabbitMQ at {at} cannot be reached, or refuses the login: set AMQP_URL") from None


def ask_for_code(to: str, **fields) -> dict | None:
    """Publishes one request and waits for its result; None if none came in time."""
    request_id = str(uuid.uuid4())  # one per send: a repeated publish keeps it
    request = {"request_id": request_id, "to": to, "requested_at": datetime.now(timezone.utc).isoformat(), **fields}
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent,
        correlation_id=request_id,
        reply_to=REPLY_TO,
    )
    results = []

    def on_result(_channel, _method, reply, body):
        if reply.correlation_id == request_id:
            results.append(json.loads(body))

    with connect() as broker:
        channel = broker.channel()
        channel.confirm_delivery()  # from here on, publishing raises unless the broker has the message
        channel.basic_consume(REPLY_TO, on_result, auto_ack=True)
        try:
            channel.basic_publish(f"{AMQP_PREFIX}.requests", "send-sms", json.dumps(request), properties, mandatory=True)
        except (ChannelClosedByBroker, UnroutableError):
            raise ConnectionError(f"no queue takes requests: does otpost run with AMQP_PREFIX={AMQP_PREFIX}?") from None
        broker.call_later(5, lambda: print("still waiting…", flush=True))
        deadline = time.monotonic() + ANSWER_WITHIN
        while not results and time.monotonic() < deadline:
            broker.process_data_events(time_limit=1)
    return results[0] if results else None


def what_to_do(error: dict) -> str:
    """The next step of a caller after `rejected` or `failed`."""
    match error["code"]:
        case "invalid_request":
            return "fix this program"
        case "invalid_recipient" | "landline":
            return "let the person give another number"
        case "rate_limited" | "cooldown" | "blocked":
            return f"wait {error['retry_after']} s, then ask again with a new request_id"
        case "expired" | "provider_unavailable":
            return "ask again with a new request_id, if the person still waits"
        case "provider_misconfigured" | "internal":
            return "report it to the operator of otpost"
        case _:
            return "offer the person another way, and do not repeat it"


def check(to: str, code: str) -> dict:
    """The verdict on a code: `verified`, or a problem with its `status` and `code`."""
    request = urllib.request.Request(
        f"{OTPOST_URL}/api/v1/otp/verify",
        json.dumps({"to": to, "otp_code": code}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {OTPOST_TOKEN}"},
    )
    try:
        try:
            answer = urllib.request.urlopen(request, timeout=15)
        except urllib.error.HTTPError as problem:
            answer = problem
        with answer:
            verdict = json.load(answer)
        if verdict.get("verified") or {"status", "code"} <= verdict.keys():
            return verdict
    except (OSError, HTTPException, ValueError, AttributeError):
        pass
    # No otpost answered: the verdict is unknown.
    return {"status": 503, "code": f"no answer of otpost at {OTPOST_URL}"}


def what_next(verdict: dict) -> tuple[bool, str]:
    """The next step after a problem: may the person type again, and the text to show."""
    left, wait = verdict.get("attempts_remaining"), verdict.get("retry_after")
    match verdict["status"], verdict["code"]:
        case 503, _:
            return True, "try again with the same code"
        case 401 | 403, _:
            return False, "fix the token, OTPOST_TOKEN"
        case _, "invalid_request":
            return True, "type it again"  # it was not a code; no attempt was counted
        case _, "wrong_code" if left:
            return True, f"attempts left: {left}"
        case _, "too_many_attempts" if wait:
            return False, f"wait {wait} s, then ask for a new code"
        case _, "wrong_code" | "too_many_attempts" | "no_pending_code" | "code_used" | "code_expired":
            return False, "ask for a new code"
        case _:
            return False, "report it to the operator of otpost"


def verify(to: str) -> bool:
    """Reads codes until one is right or no other can be."""
    again = True
    while again:
        verdict = check(to, "".join(input("Code: ").split()))  # people type `123 456`
        if verdict.get("verified"):
            print(f"verified: {verdict['to']}")
            return True
        again, then = what_next(verdict)
        print(f"{verdict['code']}: {then}")
        if verdict["status"] == 503:
            time.sleep(verdict.get("retry_after", 2))
    return False


def main(to: str) -> bool:
    match ask_for_code(to):
        case None:
            print(f"no result yet: {REPEAT}")
            return False
        case {"status": "sent", **result}:
            print(f"sent to {result['to']}: valid until {result['expires_at']}")
        case {"status": "unknown"}:
            print("unknown: it may have been sent. Type the code if it comes, else ask again after the cooldown")
        case {"status": status, "error": error}:
            print(f"{status}, {error['code']}: {what_to_do(error)}")
            return False
    return verify(to)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python send_and_verify.py NUMBER")
    if not OTPOST_TOKEN:
        sys.exit("OTPOST_TOKEN is not set: it must be a token whose scope holds otp:verify")
    try:
        sys.exit(0 if main(sys.argv[1]) else 1)
    except ConnectionError as trouble:
        sys.exit(str(trouble))
    except AMQPError:
        sys.exit(f"RabbitMQ ended the connection, or did not accept the request: {REPEAT}")
    except (EOFError, KeyboardInterrupt):
        sys.exit("no code was typed")
