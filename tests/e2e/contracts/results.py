"""Reads every result of a run and holds it against docs/schemas with a general validator.

    results.py bind     makes the queue, before anything is asked
    results.py check    reads it to its end, and says what it found
    results.py delete   deletes all exchanges and queues of the run
"""

import collections
import json
import os
import pathlib
import sys

import jsonschema
import pika

ROOT = pathlib.Path(__file__).parents[3]
PREFIX = os.environ["AMQP_PREFIX"]
QUEUE = f"{PREFIX}.contracts"


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / "docs" / "schemas" / name).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def bind(channel) -> None:
    channel.exchange_declare(f"{PREFIX}.results", "topic", durable=True)
    channel.queue_declare(QUEUE, durable=True)
    channel.queue_bind(QUEUE, f"{PREFIX}.results", "#")


def check(channel) -> int:
    result, fact = validator("send-result.json"), validator("delivery-event.json")
    seen, broken = collections.Counter(), 0
    while True:
        method, properties, body = channel.basic_get(QUEUE, auto_ack=True)
        if method is None:
            break
        told = json.loads(body)
        later = told.get("status") in ("delivered", "undelivered")
        faults = [fault.message for fault in (fact if later else result).iter_errors(told)]
        if properties.message_id != f"{told.get('request_id')}:{told.get('status')}":
            faults.append(f"its message_id is {properties.message_id}")
        if method.routing_key != f"{told.get('channel')}.{told.get('status')}":
            faults.append(f"its routing key is {method.routing_key}")
        seen[method.routing_key] += 1
        if faults:
            broken += 1
            print(f"{method.routing_key} {body.decode()}: {faults}")
    print(f"results: {sum(seen.values())} read, {broken} broken: {dict(seen)}")
    return 1 if broken or not seen["sms.sent"] or not seen["email.sent"] else 0


def delete(channel) -> None:
    for queue in (QUEUE, *(f"{PREFIX}.{name}" for name in ("send-sms", "send-email", "dead-letters"))):
        channel.queue_delete(queue)
    for name in ("requests", "results", "dead"):
        channel.exchange_delete(f"{PREFIX}.{name}")


if __name__ == "__main__":
    with pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])) as connection:
        command = {"bind": bind, "check": check, "delete": delete}[sys.argv[1]]
        sys.exit(command(connection.channel()))
