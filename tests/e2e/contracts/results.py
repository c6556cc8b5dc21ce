"""A caller and reader that knows only docs/asyncapi.json, and checks every message against it with a general validator.

    results.py bind     declares the documented topology before the gateway, which refuses a different one
    results.py ask      publishes requests that fail, and waits for their results
    results.py check    reads all results and dead letters, and prints the violations
    results.py delete   deletes all exchanges and queues of the run
"""

import collections
import json
import os
import pathlib
import sys
import time
import uuid

import jsonschema
import pika

DOCS = pathlib.Path(__file__).parents[3] / "docs"
DOCUMENT = json.loads((DOCS / "asyncapi.json").read_text())
CHANNELS, MESSAGES = DOCUMENT["channels"], DOCUMENT["components"]["messages"]
PREFIX = os.environ["AMQP_PREFIX"]
QUEUE = f"{PREFIX}.contracts"
EXPECTED_KEYS = {"sms.sent", "email.sent", "sms.rejected", "sms.failed", "sms.delivered", "sms.undelivered", "dead"}


def named(value):
    """A documented value with the prefix of this run."""
    return json.loads(json.dumps(value).replace("{amqpPrefix}", PREFIX))


def faults(schema: dict, value) -> list[str]:
    if "$ref" in schema:
        schema = json.loads((DOCS / schema["$ref"]).read_text())
    # Readers skip unknown members, but the gateway must not send undocumented ones.
    schema = {**schema, "additionalProperties": False}
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    return [fault.message for fault in validator.iter_errors(value)]


def message_faults(name: str, properties, body: bytes) -> list[str]:
    message = MESSAGES[name]
    # RabbitMQ itself adds `x-delivery-count` on a quorum queue.
    fields = {**vars(properties), **(properties.headers or {}), "headers": None, "x-delivery-count": None}
    fields = {name: value for name, value in fields.items() if value is not None}
    found = []
    if (kind := fields.pop("content_type", None)) != message["contentType"]:
        found.append(f"its content type is {kind}")
    if (mode := fields.pop("delivery_mode", None)) != 2:
        found.append(f"its delivery mode is {mode}")
    return found + faults(message["headers"], fields) + faults(message["payload"], json.loads(body))


def bind(channel) -> None:
    for at in named(list(CHANNELS.values())):
        amqp = at.get("bindings", {}).get("amqp", {})
        if exchange := amqp.get("exchange"):
            flags = {"durable": exchange["durable"], "auto_delete": exchange["autoDelete"]}
            channel.exchange_declare(exchange["name"], exchange["type"], **flags)
        if queue := amqp.get("queue"):
            flags = {"durable": queue["durable"], "exclusive": queue["exclusive"], "auto_delete": queue["autoDelete"]}
            channel.queue_declare(queue.get("name", QUEUE), arguments=at.get("x-arguments"), **flags)
    # The first binding of a reader's queue is for all messages.
    everything = named(CHANNELS["resultsQueue"]["x-bindings"][0])
    channel.queue_bind(QUEUE, everything["exchange"], everything["routingKey"])


def ask(channel) -> None:
    """The outcomes of the numbers are in docs/simulation.md."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    for binding in named(CHANNELS["resultsQueue"]["x-bindings"]):
        if binding["routingKey"].startswith("sms"):
            channel.queue_bind(queue, binding["exchange"], binding["routingKey"])
    address, exchange = CHANNELS["sendSms"]["address"], named(CHANNELS["sendSms"]["bindings"]["amqp"]["exchange"]["name"])
    documented = next(example for example in MESSAGES["request"]["examples"] if example["name"] == "full")["headers"]
    headers = {"traceparent": documented["traceparent"]}
    properties = pika.BasicProperties(correlation_id=documented["correlation_id"], headers=headers, timestamp=int(time.time()))
    requests = [{"request_id": str(uuid.uuid4()), "to": to} for to in ("no number", "+573005551614", "+573005553003")]
    channel.confirm_delivery()
    for request in [{"to": "+573001234567", "code": "482913"}, *requests]:
        channel.basic_publish(exchange, address, json.dumps(request).encode(), properties, mandatory=True)
    awaited = {"sms.rejected", "sms.failed", "sms.undelivered"}
    for method, _, _ in channel.consume(queue, auto_ack=True, inactivity_timeout=30):
        if method is None:
            sys.exit(f"failed: no result for {awaited}")
        awaited.discard(method.routing_key)
        if not awaited:
            break
    channel.cancel()


def check(channel) -> int:
    seen, broken = collections.Counter(), 0
    for queue in (QUEUE, named(CHANNELS["deadLetters"]["address"])):
        while True:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                break
            message, key = json.loads(body), method.routing_key
            later = message.get("status") in ("delivered", "undelivered")
            fact = "verified" if message.get("status") == "verified" else "laterFact" if later else "result"
            kind = "deadLetter" if queue != QUEUE else fact
            found = message_faults(kind, properties, body)
            if queue == QUEUE and properties.message_id != f"{message.get('request_id')}:{message.get('status')}":
                found.append(f"its message_id is {properties.message_id}")
            if queue == QUEUE and key != f"{message.get('channel')}.{message.get('status')}":
                found.append(f"its routing key is {key}")
            seen[key] += 1
            if found:
                broken += 1
                print(f"{key} {body.decode()} {properties}: {found}")
    print(f"messages: {sum(seen.values())} read, {broken} broken: {dict(seen)}")
    if missing := EXPECTED_KEYS - set(seen):
        print(f"no message with {missing}")
    return 1 if broken or missing else 0


def delete(channel) -> None:
    for queue in (QUEUE, *(f"{PREFIX}.{name}" for name in ("send-sms", "send-sms-delayed", "send-email", "dead-letters", "audit"))):
        channel.queue_delete(queue)
    for name in ("requests", "results", "dead"):
        channel.exchange_delete(f"{PREFIX}.{name}")


if __name__ == "__main__":
    with pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])) as connection:
        command = {"bind": bind, "ask": ask, "check": check, "delete": delete}[sys.argv[1]]
        sys.exit(command(connection.channel()))
