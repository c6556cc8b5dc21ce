"""Asks otpost for a code over RabbitMQ, and checks over HTTP what the person types.

    python send_and_verify.py +573001234567
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timezone

import pika

AMQP_URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
REQUESTS = os.environ.get("AMQP_PREFIX", "otpost") + ".requests"
VERIFY_URL = os.environ.get("OTPOST_URL", "http://127.0.0.1:8080") + "/api/v1/otp/verify"
REPLY_TO = "amq.rabbitmq.reply-to"  # no queue to declare: replies come to this very channel
ANSWER_WITHIN = 120  # seconds; a send in doubt is looked into before it is answered


def ask_for_code(to: str) -> dict | None:
    """Publishes one request and waits for its result; None if none came in time."""
    request_id = str(uuid.uuid4())  # one a send: a retry of publishing keeps it
    request = {"request_id": request_id, "to": to, "requested_at": datetime.now(timezone.utc).isoformat()}
    results = []

    def on_result(_channel, _method, properties, body):
        if properties.correlation_id == request_id:
            results.append(json.loads(body))

    connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
    try:
        channel = connection.channel()
        channel.confirm_delivery()  # from here on, publishing raises unless the broker has the message
        channel.basic_consume(REPLY_TO, on_result, auto_ack=True)
        channel.basic_publish(
            REQUESTS,
            "send-sms",
            json.dumps(request),
            pika.BasicProperties(
                content_type="application/json",
                delivery_mode=pika.DeliveryMode.Persistent,
                correlation_id=request_id,
                reply_to=REPLY_TO,
            ),
            mandatory=True,
        )
        deadline = time.monotonic() + ANSWER_WITHIN
        while not results and time.monotonic() < deadline:
            connection.process_data_events(time_limit=1)
    finally:
        connection.close()
    return results[0] if results else None


def what_to_do(error: dict) -> str:
    """What a caller does about a request that was rejected or has failed."""
    match error["code"]:
        case "invalid_request":
            return "mend this program"
        case "invalid_recipient" | "landline":
            return "let the person give another number"
        case "rate_limited" | "cooldown" | "blocked":
            return f"wait {error['retry_after']} s, then ask again with a new request_id"
        case "expired" | "provider_unavailable":
            return "ask again with a new request_id, if the person still waits"
        case "provider_misconfigured" | "internal":
            return "tell who runs otpost"
        case _:
            return "offer the person another way, and do not repeat it"


def check(to: str, code: str) -> dict:
    """The verdict on a code: `verified`, or a problem with its `code`."""
    request = urllib.request.Request(
        VERIFY_URL,
        json.dumps({"to": to, "otp_code": code}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['OTPOST_TOKEN']}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=15) as response:
            return json.load(response)
    except urllib.error.HTTPError as problem:
        return json.load(problem)


def verify(to: str) -> bool:
    """Lets the person type until the code is right, or of no more use."""
    while code := input("Code: ").strip():
        verdict = check(to, code)
        if verdict.get("verified"):
            print(f"verified: {verdict['to']}")
            return True
        left = verdict.get("attempts_remaining")
        print(f"{verdict['code']}: {verdict['detail']}" + (f", {left} tries left" if left else ""))
        if verdict["status"] == 503:  # nothing was decided: the same code may be typed again
            time.sleep(verdict.get("retry_after", 2))
        elif not left:
            print("ask for a new code")
            return False
    return False


def main(to: str) -> bool:
    match ask_for_code(to):
        case None:
            print("no result yet: the same request_id may be published again, and sends nothing twice")
            return False
        case {"status": "sent", **result}:
            print(f"sent to {result['to']}: good until {result['expires_at']}")
        case {"status": "unknown"}:
            print("unknown: it may have been sent. Type the code if it comes, else ask again after the cooldown")
        case {"status": status, "error": error}:
            print(f"{status}, {error['code']}: {what_to_do(error)}")
            return False
    return verify(to)


if __name__ == "__main__":
    try:
        sys.exit(0 if main(sys.argv[1]) else 1)
    except EOFError:
        sys.exit("nobody typed a code")
