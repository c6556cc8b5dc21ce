#!/usr/bin/env python3
"""Signed callbacks as Twilio's own library makes them: the vectors that the Rust tests read.

    pip install twilio
    python twilio_signature.py > ../it/golden/twilio-signatures.json

Each case is a call to a configured URL, signed by the library's `RequestValidator`; the same seed gives the same cases.
To try many more, write `--cases 2000 --seed 7` to that file for one run of `cargo test --lib signature`.
"""

import argparse
import json
import random
import sys
from urllib.parse import quote, quote_plus

from twilio.request_validator import RequestValidator, add_port, remove_port, urlparse

FORM = "application/x-www-form-urlencoded"
NAMES = "MessageSid SmsSid AccountSid MessageStatus To From ErrorCode Body a A a1 _ á ñandú Z z x-y".split()
PIECES = list("abcXYZ019 +&=%#?/:;,.'\"<>~*-_@!$()[]{}|\\^`") + ["ñ", "é", "€", "漢", "😀", "%2B", "\n", "\r\n", "\t"]


class Parameters:
    """A form with repeated names, in the shape that the library asks of a web framework."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __iter__(self):
        return (name for name, _ in self.pairs)

    def __len__(self):
        return len(self.pairs)

    def getlist(self, name):
        return [value for key, value in self.pairs if key == name]


def text(chance, longest):
    return "".join(chance.choice(PIECES) for _ in range(chance.randint(0, longest)))


def public_url(chance):
    scheme = chance.choice(["https", "http"])
    port = chance.choice(["", "", ":443", ":80", ":8443"])
    path = chance.choice(["/", "/webhooks/twilio/status", "/a%20b/c"])
    return f"{scheme}://otp.example.co{port}{path}"


def query(chance):
    pairs = [("r", text(chance, 12)), ("a", str(chance.randint(1, 3)))]
    return chance.choice([None, "foo=1&bar=2"] + 5 * ["&".join(f"{k}={quote(v, safe='')}" for k, v in pairs)])


def pairs(chance):
    chosen = [(chance.choice(NAMES), text(chance, 10)) for _ in range(chance.randint(0, 9))]
    repeated = [chance.choice(chosen) for _ in range(chance.randint(0, 2)) if chosen]
    return chosen + repeated


def encoded(chance, chosen):
    quoting = chance.choice([quote_plus, lambda value: quote(value, safe="")])
    return "&".join(f"{quoting(name)}={quoting(value)}" for name, value in chosen)


def signed_url(chance, url):
    """Twilio's back end keeps, drops or adds the port."""
    parsed = urlparse(url)
    return chance.choice([url, add_port(parsed), remove_port(parsed)])


def case(chance):
    token, url, asked = text(chance, 20) + "t", public_url(chance), query(chance)
    validator = RequestValidator(token)
    if chance.random() < 0.25:
        kind = chance.choice(["application/json", "application/json; charset=utf-8", "application/cloudevents+json"])
        body = json.dumps({name: value for name, value in pairs(chance)}, ensure_ascii=chance.random() < 0.5)
        asked = f"{asked}&" if asked else ""
        asked += f"bodySHA256={validator.compute_hash(body)}"
        parameters = body
    else:
        kind = chance.choice([FORM, FORM + "; charset=UTF-8"])
        chosen = pairs(chance)
        body, parameters = encoded(chance, chosen), Parameters(chosen)
    full = url if asked is None else f"{url}?{asked}"
    signed = signed_url(chance, full)
    signature = validator.compute_signature(signed, {} if isinstance(parameters, str) else parameters)
    if not validator.validate(full, parameters, signature):
        sys.exit(f"the library does not take its own signature of {full}")
    return {
        "token": token,
        "public_url": url,
        "query": asked,
        "content_type": kind,
        "body": body,
        "signature": signature,
    }


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--cases", type=int, default=40)
    options.add_argument("--seed", type=int, default=1)
    options = options.parse_args()
    chance = random.Random(options.seed)
    cases = [case(chance) for _ in range(options.cases)]
    print(json.dumps(cases, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
